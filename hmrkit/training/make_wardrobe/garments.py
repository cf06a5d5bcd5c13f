"""MakeHuman's modelled garments as layers on the free body: where they cover it, how thick, and their colours.

A garment is a mesh bound to base mesh hm08 (``.mhclo``). From every vertex and every texel of the body a ray goes along
the normal; where it meets the garment, its length is the cloth's distance and the garment's own texture gives the
colour, which is stored in the skin's atlas. What hangs free of the body (wide skirts, brims) cannot be shown so.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt
from scipy.spatial import KDTree

from hmrkit.errors import InputError
from hmrkit.skeletons import SMPL_24
from hmrkit.training.make_wardrobe.atlas import covered_texels
from hmrkit.training.make_wardrobe.source_mesh import TexturedMesh, read_obj

log = logging.getLogger(__name__)

SIZE = 512  # of the atlas that colours are stored in
UNIT_M = 0.1  # hm08 is in decimetres
INWARD_M, OUTWARD_M = 0.02, 0.10  # how far a ray looks for cloth
CANDIDATES = 48
# What a layer on the body cannot show: a skirt becomes ragged shorts.
LEFT_OUT = ("female_elegantsuit01",)


@dataclass(frozen=True)
class Target:
    """The free body in the base mesh's own pose: `vertices` and `normals` (V,3), `faces` (F,3), and the atlas's
    texels on it: `texel` (T,2) row and column, `place` and `direction` (T,3), `head` (T,) bool."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    texel: np.ndarray
    place: np.ndarray
    direction: np.ndarray
    head: np.ndarray


def pack_garments(
    folder: Path, base: TexturedMesh, body: dict[str, np.ndarray], uv: np.ndarray
) -> dict[str, np.ndarray]:
    """Every garment with a texture: `names` (N), `fields` (N,V) and `offsets` (N,V) float16 m, and images as for
    skins (`hmrkit.training.make_wardrobe.packing`). `body`: the free body's file; `uv` (F,3,2) its atlas."""
    source_vertex, faces = np.asarray(body["source_vertex"], int), np.asarray(body["f"], int)
    head = np.asarray(body["weights"])[:, SMPL_24.index["head"]]
    target = make_target(base.vertices[source_vertex] * UNIT_M, faces, uv, head)
    names, fields, offsets, blobs = [], [], [], []
    for path in sorted(folder.glob("*/*.mhclo")):
        texture = path.with_name(path.stem + "_diffuse.png")
        if not texture.is_file() or path.stem in LEFT_OUT:
            log.info("%s: left out", path.stem)
            continue
        garment = bind(path, base)
        field, offset, image, covered = bake(target, garment, np.asarray(Image.open(texture).convert("RGBA")))
        log.info("%s: covers %.0f %%, up to %.0f mm thick", path.stem, 100 * covered, 1e3 * offset.max())
        blob = io.BytesIO()
        Image.fromarray(image).save(blob, "JPEG", quality=88)
        names.append(path.stem)
        fields.append(field.astype(np.float16))
        offsets.append(offset.astype(np.float16))
        blobs.append(blob.getvalue())
    if not names:
        raise InputError(f"{folder}: expected folders of garments (.mhclo, .obj, .png), found none; check --data")
    starts = np.cumsum([0, *(len(blob) for blob in blobs)])
    return {
        "names": np.array(names), "fields": np.stack(fields), "offsets": np.stack(offsets),
        "jpeg": np.frombuffer(b"".join(blobs), np.uint8), "starts": starts,
    }  # fmt: skip


def make_target(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray, head: np.ndarray) -> Target:
    """The body's surface with its atlas `uv` (F,3,2), v upwards, laid out texel by texel; `head` (V,) its weight."""
    corners = vertices[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], flat)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    texel, face, weight = covered_texels(uv, SIZE)
    place = np.einsum("tk,tkc->tc", weight, vertices[faces[face]])
    direction = np.einsum("tk,tkc->tc", weight, normals[faces[face]])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    on_head = (weight * head[faces[face]]).sum(1) > 0.6
    return Target(vertices, normals, faces, texel, place, direction, on_head)


def bind(path: Path, base: TexturedMesh) -> TexturedMesh:
    """The garment's mesh on the base mesh, in metres.

    ``.mhclo``: per vertex three base vertices, their weights and an offset, in units of the body's own extent along
    each axis over a reference length.
    """
    scale, rows, reading, obj = np.ones(3), [], False, ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "obj_file":
            obj = words[1]
        elif words[0] in ("x_scale", "y_scale", "z_scale"):
            axis = "xyz".index(words[0][0])
            first, second, length = int(words[1]), int(words[2]), float(words[3])
            scale[axis] = abs(base.vertices[first, axis] - base.vertices[second, axis]) / length
        elif words[0] in ("verts", "delete_verts"):  # the second is a list of vertices, too, of no use here
            reading = words[0] == "verts"
        elif reading and words[0].isdigit():
            numbers = [float(word) for word in words]
            rows.append(numbers if len(numbers) >= 9 else [numbers[0]] * 3 + [1, 0, 0, 0, 0, 0])
    mesh, table = read_obj(path.with_name(obj)), np.array([row[:9] for row in rows])
    if len(table) != len(mesh.vertices):
        raise InputError(
            f"{path}: binds {len(table)} vertices, {obj} has {len(mesh.vertices)}; take both from one asset"
        )
    corners = base.vertices[table[:, :3].astype(int)]
    vertices = np.einsum("vk,vkc->vc", table[:, 3:6], corners) + table[:, 6:9] * scale
    return TexturedMesh(vertices * UNIT_M, mesh.uv, mesh.faces, mesh.face_uv, mesh.groups)


def bake(
    target: Target, garment: TexturedMesh, texture: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Field (V,) m (distance to the garment's edge, positive inside), offset (V,) m, image (SIZE,SIZE,3) uint8 in
    the atlas, and the share of the body that is covered. `texture` (H,W,4) uint8, rows downwards."""
    triangles = garment.vertices[garment.faces]
    length, _, _ = cast(target.vertices, target.normals, triangles)
    _, hit, weight = cast(target.place, target.direction, triangles)
    colour = np.zeros((len(hit), 4), np.uint8)
    on = hit >= 0
    where = np.einsum("tk,tkc->tc", weight[on], garment.uv[garment.face_uv[hit[on]]])
    height, width = texture.shape[:2]
    column = (where[:, 0] % 1 * width).astype(int).clip(0, width - 1)
    row = ((1 - where[:, 1] % 1) * height).astype(int).clip(0, height - 1)
    colour[on] = texture[row, column]
    on &= colour[:, 3] > 127  # a garment's texture cuts its holes
    on &= ~target.head  # rays from below the chin meet the collar

    inside, outside = KDTree(target.place[on]), KDTree(target.place[~on])
    nearest_outside, _ = outside.query(target.vertices)
    nearest_inside, _ = inside.query(target.vertices)
    field = np.where(nearest_outside > nearest_inside, nearest_outside, -nearest_inside).clip(-1, 1)

    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    known = np.zeros((SIZE, SIZE), bool)
    at = tuple(target.texel[on].T)
    image[at], known[at] = colour[on, :3], True
    nearest = np.asarray(distance_transform_edt(~known, return_distances=False, return_indices=True))
    image = image[tuple(nearest)]  # runs on beyond the edges, so that none of the atlas's empty parts shows
    offset = _smooth(np.where(np.isfinite(length), length, 0).clip(0, OUTWARD_M), np.isfinite(length), target.faces)
    offset *= (field / 0.01).clip(0, 1)
    return field, offset, image, float(on.mean())


def cast(
    start: np.ndarray, direction: np.ndarray, triangles: np.ndarray, chunk: int = 20000
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Outermost hit of rays (P,3) with triangles (F,3,3): length (P,) m (NaN: none), face (P,) (-1), weights (P,3).

    Möller and Trumbore 1997, on the triangles whose middles are nearest to the ray's start and to points along it.
    """
    tree, count = KDTree(triangles.mean(1)), min(CANDIDATES, len(triangles))
    length, face, weight = np.full(len(start), np.nan), np.full(len(start), -1), np.zeros((len(start), 3))
    edge1, edge2 = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    for first in range(0, len(start), chunk):
        some = slice(first, first + chunk)
        o, d = start[some], direction[some]
        near = np.concatenate([tree.query(o + along * d, k=count)[1] for along in (0.005, 0.04)], 1)
        p = np.cross(d[:, None], edge2[near])
        determinant = (edge1[near] * p).sum(2)
        inverse = 1 / np.where(np.abs(determinant) < 1e-12, np.nan, determinant)
        t = o[:, None] - triangles[near, 0]
        q = np.cross(t, edge1[near])
        u, v, along = (t * p).sum(2) * inverse, (d[:, None] * q).sum(2) * inverse, (edge2[near] * q).sum(2) * inverse
        good = (u >= -1e-6) & (v >= -1e-6) & (u + v <= 1 + 1e-6) & (along > -INWARD_M) & (along < OUTWARD_M)
        # The first sheet outside the body is its own garment; a later one belongs to another limb.
        order = np.where(good, np.abs(along), np.inf)
        best = order.argmin(1)
        rows = np.arange(len(o))
        found = np.isfinite(order[rows, best])
        length[some] = np.where(found, along[rows, best], np.nan)
        face[some] = np.where(found, near[rows, best], -1)
        u, v = u[rows, best], v[rows, best]
        weight[some] = np.where(found[:, None], np.stack([1 - u - v, u, v], 1), 0)
    return length, face, weight


def _smooth(values: np.ndarray, known: np.ndarray, faces: np.ndarray, steps: int = 3) -> np.ndarray:
    """Values (V,) averaged with their neighbours' known ones a few times: rays through folds jump."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    for _ in range(steps):
        total, count = values * known, known.astype(float)
        total = total + np.bincount(pairs[:, 0], (values * known)[pairs[:, 1]], len(values))
        count = count + np.bincount(pairs[:, 0], known[pairs[:, 1]].astype(float), len(values))
        values, known = np.where(count > 0, total / np.maximum(count, 1), 0), count > 0
    return values
