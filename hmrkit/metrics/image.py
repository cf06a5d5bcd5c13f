"""Errors of 2D keypoints in pixels, against a box, a head or an object's area."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hmrkit.metrics.frames import Array, mean_known, tensor, tensors

COCO_SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89], np.float64) / 1000
"""Spread of COCO's 17 keypoints among annotators, in roots of the object's area (cocodataset.org)."""


def error_px_per_frame(predicted: Array, truth: Array, select: Array | None = None) -> np.ndarray:
    """`error_px` of every frame: points (...,K,2|3) px -> (...) px."""
    distance, known = _compare(predicted, truth, select)
    return torch.where(known, distance, torch.nan).nanmean(-1).cpu().numpy()


def error_px(predicted: Array, truth: Array, select: Array | None = None) -> float:
    """Mean distance of points (...,K,2) px from keypoints (...,K,2|3) px, px, >= 0, over all keypoints alike.

    Keypoints that are NaN or whose third number (confidence, visibility) is 0 are left out, and so are those that
    `select` (...,K) leaves out. MPII's invisible joints: keypoints (...,K,2) and ``select = is_visible == 0``.
    """
    distance, known = _compare(predicted, truth, select)
    return float(distance[known].nanmean())


def pck_2d_per_joint(
    predicted: Array, truth: Array, sizes: Array, threshold: float = 0.5, select: Array | None = None
) -> np.ndarray:
    """1 where a point (...,K,2) px hits its keypoint, 0 where it misses, NaN where none is known -> (...,K)."""
    distance, known = _compare(predicted, truth, select)
    hit = distance <= threshold * tensors(distance, sizes)[1][..., None]
    return torch.where(known, hit.double(), torch.nan).cpu().numpy()


def pck_2d(predicted: Array, truth: Array, sizes: Array, threshold: float = 0.5, select: Array | None = None) -> float:
    """Share in [0, 1] of points (...,K,2) px within `threshold` times `sizes` (...) px of their keypoints (...,K,2|3).

    PCKh@0.5 of MPII: `sizes` from `head_sizes` and 0.5. PCK@0.05 and @0.1 of HMR 2.0: the longer side of the true box.
    Pooled over all keypoints; a point that was not predicted is a miss. `select` as in `error_px`.
    """
    return mean_known(pck_2d_per_joint(predicted, truth, sizes, threshold, select))


def head_sizes(head_boxes: Array) -> np.ndarray:
    """MPII's reference length (...) px of head boxes (...,4) xyxy px: 0.6 times the box's diagonal."""
    box = tensor(head_boxes)
    return 0.6 * torch.linalg.vector_norm(box[..., 2:] - box[..., :2], dim=-1).cpu().numpy()


def oks(predicted: Array, truth: Array, areas: Array, sigmas: np.ndarray = COCO_SIGMAS) -> np.ndarray:
    """Object keypoint similarity of people who are known to belong together, in [0, 1] -> (...) (COCO).

    ``mean over visible keypoints of exp(-d^2 / (2 area (2 sigma)^2))``; points (...,K,2) px, keypoints (...,K,3) px
    with a visibility that counts above 0, `areas` (...) px^2, `sigmas` (K). NaN where no keypoint is visible.
    """
    distance, known = _compare(predicted, truth, None)
    _, spread, area = tensors(distance, 2 * np.asarray(sigmas), areas)
    close = torch.exp(-(distance**2) / (2 * spread**2 * area[..., None])).nan_to_num(0.0)  # not predicted: far away
    return torch.where(known, close, torch.nan).nanmean(-1).cpu().numpy()


def reprojection_error(projected: Array, keypoints: Array, box_heights: Array, min_confidence: float = 0.3) -> float:
    """Median distance of projected points (T,K,2) px from keypoints (T,K,2|3) px over box height (T,) px, >= 0.

    0.05 is 5 % of the box height. Keypoints below `min_confidence` (third column) and missing ones are left out.
    """
    p, k, heights = tensors(projected, keypoints, box_heights)
    if p.shape[:-1] != k.shape[:-1]:
        raise ValueError(f"expected points and keypoints of one shape, got {tuple(p.shape)} and {tuple(k.shape)}")
    distance = (p[..., :2] - k[..., :2]).norm(dim=-1) / heights[..., None]
    if k.shape[-1] == 3:
        distance = torch.where(k[..., 2] >= min_confidence, distance, torch.nan)
    return float(distance.nanmedian())


def _compare(predicted: Array, truth: Array, select: Array | None) -> tuple[Tensor, Tensor]:
    """Distances (...,K) in px, NaN where one of both is missing, and which keypoints count, (...,K) bool."""
    p, t = tensors(predicted, truth)
    if p.shape[:-1] != t.shape[:-1]:
        raise ValueError(f"expected points and keypoints of one shape, got {tuple(p.shape)} and {tuple(t.shape)}")
    known = t[..., :2].isfinite().all(-1)
    if t.shape[-1] == 3:
        known &= t[..., 2] > 0
    if select is not None:
        known &= tensors(t, select)[1] > 0
    return torch.linalg.vector_norm(p[..., :2] - t[..., :2], dim=-1), known
