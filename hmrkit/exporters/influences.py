"""Fewer joints a vertex, for programs that read no more: their weights are fitted to the motion.

Leaving out a vertex's smallest weights moves it by up to a centimetre. The best four joints and weights are those that
carry it nearest to where all of them do, in the frames of this clip: a small least-squares problem a vertex.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import combinations

import numpy as np

from hmrkit.exporters.character_arrays import strongest_joints
from hmrkit.scene import Character

log = logging.getLogger(__name__)
_MUCH = 1 / 900  # of the body's height: 2 mm
_SAMPLES = 48  # frames that the weights are fitted to


def with_influences(character: Character, most: int) -> Character:
    """The character with no vertex that follows more than `most` joints; its final vertices stay what they are."""
    many = np.flatnonzero((character.skin_weights > 0).sum(1) > most)
    if len(many) == 0:
        return character
    rows = np.unique(np.linspace(0, len(character) - 1, _SAMPLES).round().astype(int))
    joints, weights = strongest_joints(character.skin_weights[many])
    carried = _carried(character, many, joints, rows)  # (N,K,M): where each joint takes each vertex
    fitted = _fit(carried, weights.astype(np.float64), most)
    off = np.einsum("nk,nkm->nm", fitted - weights, carried).reshape(len(many), -1, 3)
    height = float(np.ptp(character.rest_vertices, axis=0).max())
    if (largest := float(np.linalg.norm(off, axis=-1).max()) / height) > _MUCH:
        log.warning(
            "%s: %d joints a vertex move the skin by up to %.2f %% of the body's height; --influences 8 keeps it",
            character.name, most, 100 * largest,
        )  # fmt: skip
    skin = character.skin_weights.copy()
    skin[many] = 0
    np.add.at(skin, (many[:, None], joints), fitted.astype(np.float32))
    return replace(character, skin_weights=skin, exact_vertices=character.vertices)


def _carried(character: Character, vertices: np.ndarray, joints: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(N,K,3n) float64: where each of the joints (N,K) alone takes its vertex, about the middle of each frame."""
    transforms = character.skin_transforms(rows)
    transforms[..., 3] -= transforms[..., 3].mean(1, keepdims=True)
    points = character.rest_vertices[vertices].astype(np.float64)
    moved = np.einsum("tjab,nb->njta", transforms[..., :3], points) + transforms[..., 3].transpose(1, 0, 2)
    return np.take_along_axis(moved, joints[:, :, None, None], 1).reshape(*joints.shape, -1)


def _fit(carried: np.ndarray, weights: np.ndarray, most: int) -> np.ndarray:
    """Weights (N,K), at most `most` of each row above 0, all rows summing to 1, nearest to what `weights` make."""
    away = carried - np.einsum("nk,nkm->nm", weights, carried)[:, None]  # each joint's own error
    gram = away @ away.swapaxes(1, 2)  # w^T G w is the squared error of weights that sum to 1
    scale = np.trace(gram, axis1=1, axis2=2)[:, None, None] / gram.shape[1]
    best, least = np.zeros_like(weights), np.full(len(weights), np.inf)
    for size in range(1, most + 1):
        for chosen in map(list, combinations(range(weights.shape[1]), size)):
            part = gram[:, chosen][:, :, chosen] + 1e-9 * scale * np.eye(size)
            solved = np.linalg.solve(part, np.ones((len(weights), size, 1)))[..., 0]
            solved /= solved.sum(1, keepdims=True)  # Lagrange: the least error of weights that sum to 1
            error = np.einsum("ni,nij,nj->n", solved, part, solved)
            error[(solved < 0).any(1) | (weights[:, chosen] == 0).any(1)] = np.inf
            better = error < least
            least[better] = error[better]
            best[better] = 0
            best[np.ix_(better, chosen)] = solved[better]
    return best
