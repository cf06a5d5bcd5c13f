"""Rigs: which of another skeleton's bones each of SMPL's joints drives. A JSON file each; presets lie beside this one.

    {"format": "hmrkit-rig", "version": 1, "summary": "...", "root": "floor",
     "bones": [{"name": "Root", "joint": null, "parent": null, "place": [0,0,0], "rotation": [0,0,0,1]},
               {"name": "Hips", "joint": "pelvis", "parent": "Root", "place": [0,1.02,0], "rotation": [0,0,0,1]}, ...]}

A bone has a `name` and the `joint` (SMPL's name) that drives it, null for one that goes with its parent. There are two
kinds of rigs. That of a **character** (`hmrkit rig from FILE`) has its bind pose: `place` (m, y up) and `rotation`
(quaternion x, y, z, w) of each bone in its `parent`; people take its proportions. A **preset** has none: its 24 bones
take the person's proportions, and `axes` says which way theirs point at rest, the first exactly: ``up down forward
back left right``, a joint to point at, or ``onward``, the way that the parent's bone came. `arms_down_deg`: its rest
pose is a T-pose with the arms lowered so far. `group`: what FBX's group above the skeleton is called, of a person alone
in a file; else it has the person's name. `root`, of a character with a bone above the pelvis: ``floor`` (on the
floor under the person, in world space) or ``still``. `floor`: how high the character's soles are in its bind pose, m;
null: where its lowest bone is, at 0 or below. `unit`: how long a unit of the character's own bones is, m (0.01 of
Mixamo's, which are in centimetres below a node that makes them small); null: not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from hmrkit.errors import InputError, UsageError
from hmrkit.files import atomic_path
from hmrkit.geometry import quaternion_to_matrix
from hmrkit.members import unknown
from hmrkit.skeletons import RIGS, SMPL_24
from hmrkit.untrusted import limits
from hmrkit.untrusted.json_files import read_json

FORMAT, VERSION = "hmrkit-rig", 1
CHARACTERS = (".glb", ".vrm", ".fbx")  # endings of files that rigs are drafted from
# What a character must have for its limbs and its place to be driven.
REQUIRED = (
    "pelvis", "left_hip", "left_knee", "left_ankle", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
# Joint -> the one whose bone must be above its own: a leg or arm is one chain from the pelvis.
_ABOVE = {
    f"{side}_{joint}": "pelvis" if above == "pelvis" else f"{side}_{above}"
    for side in ("left", "right")
    for joint, above in (
        ("hip", "pelvis"), ("knee", "hip"), ("ankle", "knee"),
        ("shoulder", "pelvis"), ("elbow", "shoulder"), ("wrist", "elbow"),
    )
}  # fmt: skip
# A limb's joints, each of which points at the next.
_LIMBS = [
    [f"{side}_{joint}" for joint in limb]
    for side in ("left", "right")
    for limb in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))
]
_NO_LENGTH = 1e-3  # of the skeleton's extent
_DIRECTIONS = ("up", "down", "forward", "back", "left", "right", "onward")
_AXES = ("x", "y", "z", "-x", "-y", "-z")


@dataclass(frozen=True)
class Bone:
    """One bone of a rig; see this module."""

    name: str
    joint: str | None = None
    parent: str | None = None
    place: tuple[float, ...] | None = None
    rotation: tuple[float, ...] | None = None
    axes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rig:
    """A rig; see this module. Bones of a character come after their parents, those of a preset in SMPL's order."""

    name: str
    bones: tuple[Bone, ...]
    summary: str = ""
    arms_down_deg: float = 0.0
    root: Literal["floor", "still"] = "floor"
    group: str = ""
    floor: float | None = None
    unit: float | None = None

    @property
    def is_character(self) -> bool:
        """Whether it has proportions of its own."""
        return self.bones[0].place is not None

    @cached_property
    def bone_of(self) -> dict[str, int]:
        """SMPL's joint -> number of the bone that it drives."""
        return {bone.joint: i for i, bone in enumerate(self.bones) if bone.joint is not None}

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Number of each bone's parent, -1 for a root."""
        if not self.is_character:
            return SMPL_24.parents
        index = {bone.name: i for i, bone in enumerate(self.bones)}
        return tuple(-1 if bone.parent is None else index[bone.parent] for bone in self.bones)

    def bind(self) -> tuple[np.ndarray, np.ndarray]:
        """Of a character: rotations (n,3,3) and places (n,3) m of the bones in its bind pose, y up, facing +z."""
        rotations, places = self._own_bind()
        facing = self._facing(places)
        return facing @ rotations, places @ facing.T

    @property
    def heading_deg(self) -> float:
        """How far a character is rotated about the vertical from facing +z in its own file, -180 to 180 degrees."""
        facing = self._facing(self._own_bind()[1])
        return float(np.degrees(np.arctan2(-facing[0, 2], facing[0, 0])))

    def _facing(self, places: np.ndarray) -> np.ndarray:
        """(3,3): takes the left side of bones at these places towards +x."""
        left = places[self.bone_of["left_hip"]] - places[self.bone_of["right_hip"]]
        length = np.hypot(left[0], left[2])
        cosine, sine = (left[0] / length, left[2] / length) if length > 0 else (1.0, 0.0)
        return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])

    def _own_bind(self) -> tuple[np.ndarray, np.ndarray]:
        """`bind` as the file has it."""
        rotations, places = np.tile(np.eye(3), (len(self.bones), 1, 1)), np.zeros((len(self.bones), 3))
        for i, (bone, parent) in enumerate(zip(self.bones, self.parents, strict=True)):
            own, place = rotation_from_xyzw(np.array(bone.rotation)), np.array(bone.place)
            rotations[i] = own if parent < 0 else rotations[parent] @ own
            places[i] = place if parent < 0 else places[parent] + rotations[parent] @ place
        return rotations, places


def rotation_from_xyzw(quaternion: np.ndarray) -> np.ndarray:
    """Rotation (3,3) of one quaternion x, y, z, w, normalised here."""
    return quaternion_to_matrix(torch.from_numpy(np.asarray(quaternion, np.float64)[[3, 0, 1, 2]])).numpy()


def load_rig(source: str) -> Rig:
    """A preset by its name, or the rig in a file. UsageError for an unknown name, InputError for another file."""
    if source in RIGS:
        return _read(Path(__file__).parent / f"{source}.json")
    ending = Path(source).suffix.lower()
    if ending in CHARACTERS:
        made = Path(source).with_suffix(".json").name
        raise UsageError(
            f"{source}: wanted a RIG.json, found a character; `hmrkit rig from {source} -o {made}` makes one"
        )
    if ending != ".json":
        raise unknown("rig", source, (*RIGS, "a RIG.json of your own (hmrkit rig from CHARACTER)"))
    return _read(Path(source))


def save_rig(path: Path, rig: Rig, overwrite: bool = False) -> None:
    """Write a rig as JSON, a bone a line. UsageError where another file is there and `overwrite` is not given;
    InputError where it cannot be written."""
    head = {"format": FORMAT, "version": VERSION, "summary": rig.summary, "root": rig.root}
    head |= {"arms_down_deg": rig.arms_down_deg} if rig.arms_down_deg else {}
    head |= {"group": rig.group} if rig.group else {}
    head |= {"floor": rig.floor} if rig.floor is not None else {}
    head |= {"unit": rig.unit} if rig.unit is not None else {}
    kept = [{key: value for key, value in asdict(bone).items() if key != "axes" or value} for bone in rig.bones]
    lines = ",\n".join("    " + json.dumps(bone) for bone in kept)
    text = json.dumps(head, indent=2)[:-2] + ',\n  "bones": [\n' + lines + "\n  ]\n}\n"
    if not overwrite and path.is_file() and path.read_bytes() != text.encode():
        raise UsageError(f"{path} is another rig, or was edited; choose another --out, or --overwrite it")
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def _read(path: Path) -> Rig:
    value = read_json(path, "a rig (JSON)")
    if not isinstance(value, dict) or (value.get("format"), value.get("version")) != (FORMAT, VERSION):
        raise InputError(f"{path}: wanted a rig of format {FORMAT}, version {VERSION}; make one with hmrkit rig from")
    try:
        if not isinstance(value.get("bones"), list):
            raise ValueError("wanted a list of bones")
        made = tuple(_bone(item) for item in value["bones"])
        rig = Rig(
            path.stem, made, str(value.get("summary", "")), float(value.get("arms_down_deg", 0)),
            value.get("root", "floor"), str(value.get("group", "")), _length(value, "floor"),
            _length(value, "unit"),
        )  # fmt: skip
        _check(rig)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: this rig cannot be used: {error}; see hmrkit docs rigs") from error
    return rig


def _length(head: dict[str, Any], name: str) -> float | None:
    value = head.get(name)
    if value is not None and not (isinstance(value, int | float) and np.isfinite(value)):
        raise ValueError(f"{name}: wanted a length in metres, found {value!r}")
    return value


def _bone(item: dict[str, Any]) -> Bone:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ValueError("wanted a name of each bone")
    try:
        place, rotation = (tuple(map(float, item[key])) if item.get(key) else None for key in ("place", "rotation"))
    except (TypeError, ValueError) as error:
        raise ValueError(_wants_numbers(item["name"])) from error
    return Bone(item["name"], item.get("joint"), item.get("parent"), place, rotation, dict(item.get("axes", {})))


def _wants_numbers(bone: str) -> str:
    return f"bone {bone}: wanted a place of 3 numbers and a rotation of 4"


def _check(rig: Rig) -> None:
    """ValueError where a rig contradicts itself."""
    names, joints = [bone.name for bone in rig.bones], [bone.joint for bone in rig.bones if bone.joint is not None]
    if not 0 < len(names) <= limits.RIG_BONES:
        raise ValueError(f"wanted 1 to {limits.RIG_BONES} bones, found {len(names)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{max(names, key=names.count)} names more than one bone")
    if rig.unit is not None and rig.unit <= 0:
        raise ValueError(f"unit: wanted a length above 0, found {rig.unit}")
    if rig.root not in ("floor", "still"):
        raise ValueError(f"root: wanted floor or still, found {rig.root!r}")
    if odd := [joint for joint in joints if joint not in SMPL_24.index]:
        raise ValueError(f"no joint {odd[0]!r}; there are {', '.join(SMPL_24.joints)}")
    if twice := [joint for joint in joints if joints.count(joint) > 1]:
        raise ValueError(f"joint {twice[0]} drives more than one bone")
    if not rig.is_character:
        if tuple(joints) != SMPL_24.joints:
            raise ValueError("wanted a place and a rotation of each bone, or SMPL's 24 joints in their order without")
        _check_axes(rig)
        return
    if missing := [joint for joint in REQUIRED if joint not in joints]:
        raise ValueError(f"nothing is driven by {', '.join(missing)}; name those joints' bones")
    if rig.bones[0].parent is not None or any(bone.parent is None for bone in rig.bones[1:]):
        raise ValueError("wanted one bone without a parent, the first")
    for i, bone in enumerate(rig.bones):
        place, rotation = bone.place or (), bone.rotation or ()
        finite = np.isfinite((*place, *rotation)).all()
        if (len(place), len(rotation)) != (3, 4) or not finite or not np.linalg.norm(rotation):
            raise ValueError(_wants_numbers(bone.name))
        if bone.parent is not None and bone.parent not in names[:i]:
            raise ValueError(f"bone {bone.name}: its parent {bone.parent} is not among the bones before it")
    for joint, above in _ABOVE.items():
        bone = rig.bone_of[joint]
        while bone >= 0 and bone != rig.bone_of[above]:
            bone = rig.parents[bone]
        if bone < 0:
            raise ValueError(f"the bone of {joint} must be below that of {above}, in one chain")
    places = rig.bind()[1]
    for limb in _LIMBS:
        lengths = np.linalg.norm(np.diff(places[[rig.bone_of[joint] for joint in limb]], axis=0), axis=1)
        short = int(lengths.argmin())
        if lengths[short] <= _NO_LENGTH * np.ptp(places, axis=0).max():
            raise ValueError(f"{limb[short]} and {limb[short + 1]} are at one place; name other bones or move one")


def _check_axes(rig: Rig) -> None:
    for bone in rig.bones:
        targets = [target not in _DIRECTIONS and target not in SMPL_24.index for target in bone.axes.values()]
        axes = [axis not in _AXES for axis in bone.axes]
        if len(targets) not in (0, 2) or any(axes) or any(targets) or len({axis[-1] for axis in bone.axes}) < len(axes):
            raise ValueError(f"bone {bone.name}: wanted two axes such as {{'y': 'left_elbow', 'z': 'down'}}")
