"""The final meshes over the footage, and from where no camera stood: how a person sees at once whether a take is good.

An image is made of panels: the first view fills the frame, the others stand beside it or lie in its corner. People
are drawn into each panel through that view's camera; all panels of a batch of frames are drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hmrkit.rendering.options import HEAT_MAX, RenderOptions
from hmrkit.rendering.shading import draw_meshes, shade, track_colour, vertex_normals
from hmrkit.rendering.styles import Figure, Style, heat_colours
from hmrkit.rendering.views import FollowingView, Look, level_rotation
from hmrkit.types import Camera

People = Sequence[Figure]  # of one frame
OPACITY = 0.88
INSET_SHARE, INSET_FRAME = 0.3, (16, 16, 18)


@dataclass(frozen=True)
class Panel:
    """A view's place in the image, in pixels; `following` is None for the overlay, which the clip's camera sees."""

    name: str
    x: int
    y: int
    width: int
    height: int
    is_inset: bool
    following: FollowingView | None

    def of(self, images: np.ndarray) -> np.ndarray:
        """This panel's part of images (B,H,W,C), or of one (H,W,C); a view, not a copy."""
        return images[..., self.y : self.y + self.height, self.x : self.x + self.width, :]


class Overlay:
    """Draws people over frames, through every view: images of `size` (W, H).

    `camera` is the one the meshes were placed with, `faces` (F,3) their topology (None where there is nobody), `up_c`
    (3,) the direction against gravity in the camera frame (None: the image's own up). `part_of_vertex` (V,) is for the
    style ``parts``: each vertex's joint.
    """

    def __init__(
        self,
        camera: Camera,
        faces: np.ndarray | None,
        fps: Fraction | float,
        options: RenderOptions | None = None,
        device: str | torch.device = "cpu",
        up_c: np.ndarray | None = None,
        part_of_vertex: np.ndarray | None = None,
    ) -> None:
        self._options = options = options or RenderOptions()
        self._camera = camera
        self._device = torch.device(device)
        self._heat_max = options.heat_max or HEAT_MAX.get(options.style, 1.0)
        corners = np.zeros((0, 3), np.int64) if faces is None else faces
        self._style = Style(options.style, corners, self._device, part_of_vertex, self._heat_max)
        width, self._panels = lay_out(options, camera, float(fps))
        self.size = width, camera.height
        self._level = level_rotation(up_c)
        opaque = options.alpha or options.style == "skeleton"
        self._opacity = options.opacity or (1.0 if opaque else OPACITY)
        self._font = ImageFont.load_default(max(13, min(camera.height, camera.width) // 24))

    def draw(
        self,
        frames: np.ndarray | Tensor | None,
        people: Sequence[People],
        frame_indices: Sequence[int],
        followed: Sequence[People] | None = None,
    ) -> np.ndarray:
        """Draw on frames (B,H,W,3) uint8 RGB, in the clip's order: images (B,H,W',3) uint8, with alpha 4.

        `frames` are not wanted (None) where there is no overlay, or with alpha. The views from where no camera stood
        follow `followed` (default: `people`), so that two drawings can be seen from the same place.
        """
        pixels = frames.cpu().numpy() if isinstance(frames, Tensor) else frames
        options, count = self._options, len(people)
        canvas = np.zeros((count, *self.size[::-1], 4 if options.alpha else 3), np.uint8)
        flat = [(b, figure) for b, here in enumerate(people) for figure in here]
        vertices = normals = colours = None
        frame_of = torch.tensor([b for b, _ in flat], device=self._device)
        if flat:
            vertices, colours = self._style.meshes([figure for _, figure in flat])
            normals = vertex_normals(vertices, self._style.faces)
        for panel in self._panels:
            looks = self._backdrop(panel, canvas, pixels, people if followed is None else followed)
            labels: list[list[tuple[float, float, int]]] = [[] for _ in people]
            if vertices is not None and normals is not None and colours is not None:
                seen, rotated, focal, center = self._through(
                    panel, looks, vertices, normals, frame_of, self._camera.zoom_at(np.asarray(frame_indices))
                )
                tops = self._paint(panel.of(canvas), seen, rotated, colours, focal, center, frame_of)
                _note(labels, tops, [figure.track_id for _, figure in flat], frame_of)
            if not options.alpha:
                for image, here, index, look in zip(panel.of(canvas), labels, frame_indices, looks, strict=True):
                    self._annotate(image, panel, here if options.labels else [], index, look)
        return canvas

    def _backdrop(
        self, panel: Panel, canvas: np.ndarray, pixels: np.ndarray | None, people: Sequence[People]
    ) -> list[Look | None]:
        """Paint what lies behind the people, and say from where they are seen (None: by the clip's camera)."""
        area = panel.of(canvas)
        if panel.is_inset:
            edge = max(2, self._camera.height // 240)
            x, y = max(panel.x - edge, 0), max(panel.y - edge, 0)
            canvas[:, y : panel.y + panel.height + edge, x : panel.x + panel.width + edge] = INSET_FRAME
        if panel.following is None:
            if pixels is not None and not self._options.alpha:
                size = (panel.width, panel.height)
                same = size == (self._camera.width, self._camera.height)
                area[:] = pixels if same else np.stack([np.asarray(Image.fromarray(p).resize(size)) for p in pixels])
            return [None] * len(area)
        ground = np.zeros((*area.shape[:3], 3), np.uint8)
        level = self._level.astype(np.float32).T
        nothing = [np.zeros((0, 3), np.float32)]
        looks = [
            panel.following.look(ground[k], np.concatenate(nothing + [f.vertices_c for f in here]) @ level)
            for k, here in enumerate(people)
        ]
        if not self._options.alpha:
            area[:] = ground
        return list(looks)

    def _through(
        self,
        panel: Panel,
        looks: list[Look | None],
        vertices: Tensor,
        normals: Tensor,
        frame_of: Tensor,
        zoom: np.ndarray | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Vertices and normals (M,V,3) in the frame of the panel's camera, its focal length and centre (M,2) px."""

        def tensor(values: object) -> Tensor:
            return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=self._device)

        known = [look for look in looks if look is not None]
        if not known:
            share = panel.width / self._camera.width
            focal, center = tensor(self._camera.focal_px * share), tensor(self._camera.center_px * share)
            focal = focal.expand(len(vertices), 2) if zoom is None else focal * tensor(zoom)[frame_of, None]
            return vertices, normals, focal, center.expand(len(vertices), 2)
        rotation = tensor([look.rotation @ self._level for look in known])[frame_of]
        shift = tensor([[0, 0, look.distance] - look.rotation @ look.middle for look in known])[frame_of]
        focal = tensor([[look.scale * look.distance] * 2 for look in known])[frame_of]
        center = tensor([panel.width / 2, panel.height / 2]).expand(len(vertices), 2)
        return vertices @ rotation.mT + shift[:, None], normals @ rotation.mT, focal, center

    def _paint(
        self,
        images: np.ndarray,
        vertices: Tensor,
        normals: Tensor,
        colours: Tensor,
        focal: Tensor,
        center: Tensor,
        frame_of: Tensor,
    ) -> np.ndarray:
        """Blend the meshes into `images` (B,H,W,3|4); returns the pixel (M,2) of each one's highest vertex.

        NaN for those out of sight.
        """
        count, height, width = images.shape[:3]
        depth = vertices[..., 2:]
        pixels = torch.where(depth > 0, vertices[..., :2] / depth * focal[:, None] + center[:, None], torch.nan)
        highest = pixels[..., 1].nan_to_num(torch.inf).argmin(1)
        tops = pixels[torch.arange(len(pixels), device=pixels.device), highest]

        # Only the region that people cover is drawn: per image its corner, for all one common size.
        limit = torch.tensor([width, height], device=pixels.device)
        low = torch.minimum(pixels.nan_to_num(torch.inf).amin(1).floor().clamp(min=0), limit)
        high = torch.maximum(torch.minimum(pixels.nan_to_num(-torch.inf).amax(1).ceil(), limit), low)
        tops = torch.where((low < high).all(1, keepdim=True), tops, torch.nan)
        corner = torch.full((count, 2), torch.inf, device=pixels.device)
        corner.scatter_reduce_(0, frame_of[:, None].expand(-1, 2), low, "amin")
        end = torch.zeros(count, 2, device=pixels.device)
        end.scatter_reduce_(0, frame_of[:, None].expand(-1, 2), high, "amax")
        extent = (end - corner).clamp(min=0).amax(0).int().tolist()
        if min(extent) == 0:
            return tops.cpu().numpy()
        shaded = shade(vertices, normals, colours)
        size = (extent[1], extent[0])
        faces, wire = self._style.faces, self._style.wire
        drawn = draw_meshes(vertices, shaded, faces, focal, center - corner[frame_of], size, frame_of, count, wire)
        for image, layer, start in zip(images, drawn.cpu().numpy(), corner.cpu().numpy(), strict=True):
            if np.isfinite(start).all():
                x, y = start.astype(int)
                target = image[y : y + size[0], x : x + size[1]]
                layer = layer[: target.shape[0], : target.shape[1]]
                if self._options.alpha:  # straight colours: what was drawn, not darkened where it covers little
                    target[..., :3] = layer[..., :3] / layer[..., 3:].clip(1e-6) * 255 + 0.5
                    target[..., 3] = layer[..., 3] * (255 * self._opacity) + 0.5
                else:
                    target[:] = target * (1 - self._opacity * layer[..., 3:]) + (
                        layer[..., :3] * (255 * self._opacity) + 0.5
                    )
        return tops.cpu().numpy()

    def _annotate(
        self,
        image: np.ndarray,
        panel: Panel,
        labels: list[tuple[float, float, int]],
        frame_index: int,
        look: Look | None,
    ) -> None:
        """Write the frame's number, what the view shows, the heat map's scale and people's ids into a panel."""
        if panel.is_inset:
            return
        page = Image.fromarray(image)
        draw = ImageDraw.Draw(page)
        unit = int(self._font.size)  # type: ignore[union-attr]
        edge = {"stroke_width": max(1, unit // 9), "stroke_fill": (0, 0, 0)}
        first = panel is self._panels[0]
        caption = [f"frame {frame_index}"] if first else []
        if panel.following is not None and look is not None:
            caption.append(panel.following.caption(look))
        draw.text((unit * 0.6, unit * 0.5), ", ".join(caption), (255, 255, 255), self._font, **edge)
        if first and self._options.style in HEAT_MAX:
            length, y = unit * 8, image.shape[0] - unit * 1.4
            ramp = (heat_colours(torch.linspace(0, 1, length))[None].expand(unit * 2 // 3, -1, -1) * 255).byte()
            page.paste(Image.fromarray(ramp.numpy()), (int(unit * 0.6), int(y + unit * 0.3)))
            scale = "% of the box" if self._options.style == "reprojection" else "mm"
            text = f"{self._options.style}, 0 to {self._heat_max:g} {scale}"
            draw.text((unit + length, y), text, (255, 255, 255), self._font, **edge)
        for x, y, track_id in labels:
            text = str(track_id)
            half = draw.textlength(text, self._font) / 2 + unit * 0.4
            x = min(max(x, half), image.shape[1] - half)
            y = min(max(y - unit * 1.5, 0), image.shape[0] - unit * 1.4)
            box = (x - half, y, x + half, y + unit * 1.3)
            draw.rounded_rectangle(box, unit * 0.35, track_colour(track_id), (20, 20, 20), max(1, unit // 12))
            draw.text((x, y + unit * 0.65), text, (20, 20, 20), self._font, anchor="mm")
        image[:] = np.asarray(page)


def lay_out(options: RenderOptions, camera: Camera, fps: float) -> tuple[int, list[Panel]]:
    """Width of the whole image, as high as the clip's, and its panels; the first is as large as the clip."""

    def panel(name: str, x: int, y: int, width: int, height: int, is_inset: bool = False) -> Panel:
        following = None if name == "overlay" else FollowingView(name, width, height, fps)
        return Panel(name, x, y, width, height, is_inset, following)

    width, height = camera.width, camera.height
    first, *others = options.views
    panels = [panel(first, 0, 0, width, height)]
    if not options.inset:
        for name in others:
            size = camera.width if name == "overlay" else min(camera.width, height)
            panels.append(panel(name, width, 0, size, height))
            width += size
        return width, panels
    gap = max(4, height // 60)
    shapes = {name: camera.width / height if name == "overlay" else 1.0 for name in others}
    room = (width - gap) / max(sum(shapes.values()), 1e-6) - gap
    size, right = int(min(INSET_SHARE * height, room)), width
    for name in reversed(others):  # from the right corner on, so that they read from left to right
        across = int(size * shapes[name])
        right -= across + gap
        panels.append(panel(name, right, height - size - gap, across, size, True))
    return width, panels


def _note(labels: list[list[tuple[float, float, int]]], tops: np.ndarray, ids: Sequence[int], frame_of: Tensor) -> None:
    """Remember where each person's label goes."""
    for (x, y), track_id, b in zip(tops.tolist(), ids, frame_of.tolist(), strict=True):
        if np.isfinite(x) and np.isfinite(y):
            labels[b].append((x, y, track_id))
