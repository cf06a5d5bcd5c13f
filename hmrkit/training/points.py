"""The first part of a regressor's recipe: the integral head learns where the body's points lie in pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hmrkit import metrics
from hmrkit.backbones.embedded import EmbeddedBackbone
from hmrkit.body import Body
from hmrkit.body_points import BodyPoints, IntegralHead
from hmrkit.device import mixed_precision
from hmrkit.regressors.projection import CROP
from hmrkit.skeletons import SMPL_24
from hmrkit.training.body_loss import mean_length
from hmrkit.training.examples import Examples, moved, points_of
from hmrkit.training.loop import LoopConfig, fit
from hmrkit.training.simulated import rightly_told

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
        right = rightly_told(examples.truth, self.body).points
        with mixed_precision(self.body.device):
            found: BodyPoints = integral(examples.looked.branch, examples.looked.first32)
        near = (right.points_2d.abs() < NEAR).all(-1, keepdim=True)
        off = torch.where(near, found.points_2d - right.points_2d, 0.0)
        return PIXELS_WEIGHT * mean_length(off) + WORLD_WEIGHT * mean_length(found.world - right.world)


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


def points_errors(integral: IntegralHead, examples: Examples, body: Body) -> dict[str, float]:
    """MPJPE and PA-MPJPE (24 joints) in mm about the pelvis, and the joints' median distance in px."""
    found = points_of(integral, examples)
    right = rightly_told(moved(examples.truth, body.device), body).points
    joints, wanted = found.world[:, : len(SMPL_24)], right.world[:, : len(SMPL_24)]
    off = (found.points_2d - right.points_2d)[:, : len(SMPL_24)].norm(dim=-1)
    return {
        "MPJPE": metrics.mpjpe_mm(joints, wanted),
        "PA": metrics.pa_mpjpe_mm(joints, wanted),
        "px": float(off.median()) * CROP / 2,
    }
