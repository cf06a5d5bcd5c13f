"""From MakeHuman's relaxed A-pose to SMPL's T-pose, for every person by his own bones, and the 24 joints."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from scipy.spatial.transform import Rotation

from hmrkit.skeletons import SMPL_24
from hmrkit.training.make_body.regression import fit_regressor
from hmrkit.training.make_body.source import Rest, Source, sample_people
from hmrkit.training.make_body.surface import mirror_map

SIDES = ((".L", 1.0), (".R", -1.0))  # suffix of MakeHuman's bones, sign of x
# Bones whose heads the T-pose and the joints are made from.
_HEADS_USED = [
    "spine05", "spine04", "spine03", "spine02", "spine01", "neck01", "neck03", "head",
    *(bone + side for side, _ in SIDES for bone in (
        "clavicle", "shoulder01", "upperarm01", "lowerarm01", "wrist", "finger2-1", "finger3-1", "finger4-1",
        "finger5-1", "upperleg01", "upperleg02", "lowerleg01", "foot", "toe1-1", "toe3-1",
    )),
]  # fmt: skip
# MakeHuman bone -> shares of SMPL's joints in its skinning weights; "@" stands for the bone's side.
_BONE_SHARES: dict[str, dict[str, float]] = {
    "pelvis": {"pelvis": 1}, "root": {"pelvis": 1}, "spine05": {"pelvis": 0.75, "spine1": 0.25},
    "spine04": {"pelvis": 0.3, "spine1": 0.7}, "spine03": {"spine1": 0.75, "spine2": 0.25},
    "spine02": {"spine2": 0.85, "spine3": 0.15}, "spine01": {"spine3": 1}, "neck01": {"neck": 0.9, "spine3": 0.1},
    "neck02": {"neck": 1}, "neck03": {"neck": 0.5, "head": 0.5}, "breast": {"spine3": 0.6, "spine2": 0.4},
    "clavicle": {"@collar": 0.8, "spine3": 0.2}, "shoulder01": {"@collar": 0.65, "@shoulder": 0.35},
    "upperarm01": {"@shoulder": 1}, "upperarm02": {"@shoulder": 1}, "lowerarm01": {"@elbow": 1},
    "lowerarm02": {"@elbow": 0.85, "@wrist": 0.15}, "wrist": {"@wrist": 1},
    "upperleg01": {"@hip": 0.55, "pelvis": 0.45}, "upperleg02": {"@hip": 1},
    "lowerleg01": {"@knee": 1}, "lowerleg02": {"@knee": 0.95, "@ankle": 0.05}, "foot": {"@ankle": 1},
}  # fmt: skip
# The same for bones that are numbered; the first prefix that fits counts, and what none fits is of the face.
_PREFIX_SHARES: dict[str, dict[str, float]] = {
    "toe": {"@foot": 1}, "metacarpal": {"@wrist": 0.5, "@hand": 0.5}, "finger1": {"@wrist": 0.6, "@hand": 0.4},
    "finger": {"@hand": 1}, "": {"head": 1},
}  # fmt: skip


class TPose:
    """Poses `Rest` shapes into the T-pose with the pelvis at the origin. `head_error_mm` (samples, bones): see below.

    MakeHuman's joint cubes do not follow its `height` slider at the knee (the cube wanders from 0.325 to 0.28 of the
    stature while the skin's knee stays at 0.29), nor some of the length sliders. So bone heads are read off the skin
    by regressors fitted where the cubes are right: `height` 0.5, no local changes.
    """

    def __init__(self, source: Source, faces: np.ndarray, samples: int = 240) -> None:
        self._source = source
        self._bones = np.array([source.bone[name] for name in _HEADS_USED])
        self._skin = np.unique(faces)
        people = sample_people(samples, np.random.default_rng(11))
        people.phenotypes["height"][:] = 0.5
        people.phenotypes["weight"] = np.clip(people.phenotypes["weight"], 0.05, 0.95)
        for name in people.local_changes:
            people.local_changes[name] = np.zeros(samples)
        rest = source.rest(people)
        skin, heads = rest.vertices[:, self._skin], rest.heads[:, self._bones]
        mirror_heads = [_HEADS_USED.index(_other_side(name)) for name in _HEADS_USED]
        regressor = fit_regressor(skin, heads, mirror_map(skin.mean(0)), mirror_heads, train=samples // 2)
        error = np.linalg.norm(np.einsum("jv,nvc->njc", regressor, skin) - heads, axis=2)
        self.head_error_mm = error[samples // 2 :] * 1e3
        self._regressor = scipy.sparse.csr_matrix(regressor)
        # Bones that only move with an ancestor share its column of the skinning weights.
        turning = set(_world_rotations(rest.heads[0], source.bone))
        owner: list[int] = []
        for index, (name, parent) in enumerate(zip(source.bone_labels, source.bone_parents, strict=True)):
            owner.append(index if name in turning or parent < 0 else owner[parent])
        self._owners = np.unique(owner)
        owners = np.array(owner)
        self._weights = np.stack([source.weights[:, owners == o].sum(1) for o in self._owners], 1)

    def __call__(self, rest: Rest) -> Rest:
        """N people in the T-pose."""
        posed = [self._one(*person) for person in zip(rest.vertices, rest.heads, rest.tails, strict=True)]
        return Rest(*(np.array(values) for values in zip(*posed, strict=True)))

    def _one(self, vertices: np.ndarray, heads: np.ndarray, tails: np.ndarray) -> tuple[np.ndarray, ...]:
        along = tails - heads
        heads = heads.copy()
        heads[self._bones] = self._regressor @ vertices[self._skin]
        rotations = _world_rotations(heads, self._source.bone)
        rotation, shift = _pose_bones(self._source, rotations, heads)
        blended = (self._weights @ rotation[self._owners].reshape(-1, 9)).reshape(-1, 3, 3)
        vertices = np.einsum("vab,vb->va", blended, vertices) + self._weights @ shift[self._owners]
        tails = np.einsum("jab,jb->ja", rotation, heads + along) + shift
        heads = np.einsum("jab,jb->ja", rotation, heads) + shift
        pelvis = smpl_joints(heads, self._source.bone)[0]
        return vertices - pelvis, heads - pelvis, tails - pelvis


def smpl_joints(heads: np.ndarray, bone: dict[str, int]) -> np.ndarray:
    """SMPL's 24 joints (24,3) as fixed means of MakeHuman's bone heads (bones,3), posed or not."""
    place: dict[str, np.ndarray] = {
        "pelvis": heads[bone["spine05"]],
        "spine1": (heads[bone["spine04"]] + heads[bone["spine03"]]) / 2,
        "spine2": heads[bone["spine02"]],
        "spine3": heads[bone["spine01"]],
        "neck": heads[bone["neck01"]],
        "head": 0.5 * heads[bone["neck03"]] + 0.5 * heads[bone["head"]],
    }
    for side, name in ((".L", "left_"), (".R", "right_")):

        def mean(*bones: str, side: str = side) -> np.ndarray:
            return np.mean([heads[bone[b + side]] for b in bones], axis=0)

        # MakeHuman's hips sit wider than the hip joint centres of people.
        place[name + "hip"] = mean("upperleg01", "upperleg02") * [0.85, 1, 1]
        place[name + "knee"] = mean("lowerleg01")
        place[name + "ankle"] = mean("foot")
        place[name + "foot"] = mean("toe1-1", "toe3-1")
        place[name + "collar"] = mean("clavicle", "shoulder01")
        place[name + "shoulder"] = mean("upperarm01")
        place[name + "elbow"] = mean("lowerarm01")
        place[name + "wrist"] = mean("wrist")
        place[name + "hand"] = mean("finger2-1", "finger3-1", "finger4-1")
    return np.stack([place[name] for name in SMPL_24.joints])


def smpl_weights(source: Source) -> np.ndarray:
    """MakeHuman's skinning weights (V,bones) summed into those of SMPL's 24 joints (V,24)."""
    weights = np.zeros((len(source.base), 24))
    for index, name in enumerate(source.bone_labels):
        base, side = (name[:-2], name[-2:]) if name.endswith((".L", ".R")) else (name, "")
        shares = _BONE_SHARES.get(base) or next(s for p, s in _PREFIX_SHARES.items() if base.startswith(p))
        for joint, share in shares.items():
            joint = joint.replace("@", {".L": "left_", ".R": "right_", "": ""}[side])
            weights[:, SMPL_24.index[joint]] += share * source.weights[:, index]
    return weights


def _world_rotations(heads: np.ndarray, bone: dict[str, int]) -> dict[str, np.ndarray]:
    """Rotation (3,3) in the world of each bone that rotates, from one person's A-pose (bent elbows) to the T-pose.

    Upper arms, forearms and hands come to lie along x, palms down, the hand's twist spread over the arm as over
    forearm bones; legs go nearly upright, toes 6 degrees out.
    """
    rotations: dict[str, np.ndarray] = {}
    for side, sign in SIDES:

        def head(name: str, side: str = side) -> np.ndarray:
            return heads[bone[name + side]]

        outward = np.array([sign, 0.0, 0.0])
        upper_arm, forearm = head("lowerarm01") - head("upperarm01"), head("wrist") - head("lowerarm01")
        raise_arm = _between(upper_arm, outward)
        vector = _log(raise_arm)
        rotations["clavicle" + side] = _exp(vector * 0.21)
        rotations["shoulder01" + side] = _exp(vector * 0.375)
        straighten = _between(raise_arm @ forearm, outward) @ raise_arm
        fingers = (head("finger3-1") + head("finger4-1")) / 2 - head("wrist")
        knuckles = head("finger2-1") - head("finger5-1")  # little to index finger: comes to point forward
        hand = _frame(outward, np.array([0.0, 0.0, 1.0])) @ _frame(fingers, knuckles).T
        twist = _log(hand @ straighten.T) @ outward
        rotations["upperarm01" + side] = raise_arm
        rotations["upperarm02" + side] = _exp(outward * 0.15 * twist) @ raise_arm
        rotations["lowerarm01" + side] = _exp(outward * 0.40 * twist) @ straighten
        rotations["lowerarm02" + side] = _exp(outward * 0.75 * twist) @ straighten
        rotations["wrist" + side] = hand

        hip, knee, ankle = (head("upperleg01") + head("upperleg02")) / 2, head("lowerleg01"), head("foot")
        thigh, shin = knee - hip, ankle - knee
        rotation_thigh = _between(thigh, np.array([-sign * 0.055 * thigh[1], thigh[1], thigh[2]]))
        rotation_shin = _between(shin, np.array([-sign * 0.015 * shin[1], shin[1], shin[2]]))
        toes = (head("toe1-1") + head("toe3-1")) / 2 - ankle
        rotation_foot = _exp(np.array([0.0, sign * np.radians(6) - np.arctan2(toes[0], toes[2]), 0.0]))
        rotations["upperleg01" + side] = _exp(_log(rotation_thigh) * 0.5)
        rotations["upperleg02" + side] = rotation_thigh
        rotations["lowerleg01" + side] = rotation_shin
        rotations["lowerleg02" + side] = _exp(_log(rotation_shin) * 0.6 + _log(rotation_foot) * 0.4)
        rotations["foot" + side] = rotation_foot
    return rotations


def _pose_bones(source: Source, rotations: dict[str, np.ndarray], heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World rotations (bones,3,3) and shifts (bones,3) of points; bones that do not rotate follow their parent."""
    count = len(source.bone_labels)
    rotation, shift = np.zeros((count, 3, 3)), np.zeros((count, 3))
    for index, (name, parent) in enumerate(zip(source.bone_labels, source.bone_parents, strict=True)):
        rotation[index] = rotations.get(name, rotation[parent] if parent >= 0 else np.eye(3))
        place = heads[index] if parent < 0 else rotation[parent] @ heads[index] + shift[parent]
        shift[index] = place - rotation[index] @ heads[index]
    return rotation, shift


def _other_side(bone: str) -> str:
    return bone[:-2] + {".L": ".R", ".R": ".L"}.get(bone[-2:], bone[-2:])


def _between(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Shortest rotation (3,3) of one direction onto another; never opposite ones here."""
    a, b = source / np.linalg.norm(source), target / np.linalg.norm(target)
    x, y, z = np.cross(a, b)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + a @ b)


def _exp(vector: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(vector).as_matrix()


def _log(rotation: np.ndarray) -> np.ndarray:
    return Rotation.from_matrix(rotation).as_rotvec()


def _frame(x: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Columns: direction x, the part of `up` across it, their normal."""
    x = x / np.linalg.norm(x)
    y = up - x * (up @ x)
    y = y / np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], 1)
