"""Non-maximum suppression in plain PyTorch: batches of frames, any number of boxes, no loop over either."""

from __future__ import annotations

import torch
from torch import Tensor


def box_overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes xyxy: (...,N,4) and (...,M,4) -> (...,N,M)."""
    low = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    intersection = (high - low).clamp_min(0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    other_area = (others[..., 2:] - others[..., :2]).prod(-1)
    union = area[..., :, None] + other_area[..., None, :] - intersection
    return intersection / union.clamp_min(1e-9)


def suppress_overlaps(boxes: Tensor, threshold: float) -> Tensor:
    """Which boxes (...,N,4), best first, remain (...,N) when each drops the worse ones that overlap it more.

    Gives what the usual greedy loop gives: a box stays unless a better box that itself stays overlaps it. The rule is
    applied to all boxes at once until nothing changes, which takes as many rounds as the longest chain of boxes
    that depend on one another, a handful in practice, instead of one round a box.
    """
    count = boxes.shape[-2]
    better = torch.ones(count, count, dtype=torch.bool, device=boxes.device).triu(1)
    drops = (box_overlaps(boxes, boxes) > threshold) & better
    keep = torch.ones(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    while True:
        updated = ~(drops & keep[..., :, None]).any(-2)
        if torch.equal(updated, keep):
            return keep
        keep = updated
