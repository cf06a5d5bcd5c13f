"""Estimated IUV maps over the footage: each part in its colour, lighter along U, darker towards the start of V."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hmrkit.rendering.styles import part_colours


def iuv_layers(images: Tensor) -> Tensor:
    """Parts (1..24, 0 for background), U and V (N,h,w,3) -> RGBA (N,4,h,w) in [0, 1], colours times alpha."""
    part, (u, v) = images[..., 0].long(), images[..., 1:].clamp(0, 1).unbind(-1)
    colour = part_colours().to(images.device)[(part - 1).clamp_min(0)]
    colour = colour * (0.45 + 0.55 * v[..., None]) + 0.35 * u[..., None] * (1 - colour)
    alpha = (part > 0).to(colour.dtype)[..., None]
    return torch.cat([colour * alpha, alpha], -1).permute(0, 3, 1, 2)


def paint_layer(image: np.ndarray, layer: Tensor, image_from_crop: np.ndarray, size: int, opacity: float) -> None:
    """Blend the layer (4,h,w) of a crop of side `size` px into `image` (H,W,3) uint8, where the crop was cut.

    `image_from_crop` (3,3): see `hmrkit.camera.CropCameras`.
    """
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]]) @ image_from_crop.T
    corners = corners[:, :2] / corners[:, 2:]
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(corners.min(0)), 0, [width, height]).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(0)), 0, [width, height]).astype(int)
    if left >= right or top >= bottom:
        return
    x, y = np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5)
    places = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(image_from_crop).T
    grid = torch.from_numpy(places[..., :2] / places[..., 2:] / (size / 2) - 1).to(layer.device, layer.dtype)
    found = functional.grid_sample(layer[None], grid[None], align_corners=False)[0].permute(1, 2, 0).cpu().numpy()
    target = image[top:bottom, left:right]
    target[:] = target * (1 - opacity * found[..., 3:]) + found[..., :3] * (255 * opacity) + 0.5
