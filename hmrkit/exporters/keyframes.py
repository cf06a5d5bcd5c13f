"""Keys that may be left out: what is left moves no joint by more than the tolerance, in the scene and along its chain.

A small error of a shoulder is a large one of the hand, and errors of a chain add up. So each joint's rotation gets a
tolerance by how far the joints below it reach; then all of them are made as wide as the motion itself allows, which
is measured: joints are posed by the curves that are left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hmrkit.exporters.curves import keys_to_keep
from hmrkit.scene import Character

_WIDEST = 32.0  # times the tolerances that hold for any motion


def keys_within(
    character: Character,
    curves: np.ndarray,
    rotations: Callable[[np.ndarray], np.ndarray],
    per_degree: float,
    tolerance: float,
    metres_per_unit: float,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rows of the root's places, and of each joint's rotations, that stay.

    `curves` (T,J,C) are interpolated linearly, `rotations` takes them to the character's local rotations (T,J,3,3);
    `per_degree`: how much the columns of a curve change in sum, at the most, where a joint is rotated by a degree.
    `tolerance`: in degrees for each rotation, in mm for the place of each joint.
    """
    unit = 1e-3 / metres_per_unit
    reach = _reach(character)
    share = tolerance * unit / (1 + _longest_chain(character, reach))
    narrow = np.degrees(share / np.maximum(reach, 1e-9 * unit))
    factor, places = _WIDEST, character.posed()[1]
    while True:
        degrees = np.minimum(factor * narrow, tolerance)
        root = keys_to_keep(character.root_positions, min(factor * share, tolerance * unit))
        joints = [
            keys_to_keep(curves[:, joint], float(degrees[joint]) * per_degree) for joint in range(curves.shape[1])
        ]
        error = _error(character, places, curves, rotations, root, joints)
        if error <= tolerance * unit or factor == 1:
            return root, joints
        factor = max(1.0, factor * min(0.8, tolerance * unit / error))


def _error(
    character: Character,
    places: np.ndarray,
    curves: np.ndarray,
    rotations: Callable[[np.ndarray], np.ndarray],
    root: np.ndarray,
    joints: list[np.ndarray],
) -> float:
    """The largest distance that leaving keys out puts between any joint and its place, of `places` (T,J,3)."""
    left = np.stack([_interpolated(curves[:, joint], rows) for joint, rows in enumerate(joints)], 1)
    reduced = replace(
        character,
        local_rotations=rotations(left),
        root_positions=_interpolated(character.root_positions, root),
        exact_vertices=None,
    )
    return float(np.linalg.norm(reduced.posed()[1] - places, axis=-1).max())


def _interpolated(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Values (T,C) as straight lines between some of their rows make them."""
    return np.stack([np.interp(np.arange(len(values)), rows, column[rows]) for column in values.T], 1)


def _reach(character: Character) -> np.ndarray:
    """(J,): how far along the bones the farthest joint below each joint is; 0 for the last ones."""
    bones = np.linalg.norm(character.rest_joints - character.rest_joints[list(character.parents)], axis=1)
    reach = np.zeros(len(bones))
    for joint in range(len(bones) - 1, 0, -1):  # parents come first
        parent = character.parents[joint]
        reach[parent] = max(reach[parent], reach[joint] + bones[joint])
    return reach


def _longest_chain(character: Character, reach: np.ndarray) -> int:
    """Most joints on one chain that move another one."""
    depth = np.zeros(len(reach), int)
    for joint, parent in enumerate(character.parents):
        depth[joint] = (depth[parent] if parent >= 0 else 0) + (reach[joint] > 0)
    return int(depth.max())
