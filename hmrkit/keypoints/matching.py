"""Whose keypoints are these: people that an estimator found by itself, matched to the boxes of tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from hmrkit.keypoints import People


LEAST_OVERLAP = 0.2  # intersection over union below which two boxes are not the same person's


def box_overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Boxes (N,4) and (M,4) xyxy -> intersection over union (N,M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (first, second)]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9)


def box_of_points(points: np.ndarray, least_confidence: float = 0.0) -> np.ndarray:
    """Bounding boxes (N,4) of the points (N,K,3) that are seen; NaN where none is."""
    seen: np.ndarray = np.logical_and(points[..., 2] > least_confidence, np.isfinite(points).all(-1))
    low = np.where(seen[..., None], points[..., :2], np.inf).min(1)
    high = np.where(seen[..., None], points[..., :2], -np.inf).max(1)
    return np.where(seen.any(axis=1, keepdims=True), np.concatenate([low, high], 1), np.nan)


def match_people(points: np.ndarray, found: np.ndarray, boxes: Mapping[int, np.ndarray]) -> People:
    """Give each track the keypoints (N,K,3) whose box `found` (N,4) overlaps its own most, each used at most once.

    Tracks that get none are NaN with confidence 0.
    """
    missing = np.full(points.shape[1:], np.nan, np.float32)
    missing[:, 2] = 0
    people: People = {track_id: (missing.copy(), None) for track_id in boxes}
    if len(points) and boxes:
        ids = list(boxes)
        overlap = np.nan_to_num(box_overlap(np.stack([np.asarray(boxes[i], np.float64) for i in ids]), found))
        for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[row, column] >= LEAST_OVERLAP:
                people[ids[row]] = (points[column].astype(np.float32), None)
    return people
