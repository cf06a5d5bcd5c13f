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
FACES_PER_PASS = {"cpu": 2**17, "cuda": 2**22}
CANDIDATES_PER_PASS = 2**22
EMPTY = torch.iinfo(torch.int64).max


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
    meshes, height, width = len(vertices_c), *size
    if vertices_c.ndim != 3 or vertices_c.shape[-1] != 3 or faces.ndim != 2 or faces.shape[-1] != 3:
        raise ValueError(f"wanted vertices (M,V,3) and faces (F,3), got {vertices_c.shape} and {faces.shape}")
    if meshes * len(faces) >= 2**31:
        raise ValueError(f"{meshes} meshes of {len(faces)} faces are too many for one call; split the batch")
    device = vertices_c.device
    faces = faces.to(device, torch.int64)
    if image_index is None:
        image_index = torch.arange(meshes, device=device)
    images = meshes if images is None else images
    focal_px, center_px = focal_px.expand(meshes, 2)[:, None], center_px.expand(meshes, 2)[:, None]
    z = vertices_c[..., 2:]
    usable = (z > NEAR_M) & vertices_c.isfinite().all(-1, keepdim=True)
    inverse_z = torch.where(usable, z, torch.ones_like(z)).reciprocal()
    pixels = vertices_c[..., :2] * inverse_z * focal_px + center_px

    nearest = torch.full((images * height * width,), EMPTY, dtype=torch.int64, device=device)
    with torch.no_grad():
        # NaN marks unusable corners: every comparison with it fails, so their faces cover nothing.
        snapped = ((pixels - 0.5) * SUBPIXELS).round().clamp(-SNAP_LIMIT, SNAP_LIMIT)
        corners = torch.where(usable, torch.cat([snapped, inverse_z], -1), torch.nan).permute(2, 0, 1)
        step = max(1, FACES_PER_PASS[device.type] // len(faces))
        for first in range(0, meshes, step):
            chunk = slice(first, first + step)
            base = image_index[chunk, None] * height * width
            _draw(corners[:, chunk].contiguous(), faces, base, first * len(faces), size, cull_back, nearest)

        pixel = (nearest != EMPTY).nonzero().squeeze(1)
        face_id = nearest[pixel] & 0xFFFFFFFF
        mesh, face = face_id // len(faces), face_id % len(faces)
    return _resolve(pixel, mesh, face, faces, torch.cat([pixels, z, inverse_z], -1), width, height)


def _draw(
    corners: Tensor, faces: Tensor, base: Tensor, first_id: int, size: tuple[int, int], cull_back: bool, nearest: Tensor
) -> None:
    """Lower `nearest` where faces of these meshes are in front; `corners` (3,m,V) are snapped x, y and 1/z."""
    height, width = size
    # Names below: a 0, 1 or 2 is the corner of a face; all (faces,) after the selection, in snapped units.
    by_corner = [corners.index_select(2, faces[:, k]) for k in range(3)]  # each (3,m,F)
    low = torch.minimum(torch.minimum(by_corner[0][:2], by_corner[1][:2]), by_corner[2][:2]).div_(SUBPIXELS).ceil_()
    high = torch.maximum(torch.maximum(by_corner[0][:2], by_corner[1][:2]), by_corner[2][:2]).div_(SUBPIXELS).floor_()
    low.clamp_(min=0)
    high[0].clamp_(max=width - 1)
    high[1].clamp_(max=height - 1)
    chosen = (low <= high).all(0).flatten().nonzero().squeeze(1)
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = (
        c.reshape(3, -1).index_select(1, chosen).to(torch.float64) for c in by_corner
    )
    # Negative is facing the camera: x right and y down make a counter-clockwise face clockwise.
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    kept = ((area < 0) if cull_back else (area != 0)).nonzero().squeeze(1)
    chosen = chosen[kept]
    x0, y0, z0, x1, y1, z1, x2, y2, z2, area = (
        torch.stack([x0, y0, z0, x1, y1, z1, x2, y2, z2, area]).index_select(1, kept).unbind(0)
    )
    left, top = low.reshape(2, -1).index_select(1, chosen).to(torch.float64).unbind(0)
    right, bottom = high.reshape(2, -1).index_select(1, chosen).to(torch.float64).unbind(0)

    # Edge functions a x + b y + c >= 0 inside, over integer pixel positions x, y: exact.
    ax, ay = torch.stack([x0, x1, x2], -1), torch.stack([y0, y1, y2], -1)
    dx, dy = torch.stack([x1 - x0, x2 - x1, x0 - x2], -1), torch.stack([y1 - y0, y2 - y1, y0 - y2], -1)
    sign = area.sign()[:, None]
    a, b, c = -dy * SUBPIXELS * sign, dx * SUBPIXELS * sign, (dy * ax - dx * ay) * sign
    # An edge with a > 0 bounds a row from the left, one with a < 0 from the right; a triangle has one or two of each,
    # the single one is named twice. A horizontal edge bounds no row.
    left_edge, right_edge = a.argmax(-1), a.argmin(-1)
    other = 3 - left_edge - right_edge
    a_other = a.gather(-1, other[:, None]).squeeze(-1)
    left_too, right_too = torch.where(a_other > 0, other, left_edge), torch.where(a_other < 0, other, right_edge)
    edges = torch.stack([left_edge, left_too, right_edge, right_too], -1)
    # 1/z is linear over the image.
    grad_x = ((z1 - z0) * (y2 - y0) - (z2 - z0) * (y1 - y0)) * SUBPIXELS / area
    grad_y = ((z2 - z0) * (x1 - x0) - (z1 - z0) * (x2 - x0)) * SUBPIXELS / area
    z_at_0 = z0 - (grad_x * x0 + grad_y * y0) / SUBPIXELS
    z_low, z_high = torch.minimum(torch.minimum(z0, z1), z2), torch.maximum(torch.maximum(z0, z1), z2)
    plane = torch.stack([left, right, grad_x, grad_y, z_at_0, z_low, z_high], -1)
    # One gather of 19 numbers a row instead of nineteen gathers.
    table = torch.cat([-a.gather(-1, edges), b.gather(-1, edges), c.gather(-1, edges), plane], -1)
    start = base.expand(-1, len(faces)).flatten()[chosen]
    face_id = chosen + first_id

    rows = (bottom - top + 1).to(torch.int64)
    for part in _passes(rows):
        owner, offset = _unfold(rows[part])
        y = top[part][owner] + offset
        spans = _row_spans(table[part].index_select(0, owner), y)
        _fill(*spans, start[part][owner] + y.to(torch.int64) * width, face_id[part][owner], nearest)


def _row_spans(table: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First pixel, number of pixels (int64; may be 0), 1/z at the first and its step, of each face's row `y`."""
    left, right, grad_x, grad_y, z_at_0, z_low, z_high = table[:, 12:].unbind(-1)
    # Where each edge crosses the row: (b y + c) / -a. Integers below 2**53: the quotient is exact where it is an
    # integer, and never rounds onto one where it is not.
    crossing = (table[:, 4:8] * y[:, None]).add_(table[:, 8:12]).div_(table[:, 0:4])
    first = torch.maximum(crossing[:, 0], crossing[:, 1]).ceil_().maximum(left)
    last = torch.minimum(crossing[:, 2], crossing[:, 3]).floor_().minimum(right)
    count = (last - first).add_(1).clamp_(min=0)
    # Clamped, because on an edge-on face the snapped outline can reach where its plane runs off to anywhere.
    z_row = (grad_y * y).add_(z_at_0)
    z_first = torch.addcmul(z_row, grad_x, first).clamp_(z_low, z_high)
    z_last = torch.addcmul(z_row, grad_x, last).clamp_(z_low, z_high)
    step = (z_last - z_first).div_((count - 1).clamp_(min=1))
    return first.to(torch.int64), count.to(torch.int64), z_first.to(torch.float32), step.to(torch.float32)


def _fill(
    first: Tensor, count: Tensor, z_first: Tensor, z_step: Tensor, start: Tensor, face_id: Tensor, nearest: Tensor
) -> None:
    """Offer every pixel of every row's span to `nearest`."""
    some = count.nonzero().squeeze(1)
    count, pixel_0, face_id = count[some], (start + first)[some], face_id[some]
    z_first, z_step = z_first[some], z_step[some]
    for part in _passes(count):
        owner, offset = _unfold(count[part])
        depth = torch.addcmul(z_first[part][owner], z_step[part][owner], offset.to(torch.float32)).reciprocal_()
        # The bits of positive floats sort like the floats.
        key = depth.view(torch.int32).to(torch.int64).bitwise_left_shift_(32).bitwise_or_(face_id[part][owner])
        nearest.scatter_reduce_(0, pixel_0[part][owner] + offset, key, "amin")


def _passes(counts: Tensor) -> Iterator[slice]:
    """Slices of `counts` whose sums stay near `CANDIDATES_PER_PASS` (one item alone may exceed it)."""
    ends = counts.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    if total <= CANDIDATES_PER_PASS:
        if total:
            yield slice(0, len(counts))
        return
    marks = torch.arange(CANDIDATES_PER_PASS, total, CANDIDATES_PER_PASS, device=counts.device)
    cuts = torch.unique(torch.searchsorted(ends, marks)).tolist()
    for begin, end in zip([0, *cuts], [*cuts, len(counts)], strict=True):
        if begin < end:
            yield slice(begin, end)


def _unfold(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For items repeated `counts` times: the item each repetition belongs to, and its number within the item."""
    ends = counts.cumsum(0)
    total = int(ends[-1])
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts, output_size=total)
    return owner, torch.arange(total, device=counts.device) - (ends - counts)[owner]


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
