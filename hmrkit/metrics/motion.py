"""Errors over time: acceleration, jitter, feet that slide, and trajectories in the world. One sequence at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hmrkit.geometry import rigid_align
from hmrkit.metrics.frames import Array, mean_known, same_shape, tensor, tensors


def accel_error_per_frame(predicted: Array, truth: Array, fps: float | None = None) -> np.ndarray:
    """`accel_error` at frames 1 ... T-2 of joints (T,J,3) m -> (T-2). NaN where one of the three frames is missing."""
    same_shape(predicted, truth)
    p, t = tensors(predicted, truth)
    error = p - t
    length = torch.linalg.vector_norm(error[:-2] - 2 * error[1:-1] + error[2:], dim=-1)
    return _array(length.nanmean(-1)) * (1000 if fps is None else fps**2)


def accel_error(predicted: Array, truth: Array, fps: float | None = None) -> float:
    """Mean length of the difference of accelerations of joints (T,J,3) m (HMMR, Kanazawa et al. 2019), >= 0.

    Accelerations are ``x[t-1] - 2 x[t] + x[t+1]``: in mm per frame squared, as VIBE prints it, or with `fps` in m/s^2,
    as WHAM does (which also drops each sequence's first and last value). NaN below three frames.
    """
    return mean_known(accel_error_per_frame(predicted, truth, fps))


def jitter_per_frame(joints: Array, fps: float, still: Sequence[int] = ()) -> np.ndarray:
    """`jitter` of joints (T,J,3) m -> (T-3)."""
    x = tensor(joints).clone()
    x[:, list(still)] = 0
    jerk = torch.linalg.vector_norm(x[3:] - 3 * x[2:-1] + 3 * x[1:-2] - x[:-3], dim=-1)
    return _array(jerk.nanmean(-1)) * fps**3


def jitter(joints: Array, fps: float, still: Sequence[int] = ()) -> float:
    """Mean length of the jerk (third derivative) of joints (T,J,3) m, m/s^3, >= 0 (PIP, Yi et al. 2022).

    WHAM and EMDB print a tenth of it. The joints `still` count as not moving, yet they count: EMDB's code sets pelvis,
    feet, neck, head, wrists and hands to zero before it averages over all 24.
    """
    return mean_known(jitter_per_frame(joints, fps, still))


def foot_sliding(feet: Array, fps: float, contact: Array | None = None, up: int = 1, height_m: float = 0.05) -> float:
    """Mean speed of the feet across the floor while they stand on it, m/s, >= 0; `feet` (T,F,3) m.

    `contact` (T,F) says when a foot stands; without, it stands where both frames of a step lie within `height_m` of the
    lowest point of that foot in the clip, `up` being the axis that points up. NaN where no foot ever stands.
    """
    x = tensor(feet)
    across = [axis for axis in range(3) if axis != up]
    speed = (x[1:] - x[:-1])[..., across].norm(dim=-1) * fps
    if contact is None:
        height = x[..., up]
        standing = height <= torch.where(height.isfinite(), height, torch.inf).amin(0) + height_m
    else:
        standing = tensor(contact) > 0
    return float(torch.where(standing[1:] & standing[:-1], speed, torch.nan).nanmean())


def foot_sliding_mm_per_frame(predicted: Array, truth: Array, contact_m: float = 0.01) -> np.ndarray:
    """`foot_sliding_mm` of points of the feet (T,F,3) m -> (T-1,F) mm; NaN where the true point is not at rest."""
    same_shape(predicted, truth)
    step, true_step = (torch.linalg.vector_norm(x[1:] - x[:-1], dim=-1) for x in tensors(predicted, truth))
    return _array(torch.where(true_step < contact_m, step * 1000, torch.nan))


def foot_sliding_mm(predicted: Array, truth: Array, contact_m: float = 0.01) -> float:
    """Mean way per frame of points of the feet (T,F,3) m while the true ones rest, mm, >= 0 (WHAM's FS).

    A true point rests in a step of less than `contact_m`. WHAM takes SMPL's vertices 3216, 3387, 6617 and 6787.
    """
    return mean_known(foot_sliding_mm_per_frame(predicted, truth, contact_m))


def w_mpjpe_mm_per_frame(predicted: Array, truth: Array, segment: int = 100) -> np.ndarray:
    """`w_mpjpe_mm` of joints (T,J,3) m in the world -> (T) mm."""
    return _world_error(predicted, truth, segment, aligned_frames=2)


def w_mpjpe_mm(predicted: Array, truth: Array, segment: int = 100) -> float:
    """MPJPE in mm of joints (T,J,3) in the world, each 100 frames aligned by their first two (SLAHMR, WHAM).

    The alignment moves, rotates and scales. The last segment may be short, as in WHAM. Frames that are not to be judged
    have to be left out before: segments are counted in the frames given.
    """
    return mean_known(w_mpjpe_mm_per_frame(predicted, truth, segment))


def wa_mpjpe_mm_per_frame(predicted: Array, truth: Array, segment: int = 100) -> np.ndarray:
    """`wa_mpjpe_mm` of joints (T,J,3) m in the world -> (T) mm."""
    return _world_error(predicted, truth, segment, aligned_frames=segment)


def wa_mpjpe_mm(predicted: Array, truth: Array, segment: int = 100) -> float:
    """As `w_mpjpe_mm`, each 100 frames aligned by all of their joints."""
    return mean_known(wa_mpjpe_mm_per_frame(predicted, truth, segment))


def rte_percent_per_frame(predicted: Array, truth: Array) -> np.ndarray:
    """`rte_percent` of trajectories (T,3) m -> (T) percent."""
    same_shape(predicted, truth)
    p, t = tensors(predicted, truth)
    known = (p.isfinite() & t.isfinite()).all(-1)
    p0, t0 = torch.where(known[:, None], p, 0.0), torch.where(known[:, None], t, 0.0)
    rotation, _, translation = rigid_align(p0, t0, known.to(p.dtype))
    path = t[known]
    length = torch.linalg.vector_norm(path[1:] - path[:-1], dim=-1).sum()
    return _array(torch.linalg.vector_norm(p @ rotation.mT + translation - t, dim=-1) / length * 100)


def rte_percent(predicted: Array, truth: Array) -> float:
    """Mean error of the root's trajectory (T,3) m after one rigid alignment, in percent of the true way (WHAM's RTE).

    WHAM compares the body's `transl`, GVHMR and TRAM the pelvis. Not scaled; >= 0, without an upper bound.
    """
    return mean_known(rte_percent_per_frame(predicted, truth))


def _world_error(predicted: Array, truth: Array, segment: int, aligned_frames: int) -> np.ndarray:
    """Error (T) in mm of joints (T,J,3), each segment aligned by its first frames; all segments at once."""
    same_shape(predicted, truth)
    frames, joints = predicted.shape[:2]
    count = -(-frames // segment)
    p, t = (_filled(x, count * segment).reshape(count, segment, joints, 3) for x in tensors(predicted, truth))
    known = (p.isfinite() & t.isfinite()).all(-1)
    used = known & (torch.arange(segment, device=p.device) < aligned_frames)[:, None]
    p0, t0 = (torch.where(known[..., None], x, 0.0).flatten(1, 2) for x in (p, t))
    rotation, scale, translation = rigid_align(p0, t0, used.flatten(1).to(p.dtype), scale=True)
    aligned = scale[:, None, None, None] * p @ rotation.mT[:, None] + translation[:, None, None]
    aligned[used.sum((-1, -2)) < 3] = torch.nan
    return _array(torch.linalg.vector_norm(aligned - t, dim=-1).nanmean(-1).flatten()[:frames]) * 1000


def _filled(values: Tensor, length: int) -> Tensor:
    """Values (T,...) with NaN appended up to `length`."""
    return torch.cat([values, values.new_full((length - len(values), *values.shape[1:]), torch.nan)])


def _array(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()
