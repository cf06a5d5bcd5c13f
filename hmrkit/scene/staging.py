"""What a skeleton gets for other programs on request: a character's rig, a root bone, a T-pose, a namespace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from hmrkit.geometry import twist_about
from hmrkit.scene.retarget import retarget
from hmrkit.scene.rigs import load_rig
from hmrkit.scene.types import Character, ExportOptions, Rows, Scene, units_per_metre

ROOT = "root"
_TIED = 1e-3  # of a bone's length: as near to its end, Blender could take a child for connected


def staged(scene: Scene, options: ExportOptions, from_clip: bool = True) -> Scene:
    """The scene as formats with skeletons write it: `rig`, `root_bone`, `t_pose` and `namespace` of the options.

    The T-pose is one frame before the clip's first one, or, not `from_clip`, before each person's.
    """
    people, rooted = scene.characters, False
    if options.rig is not None:
        rig = load_rig(options.rig)
        rooted = rig.is_character and rig.bone_of["pelvis"] > 0
        rig = replace(rig, root="floor") if options.root_bone else rig
        size, floor = units_per_metre(options.scale, scene.unit), scene.space == "world"
        people = tuple(retarget(person, rig, size, floor) for person in people)
    if options.root_bone and not rooted:
        people = tuple(with_root_bone(person, scene.up) for person in people)
    if options.t_pose and people:
        first, last = scene.frame_range
        people = tuple(with_t_pose(person, (first if from_clip else int(person.frames[0])) - 1) for person in people)
        scene = replace(scene, clip_range=(first - 1, last))
    if options.namespace:
        people = tuple(
            replace(person, joint_names=tuple(f"{person.name}:{joint}" for joint in person.joint_names))
            for person in people
        )
    return replace(scene, characters=people)


def with_root_bone(character: Character, up: str) -> Character:
    """The character with a bone `ROOT` above its own root: on the floor below it, its rotation the heading.

    In a scene whose floor is at 0, of a character none of whose joints moves against its parent.
    The heading is the part of the root's rotation about the vertical (swing-twist decomposition), so that it is defined
    while people bend or lie, and jumps by half a rotation only where they are upside down.
    """
    axis = np.array([0.0, 1.0, 0.0] if up == "y" else [0.0, 0.0, 1.0])
    level = np.eye(3) - np.outer(axis, axis)
    local, place = character.local_rotations.astype(np.float64), character.root_positions.astype(np.float64)
    facing = torch.from_numpy(local[:, 0] @ character.rest_rotations[0].T.astype(np.float64))
    heading = twist_about(facing, torch.from_numpy(axis)).numpy()
    floor = place @ level
    local[:, 0] = np.swapaxes(heading, -1, -2) @ local[:, 0]
    above = np.einsum("tba,tb->ta", heading, place - floor)
    rest = character.rest_joints
    return replace(
        character,
        joint_names=(ROOT, *character.joint_names),
        parents=(-1, *(parent + 1 for parent in character.parents)),
        rest_joints=np.concatenate([(rest[:1] @ level).astype(np.float32), rest]),
        rest_rotations=np.concatenate([np.eye(3, dtype=np.float32)[None], character.rest_rotations]),
        local_rotations=np.concatenate([heading[:, None], local], 1).astype(np.float32),
        root_positions=floor.astype(np.float32),
        joints=np.concatenate([floor[:, None].astype(np.float32), character.joints], 1),
        skin_weights=np.pad(character.skin_weights, ((0, 0), (1, 0))),
        moving={1: above.astype(np.float32)},
    )


def untied(character: Character) -> Character:
    """The character, bound so that every joint that moves against its parent does so in Blender, too: for FBX.

    Blender makes a bone as long as its children are far on the mean, along its y axis. It ties a child that begins
    where the bone ends to it and leaves the keys of its place out: a pelvis straight above a root bone would stay at
    rest. So the parent is bound a thousandth of that length beside such a place, where it also is in every frame unless
    it is the root. What moves against it stays where it is, and all below.
    """
    rest = character.rest_joints.copy()
    for joint in character.moving:
        parent = character.parents[joint]
        children = [child for child, above in enumerate(character.parents) if above == parent]
        length = float(np.linalg.norm(rest[children] - rest[parent], axis=1).mean())
        axes = character.rest_rotations[parent]
        if np.linalg.norm(rest[parent] + length * axes[:, 1] - rest[joint]) < _TIED * length:
            rest[parent] -= _TIED * length * axes[:, 2]
    if (rest == character.rest_joints).all():
        return character
    bound = replace(character, rest_joints=rest)
    rotation, place = bound.posed()
    above, wanted = [character.parents[joint] for joint in character.moving], character.posed()[1]
    ways = wanted[:, list(character.moving)] - place[:, above]
    ways = np.einsum("tjba,tjb->tja", rotation[:, above], ways).astype(np.float32)
    return replace(bound, moving=dict(zip(character.moving, np.swapaxes(ways, 0, 1), strict=True)))


def without_top(character: Character) -> Character:
    """The character without what is above the joint that moves against its parent: for formats that move roots only."""
    if not character.moving:
        return character
    (top,) = character.moving
    kept = [top]
    for joint, parent in enumerate(character.parents):
        if parent in kept:
            kept.append(joint)
    rotation, place = character.posed()
    local = character.local_rotations[:, kept]
    local[:, 0] = rotation[:, top]
    return replace(
        character,
        joint_names=tuple(character.joint_names[joint] for joint in kept),
        parents=(-1, *(kept.index(character.parents[joint]) for joint in kept[1:])),
        rest_joints=character.rest_joints[kept],
        rest_rotations=character.rest_rotations[kept],
        local_rotations=local,
        root_positions=place[:, top].astype(np.float32),
        joints=character.joints[:, kept],
        skin_weights=character.skin_weights[:, kept],
        moving={},
    )


def with_t_pose(character: Character, frame: int) -> Character:
    """The character in the rest pose of its skin at `frame`, before its first one; hidden between the two."""
    wait = int(character.frames[0]) - frame
    rest, rotations = character.rest_joints, character.rest_rotations
    local = rotations.copy()
    for joint, parent in enumerate(character.parents):
        if parent >= 0:
            local[joint] = rotations[parent].T @ rotations[joint]

    def led(at_rest: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.concatenate([at_rest[None], np.repeat(values[:1], wait - 1, 0), values]).astype(values.dtype)

    moving = {
        joint: led(rotations[character.parents[joint]].T @ (rest[joint] - rest[character.parents[joint]]), places)
        for joint, places in character.moving.items()
    }

    def vertices(rows: Rows) -> np.ndarray:
        own = np.arange(wait + len(character))[rows]
        made = character.vertices(np.maximum(own - wait, 0))
        made[own == 0] = character.rest_vertices
        return made

    def shapes() -> tuple[np.ndarray, np.ndarray]:
        assert character.pose_shapes is not None
        offsets, amounts = character.pose_shapes()
        return offsets, led(np.zeros_like(amounts[0]), amounts)

    return replace(
        character,
        frames=np.arange(frame, int(character.frames[-1]) + 1),
        visible=np.concatenate([[True], np.zeros(wait - 1, bool), character.visible]),
        local_rotations=led(local, character.local_rotations),
        root_positions=led(rest[0], character.root_positions),
        joints=led(rest, character.joints),
        moving=moving,
        exact_vertices=None if character.exact_vertices is None else vertices,
        pose_shapes=None if character.pose_shapes is None else shapes,
        source_rows=None,
        source_frames=None,
        source_times=None,
        params_c=None,
    )
