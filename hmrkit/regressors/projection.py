"""Bodies in square crops: HMR's crop camera read in perspective (see `hmrkit.regressors.BodyEstimate`)."""

from __future__ import annotations

import torch
from torch import Tensor

CROP = 256  # px
SMALLEST_SCALE = 0.05  # of a crop camera: a person 40 m across the crop


def crop_camera(transl_c: Tensor, focal_px: Tensor, size: int = CROP) -> Tensor:
    """Translations (B,3) m in the crop's camera and focal lengths (B,) crop px -> s, tx, ty (B,3)."""
    return torch.cat([(2 * focal_px / (size * transl_c[:, 2]))[:, None], transl_c[:, :2]], 1)


def translation(camera: Tensor, focal_px: Tensor, size: int = CROP) -> Tensor:
    """The inverse of `crop_camera`: (B,3) -> (B,3) m; the scale at the root's depth is the weak-perspective one.

    A scale below `SMALLEST_SCALE` is no answer, and zero has no depth: it is raised to that.
    """
    depth = 2 * focal_px / (size * camera[:, 0].clamp_min(SMALLEST_SCALE))
    return torch.stack([camera[:, 1], camera[:, 2], depth], -1)


def project(points: Tensor, camera: Tensor, focal_px: Tensor, size: int = CROP) -> Tensor:
    """Points (B,J,3) m about the body's origin under the crop camera (B,3) and focal lengths (B,) -> (B,J,2) px."""
    moved = points + translation(camera, focal_px, size)[:, None]
    return focal_px[:, None, None] * moved[..., :2] / moved[..., 2:].clamp_min(0.1) + size / 2
