"""The same motion on another program's skeleton, or on a character's: what a rig (`hmrkit.scene.rigs`) says.

A **preset** (``mixamo``, ``unreal``, ...) keeps the person's proportions: joints stay where the body model has them.
What changes is what a joint is called, which way its axes point at rest, and, for Unreal's, the pose that counts as
rest. Mixamo's axes are those of its X Bot and Y Bot, Unreal's those of the mannequins that Unreal Engine 4 and 5 export
as FBX (limbs of the left side have x along the bone or against it, y backwards; the right side's are mirrored), with
arms lowered by 45 degrees; Rigify's are its human metarig's. Twist bones and fingers are absent. SMPL's one hand joint
stands at the knuckles and takes the name of the middle finger's first bone. Changing the rest pose changes linear blend
skinning a little (most at a raised shoulder): only presets with an A-pose change the mesh, a warning has the figure,
and `exact` corrective shapes give the mesh back.

A **character**'s rig has proportions of its own: `hmrkit.scene.driving`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hmrkit.scene.bind import Bind, bone_rotations, local_rotations, scene_axes, skin_at_rest
from hmrkit.scene.driving import driven
from hmrkit.scene.rigs import Bone, Rig, load_rig
from hmrkit.scene.types import Character
from hmrkit.skeletons import SMPL_24

log = logging.getLogger(__name__)

# Directions of a person at rest, y up, facing +z.
_WORDS = {
    "up": (0, 1, 0), "down": (0, -1, 0), "forward": (0, 0, 1), "back": (0, 0, -1), "left": (1, 0, 0),
    "right": (-1, 0, 0),
}  # fmt: skip


def retarget(character: Character, skeleton: str | Rig, size: float = 1.0, floor: bool = False) -> Character:
    """A character on SMPL's skeleton -> the same motion on another one: ``smpl``, a preset's name, or a rig.

    `size`: the scene's units in a metre, for a rig with proportions; `floor`: the scene's floor is at 0. UsageError for
    an unknown name; ValueError where the character is on another skeleton than SMPL's.
    """
    if skeleton == "smpl":
        return character
    rig = load_rig(skeleton) if isinstance(skeleton, str) else skeleton
    if character.joint_names != SMPL_24.joints:
        raise ValueError(f"{character.name}: expected SMPL's 24 joints, got {', '.join(character.joint_names[:3])} ...")
    if rig.is_character:
        return driven(character, rig, size, floor)
    bind = _persons_bind(character, rig)
    changed = bool(rig.arms_down_deg)
    weights, to_bind = character.skin_weights, np.swapaxes(bind.from_bind, -1, -2)
    bound = replace(
        character,
        joint_names=tuple(bone.name for bone in rig.bones),
        rest_joints=bind.places.astype(np.float32),
        rest_vertices=skin_at_rest(character, bind, to_bind) if changed else character.rest_vertices,
        rest_rotations=bind.rotations.astype(np.float32),
        local_rotations=local_rotations(bone_rotations(character.posed()[0], bind), bind.parents),
        pose_shapes=_rotated_shapes(character.pose_shapes, weights, to_bind) if changed else character.pose_shapes,
    )
    if changed:
        rows = np.unique(np.linspace(0, len(character) - 1, 24).round().astype(int))
        moved = float(np.linalg.norm(bound.skinned(rows) - character.skinned(rows), axis=-1).max())
        height = float(np.ptp(character.rest_vertices, axis=0).max())
        log.warning(
            "%s: binding the mesh in the A-pose of --skeleton %s moves it by up to %.1f %% of the body's height; "
            "--exact gives it back", character.name, rig.name, 100 * moved / height,
        )  # fmt: skip
    return bound


# --------------------------------------------------------------------------------------------------------- presets


def _persons_bind(character: Character, rig: Rig) -> Bind:
    """A preset's skeleton in the person's proportions."""
    axes = scene_axes(character)
    rest = character.rest_joints.astype(np.float64) @ axes  # back to y up
    frames = axes @ np.stack([_frame(bone, rest) for bone in rig.bones])
    pose = np.tile(np.eye(3), (len(SMPL_24), 1, 1))
    cosine, sine = np.cos(np.radians(rig.arms_down_deg)), np.sin(np.radians(rig.arms_down_deg))
    for joint, way in (("left_shoulder", -1), ("right_shoulder", 1)):
        rotation = np.array([[cosine, -way * sine, 0], [way * sine, cosine, 0], [0, 0, 1]])  # about forward
        pose[SMPL_24.index[joint]] = axes @ rotation @ axes.T
    places = character.rest_joints.astype(np.float64)
    rotated, placed = pose.copy(), places.copy()
    for joint, parent in enumerate(character.parents):
        if parent >= 0:
            rotated[joint] = rotated[parent] @ pose[joint]
            placed[joint] = placed[parent] + rotated[parent] @ (places[joint] - places[parent])
    return Bind(character.parents, np.arange(len(SMPL_24)), rotated @ frames, placed, np.swapaxes(rotated, -1, -2))


def _frame(bone: Bone, rest: np.ndarray) -> np.ndarray:
    """(3,3): a bone's axes at rest, of a person whose joints are at `rest` (24,3), y up."""
    if not bone.axes:
        return np.eye(3)
    joint = SMPL_24.index[str(bone.joint)]

    def direction(target: str) -> np.ndarray:
        if target in _WORDS:
            return np.array(_WORDS[target], float)
        if target == "onward":
            return rest[joint] - rest[SMPL_24.parents[joint]]
        return rest[SMPL_24.index[target]] - rest[joint]

    (along, to), (across, facing) = bone.axes.items()
    first, second = "xyz".index(along[-1]), "xyz".index(across[-1])
    a, b = (direction(t) * (-1 if axis.startswith("-") else 1) for axis, t in ((along, to), (across, facing)))
    a = a / np.linalg.norm(a)
    b = b - (b @ a) * a
    frame = np.zeros((3, 3))
    frame[:, first], frame[:, second] = a, b / np.linalg.norm(b)
    third = 3 - first - second
    frame[:, third] = np.cross(frame[:, (third + 1) % 3], frame[:, (third + 2) % 3])
    return frame


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
