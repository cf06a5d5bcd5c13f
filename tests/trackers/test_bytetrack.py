"""ByteTrack: what it does with strong, weak and missing boxes, and that it gives the same ids as another program."""

from __future__ import annotations

import numpy as np
import pytest

from hmrkit.trackers.bytetrack import associate
from hmrkit.types import Detections


def frame(*people: tuple[float, float]) -> Detections:
    """Boxes 100 x 200 px from (left edge, score) of each."""
    boxes = [[x, 0, x + 100, 200] for x, _ in people]
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array([s for _, s in people], np.float32))


def ids(*frames: Detections, fps: float = 30) -> list[list[int]]:
    return [found.tolist() for found in associate(frames, np.arange(len(frames)) / fps, 1 / fps)]


def test_a_strong_box_begins_a_tracklet_and_a_weak_one_continues_it():
    assert ids(frame((0, 0.9)), frame((2, 0.9)), frame((4, 0.1))) == [[-1], [0], [0]]
    assert ids(*[frame((0, 0.39))] * 3) == [[-1], [-1], [-1]]
    assert ids(frame((0, 0.9)), frame((2, 0.2))) == [[-1], [0]]


def test_strong_boxes_are_matched_before_weak_ones():
    # The weak box overlaps the person best, but there is a strong one that is good enough.
    assert ids(*[frame((0, 0.9))] * 3, frame((0, 0.2), (40, 0.9)))[-1] == [-1, 0]
    assert ids(*[frame((0, 0.9))] * 3, frame((0, 0.9), (40, 0.9)))[-1] == [0, -1]


def test_people_who_pass_each_other_keep_their_ids():
    frames = [frame((10 * t, 0.9), (400 - 10 * t, 0.8)) for t in range(41)]
    found = ids(*frames)
    assert found[1] == found[-1] == [0, 1]


@pytest.mark.parametrize(("fps", "longest"), [(30, 30), (10, 10), (7.5, 8), (0.5, 1)])
def test_a_person_is_waited_for_for_a_second(fps, longest):
    seen, empty = [frame((0, 0.9))] * 2, frame()
    assert ids(*seen, *[empty] * (longest - 1), *seen, fps=fps)[-1] == [0]
    assert ids(*seen, *[empty] * (longest + 1), *seen, fps=fps)[-1] == [1]


def test_a_tracklet_without_an_id_waits_for_one_frame():
    assert ids(frame((0, 0.9)), frame(), frame((0, 0.9))) == [[-1], [], [0]]
    assert ids(frame((0, 0.9)), frame(), frame(), frame((0, 0.9))) == [[-1], [], [], [-1]]


def made_up_clip(seed: int) -> tuple[list[Detections], float]:
    """People who cross, leave, come back, are missed and are found twice; scores about the threshold."""
    rng = np.random.default_rng(seed)
    people, fps = int(rng.integers(1, 9)), float(rng.choice([5, 7.5, 23.976, 25, 30, 50, 60]))
    place = rng.uniform(0, rng.choice([200, 600, 1500]), (people, 2))
    velocity = rng.normal(0, rng.choice([1, 4, 12, 40]), (people, 2))
    size = rng.uniform([30, 80], [120, 300], (people, 2))
    away = np.zeros(people, int)
    noise, missed = rng.choice([0.0, 1, 5, 20]), rng.choice([0.02, 0.2, 0.5])
    frames = []
    for _ in range(60):
        place = place + velocity
        leaves = (away == 0) & (rng.random(people) < 0.03)
        away = np.where(leaves, rng.integers(1, int(1.6 * fps) + 2, people), np.maximum(away - 1, 0))
        seen = (away == 0) & (rng.random(people) > missed)
        boxes = np.concatenate([place, place + size], 1)[seen] + rng.normal(0, noise, (int(seen.sum()), 4))
        boxes = np.concatenate([boxes, boxes[: rng.integers(0, 2)]])
        scores = np.where(
            rng.random(len(boxes)) < 0.5, rng.random(len(boxes)), rng.choice([0.4, 0.39, 0.9], len(boxes))
        )
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        frames.append(Detections(boxes.astype(np.float32), scores.astype(np.float32)))
    return frames, fps


def test_ids_equal_those_of_the_trackers_package():
    """The package (Roboflow, Apache-2.0) gives every box of twelve clips the same id."""
    supervision = pytest.importorskip("supervision", exc_type=ImportError)
    trackers = pytest.importorskip("trackers", exc_type=ImportError)
    for seed in range(12):
        frames, fps = made_up_clip(seed)
        reference = trackers.ByteTrackTracker(
            lost_track_buffer=30, frame_rate=fps, track_activation_threshold=0.4, high_conf_det_threshold=0.4,
            minimum_consecutive_frames=1, minimum_iou_threshold=0.1,
        )  # fmt: skip
        for people, ours in zip(frames, associate(frames, np.arange(len(frames)) / fps, 1 / fps), strict=True):
            theirs = np.full(len(ours), -1)
            found = reference.update(
                supervision.Detections(
                    xyxy=people.boxes_xyxy.astype(np.float64), confidence=people.scores.astype(np.float64),
                    data={"row": np.arange(len(ours))},
                )
            )  # fmt: skip
            if len(found):
                theirs[np.asarray(found.data["row"], int)] = found.tracker_id
            np.testing.assert_array_equal(ours, theirs)
