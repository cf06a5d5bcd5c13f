"""Pairs of an estimated and a true body of one person: what PC-HMR's calibration learns from, without images.

True poses are the captured ones of `hmrkit.synthetic.poses`, seen by a random camera. An estimate errs as the shipped
regressors do on held-out rendered people (`weights/regressors/README.md`): MPJPE 88 mm, PA-MPJPE 65 mm, MPJAE 24.5
degrees, PVE-S 35 mm. A joint's error goes on along the chain, since a regressor that tilts the trunk carries the arms
with it. Betas err as well, so bone lengths differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.body.landmarks import world_from_local
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.mocap import Split, load_motion
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training.lifter_samples import LifterSampler, chain, random_people
from hmrkit.training.lifter_views import Samples, camera_rotation, observe

# Standard deviation (degrees, each axis) of a joint's rotation error in camera axes, and how much of the parent's error
# it shares. With the person's own amount these give the measured figures (test_calibration.py holds them).
ROTATION_DEG, SHARED = 10.2, 0.15
# Rotations about a limb's own axis hardly show in images: their further error, in the limb's own rest axis.
TWIST_DEG = 25.0
# Some people are estimated well, some badly: factors of all rotation errors of one person.
AMOUNTS = (0.4, 1.6)
# A regressor's betas lie nearer to the mean body than the truth, and vary around that.
BETAS_KEPT, BETAS_ERROR = 0.3, 0.75

_ARM = ("collar", "shoulder", "elbow", "wrist", "hand")
# Along which axis a limb lies in the rest pose: arms along x, the others along y.
_LIMB_AXES = torch.tensor([[1.0, 0, 0] if name.endswith(_ARM) else [0.0, 1, 0] for name in SMPL_24.joints])


@dataclass(frozen=True)
class Bodies:
    """B bodies in a camera's axes (x right, y down, z forward), placed nowhere: `global_orient` (B,3,3), `body_pose`
    (B,23,3,3), `betas` (B,10)."""

    global_orient: Tensor
    body_pose: Tensor
    betas: Tensor

    def to(self, device: str | torch.device) -> Bodies:
        """The same bodies on another device."""
        return Bodies(*(getattr(self, f.name).to(device) for f in fields(self)))

    def posed(self, body: Body) -> tuple[Tensor, Tensor]:
        """Vertices (B,V,3) and joints (B,24,3) m about the pelvis, camera axes."""
        made = body(self.global_orient, self.body_pose, self.betas)
        return made.vertices - made.joints[:, :1], made.joints - made.joints[:, :1]


@dataclass(frozen=True)
class Pairs:
    """B people: `estimated` as a mesh stream would see them, and `true`."""

    estimated: Bodies
    true: Bodies


class PairSampler:
    """Endless pairs of one split, on `device`. The same generator state gives the same people on any device.

    ``test`` draws held-out poses as they were captured: the pool that calibration is measured on.
    """

    def __init__(self, split: Split = "train", device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self._poses = PoseSampler(split)

    def __call__(self, batch: int, generator: torch.Generator) -> Pairs:
        """`batch` people, whose rotations are the camera's axes."""
        orient, pose, betas = self._poses(batch, generator)
        true = Bodies(camera_rotation(batch, generator) @ orient, pose, betas)
        return Pairs(mesh_stream_errors(true, generator).to(self.device), true.to(self.device))


@dataclass(frozen=True)
class Clips:
    """What a lifter sees of people in motion, `seen` (B clips of T frames), and `pairs` of every `every`-th frame, one
    clip after the other. Bones of `seen` have the bodies' proportions, in the size of an average person."""

    seen: Samples
    pairs: Pairs
    every: int


class ClipSampler:
    """Endless clips of `frames` frames at 30 Hz from a motion file, seen by a detector and by a mesh stream."""

    def __init__(
        self, motion: str | Path, split: Split = "train", frames: int = 81, every: int = 9,
        device: str | torch.device = "cpu",
    ) -> None:  # fmt: skip
        self.device, self.every = torch.device(device), every
        self._samples = LifterSampler(load_motion(motion, split), frames, augment=split != "test")

    def __call__(self, batch: int, generator: torch.Generator) -> Clips:
        """`batch` clips, the same for the same generator state."""
        g = generator
        local, root = self._samples.motions(batch, g)
        betas, _ = random_people(batch, g)
        points = self._samples.points(chain(local), root, betas, torch.ones(batch, 24))
        seen = observe(*points, self._samples.noise, g, self._samples.known)
        rotations = local.permute(3, 4, 0, 1, 2)[:, :: self.every]  # (B,T,24,3,3)
        orient = seen.camera_from_world[:, None] @ rotations[:, :, 0]
        frames = orient.shape[1]
        true = Bodies(orient.flatten(0, 1), rotations[:, :, 1:].flatten(0, 1), betas.repeat_interleave(frames, 0))
        estimated = mesh_stream_errors(true, g, frames)
        seen = Samples(*(getattr(seen, f.name).to(self.device) for f in fields(seen)))
        return Clips(seen, Pairs(estimated.to(self.device), true.to(self.device)), self.every)


def mesh_stream_errors(true: Bodies, g: torch.Generator, frames: int = 1) -> Bodies:
    """`true` bodies (on the CPU) as a mesh stream might estimate them.

    With `frames` above 1 the bodies are clips of so many frames, one after the other: errors then drift from those of
    the first frame to others at the last, and the betas' error is the person's.
    """
    people = len(true.betas) // frames
    amount = AMOUNTS[0] + (AMOUNTS[1] - AMOUNTS[0]) * torch.rand(people, 1, 1, 1, generator=g)
    first, last = (torch.stack([_swings(people, g), _twists(people, g)], 1) for _ in range(2))
    # Independent ends: cosine and sine keep the deviation the same on the way.
    angle = torch.linspace(0, torch.pi / 2, frames)[:, None, None, None]
    errors = (amount * first)[:, None] * angle.cos() + (amount * last)[:, None] * angle.sin()
    swing, twist = axis_angle_to_matrix(errors.flatten(0, 1)).unbind(1)
    world = world_from_local(torch.cat([true.global_orient[:, None], true.body_pose], 1))
    world = swing @ world @ twist
    local = world[:, list(SMPL_24.parents[1:])].mT @ world[:, 1:]
    noise = BETAS_ERROR * torch.randn(people, 10, generator=g)
    return Bodies(world[:, 0], local, BETAS_KEPT * true.betas + noise.repeat_interleave(frames, 0))


def _swings(people: int, g: torch.Generator) -> Tensor:
    """Rotation vectors (B,24,3) rad in camera axes, correlated from parent to child."""
    fresh = torch.randn(people, 24, 3, generator=g).clamp(-2.5, 2.5) * math.radians(ROTATION_DEG)
    errors = [fresh[:, 0]]
    for joint, parent in enumerate(SMPL_24.parents[1:], 1):
        errors.append(SHARED * errors[parent] + (1 - SHARED**2) ** 0.5 * fresh[:, joint])
    return torch.stack(errors, 1)


def _twists(people: int, g: torch.Generator) -> Tensor:
    """Rotation vectors (B,24,3) rad about the limbs' own axes; trunk and head, which are broad, have none."""
    limbs = torch.tensor([name.startswith(("left_", "right_")) for name in SMPL_24.joints])
    angle = torch.randn(people, 24, 1, generator=g).clamp(-2.5, 2.5) * math.radians(TWIST_DEG)
    return angle * limbs[:, None] * _LIMB_AXES
