"""Bones rotated onto the viewing rays of their keypoints: the step of the calibration target that follows the image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hmrkit.calibration.bone_rotations import (
    LIMBS,
    SEEN_JOINTS,
    assemble,
    bone,
    rotated,
    with_hands,
    with_trunk,
)
from hmrkit.calibration.time_filter import TimeFilter
from hmrkit.camera import pixel_rays, solve_translation
from hmrkit.geometry import rotation_between
from hmrkit.skeletons import SMPL_24
from hmrkit.types import Camera

# A keypoint this far from its joint sits on something else, or the mesh is lost: the bone stays. Keypoints further away
# still move the whole body.
_BONE_REACH_M, _BODY_REACH_M = 0.3, 0.6
# Least confidence of a keypoint in sight, and that of one that counts fully.
_SEEN_FROM, _SEEN_FULLY = 0.2, 0.5
# How far from its ray a joint of the lifted pose may lie, and from where on that pose is not of this image.
_LIFTED_AGREES_M, _LIFTED_DISAGREES_M = 0.15, 0.3


@dataclass(frozen=True)
class Rays:
    """Keypoints of `SEEN_JOINTS`: pixels (T,12,2), confidence (T,12), offsets (T,12,3) m from joint to marked point."""

    camera: Camera
    pixels: np.ndarray
    confidence: Tensor
    offsets: Tensor

    @cached_property
    def sure(self) -> Tensor:
        """(T,12) in [0, 1]: 0 for what is not seen, be it hidden (a low confidence) or outside of the image."""
        size = np.array([self.camera.width, self.camera.height])
        inside = ((self.pixels >= 0) & (self.pixels <= size)).all(-1)
        seen = ((self.confidence - _SEEN_FROM) / (_SEEN_FULLY - _SEEN_FROM)).clamp(0, 1)
        return torch.where(torch.from_numpy(np.asarray(inside)), seen, 0.0)

    @cached_property
    def directions(self) -> Tensor:
        """(T,12,3) with z = 1."""
        return torch.from_numpy(pixel_rays(self.camera, np.nan_to_num(self.pixels)).astype(np.float64))

    def aims(self, points: Tensor, reach: float = _BONE_REACH_M) -> tuple[Tensor, Tensor]:
        """Where the rays would have points (T,12,3) m, at their present depth: moves (T,12,3) m and weights (T,12).

        Tukey's biweight: what is further away than `reach` m has no weight at all."""
        moves = self.directions * points[..., 2:] - points
        weight = self.sure * (1 - moves.square().sum(-1) / reach**2).clamp(0, 1) ** 2
        return moves, torch.where(points[..., 2] > 0, weight, 0.0)

    def marks(self, joints: Tensor) -> Tensor:
        """Points (T,12,3) m of the body that keypoints mark, of joints (T,24,3)."""
        return joints[:, SMPL_24.indices(*SEEN_JOINTS)] + self.offsets

    def seen_body(self, joints: Tensor) -> Tensor:
        """(T,) bool: frames in which some keypoint may move the whole body."""
        return (self.aims(self.marks(joints), _BODY_REACH_M)[1] > 0).any(-1)

    def shift(self, joints: Tensor, filtered: TimeFilter) -> Tensor:
        """How far the whole body (T,3) must move across the view to lie on the rays on average."""
        moves, weight = self.aims(self.marks(joints), _BODY_REACH_M)
        total = weight.sum(1, keepdim=True)
        return filtered.smooth((weight[..., None] * moves).sum(1) / (total + 0.1))

    def agreement(self, pose: Tensor, root: Tensor) -> Tensor:
        """(T,12) in [0, 1]: whether the lifted pose (T,12,3) m about its own root, placed near `root` (T,3) where it
        fits the keypoints best, projects onto them. 1 where a keypoint is not seen."""
        placed = pose + root[:, None]
        weight = self.sure
        for _ in range(3):  # one keypoint on something else must not move the pose away from all others
            solved = solve_translation(
                self.camera, pose.numpy(), self.pixels, weight.numpy(), root.numpy(), prior_weight=1e-3
            )
            placed = pose + torch.from_numpy(solved.astype(np.float64))[:, None]
            _, weight = self.aims(placed, 2 * _LIFTED_DISAGREES_M)
        gap = self.aims(placed)[0].norm(dim=-1)
        agrees = ((_LIFTED_DISAGREES_M - gap) / (_LIFTED_DISAGREES_M - _LIFTED_AGREES_M)).clamp(0, 1)
        return torch.where((self.sure > 0) & pose.isfinite().all(-1), agrees, 1.0)


def pieces_on_rays(weight: Tensor) -> Tensor:
    """(T,10) bool: which of `PIECES` the rays may rotate, by weights (T,12): limbs whose end is seen, both sides of the
    trunk."""
    seen = dict(zip(SEEN_JOINTS, (weight > 0).unbind(1), strict=True))
    trunk = [seen[f"left_{side}"] & seen[f"right_{side}"] for side in ("hip", "shoulder")]
    return torch.stack([*trunk, *(seen[end] for _, end in LIMBS)], 1)


def rotations_to_rays(
    mesh: Tensor, rotations: Tensor, lengths: Tensor, root: Tensor, rays: Rays
) -> tuple[Tensor, Tensor]:
    """Rotations after one pass down the body that points every bone at its end's ray, at its present depth, and the
    weights (T,12) that `SEEN_JOINTS` had in it.

    Lengths stay, so a bone that looks too short is rotated further out of the image; passes converge on the ray.
    """
    joint = SMPL_24.index
    slot = {name: i for i, name in enumerate(SEEN_JOINTS)}
    joints = assemble(mesh, rotations, lengths, root)
    moves, weight = rays.aims(rays.marks(joints))
    aim = joints[:, SMPL_24.indices(*SEEN_JOINTS)] + weight[..., None] * moves

    def across(side: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        left, right = aim[:, slot[f"left_{side}"]], aim[:, slot[f"right_{side}"]]
        old_left, old_right = joints[:, joint[f"left_{side}"]], joints[:, joint[f"right_{side}"]]
        return old_left - old_right, left - right, (old_left + old_right) / 2, (left + right) / 2

    hips_now, hips_aim, middle_now, middle_aim = across("hip")
    pelvis = rotation_between(hips_now, hips_aim)
    girdle_now, girdle_aim, top_now, top_aim = across("shoulder")
    bend = rotation_between(top_now - middle_now, top_aim - middle_aim)
    chest = rotation_between(rotated(bend, girdle_now), girdle_aim) @ bend
    rotations = with_trunk(rotations, pelvis, chest)
    for start, end in LIMBS:
        joints = assemble(mesh, rotations, lengths, root)
        now = joints[:, joint[end]] - joints[:, joint[start]]
        swing = rotation_between(now, aim[:, slot[end]] - joints[:, joint[start]])
        rotations[:, bone(end)] = swing @ rotations[:, bone(end)]
    return with_hands(rotations), weight
