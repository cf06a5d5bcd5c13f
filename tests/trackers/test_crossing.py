"""People in identical clothes who share a box while they cross, who are lost, or cut away: who is who afterwards."""

from dataclasses import replace

import numpy as np
import pytest
from made_clips import box, make_clip, owners, track

from hmrkit.crops import box_iou
from hmrkit.trackers import load_tracker, select_people
from hmrkit.trackers.appearance import SIZE
from hmrkit.types import Detections


def same_clothes(clip: list[Detections]) -> list[Detections]:
    return [replace(found, appearance=np.full((len(found.scores), SIZE), 0.2, np.float32)) for found in clip]


def merged(clip: list[Detections], iou: float, union: bool) -> list[Detections]:
    """What a detector makes of people who cover each other by more than `iou`: one box, about both or the first's."""
    out = []
    for found in clip:
        if len(found.scores) == 2 and box_iou(found.boxes_xyxy[:1], found.boxes_xyxy[1:])[0, 0] > iou:
            boxes, front = found.boxes_xyxy, found.boxes_xyxy[found.boxes_xyxy[:, 3].argmax()]
            one = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)]) if union else front
            found = Detections(one[None].astype(np.float32), found.scores[:1], np.full((1, SIZE), 0.2, np.float32))
        out.append(found)
    return out


@pytest.mark.parametrize("fps", [10, 30])
@pytest.mark.parametrize("iou", [0.05, 0.3, 0.55, 1.0])
@pytest.mark.parametrize("union", [True, False])
def test_walkers_in_identical_clothes_keep_their_ids(fps, iou, union):
    for speed, height in ((100, 200), (160, 200), (250, 200), (40, 70)):
        people = [
            lambda t, v=speed, h=height: box(400 + v * (t - 3), 300, h),
            lambda t, v=speed, h=height: box(400 - v * (t - 3), 300 + 0.05 * h, 1.05 * h),
        ]
        clip, _ = make_clip(fps, people, noise=0.01 * height)
        result = track(merged(same_clothes(clip), iou, union), fps)
        assert owners(result, people, fps) == [{0}, {1}], speed
        assert not any(len(t.frame_indices) < 0.7 * len(clip) for t in result.tracks)


@pytest.mark.parametrize("fps", [10, 30])
def test_who_walks_behind_one_who_stands_comes_out_on_the_other_side(fps):
    people = [lambda t: box(400 + 120 * (t - 3), 300, 190), lambda t: box(400, 310, 230)]
    clip, _ = make_clip(fps, people)
    assert owners(track(merged(same_clothes(clip), 0.3, False), fps), people, fps) == [{0}, {1}]


def test_walkers_cross_while_the_camera_pans():
    people = [lambda t, v=v: box(400 + 500 * np.sin(t) + v * (t - 3), 300 + v / 20) for v in (160, -160)]
    clip, _ = make_clip(30, people)
    assert owners(track(merged(same_clothes(clip), 0.5, True), 30), people, 30) == [{0}, {1}]


@pytest.mark.parametrize("fps", [10, 30])
@pytest.mark.parametrize("lost", [2, 10, 40])
def test_who_is_lost_for_some_frames_is_one_person(fps, lost):
    for height, speed in ((200, 0), (200, 100), (70, 40)):
        people = [lambda t, v=speed, h=height: box(100 + v * t, 300, h)]
        clip, _ = make_clip(fps, people, hidden=lambda _, t: 30 <= round(t * fps) < 30 + lost, noise=1, seconds=9)
        (one,) = track(clip, fps).tracks
        assert (one.frame_indices[0], one.frame_indices[-1]) == (0, len(clip) - 1)


def test_the_order_of_boxes_changes_nothing():
    people = [lambda t, v=v: box(400 + v * (t - 3), 300 + v / 20) for v in (160, -160)]
    clip, _ = make_clip(10, people)
    clip = same_clothes(clip)
    other = [replace(found, boxes_xyxy=found.boxes_xyxy[::-1]) for found in clip]
    for a, b in zip(track(clip, 10).tracks, track(other, 10).tracks, strict=True):
        np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)


def test_nobody_crosses_a_cut_and_people_are_chosen_in_each_shot():
    """The largest of two changes at the cut; `largest` and 1 are the same people."""
    people = [lambda t: box(300, 300, 200 if t < 3 else 260), lambda t: box(600, 300, 240 if t < 3 else 150)]
    clip, _ = make_clip(10, people)
    tracker = load_tracker()
    for frame, found in enumerate(clip):
        tracker.update(2 * frame, found)
    cuts = (59,)  # a frame that was not chosen begins the shot
    result = tracker.finish(10, cuts)
    assert [t.track_id for t in result.tracks] == [1, 2, 3, 4]
    assert [(t.frame_indices[0], t.frame_indices[-1]) for t in result.tracks] == [(0, 58)] * 2 + [(60, 118)] * 2
    chosen = select_people(result.tracks, "largest", cuts)
    assert [t.track_id for t in chosen] == [2, 3]
    assert select_people(result.tracks, 1, cuts) == chosen
    assert len(select_people(result.tracks, 2, cuts)) == 4
    assert len(select_people(result.tracks, 1)) == 1


@pytest.mark.parametrize("rate", [15, 30, 60, "variable"])
def test_people_are_followed_alike_at_any_rate(rate):
    """Two cross in identical clothes, one is lost for 1.5 s, one is missed for 0.8 s, one leaves for long."""
    people = [
        lambda t: box(400 + 130 * (t - 3), 300),
        lambda t: box(400 - 130 * (t - 3), 305),
        lambda t: box(900 + 60 * t, 700),
        lambda t: box(1500, 300 + 40 * np.sin(3 * t)) if t < 1 or t > 5.6 else None,
    ]

    def hidden(person, t):
        return person == 2 and (2 < t < 3.5 or 4.5 < t < 5.3)

    # A recorder that gives now 60, now 30, now 8 frames a second: here it is slow where people cross.
    steps = np.concatenate([np.tile([1 / 60, 1 / 30], 100)[:100], np.full(16, 1 / 8), np.full(60, 1 / 60)])
    times = np.cumsum(steps) if rate == "variable" else np.arange(6 * rate) / rate
    fps = 1 / float(np.diff(times).mean())
    clip, _ = make_clip(fps, people, hidden, noise=1.0, times=times)
    result = track(same_clothes(clip), fps, times=times)
    assert owners(result, people, fps, times) == [{0}, {1}, {2}, {3}]
    lengths = [times[t.frame_indices[-1]] - times[t.frame_indices[0]] for t in result.tracks]
    assert min(lengths[:3]) > 5
    assert lengths[3] < 1.1
    third = result.tracks[2]
    gaps = np.diff(times[third.frame_indices])
    assert ((gaps > 1.2) & (gaps < 1.8)).sum() == 1  # 1.5 s stay open
    assert third.interpolated.any()  # 0.8 s are filled
    for one, person in zip(result.tracks, people, strict=True):
        true = np.stack([person(t) for t in times[one.frame_indices]])
        assert np.abs(one.boxes_xyxy - true)[~one.interpolated].max() < 5
