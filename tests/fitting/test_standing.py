"""Bodies posed by hand: knees bent by a known angle over feet that rest, seen by a camera at a known side."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_person import BODY, CAMERA

from hmrkit.body.posing import posed_skeleton
from hmrkit.camera import project
from hmrkit.errors import ModelMismatchError
from hmrkit.fitting.standing import standing_knees, straighten_stands
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.skeletons import SMPL_24
from hmrkit.types import BodyParams

LEGS = {"hip": -0.5, "knee": 1.0, "ankle": -0.5}  # shares of the knee's bend: the trunk stays upright, feet flat
ANKLES = list(SMPL_24.indices("left_ankle", "right_ankle"))
TIMES = np.arange(40) / 10


def crouching(bend_deg, yaw=0.0, speed=0.0):
    """A body (T) with knees bent by `bend_deg` (T,) and its feet at one place, or moving at `speed` m/s."""
    bend = np.radians(np.broadcast_to(bend_deg, TIMES.shape)).astype(np.float32)
    pose = np.zeros((len(bend), 24, 3), np.float32)
    for joint, share in LEGS.items():
        for side in ("left", "right"):
            pose[:, SMPL_24.index[f"{side}_{joint}"], 0] = share * bend
    rotations = axis_angle_to_matrix(torch.from_numpy(pose)).numpy()
    upright = torch.tensor([[np.pi, 0.0, 0.0], [0.0, yaw, 0.0]]).float()
    rotations[:, 0] = (axis_angle_to_matrix(upright)[0] @ axis_angle_to_matrix(upright)[1]).numpy()
    params = BodyParams(
        rotations[:, 0], rotations[:, 1:], np.zeros(10, np.float32), np.zeros((len(bend), 3), np.float32),
        BODY.gender, BODY.model_id,
    )  # fmt: skip
    feet = posed_skeleton(BODY, params).joints[:, ANKLES].mean(1).numpy()
    place = np.array([0.0, 0.9, 4.0]) + speed * TIMES[:, None] * np.array([1.0, 0, 0])
    return replace(params, transl_c=(place - feet).astype(np.float32))


def bends(params):
    """Knee flexion (T,2) beyond the T-pose, degrees."""
    knees = [SMPL_24.index[n] - 1 for n in ("left_knee", "right_knee")]
    return np.degrees(matrix_to_axis_angle(torch.from_numpy(params.body_pose[:, knees]))[..., 0].numpy())


def straightened(params, times=TIMES):
    return straighten_stands(params, times, CAMERA, BODY)


def test_who_rests_on_both_feet_gets_nearly_straight_knees_and_the_same_image():
    before = crouching(14.0)
    after = straightened(before)
    assert np.allclose(bends(before), 14, atol=0.01)
    assert (abs(bends(after)) < 5).all()
    posed = [posed_skeleton(BODY, p) for p in (before, after)]
    joints = [p.joints.numpy() for p in posed]
    pixels = [project(CAMERA, j) for j in joints]
    height = np.ptp(pixels[0][..., 1], axis=1).mean()
    assert np.linalg.norm(pixels[0] - pixels[1], axis=-1).mean() < 0.004 * height
    legs = SMPL_24.indices("left_hip", "right_hip", "left_knee", "right_knee")
    others = [j for j in range(24) if j not in legs]
    moved = posed[0].joint_rotations[:, others] - posed[1].joint_rotations[:, others]
    assert abs(moved).max() < 1e-5  # feet, too, are rotated as they were
    assert np.linalg.norm(np.diff(joints[1][:, ANKLES], axis=0), axis=-1).max() < 1e-4  # and do not slide


def test_squats_stay_as_deep_and_stand_straight_on_top():
    depth = 110 * np.clip(np.sin(TIMES * np.pi / 2), 0, 1) ** 2 + 10
    before = crouching(depth)
    after = straightened(before)
    deep = depth > 36
    assert deep.sum() > 8
    assert np.allclose(bends(after)[deep], bends(before)[deep], atol=0.01)
    assert np.median(bends(after)[depth < 11]) < 5
    order = np.argsort(depth)
    assert (np.diff(bends(after)[order, 0]) > -0.01).all()  # a deeper bend stays deeper


@pytest.mark.parametrize("left_alone", [crouching(14.0, speed=0.8), crouching(60.0)], ids=["moving feet", "bent knees"])
def test_bodies_that_do_not_stand_are_left_alone(left_alone):
    assert np.allclose(straightened(left_alone).body_pose, left_alone.body_pose, atol=1e-5)
    assert np.allclose(straightened(left_alone).transl_c, left_alone.transl_c, atol=1e-4)


def test_frames_behind_the_camera_spoil_no_others():
    before = crouching(14.0)
    place = before.transl_c.copy()
    place[30:, 2] -= 5
    after = straightened(replace(before, transl_c=place))
    assert (abs(bends(after)[:20]) < 5).all()
    assert np.isfinite(after.body_pose).all()
    assert np.isfinite(after.transl_c).all()
    np.testing.assert_array_equal(after.transl_c[30:], place[30:])


def test_a_still_shows_nothing_that_rests():
    whole = crouching(14.0)
    still = replace(whole, **{n: getattr(whole, n)[:1] for n in ("global_orient", "body_pose", "transl_c")})
    assert straightened(still, TIMES[:1]) is still


def test_a_bend_that_the_camera_sees_from_the_side_is_trusted_more():
    front, side = (standing_knees(crouching(14.0, yaw), TIMES, CAMERA, BODY) for yaw in (0.0, np.pi / 2))
    assert front.min() > 0.9
    assert side.max() < 0.75


def test_who_leans_far_over_does_not_stand_upright():
    params = crouching(14.0)
    pose = params.body_pose.copy()
    pose[:, SMPL_24.index["spine1"] - 1] = axis_angle_to_matrix(torch.tensor([1.6, 0, 0])).numpy()
    assert standing_knees(replace(params, body_pose=pose), TIMES, CAMERA, BODY).max() < 0.1


def test_another_bodys_parameters_are_refused():
    with pytest.raises(ModelMismatchError):
        straightened(replace(crouching(14.0), model="another"))
