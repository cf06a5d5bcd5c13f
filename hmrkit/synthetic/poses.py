"""Poses and shapes of the people in synthetic images: captured poses, mirrored, blended by limb, perturbed,
and of two fifths people who stand, walk, lean and reach (`hmrkit.synthetic.everyday`).

The poses that ship (``weights/synthetic/poses.npz``) are every third frame of the CMU motion file, so that anyone can
train and regenerate the benchmark after install.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hmrkit.body.landmarks import world_from_local
from hmrkit.geometry import axis_angle_to_matrix, mirrored_pose
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.everyday import LEGS, NECK, bend_one_leg, set_arms, towards_rest
from hmrkit.synthetic.mocap import Motion, Split, limb_blends, load_motion, save_motion
from hmrkit.weights import find_weights

POSES = "synthetic/poses.npz"
# The benchmark's held-out frames, whose arms are as captured: its figures stay comparable.
BENCHMARK = "synthetic/benchmark_poses.npz"

# Standard deviation of a training pose's perturbation in degrees about the parent's x (bending), y (twisting) and z
# (spreading) axes. Knees and elbows are hinges.
_WOBBLE_DEG: dict[str, tuple[float, float, float]] = {
    "hip": (9, 7, 6),
    "knee": (9, 2, 1),
    "ankle": (9, 6, 4),
    "foot": (6, 1, 1),
    "spine1": (4, 4, 4),
    "spine2": (3, 4, 3),
    "spine3": (4, 4, 4),
    "neck": (7, 9, 6),
    "head": (7, 9, 6),
    "collar": (3, 4, 4),
    "shoulder": (10, 12, 12),
    "elbow": (5, 10, 3),
    "wrist": (10, 8, 15),
    "hand": (4, 3, 6),
}
# The share of training people who stand, and how much less than others they are perturbed. Of them: both legs straight,
# one knee bent, arms held as people do, head level.
EVERYDAY, STEADY = 0.45, 0.4
EVERYDAY_SHARES = (0.4, 0.2, 0.6, 0.5)
_LEGS = ("left_hip", "right_hip", "left_knee", "right_knee")


class PoseSampler:
    """Poses of one split. ``train`` varies them; ``test`` takes held-out frames as they are, mirrored or not.

    `wobble` scales the perturbation, `tumble` is how often a training person is rotated to any side (lying, falling,
    upside down). `everyday` is the share of training people who stand upright: they are drawn from the fifth of the
    frames in which people do, most with arms as people hold them, some with one knee bent, and perturbed less. What was
    captured are sports and games. `source` is another motion file."""

    def __init__(
        self,
        split: Split = "train",
        wobble: float = 1.0,
        tumble: float = 0.03,
        everyday: float | None = None,
        source: str | Path | None = None,
    ) -> None:
        varied = split != "test"
        everyday = (EVERYDAY if varied else 0.0) if everyday is None else everyday
        shipped = POSES if varied or everyday else BENCHMARK
        motion = load_motion(source or find_weights(shipped), split)
        self.motion = motion
        self.rotations = torch.from_numpy(motion.local_rotations)
        self.varied = varied
        self.tumble, self.everyday = tumble, everyday
        self._upright = upright_frames(self.rotations)
        self._blend_weights, self._blends = limb_blends()
        spread = [
            _WOBBLE_DEG.get(name.removeprefix("left_").removeprefix("right_"), (0, 0, 0)) for name in SMPL_24.joints
        ]
        self._wobble = torch.deg2rad(torch.tensor(spread, dtype=torch.float32)) * wobble

    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """`global_orient` (B,3,3) in a world with y up, `body_pose` (B,23,3,3), `betas` (B,10)."""
        g = generator
        stands = torch.rand(batch, generator=g) < self.everyday if self.everyday else None
        local = self._frames(batch, g, stands)
        betas = torch.randn(batch, 10, generator=g).clamp(-2.5, 2.5)
        if self.varied:
            local, betas = self._perturbed(local, betas, stands, g)
        if stands is not None:
            local = self._everyday(local, stands, g)
        if self.varied:
            local[:, 0] = self._tilts(stands, batch, g) @ local[:, 0]
        mirrored = torch.rand(batch, 1, 1, 1, generator=g) < 0.5
        local = torch.where(mirrored, mirrored_pose(local, SMPL_24.mirror), local)
        return local[:, 0], local[:, 1:], betas

    def _perturbed(
        self, local: Tensor, betas: Tensor, stands: Tensor | None, g: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Limbs of two frames, every joint rotated at random, and more extreme shapes."""
        batch = len(local)
        chosen = self._blends[torch.multinomial(self._blend_weights, batch, True, generator=g)]
        local = torch.where(chosen[..., None, None], self._frames(batch, g, stands), local)
        # How much differs from person to person, so that captured poses stay frequent.
        amount = torch.rand(batch, 1, 1, generator=g) ** 1.5 * 1.8
        amount = amount if stands is None else torch.where(stands[:, None, None], STEADY * amount, amount)
        rotation = torch.randn(batch, 24, 3, generator=g).clamp(-2, 2) * self._wobble * amount
        betas = betas * torch.where(torch.rand(batch, 1, generator=g) < 0.2, 1.5, 1.0)
        return local @ axis_angle_to_matrix(rotation), betas

    def _frames(self, batch: int, g: torch.Generator, stands: Tensor | None) -> Tensor:
        return self.rotations[self._rows(batch, g, stands)]

    def _rows(self, batch: int, g: torch.Generator, stands: Tensor | None) -> Tensor:
        rows = torch.randint(len(self.rotations), (batch,), generator=g)
        if stands is not None:
            upright = self._upright[torch.randint(len(self._upright), (batch,), generator=g)]
            rows = torch.where(stands, upright, rows)
        return rows

    @staticmethod
    def _everyday(local: Tensor, stands: Tensor, g: torch.Generator) -> Tensor:
        """People who stand (B,), many with legs, arms and heads as people hold them."""
        legs, one, arms, heads = (stands & (torch.rand(len(stands), generator=g) < share) for share in EVERYDAY_SHARES)
        local = bend_one_leg(towards_rest(local, legs, LEGS, 0.7, g), one, g)
        return towards_rest(set_arms(local, arms, g), heads, NECK, 0.3, g)

    def _tilts(self, stands: Tensor | None, batch: int, g: torch.Generator) -> Tensor:
        """Rotations (B,3,3) of whole people: a lean of some degrees, less where they stand (B,), now and then
        anything."""
        lean = torch.randn(batch, 3, generator=g) * torch.tensor([0.12, 0.0, 0.12])
        lean = lean if stands is None else torch.where(stands[:, None], STEADY * lean, lean)
        axis = torch.nn.functional.normalize(torch.randn(batch, 3, generator=g), dim=-1)
        any_rotation = axis * torch.rand(batch, 1, generator=g) * torch.pi
        tumbling = torch.rand(batch, 1, generator=g) < self.tumble
        return axis_angle_to_matrix(torch.where(tumbling, any_rotation, lean))


def upright_frames(local: Tensor) -> Tensor:
    """Which frames (n,) of local rotations (N,24,3,3) show people who stand upright on straight legs."""
    world = world_from_local(local)
    up = world[:, :, 1, 1]  # cosines against the vertical
    legs, trunk = (SMPL_24.indices(*names) for names in (_LEGS, ("pelvis", "spine3")))
    upright = (up[:, legs].amin(1) > math.cos(math.radians(20))) & (up[:, trunk].amin(1) > math.cos(math.radians(30)))
    return upright.nonzero()[:, 0]


def save_poses(motion_path: str | Path, path: str | Path, every: int = 3) -> None:
    """Write every third frame of a motion file's clips in the body's joints: what ships as ``synthetic/poses.npz``."""
    motion = load_motion(motion_path, "all")
    rows = [np.arange(motion.starts[i], motion.starts[i + 1], every) for i in range(len(motion.clips))]
    starts = np.concatenate([[0], np.cumsum([len(part) for part in rows])]).astype(np.int64)
    keep = np.concatenate(rows)
    excerpt = Motion(motion.clips, starts, motion.fps / every, motion.local_rotations[keep], motion.root_pos_m[keep])
    save_motion(excerpt, path)
