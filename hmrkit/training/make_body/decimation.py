"""Thin a symmetric mesh to a number of vertices, on both sides alike, for many shapes of it at once.

Quadric error decimation (Garland & Heckbert 1997) by half-edge collapses: a vertex moves onto a neighbour, so the
kept ones stay where they were in every shape, with their blend shapes and skinning weights.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np

_EVENNESS = 2.5e-3  # weight of the quadrics that pull towards triangles' middles, which keep triangle sizes even
_MIN_QUALITY = 0.045  # doubled area over summed squared edges, below which a triangle counts as a sliver
_MIN_COSINE = 0.25  # between a triangle's normals before and after a collapse


def decimate(
    shapes: np.ndarray, faces: np.ndarray, mirror: np.ndarray, target: int, locked: Iterable[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Kept vertices and their faces, in the kept ones' numbering, of a closed mesh (F,3) in `shapes` (S,V,3).

    Stops at `target` vertices, or where no collapse is left. `locked` vertices stay. `mirror` (V,) as `mirror_map`.
    """
    mesh = _Mesh(shapes, faces, mirror, locked)
    while mesh.count > target and mesh.collapse_cheapest(target):
        pass
    keep = np.nonzero(mesh.alive)[0]
    number = np.full(shapes.shape[1], -1)
    number[keep] = np.arange(len(keep))
    return keep, np.array([[number[v] for v in face] for face in mesh.faces if face is not None])


class _Mesh:
    """A mesh under decimation: faces and neighbours of every vertex, quadrics, and the queue of collapses."""

    def __init__(self, shapes: np.ndarray, faces: np.ndarray, mirror: np.ndarray, locked: Iterable[int]) -> None:
        count = shapes.shape[1]
        self.shapes = shapes
        self.faces: list[tuple[int, ...] | None] = [tuple(int(v) for v in face) for face in faces]
        self.neighbours: list[set[int]] = [set() for _ in range(count)]
        self.faces_of: list[set[int]] = [set() for _ in range(count)]
        for index, face in enumerate(self.faces):
            for vertex in face or ():
                self.faces_of[vertex].add(index)
                self.neighbours[vertex].update(set(face or ()) - {vertex})
        self.alive = np.array([len(own) > 0 for own in self.faces_of])
        self.count = int(self.alive.sum())
        self.mirror = [int(v) for v in mirror]
        self.middle = mirror == np.arange(count)
        self.locked = np.zeros(count, bool)
        self.locked[list(locked)] = True
        self.quadrics = _quadrics(shapes, faces)
        self.homogeneous = np.concatenate([shapes, np.ones((*shapes.shape[:2], 1))], -1)
        self.stamp = [0] * count  # rises when a vertex's surroundings change: queued costs of before are void
        self.queue: list[tuple[float, int, int, int, int]] = []
        for vertex in np.nonzero(self.alive)[0]:
            self._queue_vertex(int(vertex))

    def collapse_cheapest(self, target: int) -> bool:
        """Do the next collapse that is possible, on both sides; False where there is none."""
        while self.queue:
            _, u, v, stamp_u, stamp_v = heapq.heappop(self.queue)
            if not (self.alive[u] and self.alive[v]) or (self.stamp[u], self.stamp[v]) != (stamp_u, stamp_v):
                continue
            fewer = 1 if self.middle[u] else 2
            if self.count - fewer < target or not self._allowed(u, v):
                continue
            other_u, other_v = self.mirror[u], self.mirror[v]
            if not self.middle[u]:
                if other_u == v or other_v == u or other_u in self.neighbours[u]:
                    continue
                if other_v in self.neighbours[u] and not self.middle[v]:
                    continue  # so near the middle line the two collapses would tangle
            ring = self._collapse(u, v)
            if not self.middle[u]:
                ring |= self._collapse(other_u, other_v)
            self.count -= fewer
            self._requeue(ring)
            return True
        return False

    def _queue_collapse(self, u: int, v: int) -> None:
        point = self.homogeneous[:, v]
        cost = float(np.einsum("si,sij,sj->", point, self.quadrics[u] + self.quadrics[v], point))
        heapq.heappush(self.queue, (cost, u, v, self.stamp[u], self.stamp[v]))

    def _queue_vertex(self, u: int) -> None:
        if self.locked[u] or not self.alive[u]:
            return
        for v in self.neighbours[u]:
            off_the_middle = self.middle[u] and not self.middle[v]  # the middle line only shrinks along itself
            if not off_the_middle and (v != self.mirror[u] or self.middle[u]):
                self._queue_collapse(u, v)

    def _requeue(self, ring: set[int]) -> None:
        for w in ring:
            self.stamp[w] += 1
        for w in ring:
            self._queue_vertex(w)
            for x in self.neighbours[w]:
                if x not in ring and not self.locked[x] and not (self.middle[x] and not self.middle[w]):
                    self._queue_collapse(x, w)

    def _allowed(self, u: int, v: int) -> bool:
        """Whether u onto v keeps the mesh a closed surface without folds or slivers, in every shape."""
        common = self.neighbours[u] & self.neighbours[v]
        if len(common) != 2 or any(len(self.neighbours[w]) <= 3 for w in common):
            return False
        for index in self.faces_of[u]:
            face = list(self.faces[index] or ())
            if v in face:
                continue
            before, after = self.shapes[:, face], self.shapes[:, [v if w == u else w for w in face]]
            normal, area = _normals(before)
            new_normal, new_area = _normals(after)
            if ((normal * new_normal).sum(1) < _MIN_COSINE * area * new_area).any():
                return False
            edges = after[:, [1, 2, 0]] - after
            if (new_area / (edges**2).sum((1, 2)) < _MIN_QUALITY).any():
                return False
        return True

    def _collapse(self, u: int, v: int) -> set[int]:
        """Move u onto v; returns the vertices whose surroundings changed."""
        for index in list(self.faces_of[u]):
            face = self.faces[index] or ()
            if v in face:
                for w in face:
                    self.faces_of[w].discard(index)
                self.faces[index] = None
            else:
                self.faces[index] = tuple(v if w == u else w for w in face)
                self.faces_of[v].add(index)
        ring, self.faces_of[u], self.neighbours[u] = self.neighbours[u], set(), set()
        for w in ring:
            self.neighbours[w].discard(u)
        for w in ring - {v}:
            self.neighbours[w].add(v)
            self.neighbours[v].add(w)
        self.alive[u] = False
        self.quadrics[v] += self.quadrics[u]
        return ring | {v}


def _normals(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normals (S,3) of triangles (S,3,3), as long as twice their area, and that length (S)."""
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return normal, np.linalg.norm(normal, axis=1)


def _quadrics(shapes: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V,S,4,4): squared distance to the planes, and a little to the middles, of each vertex's triangles, by area."""
    corners = shapes[:, faces]
    normal = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    area = np.linalg.norm(normal, axis=-1) + 1e-20
    normal = normal / area[..., None]
    plane = np.concatenate([normal, -(normal * corners[:, :, 0]).sum(-1, keepdims=True)], -1)
    quadric = plane[..., :, None] * plane[..., None, :] * area[..., None, None]
    middle = corners.mean(2)
    point = np.zeros((*middle.shape[:2], 4, 4))
    point[..., :3, :3] = np.eye(3)
    point[..., :3, 3] = point[..., 3, :3] = -middle
    point[..., 3, 3] = (middle**2).sum(-1)
    summed = np.zeros((shapes.shape[1], len(shapes), 4, 4))
    both = (quadric + point * (area * _EVENNESS)[..., None, None]).transpose(1, 0, 2, 3)
    for corner in range(3):
        np.add.at(summed, faces[:, corner], both)
    return summed
