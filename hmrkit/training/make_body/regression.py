"""Joints as sparse, non-negative combinations of vertices, fitted over many shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

_SUM_WEIGHT = 0.5  # how strongly a row is held to a common sum while it is solved for ...
_SUM = 20.0  # ... which is any number, for rows are normalised afterwards; this one made the shipped files
_SMALLEST = 2e-4  # weights below it are dropped


def fit_regressor(
    vertices: np.ndarray,
    joints: np.ndarray,
    mirror: np.ndarray,
    mirror_joints: Sequence[int],
    candidates: int = 400,
    ridge: float = 1e-2,
    train: int = 300,
) -> np.ndarray:
    """Regressor (J,V), rows sum to 1, from `vertices` (S,V,3) to `joints` (S,J,3) of S shapes, on the first `train`.

    One non-negative least-squares problem a joint over the vertices near it; the right side is the left side's
    reflection (`mirror` (V,), `mirror_joints` (J)), so that a symmetric body has symmetric joints.
    """
    regressor = np.zeros((joints.shape[1], vertices.shape[1]))
    mean, mean_joints = vertices.mean(0), joints.mean(0)
    train = min(train, len(vertices) // 2)
    for joint, other in enumerate(mirror_joints):
        if other < joint:
            continue
        near = _candidates(mean, np.linalg.norm(mean - mean_joints[joint], axis=1), candidates)
        if other == joint:
            near = np.union1d(near, mirror[near])
        # Seen from the joint, the weighted vertices have to sum to zero; then a row for the sum, then the ridge.
        offsets = vertices[:train][:, near] - joints[:train, joint : joint + 1]
        system = offsets.transpose(0, 2, 1).reshape(-1, len(near))
        scale = np.sqrt(len(system))
        target = np.zeros(len(system) + 1 + len(near))
        target[len(system)] = _SUM_WEIGHT * scale * _SUM
        rows = np.full((1, len(near)), _SUM_WEIGHT * scale)
        system = np.concatenate([system, rows, ridge * scale * np.eye(len(near))])
        weights, _ = nnls(system, target, maxiter=20 * len(near))
        weights /= weights.sum()
        if other == joint:
            row = np.zeros(vertices.shape[1])
            row[near] = weights
            regressor[joint] = (row + row[mirror]) / 2
        else:
            regressor[joint, near] = weights
            regressor[other, mirror[near]] = weights
    regressor[regressor < _SMALLEST] = 0
    return regressor / regressor.sum(1, keepdims=True)


def _candidates(points: np.ndarray, distance: np.ndarray, count: int) -> np.ndarray:
    """Vertices within 2.2 times the distance of the 60th nearest, thinned to `count` by farthest-point sampling."""
    near = np.nonzero(distance < max(np.sort(distance)[60] * 2.2, 0.05))[0]
    if len(near) <= count:
        return near
    chosen = [int(np.argmin(distance[near]))]
    gap = np.linalg.norm(points[near] - points[near][chosen[0]], axis=1)
    for _ in range(count - 1):
        chosen.append(int(np.argmax(gap)))
        gap = np.minimum(gap, np.linalg.norm(points[near] - points[near][chosen[-1]], axis=1))
    return near[np.unique(chosen)]
