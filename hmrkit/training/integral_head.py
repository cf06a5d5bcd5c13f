"""Training of the embedded backbone's integral head: it learns where the body's points lie in images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hmrkit import metrics
from hmrkit.backbones.embedded import EmbeddedBackbone, FrozenMaps
from hmrkit.blazepose.integral_head import BodyPoints, IntegralHead
from hmrkit.body import Body
from hmrkit.device import mixed_precision
from hmrkit.regressors.crop_camera import CROP
from hmrkit.skeletons import SMPL_24
from hmrkit.training.examples import Examples, concatenate, select_rows, to_device
from hmrkit.training.keypoint_noise import true_points
from hmrkit.training.loop import LoopConfig, fit
from hmrkit.training.losses import mean_length

# Farther outside of the crop (its edge is at 1) no heatmap can put a point.
NEAR = 1.3
PIXELS_WEIGHT, WORLD_WEIGHT = 4.0, 5.0


@dataclass(frozen=True)
class PointsLoss:
    """What a step minimises: distances in the crop (halves of its side) and in space (m) on examples that it draws."""

    draw: Callable[[torch.Generator], Examples]
    body: Body

    def __call__(self, integral: torch.nn.Module, generator: torch.Generator) -> Tensor:
        examples = self.draw(generator)
        true = true_points(examples.truth, self.body).points
        with mixed_precision(self.body.device):
            found: BodyPoints = integral(examples.observation.branch, examples.observation.first32)
        near = (true.points_2d.abs() < NEAR).all(-1, keepdim=True)
        off = torch.where(near, found.points_2d - true.points_2d, 0.0)
        return PIXELS_WEIGHT * mean_length(off) + WORLD_WEIGHT * mean_length(found.world - true.world)


def train_points(
    backbone: EmbeddedBackbone,
    draw: Callable[[torch.Generator], Examples],
    held_out: Examples,
    body: Body,
    config: LoopConfig,
    out: Path,
    resume: bool,
) -> None:
    """Train `backbone`'s integral head on batches of `draw`; it then has the averaged weights, and is frozen."""
    backbone.integral.train().requires_grad_(True)
    for block in backbone.integral.last_blocks:
        # The gradients of these small filters take three times as long on a CPU as all others together.
        block.depthwise.requires_grad_(False)  # type: ignore[union-attr]
    average = fit(
        backbone.integral, PointsLoss(draw, body), config, out,
        evaluate=lambda integral: points_errors(integral, held_out, body),  # type: ignore[arg-type]
        resume=resume,
    )  # fmt: skip
    backbone.integral = average  # type: ignore[assignment]


@torch.no_grad()
def points_of(integral: IntegralHead, observation: FrozenMaps) -> BodyPoints:
    """The points that an integral head predicts from a kept observation, a part at a time, on its device."""
    device, count = integral.grid.device, len(observation.branch)
    parts = (to_device(select_rows(observation, slice(start, start + 128)), device) for start in range(0, count, 128))
    return concatenate([integral(part.branch, part.first32) for part in parts])


def points_errors(integral: IntegralHead, examples: Examples, body: Body) -> dict[str, float]:
    """MPJPE and PA-MPJPE (24 joints) in mm about the pelvis, and the joints' median distance in px."""
    found = points_of(integral, examples.observation)
    true = true_points(to_device(examples.truth, body.device), body).points
    joints, wanted = found.world[:, : len(SMPL_24)], true.world[:, : len(SMPL_24)]
    off = (found.points_2d - true.points_2d)[:, : len(SMPL_24)].norm(dim=-1)
    return {
        "MPJPE": metrics.mpjpe_mm(joints, wanted),
        "PA": metrics.pa_mpjpe_mm(joints, wanted),
        "px": float(off.median()) * CROP / 2,
    }
