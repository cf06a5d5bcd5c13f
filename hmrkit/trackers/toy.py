"""Tracker for tests: each box goes to the previous frame's box that it overlaps most, best pair first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hmrkit.crops import box_iou
from hmrkit.types import Detections


def associate(detections: Sequence[Detections], times: np.ndarray, step_s: float) -> list[np.ndarray]:
    """Tracklet ids (N,) of every frame's boxes; a tracklet ends with the first frame that misses it."""
    result: list[np.ndarray] = []
    boxes, ids, unused = np.zeros((0, 4), np.float32), np.zeros(0, int), 0
    for people in detections:
        overlap = box_iou(boxes, people.boxes_xyxy)
        new = np.full(len(people.boxes_xyxy), -1)
        while overlap.size and overlap.max() > 0.2:
            row, column = np.unravel_index(overlap.argmax(), overlap.shape)
            new[column] = ids[row]
            overlap[row], overlap[:, column] = 0, 0
        fresh = new < 0
        new[fresh] = unused + np.arange(fresh.sum())
        unused += int(fresh.sum())
        boxes, ids = people.boxes_xyxy, new
        result.append(new)
    return result
