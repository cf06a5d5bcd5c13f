"""Cleaning: jitter goes, impacts stay where they are, feet stand, and nothing is done that was not asked for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_person import BODY, make_motion_of, make_person

from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.scene import ExportOptions
from hmrkit.scene.cleanup import clean, feet_locked, laid_flat, split_at_gaps
from hmrkit.scene.foot_contact import ANKLES, sole_points, standing, stretches
from hmrkit.scene.ground import estimate_world
from hmrkit.scene.resampling import skeleton_joints
from hmrkit.skeletons import SMPL_24
from hmrkit.smoothing import smooth_body

UP = np.array([0.0, -np.cos(0.15), -np.sin(0.15)])
FPS = 30.0


@pytest.fixture(scope="module")
def walk():
    person = make_person(clip=1, frames=slice(0, 90))
    return make_motion_of(person), person.fps


def _jittered(params, seed=0):
    random = np.random.default_rng(seed)
    noise = random.normal(0, [0.008, 0.008, 0.03], params.transl_c.shape)
    return replace(params, transl_c=(params.transl_c + noise).astype(np.float32))


def _acceleration(joints, fps):
    return np.linalg.norm(np.diff(joints, 2, axis=0), axis=-1).mean() * fps**2


def test_smoothing_takes_jitter_out_and_follows_the_motion(walk):
    motion, fps = walk
    noisy = _jittered(motion.params)
    clean_params = smooth_body(noisy, motion.visible, np.arange(90) / fps, 1.0)
    truth, before, after = (skeleton_joints(BODY, p) for p in (motion.params, noisy, clean_params))
    assert np.linalg.norm(after - truth, axis=-1).mean() < 0.75 * np.linalg.norm(before - truth, axis=-1).mean()
    assert _acceleration(after, fps) < 0.4 * _acceleration(before, fps)
    rotations = clean_params.body_pose
    np.testing.assert_allclose(
        rotations @ np.swapaxes(rotations, -1, -2), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-5
    )


def test_smoothing_has_no_delay_and_keeps_the_moment_of_an_impact(walk):
    """Somebody falls freely, hits the ground and stays: the rotation of the curve keeps its frame and its height."""
    motion, _ = walk
    time = np.arange(90) / FPS
    height = np.where(time < 2.0, 1.0 - 0.25 * 9.81 * np.clip(time - 1.4, 0, None) ** 2, 0)
    height[time >= 2.0] = height[time < 2.0][-1]
    transl = motion.params.transl_c.copy()
    transl[:, :] = [0, 0, 4]
    transl[:, 1] -= height.astype(np.float32)
    fallen = smooth_body(replace(motion.params, transl_c=transl), motion.visible, time, 1.0).transl_c
    assert np.abs(fallen - transl).max() < 0.02
    hits = [int(np.argmin(np.diff(y[:, 1], 2)[40:80])) for y in (transl, fallen)]
    assert abs(hits[0] - hits[1]) <= 1


def test_locked_feet_stand_still_and_on_the_ground(walk):
    motion, fps = walk
    slid = motion.params.transl_c.copy()
    slid[:, 0] += 0.05 * np.sin(np.arange(len(slid)) / 9)  # the whole person sways by 5 cm
    params = replace(motion.params, transl_c=slid)
    world = estimate_world([replace(motion, params=params)], BODY, fps)
    stands = standing(sole_points(BODY, params), fps, world.up_c)
    locked, facts = feet_locked(params, motion.visible, BODY, fps, world.up_c, world)
    slips = {"before": 0.0, "after": 0.0}
    for foot in range(2):
        for begin, end in stretches(stands[:, foot]):
            for name, some in (("before", params), ("after", locked)):
                steps = np.diff(sole_points(BODY, some)[begin:end, foot], axis=0)
                slips[name] += np.linalg.norm(steps, axis=-1).min(1).sum()  # heel or ball: feet may roll
            height = world.height(sole_points(BODY, locked)[begin:end, foot]).min(-1)
            assert abs(np.median(height)) < 0.01
    assert world.height(sole_points(BODY, locked)).min() > -0.02  # swinging feet too
    assert slips["before"] > 0.3
    assert slips["after"] < 0.15 * slips["before"]
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


def test_locking_bends_legs_only_and_keeps_the_feets_rotation(walk):
    motion, fps = walk
    locked, _ = feet_locked(_jittered(motion.params), motion.visible, BODY, fps, UP, None)
    legs = {name for name in SMPL_24.joints if any(part in name for part in ("hip", "knee", "ankle"))}
    moved = np.abs(locked.body_pose - motion.params.body_pose).max((0, 2, 3)) > 1e-6
    assert {SMPL_24.joints[j + 1] for j in np.flatnonzero(moved)} <= legs
    np.testing.assert_array_equal(locked.global_orient, motion.params.global_orient)
    given = [(p.global_orient, p.body_pose, p.betas, p.transl_c) for p in (motion.params, locked)]
    before, after = (BODY.joints_only(*g).joint_rotations[:, ANKLES].numpy() for g in given)
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_what_is_added_by_locking_comes_and_goes_smoothly(walk):
    motion, fps = walk
    locked, _ = feet_locked(motion.params, motion.visible, BODY, fps, UP, None)
    change = skeleton_joints(BODY, locked) - skeleton_joints(BODY, motion.params)
    assert np.linalg.norm(np.diff(change, axis=0), axis=-1).max() < 0.04


def test_gaps_split_a_person(walk):
    motion, _ = walk
    seen = motion.visible.copy()
    seen[20:25] = seen[60] = False
    parts = split_at_gaps(replace(motion, visible=seen))
    assert [(p.name, int(p.frames[0]), len(p)) for p in parts] == [
        ("p_part_01", 0, 20), ("p_part_02", 25, 35), ("p_part_03", 61, 29)
    ]  # fmt: skip
    np.testing.assert_array_equal(parts[1].params.body_pose, motion.params.body_pose[25:60])
    assert [p.name for p in split_at_gaps(motion)] == ["p"]


def test_what_was_done_is_reported_and_nothing_else_is_done(walk):
    motion, fps = walk
    (same,), reported = clean([motion], BODY, fps, ExportOptions())
    assert reported == {"p": {}}
    assert same.cleaned is motion.params
    (flat,), reported = clean([motion], BODY, fps, ExportOptions(fingers="rest", smooth=0.5))
    assert reported == {"p": {"smooth": 0.5, "fingers": "rest"}}
    hands = [SMPL_24.index["left_hand"] - 1, SMPL_24.index["right_hand"] - 1]
    assert (flat.cleaned.body_pose[:, hands] == np.eye(3)).all()
