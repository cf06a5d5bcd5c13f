"""Fewer joints a vertex, for programs that read no more: their weights are fitted to the motion.

Leaving out a vertex's smallest weights moves it by up to a centimetre. The best four joints and weights are those that
carry it nearest to where all of them do, in the frames of this clip: a small least-squares problem a vertex. For
vertices that are still far off it is solved again and again with frames weighted by their error, which makes the
largest one small (Lawson 1961, Contributions to the theory of linear least maximum approximation).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import combinations

import numpy as np

from hmrkit.exporters.character_arrays import strongest_joints
from hmrkit.scene import Character

log = logging.getLogger(__name__)
_MUCH_MM = 2.0
_SAMPLES = 48  # frames that the weights are fitted to first; then as many again that err the most
_ENOUGH_MM = 0.5  # vertices further off than that are fitted to their worst frame
_ROUNDS = 12  # of weighting frames by their error
_STRETCH = 500  # frames whose error is measured at once


def with_influences(character: Character, most: int, metres_per_unit: float = 1.0) -> tuple[Character, float]:
    """The character with no vertex that follows more than `most` joints, and by how much that moves its skin at worst
    in any frame, mm; its final vertices stay what they are."""
    many = np.flatnonzero((character.skin_weights > 0).sum(1) > most)
    if len(many) == 0:
        return character, 0.0
    joints, weights = strongest_joints(character.skin_weights[many])
    weights = weights.astype(np.float64)

    def moved(rows: np.ndarray) -> np.ndarray:
        """(N,K,n,3): how far each joint alone takes each vertex from where all of them do."""
        carried = _carried(character, many, joints, rows)
        away = carried - np.einsum("nk,nkm->nm", weights, carried)[:, None]
        return away.reshape(*joints.shape, len(rows), 3)

    def errors(fitted: np.ndarray) -> np.ndarray:
        """(T,): the largest distance in each frame."""
        stretches = np.split(np.arange(len(character)), range(_STRETCH, len(character), _STRETCH))
        return np.concatenate([_distances(fitted, moved(rows)).max(0) for rows in stretches])

    enough = _ENOUGH_MM / 1000 / metres_per_unit
    rows = np.unique(np.linspace(0, len(character) - 1, _SAMPLES).round().astype(int))
    fitted = _fit(moved(rows), weights, most, enough)
    found = errors(fitted)
    if len(rows) < len(character):
        rows = np.union1d(rows, np.argsort(found)[-_SAMPLES:])
        fitted = _fit(moved(rows), weights, most, enough)
        found = errors(fitted)
    largest = 1000 * metres_per_unit * float(found.max())
    level = logging.WARNING if largest > _MUCH_MM else logging.INFO
    log.log(
        level, "%s: %d joints a vertex move the skin by %.1f mm at worst; --influences 8 keeps it",
        character.name, most, largest,
    )  # fmt: skip
    skin = character.skin_weights.copy()
    skin[many] = 0
    np.add.at(skin, (many[:, None], joints), fitted.astype(np.float32))
    return replace(character, skin_weights=skin, exact_vertices=character.vertices), largest


def _carried(character: Character, vertices: np.ndarray, joints: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(N,K,3n) float64: where each of the joints (N,K) alone takes its vertex, about the middle of each frame."""
    transforms = character.skin_transforms(rows)
    transforms[..., 3] -= transforms[..., 3].mean(1, keepdims=True)
    points = character.rest_vertices[vertices].astype(np.float64)
    moved = np.einsum("tjab,nb->njta", transforms[..., :3], points) + transforms[..., 3].transpose(1, 0, 2)
    return np.take_along_axis(moved, joints[:, :, None, None], 1).reshape(*joints.shape, -1)


def _distances(weights: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """(N,n): how far weights (N,K) take each vertex in each frame from where it should be."""
    return np.linalg.norm(np.einsum("nk,nkta->nta", weights, moved), axis=-1)


def _fit(moved: np.ndarray, weights: np.ndarray, most: int, enough: float) -> np.ndarray:
    """Weights (N,K), at most `most` of each row above 0, all rows summing to 1: of the least squared error, and where
    that leaves a vertex further off than `enough`, of the least error in its worst frame."""
    best, least = np.zeros_like(weights), np.full(len(weights), np.inf)
    for size in range(1, most + 1):
        for chosen in map(list, combinations(range(weights.shape[1]), size)):
            solved, squared = _least_squares(moved[:, chosen])
            squared[(solved < 0).any(1) | (weights[:, chosen] == 0).any(1)] = np.inf
            _keep(best, least, np.arange(len(weights)), chosen, solved, squared)
    least = _distances(best, moved).max(1)
    far = np.flatnonzero(least > enough)
    for chosen in map(list, combinations(range(weights.shape[1]), most)):
        own = far[(weights[far][:, chosen] > 0).all(1)]
        if len(own) == 0:
            continue
        part, share = moved[own][:, chosen], np.ones((len(own), moved.shape[2]))
        for _ in range(_ROUNDS):
            solved = np.maximum(_least_squares(part * np.sqrt(share)[:, None, :, None])[0], 0)
            solved /= solved.sum(1, keepdims=True)
            error = _distances(solved, part)
            _keep(best, least, own, chosen, solved, error.max(1))
            share *= error
            share /= np.maximum(share.mean(1, keepdims=True), 1e-30)
    return best


def _least_squares(moved: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N,k) that sum to 1, of all joints of `moved` (N,k,n,3), and their squared error (N,), the least."""
    each = moved.reshape(*moved.shape[:2], -1)
    gram = each @ each.swapaxes(1, 2)
    count = gram.shape[1]
    gram += 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] / count * np.eye(count) + 1e-30 * np.eye(count)
    solved = np.linalg.solve(gram, np.ones((len(gram), count, 1)))[..., 0]
    solved /= solved.sum(1, keepdims=True)  # Lagrange: w^T G w is the squared error of weights that sum to 1
    return solved, np.einsum("ni,nij,nj->n", solved, gram, solved)


def _keep(
    best: np.ndarray, least: np.ndarray, rows: np.ndarray, chosen: list[int], weights: np.ndarray, error: np.ndarray
) -> None:
    """Write weights of the chosen joints where their error is less than the least so far."""
    better = error < least[rows]
    least[rows[better]] = error[better]
    best[rows[better]] = 0
    best[rows[better][:, None], chosen] = weights[better]
