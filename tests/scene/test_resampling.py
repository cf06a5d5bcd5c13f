"""Clocks and resampling: rows that fall onto frames stay what they are, the rest lies between."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from made_takes import RATE

from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.scene.resampling import make_clock, make_motion, sample_rotations, skeleton_joints


def test_without_resampling_every_row_is_itself(take, models):
    motion = make_motion(take, 1, make_clock(take, None, 1001), models.body, "person_01")
    assert motion.frames.tolist() == [1011, 1012, 1013, 1014, 1015, 1016]
    assert motion.visible.tolist() == [True, True, True, False, True, True]
    np.testing.assert_array_equal(motion.params.body_pose[motion.visible], take.body[1].body_pose)
    np.testing.assert_array_equal(motion.rows, [0, 1, 2, 2.5, 3, 4])
    between = (motion.params.transl_c[2] + motion.params.transl_c[4]) / 2
    np.testing.assert_allclose(motion.params.transl_c[3], between, atol=1e-6)


def test_the_same_rate_is_no_resampling_and_twice_the_rate_keeps_every_frame(take, models):
    same = make_clock(take, RATE, 0)
    assert not same.resampled
    double = make_motion(take, 2, make_clock(take, 2 * RATE, 0), models.body, "person_02")
    own = make_motion(take, 2, same, models.body, "person_02")
    assert double.frames.tolist() == [32, 33, 34, 35, 36]
    np.testing.assert_array_equal(double.params.body_pose[::2], own.params.body_pose)
    np.testing.assert_array_equal(double.joints_c[::2], take.calibrated[2].joints_c)
    # Half way the skeleton has rotated half way; its bones are as long as ever.
    bones = np.linalg.norm(np.diff(skeleton_joints(models.body, double.params)[:, [4, 7]], axis=1), axis=-1)
    np.testing.assert_allclose(bones, np.full_like(bones, bones[0, 0]), rtol=1e-5)


def test_frames_of_another_rate_are_where_their_time_is(take, models):
    clock = make_clock(take, Fraction(24), 100)
    motion = make_motion(take, 1, clock, models.body, "person_01")
    seconds = (motion.frames - 100) / 24
    frames = np.interp(motion.rows, np.arange(5), [10, 11, 12, 14, 15])
    np.testing.assert_allclose(frames / float(RATE), seconds, atol=1e-9)
    assert motion.visible.tolist() == [abs(f - 13) >= 1 for f in frames]
    # 24 per second of a path that is straight in time: every place is on the line.
    path = np.interp(seconds, np.array([10, 11, 12, 14, 15]) / float(RATE), take.body[1].transl_c[:, 0])
    np.testing.assert_allclose(motion.params.transl_c[:, 0], path, atol=1e-6)


def uneven(take):
    """The same take of a clip that shows frame 12 and all after it for twice as long."""
    frames = take.video.frame_indices
    times = np.where(frames < 12, frames, 2 * frames - 12) / float(RATE)
    return replace(take, video=replace(take.video, frame_times=times))


def test_a_variable_rate_is_resampled_so_that_frames_are_where_the_footage_has_them(take, models):
    slower = uneven(take)
    clock = make_clock(slower, None, None)
    assert clock.resampled
    assert abs(float(clock.fps) / float(RATE) - 1) < 0.5
    motion = make_motion(slower, 1, clock, models.body, "person_01")
    shown = np.interp(motion.rows, np.arange(5), clock.times(take.track(1).frame_indices))
    np.testing.assert_allclose(motion.frames / float(clock.fps), shown, atol=1e-9)
    own = make_clock(slower, None, None, own_times=True)
    assert not own.resampled
    rows = make_motion(slower, 1, own, models.body, "person_01")
    np.testing.assert_array_equal(rows.params.body_pose[rows.visible], take.body[1].body_pose)


def test_plates_keep_their_numbers_unless_they_get_others(take, models):
    video = take.video
    first = int(video.frame_indices[0])
    plates = replace(take, video=replace(video, first_number=first, frame_times=np.arange(10) / float(RATE)))
    motion = make_motion(plates, 1, make_clock(plates, None, None), models.body, "person_01")
    assert motion.frames.tolist() == list(range(10, 16))
    motion = make_motion(plates, 1, make_clock(plates, None, 1001), models.body, "person_01")
    assert motion.frames.tolist() == list(range(1011 - first, 1017 - first))


def test_rotations_rotate_evenly():
    rotations = axis_angle_to_matrix(torch.tensor([[0.0, 0, 0], [0, 2.4, 0]], dtype=torch.float64)).numpy()
    part = sample_rotations(rotations, np.array([0.0, 0.25, 1.0]))
    expected = axis_angle_to_matrix(torch.tensor([[0.0, 0, 0], [0, 0.6, 0], [0, 2.4, 0]], dtype=torch.float64)).numpy()
    np.testing.assert_allclose(part, expected, atol=1e-12)


def test_rows_without_a_body_are_a_gap_and_a_person_without_any_is_none(take, models):
    broken = take.body[1].transl_c.copy()
    broken[1] = np.nan
    holed = replace(take, body=take.body | {1: replace(take.body[1], transl_c=broken)})
    clock = make_clock(take, None, 0)
    motion = make_motion(holed, 1, clock, models.body, "person_01")
    assert motion.visible.tolist() == [True, False, True, False, True, True]
    assert np.isfinite(motion.params.transl_c).all()
    assert np.isfinite(motion.joints_c).all()
    np.testing.assert_array_equal(motion.rows, [0, 1, 2, 2.5, 3, 4])
    nothing = replace(take, body=take.body | {1: replace(take.body[1], transl_c=np.full_like(broken, np.nan))})
    assert make_motion(nothing, 1, clock, models.body, "person_01") is None


def test_thinned_out_clips_number_the_frames_that_were_chosen(take):
    indices = np.arange(11, 20, 2)
    video = replace(take.video, frame_indices=indices, frame_times=indices / float(RATE))
    clock = make_clock(replace(take, video=video), None, 0)
    assert clock.fps == RATE / 2
    frames, rows, seen = clock.place(np.array([13, 15, 19]))
    assert (frames.tolist(), rows.tolist(), seen.tolist()) == ([6, 7, 8, 9], [0, 1, 1.5, 2], [True, True, False, True])
