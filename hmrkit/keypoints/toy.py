"""An estimator without weights: a mannequin that stands in each box, with depth. For tests of the whole chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.types import Camera

if TYPE_CHECKING:
    from hmrkit.keypoints import People

HEIGHT_M = 1.7
# Right of the middle, down from the crown, toward the camera; in heights. The mannequin faces the camera, so that its
# left side is on the image's right.
_LEFT = {
    "eye_inner": (0.01, 0.06, 0.06),
    "eye": (0.02, 0.06, 0.06),
    "eye_outer": (0.03, 0.06, 0.055),
    "ear": (0.045, 0.07, 0.0),
    "mouth": (0.015, 0.1, 0.06),
    "shoulder": (0.1, 0.18, 0.0),
    "elbow": (0.16, 0.35, 0.0),
    "wrist": (0.19, 0.49, 0.02),
    "pinky": (0.195, 0.54, 0.02),
    "index": (0.19, 0.55, 0.03),
    "thumb": (0.18, 0.52, 0.04),
    "hip": (0.055, 0.5, 0.0),
    "knee": (0.06, 0.74, 0.01),
    "ankle": (0.06, 0.95, -0.01),
    "heel": (0.06, 0.98, -0.03),
    "foot_index": (0.065, 0.99, 0.08),
}


def _mannequin() -> np.ndarray:
    """(33,3) heights: x right, y down, z away from the camera; from the crown."""
    rows = []
    for name in BLAZEPOSE_33.joints:
        side, _, part = name.partition("_")
        x, y, toward = (0.0, 0.08, 0.075) if name == "nose" else _LEFT[part]
        rows.append([-x if side == "right" else x, y, -toward])
    return np.array(rows, np.float32)


class ToyEstimator:
    """See `hmrkit.keypoints.KeypointEstimator`."""

    name = "toy"
    skeleton = BLAZEPOSE_33
    has_depth = True
    weights_sha256 = ""

    def __init__(self) -> None:
        self.mannequin = _mannequin()
        root = self.mannequin[BLAZEPOSE_33.indices("left_hip", "right_hip")].mean(0)
        self.joints = (HEIGHT_M * (self.mannequin - root)).astype(np.float32)

    def reset(self, camera: Camera | None = None) -> None:
        """Nothing is kept between frames."""

    def __call__(
        self, frames: torch.Tensor, frame_indices: Sequence[int], boxes: Sequence[Mapping[int, np.ndarray]]
    ) -> list[People]:
        return [{i: (self._points(box), self.joints.copy()) for i, box in here.items()} for here in boxes]

    def _points(self, box: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = (float(side) for side in box)
        xy = np.array([(x0 + x1) / 2, y0]) + (y1 - y0) * self.mannequin[:, :2]
        return np.column_stack([xy, np.ones(len(xy))]).astype(np.float32)


def load(argument: str, *, device: torch.device, dtype: torch.dtype, camera: Camera | None, max_crops: int):
    """Takes no argument."""
    return ToyEstimator()
