"""Detection on every N-th frame: nobody is lost, boxes between are on the way, no box crosses a cut."""

import numpy as np
import pytest

from hmrkit.detectors.thinning import detect_thinned, usual_interval
from hmrkit.types import Detections

LENGTH = 13


def _image(level):
    return np.full((72, 72, 3), level, np.uint8)


def _clip(people_of, every, batch, levels=(128,) * LENGTH, numbers=range(LENGTH)):
    """Boxes of every frame, and the frames that were detected; an image's corner has its number."""
    frames = np.stack([_image(level) for level in levels])
    numbers, detected = list(numbers), []

    def detect(images, indices):
        detected.extend(indices)
        assert [int(image[0, 0, 0]) for image in images] == [levels[numbers.index(i)] for i in indices]
        return [people_of(i) for i in indices]

    batches = [(numbers[k : k + batch], frames[k : k + batch]) for k in range(0, len(numbers), batch)]
    found = list(detect_thinned(batches, detect, every, lambda n: (np.asarray(n) - n[0]) / 30.0))
    assert [index for index, _, _, _ in found] == numbers
    return {index: people for index, _, _, people in found}, sorted(detected)


def _people(*boxes):
    scores = np.array([score for _, score in boxes], np.float32)
    return Detections(np.array([box for box, _ in boxes], np.float32).reshape(-1, 4), scores)


def _walker(speed, score=0.9):
    return lambda i: _people(([10 + speed * i, 5, 40 + speed * i, 65], score))


@pytest.mark.parametrize("batch", [1, 2, 5, LENGTH])
def test_boxes_between_lie_on_the_way(batch):
    found, detected = _clip(_walker(0.5), 3, batch)
    assert detected == [0, 3, 6, 9, 12]
    for i, people in found.items():
        np.testing.assert_allclose(people.boxes_xyxy, _walker(0.5)(i).boxes_xyxy, atol=1e-5)
        assert people.scores.tolist() == pytest.approx([0.9])


def test_frames_that_are_missing_take_their_time():
    numbers = [0, 1, 5, 6, 7, 8, 9]
    found, detected = _clip(_walker(0.5), 3, 2, (128,) * 7, numbers)
    assert detected == [0, 6, 9]
    np.testing.assert_allclose(found[5].boxes_xyxy, _walker(0.5)(5).boxes_xyxy, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4, LENGTH])
@pytest.mark.parametrize(
    "people_of",
    [
        lambda i: _people(*[([10, 5, 40, 65], 0.9)] * (i >= 4)),  # enters
        lambda i: _people(*[([10, 5, 40, 65], 0.9)] * (i < 5)),  # leaves
        lambda i: _people(([0, 0, 20, 60], 0.9), *[([30 + i, 5, 60 + i, 65], 0.5)] * (i != 6)),  # hidden for a frame
        lambda i: _people(([10 + 9 * i, 5, 40 + 9 * i, 65], 0.9)),  # fast
    ],
)
def test_who_enters_leaves_or_is_fast_is_detected_in_every_frame(people_of, batch):
    found, detected = _clip(people_of, 3, batch)
    assert {4, 5} <= set(detected)
    for i in (3, 4, 5, 6):
        np.testing.assert_array_equal(found[i].boxes_xyxy, people_of(i).boxes_xyxy)


def test_nothing_is_interpolated_over_a_cut():
    levels = [60] * 5 + [220] * (LENGTH - 5)
    _, detected = _clip(lambda i: _people(([10, 5, 40, 65], 0.9)), 3, 4, levels)
    assert detected == [0, 3, 4, 5, 6, 9, 12]


def test_frames_after_the_last_detected_one_are_detected():
    _, detected = _clip(_walker(0.5), 5, 4)
    assert detected == [0, 5, 10, 11, 12]


def test_weak_boxes_that_are_in_one_frame_only_are_left_out_between():
    def people_of(i):
        return _people(([10, 5, 40, 65], 0.9), *[([50, 5, 60, 20], 0.2)] * (i % 2))

    found, detected = _clip(people_of, 3, 3)
    assert detected == [0, 3, 6, 9, 12]
    assert [len(found[i].scores) for i in range(4)] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("rate", "every"), [(10, 1), (23.9, 1), (24, 3), (25, 3), (30, 3), (50, 6), (60, 7), (120, 8), (240, 8)]
)
def test_about_nine_frames_a_second_are_detected_by_default(rate, every):
    assert usual_interval(rate) == every
