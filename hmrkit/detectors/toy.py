"""A detector without weights: one person where the image differs from its border. For tests of the whole chain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hmrkit.types import Detections

CONTRAST = 48  # grey levels


class ToyDetector:
    """See `hmrkit.detectors.Detector`."""

    name = "toy"
    weights_sha256 = ""

    def __call__(self, frames: torch.Tensor, frame_indices: Sequence[int]) -> list[Detections]:
        return [self._person(frame.float().mean(-1)) for frame in frames]

    def _person(self, grey: torch.Tensor) -> Detections:
        border = torch.cat([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).median()
        rows, columns = torch.nonzero((grey - border).abs() > CONTRAST, as_tuple=True)
        if len(rows) == 0:
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Detections(np.array([[float(side) for side in box]], np.float32), np.array([0.9], np.float32))


def load(
    argument: str, *, device: torch.device, dtype: torch.dtype, size: int | None, score_threshold: float
) -> ToyDetector:
    """Takes no argument."""
    return ToyDetector()
