"""Texture coordinates for the free body: those of MakeHuman's base mesh, per corner of every face.

The body's vertices are vertices of the base mesh, its faces are not (the mesh was thinned), and the base mesh's
texture is cut along seams. A vertex on a seam has several coordinates, and a thinned face may reach across one. So
each face belongs to the source face under its middle: a corner takes that one of its vertex's coordinates which
agrees with the source face's own affine map, or, where none does, the map itself.
"""

from __future__ import annotations

import numpy as np

from hmrkit.training.make_wardrobe.source_mesh import TexturedMesh
from hmrkit.training.make_wardrobe.surface import nearest_on_mesh

# A corner's coordinate may lie this many times its distance (in texture units) from the middle's before it counts as
# being on the other side of a seam.
_SEAM_FACTOR = 2.5


def corner_uv(skin: TexturedMesh, source_vertex: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, float]:
    """Texture coordinates (F,3,2), v upwards, of the body's `faces` (F,3), and the share of corners made by the map.

    `skin` holds the base mesh's outer faces, `source_vertex` (V,) each body vertex's index in it.
    """
    corners = skin.vertices[source_vertex][faces]
    middle = corners.mean(1)
    found, place = nearest_on_mesh(middle, skin.vertices[skin.faces])
    under, under_uv = skin.vertices[skin.faces[found]], skin.uv[skin.face_uv[found]]
    middle_uv = np.einsum("fk,fkc->fc", place, under_uv)
    # The affine map of the source face: texture = middle_uv + (p - middle) @ gradient.
    edges, edges_uv = under[:, 1:] - under[:, :1], under_uv[:, 1:] - under_uv[:, :1]
    gradient = np.linalg.pinv(edges) @ edges_uv
    offset = corners - middle[:, None]
    mapped = middle_uv[:, None] + offset @ gradient
    # Texture units per metre near here, floored: a source face may be squeezed in the texture.
    scale = np.linalg.norm(edges_uv, axis=2).sum(1) / np.linalg.norm(edges, axis=2).sum(1)
    scale = np.maximum(scale, np.median(scale) / 2)
    reach = _SEAM_FACTOR * scale[:, None] * np.linalg.norm(offset, axis=2) + 1e-4

    own = _coordinates_of_vertices(skin)
    candidates = own[source_vertex[faces]]
    distance = np.linalg.norm(skin.uv[candidates] - middle_uv[:, None, None], axis=3)
    distance[candidates < 0] = np.inf
    best = distance.argmin(2)
    chosen = np.take_along_axis(candidates, best[..., None], 2)[..., 0]
    fits = np.take_along_axis(distance, best[..., None], 2)[..., 0] < reach
    return np.where(fits[..., None], skin.uv[chosen], mapped), float(1 - fits.mean())


def _coordinates_of_vertices(mesh: TexturedMesh, most: int = 6) -> np.ndarray:
    """Indices (V,most) of the texture coordinates that each vertex has, -1 where it has fewer."""
    pairs = np.unique(np.stack([mesh.faces.ravel(), mesh.face_uv.ravel()], 1), axis=0)
    first = np.searchsorted(pairs[:, 0], pairs[:, 0])
    rank = np.arange(len(pairs)) - first
    table = np.full((len(mesh.vertices), most), -1)
    keep = rank < most
    table[pairs[keep, 0], rank[keep]] = pairs[keep, 1]
    return table


def covered_texels(uv: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texels of an image of `size` rows and columns that faces with the coordinates `uv` (F,3,2), v upwards, cover: row
    and column (T,2), face (T,), barycentrics (T,3)."""
    corners = uv * [size, -size] + [0, size]  # column, row
    low = np.floor(corners.min(1)).astype(int)
    extent = np.ceil(corners.max(1)).astype(int) - low
    texels, faces, weights = [], [], []
    for column in range(int(extent[:, 0].max()) + 1):
        for row in range(int(extent[:, 1].max()) + 1):
            some = np.nonzero((column < extent[:, 0]) & (row < extent[:, 1]))[0]
            if not len(some):
                continue
            cell = low[some] + [column, row]
            weight = _barycentrics(cell + 0.5, corners[some])
            inside = (weight > -1e-6).all(1) & (cell >= 0).all(1) & (cell < size).all(1)
            texels.append(cell[inside][:, ::-1])
            faces.append(some[inside])
            weights.append(weight[inside])
    return np.concatenate(texels), np.concatenate(faces), np.concatenate(weights)


def _barycentrics(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Barycentrics (N,3) of points (N,2) in triangles (N,3,2)."""
    e1, e2, d = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    area = np.where(np.abs(area) < 1e-12, np.nan, area)
    u = (d[:, 0] * e2[:, 1] - d[:, 1] * e2[:, 0]) / area
    v = (e1[:, 0] * d[:, 1] - e1[:, 1] * d[:, 0]) / area
    return np.nan_to_num(np.stack([1 - u - v, u, v], 1), nan=-1)
