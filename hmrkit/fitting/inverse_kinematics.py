"""Landmarks -> joint rotations in closed form, all frames at once.

Each part of the body is rotated by a frame made of two landmark directions: the first is met exactly (where the bone
points), the second shows the twist about it (HybrIK, Li et al. 2021, splits a rotation alike). The same two directions
are taken from the body's own landmarks at rest, so a shoulder landmark that sits beside the shoulder joint does no
harm. Twist that the landmarks do not show, because a limb is straight, is taken from neighbouring frames and else zero.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.body.landmarks import BodyLandmarks, local_from_world
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle, orthonormal_frame, rigid_align, rotation_between
from hmrkit.skeletons import BLAZEPOSE_33, BLAZEPOSE_FACE, SMPL_24
from hmrkit.smoothing import smooth_series

TRUNK = BLAZEPOSE_33.indices("left_hip", "right_hip", "left_shoulder", "right_shoulder")
FACE = [i for i, name in enumerate(BLAZEPOSE_33.joints[:BLAZEPOSE_FACE]) if "eye_" not in name]
# Radians, and per radian that the thighs are raised; the chest rotates the other way by a part of it. By least squares
# over the training motion, but for the first: there 0.13, which on images leaves the pelvis tipped forwards, because
# BlazePose's landmarks have a bias; 0.04 takes out most of that on synthetic images of unseen people.
PELVIS_TIP, CHEST_COUNTER = (0.04, -0.45), 0.17
BOW_LIMIT = math.radians(35)
TWIST_NOISE, TWIST_ACCELERATION = 0.35, 30.0  # of a unit vector and its second derivative: smoothing of shown twist
REST_TWIST_WEIGHT = 0.03  # pull towards no twist, against 1 for a limb bent at a right angle
HEAD_LIMIT = math.radians(80)  # against the chest: further rotations are errors of the face's landmarks
NECK_LIMIT = math.radians(15)  # of its bending beyond its part of the head's rotation
KNEE_LIMIT = math.radians(-3)  # least bending
WRIST_LIMIT, ANKLE_LIMIT, FOREARM_TWIST_LIMIT = math.radians(70), math.radians(50), math.radians(100)
# Elbows of the free body bend about an axis that leans out of the T-pose's vertical so far: the mean over the training
# motion, where they differ by 2 degrees. Those of SMPL are taken to bend about the vertical.
ELBOW_LEAN = math.radians(29)
COLLAR_SHARE = 0.22  # part of the upper arm's rise above the horizontal that the collar takes


def solve_pose(landmarks: Tensor, weights: Tensor, times: np.ndarray, body: BodyLandmarks, betas: Tensor) -> Tensor:
    """Local rotations (T,24,3,3) that bring the body onto `landmarks` (T,33,3) m (camera frame, any origin).

    `weights` (T,33) are confidences in [0, 1], `times` (T,) seconds. Bone lengths come from `betas` (10,); only
    directions are read from the landmarks.
    """
    return local_from_world(_Solver(landmarks, weights, times, body, betas).solve())


class _Solver:
    """World rotations are filled in from the trunk outwards; `world` (T,24,3,3) is complete after `solve`."""

    def __init__(
        self, landmarks: Tensor, weights: Tensor, times: np.ndarray, body: BodyLandmarks, betas: Tensor
    ) -> None:
        self.seen, self.weights, self.times, self.body, self.betas = landmarks, weights, times, body, betas
        self.rest = body.rest(betas)
        eye = torch.eye(3, dtype=landmarks.dtype, device=landmarks.device)
        self.world = eye.repeat(len(landmarks), 24, 1, 1)

    def solve(self) -> Tensor:
        self._trunk()
        self._head()
        for side, sign in (("left", 1.0), ("right", -1.0)):
            self._leg(side)
            self._arm(side, sign)
        return self.world

    # ---- directions ------------------------------------------------------------------------------------------------

    def _vector(self, start: str, end: str) -> tuple[Tensor, Tensor]:
        """From one landmark (or ``mid_x``, the middle of both sides) to another: (T,3) as seen, (3,) at rest."""
        ends = [self._point(self.seen, name) for name in (start, end)]
        rest = [self._point(self.rest[None], name)[0] for name in (start, end)]
        return ends[1] - ends[0], rest[1] - rest[0]

    def _aim(self, joint: str, landmark: str) -> tuple[Tensor, Tensor]:
        """From where a joint of the body has come to lie to a landmark: (T,3) as seen, (3,) at rest.

        Starting at the body's own joint, errors of place and proportion do not add up outwards.
        """
        rest = self._point(self.rest[None], landmark)[0] - self._rest_joint(joint)
        return self._point(self.seen, landmark) - self._place(joint), rest

    def _place(self, joint: str) -> Tensor:
        """Where a joint of the body has come to lie (T,3) among the landmarks, by the trunk's."""
        points, joints = self.body(self.world, self.betas)
        return joints[:, SMPL_24.index[joint]] + (self.seen[:, TRUNK] - points[:, TRUNK]).mean(1)

    def _rest_joint(self, joint: str) -> Tensor:
        return self.body.rest_joints(self.betas)[SMPL_24.index[joint]]

    def _point(self, points: Tensor, name: str) -> Tensor:
        index = BLAZEPOSE_33.index
        if name.startswith("mid_"):
            return (points[:, index["left_" + name[4:]]] + points[:, index["right_" + name[4:]]]) / 2
        return points[:, index[name]]

    def _weight(self, *names: str) -> Tensor:
        return torch.stack([self.weights[:, BLAZEPOSE_33.index[n]] for n in names]).amin(0)

    def _set(self, name: str, rotation: Tensor) -> None:
        self.world[:, SMPL_24.index[name]] = rotation

    def _get(self, name: str) -> Tensor:
        return self.world[:, SMPL_24.index[name]]

    # ---- trunk and head --------------------------------------------------------------------------------------------

    def _trunk(self) -> None:
        up, rest_up = self._vector("mid_hip", "mid_shoulder")
        hips, rest_hips = self._vector("right_hip", "left_hip")
        shoulders, rest_shoulders = self._vector("right_shoulder", "left_shoulder")
        pelvis = align(hips, up, rest_hips, rest_up)
        chest = align(shoulders, up, rest_shoulders, rest_up)
        tip = self._pelvis_tip(pelvis)
        pelvis, chest = pelvis @ about_x(tip), chest @ about_x(-CHEST_COUNTER * tip)
        bow = torch.zeros_like(up)
        for _ in range(3):
            self._bend_spine(pelvis, chest, axis_angle_to_matrix(bow))
            points = self.body(self.world, self.betas)[0][:, TRUNK]
            rotation = rotation_between(points[:, 2:].mean(1) - points[:, :2].mean(1), up)
            # The middle of the spine is half of the way from hips to shoulders: it must rotate twice as far.
            bow = _limit(bow + 2 * matrix_to_axis_angle(rotation), BOW_LIMIT)
        self._bend_spine(pelvis, chest, axis_angle_to_matrix(bow))

    def _pelvis_tip(self, pelvis: Tensor) -> Tensor:
        """Angle (T,) about its side axis by which the pelvis tips out of the line from hips to shoulders.

        Four landmarks cannot show how a trunk bends, but thighs do: who sits or squats rolls the pelvis back.
        """
        thighs = [normalize(self._vector(f"{s}_hip", f"{s}_knee")[0], dim=-1) for s in ("left", "right")]
        local = torch.stack([_rotate(pelvis.mT, thigh) for thigh in thighs])
        rise = torch.atan2(local[..., 2], (-local[..., 1]).clamp_min(0.05)).mean(0)
        return (PELVIS_TIP[0] + PELVIS_TIP[1] * rise).clamp(-0.6, 0.3)

    def _bend_spine(self, pelvis: Tensor, chest: Tensor, bow: Tensor) -> None:
        """Pelvis and chest given, the spine's joints between share the rotation evenly and then rotate by `bow`."""
        third = axis_angle_to_matrix(matrix_to_axis_angle(pelvis.mT @ chest) / 3)
        self._set("pelvis", pelvis)
        self._set("spine1", bow @ pelvis @ third)
        self._set("spine2", bow @ pelvis @ third @ third)
        for name in ("spine3", "neck", "head", "left_collar", "right_collar"):
            self._set(name, chest)
        for name in ("left_shoulder", "right_shoulder"):
            self._set(name, chest)
        for name in ("left_hip", "right_hip"):
            self._set(name, pelvis)

    def _head(self) -> None:
        weights = self.weights[:, FACE].clamp_min(0.05)
        rotation, _, _ = rigid_align(self.rest[FACE].expand(len(self.seen), -1, 3), self.seen[:, FACE], weights)
        chest = self._get("spine3")
        rotated = matrix_to_axis_angle(chest.mT @ rotation)
        shown = (self.weights[:, FACE] > 0.02).sum(1, keepdim=True) >= 3  # else the head follows the chest
        rotated = _limit(rotated, HEAD_LIMIT) * shown
        neck, head = (chest @ axis_angle_to_matrix(rotated * share) for share in (0.4, 1.0))
        # The neck also bends to where the face stands.
        shares = (weights / weights.sum(1, keepdim=True))[..., None]
        face, rest_face = (shares * self.seen[:, FACE]).sum(1), (shares * self.rest[FACE]).sum(1)
        middle = rest_face - self._rest_joint("head")
        bone = face - _rotate(head, middle) - self._place("neck")
        rest_bone = self._rest_joint("head") - self._rest_joint("neck")
        bend = matrix_to_axis_angle(rotation_between(_rotate(neck, rest_bone), bone))
        self._set("neck", axis_angle_to_matrix(_limit(bend * shown, NECK_LIMIT)) @ neck)
        self._set("head", head)

    # ---- limbs -----------------------------------------------------------------------------------------------------

    def _leg(self, side: str) -> None:
        thigh, rest_thigh = self._aim(f"{side}_hip", f"{side}_knee")
        shin, rest_shin = self._vector(f"{side}_knee", f"{side}_ankle")
        foot, rest_foot = self._vector(f"{side}_heel", f"{side}_foot_index")
        hinge_rest = self.rest.new_tensor([1.0, 0, 0])
        pelvis = self._get("pelvis")
        untwisted = rotation_between(_rotate(pelvis, rest_thigh), thigh) @ pelvis
        # The plane in which the knee bends tells the thigh's twist; one that seems to bend forwards tells nothing. Feet
        # tell no more of straight legs, either: ankles rotate, too.
        seen = torch.linalg.cross(normalize(thigh, dim=-1), normalize(shin, dim=-1))
        backwards = (seen * _rotate(untwisted, hinge_rest)).sum(-1) > 0
        knee = self._weight(f"{side}_hip", f"{side}_knee", f"{side}_ankle") * backwards
        witness = knee[:, None] * seen.norm(dim=-1, keepdim=True) * seen
        upper = self._twist(untwisted, thigh, rest_thigh, hinge_rest, witness, math.radians(60))
        self._set(f"{side}_hip", upper)
        shin, rest_shin = self._aim(f"{side}_knee", f"{side}_ankle")
        # The shin: onto its landmark, but never in front of the thigh's line.
        local = normalize(_rotate(upper.mT, shin), dim=-1)
        straight = normalize(rest_shin, dim=-1)
        least = _rotate(axis_angle_to_matrix(hinge_rest * KNEE_LIMIT), straight)
        ahead = local[:, 2] > least[2]
        local = torch.where(ahead[:, None], torch.cat([local[:, :2], least[2].expand(len(local), 1)], 1), local)
        lower = upper @ rotation_between(straight.expand_as(local), local)
        self._set(f"{side}_knee", lower)
        # The foot: its length by heel and toe; about that by the shin, whose side axis it shares.
        side_axis = _rotate(lower, hinge_rest)
        solved = align(foot, side_axis, rest_foot, hinge_rest)
        confident = self._weight(f"{side}_heel", f"{side}_foot_index", f"{side}_ankle")[:, None].clamp(0, 1)
        bend = matrix_to_axis_angle(lower.mT @ solved) * smoothstep(confident, 0.05, 0.4)
        ankle = lower @ axis_angle_to_matrix(_limit(bend, ANKLE_LIMIT))
        self._set(f"{side}_ankle", ankle)
        self._set(f"{side}_foot", ankle)

    def _arm(self, side: str, sign: float) -> None:
        arm, rest_arm = self._vector(f"{side}_shoulder", f"{side}_elbow")
        forearm, rest_forearm = self._vector(f"{side}_elbow", f"{side}_wrist")
        chest = self._get("spine3")
        rise = torch.asin(normalize(_rotate(chest.mT, arm), dim=-1)[:, 1].clamp(-1, 1)).clamp_min(0)
        zero = torch.zeros_like(rise)
        collar = chest @ axis_angle_to_matrix(torch.stack([zero, zero, sign * COLLAR_SHARE * rise], -1))
        self._set(f"{side}_collar", collar)
        self._set(f"{side}_shoulder", collar)
        arm, rest_arm = self._aim(f"{side}_shoulder", f"{side}_elbow")
        untwisted = rotation_between(_rotate(chest, rest_arm), arm) @ chest
        lean = ELBOW_LEAN if self.body.family == "hmrkit" else 0.0
        hinge_rest = self.rest.new_tensor([0.0, -sign * math.cos(lean), sign * math.sin(lean)])
        seen = torch.linalg.cross(normalize(arm, dim=-1), normalize(forearm, dim=-1))
        elbow = self._weight(f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist")
        upper = self._twist(untwisted, arm, rest_arm, hinge_rest, elbow[:, None] * seen, math.radians(120))
        self._set(f"{side}_shoulder", upper)
        forearm, rest_forearm = self._aim(f"{side}_elbow", f"{side}_wrist")
        lower = rotation_between(_rotate(upper, rest_forearm), forearm) @ upper
        # The hand rotates about the forearm's length; the elbow takes half of it, as radius and ulna do.
        hand, rest_hand = self._vector(f"{side}_wrist", f"{side}_index")
        pinky, rest_pinky = self._vector(f"{side}_wrist", f"{side}_pinky")
        across, rest_across = hand - pinky, rest_hand - rest_pinky
        thumb, rest_thumb = self._vector(f"{side}_wrist", f"{side}_thumb")
        across, rest_across = across + 0.5 * thumb, rest_across + 0.5 * rest_thumb
        length = normalize(forearm, dim=-1)
        names = [f"{side}_{n}" for n in ("wrist", "index", "pinky", "thumb")]
        shown = across - (across * length).sum(-1, keepdim=True) * length
        shown = self._weight(*names)[:, None] * shown / rest_across.norm()
        rest_length = normalize(rest_forearm, dim=-1)
        flat = rest_across - (rest_across * rest_length).sum() * rest_length
        rotated = self._twist(lower, forearm, rest_forearm, flat, shown, FOREARM_TWIST_LIMIT, pull=0.1)
        twist = matrix_to_axis_angle(lower.mT @ rotated)
        self._set(f"{side}_elbow", lower @ axis_angle_to_matrix(twist / 2))
        palm, rest_palm = hand + pinky, rest_hand + rest_pinky
        solved = rotation_between(_rotate(rotated, rest_palm), palm) @ rotated
        bend = matrix_to_axis_angle(rotated.mT @ solved) * smoothstep(self._weight(*names)[:, None], 0.05, 0.5)
        wrist = rotated @ axis_angle_to_matrix(_limit(bend, WRIST_LIMIT))
        self._set(f"{side}_wrist", wrist)
        self._set(f"{side}_hand", wrist)

    def _twist(
        self,
        untwisted: Tensor,
        bone: Tensor,
        rest_bone: Tensor,
        rest_witness: Tensor,
        witness: Tensor,
        limit: float,
        pull: float = REST_TWIST_WEIGHT,
    ) -> Tensor:
        """Rotate `untwisted` (T,3,3) about `bone` (T,3) so that `rest_witness` (3,) comes to lie along `witness` (T,3).

        The witness's length is its weight. Angles are averaged over neighbouring frames as unit vectors, so that a
        frame without a witness follows those that have one; `pull` draws towards no twist.
        """
        axis = normalize(bone, dim=-1)
        zero = _rotate(untwisted, rest_witness)
        zero = normalize(zero - (zero * axis).sum(-1, keepdim=True) * axis, dim=-1)
        quarter = torch.linalg.cross(axis, zero)
        circle = torch.stack([(witness * zero).sum(-1), (witness * quarter).sum(-1)], -1)
        strength = circle.norm(dim=-1)
        unit = circle / strength[:, None].clamp_min(1e-6)
        pulled = (strength[:, None] * unit + pull * circle.new_tensor([1.0, 0])) / (strength[:, None] + pull)
        smooth = smooth_series(
            pulled[:, None].cpu().numpy(),
            (strength + 0.1 * pull)[:, None].cpu().numpy(),
            self.times,
            TWIST_NOISE,
            TWIST_ACCELERATION,
        )
        smooth = torch.from_numpy(smooth[:, 0]).to(bone)
        angle = torch.atan2(smooth[:, 1], smooth[:, 0]).clamp(-limit, limit)
        return axis_angle_to_matrix(axis * angle[:, None]) @ untwisted


def align(first: Tensor, second: Tensor, rest_first: Tensor, rest_second: Tensor) -> Tensor:
    """Rotations (T,3,3) that take `rest_first` onto `first` (T,3), `rest_second` as near to `second` as may be."""
    return orthonormal_frame(first, second) @ orthonormal_frame(rest_first, rest_second).mT


def about_x(angle: Tensor) -> Tensor:
    """Rotations (T,3,3) about x by (T,) radians."""
    return axis_angle_to_matrix(angle[:, None] * angle.new_tensor([1.0, 0, 0]))


def smoothstep(value: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, smooth between."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _rotate(rotation: Tensor, vector: Tensor) -> Tensor:
    return (rotation @ vector[..., None])[..., 0]


def _limit(axis_angle: Tensor, most: float) -> Tensor:
    angle = axis_angle.norm(dim=-1, keepdim=True)
    return axis_angle * (angle.clamp_max(most) / angle.clamp_min(1e-6))
