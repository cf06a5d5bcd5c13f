"""How a mesh looks: smooth normals, a soft light, one colour a person, antialiased images of several people."""

from __future__ import annotations

import colorsys

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.rendering.rasteriser import Fragments, interpolate_at, visible_fragments

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
SAMPLES, SAMPLES_PER_PASS = 2, 2**22
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
    out = vertices_c.new_zeros(images, height * width, 4)
    large = (height * SAMPLES, width * SAMPLES)
    step = max(1, SAMPLES_PER_PASS // (large[0] * large[1]))
    for first in range(0, images, step):
        here = (image_index >= first) & (image_index < first + step)
        if not here.any():
            continue
        found = visible_fragments(
            vertices_c[here],
            faces,
            focal_px[here] * SAMPLES,
            center_px[here] * SAMPLES,
            large,
            image_index[here] - first,
            min(step, images - first),
            cull_back=True,
        )
        colour = interpolate_at(vertex_colours[here], faces, found.mesh, found.face, found.barycentrics)
        sample = torch.cat([colour, torch.ones_like(colour[:, :1])], -1) / SAMPLES**2
        if wire:
            pixels = vertices_c[here, :, :2] / vertices_c[here, :, 2:] * focal_px[here, None] + center_px[here, None]
            sample *= _near_edges(found, pixels * SAMPLES, faces, large)[:, None]
        row, x = found.pixel // large[1], found.pixel % large[1]  # rows run on from one image to the next
        pixel = row // SAMPLES * width + x // SAMPLES
        out[first : first + step].view(-1, 4).index_add_(0, pixel, sample)
    return out.view(images, height, width, 4)


def _near_edges(found: Fragments, pixels: Tensor, faces: Tensor, size: tuple[int, int]) -> Tensor:
    """How much each visible sample (P,) of meshes with projected vertices `pixels` (M,V,2) covers in a wireframe.

    A line is a pixel wide, or less where triangles are small: between lines there must be something to see through.
    """
    inside = found.pixel % (size[0] * size[1])
    center = torch.stack([inside % size[1], inside // size[1]], -1) + 0.5
    rows = (found.mesh[:, None] * pixels.shape[1] + faces[found.face]).flatten()
    corners = pixels.flatten(0, 1).index_select(0, rows).view(-1, 3, 2) - center[:, None].to(pixels.dtype)
    ends = corners.roll(-1, 1)
    areas = (corners[..., 0] * ends[..., 1] - corners[..., 1] * ends[..., 0]).abs()
    lengths = (ends - corners).norm(dim=-1).clamp_min(1e-6)
    inner_radius = areas.sum(-1) / lengths.sum(-1)
    on_line = (areas / lengths).amin(-1) < (WIRE_SHARE * inner_radius).clamp(max=SAMPLES / 2)
    return torch.where(on_line, 1.0, WIRE_FILL)
