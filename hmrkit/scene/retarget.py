"""The same motion on another program's skeleton: its joint names, its rest pose, its joints' axes.

Joints stay where the body model has them, so bones keep the person's lengths; nothing is fitted. What changes is what a
joint is called, which way its axes point at rest, and, for ``unreal``, the pose that counts as rest.

========== ======================= ======= ==========================================================================
skeleton   names                   rest    axes at rest (person facing forward)
========== ======================= ======= ==========================================================================
``smpl``   pelvis, left_hip ...    T-pose  all parallel to the scene's
``mixamo`` mixamorig:Hips ...      T-pose  y along the bone. Legs: z forward; feet: z up; arms: z down; trunk: z forward
``unreal`` pelvis, thigh_l ...     A-pose  x along the bone. Trunk: y backward; left arm: y forward; left leg: x back
                                           along the bone, y forward; the right side's axes point the other way
========== ======================= ======= ==========================================================================

Mixamo's axes are those of its X Bot. Unreal's are what public projects show of the mannequin's (``calf_l`` lies at -x
of ``thigh_l``, ``calf_r`` at +x; not checked in Unreal itself), with arms lowered by `A_POSE_DEG`; twist bones and
fingers are absent, hands keep the forearm's axes. SMPL's one hand joint stands at the knuckles and takes the name of
the middle finger's first bone. Changing the rest pose changes linear blend skinning a little (most at a raised
shoulder): ``smpl`` and ``mixamo`` show exactly the same mesh, ``unreal`` only in its A-pose:
a warning has the figure, and `exact` corrective shapes give the mesh back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hmrkit.members import unknown
from hmrkit.scene import Character, blend_skin
from hmrkit.skeletons import SMPL_24, swap_sides

log = logging.getLogger(__name__)
SKELETON_NAMES = ("smpl", "mixamo", "unreal")
A_POSE_DEG = 45.0

# Directions of a person at rest, y up, facing +z.
_UP, _FORWARD = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
_Z_UP_FROM_Y_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])

# SMPL's joint: name, the axis that points along, where to (a joint, or a direction), a second axis and its direction.
# Only the middle and the left side; the right side follows.
_Axes = tuple[str, str, "str | np.ndarray", str, np.ndarray]
_MIXAMO: dict[str, _Axes] = {
    "pelvis": ("Hips", "y", _UP, "z", _FORWARD),
    "spine1": ("Spine", "y", "spine2", "z", _FORWARD),
    "spine2": ("Spine1", "y", "spine3", "z", _FORWARD),
    "spine3": ("Spine2", "y", "neck", "z", _FORWARD),
    "neck": ("Neck", "y", "head", "z", _FORWARD),
    "head": ("Head", "y", _UP, "z", _FORWARD),
    "left_collar": ("LeftShoulder", "y", "left_shoulder", "z", -_UP),
    "left_shoulder": ("LeftArm", "y", "left_elbow", "z", -_UP),
    "left_elbow": ("LeftForeArm", "y", "left_wrist", "z", -_UP),
    "left_wrist": ("LeftHand", "y", "left_hand", "z", -_UP),
    "left_hand": ("LeftHandMiddle1", "y", "left_wrist", "z", -_UP),
    "left_hip": ("LeftUpLeg", "y", "left_knee", "z", _FORWARD),
    "left_knee": ("LeftLeg", "y", "left_ankle", "z", _FORWARD),
    "left_ankle": ("LeftFoot", "y", "left_foot", "z", _UP),
    "left_foot": ("LeftToeBase", "y", _FORWARD, "z", _UP),
}
_UNREAL: dict[str, _Axes] = {
    "pelvis": ("pelvis", "x", _UP, "y", -_FORWARD),
    "spine1": ("spine_01", "x", "spine2", "y", -_FORWARD),
    "spine2": ("spine_02", "x", "spine3", "y", -_FORWARD),
    "spine3": ("spine_03", "x", "neck", "y", -_FORWARD),
    "neck": ("neck_01", "x", "head", "y", -_FORWARD),
    "head": ("head", "x", _UP, "y", -_FORWARD),
    "left_collar": ("clavicle_l", "x", "left_shoulder", "y", _FORWARD),
    "left_shoulder": ("upperarm_l", "x", "left_elbow", "y", _FORWARD),
    "left_elbow": ("lowerarm_l", "x", "left_wrist", "y", _FORWARD),
    "left_wrist": ("hand_l", "x", "left_hand", "y", _FORWARD),
    "left_hand": ("middle_01_l", "x", "left_wrist", "y", _FORWARD),
    "left_hip": ("thigh_l", "-x", "left_knee", "y", _FORWARD),
    "left_knee": ("calf_l", "-x", "left_ankle", "y", _FORWARD),
    "left_ankle": ("foot_l", "-x", -_UP, "y", _FORWARD),
    "left_foot": ("ball_l", "-x", _FORWARD, "y", _UP),
}


def retarget(character: Character, skeleton: str) -> Character:
    """A character on SMPL's skeleton -> the same motion on the skeleton of that name (`SKELETON_NAMES`).

    UsageError for a name that is not there; ValueError where the character is on another skeleton than SMPL's.
    """
    if skeleton not in SKELETON_NAMES:
        raise unknown("skeleton", skeleton, SKELETON_NAMES)
    if character.joint_names != SMPL_24.joints:
        raise ValueError(f"{character.name}: expected SMPL's 24 joints, got {', '.join(character.joint_names[:3])} ...")
    if skeleton == "smpl":
        return character
    names = joint_names(skeleton)
    frames = _rest_frames(character, skeleton)
    pose = _rest_pose(character, skeleton)
    rotation, place = _posed(character, pose)
    # A joint's new frame is fixed to its bone: G'_j = (G_j O_j^T) F_j, with the old axes O and the new F at rest.
    to_new = np.swapaxes(character.rest_rotations.astype(np.float64), -1, -2) @ frames
    local = character.local_rotations.astype(np.float64) @ to_new
    for joint, parent in enumerate(character.parents):
        if parent >= 0:
            local[:, joint] = to_new[parent].T @ local[:, joint]
    changed = bool(np.any(pose != np.eye(3)))
    shift = place - (rotation @ character.rest_joints.astype(np.float64)[..., None])[..., 0]
    transforms = np.concatenate([rotation, shift[..., None]], -1)[None]
    skin = character.skin_weights
    bound = replace(
        character,
        joint_names=names,
        rest_joints=place.astype(np.float32),
        rest_vertices=blend_skin(character.rest_vertices, skin, transforms)[0] if changed else character.rest_vertices,
        rest_rotations=(rotation @ frames).astype(np.float32),
        local_rotations=local.astype(np.float32),
        pose_shapes=_rotated_shapes(character.pose_shapes, skin, rotation) if changed else character.pose_shapes,
    )
    if changed:
        rows = np.unique(np.linspace(0, len(character) - 1, 24).round().astype(int))
        moved = float(np.linalg.norm(bound.skinned(rows) - character.skinned(rows), axis=-1).max())
        height = float(np.ptp(character.rest_vertices, axis=0).max())
        log.warning(
            "%s: binding the mesh in the A-pose of --skeleton %s moves it by up to %.1f %% of the body's height; "
            "--exact gives it back", character.name, skeleton, 100 * moved / height,
        )  # fmt: skip
    return bound


def joint_names(skeleton: str) -> tuple[str, ...]:
    """Names on that skeleton of SMPL's 24 joints, in SMPL's order."""
    if skeleton == "smpl":
        return SMPL_24.joints
    table = _MIXAMO if skeleton == "mixamo" else _UNREAL
    return tuple(_name(table, joint, skeleton) for joint in SMPL_24.joints)


def _name(table: dict[str, _Axes], joint: str, skeleton: str) -> str:
    if skeleton == "mixamo":
        if joint in table:
            return "mixamorig:" + table[joint][0]
        return "mixamorig:" + table[swap_sides(joint)][0].replace("Left", "Right")
    return table[joint][0] if joint in table else table[swap_sides(joint)][0].removesuffix("_l") + "_r"


def _rest_frames(character: Character, skeleton: str) -> np.ndarray:
    """(J,3,3): each joint's axes in the character's T-pose, in the axes of the scene."""
    table = _MIXAMO if skeleton == "mixamo" else _UNREAL
    axes = _scene_axes(character)
    rest = character.rest_joints.astype(np.float64) @ axes  # back to y up
    frames = []
    for joint in SMPL_24.joints:
        left = joint in table
        _, along, target, across, facing = table[joint if left else swap_sides(joint)]
        if isinstance(target, str):
            target = target if left else swap_sides(target)
            direction = rest[SMPL_24.index[target]] - rest[SMPL_24.index[joint]]
            if SMPL_24.parent_names[SMPL_24.index[joint]] == target:
                direction = -direction  # a last joint goes on the way its parent's bone came
        else:
            direction = target
        sign = -1.0 if skeleton == "unreal" and not left else 1.0
        frames.append(_frame(along, sign * direction, across, sign * facing))
    return axes @ np.stack(frames)


def _frame(along: str, direction: np.ndarray, across: str, facing: np.ndarray) -> np.ndarray:
    """Rotation (3,3): axis `along` points in `direction`, axis `across` as near to `facing` as it can."""
    first, second = "xyz".index(along[-1]), "xyz".index(across[-1])
    a = direction / np.linalg.norm(direction)
    b = facing - (facing @ a) * a
    b /= np.linalg.norm(b)
    frame = np.zeros((3, 3))
    frame[:, first] = -a if along.startswith("-") else a
    frame[:, second] = b
    third = 3 - first - second
    frame[:, third] = np.cross(frame[:, (third + 1) % 3], frame[:, (third + 2) % 3])
    return frame


def _scene_axes(character: Character) -> np.ndarray:
    """(3,3): from y up to the scene's axes. The person at rest stands upright, so the trunk tells which way is up."""
    trunk = character.rest_joints[SMPL_24.index["head"]] - character.rest_joints[0]
    return _Z_UP_FROM_Y_UP if abs(trunk[2]) > abs(trunk[1]) else np.eye(3)


def _rest_pose(character: Character, skeleton: str) -> np.ndarray:
    """(J,3,3): how the T-pose is rotated at each joint, in the scene's axes, to become the skeleton's rest pose."""
    pose = np.tile(np.eye(3), (len(SMPL_24), 1, 1))
    if skeleton != "unreal":
        return pose
    cosine, sine = np.cos(np.radians(A_POSE_DEG)), np.sin(np.radians(A_POSE_DEG))
    axes = _scene_axes(character)
    for joint, way in (("left_shoulder", -1), ("right_shoulder", 1)):
        rotation = np.array([[cosine, -way * sine, 0], [way * sine, cosine, 0], [0, 0, 1]])  # about forward
        pose[SMPL_24.index[joint]] = axes @ rotation @ axes.T
    return pose


def _posed(character: Character, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (J,3,3) and places (J,3) of the joints when the T-pose is rotated by `pose`; the pelvis stays."""
    rest = character.rest_joints.astype(np.float64)
    rotation, place = pose.copy(), rest.copy()
    for joint, parent in enumerate(character.parents):
        if parent >= 0:
            rotation[joint] = rotation[parent] @ pose[joint]
            place[joint] = place[parent] + rotation[parent] @ (rest[joint] - rest[parent])
    return rotation, place


def _rotated_shapes(
    shapes: Callable[[], tuple[np.ndarray, np.ndarray]] | None, weights: np.ndarray, rotation: np.ndarray
) -> Callable[[], tuple[np.ndarray, np.ndarray]] | None:
    """Blend shapes of the T-pose, rotated with the skin into the new rest pose."""
    if shapes is None:
        return None
    blended = np.einsum("vj,jab->vab", weights, rotation)

    def rotated() -> tuple[np.ndarray, np.ndarray]:
        offsets, amounts = shapes()
        return np.einsum("vab,pvb->pva", blended, offsets).astype(np.float32), amounts

    return rotated
