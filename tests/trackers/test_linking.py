"""Tracking against made-up clips in which it is known who is where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_clips import box, colours, make_clip, owners, track

from hmrkit.errors import UsageError
from hmrkit.trackers import TRACKERS, load_tracker, select_people
from hmrkit.trackers.appearance import SIZE, describe
from hmrkit.trackers.linking import link_tracks
from hmrkit.types import Detections


def left_to_right(t):
    return box(100 + 100 * t)


def right_to_left(t):
    return box(720 - 100 * t)


@pytest.mark.parametrize("fps", [5, 10, 30])
@pytest.mark.parametrize("name", list(TRACKERS))
def test_people_who_cross_keep_their_ids(name, fps):
    people = [left_to_right, right_to_left]
    clip, truth = make_clip(fps, people)
    result = track(clip, fps, name)
    assert owners(result, people, fps) == [{0}, {1}]
    assert [len(t.frame_indices) for t in result.tracks] == [len(truth)] * 2
    assert not result.dropped


@pytest.mark.parametrize("fps", [5, 10, 30])
def test_people_who_meet_and_rotation_back_keep_their_ids_by_their_clothes(fps):
    people = [lambda t: box(400 - 150 * abs(t - 3)), lambda t: box(410 + 150 * abs(t - 3))]
    clip, _ = make_clip(fps, people, hidden=lambda person, t: abs(t - 3) < 0.3)
    result = track(clip, fps)
    assert owners(result, people, fps) == [{0}, {1}]


@pytest.mark.parametrize("fps", [5, 10, 30])
def test_a_person_who_is_hidden_is_joined_and_filled_in(fps):
    people = [left_to_right, lambda t: box(150, 700)]
    clip, _ = make_clip(fps, people, hidden=lambda person, t: person == 0 and 2.5 < t < 3.3)
    walker, _ = sorted(track(clip, fps).tracks, key=lambda t: -t.boxes_xyxy[-1, 0])
    np.testing.assert_array_equal(walker.frame_indices, np.arange(len(clip)))
    hidden = (walker.frame_indices / fps > 2.5 + 1e-9) & (walker.frame_indices / fps < 3.3 - 1e-9)
    np.testing.assert_array_equal(walker.interpolated, hidden)
    np.testing.assert_array_equal(np.isnan(walker.scores), hidden)
    true = np.stack([left_to_right(t) for t in walker.frame_indices / fps])
    assert np.abs(walker.boxes_xyxy - true).max() < 12


def test_a_jumper_who_rolls_is_one_person_though_colours_change_along_a_piece():
    people = [lambda t: box(400 + 20 * (t > 3), 300 + 500 * abs(t - 3.125))]
    clip, _ = make_clip(30, people, hidden=lambda person, t: 3 < t < 3.25)
    rng = np.random.default_rng(1)
    before, after = colours(0, rng) ** 2, colours(1, rng) ** 2
    shares = np.clip(3 * np.arange(len(clip)) / len(clip) - 1, 0, 1)
    mixed = [np.sqrt((1 - s) * before + s * after)[None].astype(np.float32) for s in shares]
    clip = [replace(f, appearance=m[: len(f.scores)]) for f, m in zip(clip, mixed, strict=True)]
    assert len(track(clip, 30).tracks) == 1


def test_an_occluder_does_not_take_over_the_hidden_persons_id():
    people = [left_to_right, lambda t: box(400, 320, 260)]
    clip, _ = make_clip(10, people, hidden=lambda person, t: person == 0 and abs(left_to_right(t)[0] - 360) < 60)
    assert owners(track(clip, 10), people, 10) == [{0}, {1}]


def test_a_person_who_comes_back_much_later_is_someone_new():
    clip, _ = make_clip(10, [lambda t: box(300) if t < 2 or t > 7.5 else None], seconds=10)
    first, second = track(clip, 10).tracks
    assert (first.frame_indices[-1], second.frame_indices[0]) == (19, 76)
    assert (first.track_id, second.track_id) == (1, 2)


def test_someone_else_at_the_same_place_is_someone_new():
    people = [lambda t: box(300) if t < 3 else None, lambda t: box(310, 310, 230) if t > 3.8 else None]
    clip, _ = make_clip(10, people)
    first, second = track(clip, 10).tracks
    assert (first.frame_indices[-1], second.frame_indices[0]) == (29, 39)


def test_a_crowd_is_tracked_whole():
    people = [lambda t, k=k: box(60 + 90 * k + 20 * np.sin(t + k), 200 + 30 * (k % 3), 150) for k in range(24)]
    clip, _ = make_clip(10, people)
    result = track(clip, 10)
    assert sorted(map(tuple, owners(result, people, 10))) == [(k,) for k in range(24)]


def test_weak_boxes_keep_a_track_but_do_not_make_one():
    clip, _ = make_clip(10, [left_to_right, lambda t: box(600, 900)])
    for frame, found in enumerate(clip):
        found.scores[found.boxes_xyxy[:, 1] > 600] = 0.2
        found.scores[found.boxes_xyxy[:, 1] < 600] = 0.9 if frame % 3 == 0 else 0.15
    (walker,) = track(clip, 10).tracks
    assert len(walker.frame_indices) == len(clip)
    assert not walker.interpolated.any()


def test_what_is_left_out_is_reported():
    clip, _ = make_clip(30, [left_to_right, lambda t: box(600, 900) if 2 < t < 2.2 else None])
    result = track(clip, 30)
    assert len(result.tracks) == 1
    (flash,) = result.dropped
    assert (flash.first_frame, flash.last_frame, flash.boxes) == (61, 65, 5)
    assert "shorter" in flash.reason


def test_a_double_detection_is_one_person():
    def upper_half(t):
        b = left_to_right(t)
        return np.array([b[0] + 5, b[1], b[2] - 5, b[1] + 90])

    clip, _ = make_clip(10, [left_to_right, upper_half])
    result = track(clip, 10)
    assert len(result.tracks) == 1
    assert {d.reason for d in result.dropped} == {"duplicate of another track"}


def test_smoothing_removes_jitter_and_keeps_a_jump():
    def jump(t):
        return box(300, 400 - 0.5 * 900 * max(0.0, 0.16 - (t - 3) ** 2))

    clip, _ = make_clip(30, [jump], noise=4)
    (jumper,) = track(clip, 30).tracks
    true = np.stack([jump(t) for t in jumper.frame_indices / 30])
    raw = np.concatenate([found.boxes_xyxy for found in clip])
    assert np.sqrt(np.mean((jumper.boxes_xyxy - true) ** 2)) < 0.7 * np.sqrt(np.mean((raw - true) ** 2))
    assert np.abs((jumper.boxes_xyxy - true)[80:100].mean(0)).max() < 3  # no lag, no flattened top


@pytest.mark.parametrize("name", list(TRACKERS))
def test_clips_of_no_or_one_frame_or_nobody(name):
    nobody = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    someone = Detections(box(300)[None].astype(np.float32), np.array([0.9], np.float32))
    assert track([], 30, name).tracks == ()
    assert track([nobody] * 5, 30, name).tracks == ()
    (only,) = track([someone], 30, name).tracks
    assert only.frame_indices.tolist() == [0]


def test_tracks_keep_the_sources_frame_numbers():
    clip, _ = make_clip(10, [left_to_right])
    tracker = load_tracker()
    for k, found in enumerate(clip):
        tracker.update(100 + 3 * k, found)
    with pytest.raises(ValueError, match="in order"):
        tracker.update(5, clip[0])
    (walker,) = tracker.finish(10).tracks
    np.testing.assert_array_equal(walker.frame_indices, 100 + 3 * np.arange(len(clip)))


def test_select_people():
    clip, _ = make_clip(10, [left_to_right, lambda t: box(500, 900, 400), lambda t: box(900, 900, 300)])
    tracks = track(clip, 10).tracks
    heights = {t.track_id: t.boxes_xyxy[0, 3] - t.boxes_xyxy[0, 1] for t in tracks}
    assert [heights[t.track_id] > 350 for t in select_people(tracks, "largest")] == [True]
    assert sorted(round(heights[t.track_id], -2) for t in select_people(tracks, 2)) == [300, 400]
    assert select_people(tracks, "all") == tracks == select_people(tracks, 9)
    for bad in ("some", 0, -1):
        with pytest.raises(UsageError, match="--people"):
            select_people(tracks, bad)
    with pytest.raises(UsageError, match="bytetrack"):
        load_tracker("deepsort")


def test_appearance_tells_clothes_apart_and_forgives_light():
    rng = np.random.default_rng(1)
    frame = np.full((300, 300, 3), 128, np.uint8)
    frame[50:150, 20:60], frame[150:250, 20:60] = (200, 40, 40), (30, 30, 90)
    frame[50:150, 120:160], frame[150:250, 120:160] = (40, 160, 60), (220, 220, 220)
    frame[50:150, 220:260], frame[150:250, 220:260] = (160, 32, 32), (24, 24, 75)  # the first one in the shade
    frame = np.clip(frame + rng.normal(0, 5, frame.shape), 0, 255).astype(np.uint8)
    looks = describe(frame, np.array([[x, 50, x + 40, 250] for x in (20, 120, 220)], np.float32))
    assert looks.shape == (3, SIZE)
    distance = np.linalg.norm(looks[:, None] - looks[None], axis=-1) / 2
    assert distance[0, 2] < 0.3 < 0.8 < distance[0, 1]
    assert distance.max() <= 1
    assert describe(None, np.zeros((0, 4))).shape == (0, SIZE)
    assert np.isnan(describe(None, np.ones((2, 4)))).all()
    assert np.isfinite(describe(frame, np.array([[-500, -500, 9999, 9999], [5, 5, 5, 5]], np.float32))).all()


def test_every_box_is_somebodys_or_left_out():
    """Weak boxes that no tracker took, of a thing that stands and of flashes, are reported with a reason."""
    frames = 20
    person = np.array([100, 100, 200, 400], np.float32)
    thing, flash = np.array([400, 100, 440, 200], np.float32), np.array([600, 50, 640, 120], np.float32)
    detections, ids = [], []
    for k in range(frames):
        boxes, scores = [person], [0.9]
        if 5 <= k < 10:
            boxes, scores = [*boxes, thing], [*scores, 0.3]
        if k == 15:
            boxes, scores = [*boxes, flash, person + 3], [*scores, 0.2, 0.4]
        detections.append(Detections(np.array(boxes), np.array(scores, np.float32)))
        ids.append(np.array([0] + [-1] * (len(boxes) - 1)))
    result = link_tracks(np.arange(frames) * 2, detections, ids, np.arange(frames) / 30, 1 / 30)
    assert len(result.tracks) == 1
    listed = {(d.first_frame, d.last_frame, d.boxes, d.reason) for d in result.dropped}
    weak, double = "no score of 0.5 or more", "duplicate of another track"
    assert listed == {(10, 18, 5, weak), (30, 30, 1, weak), (30, 30, 1, double)}
