"""A skeleton at rest beside a person's T-pose, and what follows from it: its bones' rotations, its skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hmrkit.scene.types import Z_UP_FROM_Y_UP, Character, blend_skin
from hmrkit.skeletons import SMPL_24


@dataclass(frozen=True)
class Bind:
    """A skeleton at rest, in the scene's axes and unit. Per bone: `parents`, the `joint` of SMPL's that drives it (-1:
    none), `rotations` (n,3,3), `places` (n,3), and `from_bind` (n,3,3), which rotates it into the person's T-pose."""

    parents: tuple[int, ...]
    joint: np.ndarray
    rotations: np.ndarray
    places: np.ndarray
    from_bind: np.ndarray


def bone_rotations(character: Character, bind: Bind, top: np.ndarray | None = None) -> np.ndarray:
    """(T,n,3,3): the bones' rotations in the scene; `top` (T,3,3) rotates what is above the pelvis."""
    posed = character.posed()[0] @ np.swapaxes(character.rest_rotations, -1, -2)  # from the T-pose
    made = np.empty((len(character), len(bind.joint), 3, 3))
    for bone, (joint, parent) in enumerate(zip(bind.joint, bind.parents, strict=True)):
        if joint >= 0:
            made[:, bone] = posed[:, joint] @ bind.from_bind[bone] @ bind.rotations[bone]
        elif parent >= 0:
            made[:, bone] = made[:, parent] @ bind.rotations[parent].T @ bind.rotations[bone]
        else:
            made[:, bone] = bind.rotations[bone] if top is None else top @ bind.rotations[bone]
    return made


def local_rotations(rotations: np.ndarray, parents: tuple[int, ...]) -> np.ndarray:
    """Rotations in the scene (T,n,3,3) -> against the parent's, float32."""
    local = rotations.copy()
    for bone, parent in enumerate(parents):
        if parent >= 0:
            local[:, bone] = np.swapaxes(rotations[:, parent], -1, -2) @ rotations[:, bone]
    return local.astype(np.float32)


def scene_axes(character: Character) -> np.ndarray:
    """(3,3): from y up to the scene's axes. The person at rest stands upright, so the trunk tells which way is up."""
    trunk = character.rest_joints[SMPL_24.index["head"]] - character.rest_joints[0]
    return Z_UP_FROM_Y_UP if abs(trunk[2]) > abs(trunk[1]) else np.eye(3)


def skin_at_rest(character: Character, bind: Bind, carried: np.ndarray) -> np.ndarray:
    """The mesh of the T-pose in the bind pose (V,3): joint j's part is moved by `carried` (24,3,3) from the joint's
    place to that of its bone, or goes on with its parent's where it drives none."""
    bones = bone_of_joint(bind)
    rest = character.rest_joints.astype(np.float64)
    places = bind.places[bones].copy()
    for joint in np.flatnonzero(~np.isin(np.arange(len(SMPL_24)), bind.joint)):  # goes on with its parent
        parent = SMPL_24.parents[joint]
        places[joint] = places[parent] + carried[parent] @ (rest[joint] - rest[parent])
    shift = places - (carried @ rest[..., None])[..., 0]
    transforms = np.concatenate([carried, shift[..., None]], -1)[None]
    return blend_skin(character.rest_vertices, character.skin_weights, transforms)[0]


def bone_of_joint(bind: Bind) -> np.ndarray:
    """(24,): the bone of each of SMPL's joints, or that of the nearest joint above which has one."""
    found = np.full(len(SMPL_24), -1)
    found[bind.joint[bind.joint >= 0]] = np.flatnonzero(bind.joint >= 0)
    for joint, parent in enumerate(SMPL_24.parents):
        if found[joint] < 0 <= parent:
            found[joint] = found[parent]
    return found
