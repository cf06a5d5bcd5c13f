"""Square, rotated crops of frames and the way back: region -> affine map -> batch of crops, on the frames' device.

Pixels of a crop are counted as those of an image: (0, 0) is the top-left corner, so the middle of a crop of side `out`
is (out / 2, out / 2). No half pixels are added or taken anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_NEAREST = 0.02  # of a ray's z: nearer to the plane of the pinhole, or behind it, no camera of ours sees it
_OUTSIDE = 9.0  # in grid_sample's coordinates


@dataclass(frozen=True)
class Region:
    """Squares in an image: `center` (...,2) px, `size` (...) side in px, `angle` (...) rad.

    `angle` turns the crop's axes into the image's: a person who leans to the image's right by `angle` stands upright
    in the crop.
    """

    center: np.ndarray
    size: np.ndarray
    angle: np.ndarray

    def __getitem__(self, rows: Any) -> Region:
        return Region(self.center[rows], self.size[rows], self.angle[rows])

    def __len__(self) -> int:
        return len(self.size)

    @staticmethod
    def stack(regions: Sequence[Region]) -> Region:
        """Many single regions as one of shape (N)."""
        return Region(*(np.stack([getattr(r, name) for r in regions]) for name in ("center", "size", "angle")))


def region_from_boxes(
    boxes_xyxy: np.ndarray, expand: float = 1.25, angle: float | np.ndarray = 0.0, aspect: float = 1.0
) -> Region:
    """Squares about boxes (...,4): side = `expand` times the box's longer side; where only the middle of a square is
    seen, `aspect` times as wide as high, times the height of what holds the box."""
    corners = np.asarray(boxes_xyxy, np.float64).reshape(*np.shape(boxes_xyxy)[:-1], 2, 2)
    size = expand * ((corners[..., 1, :] - corners[..., 0, :]) / (aspect, 1)).max(-1)
    return Region(corners.mean(-2), size, np.broadcast_to(np.asarray(angle, np.float64), size.shape))


def crop_affine(region: Region, out: int = 256) -> np.ndarray:
    """Matrices (...,2,3) that take crop pixels (x, y, 1) to image pixels."""
    scale, half = region.size / out, out / 2
    cosine, sine = scale * np.cos(region.angle), scale * np.sin(region.angle)
    rotation = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    shift = region.center - rotation @ np.array([half, half])
    return np.concatenate([rotation, shift[..., None]], -1)


def image_from_crop(points: np.ndarray, region: Region, out: int = 256) -> np.ndarray:
    """Crop pixels (...,P,2) -> image pixels (...,P,2)."""
    affine = crop_affine(region, out)
    return points @ np.swapaxes(affine[..., :2], -1, -2) + affine[..., None, :, 2]


def crop_from_image(points: np.ndarray, region: Region, out: int = 256) -> np.ndarray:
    """Image pixels (...,P,2) -> crop pixels (...,P,2); the exact inverse of `image_from_crop`."""
    affine = crop_affine(region, out)
    inverse = np.linalg.inv(affine[..., :2])
    return (points - affine[..., None, :, 2]) @ np.swapaxes(inverse, -1, -2)


def crop_batch(
    frames: Tensor,
    frame_of_crop: Sequence[int] | np.ndarray,
    region: Region,
    out: int = 256,
    homographies: np.ndarray | None = None,
) -> Tensor:
    """Cut N crops out of frames (B,H,W,3) uint8 -> (N,3,out,out) float32 in [0, 1], zero outside the frame.

    Crop n is the square `region[n]` of frame `frame_of_crop[n]`, or what a camera of its own shows of about that
    square: `homographies[n]` (3,3) takes crop pixels to image pixels (`hmrkit.camera.crop_cameras`). Where a crop
    shrinks its source, the source is first averaged over blocks of 2, 4, 8 ... pixels, so that thin limbs do not fall
    between the samples.
    """
    height, width = frames.shape[1:3]
    maps = _as_homographies(crop_affine(region, out)) if homographies is None else homographies
    middles = torch.arange(out, dtype=torch.float32, device=frames.device) + 0.5
    across, down = middles[None, :], middles[:, None]
    crops = torch.empty(len(maps), 3, out, out, dtype=torch.float32, device=frames.device)
    # A loop, because each crop needs only its own patch of a frame, and patches differ in size: rotating whole frames
    # into floats would cost more than the networks that read the crops.
    for n, (frame, to_image, size) in enumerate(zip(frame_of_crop, maps, region.size, strict=True)):
        block = 2 ** max(0, int(np.floor(np.log2(max(size / out, 1e-6)) + 0.25)))
        corners = to_image @ np.array([[0, out, 0, out], [0, 0, out, out], [1, 1, 1, 1]], np.float64)
        corners = corners[:2] / corners[2] if corners[2].min() > _NEAREST else np.array([[0, width], [0, height]])
        low = np.maximum(np.floor(corners.min(1)).astype(int) - block - 1, 0)
        high = np.minimum(np.ceil(corners.max(1)).astype(int) + block + 1, (width, height))
        if not (high > low).all():
            crops[n] = 0
            continue
        patch = frames[int(frame), low[1] : high[1], low[0] : high[0]].permute(2, 0, 1)[None].float()
        if block > 1:
            # Blocks that stick out are averaged over what they cover of the patch; that is at most the last row.
            patch = functional.avg_pool2d(patch, block, ceil_mode=True, count_include_pad=False)
        # Crop pixel -> patch pixel (blocks) -> grid_sample's [-1, 1], whose ends are the patch's outer edges too.
        spans = np.array([patch.shape[-1], patch.shape[-2]], np.float64)
        to_grid = to_image.copy()
        to_grid[:2] -= low[:, None] * to_grid[2]
        to_grid[:2] *= (2 / block / spans)[:, None]
        to_grid[:2] -= to_grid[2]
        (xx, xy, x1), (yx, yy, y1), (zx, zy, z1) = to_grid.tolist()
        grid = torch.stack([xx * across + xy * down + x1, yx * across + yy * down + y1], -1)
        if zx or zy:
            z = (zx * across + zy * down + z1)[..., None]
            grid = torch.where(z > _NEAREST, grid / z, _OUTSIDE)
        crops[n] = functional.grid_sample(patch, grid[None], padding_mode="zeros", align_corners=False)[0]
    return crops.div_(255.0)


def middle_columns(size: tuple[int, int]) -> slice:
    """Those columns of a square of side H px that a network with crops of `size` (H, W) px sees."""
    start = (size[0] - size[1]) // 2
    return slice(start, start + size[1])


def _as_homographies(affines: np.ndarray) -> np.ndarray:
    last = np.broadcast_to(np.array([0.0, 0.0, 1.0]), (*affines.shape[:-2], 1, 3))
    return np.concatenate([affines, last], -2)


# The points that `person_region` looks at; COCO-17 and BlazePose both have them.
REGION_POINTS = (
    "nose", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip


def person_region(points: np.ndarray) -> Region:
    """The square about a person that upright regressors are trained on, from `REGION_POINTS` (...,13,2) px.

    Centred at the middle of the hips, 2.5 times the radius of the circle about the body (MediaPipe's way; head, hands
    and feet reach 15 % farther than these points), rotated so that the person stands upright in it. A trunk seen nearly
    end-on has no direction: the rotation fades out below 0.3 radii.
    """
    points = np.asarray(points, np.float64)
    hips, shoulders = points[..., 7:9, :].mean(-2), points[..., 1:3, :].mean(-2)
    radius = 1.15 * np.linalg.norm(points - hips[..., None, :], axis=-1).max(-1)
    trunk = shoulders - hips
    length = np.linalg.norm(trunk, axis=-1)
    trust = np.clip((length / np.maximum(radius, 1e-6) - 0.1) / 0.2, 0, 1)
    return Region(hips, 2.5 * radius, trust * np.arctan2(trunk[..., 0], -trunk[..., 1]))


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (A,B) of boxes (A,4) and (B,4)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), -1)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], -1), np.prod(b[:, 2:] - b[:, :2], -1)
    return shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-9)


def paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (N,) of boxes (N,4), row by row."""
    shared = np.prod(np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None), -1)
    return shared / np.maximum(np.prod(a[:, 2:] - a[:, :2], -1) + np.prod(b[:, 2:] - b[:, :2], -1) - shared, 1e-9)
