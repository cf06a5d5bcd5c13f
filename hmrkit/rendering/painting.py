"""Meshes over images: in PyTorch, by compiled loops on a CPU, or by OpenGL. What draws is chosen here."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hmrkit.device import one_thread, usable_threads
from hmrkit.errors import UsageError
from hmrkit.rendering.rasteriser import snapped_corners
from hmrkit.rendering.shading import SAMPLES, draw_meshes

log = logging.getLogger(__name__)
# Pixels of all frames from which the loops save more than a process needs to load them, which is a second.
WORTH_PX = 2**23


class Painter(Protocol):
    """Lays meshes over one image at a time; `threads`: whether several threads may do so at once."""

    threads: bool

    def paint(
        self, image: np.ndarray, corners: np.ndarray, colours: np.ndarray, faces: np.ndarray, opacity: float, wire: bool
    ) -> None:
        """Lay M meshes over `image` (H,W,3) uint8, in place; an image with alpha (H,W,4) comes empty.

        `corners` (M,V,3) are `rasteriser.snapped_corners` in samples, `colours` (M,V,3) in [0, 1]. Faces (F,3) seen
        from behind are left out. With `wire` the visible faces' edges cover fully, what is between them only a little.
        """
        ...


class CompiledPainter:
    """`hmrkit.rendering.compiled`, for opaque images of surfaces. ImportError or RuntimeError where it cannot be."""

    threads = True

    def __init__(self) -> None:
        self._loops = importlib.import_module("hmrkit.rendering.compiled")

    def paint(
        self, image: np.ndarray, corners: np.ndarray, colours: np.ndarray, faces: np.ndarray, opacity: float, wire: bool
    ) -> None:
        """See `Painter`."""
        self._loops.paint(image, corners, colours, faces, opacity)


@contextlib.contextmanager
def open_painter(renderer: str, device: torch.device, pixels: int, surfaces: bool) -> Iterator[Painter | None]:
    """What a renderer (`hmrkit.options.RENDERERS`) draws by, where vertices are on `device`; None is PyTorch.

    `auto` is compiled loops on a CPU where `pixels`, those of all images, are worth their start, else PyTorch.
    `surfaces`: images are opaque and show no edges. UsageError or DeviceError where the renderer cannot draw such
    images, or not on this machine.
    """
    if renderer == "gl":
        from hmrkit.rendering.gl import open_gl

        with open_gl() as painter:
            yield painter
        return
    if renderer == "compiled" and not surfaces:
        raise UsageError("--renderer compiled draws no --alpha and no --style wireframe; use --renderer auto")
    worth = surfaces and device.type == "cpu" and pixels >= WORTH_PX
    painter = None
    if renderer == "compiled" or (renderer == "auto" and worth):
        try:
            painter = CompiledPainter()
        except (ImportError, RuntimeError) as error:
            # Numba is absent, or found no folder for what it compiles.
            todo = "pip install numba" if isinstance(error, ImportError) else "set NUMBA_CACHE_DIR"
            if renderer == "compiled":
                raise UsageError(f"--renderer compiled cannot be used ({error}); {todo}") from error
            log.info("images are drawn without compiled loops, several times slower (%s): %s", todo, error)
    yield painter


@functools.cache
def check_renderer(renderer: str) -> None:
    """UsageError or DeviceError where this machine cannot draw by `renderer`."""
    with open_painter(renderer, torch.device("cpu"), 0, True):
        pass


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
    painter: Painter | None = None,
) -> None:
    """Blend M meshes (M,V,3) m with vertex `colours` (M,V,3) into `images` (B,H,W,3) uint8; with alpha (B,H,W,4).

    Only `tiles` (n,5) of the images are drawn: frame, left, top, right, bottom; `tile_of` (M,) is the tile of each
    mesh. `focal_px` and `center_px` (M,2) are in pixels of the image. `painter` is that of `open_painter`.
    """
    center_px = center_px - torch.from_numpy(tiles[tile_of, 1:3]).to(center_px)
    if painter is not None:
        pixels = (vertices_c[..., :2] / vertices_c[..., 2:] * focal_px[:, None] + center_px[:, None]) * SAMPLES
        corners, shaded = snapped_corners(vertices_c, pixels).cpu().numpy(), colours.contiguous().cpu().numpy()
        triangles, rows = faces.contiguous().cpu().numpy(), [np.flatnonzero(tile_of == n) for n in range(len(tiles))]

        def paint(n: int) -> None:
            frame, left, top, right, bottom = tiles[n].tolist()
            area = images[frame, top:bottom, left:right]
            painter.paint(area, corners[rows[n]], shaded[rows[n]], triangles, opacity, wire)

        if not painter.threads:
            for n in range(len(tiles)):
                paint(n)
            return
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
