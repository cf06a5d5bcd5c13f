"""Nearest points on a triangle mesh, exact among the faces whose middles are near."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree


def nearest_on_mesh(points: np.ndarray, triangles: np.ndarray, candidates: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """For `points` (P,3) the nearest of `triangles` (F,3,3): its index (P,) and the barycentrics (P,3) of the place.

    Only the `candidates` triangles with the nearest middles are compared: enough on meshes of even size.
    """
    count = min(candidates, len(triangles))
    _, near = KDTree(triangles.mean(1)).query(points, k=count)
    near = np.asarray(near).reshape(len(points), count)
    place = np.stack([closest_barycentrics(points, triangles[near[:, k]]) for k in range(count)], 1)
    reached = np.einsum("pkc,pkcd->pkd", place, triangles[near])
    best = np.linalg.norm(reached - points[:, None], axis=2).argmin(1)
    rows = np.arange(len(points))
    return near[rows, best], place[rows, best]


def closest_barycentrics(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Barycentrics (P,3) of the point of `triangles` (P,3,3) that is nearest to `points` (P,3).

    The projection where it falls inside, else the best of the three edges.
    """
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    e1, e2, d = b - a, c - a, points - a
    d11, d12, d22 = (e1 * e1).sum(1), (e1 * e2).sum(1), (e2 * e2).sum(1)
    p1, p2 = (d * e1).sum(1), (d * e2).sum(1)
    det = np.maximum(d11 * d22 - d12**2, 1e-30)
    v, w = (d22 * p1 - d12 * p2) / det, (d11 * p2 - d12 * p1) / det
    inside = np.stack([1 - v - w, v, w], 1)
    options, gaps = [inside], [np.where((inside >= 0).all(1), -1.0, np.inf)]  # inside always wins
    for first in range(3):
        second = (first + 1) % 3
        start, edge = triangles[:, first], triangles[:, second] - triangles[:, first]
        t = (((points - start) * edge).sum(1) / np.maximum((edge * edge).sum(1), 1e-30)).clip(0, 1)
        place = np.zeros((len(points), 3))
        place[:, first], place[:, second] = 1 - t, t
        options.append(place)
        gaps.append(np.linalg.norm(start + t[:, None] * edge - points, axis=1))
    best = np.argmin(np.stack(gaps, 1), 1)
    return np.stack(options, 1)[np.arange(len(points)), best]
