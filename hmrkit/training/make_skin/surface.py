"""The body's rest surface, texel by texel: where each lies, which way it faces, how open to light it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from hmrkit.body.model import Body
from hmrkit.body.texture import texture_coordinates
from hmrkit.rendering.rasteriser import rasterise
from hmrkit.rendering.shading import vertex_normals
from hmrkit.training.make_wardrobe.atlas import covered_texels

_DIRECTIONS, _DISTANCE_M, _HALF_M, _DEPTH_PX = 128, 100.0, 1.25, 640
_BIAS_M = 0.006  # a vertex hides itself up to so far behind the surface that the depth image has
_LATTICE = 64


@dataclass(frozen=True)
class Surface:
    """T texels of an image of `size` rows: `texel` (T,2) row and column; `place` (T,3) m in the T-pose, y up, facing
    +z, left at +x, the pelvis at 0; `normal` (T,3); `weights` (T,24) of skinning; `openness` (T,) from 0,
    shut off from light, to 1."""

    size: int
    texel: np.ndarray
    place: np.ndarray
    normal: np.ndarray
    weights: np.ndarray
    openness: np.ndarray

    def image(self, colours: np.ndarray) -> np.ndarray:
        """Colours (T,3) 0..1 as an image (size,size,3) uint8. Texels outside the charts have the nearest chart's
        colour: readers that blend neighbours, or shrink the image, bring no foreign colour in at a chart's border."""
        image = np.zeros((self.size, self.size, 3), np.uint8)
        known = np.zeros((self.size, self.size), bool)
        at = tuple(self.texel.T)
        image[at], known[at] = np.rint(255 * colours.clip(0, 1)).astype(np.uint8), True
        nearest = np.asarray(distance_transform_edt(~known, return_distances=False, return_indices=True))
        return image[tuple(nearest)]


def body_surface(body: Body, size: int) -> Surface:
    """The texels that the charts of `body` cover, at rest and of mean shape. ValueError for a body without charts."""
    uv = texture_coordinates(body)
    if uv is None:
        raise ValueError(f"expected a body with charts, got {body.model_id}")
    vertices, faces = body().vertices.detach().cpu(), torch.as_tensor(np.asarray(body.faces).copy())
    normals = vertex_normals(vertices, faces)
    openness = _openness(vertices[0], normals[0], faces)
    texel, face, barycentrics = covered_texels(uv, size)
    texel, first = np.unique(texel, axis=0, return_index=True)  # where faces lie over one another, one of them
    face, barycentrics = face[first], barycentrics[first]

    def at(values: np.ndarray) -> np.ndarray:
        return np.einsum("tk,tk...->t...", barycentrics, values[body.faces[face]]).astype(np.float32)

    place, normal = at(vertices[0].numpy()), at(normals[0].numpy())
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return Surface(size, texel, place, normal, at(body.weights.cpu().numpy()), at(openness))


def _openness(vertices: torch.Tensor, normals: torch.Tensor, faces: torch.Tensor) -> np.ndarray:
    """Share (V,) of light from all around that reaches each vertex, weighted by the cosine to its normal.

    From many directions the body is drawn from afar; a vertex sees the direction where nothing lies before it.
    """
    open_to, total = torch.zeros(len(vertices)), torch.zeros(len(vertices))
    focal = torch.full((1, 2), _DEPTH_PX / 2 / _HALF_M * _DISTANCE_M)
    middle = torch.full((1, 2), _DEPTH_PX / 2)
    for axes in _axes():
        seen = vertices @ axes.T + torch.tensor([0, 0, _DISTANCE_M])
        depth = rasterise(seen[None], faces, focal, middle, (_DEPTH_PX, _DEPTH_PX)).depth[0]
        column, row = (seen[:, :2] / seen[:, 2:] * focal + middle).long().clamp(0, _DEPTH_PX - 1).unbind(1)
        cosine = (normals @ -axes[2]).clamp(min=0)
        open_to += cosine * (seen[:, 2] <= depth[row, column].nan_to_num(torch.inf) + _BIAS_M)
        total += cosine
    return (open_to / total.clamp(min=1e-6)).numpy()


def _axes() -> list[torch.Tensor]:
    """Axes (3,3) of cameras that point at the middle from points spread evenly on a sphere (a golden spiral)."""
    number = np.arange(_DIRECTIONS) + 0.5
    height, angle = 1 - 2 * number / _DIRECTIONS, np.pi * (1 + 5**0.5) * number
    radius = np.sqrt(1 - height**2)
    forward = -np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], 1)
    right = np.cross(forward, [0.0, 1, 0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    axes = np.stack([right, np.cross(forward, right), forward], 1)
    return list(torch.from_numpy(axes).float())


def noise(place: np.ndarray, wavelength_m: float, seed: int) -> np.ndarray:
    """Smooth noise (T,) of mean 0, from -1 to 1, at `place` (T,3): random values on a lattice, blended between."""
    values = np.random.default_rng(seed).uniform(-1, 1, (_LATTICE,) * 3).astype(np.float32)
    at = place / np.float32(wavelength_m)
    cell = np.floor(at).astype(np.int64)
    share = at - cell
    share = share * share * (3 - 2 * share)
    total = np.zeros(len(place), np.float32)
    for corner in np.ndindex(2, 2, 2):
        x, y, z = ((cell + corner) % _LATTICE).T
        total += values[x, y, z] * np.where(corner, share, 1 - share).prod(1)
    return total
