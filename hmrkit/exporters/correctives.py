"""Blend shapes that make a skinned mesh show the exact one: what linear blend skinning alone cannot.

The final mesh of a frame, taken back through that frame's skinning, differs from the rest mesh by a little in every
frame: pose-dependent shape, and what calibration moved. Those differences have few degrees of freedom, so their leading
singular vectors, as blend shapes before skinning with a weight for each frame, give the exact mesh back.
"""

from __future__ import annotations

import numpy as np

from hmrkit.scene import Character, Rows

_SAMPLES = 256  # frames whose differences are held at once to find the shapes
MOST_SHAPES = 128


def corrective_shapes(
    character: Character, tolerance: float, most: int = MOST_SHAPES
) -> tuple[np.ndarray, np.ndarray, float]:
    """Shapes (P,V,3) to add to the rest mesh, their weights (T,P), and the largest distance left, in the scene's unit.

    As few as leave no sampled vertex further than `tolerance` from where it should be, but no more than `most`.
    """
    rest = character.rest_vertices
    size = rest.size
    rows = np.unique(np.linspace(0, len(character) - 1, _SAMPLES).round().astype(int))
    wanted = np.concatenate([differences(character, part) for part in np.array_split(rows, -(-len(rows) // 32))])
    wanted = wanted.reshape(len(rows), size)
    if float(np.abs(wanted).max()) < tolerance:
        return np.zeros((0, *rest.shape), np.float32), np.zeros((len(character), 0), np.float32), _largest(wanted)
    # Singular vectors from the small side: frames are far fewer than coordinates.
    values, vectors = np.linalg.eigh((wanted @ wanted.T).astype(np.float64))
    order = np.argsort(-values)[: min(most, int((values > values.max() * 1e-9).sum()))]
    basis = (vectors[:, order] / np.sqrt(values[order])).T.astype(np.float32) @ wanted  # rows of unit length
    low, high = 1, len(basis)
    while low < high:  # the largest distance falls with the number of shapes
        middle = (low + high) // 2
        small = basis[:middle]
        if _largest(wanted - (wanted @ small.T) @ small) <= tolerance:
            high = middle
        else:
            low = middle + 1
    basis = basis[:low]
    weights = np.empty((len(character), low), np.float32)
    left = 0.0
    for part in character.stretches():
        difference = differences(character, part).reshape(-1, size)
        weights[part] = difference @ basis.T
        left = max(left, _largest(difference - weights[part] @ basis))
    return basis.reshape(low, *rest.shape), weights, left


def in_unit_range(shapes: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same sums with weights (T,P+1) from 0 to 1, as sliders have them: Blender cuts other keys off.

    The shape that is added, the first, is what all weights' lowest values make; it is always on.
    """
    low, high = weights.min(0), weights.max(0)
    span = np.maximum(high - low, 1e-12)
    base = np.einsum("p,pvc->vc", low, shapes)[None]
    shares = np.concatenate([np.ones((len(weights), 1)), (weights - low) / span], 1)
    return np.concatenate([base, shapes * span[:, None, None]]).astype(np.float32), shares.astype(np.float32)


def differences(character: Character, rows: Rows) -> np.ndarray:
    """What must be added to the rest mesh (n,V,3) so that skinning it gives the final vertices of these rows."""
    transforms = character.skin_transforms(rows)
    blended = np.einsum("vj,tjk->tvk", character.skin_weights, transforms.reshape(*transforms.shape[:2], 12))
    blended = blended.reshape(len(transforms), -1, 3, 4)
    target = character.vertices(rows) - blended[..., 3]
    return (_solve(blended[..., :3], target) - character.rest_vertices).astype(np.float32)


def _solve(matrices: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve (...,3,3) x = (...,3) by Cramer's rule: for millions of small systems faster than a general solver."""
    a, b, c = matrices[..., 0], matrices[..., 1], matrices[..., 2]
    bc = np.cross(b, c)
    determinant = np.sum(a * bc, -1)
    parts = [bc, np.cross(c, a), np.cross(a, b)]
    return np.stack([np.sum(part * right, -1) / determinant for part in parts], -1)


def _largest(difference: np.ndarray) -> float:
    """The largest length among differences (n, V*3)."""
    return float(np.sqrt((difference.reshape(len(difference), -1, 3) ** 2).sum(-1).max()))
