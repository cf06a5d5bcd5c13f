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


def pose_shape_names(count: int) -> list[str]:
    """Names of `count` pose blend shapes in unit range: that which is always on, then SMPL's as its tools name them."""
    return ["PoseBase", *(f"Pose{number:03d}" for number in range(count - 1))]


def differences(character: Character, rows: Rows) -> np.ndarray:
    """What must be added to the rest mesh (n,V,3) so that skinning it gives the final vertices of these rows.

    Each vertex has a blended matrix of its own in each frame; all of them are undone by Cramer's rule, coordinate by
    coordinate. About the middle of each frame's joints, so that a person far from the origin loses no digits.
    """
    transforms = character.skin_transforms(rows)
    middle = transforms[..., 3].mean(1)
    transforms[..., 3] -= middle[:, None]
    flat = transforms.reshape(*transforms.shape[:2], 12).transpose(2, 1, 0).astype(np.float32)
    m = (character.skin_weights.astype(np.float32) @ flat).reshape(3, 4, -1, len(transforms))  # (row, column, V, n)
    moved = (character.vertices(rows) - middle[:, None].astype(np.float32)).transpose(2, 1, 0) - m[:, 3]
    first, second, third = m[:, :3]  # rows of the matrices
    cofactors = _cross(second, third), _cross(third, first), _cross(first, second)
    solved = sum(row * at for row, at in zip(cofactors, moved, strict=True)) / (first * cofactors[0]).sum(0)
    return solved.transpose(2, 1, 0) - character.rest_vertices


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of vectors whose coordinates come first (3,...): contiguous, unlike NumPy's own."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _largest(difference: np.ndarray) -> float:
    """The largest length among differences (n, V*3)."""
    return float(np.sqrt((difference.reshape(len(difference), -1, 3) ** 2).sum(-1).max()))
