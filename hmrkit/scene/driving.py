"""A person's motion on a character's rig, which has proportions of its own.

A bone's rotation is its joint's, from the pose in which its limb lies as the person's does in the T-pose: limbs point
exactly where the person's do, while trunk, head and feet bend as much as the person's from how the character's are at
rest, so that soles stay flat. The pelvis' way is scaled by the length of the legs, and raised or lowered so that the
lower foot is as far above the ground as the person's would be at that size. The mesh becomes a stand-in: the person's,
every bone as long as the character's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from hmrkit.geometry import rotation_between, twist_about
from hmrkit.scene.bind import Bind, bone_of_joint, bone_rotations, local_rotations, scene_axes, skin_at_rest
from hmrkit.scene.rigs import Rig
from hmrkit.scene.types import Character
from hmrkit.skeletons import SMPL_24

# Joints of limbs, and the next one, which they point at.
_LIMBS = {
    f"{side}_{joint}": f"{side}_{end}"
    for side in ("left", "right")
    for joint, end in (
        ("hip", "knee"), ("knee", "ankle"), ("collar", "shoulder"), ("shoulder", "elbow"), ("elbow", "wrist"),
        ("wrist", "hand"),
    )
}  # fmt: skip
_NEXT = {"pelvis": "spine1", "spine1": "spine2", "spine2": "spine3", "spine3": "neck", "neck": "head", **_LIMBS}
_SOLES = tuple(f"{side}_{joint}" for side in ("left", "right") for joint in ("ankle", "foot"))
_STANDING = 0.02  # of the leg's length: how much higher a foot is that counts a third


def driven(character: Character, rig: Rig, size: float, floor: bool) -> Character:
    """The motion on a character's rig."""
    bind = _characters_bind(character, rig, size)
    pelvis, up = rig.bone_of["pelvis"], scene_axes(character)[:, 1]
    posed, ours = character.posed()
    on_floor = floor and rig.root == "floor"
    heading = twist_about(torch.from_numpy(posed[:, 0]), torch.from_numpy(up)).numpy() if on_floor else None
    rotations = bone_rotations(posed, bind, heading)
    places = _places(character, ours, rig, bind, rotations, up, size, floor)
    weights = np.zeros((len(character.skin_weights), len(rig.bones)), np.float32)
    np.add.at(weights.T, bone_of_joint(bind), character.skin_weights.T)
    parent = bind.parents[pelvis]
    way = np.einsum("tba,tb->ta", rotations[:, parent], places[:, pelvis] - places[:, parent])
    return replace(
        character,
        joint_names=tuple(bone.name for bone in rig.bones),
        parents=bind.parents,
        rest_joints=bind.places.astype(np.float32),
        rest_rotations=bind.rotations.astype(np.float32),
        rest_vertices=skin_at_rest(character, bind, _stretched(character, rig, bind)),
        skin_weights=weights,
        local_rotations=local_rotations(rotations, bind.parents),
        root_positions=places[:, 0].astype(np.float32),
        joints=places.astype(np.float32),
        exact_vertices=None,
        pose_shapes=None,
        moving={} if parent < 0 else {pelvis: way.astype(np.float32)},
    )


def _characters_bind(character: Character, rig: Rig, size: float) -> Bind:
    """A character's skeleton in the scene's axes and unit."""
    axes, rest = scene_axes(character), character.rest_joints.astype(np.float64)
    rotations, places = rig.bind()
    rotations, places = axes @ rotations, size * places @ axes.T
    from_bind = np.tile(np.eye(3), (len(rig.bones), 1, 1))
    for i, (bone, parent) in enumerate(zip(rig.bones, rig.parents, strict=True)):
        above = from_bind[parent] if parent >= 0 else np.eye(3)
        end = _LIMBS.get(bone.joint or "")
        if end in rig.bone_of:
            bone_at_rest = above @ (places[rig.bone_of[end]] - places[i])
            wanted = rest[SMPL_24.index[end]] - rest[SMPL_24.index[str(bone.joint)]]
            from_bind[i] = _between(bone_at_rest, wanted) @ above
        elif bone.joint is None or end or bone.joint.endswith("hand"):
            from_bind[i] = above
    joint = np.array([-1 if bone.joint is None else SMPL_24.index[bone.joint] for bone in rig.bones])
    return Bind(rig.parents, joint, rotations, places, from_bind)


def _between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Shortest rotation (3,3) from one direction to another; none where one of them has no length."""
    if min(np.linalg.norm(source), np.linalg.norm(target)) < 1e-9:
        return np.eye(3)
    return rotation_between(torch.from_numpy(source), torch.from_numpy(target)).numpy()


def _places(
    character: Character,
    ours: np.ndarray,
    rig: Rig,
    bind: Bind,
    rotations: np.ndarray,
    up: np.ndarray,
    size: float,
    floor: bool,
) -> np.ndarray:
    """(T,n,3): where a character's bones are, whose rotations (T,n,3,3) are known, of a person with joints `ours`
    (T,24,3).

    The pelvis' way is the person's, times the ratio of the legs' lengths: about the camera, or on a floor about the
    person's first place. Then the character is raised or lowered so that its ankles and toes are as high as the
    person's are at that size, those of the lower foot first.
    """
    rest = character.rest_joints.astype(np.float64)
    legs = [[f"{side}_{joint}" for joint in ("hip", "knee", "ankle")] for side in ("left", "right")]
    length = sum(_chain(bind.places[[rig.bone_of[joint] for joint in leg]]) for leg in legs) / 2
    ratio = length / (sum(_chain(rest[SMPL_24.indices(*leg)]) for leg in legs) / 2)
    way = ratio * ours[:, 0]
    if floor:
        way += (1 - ratio) * (ours[0, 0] - up * (ours[0, 0] @ up))
    places = _chained(rig, bind, rotations, way, up, floor)
    soles = [joint for joint in _SOLES if joint in rig.bone_of]
    joints, bones = SMPL_24.indices(*soles), [rig.bone_of[joint] for joint in soles]
    lifted = ratio * (ours[:, joints] @ up - (rest[joints] @ up - (character.rest_vertices @ up).min()))
    heights = bind.places @ up
    soles_at = min(0.0, float(heights.min())) if rig.floor is None else size * rig.floor
    wanted = lifted + heights[bones] - soles_at
    share = np.exp(-(lifted - lifted.min(1, keepdims=True)) / (_STANDING * length))
    raised = (share * (wanted - places[:, bones] @ up)).sum(1) / share.sum(1)
    return _chained(rig, bind, rotations, way + raised[:, None] * up, up, floor)


def _chained(rig: Rig, bind: Bind, rotations: np.ndarray, way: np.ndarray, up: np.ndarray, floor: bool) -> np.ndarray:
    """(T,n,3): places of bones whose pelvis goes that way (T,3); a bone above it stays, or is on the floor below it."""
    made = np.empty((*rotations.shape[:2], 3))
    for bone, parent in enumerate(bind.parents):
        if bone == rig.bone_of["pelvis"]:
            made[:, bone] = way
        elif parent >= 0:
            offset = bind.rotations[parent].T @ (bind.places[bone] - bind.places[parent])
            made[:, bone] = made[:, parent] + rotations[:, parent] @ offset
        elif floor and rig.root == "floor":
            made[:, bone] = way - (way @ up)[:, None] * up
        else:
            made[:, bone] = bind.places[bone]
    return made


def _chain(places: np.ndarray) -> float:
    """Length of a line through some places (n,3)."""
    return float(np.linalg.norm(np.diff(places, axis=0), axis=1).sum())


def _stretched(character: Character, rig: Rig, bind: Bind) -> np.ndarray:
    """(24,3,3): takes each joint's part of the person's mesh from the T-pose to a bone of the character's length."""
    rest, height = character.rest_joints.astype(np.float64), float(np.ptp(character.rest_joints, axis=0).max())
    width = float(np.ptp(bind.places[bind.joint >= 0], axis=0).max()) / height
    made = np.tile(np.eye(3), (len(SMPL_24), 1, 1))
    for joint, name in enumerate(SMPL_24.joints):
        if name not in rig.bone_of:
            made[joint] = made[SMPL_24.parents[joint]]
            continue
        bone, end = rig.bone_of[name], _NEXT.get(name)
        while end is not None and end not in rig.bone_of:
            end = _NEXT.get(end)
        back = bind.from_bind[bone].T
        if end is None:
            made[joint] = width * back
            continue
        ours, theirs = rest[SMPL_24.index[end]] - rest[joint], bind.places[rig.bone_of[end]] - bind.places[bone]
        along, length = ours / np.linalg.norm(ours), float(np.linalg.norm(theirs) / np.linalg.norm(ours))
        stretch = width * np.eye(3) + (length - width) * np.outer(along, along)
        made[joint] = _between(back @ ours, theirs) @ back @ stretch
    return made
