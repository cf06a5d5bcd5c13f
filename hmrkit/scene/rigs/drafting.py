"""A draft of a rig from a character's bones: by the names of the presets, by usual names, by where the bones are."""

from __future__ import annotations

import re

import numpy as np
import torch

from hmrkit.geometry import matrix_to_quaternion
from hmrkit.scene.rigs import Bone, Rig, load_rig
from hmrkit.scene.rigs.characters import Bones
from hmrkit.skeletons import RIGS, SMPL_24

_ENOUGH = 15  # bones with a preset's names that show the character is of its kind
# What is written around names and means nothing.
_JUNK = {
    "bip", "biped", "cc", "base", "def", "org", "mch", "jnt", "jt", "joint", "bone", "skin", "bind", "j", "c", "m",
    "mixamorig", "character", "ctrl", "sk", "bend", "twist",
}  # fmt: skip
_SIDES = {"left": 1.0, "right": -1.0}
# Usual names without side, digits that only count, and junk -> what they may be.
_MIDDLE = {
    "pelvis": ("pelvis", "hips", "hip"),
    "neck": ("neck", "lowerneck", "necklower"),
    "head": ("head",),
}
_SPINE = ("spine", "chest", "upperchest", "lowerback", "upperback", "thorax", "torso", "waist", "abdomen")
# The pelvis is above these.
_ABOVE = ("left_hip", "right_hip", "left_shoulder", "right_shoulder")
_SIDED = {
    "hip": ("upleg", "upperleg", "thigh", "femur", "hip", "legupper"),
    "knee": ("leg", "lowerleg", "lowleg", "calf", "shin", "knee", "tibia", "leglower"),
    "ankle": ("ankle", "foot"),
    "foot": ("toebase", "toe", "toes", "ball", "foot"),
    "collar": ("clavicle", "clav", "collar", "collarbone", "shoulder"),
    "shoulder": ("upperarm", "uparm", "arm", "shldr", "humerus", "armupper", "shoulder"),
    "elbow": ("forearm", "lowerarm", "lowarm", "elbow", "radius", "armlower"),
    "wrist": ("wrist", "hand"),
    "hand": ("handmiddle", "middle", "mid", "middleproximal", "fmiddle", "middlefinger", "fingers", "hand"),
}


def draft(bones: Bones, name: str) -> Rig:
    """A rig of all bones; `joint` where a name or a place shows which of SMPL's joints drives one.

    What neither shows is left null: see `hmrkit.scene.rigs.REQUIRED`.
    """
    found = _whole_limbs(bones, _by_preset(bones))
    for way in (_by_usual_names, _by_places):
        found = {joint: bone for joint, bone in way(bones).items() if bone not in found.values()} | found
        found = _whole_limbs(bones, found)
    ends = [found[joint] for joint in _ABOVE if joint in found]
    if len(ends) == len(_ABOVE) and not all(_path(bones, found.get("pelvis", ends[0]), end) for end in ends):
        pelvis = _meeting(bones, *ends)  # whatever it is called
        found = {joint: bone for joint, bone in found.items() if bone != pelvis} | {"pelvis": pelvis}
    joint_of = {bone: joint for joint, bone in found.items()}
    rotations, places = bones.rotations, bones.places
    made = []
    for i, parent in enumerate(bones.parents):
        rotation = rotations[i] if parent < 0 else rotations[parent].T @ rotations[i]
        place = places[i] if parent < 0 else rotations[parent].T @ (places[i] - places[parent])
        w, x, y, z = matrix_to_quaternion(torch.from_numpy(rotation)).tolist()
        above = None if parent < 0 else bones.names[parent]
        place, rotation = (tuple(round(value, 7) for value in values) for values in (place.tolist(), (x, y, z, w)))
        made.append(Bone(bones.names[i], joint_of.get(i), above, place, rotation))
    floor = None if bones.floor is None else round(bones.floor, 4)
    unit = float(f"{bones.unit:.6g}") or None  # six digits, however small; 0 of a root without size
    return Rig(name, tuple(made), f"drafted from {name}", floor=floor, unit=unit)


def _by_preset(bones: Bones) -> dict[str, int]:
    """Joint -> bone, of the preset, or of SMPL, that most bones have the names of."""
    names = [_bare(name) for name in bones.names]
    best: dict[str, int] = {}
    known = [{_bare(bone.name): str(bone.joint) for bone in load_rig(preset).bones} for preset in RIGS]
    for wanted in [*known, {joint: joint for joint in SMPL_24.joints}]:
        found = {wanted[name]: i for i, name in reversed(list(enumerate(names))) if name in wanted}
        best = found if len(found) >= len(best) else best  # UE5's has all of UE4's names, and a longer spine
    return best if len(best) >= _ENOUGH else {}


def _whole_limbs(bones: Bones, found: dict[str, int]) -> dict[str, int]:
    """Without arms and legs of which something is missing or out of order: names have misled there."""
    kept = dict(found)
    for side in _SIDES:
        for limb, others in (("hip knee ankle", "foot"), ("shoulder elbow wrist", "collar hand")):
            first, middle, last = (found.get(f"{side}_{joint}", -1) for joint in limb.split())
            if min(first, middle, last) < 0 or middle not in _path(bones, first, last)[:-1]:
                for joint in f"{limb} {others}".split():
                    kept.pop(f"{side}_{joint}", None)
    return kept


def _bare(name: str) -> str:
    """Without a namespace and Rigify's mark of deforming bones, in small letters."""
    return re.sub("^(def|org)-", "", re.split("[:|]", name)[-1].lower())


def _by_usual_names(bones: Bones) -> dict[str, int]:
    """Joint -> bone, by what riggers call them; the first such bone on the way down."""
    parts = [_side_and_core(name) for name in bones.names]
    found: dict[str, int] = {}
    for joint, cores in _MIDDLE.items():
        if (bone := _first(parts, "", cores)) is not None:
            found[joint] = bone
    spine = [i for i, (side, core) in enumerate(parts) if not side and core.startswith(_SPINE)]
    if "pelvis" not in found and spine and len(spine) > 3:
        found["pelvis"] = spine.pop(0)
    if spine:
        picked = [spine[0], spine[len(spine) // 2], spine[-1]]
        found |= dict(zip(("spine1", "spine2", "spine3"), picked, strict=True))
        if len(spine) < 3:
            del found["spine2"]
        if len(spine) < 2:
            del found["spine1"]
    for side in _SIDES:
        for joint, cores in _SIDED.items():
            bone = _first(parts, side, cores)
            if bone is not None and bone not in found.values():
                found[f"{side}_{joint}"] = bone
        if f"{side}_shoulder" not in found and f"{side}_collar" in found:  # one bone called shoulder: the arm's
            found[f"{side}_shoulder"] = found.pop(f"{side}_collar")
    return found


def _first(parts: list[tuple[str, str]], side: str, cores: tuple[str, ...]) -> int | None:
    """The first bone of that side with the first of these names that there is."""
    for core in cores:
        if (side, core) in parts:
            return parts.index((side, core))
    return None


def _side_and_core(name: str) -> tuple[str, str]:
    """``Bip01 L UpperArm`` -> ``left``, ``upperarm``."""
    words = re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", re.split("[:|]", name)[-1])
    words = [word.lower() for word in words]
    sides = {"l": "left", "left": "left", "r": "right", "right": "right"}
    side = next((sides[word] for word in words if word in sides), "")
    return side, "".join(word for word in words if word not in sides and word not in _JUNK)


# ----------------------------------------------------------------------------------------------------------- places


def _by_places(bones: Bones) -> dict[str, int]:
    """Joint -> bone of a character that stands upright and faces +z, in a T- or A-pose; {} where it cannot be seen."""
    places, tips = bones.places, _tips(bones)
    height = float(np.ptp(places[:, 1]))
    if not tips or height == 0:
        return {}
    aside = places[:, 0] - (places[:, 0].min() + places[:, 0].max()) / 2
    tips_of = {side: [tip for tip in tips if sign * aside[tip] > 0.02 * height] for side, sign in _SIDES.items()}
    if not all(tips_of.values()):
        return {}
    feet = {side: _least(own, places[:, 1]) for side, own in tips_of.items()}
    hands = {side: _least(own, -np.abs(aside)) for side, own in tips_of.items()}
    top = _least(tips, -places[:, 1])
    pelvis = _meeting(bones, feet["left"], feet["right"])
    trunk, chest = _path(bones, pelvis, top), _meeting(bones, hands["left"], hands["right"])
    found = {"pelvis": pelvis}
    if chest in trunk:
        spine, above = trunk[: trunk.index(chest) + 1], trunk[trunk.index(chest) + 1 :]
        if spine:
            found |= {"spine1": spine[0], "spine2": spine[len(spine) // 2], "spine3": spine[-1]}
        if len(above) > 1:
            found |= {"neck": above[0], "head": above[1]}
    for side in _SIDES:
        found |= {f"{side}_{joint}": bone for joint, bone in _leg(bones, pelvis, feet[side], height).items()}
        found |= {f"{side}_{joint}": bone for joint, bone in _arm(bones, chest, hands[side]).items()}
    bones_once = {bone: joint for joint, bone in reversed(found.items())}  # the first joint of each
    return {joint: bone for bone, joint in bones_once.items()}


def _leg(bones: Bones, pelvis: int, foot: int, height: float) -> dict[str, int]:
    path, level = _path(bones, pelvis, foot), bones.places[:, 1]
    path = [bone for bone in path if abs(bones.places[bone, 0] - bones.places[pelvis, 0]) > 0.01 * height]
    above = [bone for bone in path if level[bone] > level.min() + 0.015 * height]
    if len(above) < 3:
        return {}
    hip, ankle = above[0], above[-1]
    made = {"hip": hip, "knee": _least(above[1:-1], np.abs(level - (level[hip] + level[ankle]) / 2)), "ankle": ankle}
    after = path[path.index(ankle) + 1 :]
    return made | ({"foot": after[0]} if after else {})


def _arm(bones: Bones, chest: int, hand: int) -> dict[str, int]:
    path = _path(bones, chest, hand)
    fans = [bone for bone in path if bones.parents.count(bone) > 2]
    wrist = fans[0] if fans else path[-2] if len(path) > 4 else path[-1] if path else -1
    before = path[: path.index(wrist)] if path else []
    if len(before) < 2:
        return {}
    shoulder = before[1] if len(before) > 2 else before[0]
    middle = (bones.places[shoulder] + bones.places[wrist]) / 2
    distance = np.linalg.norm(bones.places - middle, axis=1)
    made = {"shoulder": shoulder, "elbow": _least(before[before.index(shoulder) + 1 :], distance), "wrist": wrist}
    after = path[path.index(wrist) + 1 :]
    return made | ({"collar": before[0]} if len(before) > 2 else {}) | ({"hand": after[0]} if after else {})


def _least(bones: list[int], values: np.ndarray) -> int:
    """Which of the bones has the least value."""
    return min(bones, key=lambda bone: values[bone])


def _tips(bones: Bones) -> list[int]:
    """Bones without any below."""
    return sorted(set(range(len(bones.names))) - set(bones.parents))


def _path(bones: Bones, above: int, below: int) -> list[int]:
    """Bones from one (exclusive) down to another below it; none where it is not."""
    path = [below]
    while bones.parents[path[0]] >= 0 and path[0] != above:
        path.insert(0, bones.parents[path[0]])
    return path[1:] if path[0] == above else []


def _meeting(bones: Bones, *below: int) -> int:
    """The lowest bone above all of these."""
    paths = [_path(bones, 0, bone)[:-1] for bone in below]
    return [0, *(bone for bone in paths[0] if all(bone in path for path in paths))][-1]
