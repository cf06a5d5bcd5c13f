"""What a temporal regressor learns from clips: bodies, how they move, and where they were and will be.

Source: Kanazawa et al. 2019, Learning 3D human dynamics from video: heads that predict the change of pose to some time
before and after a frame from its movie strip make the strip hold the motion. They serve training only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from hmrkit.body import Body
from hmrkit.device import mixed_precision
from hmrkit.geometry import rotation_from_6d, rotation_to_6d
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.crop_camera import translation
from hmrkit.training.examples import Truth
from hmrkit.training.losses import LossWeights, body_loss, mean_length

# Past and future of the delta heads in seconds: five frames of the paper's 25 a second.
DELTA_SECONDS = 0.2


@dataclass(frozen=True)
class MotionWeights:
    """Beside the body's loss: rotations of the past and future poses, velocities of the joints (m per frame),
    accelerations (m per frame squared), and how they move with the whole body across the view."""

    delta: float = 2.0
    velocity: float = 5.0
    acceleration: float = 5.0


class DeltaHead(nn.Module):
    """The pose some time away: movie strips (N,C) and rotations (N,24,3,3) now -> rotations (N,24,3,3) then."""

    def __init__(self, channels: int, width: int = 256) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(channels + 24 * 6, width), nn.Linear(width, 24 * 6)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, strips: Tensor, rotations: Tensor) -> Tensor:
        now = rotation_to_6d(rotations, "interleaved").flatten(1)
        change = self.second(relu(self.first(torch.cat([strips, now], 1))))
        return rotation_from_6d((now + change).float().view(-1, 24, 6), "interleaved")


def delta_heads(channels: int) -> nn.ModuleList:
    """The heads of past and future, in this order."""
    return nn.ModuleList(DeltaHead(channels) for _ in range(2))


@dataclass(frozen=True)
class Clips:
    """B clips at `times` (F,) s: global features `feature` (B,F,C) and the truth (B*F), one clip after the other."""

    feature: Tensor
    truth: Truth
    times: Tensor


def clip_loss(model: Any, clips: Clips, body: Body, weights: LossWeights, motion: MotionWeights) -> Tensor:
    """The loss of a model with ``strips``, ``head`` and ``deltas`` on clips; a still (F = 1) has no motion."""
    count, frames = clips.feature.shape[:2]
    with mixed_precision(body.device):
        strips = model.strips(model.standardised(clips.feature), clips.times).flatten(0, 1)
        estimate = model.head(strips)
        total = body_loss(estimate, clips.truth, body, weights)
        if frames == 1:
            return total
        rotations, wanted = (
            torch.cat([one.global_orient[:, None], one.body_pose], 1) for one in (estimate, clips.truth)
        )
        steps = round(DELTA_SECONDS * (frames - 1) / float(clips.times[-1] - clips.times[0]))
        if motion.delta and 0 < steps < frames:
            for head, ahead in zip(model.deltas, (-steps, steps), strict=True):
                here, there = (
                    slice(max(-ahead, 0), frames - max(ahead, 0)),
                    slice(max(ahead, 0), frames - max(-ahead, 0)),
                )
                strip, now = (
                    value.unflatten(0, (count, frames))[:, here].flatten(0, 1) for value in (strips, rotations)
                )
                then = wanted.unflatten(0, (count, frames))[:, there].flatten(0, 1)
                total = total + motion.delta * (head(strip, now) - then).square().mean()
    found, right = placed_joints(estimate, clips.truth, body, frames)
    error = found - right
    velocity = error[:, 1:] - error[:, :-1]
    total = total + motion.velocity * mean_length(velocity)
    return total + motion.acceleration * mean_length(velocity[:, 1:] - velocity[:, :-1])


def placed_joints(estimate: BodyEstimate, truth: Truth, body: Body, frames: int) -> tuple[Tensor, Tensor]:
    """Joints (B,F,24,3) m, estimated and true, each placed across the view by its own camera; depth is about the
    pelvis, because a crop hardly shows it."""
    made = []
    places = translation(estimate.crop_camera, truth.focal_px), truth.transl_c
    for one, place in zip((estimate, truth), places, strict=True):
        joints = body.joints_only(one.global_orient, one.body_pose, one.betas).joints
        across = place * place.new_tensor([1.0, 1.0, 0.0])
        made.append((joints + across[:, None]).unflatten(0, (-1, frames)))
    return made[0], made[1]
