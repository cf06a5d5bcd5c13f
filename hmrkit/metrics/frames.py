"""What every metric does with its input: check it, and measure it frame by frame in float64 without a large copy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray | Tensor
AnyArray = TypeVar("AnyArray", np.ndarray, Tensor)
Root = int | Sequence[int]
"""A joint, or several whose middle counts (3DPW: joint 0; VIBE: the middle of both hips)."""

# Points measured at once: on a CPU as many as stay in its cache, on a GPU enough to keep it busy.
_POINTS = {"cpu": 2**15}
_POINTS_GPU = 2**23


def tensors(*arrays: Array) -> list[Tensor]:
    """`arrays` as float64 on the device of the first (on the CPU where that has no float64)."""
    found = [_detached(a) for a in arrays]
    device = "cpu" if found[0].device.type == "mps" else found[0].device
    return [f.to(device, torch.float64) for f in found]


def tensor(values: Array) -> Tensor:
    """`values` as float64 on their own device (on the CPU where that has no float64)."""
    return tensors(values)[0]


def same_shape(predicted: Array, truth: Array) -> None:
    """ValueError unless both have one shape."""
    if tuple(predicted.shape) != tuple(truth.shape):
        raise ValueError(
            f"expected prediction and truth of one shape, got {tuple(predicted.shape)} and {tuple(truth.shape)}"
        )


def per_frame(measure: Callable[..., Tensor], frame_dims: int, *arrays: Array, points: int | None = None) -> np.ndarray:
    """`measure` of all frames: arrays (...,*rest) with common leading dimensions -> float64 (...,*result).

    The last `frame_dims` dimensions of the first array belong to a frame. `measure` gets float64 chunks (N,*rest), as
    many frames as make a good number of points; a frame has `points`, by default as many as the first array.
    """
    leading = tuple(arrays[0].shape[: arrays[0].ndim - frame_dims])
    for other in arrays[1:]:
        if tuple(other.shape[: len(leading)]) != leading:
            raise ValueError(f"expected leading dimensions {leading}, got an array {tuple(other.shape)}")
    flat = [_detached(a).reshape(math.prod(leading), *a.shape[len(leading) :]) for a in arrays]
    points = points or max(1, math.prod(flat[0].shape[1:]) // 3)
    rows = max(1, _POINTS.get(flat[0].device.type, _POINTS_GPU) // points)
    parts = [measure(*tensors(*chunk)) for chunk in zip(*(f.split(rows) for f in flat), strict=True)]
    values = torch.cat(parts).cpu().numpy()
    return values.reshape((*leading, *values.shape[1:]))


def mean_known(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def root_point(joints: AnyArray, root: Root) -> AnyArray:
    """Joint `root` of joints (...,J,3), or the middle of several -> (...,3)."""
    chosen: Any = joints[..., [root] if isinstance(root, int) else list(root), :]
    return chosen.mean(-2)


def rooted(joints: Tensor, root: Root | None) -> Tensor:
    """Joints (...,J,3) seen from `root`; unchanged for None."""
    return joints if root is None else joints - root_point(joints, root)[..., None, :]


def _detached(values: Array) -> Tensor:
    if isinstance(values, np.ndarray):
        values = np.ascontiguousarray(values)  # PyTorch takes no negative strides
    return torch.as_tensor(values).detach()
