"""Soft-argmax: places as expectations under heatmaps (Sun et al. 2018, Integral human pose regression)."""

from __future__ import annotations

import torch
from torch import Tensor


def volume_softmax(volume: Tensor) -> Tensor:
    """Volumes (B,J,D,H,W) -> the same, each adding up to 1."""
    return volume.float().flatten(2).softmax(-1).unflatten(-1, volume.shape[2:])


def expected_cell(heat: Tensor) -> Tensor:
    """Mean cell x, y, z (B,J,3) under volumes (B,J,D,H,W) that add up to 1."""
    sums = heat.sum((2, 3)), heat.sum((2, 4)), heat.sum((3, 4))
    return torch.stack([(part * torch.arange(part.shape[-1], device=part.device)).sum(-1) for part in sums], -1)
