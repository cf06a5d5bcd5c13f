"""Accuracy figures as the field defines them: pure functions of NumPy arrays or tensors that return a float.

Points are metres and results millimetres where the name ends in `_mm`. Lower is better but for `pck` and `auc`.
Points whose ground truth is NaN are left out; with none left the result is NaN. Shapes that differ raise ValueError.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hmrkit.geometry import matrix_to_quaternion, rigid_align

Array = np.ndarray | Tensor


def mpjpe_mm(predicted: Array, truth: Array, root: int | None = 0) -> float:
    """Mean per joint position error of joints (...,J,3) m, mm, >= 0: ``mean |p - t|``.

    Both poses are first moved so that joint `root` lies in the origin; None compares them where they are.
    """
    p, t = _pair(predicted, truth)
    if root is not None:
        p, t = p - p[..., root : root + 1, :], t - t[..., root : root + 1, :]
    return _mean((p - t).norm(dim=-1)) * 1000


def pve_mm(
    predicted: Array, truth: Array, predicted_root: Array | None = None, truth_root: Array | None = None
) -> float:
    """Mean per vertex error (MPVE) of meshes (...,V,3) m, mm, >= 0: ``mean |v - v'|``.

    Give both roots (...,3), usually the pelvis, to compare root-relative meshes as benchmarks do; without, in place.
    """
    p, t = _pair(predicted, truth)
    if (predicted_root is None) != (truth_root is None):
        raise ValueError("expected both roots or neither")
    if predicted_root is not None and truth_root is not None:
        p, t = p - _tensor(predicted_root)[..., None, :], t - _tensor(truth_root)[..., None, :]
    return _mean((p - t).norm(dim=-1)) * 1000


def pa_mpjpe_mm(predicted: Array, truth: Array) -> float:
    """MPJPE in mm after each pose (...,J,3) is moved, turned and scaled onto its truth in the least squares sense.

    "Reconstruction error": 0 for any two similar poses. Poses with fewer than three known joints are left out.
    """
    p, t = _pair(predicted, truth)
    known = t.isfinite().all(-1) & p.isfinite().all(-1)
    keep = known.sum(-1) >= 3
    if not keep.any():
        return float("nan")
    p, t, known = p[keep], t[keep], known[keep]
    p, t = (torch.where(known[..., None], x, 0.0) for x in (p, t))
    rotation, scale, translation = rigid_align(p, t, known.to(p.dtype), scale=True)
    aligned = scale[..., None, None] * p @ rotation.mT + translation[..., None, :]
    return _mean(torch.where(known, (aligned - t).norm(dim=-1), torch.nan)) * 1000


def n_mpjpe_mm(predicted: Array, truth: Array, root: int = 0) -> float:
    """MPJPE in mm after each root-relative pose (...,J,3) is scaled, not turned, onto its truth (least squares)."""
    p, t = _pair(predicted, truth)
    p, t = p - p[..., root : root + 1, :], t - t[..., root : root + 1, :]
    known = (p.isfinite() & t.isfinite()).all(-1, keepdim=True)
    p0, t0 = torch.where(known, p, 0.0), torch.where(known, t, 0.0)
    scale = (p0 * t0).sum((-1, -2), keepdim=True) / (p0 * p0).sum((-1, -2), keepdim=True).clamp_min(1e-12)
    return _mean((scale * p - t).norm(dim=-1)) * 1000


def accel_error(predicted: Array, truth: Array, fps: float | None = None) -> float:
    """Mean length of the difference of accelerations of joints (T,J,3) m (HMMR, Kanazawa et al. 2019), >= 0.

    Accelerations are ``x[t-1] - 2 x[t] + x[t+1]``: in mm per frame squared, as papers print it, or with `fps` in m/s^2.
    NaN below three frames.
    """
    p, t = _pair(predicted, truth)
    error = p - t
    length = (error[:-2] - 2 * error[1:-1] + error[2:]).norm(dim=-1)
    return _mean(length) * (1000 if fps is None else fps**2)


def pck(predicted: Array, truth: Array, threshold_mm: float = 150.0, root: int | None = 0) -> float:
    """Share in [0, 1] of joints (...,J,3) m within `threshold_mm` of the truth (3DPCK, Mehta et al. 2017)."""
    return _share_within(_distances_mm(predicted, truth, root), np.array([threshold_mm]))


def auc(predicted: Array, truth: Array, root: int | None = 0) -> float:
    """Area under the curve of `pck` over the thresholds 0, 5, ... 150 mm, in [0, 1] (Mehta et al. 2017)."""
    return _share_within(_distances_mm(predicted, truth, root), np.linspace(0, 150, 31))


def mpjae_deg(predicted: Array, truth: Array) -> float:
    """Mean per joint angular error of rotation matrices (...,J,3,3), degrees in [0, 180]: angle of ``P^T T`` (3DPW).

    The 3DPW protocol compares global rotations; local ones can be given as well.
    """
    p, t = _pair(predicted, truth)
    known = (p.isfinite() & t.isfinite()).all(-1).all(-1)
    quaternion = matrix_to_quaternion((p.mT @ t)[known])
    angle = 2 * torch.atan2(quaternion[..., 1:].norm(dim=-1), quaternion[..., 0])
    return float(torch.rad2deg(angle).mean())


def reprojection_error(projected: Array, keypoints: Array, box_heights: Array, min_confidence: float = 0.3) -> float:
    """Median distance of projected points (T,K,2) px from keypoints (T,K,2|3) px over box height (T,) px, >= 0.

    0.05 is 5 % of the box height. Keypoints below `min_confidence` (third column) and missing ones are left out.
    """
    p, k = _tensor(projected), _tensor(keypoints)
    if p.shape[:-1] != k.shape[:-1]:
        raise ValueError(f"expected points and keypoints of one shape, got {tuple(p.shape)} and {tuple(k.shape)}")
    distance = (p[..., :2] - k[..., :2]).norm(dim=-1) / _tensor(box_heights)[..., None]
    if k.shape[-1] == 3:
        distance = torch.where(k[..., 2] >= min_confidence, distance, torch.nan)
    return float(distance.nanmedian())


def foot_sliding(feet: Array, fps: float, contact: Array | None = None, up: int = 1, height_m: float = 0.05) -> float:
    """Mean speed of the feet across the floor while they stand on it, m/s, >= 0; `feet` (T,F,3) m.

    `contact` (T,F) says when a foot stands; without, it stands where both frames of a step lie within `height_m` of the
    lowest point of that foot in the clip, `up` being the axis that points up. NaN where no foot ever stands.
    """
    x = _tensor(feet)
    across = [axis for axis in range(3) if axis != up]
    speed = (x[1:] - x[:-1])[..., across].norm(dim=-1) * fps
    if contact is None:
        height = x[..., up]
        standing = height <= torch.where(height.isfinite(), height, torch.inf).amin(0) + height_m
    else:
        standing = _tensor(contact) > 0
    return _mean(torch.where(standing[1:] & standing[:-1], speed, torch.nan))


def _tensor(values: Array) -> Tensor:
    return torch.as_tensor(values).detach().to("cpu", torch.float64)


def _pair(predicted: Array, truth: Array) -> tuple[Tensor, Tensor]:
    p, t = _tensor(predicted), _tensor(truth)
    if p.shape != t.shape:
        raise ValueError(f"expected prediction and truth of one shape, got {tuple(p.shape)} and {tuple(t.shape)}")
    return p, t


def _mean(values: Tensor) -> float:
    return float(values.nanmean())


def _distances_mm(predicted: Array, truth: Array, root: int | None) -> Tensor:
    p, t = _pair(predicted, truth)
    if root is not None:
        p, t = p - p[..., root : root + 1, :], t - t[..., root : root + 1, :]
    known = t.isfinite().all(-1)
    distance = (p - t).norm(dim=-1)[known] * 1000
    return torch.where(distance.isfinite(), distance, torch.inf)  # a joint that was not predicted is a miss


def _share_within(distances: Tensor, thresholds: np.ndarray) -> float:
    return float((distances[:, None] <= torch.from_numpy(thresholds)).double().mean())
