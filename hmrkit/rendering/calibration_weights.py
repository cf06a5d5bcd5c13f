"""PC-HMR's calibration weights on the body at rest, as figure 6 of Luan et al. 2021 shows them.

A column a bone. Rows: A(:, i), how much of bone i a vertex follows; W(:, i), how much of that bone's change of length
it takes along; and their product, the share of the non-rigid term Delta in the vertex (equations 12 and 13).

Each cell shows the bone's surroundings. W is shown where A is not next to 0: elsewhere it moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hmrkit.rendering.shading import draw_meshes, shade, vertex_normals
from hmrkit.rendering.sheet import BACKGROUND, TEXT
from hmrkit.rendering.styles import heat_colours
from hmrkit.skeletons import SMPL_24

# From 0 to 1: dull grey to a bright yellow, rising in lightness, so that it reads without colour, too.
RAMP = torch.tensor([(88, 92, 100), (176, 92, 58), (244, 160, 50), (255, 240, 130)]) / 255
ROWS = (
    ("A(:, i)", "how much of the bone\na vertex follows"),
    ("W(:, i)", "how much of the bone's\nchange of length it takes\n(where A is above 0.01)"),
    ("A(:, i) * W(:, i)", "share of the\nnon-rigid term"),
)
LEAST_ATTACHMENT = 0.01
CELL, GAP, LEFT, TOP, BOTTOM = 300, 12, 240, 120, 90  # pixels
DISTANCE_M, SPAN_M, SPAN_BONES = 8.0, 0.7, 2.2  # the camera's distance; a cell's least size, and in lengths of its bone
BONE_COLOUR, FADED = (60, 190, 255), (150, 154, 162)


def weights_image(
    vertices: Tensor,
    joints: Tensor,
    faces: np.ndarray,
    attachment: Tensor,
    place: Tensor,
    bones: Sequence[int],
    body_name: str,
) -> Image.Image:
    """The figure as an RGB image: rest pose `vertices` (V,3) and `joints` (24,3) m, y up and facing z, `faces` (F,3).

    `attachment` and `place` (V,23) are A and W, of which the columns `bones` are drawn from the front.
    """
    columns = list(bones)
    follows, takes = attachment[:, columns].T, place[:, columns].T
    takes = torch.where(follows >= LEAST_ATTACHMENT, takes, 0)
    ends = joints[torch.tensor([[SMPL_24.parents[bone + 1], bone + 1] for bone in columns])]  # (n,2,3)
    cells, marks = _cells(vertices, ends, faces, torch.stack([follows, takes, follows * takes]))
    pitch = CELL + GAP
    page = Image.new("RGB", (LEFT + pitch * max(len(columns), 2), TOP + pitch * len(ROWS) + BOTTOM), BACKGROUND)
    draw = ImageDraw.Draw(page)
    large, middle, small = (ImageFont.load_default(size) for size in (26, 20, 16))
    draw.text((24, 20), f"Calibration weights of the body {body_name}", TEXT, large)
    source = "PC-HMR (Luan et al. 2021), equations 12 and 13. The body at rest, seen from the front."
    draw.text((24, 54), source, FADED, small)
    for row, (name, meaning) in enumerate(ROWS):
        y = TOP + pitch * row
        draw.text((24, y + CELL * 0.36), name, TEXT, middle)
        draw.multiline_text((24, y + CELL * 0.36 + 32), meaning, FADED, small)
        for column in range(len(columns)):
            x = LEFT + pitch * column
            page.paste(Image.fromarray(cells[row, column]), (x, y))
            start, end = ((mark[0] + x, mark[1] + y) for mark in marks[column].tolist())
            draw.line([start, end], BONE_COLOUR, 2)
            for point, radius in ((start, 3), (end, 5)):
                draw.circle(point, radius, BACKGROUND, BONE_COLOUR, 2)
    for column, bone in enumerate(columns):
        parent, child = (SMPL_24.joints[k].replace("_", " ") for k in (SMPL_24.parents[bone + 1], bone + 1))
        draw.text((LEFT + pitch * column + CELL / 2, TOP - 12), f"{parent} to {child}", TEXT, small, anchor="ms")
    _scale(page, draw, small)
    return page


def _cells(vertices: Tensor, ends: Tensor, faces: np.ndarray, values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Images (3,n,CELL,CELL,3) uint8 of the body with `values` (3,n,V) in [0, 1], around bones from and to `ends`
    (n,2,3) m, whose pixels (n,2,2) come second."""
    rows, columns, device = len(values), len(ends), vertices.device
    # Camera frame: y down, z forward, so a half rotation about x from the body's, which faces z.
    flip, back = vertices.new_tensor([1, -1, -1]), vertices.new_tensor([0, 0, DISTANCE_M])
    shift = back - ends.mean(1, keepdim=True) * flip
    seen, marks = vertices * flip + shift, ends * flip + shift
    span = (SPAN_BONES * (ends[:, 1] - ends[:, 0]).norm(dim=-1)).clamp_min(SPAN_M)
    focal = (CELL * DISTANCE_M / span)[:, None].expand(-1, 2)
    corners = torch.from_numpy(np.asarray(faces, np.int64)).to(device)
    colours = heat_colours(values.to(vertices), RAMP)
    shaded = torch.cat([shade(seen, vertex_normals(seen, corners), row) for row in colours])
    center = torch.full((rows * columns, 2), CELL / 2, device=device)
    index = torch.arange(rows * columns, device=device)
    meshes, lenses = seen.repeat(rows, 1, 1), focal.repeat(rows, 1)
    drawn = draw_meshes(meshes, shaded, corners, lenses, center, (CELL, CELL), index, len(index))
    image = drawn[..., :3] * 255 + drawn.new_tensor(BACKGROUND) * (1 - drawn[..., 3:])
    pixels = marks[..., :2] / marks[..., 2:] * focal[:, None] + CELL / 2
    return (image + 0.5).byte().view(rows, columns, CELL, CELL, 3).cpu().numpy(), pixels.cpu().numpy()


def _scale(page: Image.Image, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> None:
    """The colours from 0 to 1, and what the line in each cell is, along the lower edge."""
    length, y = 300, page.height - 46
    ramp = (heat_colours(torch.linspace(0, 1, length), RAMP)[None].expand(16, -1, -1) * 255).byte()
    page.paste(Image.fromarray(ramp.numpy()), (LEFT, y))
    for value in (0, 0.5, 1):
        draw.text((LEFT + length * value, y + 20), f"{value:g}", TEXT, font, anchor="ma")
    x, y = LEFT, y - 34
    draw.line([(x, y + 8), (x + 40, y + 8)], BONE_COLOUR, 2)
    for at, radius in ((x, 3), (x + 40, 5)):
        draw.circle((at, y + 8), radius, BACKGROUND, BONE_COLOUR, 2)
    draw.text((x + 56, y + 8), "from a bone's parent joint (small) to its child (large)", TEXT, font, anchor="lm")
