"""What recipes of regressors are made of: examples, a supervised objective, the run that ends in a weights file.

A recipe (`hmrkit.training.recipes`) is a frozen dataclass with the fields of `RegressorRecipe`. An ordinary one calls
`train_supervised`; one with an objective of its own calls the parts of it. Training calls the same methods as
inference: ``backbone.encode``, ``backbone.features`` and ``regressor.regress``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hmrkit.backbones import Backbone
from hmrkit.backbones.embedded import EmbeddedBackbone, PointEstimates
from hmrkit.body import Body, load_body
from hmrkit.device import mixed_precision
from hmrkit.errors import UsageError
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.files import write_regressor
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training.examples import (
    Examples,
    Truth,
    concatenate,
    fresh_examples,
    load_examples,
    make_examples,
    select_rows,
    to_device,
)
from hmrkit.training.integral_head import points_of
from hmrkit.training.keypoint_noise import NoisyLandmarks, true_points
from hmrkit.training.loop import LoopConfig, fit
from hmrkit.training.losses import LossWeights, body_loss, errors
from hmrkit.weights import load_into, load_state

# Images that no part is trained on: on new images the backbone errs as on them.
NOISE_POOL = 2048
STATISTICS_COUNT = 1024
FEWEST_IMAGES = 8  # some are held out
_AT_ONCE = 128


@dataclass(frozen=True)
class ImageData:
    """The images of a recipe. `images` are made once and kept; 0 makes new ones for every step. A step has `batch` of
    them, and where the recipe uses synthetic landmarks `synthetic` times as many people without images. `held_out`
    images are scored. `keep_pyramid` also keeps the backbone's map at stride 4 (0.5 MB an image, not 0.13)."""

    images: int = 0
    batch: int = 96
    synthetic: int = 1
    held_out: int = 1024
    keep_pyramid: bool = False


@dataclass(frozen=True)
class Losses:
    """Weights of the body's loss; its mesh counts once in `mesh_every` steps, because it costs ten times what the
    joints do and adds little to them. Weights of HMR's adversarial prior and of SPIN's fitted clips (once in
    `clips_every`)."""

    body: LossWeights = field(default_factory=LossWeights)
    mesh_every: int = 16
    adversary: float = 0.05
    clips: float = 0.5
    clips_every: int = 2


class RegressorRecipe(Protocol):
    """The fields that every recipe of a regressor has. `network` says how to build it; all are stored with the
    weights."""

    @property
    def network(self) -> Any: ...
    @property
    def data(self) -> ImageData: ...
    @property
    def losses(self) -> Losses: ...
    @property
    def loop(self) -> LoopConfig: ...


class ExampleSource:
    """Batches of training examples: kept ones, or new ones each time. Some kept ones are held out (`held_out_pool`)."""

    def __init__(self, backbone: Backbone, folder: Path, data: ImageData, device: torch.device) -> None:
        self.backbone, self.data, self.device = backbone, data, device
        self.kept: Examples | None = None
        if 0 < data.images < FEWEST_IMAGES:
            raise UsageError(f"--images must be 0 or at least {FEWEST_IMAGES}, got {data.images}")
        if data.images:
            make_examples(folder, data.images, backbone, device, keep_pyramid=data.keep_pyramid)
            self.kept = load_examples(folder, data.images, backbone, data.keep_pyramid)
            self.learned = data.images - min(NOISE_POOL, data.images // 4)
        else:
            from hmrkit.synthetic.images import SyntheticImages

            self.images = SyntheticImages("train", device=device)

    def __call__(self, generator: torch.Generator) -> Examples:
        """A batch on the device, in float32."""
        if self.kept is None:
            return fresh_examples(self.backbone, self.images, self.data.batch, generator)
        rows = torch.randint(self.learned, (self.data.batch,), generator=generator)
        return self.kept[rows].to(self.device)

    def statistics(self) -> Iterator[Examples]:
        """`STATISTICS_COUNT` examples or a few more to measure statistics on."""
        return self._some(STATISTICS_COUNT)

    def _some(self, count: int) -> Iterator[Examples]:
        generator = torch.Generator().manual_seed(-count)
        return (self(generator) for _ in range(-(-count // self.data.batch)))

    def held_out_pool(self) -> Iterator[Examples]:
        """Examples that no part learns from, in batches on any device."""
        if self.kept is not None:
            return iter([self.kept[slice(self.learned, None)]])
        return self._some(NOISE_POOL)


def held_out_examples(backbone: Backbone, folder: Path, data: ImageData, device: torch.device) -> Examples:
    """Examples of held-out poses, skins, garments and panoramas, to score on."""
    count = min(data.held_out, data.images or data.held_out)
    make_examples(folder, count, backbone, device, "test", keep_pyramid=data.keep_pyramid)
    return load_examples(folder, count, backbone, data.keep_pyramid)


@dataclass(frozen=True)
class Supervised:
    """What a step of an ordinary recipe minimises: the body's loss on a batch of images."""

    draw: Callable[[torch.Generator], Examples]
    body: Body
    losses: Losses

    def __call__(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        examples = self.draw(generator)
        with mixed_precision(self.body.device):
            estimate = model.regress(model.backbone.features(examples.observation))  # type: ignore[operator, union-attr]
        return body_loss(estimate, examples.truth, self.body, weights_of_step(self.losses, generator))


@dataclass(frozen=True)
class Batch:
    """What the embedded backbone predicts for N images, the truth, and what it would predict without errors."""

    predicted: PointEstimates
    truth: Truth
    true: PointEstimates

    @staticmethod
    def of(backbone: EmbeddedBackbone, examples: Examples, body: Body) -> Batch:
        """Of examples on any device, on the body's device, which is the backbone's."""
        points = points_of(backbone.integral, examples.observation)
        predicted = PointEstimates(examples.observation.landmarks, points)
        predicted, truth = to_device(predicted, body.device), to_device(examples.truth, body.device)
        return Batch(predicted, truth, true_points(truth, body))


def batches(source: ExampleSource, backbone: EmbeddedBackbone, body: Body) -> Callable[[torch.Generator], Batch]:
    """Draws batches whose points come from a frozen integral head; for kept examples they are predicted once."""
    if source.kept is None:
        return lambda generator: Batch.of(backbone, source(generator), body)
    kept = Batch.of(backbone, source.kept[slice(0, source.learned)], body)
    count, batch = len(kept.truth.betas), source.data.batch
    return lambda generator: select_rows(kept, torch.randint(count, (batch,), generator=generator))


class ClipLoss(Protocol):
    """The loss of a model on `batch` images of people without labels."""

    def __call__(self, model: nn.Module, batch: int, generator: torch.Generator) -> Tensor | float: ...


@dataclass(frozen=True)
class Objective:
    """What a step minimises where the feature needs points only: the body's loss on a batch of images and on synthetic
    landmarks together, HMR's prior against `real_poses`, SPIN's loss on `clips`."""

    draw: Callable[[torch.Generator], Batch]
    data: ImageData
    losses: Losses
    synthetic: NoisyLandmarks
    real_poses: PoseSampler | None = None
    clips: ClipLoss | None = None

    def __call__(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        body, data = self.synthetic.body, self.data
        drawn = self.draw(generator)
        estimates, truth = self.synthetic(data.synthetic * data.batch, generator)
        shrunk = self.synthetic.noise.shrink_errors(drawn.predicted, drawn.true.landmarks, generator)
        estimate = regress_points(model, concatenate([shrunk, estimates]))
        weights = weights_of_step(self.losses, generator)
        total = body_loss(estimate, concatenate([drawn.truth, truth]), body, weights)
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


def weights_of_step(losses: Losses, generator: torch.Generator) -> LossWeights:
    """The body loss's weights for one step, mostly without the mesh."""
    mesh = torch.rand((), generator=generator) < 1 / losses.mesh_every
    return losses.body if mesh else replace(losses.body, vertices=0.0)


@torch.no_grad()
def scores(model: Any, examples: Examples, body: Body) -> dict[str, float]:
    """Errors on kept examples (`hmrkit.training.losses.errors`), a part of them at a time."""
    parts = []
    for start in range(0, len(examples), _AT_ONCE):
        observation = to_device(examples[slice(start, start + _AT_ONCE)].observation, body.device)
        parts.append(model.regress(model.backbone.features(observation)))
    return errors(concatenate(parts), examples.truth, body)


def load_start(regressor: nn.Module, start: str | Path) -> None:
    """Begin from the weights of a trained regressor's file."""
    load_into(regressor, {key: value.float() for key, value in load_state(start).items()}, start)


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
    run: dict[str, Any] | None = None,
) -> Path:
    """Train on synthetic images with the body's loss alone; returns the path of the weights.

    Examples are kept in `examples`, or ``out/images``, and in ``out/held_out``, and are used again. What must not learn
    has no gradient when this is called: a backbone that is to stay is frozen by the recipe.
    """
    out, device = Path(out), torch.device(device)
    regressor.to(device)
    if start is not None:
        load_start(regressor, start)
    body = load_body(device=device)
    held_out = held_out_examples(regressor.backbone, out / "held_out", recipe.data, device)
    source = ExampleSource(regressor.backbone, Path(examples or out / "images"), recipe.data, device)
    objective = Supervised(source, body, recipe.losses)
    return fit_and_write(
        regressor, recipe, out, objective, lambda model: scores(model, held_out, body), resume, run
    )  # fmt: skip


def preset_of(presets: dict[str, Any], name: str) -> Any:
    """A recipe by its preset's name. UsageError lists the known ones."""
    if name not in presets:
        raise UsageError(f"unknown preset {name!r}; known: {', '.join(presets)}")
    return presets[name]
