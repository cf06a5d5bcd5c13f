"""Training where the global feature needs points only: images and synthetic landmarks teach together.

A backbone that knows body points predicts them for the kept images once; people without images get points with the same
errors (`hmrkit.training.keypoint_noise`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hmrkit.backbones.embedded import PointEstimates
from hmrkit.body import Body
from hmrkit.device import mixed_precision
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training.adversary import Adversary
from hmrkit.training.example_source import ExampleSource, ImageData, PointBatch, point_batches
from hmrkit.training.examples import Examples, concatenate
from hmrkit.training.keypoint_noise import LandmarkNoise, NoisyLandmarks
from hmrkit.training.losses import EstimateLoss, body_loss, errors
from hmrkit.training.recipe import Losses, RegressorRecipe
from hmrkit.training.regressors import fit_and_write, standardise, weights_of_step


class ClipLoss(Protocol):
    """The loss of a model on `batch` images of people without labels."""

    def __call__(self, model: nn.Module, batch: int, generator: torch.Generator) -> Tensor | float: ...


@dataclass(frozen=True)
class Objective:
    """What a step minimises where the feature needs points only: `loss` on a batch of images and on synthetic landmarks
    together, HMR's prior against `real_poses`, SPIN's loss on `clips`."""

    draw: Callable[[torch.Generator], PointBatch]
    data: ImageData
    losses: Losses
    synthetic: NoisyLandmarks
    real_poses: PoseSampler | None = None
    clips: ClipLoss | None = None
    loss: EstimateLoss = body_loss

    def __call__(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        body, data = self.synthetic.body, self.data
        drawn = self.draw(generator)
        estimates, truth = self.synthetic(data.synthetic * data.batch, generator)
        shrunk = self.synthetic.noise.shrink_errors(drawn.predicted, drawn.true.landmarks, generator)
        estimate = regress_points(model, concatenate([shrunk, estimates]))
        weights = weights_of_step(self.losses, generator)
        total = self.loss(estimate, concatenate([drawn.truth, truth]), body, weights)
        if self.real_poses is not None:
            _, pose, betas = self.real_poses(data.batch, generator)
            prior: Tensor = model.adversary(estimate, pose.to(body.device), betas.to(body.device))  # type: ignore[operator]
            total = total + self.losses.adversary * prior
        if self.clips is not None and torch.rand((), generator=generator) < 1 / self.losses.clips_every:
            total = total + self.losses.clips * self.clips(model, data.batch, generator)
        return total


def regress_points(model: Any, estimates: PointEstimates) -> BodyEstimate:
    """Bodies from points alone, in the precision of training."""
    features = model.backbone.features_of_points(estimates)
    with mixed_precision(features.global_feature.device):
        return model.regress(features)


def train_on_points(
    regressor: FrameRegressor,
    recipe: RegressorRecipe,
    out: Path,
    source: ExampleSource,
    held_out: Examples,
    *,
    body: Body,
    fresh: bool,
    loss: EstimateLoss = body_loss,
    clip_loss: Callable[[Any, Body], ClipLoss] | None = None,
    adversarial: bool = False,
    resume: bool = False,
    run: dict[str, Any] | None = None,
) -> Path:
    """Train a regressor that reads the global feature alone, on a backbone that is trained already; it is frozen here.

    `fresh`: the regressor has just been made, and its feature is standardised first. `clip_loss` makes SPIN's loss on
    clips. Returns the path of the weights.
    """
    backbone = regressor.backbone.requires_grad_(False)
    source.tune()
    pool = concatenate([PointBatch.of(backbone, examples, body) for examples in source.held_out_pool()])
    if fresh:
        standardise(regressor, backbone.features_of_points(pool.predicted).global_feature)
    if adversarial:
        regressor.adversary = Adversary().to(body.device)
    objective = Objective(
        point_batches(source, backbone, body), recipe.data, recipe.losses,
        NoisyLandmarks(body, LandmarkNoise(pool.predicted, pool.true)),
        real_poses=PoseSampler("train", wobble=0.0) if adversarial else None,
        clips=clip_loss(regressor, body) if clip_loss else None,
        loss=loss,
    )  # fmt: skip
    new = PointBatch.of(backbone, held_out, body)
    features = backbone.features_of_points(new.predicted)

    @torch.no_grad()
    def evaluate(model: nn.Module) -> dict[str, float]:
        return errors(model.regress(features), new.truth, body)  # type: ignore[operator]

    return fit_and_write(regressor, recipe, out, objective, evaluate, resume, run)
