"""Meshes over images: in PyTorch, or on a CPU by compiled loops where so much is drawn that compiling them pays."""

from __future__ import annotations

import importlib
import logging
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from hmrkit.device import one_thread, usable_threads
from hmrkit.rendering.rasteriser import snapped_corners
from hmrkit.rendering.shading import SAMPLES, draw_meshes

log = logging.getLogger(__name__)
# Pixels of all frames from which the loops save more than a process needs to load them, which is a second.
WORTH_PX = 2**23


def compiled_loops(device: torch.device, pixels: int) -> ModuleType | None:
    """`hmrkit.rendering.compiled` where images of so many `pixels` in all are worth it, else None."""
    if device.type != "cpu" or pixels < WORTH_PX:
        return None
    try:
        return importlib.import_module("hmrkit.rendering.compiled")
    except ImportError as error:
        log.info("images are drawn without compiled loops, several times slower (pip install numba): %s", error)
    except RuntimeError as error:  # Numba found no folder for what it compiles
        log.info("images are drawn without compiled loops, several times slower (set NUMBA_CACHE_DIR): %s", error)
    return None


def paint_meshes(
    images: np.ndarray,
    tiles: np.ndarray,
    tile_of: np.ndarray,
    vertices_c: Tensor,
    colours: Tensor,
    faces: Tensor,
    focal_px: Tensor,
    center_px: Tensor,
    opacity: float,
    wire: bool = False,
    loops: ModuleType | None = None,
) -> None:
    """Blend M meshes (M,V,3) m with vertex `colours` (M,V,3) into `images` (B,H,W,3) uint8; with alpha (B,H,W,4).

    Only `tiles` (n,5) of the images are drawn: frame, left, top, right, bottom; `tile_of` (M,) is the tile of each
    mesh. `focal_px` and `center_px` (M,2) are in pixels of the image. `loops` of `compiled_loops` are for opaque
    images of surfaces; None draws in PyTorch.
    """
    center_px = center_px - torch.from_numpy(tiles[tile_of, 1:3]).to(center_px)
    if loops is not None:
        pixels = (vertices_c[..., :2] / vertices_c[..., 2:] * focal_px[:, None] + center_px[:, None]) * SAMPLES
        corners, shaded = snapped_corners(vertices_c, pixels).numpy(), colours.contiguous().numpy()
        triangles, rows = faces.contiguous().numpy(), [np.flatnonzero(tile_of == n) for n in range(len(tiles))]

        def paint(n: int) -> None:
            frame, left, top, right, bottom = tiles[n].tolist()
            loops.paint(images[frame, top:bottom, left:right], corners[rows[n]], shaded[rows[n]], triangles, opacity)

        with one_thread(), ThreadPoolExecutor(max(1, min(usable_threads(), len(tiles)))) as pool:
            list(pool.map(paint, range(len(tiles))))
        return
    size = tuple((tiles[:, 3:] - tiles[:, 1:3]).max(0)[::-1].tolist())
    index = torch.from_numpy(tile_of).to(vertices_c.device)
    drawn = draw_meshes(vertices_c, colours, faces, focal_px, center_px, size, index, len(tiles), wire)
    for (frame, left, top, right, bottom), layer in zip(tiles.tolist(), drawn.cpu().numpy(), strict=True):
        target, layer = images[frame, top:bottom, left:right], layer[: bottom - top, : right - left]
        if images.shape[-1] == 4:  # straight colours: what was drawn, not darkened where it covers little
            target[..., :3] = layer[..., :3] / layer[..., 3:].clip(1e-6) * 255 + 0.5
            target[..., 3] = layer[..., 3] * (255 * opacity) + 0.5
        else:
            behind = 1 - opacity * layer[..., 3:]
            target[:] = target * behind + (layer[..., :3] * (255 * opacity) + 0.5)
