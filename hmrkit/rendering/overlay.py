"""The final meshes over the footage, with a view from the side: how a person sees at once whether a take is good."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hmrkit.geometry import rotation_between
from hmrkit.rendering.shading import draw_meshes, shade, track_colour, vertex_normals
from hmrkit.rendering.writer import VideoWriter
from hmrkit.types import Camera

People = Sequence[tuple[int, np.ndarray]]  # (track_id, vertices_c (V,3)) of one frame
OPACITY = 0.88
PANEL, GRID = (42, 44, 50), (66, 69, 77)
# Axes of the camera that stands 90 degrees to the right: its right is away from the real camera, it looks along -x.
SIDE_FROM_CAMERA = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
# The side view follows the people with this time constant, and shows at least so many metres.
FOLLOW_S, MIN_SPAN_M = 0.5, 2.4
# Nearly parallel projection: distances can be read off the grid.
SIDE_DISTANCE_M = 60.0


class OverlayWriter:
    """Draws people over frames and writes the result as a video (`hmrkit.rendering.writer`).

    `camera` is the one the meshes were placed with, `faces` (F,3) their topology (None where there is nobody). With
    `side_view` a square panel to the right shows the same people seen from their camera's right, upright along `up_c`
    (3,), the direction against gravity in the camera frame (None: the image's own up).
    """

    def __init__(
        self,
        path: str | Path,
        camera: Camera,
        faces: np.ndarray | None,
        fps: Fraction | float,
        side_view: bool = True,
        device: str | torch.device = "cpu",
        up_c: np.ndarray | None = None,
    ) -> None:
        self._camera = camera
        self._device = torch.device(device)
        corners = np.zeros((0, 3), np.int64) if faces is None else np.asarray(faces, np.int64)
        self._faces = torch.from_numpy(corners).to(self._device)
        self._side = SideView(min(camera.width, camera.height), camera.height, float(fps)) if side_view else None
        self._width = camera.width + (self._side.width if self._side else 0)
        self._level = torch.from_numpy(level_rotation(up_c)).to(self._device, torch.float32)
        self._font = ImageFont.load_default(max(13, min(camera.height, camera.width) // 24))
        self._video = VideoWriter(path, self._width, camera.height, fps)

    def add(self, frame_rgb: np.ndarray, people: People, frame_index: int) -> np.ndarray:
        """Draw and write one frame (H,W,3) uint8; returns the picture (H,W',3)."""
        return self.add_batch(frame_rgb[None], [people], [frame_index])[0]

    def add_batch(
        self, frames: np.ndarray | Tensor, people: Sequence[People], frame_indices: Sequence[int]
    ) -> np.ndarray:
        """Draw and write frames (B,H,W,3) uint8 RGB in order; returns the pictures (B,H,W',3) uint8."""
        pixels = frames.cpu().numpy() if isinstance(frames, Tensor) else frames
        height, width = self._camera.height, self._camera.width
        canvas = np.empty((len(pixels), height, self._width, 3), np.uint8)
        canvas[:, :, :width] = pixels
        looks = []  # the side view's state, frame by frame: it follows the people
        if self._side:
            panels, level = canvas[:, :, width:], self._level.cpu().numpy().T
            looks = [
                self._side.look(panel, [(i, vertices @ level) for i, vertices in here])
                for panel, here in zip(panels, people, strict=True)
            ]

        labels: list[list[tuple[float, float, int]]] = [[] for _ in people]
        flat = [(b, track_id, vertices) for b, here in enumerate(people) for track_id, vertices in here]
        if flat:
            picture = torch.tensor([b for b, _, _ in flat], device=self._device)
            ids = [track_id for _, track_id, _ in flat]
            vertices = torch.from_numpy(np.stack([v for _, _, v in flat])).to(self._device, torch.float32)
            normals = vertex_normals(vertices, self._faces)
            colours = torch.tensor([track_colour(i) for i in ids], device=self._device) / 255
            focal, center = (
                torch.from_numpy(a).to(self._device, torch.float32).expand(len(flat), 2)
                for a in (self._camera.focal_px, self._camera.center_px)
            )
            tops = self._paint(canvas[:, :, :width], vertices, normals, colours, focal, center, picture, OPACITY)
            _note(labels, tops, ids, picture, 0)
            if self._side:
                turn = torch.tensor(SIDE_FROM_CAMERA, device=self._device)
                level_turn = turn @ self._level
                look = torch.tensor(looks, device=self._device)[picture]
                middle, scale = look[:, :3], look[:, 3]
                away = torch.tensor([0, 0, SIDE_DISTANCE_M], device=self._device)
                turned = (vertices @ self._level.T - middle[:, None]) @ turn.T + away
                focal = (scale * SIDE_DISTANCE_M)[:, None].expand(-1, 2)
                center = torch.tensor([self._side.width / 2, height / 2], device=self._device).expand(len(flat), 2)
                tops = self._paint(
                    canvas[:, :, width:], turned, normals @ level_turn.T, colours, focal, center, picture, 1
                )
                _note(labels, tops, ids, picture, width)
        grids = [grid_step(look[3], height) for look in looks] or [None] * len(canvas)
        for image, here, index, grid in zip(canvas, labels, frame_indices, grids, strict=True):
            self._annotate(image, here, index, grid)
            self._video.write(image)
        return canvas

    def _paint(
        self,
        images: np.ndarray,
        vertices: Tensor,
        normals: Tensor,
        colours: Tensor,
        focal: Tensor,
        center: Tensor,
        picture: Tensor,
        opacity: float,
    ) -> np.ndarray:
        """Blend the meshes into `images` (B,H,W,3); returns the pixel (M,2) of each one's highest vertex.

        NaN for those out of sight.
        """
        count, height, width = images.shape[:3]
        depth = vertices[..., 2:]
        pixels = torch.where(depth > 0, vertices[..., :2] / depth * focal[:, None] + center[:, None], torch.nan)
        highest = pixels[..., 1].nan_to_num(torch.inf).argmin(1)
        tops = pixels[torch.arange(len(pixels), device=pixels.device), highest]

        # Only the region that people cover is drawn: per picture its corner, for all one common size.
        limit = torch.tensor([width, height], device=pixels.device)
        low = torch.minimum(pixels.nan_to_num(torch.inf).amin(1).floor().clamp(min=0), limit)
        high = torch.maximum(torch.minimum(pixels.nan_to_num(-torch.inf).amax(1).ceil(), limit), low)
        tops = torch.where((low < high).all(1, keepdim=True), tops, torch.nan)
        corner = torch.full((count, 2), torch.inf, device=pixels.device)
        corner.scatter_reduce_(0, picture[:, None].expand(-1, 2), low, "amin")
        end = torch.zeros(count, 2, device=pixels.device)
        end.scatter_reduce_(0, picture[:, None].expand(-1, 2), high, "amax")
        extent = (end - corner).clamp(min=0).amax(0).int().tolist()
        if min(extent) == 0:
            return tops.cpu().numpy()
        shaded = shade(vertices, normals, colours)
        size = (extent[1], extent[0])
        drawn = draw_meshes(vertices, shaded, self._faces, focal, center - corner[picture], size, picture, count)
        drawn = drawn * torch.tensor([255 * opacity] * 3 + [opacity], device=drawn.device)
        for image, layer, start in zip(images, drawn.cpu().numpy(), corner.cpu().numpy(), strict=True):
            if np.isfinite(start).all():
                x, y = start.astype(int)
                target = image[y : y + size[0], x : x + size[1]]
                layer = layer[: target.shape[0], : target.shape[1]]
                target[:] = target * (1 - layer[..., 3:]) + (layer[..., :3] + 0.5)
        return tops.cpu().numpy()

    def _annotate(
        self, image: np.ndarray, labels: list[tuple[float, float, int]], frame_index: int, grid_m: float | None
    ) -> None:
        """Write the frame's number, the side view's scale and each person's id into the picture."""
        page = Image.fromarray(image)
        draw = ImageDraw.Draw(page)
        unit = int(self._font.size)  # type: ignore[union-attr]
        texts = [(unit * 0.6, unit * 0.5, f"frame {frame_index}")]
        if grid_m is not None:
            texts.append((self._camera.width + unit * 0.6, unit * 0.5, f"from the right, grid {grid_m:g} m"))
        for x, y, text in texts:
            draw.text((x, y), text, (255, 255, 255), self._font, stroke_width=max(1, unit // 9), stroke_fill=(0, 0, 0))
        for x, y, track_id in labels:
            text = str(track_id)
            half = draw.textlength(text, self._font) / 2 + unit * 0.4
            x = min(max(x, half), image.shape[1] - half)
            y = min(max(y - unit * 1.5, 0), image.shape[0] - unit * 1.4)
            box = (x - half, y, x + half, y + unit * 1.3)
            draw.rounded_rectangle(box, unit * 0.35, track_colour(track_id), (20, 20, 20), max(1, unit // 12))
            draw.text((x, y + unit * 0.65), text, (20, 20, 20), self._font, anchor="mm")
        image[:] = np.asarray(page)

    def close(self) -> None:
        """Finish the video and give it its name."""
        self._video.close()

    def __enter__(self) -> OverlayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._video.__exit__(kind, error, trace)


class SideView:
    """Where the side view looks: it follows the people smoothly, and paints its backdrop, a grid in metres."""

    def __init__(self, width: int, height: int, fps: float) -> None:
        self.width, self.height = width, height
        self._share = 1 - float(np.exp(-1 / (FOLLOW_S * max(fps, 1e-3))))
        self._state: np.ndarray | None = None

    def look(self, picture: np.ndarray, people: People) -> tuple[float, float, float, float]:
        """Paint the backdrop of one frame; returns the point (x, y, z) m in the middle and the scale in px / m."""
        points = np.concatenate([v for _, v in people]) if people else np.zeros((0, 3), np.float32)
        points = points[np.isfinite(points).all(1)]
        if len(points):
            low, high = points.min(0), points.max(0)
            across = max((high[2] - low[2]) / self.width * self.height, high[1] - low[1]) * 1.2
            wanted = np.array([*(low + high) / 2, np.log(max(across, MIN_SPAN_M))])
            self._state = wanted if self._state is None else self._state + self._share * (wanted - self._state)
        state = np.zeros(4) if self._state is None else self._state
        scale = self.height / float(np.exp(state[3])) if self._state is not None else self.height / MIN_SPAN_M
        grid = grid_step(scale, self.height)
        picture[:] = PANEL
        for middle, size, axis in ((state[2], self.width, 1), (state[1], self.height, 0)):
            first, last = np.ceil((middle - size / 2 / scale) / grid), (middle + size / 2 / scale) / grid
            lines = ((np.arange(first, last) * grid - middle) * scale + size / 2).astype(int)
            lines = lines[(lines >= 0) & (lines < size)]
            picture[(slice(None), lines) if axis else lines] = GRID
        return float(state[0]), float(state[1]), float(state[2]), scale


def level_rotation(up_c: np.ndarray | None) -> np.ndarray:
    """Smallest rotation (3,3) that brings `up_c` onto the image's up, (0, -1, 0); the identity where it is None."""
    if up_c is None:
        return np.eye(3)
    source = torch.as_tensor(np.asarray(up_c, np.float64))
    return rotation_between(source, torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)).numpy()


def grid_step(scale: float, height: int) -> float:
    """Metres between the backdrop's lines at `scale` px / m in a panel of that height: neither crowded nor rare."""
    return next((m for m in (0.5, 1.0, 2.0, 5.0) if m * scale >= height / 14), 10.0)


def _note(
    labels: list[list[tuple[float, float, int]]], tops: np.ndarray, ids: list[int], picture: Tensor, shift: int
) -> None:
    """Remember where each person's label goes."""
    for (x, y), track_id, b in zip(tops.tolist(), ids, picture.tolist(), strict=True):
        if np.isfinite(x) and np.isfinite(y):
            labels[b].append((x + shift, y, track_id))
