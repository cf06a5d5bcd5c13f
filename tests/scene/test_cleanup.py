"""Cleaning: jitter goes, impacts stay where they are, and nothing is done that was not asked for."""

from dataclasses import replace

import numpy as np
from synthetic_person import BODY, jittered

from hmrkit.scene import ExportOptions
from hmrkit.scene.cleanup import clean, split_at_gaps
from hmrkit.scene.resampling import skeleton_joints
from hmrkit.skeletons import SMPL_24
from hmrkit.smoothing import smooth_body

FPS = 30.0


def _acceleration(joints, fps):
    return np.linalg.norm(np.diff(joints, 2, axis=0), axis=-1).mean() * fps**2


def test_smoothing_takes_jitter_out_and_follows_the_motion(walk):
    motion, fps = walk
    noisy = jittered(motion.params)
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
