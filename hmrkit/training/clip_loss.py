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
    accelerations (m per frame squared), both with how the whole body moves across the view."""

    delta: float = 2.0
    velocity: float = 5.0
    acceleration: float = 5.0


class DeltaHead(nn.Module):
    """The pose some time away: movie strips (...,C) and rotations (...,24,3,3) now -> rotations (...,24,3,3) then."""

    def __init__(self, channels: int, width: int = 256) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(channels + 24 * 6, width), nn.Linear(width, 24 * 6)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, strips: Tensor, rotations: Tensor) -> Tensor:
        now = rotation_to_6d(rotations, "interleaved").flatten(-2)
        change = self.second(relu(self.first(torch.cat([strips, now], -1))))
        return rotation_from_6d((now + change).float().unflatten(-1, (24, 6)), "interleaved")


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
    frames = len(clips.times)
    with mixed_precision(body.device):
        strips = model.strips(model.standardised(clips.feature), clips.times).flatten(0, 1)
        estimate = model.head(strips)
        total = body_loss(estimate, clips.truth, body, weights)
        if frames == 1:
            return total
        steps = round(DELTA_SECONDS * (frames - 1) / float(clips.times[-1] - clips.times[0]))
        if motion.delta and 0 < steps < frames:
            total = total + motion.delta * delta_loss(model.deltas, strips, estimate, clips.truth, frames, steps)
    found, right = placed_joints(estimate, clips.truth, body, frames)
    error = found - right
    velocity = error[:, 1:] - error[:, :-1]
    total = total + motion.velocity * mean_length(velocity)
    return total + motion.acceleration * mean_length(velocity[:, 1:] - velocity[:, :-1])


def delta_loss(
    heads: nn.ModuleList, strips: Tensor, estimate: BodyEstimate, truth: Truth, frames: int, steps: int
) -> Tensor:
    """Mean square error of the rotations that the `delta_heads` predict for `steps` frames before and after."""
    strips = strips.unflatten(0, (-1, frames))
    now, wanted = (
        torch.cat([one.global_orient[:, None], one.body_pose], 1).unflatten(0, (-1, frames))
        for one in (estimate, truth)
    )
    past, future = heads
    before = past(strips[:, steps:], now[:, steps:]) - wanted[:, :-steps]
    after = future(strips[:, :-steps], now[:, :-steps]) - wanted[:, steps:]
    return before.square().mean() + after.square().mean()


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
