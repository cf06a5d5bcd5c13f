"""What recipes of regressors are made of: a supervised objective, and the run that ends in a weights file.

An ordinary recipe (`hmrkit.training.recipes`) calls `train_supervised`; one with an objective of its own calls the
parts of it. Training calls the same methods as inference: ``backbone.encode``, ``backbone.features`` and
``regressor.regress``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from hmrkit.backbones import BACKBONES, Features
from hmrkit.body import Body, load_body
from hmrkit.device import mixed_precision
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.files import whole_state, write_regressor
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.training.example_source import ExampleSource, ImageData, held_out_examples, held_out_folder, measured_noise
from hmrkit.training.examples import Examples, Truth, concatenate, to_device
from hmrkit.training.keypoint_noise import NoisyLandmarks, true_points
from hmrkit.training.loop import fit
from hmrkit.training.losses import LossWeights, body_loss, errors
from hmrkit.training.recipe import Losses, RegressorRecipe
from hmrkit.weights import load_into

T = TypeVar("T")

_AT_ONCE = 128
# Errors of keypoints (standard deviation, px of a crop) where the backbone predicts none.
KEYPOINT_NOISE_PX = 4.0


class BatchLoss(Protocol):
    """A recipe's loss on B crops of which the truth is known; `features` without maps are those of people without
    images."""

    def __call__(
        self, model: Any, features: Features, context: CropContext, truth: Truth, body: Body, weights: LossWeights
    ) -> Tensor: ...


def estimate_loss(
    model: Any, features: Features, context: CropContext, truth: Truth, body: Body, weights: LossWeights
) -> Tensor:
    """The body's loss of what the network estimates (`BatchLoss`)."""
    return body_loss(model.regress(features, context), truth, body, weights)


@dataclass(frozen=True)
class Supervised:
    """What a step of an ordinary recipe minimises: its loss on a batch of images, and where `synthetic` landmarks are
    there, on ``data.synthetic`` times as many people without images."""

    draw: Callable[[torch.Generator], Examples]
    body: Body
    data: ImageData
    losses: Losses
    loss: BatchLoss = estimate_loss
    synthetic: NoisyLandmarks | None = None

    def __call__(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        examples, backbone = self.draw(generator), model.backbone
        with mixed_precision(self.body.device):
            total = self._loss(model, backbone.features(examples.observation), examples.truth, generator)  # type: ignore[operator, union-attr]
        if self.synthetic is None:
            return total
        estimates, truth = self.synthetic(self.data.synthetic * self.data.batch, generator)
        features = backbone.features_of_points(estimates)  # type: ignore[operator, union-attr]
        with mixed_precision(self.body.device):
            return total + self._loss(model, features, truth, generator)

    def _loss(self, model: nn.Module, features: Features, truth: Truth, generator: torch.Generator) -> Tensor:
        context = context_of(features, truth, self.body, generator)
        return self.loss(model, features, context, truth, self.body, weights_of_step(self.losses, generator))


def context_of(features: Features, truth: Truth, body: Body, generator: torch.Generator | None = None) -> CropContext:
    """What the chain knows of crops besides their pixels. Keypoints are the backbone's landmarks; where it has none,
    true ones with noise from `generator`."""
    if features.landmarks is not None:
        return CropContext(joints_2d=features.landmarks.points_2d, focal_px=truth.focal_px)
    joints = true_points(truth, body).landmarks.points_2d
    if generator is not None:
        noise = KEYPOINT_NOISE_PX * torch.randn(joints[..., :2].shape, generator=generator)
        joints = torch.cat([joints[..., :2] + noise.to(joints.device), joints[..., 2:]], -1)
    return CropContext(joints_2d=joints, focal_px=truth.focal_px)


def weights_of_step(losses: Losses, generator: torch.Generator) -> LossWeights:
    """The body loss's weights for one step, mostly without the mesh."""
    mesh = torch.rand((), generator=generator) < 1 / losses.mesh_every
    return losses.body if mesh else replace(losses.body, vertices=0.0)


@torch.no_grad()
def scores(model: Any, examples: Examples, body: Body) -> dict[str, float]:
    """Errors on kept examples (`hmrkit.training.losses.errors`)."""
    return errors(estimates_of(model, examples, body), examples.truth, body)


@torch.no_grad()
def estimates_of(model: Any, examples: Examples, body: Body) -> BodyEstimate:
    """What a regressor estimates of kept examples, on the body's device; a part of them at a time."""
    parts = []
    for start in range(0, len(examples), _AT_ONCE):
        part = examples[slice(start, start + _AT_ONCE)].to(body.device)
        features = model.backbone.features(part.observation)
        parts.append(model.regress(features, context_of(features, part.truth, body)))
    return concatenate(parts)


def load_start(regressor: nn.Module, start: str | Path) -> None:
    """Begin from the weights of a trained regressor's file."""
    load_into(regressor, whole_state(start), start)


def on_shipped_backbone(build: Callable[..., T], name: str, recipe: RegressorRecipe) -> T:
    """A new network of the recipe. A backbone that ships weights has them and stays as it is; another is trained,
    too."""
    torch.manual_seed(recipe.loop.seed)
    regressor: Any = build(name, recipe.network, weights="default")
    if BACKBONES[recipe.network.backbone].weights:
        regressor.backbone.requires_grad_(False)
    return regressor


def standardise(regressor: Any, feature: Tensor) -> None:
    """Set `feature_mean` and `feature_scale` of a regressor from global features (N,C)."""
    regressor.feature_mean.copy_(feature.mean(0))
    regressor.feature_scale.copy_(1 / feature.std(0).clamp_min(1e-3))


def fit_and_write(
    regressor: FrameRegressor,
    recipe: RegressorRecipe,
    out: Path,
    objective: Callable[[nn.Module, torch.Generator], Tensor],
    evaluate: Callable[[nn.Module], dict[str, float]],
    resume: bool = False,
    run: dict[str, Any] | None = None,
) -> Path:
    """Minimise `objective` as `recipe.loop` says and write ``out/<name>.safetensors``, its path returned.

    `run` is stored beside the recipe (`hmrkit.regressors.files.write_regressor`).
    """
    average = fit(regressor, objective, recipe.loop, out, evaluate=evaluate, resume=resume)
    path = out / f"{regressor.name}.safetensors"
    write_regressor(average, recipe, path, run)
    return path


def train_supervised(
    regressor: FrameRegressor,
    recipe: RegressorRecipe,
    out: str | Path,
    *,
    device: str | torch.device = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
    examples: str | Path | None = None,
    loss: BatchLoss = estimate_loss,
    run: dict[str, Any] | None = None,
) -> Path:
    """Train on synthetic images, and on synthetic landmarks where ``recipe.data.synthetic`` asks for them (which needs
    a backbone that knows points); returns the path of the weights.

    Examples are kept in `examples`, or ``out/images``, held-out ones beside them, and are used again. What must not
    learn has no gradient when this is called: a backbone that is to stay is frozen by the recipe.
    """
    out, device = Path(out), torch.device(device)
    regressor.to(device)
    if start is not None:
        load_start(regressor, start)
    body, data, backbone = load_body(device=device), recipe.data, regressor.backbone
    held_out = held_out_examples(backbone, held_out_folder(out, examples), data, device)
    source = ExampleSource(backbone, Path(examples or out / "images"), data, device)
    if not any(p.requires_grad for p in backbone.parameters()):
        source.tune()
    if start is None:
        observed = (backbone.features(to_device(e.observation, device)) for e in source.statistics())
        standardise(regressor, torch.cat([features.global_feature for features in observed]))
    synthetic = NoisyLandmarks(body, measured_noise(source, backbone, body)) if data.synthetic else None
    objective = Supervised(source, body, data, recipe.losses, loss, synthetic)
    return fit_and_write(
        regressor, recipe, out, objective, lambda model: scores(model, held_out, body), resume, run
    )  # fmt: skip
