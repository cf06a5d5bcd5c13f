"""MoveNet thunder on tracks: a square crop about each box, 2D only."""

from __future__ import annotations

import torch

from hmrkit.keypoints import KEYPOINTS
from hmrkit.keypoints.movenet import load_movenet
from hmrkit.keypoints.top_down import TopDownEstimator
from hmrkit.types import Camera
from hmrkit.weights import verify

NAME, SIZE = "movenet-thunder", (256, 256)


def load(
    argument: str, *, device: torch.device, dtype: torch.dtype, camera: Camera | None, max_crops: int
) -> TopDownEstimator:
    """Takes no argument."""
    sha256 = verify(KEYPOINTS[NAME].weights[0])
    return TopDownEstimator(NAME, load_movenet(device, dtype), SIZE, sha256, device, dtype, max_crops)
