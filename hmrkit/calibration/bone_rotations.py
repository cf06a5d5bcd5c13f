"""A skeleton's bones, rotated: what the steps that make a calibration target have in common.

All of them work on one value, the rotations (T,23,3,3): how far each bone (named by its child joint, as in
`hmrkit.calibration`) is rotated from the mesh stream's, in camera axes. Rotations are small and smooth where the
streams agree, so smoothing them over time never blurs the motion itself."""

from __future__ import annotations

import torch
from torch import Tensor

from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.skeletons import SMPL_24

# Bones that a lifter sees from end to end, parents first.
LIMBS = tuple(
    (f"{side}_{start}", f"{side}_{end}")
    for start, end in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
    for side in ("left", "right")
)
SEEN_JOINTS = tuple(dict.fromkeys(name for limb in LIMBS for name in limb))
# What is corrected: trunk as two rigid pieces, limbs by bones (named by the joint at their end).
PIECES = ("pelvis", "chest", *(end for _, end in LIMBS))
_PELVIS_BONES = ("left_hip", "right_hip", "spine1")
_CHEST_BONES = ("neck", "left_collar", "right_collar", "left_shoulder", "right_shoulder")
_SPINE_BONES = (("spine2", 1 / 3), ("spine3", 2 / 3))
_PIECE_OF = {
    **{end: end for _, end in LIMBS},
    **dict.fromkeys([*_PELVIS_BONES, "spine2"], "pelvis"),
    **dict.fromkeys([*_CHEST_BONES, "spine3"], "chest"),
    **{f"{side}_hand": f"{side}_wrist" for side in ("left", "right")},
}


def bone(name: str) -> int:
    """The number, of 23, of the bone that ends at a joint."""
    return SMPL_24.index[name] - 1


def bones_of(joints: Tensor) -> Tensor:
    """(T,24,3) -> (T,23,3) m, from parent to child."""
    return joints[:, 1:] - joints[:, list(SMPL_24.parents[1:])]


def no_rotations(mesh: Tensor) -> Tensor:
    """Rotations (T,23,3,3) of the joints `mesh` (T,24,3) that leave every bone alone."""
    return torch.eye(3, dtype=mesh.dtype, device=mesh.device).expand(len(mesh), 23, 3, 3)


def rotated(rotation: Tensor, vector: Tensor) -> Tensor:
    """Vectors (...,3), rotated (...,3,3)."""
    return (rotation @ vector[..., None]).squeeze(-1)


def assemble(mesh: Tensor, rotations: Tensor, lengths: Tensor, root: Tensor) -> Tensor:
    """Joints (T,24,3) of the bones of `mesh` (T,24,3), rotated and scaled by `lengths` (23,), hung on `root` (T,3)."""
    bones = rotated(rotations, bones_of(mesh)) * lengths[:, None]
    joints = [root]
    for child in range(1, 24):
        joints.append(joints[SMPL_24.parents[child]] + bones[:, child - 1])
    return torch.stack(joints, 1)


def of_bones(values: Tensor) -> Tensor:
    """Values (...,10,D) of `PIECES` -> those of the bones (...,23,D) that move with them: hands with forearms, the
    spine with its ends. Zero for head and feet."""
    index = [PIECES.index(_PIECE_OF[name]) if name in _PIECE_OF else len(PIECES) for name in SMPL_24.joints[1:]]
    return torch.cat([values, torch.zeros_like(values[..., :1, :])], -2)[..., index, :]


def with_trunk(rotations: Tensor, pelvis: Tensor, chest: Tensor) -> Tensor:
    """`rotations` (T,23,3,3) with pelvis and chest rotated further (T,3,3) and the spine bent from one to the other."""
    bones = list(rotations.unbind(1))
    between = matrix_to_axis_angle(pelvis.mT @ chest)
    parts = [(name, pelvis) for name in _PELVIS_BONES] + [(name, chest) for name in _CHEST_BONES]
    parts += [(name, pelvis @ axis_angle_to_matrix(share * between)) for name, share in _SPINE_BONES]
    for name, rotation in parts:
        bones[bone(name)] = rotation @ bones[bone(name)]
    return torch.stack(bones, 1)


def with_hands(rotations: Tensor) -> Tensor:
    """Hands rotate with their forearms. Head and feet keep the direction in which the mesh stream saw them."""
    source = list(range(23))
    for side in ("left", "right"):
        source[bone(f"{side}_hand")] = bone(f"{side}_wrist")
    return rotations[:, source]


def with_bends(rotations: Tensor, kept: Tensor) -> Tensor:
    """`rotations` (T,23,3,3) whose thighs and shins rotate alike by the share `kept` (T,2), left first: at 1 the knee's
    bend stays the mesh stream's, and the leg rotates as a whole, by the mean of both."""
    bones = list(rotations.unbind(1))
    for k, side in enumerate(("left", "right")):
        thigh, shin = bone(f"{side}_knee"), bone(f"{side}_ankle")
        between = matrix_to_axis_angle(bones[thigh].mT @ bones[shin]) * kept[:, k, None]
        bones[thigh] = bones[thigh] @ axis_angle_to_matrix(between / 2)
        bones[shin] = bones[shin] @ axis_angle_to_matrix(-between / 2)
    return torch.stack(bones, 1)
