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
from PIL import Image
from torch import Tensor

from hmrkit.rendering.options import HEAT_MAX, RenderOptions
from hmrkit.rendering.painting import Painter, paint_meshes
from hmrkit.rendering.shading import shade, vertex_normals
from hmrkit.rendering.stamps import caption_stamp, edge_width, label_stamp, scale_stamp, stamp
from hmrkit.rendering.styles import Figure, Style
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
    style ``parts``: each vertex's joint. `painter` is what draws, of `open_painter` (None: PyTorch).
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
        painter: Painter | None = None,
    ) -> None:
        self._options = options = options or RenderOptions()
        self._camera = camera
        self._device = torch.device(device)
        self._heat_max = options.heat_max or HEAT_MAX.get(options.style, 1.0)
        corners = np.zeros((0, 3), np.int64) if faces is None else faces
        self._style = Style(options.style, corners, self._device, part_of_vertex, self._heat_max)
        width, self._panels = lay_out(options, camera, float(fps))
        self.size = width, camera.height
        self._painter = painter
        self._level = level_rotation(up_c)
        opaque = options.alpha or options.style == "skeleton"
        self._opacity = options.opacity or (1.0 if opaque else OPACITY)
        self._unit = max(13, min(camera.height, camera.width) // 24)

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
        frame_of = [b for b, _ in flat]
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
        ground = np.empty((*area.shape[:3], 3), np.uint8) if self._options.alpha else area
        level = self._level.astype(np.float32).T
        nothing = [np.zeros((0, 3), np.float32)]
        looks = [
            panel.following.look(ground[k], np.concatenate(nothing + [f.vertices_c for f in here]) @ level)
            for k, here in enumerate(people)
        ]
        return list(looks)

    def _through(
        self,
        panel: Panel,
        looks: list[Look | None],
        vertices: Tensor,
        normals: Tensor,
        frame_of: Sequence[int],
        zoom: np.ndarray | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Vertices and normals (M,V,3) in the frame of the panel's camera, its focal length and centre (M,2) px."""

        def tensor(values: object) -> Tensor:
            return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=self._device)

        known = [look for look in looks if look is not None]
        if not known:
            share = panel.width / self._camera.width
            focal, center = tensor(self._camera.focal_px * share), tensor(self._camera.center_px * share)
            own = focal.expand(len(vertices), 2) if zoom is None else focal * tensor(zoom[list(frame_of)])[:, None]
            return vertices, normals, own, center.expand(len(vertices), 2)
        of_people = [known[b] for b in frame_of]
        rotation = tensor([look.rotation @ self._level for look in of_people])
        shift = tensor([[0, 0, look.distance] - look.rotation @ look.middle for look in of_people])
        focal = tensor([[look.scale * look.distance] * 2 for look in of_people])
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
        frame_of: Sequence[int],
    ) -> np.ndarray:
        """Blend the meshes into `images` (B,H,W,3|4); returns the pixel (M,2) of each one's highest vertex.

        NaN for those out of sight.
        """
        height, width = images.shape[1:3]
        depth = vertices[..., 2:]
        pixels = torch.where(depth > 0, vertices[..., :2] / depth * focal[:, None] + center[:, None], torch.nan)
        highest = pixels[..., 1].nan_to_num(torch.inf).argmin(1)
        tops = pixels[torch.arange(len(pixels), device=pixels.device), highest]

        # Only the regions that people cover are drawn, each as an image of its own, all of one common size.
        limit = torch.tensor([width, height], device=pixels.device)
        low = torch.minimum(pixels.nan_to_num(torch.inf).amin(1).floor().clamp(min=0), limit)
        high = torch.maximum(torch.minimum(pixels.nan_to_num(-torch.inf).amax(1).ceil(), limit), low)
        facts = torch.cat([low, high, tops], 1).cpu().numpy()
        boxes, tops_px = facts[:, :4].astype(int), facts[:, 4:]
        tops_px[(boxes[:, :2] >= boxes[:, 2:]).any(1)] = np.nan
        tile_of, tiles = _tiles(boxes, frame_of)
        if not len(tiles):
            return tops_px
        shown = np.flatnonzero(tile_of >= 0)
        here = torch.from_numpy(shown).to(pixels.device)
        vertices, normals, colours, focal, center = (v[here] for v in (vertices, normals, colours, focal, center))
        shaded, faces, wire = shade(vertices, normals, colours), self._style.faces, self._style.wire
        of_tile = tile_of[shown]
        paint_meshes(images, tiles, of_tile, vertices, shaded, faces, focal, center, self._opacity, wire, self._painter)
        return tops_px

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
        unit, edge = self._unit, edge_width(self._unit)
        first = panel is self._panels[0]
        caption = [f"frame {frame_index}"] if first else []
        if panel.following is not None and look is not None:
            caption.append(panel.following.caption(look))
        stamp(image, caption_stamp(", ".join(caption), unit), unit * 0.6 - edge, unit * 0.5 - edge)
        if first and self._options.style in HEAT_MAX:
            scale = "% of the box" if self._options.style == "reprojection" else "mm"
            text = f"{self._options.style}, 0 to {self._heat_max:g} {scale}"
            stamp(image, scale_stamp(text, unit), unit * 0.6 - edge, image.shape[0] - unit * 1.4 - edge)
        for x, y, track_id in labels:
            label = label_stamp(track_id, unit)
            x = min(max(x - (label.shape[1] - 1) / 2, 0), image.shape[1] - label.shape[1])
            stamp(image, label, x, min(max(y - unit * 1.5, 0), image.shape[0] - unit * 1.4))


def _tiles(boxes: np.ndarray, frame_of: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """What of the images is drawn: boxes (M,4) px of people in frames `frame_of` (M,), those that meet as one, or one
    box around all people of a frame, whichever takes less memory where all tiles are of one size.

    Returns the tile (M,) of each person, -1 out of sight, and the tiles (n,5): frame, left, top, right, bottom.
    """
    tiles: list[tuple[int, np.ndarray, list[int]]] = []
    for person in np.flatnonzero((boxes[:, :2] < boxes[:, 2:]).all(1)).tolist():
        frame, box, members = frame_of[person], boxes[person], [person]
        while meets := [k for k, tile in enumerate(tiles) if tile[0] == frame and _meet(tile[1], box)]:
            _, other, more = tiles.pop(meets[0])
            box = np.concatenate([np.minimum(box[:2], other[:2]), np.maximum(box[2:], other[2:])])
            members += more
        tiles.append((frame, box, members))
    tile_of = np.full(len(boxes), -1)
    for number, (_, _, members) in enumerate(tiles):
        tile_of[members] = number
    found = np.array([(frame, *box) for frame, box, _ in tiles], int).reshape(-1, 5)
    frames, number = np.unique(found[:, 0], return_inverse=True)
    whole = np.zeros((len(frames), 5), int)  # around all people of a frame
    for row, frame in enumerate(frames):
        here = found[found[:, 0] == frame]
        whole[row] = frame, *here[:, 1:3].min(0), *here[:, 3:].max(0)
    if _pixels_drawn(whole) < _pixels_drawn(found):  # somebody near the camera makes the tiles of a crowd large
        return np.where(tile_of < 0, -1, number[tile_of]), whole
    return tile_of, found


def _pixels_drawn(tiles: np.ndarray) -> int:
    """Pixels that tiles (n,5) take, each as wide and as high as the widest and the highest."""
    return len(tiles) * int((tiles[:, 3:] - tiles[:, 1:3]).max(0, initial=0).prod())


def _meet(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.maximum(a[:2], b[:2]) < np.minimum(a[2:], b[2:])).all())


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


def _note(
    labels: list[list[tuple[float, float, int]]], tops: np.ndarray, ids: Sequence[int], frame_of: Sequence[int]
) -> None:
    """Remember where each person's label goes."""
    for (x, y), track_id, b in zip(tops.tolist(), ids, frame_of, strict=True):
        if np.isfinite(x) and np.isfinite(y):
            labels[b].append((x, y, track_id))
