"""How a mesh looks: smooth normals, a soft light, one colour a person, antialiased images of several people."""

from __future__ import annotations

import colorsys
import itertools
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.device import one_thread, usable_threads
from hmrkit.rendering.rasteriser import SUBPIXELS, snapped, visible_faces

# Distinct also side by side on skin, grass and tarmac; chosen by eye. Later ids move the hue by the golden ratio.
PALETTE = (
    (104, 170, 236),
    (244, 160, 96),
    (126, 202, 138),
    (232, 120, 150),
    (178, 150, 236),
    (240, 208, 96),
    (92, 204, 204),
    (214, 142, 204),
)
# Directions towards the lights in the camera frame (y down, z forward): above left of the camera, and from the right.
KEY_LIGHT, FILL_LIGHT = (-0.45, -0.7, -0.65), (0.8, 0.1, -0.35)
# Samples along each side of a pixel, and how many samples the images of one pass may hold.
SAMPLES, SAMPLES_PER_PASS = 2, {"cpu": 2**19, "cuda": 2**24}
# Of a wireframe's small triangle, the share of its inner radius that lines take; what is left covers so much.
WIRE_SHARE, WIRE_FILL = 0.35, 0.12


def track_colour(track_id: int) -> tuple[int, int, int]:
    """RGB of a person, the same in every frame and every file."""
    if 1 <= track_id <= len(PALETTE):
        return PALETTE[track_id - 1]
    red, green, blue = colorsys.hsv_to_rgb(track_id * 0.618034 % 1, 0.5, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (M,V,3) of meshes (M,V,3): the mean of the faces around each vertex, weighted by their areas."""
    a, b, c = (vertices.index_select(1, faces[:, k]) for k in range(3))
    of_faces = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(1, faces[:, k], of_faces)
    return normalize(total, dim=-1)


def shade(vertices_c: Tensor, normals_c: Tensor, colours: Tensor) -> Tensor:
    """Vertex colours (M,V,3) in [0, 1] of meshes (M,V,3) in the camera frame, with base `colours` (M,3) or (M,V,3).

    Wrapped diffuse light from two sides over an ambient floor, a little gloss, and darker where the surface turns
    away: the edge parts limbs of one colour from each other. A body's triangles are a few pixels large, so light is
    computed at vertices and interpolated.
    """
    key, fill = (normalize(torch.tensor(d, device=normals_c.device), dim=0) for d in (KEY_LIGHT, FILL_LIGHT))
    to_eye = -normalize(vertices_c, dim=-1)
    facing = (normals_c * to_eye).sum(-1).clamp(0, 1)
    diffuse = ((normals_c @ key + 0.25) / 1.25).clamp(min=0)
    light = 0.34 + 0.62 * diffuse + 0.16 * (normals_c @ fill).clamp(min=0)
    gloss = 0.18 * (normals_c * normalize(key + to_eye, dim=-1)).sum(-1).clamp(min=0) ** 24
    edge = 1 - 0.45 * (1 - facing) ** 3
    colours = colours[:, None] if colours.ndim == 2 else colours
    return (colours * (light * edge)[..., None] + gloss[..., None]).clamp(0, 1)


def draw_meshes(
    vertices_c: Tensor,
    vertex_colours: Tensor,
    faces: Tensor,
    focal_px: Tensor,
    center_px: Tensor,
    size: tuple[int, int],
    image_index: Tensor,
    images: int,
    wire: bool = False,
) -> Tensor:
    """Antialiased images (B,H,W,4) of M meshes (M,V,3) with colours (M,V,3): RGB times coverage, then coverage.

    `focal_px` and `center_px` (M,2) in pixels of `size` (H, W); `image_index` (M,) the image of each mesh. With
    `wire`, the visible faces' edges cover fully and what is between them only a little.
    """
    height, width = size
    device = vertices_c.device
    faces = faces.to(device, torch.int64)
    large = (height * SAMPLES, width * SAMPLES)
    pixels = (vertices_c[..., :2] / vertices_c[..., 2:] * focal_px[:, None] + center_px[:, None]) * SAMPLES
    out = vertices_c.new_zeros(4, images, height * width)
    step = max(1, SAMPLES_PER_PASS[device.type] // (large[0] * large[1]))
    order = image_index.argsort(stable=True)
    ends = torch.searchsorted(image_index[order], torch.arange(0, images + step, step, device=device)).cpu().tolist()

    def draw(first: int, start: int, end: int) -> None:
        here, count = order[start:end], min(step, images - first)
        points, corners, colours = (v.index_select(0, here) for v in (vertices_c, pixels, vertex_colours))
        of_image = image_index[here] - first
        sample, face = visible_faces(points, faces, corners, large, of_image, count, cull_back=True)
        y = sample // large[1]  # rows run on from one image to the next
        x = sample - y * large[1]
        inside = y % large[0]
        channels = _colours_at(x, inside, face, corners, colours, faces)
        if wire:
            share = _near_edges(x, inside, face, corners, faces)
            channels = [values * share for values in channels]
        pixel = (y // SAMPLES) * width + x // SAMPLES
        for channel, values in zip(out[:, first : first + count], channels, strict=True):
            channel.view(-1).index_add_(0, pixel, values, alpha=1 / SAMPLES**2)

    passes = [(k * step, *pair) for k, pair in enumerate(itertools.pairwise(ends)) if pair[0] < pair[1]]
    # Images do not depend on one another, and small operations gain little from a second thread: each has one.
    threads = min(usable_threads(), len(passes)) if device.type == "cpu" else 1
    if threads < 2:
        for each in passes:
            draw(*each)
    else:
        with one_thread(), ThreadPoolExecutor(threads) as pool:
            list(pool.map(draw, *zip(*passes, strict=True)))
    return out.view(4, images, height, width).permute(1, 2, 3, 0).contiguous()


def _colours_at(x: Tensor, y: Tensor, face: Tensor, corners: Tensor, colours: Tensor, faces: Tensor) -> list[Tensor]:
    """Red, green, blue and 1 (P,) where `face` (P,) of `visible_faces` is seen at column `x` and row `y` (P,).

    Vertices with `colours` (M,V,3) are seen at `corners` (M,V,2).
    Over one face of a body colours are linear in the image, too. So each face that is seen has a plane for each
    channel, which all its pixels read.
    """
    seen = torch.zeros(len(corners) * len(faces), dtype=torch.bool, device=x.device)
    seen[face] = True
    shown = seen.nonzero().squeeze(1)
    mesh = shown // len(faces)
    of_shown = faces.index_select(0, shown - mesh * len(faces)) + (mesh * corners.shape[1])[:, None]
    rows = of_shown.T.contiguous()
    (ax, ay), (bx, by), (cx, cy) = (snapped(corners.flatten(0, 1).index_select(0, row)).unbind(-1) for row in rows)
    bx, by, cx, cy = bx - ax, by - ay, cx - ax, cy - ay
    per_area = SUBPIXELS / (bx * cy - by * cx)
    ax, ay = ax / SUBPIXELS, ay / SUBPIXELS
    number = torch.empty(len(seen), dtype=torch.int32, device=x.device)
    number[shown] = torch.arange(len(shown), dtype=torch.int32, device=x.device)
    own = number.index_select(0, face)
    x, y = x.float(), y.float()
    found = []
    for channel in colours.flatten(0, 1).unbind(-1):
        a, b, c = (channel.index_select(0, row) for row in rows)
        b, c = b - a, c - a
        across, down = (b * cy - c * by) * per_area, (c * bx - b * cx) * per_area
        at_0, across, down = ((a - across * ax - down * ay).float(), across.float(), down.float())
        values = torch.addcmul(at_0.index_select(0, own), across.index_select(0, own), x)
        found.append(values.addcmul_(down.index_select(0, own), y).clamp_(0, 1))
    return [*found, torch.ones_like(found[0])]


def _near_edges(x: Tensor, y: Tensor, face: Tensor, corners: Tensor, faces: Tensor) -> Tensor:
    """How much each visible sample (P,) of `_colours_at` covers in a wireframe.

    A line is a pixel wide, or less where triangles are small: between lines there must be something to see through.
    """
    mesh = face // len(faces)
    rows = (mesh * corners.shape[1])[:, None] + faces[face - mesh * len(faces)]
    center = torch.stack([x, y], -1) + 0.5
    ends = corners.flatten(0, 1).index_select(0, rows.flatten()).view(-1, 3, 2) - center[:, None].to(corners.dtype)
    others = ends.roll(-1, 1)
    areas = (ends[..., 0] * others[..., 1] - ends[..., 1] * others[..., 0]).abs()
    lengths = (others - ends).norm(dim=-1).clamp_min(1e-6)
    inner_radius = areas.sum(-1) / lengths.sum(-1)
    on_line = (areas / lengths).amin(-1) < (WIRE_SHARE * inner_radius).clamp(max=SAMPLES / 2)
    return torch.where(on_line, 1.0, WIRE_FILL)
