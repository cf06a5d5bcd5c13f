"""Errors of 3D points, one frame at a time: MPJPE and its aligned forms, errors of vertices, PCK and AUC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hmrkit.geometry import rigid_align
from hmrkit.metrics.frames import Array, Root, mean_known, per_frame, rooted, same_shape

if TYPE_CHECKING:
    from hmrkit.body import Body


def mpjpe_mm_per_frame(predicted: Array, truth: Array, root: Root | None = 0) -> np.ndarray:
    """`mpjpe_mm` of every frame: joints (...,J,3) m -> (...) mm."""
    same_shape(predicted, truth)
    return per_frame(lambda p, t: _error_mm(rooted(p, root), rooted(t, root)), 2, predicted, truth)


def mpjpe_mm(predicted: Array, truth: Array, root: Root | None = 0) -> float:
    """Mean per joint position error of joints (...,J,3) m, mm, >= 0: ``mean |p - t|``.

    Both poses are first moved so that joint `root`, or the middle of several, lies in the origin; None compares them
    where they are.
    """
    return mean_known(mpjpe_mm_per_frame(predicted, truth, root))


def pa_mpjpe_mm_per_frame(predicted: Array, truth: Array) -> np.ndarray:
    """`pa_mpjpe_mm` of every frame: joints (...,J,3) m -> (...) mm."""
    same_shape(predicted, truth)
    return per_frame(lambda p, t: _error_mm(_moved(p, *similarity(p, t)), t), 2, predicted, truth)


def pa_mpjpe_mm(predicted: Array, truth: Array) -> float:
    """MPJPE in mm after each pose (...,J,3) is moved, rotated and scaled onto its truth in the least squares sense.

    "Reconstruction error" (Umeyama 1991; no reflection): 0 for any two similar poses. NaN for poses with fewer than
    three known joints. A pose with all joints in one point, as the 3DPW challenge has for people who were not found,
    becomes the middle of its truth.
    """
    return mean_known(pa_mpjpe_mm_per_frame(predicted, truth))


def procrustes_aligned(predicted: Array, truth: Array) -> np.ndarray:
    """Poses (...,J,3) m as PA-MPJPE compares them with their truths, float64: give it to `pck` for PA-PCK."""
    same_shape(predicted, truth)
    return per_frame(lambda p, t: _moved(p, *similarity(p, t)), 2, predicted, truth)


def n_mpjpe_mm_per_frame(predicted: Array, truth: Array, root: Root = 0) -> np.ndarray:
    """`n_mpjpe_mm` of every frame: joints (...,J,3) m -> (...) mm."""
    same_shape(predicted, truth)

    def measure(p: Tensor, t: Tensor) -> Tensor:
        p, t = rooted(p, root), rooted(t, root)
        known = (p.isfinite() & t.isfinite()).all(-1, keepdim=True)
        p0, t0 = torch.where(known, p, 0.0), torch.where(known, t, 0.0)
        scale = (p0 * t0).sum((-1, -2), keepdim=True) / (p0 * p0).sum((-1, -2), keepdim=True).clamp_min(1e-12)
        return _error_mm(scale * p, t)

    return per_frame(measure, 2, predicted, truth)


def n_mpjpe_mm(predicted: Array, truth: Array, root: Root = 0) -> float:
    """MPJPE in mm after each root-relative pose (...,J,3) is scaled, not rotated, onto its truth (least squares).

    Rhodin et al. 2018; VideoPose3D's protocol 3.
    """
    return mean_known(n_mpjpe_mm_per_frame(predicted, truth, root))


def pve_mm_per_frame(
    predicted: Array, truth: Array, predicted_root: Array | None = None, truth_root: Array | None = None
) -> np.ndarray:
    """`pve_mm` of every frame: vertices (...,V,3) m, roots (...,3) m -> (...) mm."""
    same_shape(predicted, truth)
    if predicted_root is None and truth_root is None:
        return per_frame(_error_mm, 2, predicted, truth)
    if predicted_root is None or truth_root is None:
        raise ValueError("expected both roots or neither")
    return per_frame(
        lambda p, t, a, b: _error_mm(p - a[:, None], t - b[:, None]), 2, predicted, truth, predicted_root, truth_root
    )


def pve_mm(
    predicted: Array, truth: Array, predicted_root: Array | None = None, truth_root: Array | None = None
) -> float:
    """Mean per vertex error (MPVE, MVE) of meshes (...,V,3) m, mm, >= 0: ``mean |v - v'|``.

    Three conventions share the name. In place, as PyMAF, PARE and VIBE compare meshes posed without translation: give
    no roots. Root-aligned by the pelvis (HybrIK, GLNet) or by the middle of both hips (WHAM, EMDB): give the points
    (...,3) that `root_point` takes from each mesh's own joints.
    """
    return mean_known(pve_mm_per_frame(predicted, truth, predicted_root, truth_root))


def pa_pve_mm_per_frame(predicted: Array, truth: Array, predicted_joints: Array, truth_joints: Array) -> np.ndarray:
    """`pa_pve_mm` of every frame: vertices (...,V,3) m, joints (...,J,3) m -> (...) mm."""
    same_shape(predicted, truth)
    same_shape(predicted_joints, truth_joints)
    return per_frame(
        lambda p, t, a, b: _error_mm(_moved(p, *similarity(a, b)), t),
        2,
        predicted,
        truth,
        predicted_joints,
        truth_joints,
    )


def pa_pve_mm(predicted: Array, truth: Array, predicted_joints: Array, truth_joints: Array) -> float:
    """`pve_mm` after each mesh is moved, rotated and scaled as Procrustes moves its joints (EMDB's MVE-PA)."""
    return mean_known(pa_pve_mm_per_frame(predicted, truth, predicted_joints, truth_joints))


def pve_s_mm_per_frame(
    body: Body, predicted_betas: Array, truth_betas: Array, truth_body: Body | None = None
) -> np.ndarray:
    """`pve_s_mm` of every frame: betas (N,10) -> (N) mm."""
    same_shape(predicted_betas, truth_betas)
    other = truth_body or body
    return per_frame(
        lambda p, t: _error_mm(body(betas=p).vertices.double(), other(betas=t).vertices.double()),
        1,
        predicted_betas,
        truth_betas,
        points=body.num_vertices,
    )


def pve_s_mm(body: Body, predicted_betas: Array, truth_betas: Array, truth_body: Body | None = None) -> float:
    """`pve_mm` of shape alone (PVE-S, DaNet): vertices of betas (N,10), both bodies in the rest pose, in place.

    `truth_body` is the body of the truth's gender where it is another one.
    """
    return mean_known(pve_s_mm_per_frame(body, predicted_betas, truth_betas, truth_body))


def pve_p_mm_per_frame(body: Body, predicted_rotations: Array, truth_rotations: Array) -> np.ndarray:
    """`pve_p_mm` of every frame: rotations (N,24,3,3) -> (N) mm."""
    same_shape(predicted_rotations, truth_rotations)
    return per_frame(
        lambda p, t: _error_mm(*(body(r[:, 0], r[:, 1:]).vertices.double() for r in (p, t))),
        3,
        predicted_rotations,
        truth_rotations,
        points=body.num_vertices,
    )


def pve_p_mm(body: Body, predicted_rotations: Array, truth_rotations: Array) -> float:
    """`pve_mm` of pose alone (PVE-P, DaNet): local rotations (N,24,3,3), root first, both with the mean shape."""
    return mean_known(pve_p_mm_per_frame(body, predicted_rotations, truth_rotations))


def pck_per_frame(predicted: Array, truth: Array, threshold_mm: float = 150.0, root: Root | None = 0) -> np.ndarray:
    """`pck` of every frame: joints (...,J,3) m -> (...) in [0, 1]."""
    return _share_per_frame(predicted, truth, np.array([threshold_mm]), np.ones(1), root)


def pck(predicted: Array, truth: Array, threshold_mm: float = 150.0, root: Root | None = 0) -> float:
    """Share in [0, 1] of joints (...,J,3) m within `threshold_mm` of the truth (3DPCK, Mehta et al. 2017).

    3DPW's challenge: 50 mm, and times 100. A joint that was not predicted is a miss.
    """
    return mean_known(pck_per_frame(predicted, truth, threshold_mm, root))


def auc_per_frame(
    predicted: Array,
    truth: Array,
    root: Root | None = 0,
    thresholds_mm: np.ndarray | None = None,
    trapezoid: bool = False,
) -> np.ndarray:
    """`auc` of every frame: joints (...,J,3) m -> (...) in [0, 1]."""
    thresholds = np.linspace(0, 150, 31) if thresholds_mm is None else np.asarray(thresholds_mm, np.float64)
    weights = np.ones(len(thresholds))
    if trapezoid:
        steps = np.diff(thresholds)
        weights = (np.append(steps, 0) + np.append(0, steps)) / 2
    return _share_per_frame(predicted, truth, thresholds, weights, root)


def auc(
    predicted: Array,
    truth: Array,
    root: Root | None = 0,
    thresholds_mm: np.ndarray | None = None,
    trapezoid: bool = False,
) -> float:
    """Area under the curve of `pck` over rising thresholds, in [0, 1].

    By default the mean over 0, 5, ... 150 mm (Mehta et al. 2017). 3DPW's challenge integrates the curve drawn through
    0, 1, ... 199 mm: ``thresholds_mm=np.arange(200), trapezoid=True``.
    """
    return mean_known(auc_per_frame(predicted, truth, root, thresholds_mm, trapezoid))


def coverage(predicted: Array, truth: Array) -> float:
    """Share in [0, 1] of the known points (...,3) of the truth that were predicted at all: what means leave out."""
    same_shape(predicted, truth)
    found, known = (torch.as_tensor(x).isfinite().all(-1) for x in (predicted, truth))
    return float(found.to(known.device)[known].double().mean())


def similarity(predicted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation (N,3,3), scale (N) and translation (N,3) that take poses (N,J,3) onto their truths, least squares.

    Joints that either pose lacks have no say; all NaN where fewer than three are left.
    """
    known = (predicted.isfinite() & truth.isfinite()).all(-1)
    p, t = (torch.where(known[..., None], x, 0.0) for x in (predicted, truth))
    rotation, scale, translation = rigid_align(p, t, known.to(p.dtype), scale=True)
    unknown = known.sum(-1) < 3
    rotation[unknown], scale[unknown], translation[unknown] = torch.nan, torch.nan, torch.nan
    return rotation, scale, translation


def _moved(points: Tensor, rotation: Tensor, scale: Tensor, translation: Tensor) -> Tensor:
    return scale[..., None, None] * points @ rotation.mT + translation[..., None, :]


def _error_mm(predicted: Tensor, truth: Tensor) -> Tensor:
    return torch.linalg.vector_norm(predicted - truth, dim=-1).nanmean(-1) * 1000


def _share_per_frame(
    predicted: Array, truth: Array, thresholds: np.ndarray, weights: np.ndarray, root: Root | None
) -> np.ndarray:
    """Weight of the thresholds that a joint meets over that of all, mean over the joints: (...,J,3) m -> (...)."""
    same_shape(predicted, truth)
    # A distance meets all thresholds from a place in the list on; their weights, summed up once from the end.
    rest = torch.from_numpy(np.append(np.cumsum(weights[::-1])[::-1], 0.0) / weights.sum())
    limits = torch.from_numpy(np.asarray(thresholds, np.float64))

    def measure(p: Tensor, t: Tensor) -> Tensor:
        p, t = rooted(p, root), rooted(t, root)
        distance = torch.linalg.vector_norm(p - t, dim=-1) * 1000
        missed = torch.where(distance.isfinite(), distance, torch.inf)
        met = rest.to(p.device)[torch.searchsorted(limits.to(p.device), missed)]
        return torch.where(t.isfinite().all(-1), met, torch.nan).nanmean(-1)

    return per_frame(measure, 2, predicted, truth)
