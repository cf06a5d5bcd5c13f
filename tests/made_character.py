"""A made-up character: other names, longer legs, shorter arms, a root bone and twist bones, in an A-pose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from made_scene import made_scene

from hmrkit.scene import Character, Scene
from hmrkit.scene.retarget import retarget
from hmrkit.scene.rigs import save_rig
from hmrkit.scene.rigs.characters import Bones
from hmrkit.scene.rigs.drafting import draft
from hmrkit.scene.staging import with_root_bone
from hmrkit.skeletons import SMPL_24

STRETCHED = {"hip": 1.1, "knee": 1.25, "ankle": 1.2, "elbow": 0.85, "wrist": 0.8, "spine2": 1.3, "shoulder": 1.4}


def made_character(skeleton: str = "unreal", up: str = "y", unit: str = "m", rename=lambda name: name) -> Scene:
    """A scene with the character alone, one frame long."""
    scene = made_scene(frames=2, up=up, unit=unit, exact=False)
    person = scene.characters[0]
    rest = person.rest_joints.astype(np.float64)
    places = rest.copy()
    for joint, parent in enumerate(person.parents):
        if parent >= 0:
            factor = STRETCHED.get(person.joint_names[joint].split("_")[-1], 1.0)
            places[joint] = places[parent] + factor * (rest[joint] - rest[parent])
    vertical = "yz".index(up) + 1
    places[:, vertical] -= places[:, vertical].min() - 0.02 * (100 if unit == "cm" else 1)
    person = retarget(replace(person, rest_joints=places.astype(np.float32)), skeleton)
    person = _with_twist(with_root_bone(person, up), "left_elbow")
    names = tuple(rename(name) for name in person.joint_names)
    return replace(scene, characters=(replace(person, name="hero", joint_names=names),), name="hero")


def bones_of(character: Character) -> Bones:
    """What would be read of a file of it."""
    rest = character.rest_rotations.astype(np.float64), character.rest_joints.astype(np.float64)
    return Bones(character.joint_names, character.parents, *rest)


def hero_rig(folder: Path) -> Path:
    """The rig of the character, drafted."""
    scene = made_character("unreal", rename=lambda name: f"hero:{name}")
    save_rig(folder / "hero.json", draft(bones_of(scene.characters[0]), "hero"))
    return folder / "hero.json"


def angles_deg(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Between the directions from each joint's parent to it (T,23), of SMPL's joints (T,24,3)."""
    a, b = (x[:, 1:] - x[:, list(SMPL_24.parents[1:])] for x in (ours, theirs))
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _with_twist(person: Character, joint: str) -> Character:
    """A bone between the left elbow (the twentieth bone, below the root) and the wrist, which moves nothing."""
    parent = 19
    middle = (person.rest_joints[parent] + person.rest_joints[parent + 2]) / 2
    count = len(person)
    return replace(
        person,
        joint_names=(*person.joint_names, "twist_1"),
        parents=(*person.parents, parent),
        rest_joints=np.concatenate([person.rest_joints, middle[None]]),
        rest_rotations=np.concatenate([person.rest_rotations, person.rest_rotations[parent][None]]),
        local_rotations=np.concatenate(
            [person.local_rotations, np.tile(np.eye(3, dtype=np.float32), (count, 1, 1, 1))], 1
        ),
        joints=np.zeros((count, len(person.parents) + 1, 3), np.float32),
        skin_weights=np.pad(person.skin_weights, ((0, 0), (0, 1))),
    )
