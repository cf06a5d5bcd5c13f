"""Suppression of all boxes at once equals the greedy loop that everybody writes."""

from __future__ import annotations

import pytest
import torch

from hmrkit.detectors.nms import box_overlaps, suppress_overlaps


def greedy(boxes: torch.Tensor, threshold: float) -> torch.Tensor:
    keep: list[int] = []
    for i, box in enumerate(boxes):
        if all(box_overlaps(box[None], boxes[j][None]).item() <= threshold for j in keep):
            keep.append(i)
    return torch.isin(torch.arange(len(boxes)), torch.tensor(keep))


@pytest.mark.parametrize("threshold", [0.1, 0.45, 0.65])
def test_equals_the_greedy_loop_frame_by_frame(rng, threshold: float) -> None:
    low = torch.rand(4, 60, 2, generator=rng) * 60
    boxes = torch.cat([low, low + 10 + 40 * torch.rand(4, 60, 2, generator=rng)], -1)
    kept = suppress_overlaps(boxes, threshold)
    assert 0 < kept.sum() < kept.numel()
    assert torch.equal(kept, torch.stack([greedy(frame, threshold) for frame in boxes]))


def test_a_dropped_box_drops_nobody() -> None:
    """A long chain, each box overlapping its neighbours only: every other one stays."""
    x = torch.arange(41.0) * 3
    boxes = torch.stack([x, torch.zeros(41), x + 10, torch.ones(41)], -1)
    assert torch.equal(suppress_overlaps(boxes, 0.5), torch.arange(41) % 2 == 0)


def test_two_people_side_by_side_stay_and_the_same_person_twice_does_not() -> None:
    boxes = torch.tensor([[0.0, 0, 40, 100], [2, 1, 41, 99], [20, 0, 60, 100]])
    assert suppress_overlaps(boxes, 0.65).tolist() == [True, False, True]


def test_overlaps_are_those_of_the_drawn_boxes() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 2, 6, 6], [4, 0, 8, 4], [1, 1, 1, 3]])
    expected = torch.tensor([[1, 4 / 28, 0, 0], [4 / 28, 1, 4 / 28, 0], [0, 4 / 28, 1, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(box_overlaps(boxes, boxes), expected)


def test_no_boxes() -> None:
    assert suppress_overlaps(torch.zeros(2, 0, 4), 0.5).shape == (2, 0)
