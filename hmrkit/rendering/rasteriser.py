"""A batched triangle rasteriser in plain PyTorch: CPU and CUDA, no compiled extension, no display.

How it works. Vertices are projected and snapped to a grid of 1/256 pixel (as GPUs do), where everything that decides
coverage is an integer that float64 holds exactly. Every triangle is unfolded into the rows it crosses, every row into
the span of pixel centres between its edges; each pixel keeps the nearest candidate by one atomic minimum over
``depth bits << 32 | face id``. No work is spent on pixels outside a triangle, whatever its size or shape.

What follows from it. Neighbouring triangles share snapped corners, so a closed mesh has no cracks: a pixel centre
exactly on a shared edge belongs to both, and equal depths go to the lower face id, on every device. Coverage is that of
the true outline moved by at most 1/512 pixel. Barycentrics and depth of the visible pixels are then computed from
the unsnapped projection; they are perspective-correct.

Faces with a vertex nearer than `NEAR_M` (or behind the camera, or not finite) are dropped, not clipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

NEAR_M = 0.05
SUBPIXELS = 256
# Snapped coordinates stay below 2**24, so that products of three factors stay exact in float64.
SNAP_LIMIT = float(2**24)
# Bounds on what one pass holds: small enough for a CPU's cache, large enough to fill a GPU.
FACES_PER_PASS = {"cpu": 2**15, "cuda": 2**22}
CANDIDATES_PER_PASS = 2**22
_FACE_BITS = 2**32 - 1  # what of a candidate is below its depth: ties go to the lower face


@dataclass(frozen=True)
class Fragments:
    """The P visible pixels of a batch of images, sorted by `pixel`.

    `pixel` (P,) int64 is ``(image * H + y) * W + x``; `mesh` (P,) the row of `vertices_c`; `face` (P,) the row of
    `faces`; `barycentrics` (P,3) of the 3D point on the face, perspective-correct; `depth` (P,) z in metres.
    """

    pixel: Tensor
    mesh: Tensor
    face: Tensor
    barycentrics: Tensor
    depth: Tensor


@dataclass(frozen=True)
class Raster:
    """Images of the same, dense: `face_index` and `mesh_index` (B,H,W) int64, -1 where nothing is;
    `barycentrics` (B,H,W,3) and `depth` (B,H,W) m, NaN where nothing is."""

    face_index: Tensor
    mesh_index: Tensor
    barycentrics: Tensor
    depth: Tensor


def rasterise(
    vertices_c: Tensor,
    faces: Tensor,
    focal_px: Tensor,
    center_px: Tensor,
    size: tuple[int, int],
    image_index: Tensor | None = None,
    images: int | None = None,
    cull_back: bool = False,
) -> Raster:
    """Which face each pixel sees, where on it, and how far: `visible_fragments` as dense images of `size` (H, W)."""
    height, width = size
    found = visible_fragments(vertices_c, faces, focal_px, center_px, size, image_index, images, cull_back)
    count = (len(vertices_c) if images is None else images) * height * width
    face, mesh = (torch.full((count,), -1, dtype=torch.int64, device=vertices_c.device) for _ in range(2))
    face[found.pixel], mesh[found.pixel] = found.face, found.mesh
    barycentrics, depth = vertices_c.new_full((count, 3), torch.nan), vertices_c.new_full((count,), torch.nan)
    barycentrics[found.pixel], depth[found.pixel] = found.barycentrics, found.depth
    shape = (-1, height, width)
    return Raster(face.view(shape), mesh.view(shape), barycentrics.view(*shape, 3), depth.view(shape))


def visible_fragments(
    vertices_c: Tensor,
    faces: Tensor,
    focal_px: Tensor,
    center_px: Tensor,
    size: tuple[int, int],
    image_index: Tensor | None = None,
    images: int | None = None,
    cull_back: bool = False,
) -> Fragments:
    """The visible pixels of M meshes of one topology in images of `size` (H, W).

    `vertices_c` (M,V,3) m in the camera frame; `faces` (F,3); `focal_px` and `center_px` (2,) or (M,2). To render only
    a region of a larger image, subtract the region's corner from `center_px`. `image_index` (M,) says in which of
    `images` images each mesh stands (several people in one image hide one another); by default one each.
    `cull_back` skips faces seen from behind: the same image for a closed mesh with outward faces, in half the time.
    Gradients flow to `barycentrics` and `depth`; what is visible is constant.
    """
    meshes = len(vertices_c)
    focal_px, center_px = focal_px.expand(meshes, 2)[:, None], center_px.expand(meshes, 2)[:, None]
    z = vertices_c[..., 2:]
    inverse_z = torch.where(_usable(vertices_c), z, torch.ones_like(z)).reciprocal()
    pixels = vertices_c[..., :2] * inverse_z * focal_px + center_px
    faces = faces.to(vertices_c.device, torch.int64)
    pixel, number = visible_faces(vertices_c, faces, pixels, size, image_index, images, cull_back)
    mesh = number // len(faces)
    face = number - mesh * len(faces)
    return _resolve(pixel, mesh, face, faces, torch.cat([pixels, z, inverse_z], -1), size[1], size[0])


@torch.no_grad()
def visible_faces(
    vertices_c: Tensor,
    faces: Tensor,
    pixels: Tensor,
    size: tuple[int, int],
    image_index: Tensor | None = None,
    images: int | None = None,
    cull_back: bool = False,
) -> tuple[Tensor, Tensor]:
    """`pixel` (P,) of `visible_fragments` and the face that each sees, ``mesh * F + face``.

    The vertices' `pixels` (M,V,2) are given.
    """
    meshes, height, width = len(vertices_c), *size
    if vertices_c.ndim != 3 or vertices_c.shape[-1] != 3 or faces.ndim != 2 or faces.shape[-1] != 3:
        raise ValueError(f"wanted vertices (M,V,3) and faces (F,3), got {vertices_c.shape} and {faces.shape}")
    if meshes * len(faces) >= 2**31:
        raise ValueError(f"{meshes} meshes of {len(faces)} faces are too many for one call; split the batch")
    device = vertices_c.device
    if image_index is None:
        image_index = torch.arange(meshes, device=device)
    images = meshes if images is None else images
    corners = snapped_corners(vertices_c, pixels).permute(2, 0, 1)
    nearest = torch.zeros(images * height * width, dtype=torch.int64, device=device)
    step = max(1, FACES_PER_PASS[device.type] // len(faces))
    for first in range(0, meshes, step):
        chunk = slice(first, first + step)
        base = image_index[chunk] * (height * width)
        _draw(corners[:, chunk], faces, base, first * len(faces), size, cull_back, nearest)
    pixel = nearest.nonzero().squeeze(1)
    return pixel, _FACE_BITS - (nearest.index_select(0, pixel) & _FACE_BITS)


def snapped(pixels: Tensor) -> Tensor:
    """Pixels (...,2) in units of the grid that decides coverage, from the first pixel's centre: whole, float64."""
    return ((pixels - 0.5) * SUBPIXELS).round().clamp(-SNAP_LIMIT, SNAP_LIMIT).double()


def snapped_corners(vertices_c: Tensor, pixels: Tensor) -> Tensor:
    """`snapped` x and y, and 1/z, (M,V,3) float64, of vertices (M,V,3) m at `pixels` (M,V,2).

    NaN marks unusable ones: every comparison with it fails, so their faces cover nothing.
    """
    corners = torch.cat([snapped(pixels), vertices_c[..., 2:].double().reciprocal()], -1)
    return torch.where(_usable(vertices_c), corners, torch.nan)


def _usable(vertices_c: Tensor) -> Tensor:
    return (vertices_c[..., 2:] > NEAR_M) & vertices_c.isfinite().all(-1, keepdim=True)


def _draw(
    corners: Tensor, faces: Tensor, base: Tensor, first_id: int, size: tuple[int, int], cull_back: bool, nearest: Tensor
) -> None:
    """Raise `nearest` where faces of these meshes are in front; `corners` (3,m,V) are snapped x, y and 1/z, float64."""
    height, width = size
    count = corners.shape[2]
    # Below a, b and c are the corners of a face; all are (faces,) of all meshes, in snapped units.
    rows = [
        (faces[:, k] + torch.arange(0, corners.shape[1] * count, count, device=faces.device)[:, None]).flatten()
        for k in range(3)
    ]
    x, y, z = (values.flatten() for values in corners)
    (ax, bx, cx), (ay, by, cy) = ([values.index_select(0, row) for row in rows] for values in (x, y))
    # Negative is facing the camera: x right and y down make a counter-clockwise face clockwise.
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    chosen = ((area < 0) if cull_back else (area.abs() > 0)).nonzero().squeeze(1)  # none with a NaN
    ax, bx, cx, ay, by, cy, area = (values.index_select(0, chosen) for values in (ax, bx, cx, ay, by, cy, area))
    az, bz, cz = (z.index_select(0, row.index_select(0, chosen)) for row in rows)
    # 1/z is linear over the image.
    grad_x = ((bz - az) * (cy - ay) - (cz - az) * (by - ay)) * SUBPIXELS / area
    grad_y = ((cz - az) * (bx - ax) - (bz - az) * (cx - ax)) * SUBPIXELS / area
    z_at_0 = az - (grad_x * ax + grad_y * ay) / SUBPIXELS
    z_low, z_high = torch.minimum(torch.minimum(az, bz), cz), torch.maximum(torch.maximum(az, bz), cz)

    # From top to bottom a, b, c: the edge ac bounds all rows from one side, ab those down to b and bc those below it.
    ax, ay, bx, by = _in_order(ax, ay, bx, by)
    bx, by, cx, cy = _in_order(bx, by, cx, cy)
    ax, ay, bx, by = _in_order(ax, ay, bx, by)
    top = (ay / SUBPIXELS).ceil_().clamp_(min=0)
    bottom = (cy / SUBPIXELS).floor_().clamp_(max=height - 1)
    below = torch.where(ay < by, torch.maximum((by / SUBPIXELS).floor_() + 1, top), top)  # ab is level: bc has all rows
    halves = [torch.cat([_edge(ax, ay, cx, cy)] * 2, 1), torch.cat([_edge(ax, ay, bx, by), _edge(bx, by, cx, cy)], 1)]
    plane = torch.stack([grad_x, grad_y, z_at_0, z_low, z_high]).repeat(1, 2)
    start = torch.cat([top, below])
    rows_of = torch.cat([torch.minimum(below, bottom + 1) - top, bottom + 1 - below]).clamp_(min=0).to(torch.int64)
    table = torch.cat([*halves, plane, start[None]])
    mesh = chosen // len(faces)
    ids = torch.stack([base[mesh], _FACE_BITS - (chosen + first_id)]).repeat(1, 2)
    for part, owner, offset in _unfolded(rows_of):
        own = [values[part].index_select(0, owner) for values in table]
        y = own.pop() + offset
        first, count_of, z_first, z_step = _row_spans(own, y, width)
        place, low_bits = (values[part].index_select(0, owner) for values in ids)
        _fill(first, count_of, z_first, z_step, place + (y * width + first).to(torch.int64), low_bits, nearest)


def _in_order(ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two corners, the upper one first."""
    swap = ay > by
    return torch.where(swap, bx, ax), torch.minimum(ay, by), torch.where(swap, ax, bx), torch.maximum(ay, by)


def _edge(ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Tensor:
    """(3,faces): an edge crosses row y of pixels at (k + y s) / d; all three are whole numbers."""
    dx, dy = bx - ax, by - ay
    return torch.stack([ax * dy - ay * dx, dx * SUBPIXELS, dy * SUBPIXELS])


def _row_spans(own: list[Tensor], y: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First pixel, number of pixels (int64; may be 0), 1/z at the first and its step, of each face's row `y`."""
    k, s, d, k_other, s_other, d_other, grad_x, grad_y, z_at_0, z_low, z_high = own
    # Whole numbers below 2**53: a quotient is exact where it is one, and never rounds onto one where it is not.
    one, other = (s * y).add_(k).div_(d), (s_other * y).add_(k_other).div_(d_other)
    first = torch.minimum(one, other).ceil_().clamp_(min=0)
    last = torch.maximum(one, other).floor_().clamp_(max=width - 1)
    count = (last - first).add_(1).clamp_(min=0)
    # Clamped, because on an edge-on face the snapped outline can reach where its plane runs off to anywhere.
    z_row = (grad_y * y).add_(z_at_0)
    z_first = torch.addcmul(z_row, grad_x, first).clamp_(z_low, z_high)
    z_last = torch.addcmul(z_row, grad_x, last).clamp_(z_low, z_high)
    step = (z_last - z_first).div_((count - 1).clamp_(min=1))
    return first, count.to(torch.int64), z_first.float(), step.float()


def _fill(
    first: Tensor, count: Tensor, z_first: Tensor, z_step: Tensor, start: Tensor, low_bits: Tensor, nearest: Tensor
) -> None:
    """Offer every pixel of every row's span to `nearest`."""
    for part, owner, offset in _unfolded(count):
        z = torch.addcmul(
            z_first[part].index_select(0, owner), z_step[part].index_select(0, owner), offset.to(torch.float32)
        )
        # The bits of positive floats sort like the floats.
        key = z.view(torch.int32).to(torch.int64).bitwise_left_shift_(32)
        key = key.bitwise_or_(low_bits[part].index_select(0, owner))
        nearest.scatter_reduce_(0, offset.add_(start[part].index_select(0, owner)), key, "amax")


def _unfolded(counts: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Items repeated `counts` times, in passes that stay near `CANDIDATES_PER_PASS` (one item alone may exceed it).

    A pass is its items, and for each repetition the item of the pass that it belongs to and its number within the item.
    """
    ends = counts.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    if 0 < total <= CANDIDATES_PER_PASS:
        yield slice(None), *_unfold(counts, ends, total)
    if total <= CANDIDATES_PER_PASS:
        return
    marks = torch.arange(CANDIDATES_PER_PASS, total, CANDIDATES_PER_PASS, device=counts.device)
    cuts = torch.unique(torch.searchsorted(ends, marks)).cpu().tolist()
    for begin, end in zip([0, *cuts], [*cuts, len(counts)], strict=True):
        own = counts[begin:end].cumsum(0)
        if len(own) and (count := int(own[-1])):
            yield slice(begin, end), *_unfold(counts[begin:end], own, count)


def _unfold(counts: Tensor, ends: Tensor, total: int) -> tuple[Tensor, Tensor]:
    numbers = torch.arange(len(counts), device=counts.device)
    owner = torch.repeat_interleave(numbers, counts, output_size=total)
    return owner, torch.arange(total, device=counts.device) - (ends - counts).index_select(0, owner)


def _resolve(
    pixel: Tensor, mesh: Tensor, face: Tensor, faces: Tensor, projected: Tensor, width: int, height: int
) -> Fragments:
    """Barycentrics and depth at the visible pixels from `projected` (M,V,4): x px, y px, z, 1/z, not snapped."""
    inside = pixel % (width * height)
    center = torch.stack([inside % width, inside // width], -1) + 0.5
    rows = (mesh[:, None] * projected.shape[1] + faces[face]).flatten()
    corner = projected.flatten(0, 1).index_select(0, rows).view(-1, 3, 4)
    x, y = (corner[..., :2] - center[:, None].to(corner.dtype)).unbind(-1)
    # Twice the areas that the pixel's centre makes with each edge; relative to the centre, so float32 suffices.
    areas = [x[:, (k + 1) % 3] * y[:, (k + 2) % 3] - y[:, (k + 1) % 3] * x[:, (k + 2) % 3] for k in range(3)]
    weights = torch.stack(areas, -1) * corner[..., 3]
    total = weights.sum(-1, keepdim=True)
    # Within a snap of an outline the centre may lie just outside the unsnapped face; a face with no area is a point.
    inside_face = (weights / torch.where(total == 0, 1.0, total)).clamp(min=0)
    sums = inside_face.sum(-1, keepdim=True)
    barycentrics = torch.where(sums > 0, inside_face / sums.clamp_min(1e-30), 1 / 3)
    return Fragments(pixel, mesh, face, barycentrics, (barycentrics * corner[..., 2]).sum(-1))


def interpolate(attributes: Tensor, faces: Tensor, raster: Raster) -> Tensor:
    """Vertex attributes (M,V,C) at every pixel of a raster -> (B,H,W,C), NaN where nothing is."""
    seen = raster.face_index >= 0
    out = attributes.new_full((*seen.shape, attributes.shape[-1]), torch.nan)
    out[seen] = interpolate_at(
        attributes, faces, raster.mesh_index[seen], raster.face_index[seen], raster.barycentrics[seen]
    )
    return out


def interpolate_at(attributes: Tensor, faces: Tensor, mesh: Tensor, face: Tensor, barycentrics: Tensor) -> Tensor:
    """Vertex attributes (M,V,C) at P points, given by mesh (P,), face (P,) and barycentrics (P,3) -> (P,C)."""
    rows = (mesh[:, None] * attributes.shape[1] + faces.to(mesh)[face]).flatten()
    values = attributes.flatten(0, 1).index_select(0, rows).view(-1, 3, attributes.shape[-1])
    return (values * barycentrics[..., None]).sum(1)
