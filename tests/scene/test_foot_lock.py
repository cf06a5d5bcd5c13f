"""Feet that stand stay where they are, on their level, and the knees hardly notice."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_person import BODY, jittered

from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.scene.foot_contact import ANKLES, sole_points, standing, stretches
from hmrkit.scene.foot_lock import feet_locked, laid_flat
from hmrkit.scene.ground import World, estimate_world, from_plane
from hmrkit.scene.resampling import skeleton_joints
from hmrkit.skeletons import SMPL_24
from hmrkit.types import BodyParams

UP = np.array([0.0, -np.cos(0.15), -np.sin(0.15)])


def test_locked_feet_stand_still_and_on_the_ground(walk):
    motion, fps = walk
    slid = motion.params.transl_c.copy()
    slid[:, 0] += 0.05 * np.sin(np.arange(len(slid)) / 9)  # the whole person sways by 5 cm
    params = replace(motion.params, transl_c=slid)
    world = estimate_world([replace(motion, params=params)], BODY, fps)
    stands = standing(sole_points(BODY, params), fps, world.up_c)
    locked, facts = feet_locked(params, motion.visible, BODY, fps, world.up_c, world)
    slides = {"before": 0.0, "after": 0.0}
    for foot in range(2):
        for begin, end in stretches(stands[:, foot]):
            for name, some in (("before", params), ("after", locked)):
                steps = np.diff(sole_points(BODY, some)[begin:end, foot], axis=0)
                slides[name] += np.linalg.norm(steps, axis=-1).min(1).sum()  # heel or ball: feet may roll
            height = world.height(sole_points(BODY, locked)[begin:end, foot]).min(-1)
            assert abs(np.median(height)) < 0.01
    assert world.height(sole_points(BODY, locked)).min() > -0.02  # swinging feet too
    assert slides["before"] > 0.003 * stands.sum()
    assert slides["after"] < 0.001 * stands.sum()
    assert facts["stands"] == sum(len(stretches(stands[:, foot])) for foot in range(2))


@pytest.mark.parametrize(("pitch_deg", "lies_flat"), [(10, True), (-8, True), (45, False)])
def test_feet_that_stand_lie_flat_unless_they_are_raised(walk, pitch_deg, lies_flat):
    motion, fps = walk
    tilt = axis_angle_to_matrix(torch.tensor([np.radians(pitch_deg), 0.0, 0.0])).numpy()
    pose = motion.params.body_pose.copy()
    ankles = [ankle - 1 for ankle in ANKLES]
    pose[:, ankles] = pose[:, ankles] @ tilt.astype(np.float32)
    params = replace(motion.params, body_pose=pose)
    soles, up = sole_points(BODY, motion.params), estimate_world([motion], BODY, fps).up_c
    stands = standing(soles, fps, up)
    given = sole_points(BODY, params)
    flat = laid_flat(params, given, stands, BODY, fps, up)
    before, after = (np.abs(np.diff(s @ up, axis=-1))[..., 0][stands] for s in (given, sole_points(BODY, flat)))
    assert np.median(before) > 0.015
    assert np.median(after) < 0.005 if lies_flat else np.median(after) > 0.9 * np.median(before)


def test_who_stands_on_a_box_stays_there(walk):
    motion, fps = walk
    world = estimate_world([motion], BODY, fps)
    raised = motion.params.transl_c + np.float32(0.5) * world.up_c.astype(np.float32)
    params = replace(motion.params, transl_c=raised)
    locked, _ = feet_locked(params, motion.visible, BODY, fps, world.up_c, replace(world, levels=(0.0, 0.5)))
    stands = standing(sole_points(BODY, params), fps, world.up_c)
    assert abs(np.median(world.height(sole_points(BODY, locked)).min(-1)[stands]) - 0.5) < 0.01


def test_locking_moves_legs_and_pelvis_only(walk):
    motion, fps = walk
    locked, _ = feet_locked(jittered(motion.params), motion.visible, BODY, fps, UP, None)
    given = [(p.global_orient, p.body_pose, p.betas, p.transl_c) for p in (motion.params, locked)]
    before, after = (BODY.joints_only(*g).joint_rotations.numpy() for g in given)
    free = [0, *SMPL_24.indices(*(f"{s}_{joint}" for s in ("left", "right") for joint in ("hip", "knee")))]
    kept = np.setdiff1d(np.arange(24), free)
    np.testing.assert_allclose(after[:, kept], before[:, kept], atol=1e-4)
    tip = np.arccos(np.clip((np.einsum("tij,tij->t", before[:, 0], after[:, 0]) - 1) / 2, -1, 1))
    assert 0 < np.degrees(tip.max()) < 10


def test_what_is_added_by_locking_comes_and_goes_smoothly(walk):
    motion, fps = walk
    locked, _ = feet_locked(motion.params, motion.visible, BODY, fps, UP, None)
    change = skeleton_joints(BODY, locked) - skeleton_joints(BODY, motion.params)
    assert np.linalg.norm(np.diff(change, axis=0), axis=-1).max() < 0.04


def _standing_man(tilt_deg, frames=40):
    """Somebody who stands in the T-pose, leaning aside by `tilt_deg` as a whole, and the flat ground of the truth."""
    upright = axis_angle_to_matrix(torch.tensor([np.pi, 0.0, 0.0]))
    lean = axis_angle_to_matrix(torch.tensor([0.0, 0.0, float(np.radians(tilt_deg))]))
    rotations = torch.eye(3).repeat(frames, 24, 1, 1)
    rotations[:, 0] = lean @ upright
    transl = np.tile(np.array([0, 0, 4.0], np.float32), (frames, 1))
    params = BodyParams(
        rotations[:, 0].numpy(), rotations[:, 1:].numpy(), np.zeros(10, np.float32), transl, "neutral", BODY.model_id
    )
    up = np.array([0.0, -1.0, 0.0])
    offset = float(np.mean(sole_points(BODY, params)[0] @ up))
    return params, World(from_plane(up, offset), up, "estimated")


def _knees_deg(params):
    hip, knee, ankle = np.moveaxis(
        skeleton_joints(BODY, params)[:, [SMPL_24.indices("left_hip", "left_knee", "left_ankle"),
                                          SMPL_24.indices("right_hip", "right_knee", "right_ankle")]], 2, 0,
    )  # fmt: skip
    thigh, shin = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (knee - hip, ankle - knee))
    return np.degrees(np.arccos(np.clip((thigh * shin).sum(-1), -1, 1)))


@pytest.mark.parametrize("sink_m", [0.04, -0.04])
def test_the_root_gives_way_before_the_knees(sink_m):
    """Who stands with straight legs 4 cm under the ground, or over it, is put on it as a whole."""
    params, world = _standing_man(0)
    params = replace(params, transl_c=params.transl_c + np.array([0, sink_m, 0], np.float32))
    locked, _ = feet_locked(params, np.ones(40, bool), BODY, 30.0, world.up_c, world)
    assert np.abs(world.height(sole_points(BODY, locked)).min(-1)).max() < 0.006
    assert np.abs(_knees_deg(locked) - _knees_deg(params)).max() < 1


def test_feet_of_different_height_tip_the_pelvis_more_than_they_bend_a_knee():
    """A standing man who leans by 5 degrees has one foot 1.6 cm above the other. A knee alone would bend by 14."""
    params, world = _standing_man(5)
    heights = world.height(sole_points(BODY, params)).min(-1)
    assert np.ptp(heights[0]) > 0.012
    locked, _ = feet_locked(params, np.ones(40, bool), BODY, 30.0, world.up_c, world)
    assert np.abs(world.height(sole_points(BODY, locked)).min(-1)).max() < 0.01
    assert np.abs(_knees_deg(locked) - _knees_deg(params)).max() < 5
