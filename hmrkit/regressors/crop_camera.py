"""HMR's crop camera, read in perspective, and the way between the camera of a crop and that of the full image.

A regressor's ``s, tx, ty`` (`hmrkit.regressors.BodyEstimate`) of a crop of side `size` px that is seen with focal
length f (crop px) put the body at ``t = (tx, ty, 2 f / (size s))`` m: its scale at the root's depth is the
weak-perspective one. The crop's camera stands where the full camera stands and looks at the crop's middle
(`hmrkit.camera.crop_cameras`), so that a rotation R about their common centre leads from one to the other: ``X_full = R
X_crop``.

A network that reads where its crop lies in the image (CLIFF) has crops that are plain pieces of it: R is the identity
(`hmrkit.camera.plain_crop_cameras`), and the principal point c, in crop px, is not in the crop's middle. ``s, tx, ty``
are then meant at the crop's middle, whose ray at the body's depth passes ``(size / 2 - c) / f`` times the depth beside
the axis: that is added to tx, ty. With a crop of side b px of the full image about (cx, cy) these are the translations
of CLIFF's section 3.3: ``tx + 2 (cx - W / 2) / (b s)``, ``ty + 2 (cy - H / 2) / (b s)`` and ``2 f / (b s)``."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

CROP = 256  # px
SMALLEST_SCALE = 0.05  # of a crop camera: a person 40 m across the crop

Array = TypeVar("Array", np.ndarray, Tensor)


def crop_camera(transl_c: Tensor, focal_px: Tensor, size: int = CROP) -> Tensor:
    """Translations (B,3) m in the crop's camera and focal lengths (B,) crop px -> s, tx, ty (B,3)."""
    return torch.cat([(2 * focal_px / (size * transl_c[:, 2]))[:, None], transl_c[:, :2]], 1)


def translation(camera: Tensor, focal_px: Tensor, size: float = CROP, center_px: Tensor | None = None) -> Tensor:
    """The inverse of `crop_camera`: (B,3) -> (B,3) m; the scale at the root's depth is the weak-perspective one.

    `center_px` (B,2): the principal point in crop px where that is not the crop's middle. A scale below
    `SMALLEST_SCALE` has no meaning, and zero has no depth: it is raised to that.
    """
    depth = 2 * focal_px / (size * camera[:, 0].clamp_min(SMALLEST_SCALE))
    beside = camera[:, 1:]
    if center_px is not None:
        beside = beside + (size / 2 - center_px) * (depth / focal_px)[:, None]
    return torch.cat([beside, depth[:, None]], -1)


def project(points: Tensor, camera: Tensor, focal_px: Tensor, size: int = CROP) -> Tensor:
    """Points (B,J,3) m about the body's origin under the crop camera (B,3) and focal lengths (B,) -> (B,J,2) px."""
    moved = points + translation(camera, focal_px, size)[:, None]
    return focal_px[:, None, None] * moved[..., :2] / moved[..., 2:].clamp_min(0.1) + size / 2


def to_full_camera(global_orient: Array, pelvis: Array, camera_from_crop: Array) -> tuple[Array, Array]:
    """Bodies in their crops' cameras -> in the full camera.

    `global_orient` (T,3,3); `pelvis` (T,3) m, the place of the pelvis in the crop's camera, which is the resting body's
    pelvis J plus its translation; `camera_from_crop` (T,3,3), the rotation R from the crop's camera to the full one.
    Returns ``R global_orient`` and ``R pelvis``. The other joints' rotations are relative and stay. A body rotates
    about its pelvis, which is not its origin: the new translation is ``R pelvis - J``."""
    return camera_from_crop @ global_orient, (camera_from_crop @ pelvis[..., None])[..., 0]


def to_crop_camera(global_orient: Array, pelvis: Array, camera_from_crop: Array) -> tuple[Array, Array]:
    """The inverse of `to_full_camera`, with the same arguments: bodies in the full camera -> in their crops'
    cameras."""
    crop_from_camera: Array = camera_from_crop.swapaxes(-1, -2)  # type: ignore[assignment]
    return to_full_camera(global_orient, pelvis, crop_from_camera)
