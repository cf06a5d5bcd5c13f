"""Motion capture as local rotations of the body model's 24 joints.

The data file holds the CMU database in B. Hahne's BVH conversion (one skeleton, T-pose at rest, 30 Hz). Its rest pose
is close to the body's, so a joint's world rotation carries over; only limbs whose bones point elsewhere at rest (the
file's forearm is bent 17 degrees forward) are corrected, bone by bone, and its knees straightened
(`hmrkit.synthetic.straight_legs`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hmrkit.body.landmarks import world_from_local
from hmrkit.errors import InputError
from hmrkit.geometry import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_to_matrix,
    rotation_between,
)
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.straight_limbs import Limb, bend, straighten
from hmrkit.untrusted.arrays import load_arrays
from hmrkit.weights import find_weights

Split = Literal["train", "test", "all"]

# Whole clips that no training ever sees (parts of their names).
HELD_OUT = ("cmu_daz_01-09/07/", "cmu_daz_01-09/09/", "cmu_daz_10-14/13/", "martial")

# Body joint -> the file's joint that rotates it. Joints that the file lacks follow their parent (feet, hands); the
# file's chest bends where spine2 and spine3 do, half each.
_SOURCE = {
    "pelvis": "hip",
    "spine1": "abdomen",
    "spine3": "chest",
    "neck": "neck",
    "head": "head",
    "left_hip": "lThigh",
    "left_knee": "lShin",
    "left_ankle": "lFoot",
    "right_hip": "rThigh",
    "right_knee": "rShin",
    "right_ankle": "rFoot",
    "left_collar": "lCollar",
    "left_shoulder": "lShldr",
    "left_elbow": "lForeArm",
    "left_wrist": "lHand",
    "right_collar": "rCollar",
    "right_shoulder": "rShldr",
    "right_elbow": "rForeArm",
    "right_wrist": "rHand",
}
# Bones whose rest directions are matched: body joint -> (body child, file's child). Elsewhere the offsets tell how the
# rigs were built, not how the person stands. A hand keeps its forearm's correction, a foot is flat in both.
_BONES = {
    "left_hip": ("left_knee", "lShin"),
    "left_knee": ("left_ankle", "lFoot"),
    "right_hip": ("right_knee", "rShin"),
    "right_knee": ("right_ankle", "rFoot"),
    "left_shoulder": ("left_elbow", "lForeArm"),
    "left_elbow": ("left_wrist", "lHand"),
    "right_shoulder": ("right_elbow", "rForeArm"),
    "right_elbow": ("right_wrist", "rHand"),
    "left_wrist": ("left_wrist", "lHand"),
    "right_wrist": ("right_wrist", "rHand"),
}


# In such a share of a clip's frames a leg is straight, about as in walking; arms are so hardly ever.
STRAIGHT_LEGS, STRAIGHT_ARMS = 0.25, 0.01
FARTHEST_HEAD = math.radians(90)  # against the chest; beyond, the capture is wrong

_LIMBS = {
    "left_arm": ("left_collar", "left_shoulder", "left_elbow", "left_wrist", "left_hand"),
    "right_arm": ("right_collar", "right_shoulder", "right_elbow", "right_wrist", "right_hand"),
    "left_leg": ("left_hip", "left_knee", "left_ankle", "left_foot"),
    "right_leg": ("right_hip", "right_knee", "right_ankle", "right_foot"),
    "head": ("neck", "head"),
    "back": ("spine1", "spine2", "spine3"),
}
# What is taken from the second clip, with how often.
_BLENDS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.35, ()),
    (0.10, ("left_arm",)),
    (0.15, ("left_arm", "right_arm")),
    (0.15, ("left_arm", "right_arm", "head", "back")),
    (0.10, ("left_leg", "right_leg")),
    (0.05, ("left_leg",)),
    (0.10, ("left_arm", "left_leg", "head")),
)


@dataclass(frozen=True)
class Motion:
    """Clips one after the other: clip i has frames ``starts[i]:starts[i + 1]``.

    `local_rotations` (N,24,3,3) relative to the parent joint (`SMPL_24`), the pelvis relative to a world with y up;
    `root_pos_m` (N,3) m, the pelvis joint of the template body in that world.
    """

    clips: tuple[str, ...]
    starts: np.ndarray
    fps: float
    local_rotations: np.ndarray
    root_pos_m: np.ndarray

    def __len__(self) -> int:
        return len(self.local_rotations)

    def clip(self, index: int) -> slice:
        """Frames of one clip."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))

    def select(self, keep: list[int]) -> Motion:
        """Only these clips."""
        frames = np.concatenate([np.arange(self.starts[i], self.starts[i + 1]) for i in keep] or [np.zeros(0, int)])
        lengths = [int(self.starts[i + 1] - self.starts[i]) for i in keep]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        names = tuple(self.clips[i] for i in keep)
        return Motion(names, starts, self.fps, self.local_rotations[frames], self.root_pos_m[frames])


def is_held_out(clip: str) -> bool:
    """Whether a clip of that name belongs to the test split."""
    return any(part in clip for part in HELD_OUT)


def load_motion(path: str | Path, split: Split = "train") -> Motion:
    """Read the motion file and retarget one split of it (``train``, ``test`` = held-out clips, ``all``) to the body.

    An excerpt saved by `save_motion` is read as it stands. InputError where the file is neither.
    """
    try:
        data = load_arrays(path)
    except FileNotFoundError:
        raise InputError(f"{path}: wanted a motion capture .npz, found no such file; check the path") from None
    except (OSError, ValueError):
        raise InputError(f"{path}: wanted a motion capture .npz, found another kind of file") from None
    if "local_rotations_i16" in data:
        rotations = data["local_rotations_i16"].astype(np.float32) / 32767
        rotations = quaternion_to_matrix(torch.from_numpy(rotations)).numpy()
        motion = Motion(
            tuple(data["clips"].tolist()), data["starts"], float(data["fps"]), rotations, data["root_pos_m"]
        )
    elif "local_quat_xyzw_i16" in data:
        motion = _retarget(data)
    else:
        raise InputError(f"{path}: wanted local_quat_xyzw_i16 or local_rotations_i16, found {', '.join(sorted(data))}")
    if split == "all":
        return motion
    return motion.select([i for i, name in enumerate(motion.clips) if is_held_out(name) == (split == "test")])


def save_motion(motion: Motion, path: str | Path) -> None:
    """Write clips in the body's own joints, compactly (16-bit quaternions w, x, y, z); `load_motion` reads it."""
    quaternions = matrix_to_quaternion(torch.from_numpy(motion.local_rotations)).numpy()
    np.savez_compressed(
        path,
        clips=np.array(motion.clips),
        starts=motion.starts,
        fps=np.float64(motion.fps),
        root_pos_m=motion.root_pos_m.astype(np.float32),
        local_rotations_i16=np.round(quaternions * 32767).astype(np.int16),
    )


def limb_blends() -> tuple[Tensor, Tensor]:
    """How limbs of two clips are combined: how often each of P patterns comes (P,), and the joints (P,24) bool that it
    takes from the second clip."""
    taken = torch.zeros(len(_BLENDS), 24, dtype=torch.bool)
    for row, (_, limbs) in enumerate(_BLENDS):
        for limb in limbs:
            taken[row, SMPL_24.indices(*_LIMBS[limb])] = True
    return torch.tensor([weight for weight, _ in _BLENDS]), taken


@cache
def rest_joints() -> np.ndarray:
    """Joints (24,3) m of the free neutral body's template, pelvis at the origin."""
    with np.load(find_weights("body/hmrkit_body_neutral.npz"), allow_pickle=False) as body:
        return (body["J_regressor"] @ body["v_template"]).astype(np.float32)


def _retarget(data: dict[str, np.ndarray]) -> Motion:
    names, parents = data["names"].tolist(), tuple(int(p) for p in data["parents"])
    offsets = torch.from_numpy(data["offsets_cm"] / 100)
    rest = torch.from_numpy(rest_joints())
    quaternion = torch.from_numpy(data["local_quat_xyzw_i16"].astype(np.float32))[..., [3, 0, 1, 2]]
    source = world_from_local(quaternion_to_matrix(quaternion), parents)
    starts, clips = data["starts"].astype(np.int64), tuple(data["clips"].tolist())
    stretches = [slice(a, b) for a, b in pairwise(starts)]

    def limbs(upper: str, lower: str, end: str, straight: float = 0.0) -> list[Limb]:
        index = [[names.index(side + name) for name in (upper, lower, end)] for side in "lr"]
        return [Limb(first, second, offsets[second], offsets[third], straight) for first, second, third in index]

    # At rest the file's legs are straight, as the body's are; its arms are bent by 20 degrees.
    rest_knee = float(bend(offsets[names.index("lShin")], offsets[names.index("lFoot")]))
    source, farther = straighten(source, limbs("Thigh", "Shin", "Foot", rest_knee), stretches, STRAIGHT_LEGS)
    source, _ = straighten(source, limbs("Shldr", "ForeArm", "Hand"), stretches, STRAIGHT_ARMS)
    joints = SMPL_24.index
    world: list[Tensor] = []
    for joint, parent in zip(SMPL_24.joints, SMPL_24.parents, strict=True):
        if joint not in _SOURCE:
            world.append(world[parent])
            continue
        rotated = source[:, names.index(_SOURCE[joint])]
        if joint in _BONES:
            child, file_child = _BONES[joint]
            bone = rest[joints[child]] - rest[SMPL_24.parents[joints[child]]]
            rotated = rotated @ rotation_between(bone, offsets[names.index(file_child)])
        world.append(rotated)
    lower, upper = world[joints["spine1"]], world[joints["spine3"]]
    world[joints["spine2"]] = _halfway(lower, upper)
    stacked = torch.stack(world, 1)
    parent = torch.tensor(SMPL_24.parents[1:])
    local = _heads_on(torch.cat([stacked[:, :1], stacked[:, parent].mT @ stacked[:, 1:]], 1))

    # The pelvis goes where the hips' middle is in the file, with paths scaled as the legs are.
    def length(*bones: Tensor) -> float:
        return float(sum(bone.norm() for bone in bones))

    mine = length(
        rest[joints["left_knee"]] - rest[joints["left_hip"]], rest[joints["left_ankle"]] - rest[joints["left_knee"]]
    )
    scale = mine / length(offsets[names.index("lShin")], offsets[names.index("lFoot")])
    hip = source[:, 0] @ (offsets[names.index("lButtock")] * torch.tensor([0.0, 1, 1]))
    thigh = source[:, names.index("lButtock")] @ (offsets[names.index("lThigh")] * torch.tensor([0.0, 1, 1]))
    root = (torch.from_numpy(data["root_pos_cm"]) / 100 + hip + thigh) * (scale * farther[:, None])
    middle = (rest[joints["left_hip"]] + rest[joints["right_hip"]]) / 2
    root = root - stacked[:, 0] @ middle
    return Motion(clips, starts, float(data["fps"]), local.numpy(), root.numpy())


def _heads_on(local: Tensor) -> Tensor:
    """Local rotations (N,24,3,3) with neck and head at rest where the capture has the head turned over (two clips)."""
    neck, head = SMPL_24.indices("neck", "head")
    over = (local[:, neck] @ local[:, head])[:, 1, 1] < math.cos(FARTHEST_HEAD)
    local[over, neck] = local[over, head] = torch.eye(3)
    return local


def _halfway(first: Tensor, second: Tensor) -> Tensor:
    """Rotations half way along the shortest path between rotations (...,3,3)."""
    return first @ axis_angle_to_matrix(matrix_to_axis_angle(first.mT @ second) / 2)
