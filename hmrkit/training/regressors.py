"""The recipes of the regressors that ship, in two parts: the integral head learns from pictures where points lie
(`hmrkit.training.points`); encoder and head learn bodies from what is told of them, mostly without pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hmrkit.backbones.embedded import EmbeddedBackbone, Told
from hmrkit.body import Body, load_body
from hmrkit.device import mixed_precision
from hmrkit.errors import UsageError
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.hmr import HmrRegressor, build
from hmrkit.training.adversary import Adversary
from hmrkit.training.body_loss import LossWeights, body_loss, errors
from hmrkit.training.examples import (
    SHARD,
    Examples,
    Truth,
    chosen,
    clip_examples,
    fresh_examples,
    joined,
    load_examples,
    make_examples,
    moved,
    points_of,
)
from hmrkit.training.loop import CHECKPOINT, LoopConfig, fit
from hmrkit.training.loop_fit import LoopFit
from hmrkit.training.points import train_points
from hmrkit.training.poses import PoseSampler
from hmrkit.training.simulated import SimulatedPeople, Slips, rightly_told
from hmrkit.weights import load_into, load_state, save_state

log = logging.getLogger(__name__)

ADVERSARY_WEIGHT = 0.05
LOOP_EVERY, LOOP_WEIGHT = 2, 0.5
# The mesh costs ten times what the joints do, and says little that they do not.
VERTICES_EVERY = 16
# Pictures that the integral head does not learn from: what it tells of them is as wrong as it is of new ones. Simulated
# people get their errors.
SPARED = 2048
STANDARDS = 1024


@dataclass(frozen=True)
class RegressorPreset:
    """Numbers of a recipe: of the integral head's training, of encoder's and head's. `images` are made once and kept; 0
    makes new ones for every step. A step has `batch` of them, and in the second part `simulated` times as many people
    without pictures."""

    points: LoopConfig
    loop: LoopConfig
    images: int = 0
    batch: int = 96
    simulated: int = 1
    hidden: int = 1024
    held_out: int = 1024

    def with_steps(self, steps: int) -> RegressorPreset:
        """The same for at most so many steps of each part. A short run keeps fewer pictures, in proportion: making all
        of them would take hours for its minutes."""
        points, loop = (part.with_steps(min(part.steps, steps)) for part in (self.points, self.loop))
        images = self.images * points.steps // self.points.steps
        return replace(self, points=points, loop=loop, images=min(self.images, max(SHARD, images)))


# BlazePose's last blocks know much already.
_SLOWLY: dict[str, Any] = {"slow_part": "last_blocks", "slow_rate": 0.2}

PRESETS: dict[str, RegressorPreset] = {
    "cpu": RegressorPreset(
        LoopConfig(steps=4_000, learning_rate=2e-3, warmup=200, weight_decay=0.05, log_every=100, **_SLOWLY),
        LoopConfig(steps=6_000, learning_rate=1e-3, weight_decay=0.04, log_every=100),
        images=81_920,
    ),
    "gpu": RegressorPreset(
        LoopConfig(
            steps=60_000, learning_rate=2e-3, warmup=1000, weight_decay=0.05, log_every=200, ema=0.9995, **_SLOWLY
        ),
        LoopConfig(steps=20_000, learning_rate=1e-3, warmup=500, weight_decay=0.04, log_every=200),
        batch=256,
    ),
}


def train_regressor(
    name: str,
    out: str | Path,
    preset: str = "cpu",
    steps: int | None = None,
    images: int | None = None,
    device: str | torch.device = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
    clips: Sequence[str | Path] = (),
    adversarial: bool = False,
) -> Path:
    """Train on synthetic images and simulated people; returns ``out/<name>.safetensors``.

    `steps`, at most so many of each part and images in proportion, and `images` replace the preset's numbers. `resume`
    goes on from ``out/points/checkpoint.pt`` and ``out/checkpoint.pt``; kept images in ``out/images`` are used again.
    `start` begins from a trained regressor's file, whose integral head stays. `clips` are videos without labels that
    SPIN's loop fits bodies to; `adversarial` adds HMR's prior.
    """
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    numbers = PRESETS[preset].with_steps(steps) if steps else PRESETS[preset]
    points, loop = numbers.points, numbers.loop
    images = numbers.images if images is None else images
    out, device = Path(out), torch.device(device)
    torch.manual_seed(loop.seed)
    regressor = build(name, hidden=numbers.hidden).to(device)
    backbone: EmbeddedBackbone = regressor.backbone
    body = load_body(device=device)
    aside = min(numbers.held_out, images or numbers.held_out)
    make_examples(out / "held_out", aside, backbone, device, "test")
    held_out = load_examples(out / "held_out", aside)
    source = Source(backbone, out / "images", images, numbers.batch, body)
    if start is None:
        backbone.begin(joined([examples.looked for examples in source.some(STANDARDS)]))
        train_points(backbone, source, held_out, body, points, out / "points", resume)
        resume = resume and (out / CHECKPOINT).is_file()
    else:
        load_into(regressor, {key: value.float() for key, value in load_state(start).items()}, start)
    backbone.requires_grad_(False)
    spared = source.spared()
    if start is None:
        standardise(regressor, spared.told)
    if adversarial:
        regressor.adversary = Adversary().to(device)
    slips = Slips(spared.told, spared.right)
    loss = Objective(
        source.pictures(), numbers.batch, SimulatedPeople(body, slips), numbers.simulated,
        people=PoseSampler("train", wobble=0.0) if adversarial else None,
        clips=Clips(backbone, clip_examples(clips, regressor, device), body) if clips else None,
    )  # fmt: skip
    new = Pictures.of(backbone, held_out, body)

    @torch.no_grad()
    def evaluate(model: nn.Module) -> dict[str, float]:
        return errors(model.regress(backbone.together(new.told)), new.truth, body)  # type: ignore[operator]

    average = fit(regressor, loss, loop, out, evaluate=evaluate, resume=resume)
    path = out / f"{name}.safetensors"
    recipe = {
        "preset": preset, "images": images, "points": asdict(points), "loop": asdict(loop), "clips": len(clips),
        "adversarial": adversarial,
    }  # fmt: skip
    export_regressor(average, path, recipe)  # type: ignore[arg-type]
    return path


@dataclass(frozen=True)
class Pictures:
    """What the backbone tells of N pictures, the truth, and what would be rightly told."""

    told: Told
    truth: Truth
    right: Told

    @staticmethod
    def of(backbone: EmbeddedBackbone, examples: Examples, body: Body) -> Pictures:
        """On the body's device, which is the backbone's."""
        told = Told(examples.looked.landmarks, points_of(backbone.integral, examples))
        told, truth = moved(told, body.device), moved(examples.truth, body.device)
        return Pictures(told, truth, rightly_told(truth, body))


class Source:
    """Batches of pictures for the integral head, kept ones or new ones each time, and others that are spared."""

    def __init__(self, backbone: EmbeddedBackbone, folder: Path, images: int, batch: int, body: Body) -> None:
        self.backbone, self.batch, self.body, self.device = backbone, batch, body, body.device
        self.kept: Examples | None = None
        if images:
            make_examples(folder, images, backbone, self.device)
            self.kept = load_examples(folder, images)
            self.learned = images - min(SPARED, images // 4)
        else:
            from hmrkit.training.synthetic import SyntheticImages

            self.images = SyntheticImages("train", device=self.device)

    def __call__(self, generator: torch.Generator) -> Examples:
        if self.kept is None:
            return fresh_examples(self.backbone, self.images, self.batch, generator)
        rows = torch.randint(self.learned, (self.batch,), generator=generator)
        return self.kept[rows].to(self.device)

    def some(self, count: int) -> Iterator[Examples]:
        """At least `count` to measure something on."""
        generator = torch.Generator().manual_seed(-count)
        return (self(generator) for _ in range(-(-count // self.batch)))

    def spared(self) -> Pictures:
        """Pictures that the integral head has not learned from."""
        if self.kept is not None:
            return Pictures.of(self.backbone, self.kept[slice(self.learned, None)], self.body)
        return joined([Pictures.of(self.backbone, examples, self.body) for examples in self.some(SPARED)])

    def pictures(self) -> Callable[[torch.Generator], Pictures]:
        """Draws batches to learn bodies from; of kept pictures everything is told at once."""
        if self.kept is None:
            return lambda generator: Pictures.of(self.backbone, self(generator), self.body)
        kept = Pictures.of(self.backbone, self.kept[slice(0, self.learned)], self.body)
        count = len(kept.truth.betas)
        return lambda generator: chosen(kept, torch.randint(count, (self.batch,), generator=generator))


class Clips:
    """SPIN's loss on pictures of real people."""

    def __init__(self, backbone: EmbeddedBackbone, examples: Examples, body: Body) -> None:
        self.told = Pictures.of(backbone, examples, body).told
        self.fits, self.body = LoopFit(examples, body), body

    def __call__(self, model: nn.Module, batch: int, generator: torch.Generator) -> Tensor | float:
        rows = torch.randint(len(self.fits.examples), (batch,), generator=generator)
        estimate = _regress(model, chosen(self.told, rows))
        truth, good = self.fits(rows, estimate)
        return body_loss(chosen(estimate, good), chosen(truth, good), self.body) if good.any() else 0.0


@dataclass(frozen=True)
class Objective:
    """What a step of encoder and head minimises: the loss on `pictures`, `batch` of them, and `times` as many simulated
    people, now and then that of the mesh; SPIN's on `clips`, HMR's prior against `people`."""

    pictures: Callable[[torch.Generator], Pictures]
    batch: int
    simulated: SimulatedPeople
    times: int
    people: PoseSampler | None = None
    clips: Clips | None = None

    def __call__(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        body = self.simulated.body
        drawn = self.pictures(generator)
        told, truth = self.simulated(self.times * self.batch, generator)
        told = joined([self.simulated.slips.shortened(drawn.told, drawn.right.landmarks, generator), told])
        estimate = _regress(model, told)
        meshes = torch.rand((), generator=generator) < 1 / VERTICES_EVERY
        weights = LossWeights() if meshes else LossWeights(vertices=0.0)
        total = body_loss(estimate, joined([drawn.truth, truth]), body, weights)
        if self.people is not None:
            _, pose, betas = self.people(self.batch, generator)
            prior: Tensor = model.adversary(estimate, pose.to(body.device), betas.to(body.device))  # type: ignore[operator]
            total = total + ADVERSARY_WEIGHT * prior
        if self.clips is not None and torch.rand((), generator=generator) < 1 / LOOP_EVERY:
            total = total + LOOP_WEIGHT * self.clips(model, self.batch, generator)
        return total


def _regress(model: Any, told: Told) -> BodyEstimate:
    features = model.backbone.together(told)
    with mixed_precision(features.global_feature.device):
        return model.regress(features)


def standardise(regressor: HmrRegressor, told: Told) -> None:
    """Measure mean and scale of the features that the encoder reads."""
    features = regressor.backbone.together(told).global_feature
    regressor.feature_mean.copy_(features.mean(0))
    regressor.feature_scale.copy_(1 / features.std(0).clamp_min(1e-3))


def export_regressor(regressor: HmrRegressor, path: str | Path, recipe: dict) -> None:
    """Write a regressor as `load_regressor` reads it: float16, with what is needed to rebuild it."""
    shape = {"backbone": "embedded", "hidden": regressor.head.fc2.out_features}
    metadata = {"network": json.dumps(shape), "recipe": json.dumps(recipe)}
    state = {key: value.half() for key, value in regressor.state_dict().items() if not key.startswith("adversary.")}
    save_state(state, path, metadata)
