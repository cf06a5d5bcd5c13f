"""Bones rotated onto the viewing rays of their keypoints: the step of the calibration target that follows the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hmrkit.calibration.bone_rotations import (
    LIMBS,
    SEEN_JOINTS,
    assemble,
    bone,
    gaussian,
    rotated,
    with_hands,
    with_trunk,
)
from hmrkit.camera import pixel_rays, solve_translation
from hmrkit.geometry import rotation_between
from hmrkit.skeletons import SMPL_24
from hmrkit.types import Camera

# A joint this far from its keypoint's ray has its say halved twice: the keypoint sits on something else.
_RAY_REACH_M = 0.15


@dataclass(frozen=True)
class Rays:
    """Keypoints of `SEEN_JOINTS`: pixels (T,12,2), confidence (T,12), offsets (T,12,3) m from joint to marked point."""

    camera: Camera
    pixels: np.ndarray
    confidence: Tensor
    offsets: Tensor

    def aims(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Where the rays would have the seen joints, at their present depth: moves (T,12,3) m and weights (T,12)."""
        points = joints[:, SMPL_24.indices(*SEEN_JOINTS)] + self.offsets
        rays = torch.from_numpy(pixel_rays(self.camera, np.nan_to_num(self.pixels)).astype(np.float64))
        moves = rays * points[..., 2:] - points
        weight = self.confidence / (1 + (moves.norm(dim=-1) / _RAY_REACH_M) ** 2) ** 2
        return moves, torch.where(points[..., 2] > 0, weight, 0.0)

    def depth_of_root(self, joints: Tensor, sigma: float) -> Tensor:
        """Root (T,3) at the depth that fits the keypoints' spread, changed smoothly and by a tenth at most."""
        points = joints[:, SMPL_24.indices(*SEEN_JOINTS)] + self.offsets
        root = joints[:, 0]
        _, weight = self.aims(joints)
        solved = solve_translation(
            self.camera, (points - root[:, None]).numpy(), self.pixels, weight.numpy(), root.numpy(), prior_weight=1e-3
        )
        ratio = (torch.from_numpy(solved[:, 2].astype(np.float64)) / root[:, 2]).clamp(0.9, 1.1)
        return root * torch.exp(gaussian(ratio.log(), sigma))[:, None]

    def shift(self, joints: Tensor, sigma: float) -> Tensor:
        """How far the whole body (T,3) must move across the view to lie on the rays on average."""
        moves, weight = self.aims(joints)
        total = weight.sum(1, keepdim=True)
        return gaussian((weight[..., None] * moves).sum(1) / (total + 0.1), sigma)


def rotations_to_rays(
    mesh: Tensor, rotations: Tensor, lengths: Tensor, root: Tensor, rays: Rays, ray_weight: float
) -> Tensor:
    """Rotations after one pass down the body that points every bone at its end's ray, at its present depth.

    Lengths stay, so a bone that looks too short is rotated further out of the image; passes converge on the ray.
    """
    joint = SMPL_24.index
    slot = {name: i for i, name in enumerate(SEEN_JOINTS)}
    joints = assemble(mesh, rotations, lengths, root)
    moves, weight = rays.aims(joints)
    aim = joints[:, SMPL_24.indices(*SEEN_JOINTS)] + ray_weight * weight[..., None] * moves

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
    return with_hands(rotations)
