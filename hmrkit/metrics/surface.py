"""Distance between two surfaces whose vertices do not correspond, through trimesh."""

from __future__ import annotations

import numpy as np

from hmrkit.metrics.frames import Array, mean_known, tensor

# Faces with the nearest centres among which the nearest point is searched. Against all faces the mean over a body
# differs by less than 0.0001 mm, no point by more than 0.1 mm.
_CANDIDATES = 16


def surface_mm(predicted: Array, predicted_faces: Array, truth: Array, truth_faces: Array) -> float:
    """Mean distance between two surfaces, mm, >= 0: from each to the nearest point of the other, mean of both ways.

    Vertices (...,V,3) and (...,W,3) m with faces (F,3) and (G,3): the meshes need not have one vertex order, or one
    number of vertices. A vertex counts by the area of its faces, so that finely meshed hands and faces count no more.
    Meshes are compared where they are. A surface that slides along itself has no distance.
    """
    return mean_known(surface_mm_per_frame(predicted, predicted_faces, truth, truth_faces))


def surface_mm_per_frame(predicted: Array, predicted_faces: Array, truth: Array, truth_faces: Array) -> np.ndarray:
    """`surface_mm` of every frame: vertices (...,V,3), (...,W,3) m -> (...) mm; NaN where either is not known."""
    (p, p_faces), (t, t_faces) = (
        (tensor(vertices).cpu().numpy(), np.asarray(faces))
        for vertices, faces in ((predicted, predicted_faces), (truth, truth_faces))
    )
    leading = p.shape[:-2]
    if leading != t.shape[:-2]:
        raise ValueError(f"expected leading dimensions {leading}, got an array {t.shape}")
    values = [
        (_one_way(a, p_faces, b, t_faces) + _one_way(b, t_faces, a, p_faces)) / 2
        for a, b in zip(p.reshape(-1, *p.shape[-2:]), t.reshape(-1, *t.shape[-2:]), strict=True)
    ]
    return 1000 * np.array(values, np.float64).reshape(leading)


def _one_way(vertices: np.ndarray, faces: np.ndarray, others: np.ndarray, other_faces: np.ndarray) -> float:
    """Mean distance in m from a mesh's vertices (V,3), by area, to the surface of another; NaN where one is unknown."""
    if not (np.isfinite(vertices).all() and np.isfinite(others).all()):
        return np.nan
    import trimesh.triangles

    areas = np.zeros(len(vertices))
    np.add.at(areas, faces, trimesh.triangles.area(vertices[faces])[:, None] / 3)
    return float(np.average(_distances(vertices, others[other_faces]), weights=areas))


def _distances(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Distance (P) from points (P,3) to the nearest of the triangles (F,3,3)."""
    import trimesh.triangles
    from scipy.spatial import KDTree

    count = min(_CANDIDATES, len(triangles))
    _, near = KDTree(triangles.mean(1)).query(points, k=count)
    repeated = np.repeat(points, count, axis=0)
    closest = trimesh.triangles.closest_point(triangles[np.ravel(near)], repeated)
    return np.linalg.norm(closest - repeated, axis=1).reshape(-1, count).min(1)
