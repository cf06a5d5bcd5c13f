"""The recipes of the regressors that ship."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features, Landmarks
from hmrkit.body import Body, load_body
from hmrkit.errors import UsageError
from hmrkit.regressors.hmr import HmrRegressor, build
from hmrkit.training.adversary import Adversary
from hmrkit.training.body_loss import LossWeights, body_loss, score
from hmrkit.training.examples import Examples, Truth, clip_examples, fresh_examples, load_examples, make_examples
from hmrkit.training.loop import CHECKPOINT, LoopConfig, fit
from hmrkit.training.loop_fit import LoopFit
from hmrkit.training.poses import PoseSampler
from hmrkit.training.simulated import LandmarkErrors, SimulatedPeople, concatenate
from hmrkit.weights import load_into, load_state, save_state

log = logging.getLogger(__name__)

EVALUATE_EVERY = 500
ADVERSARY_WEIGHT = 0.05
LOOP_EVERY, LOOP_WEIGHT = 2, 0.5
# The mesh costs four times what the joints do, and says little that they do not.
VERTICES_EVERY = 4
# Pictures that tell how BlazePose errs, and how features are spread.
ERRING, STANDARDS = 2048, 1024


@dataclass(frozen=True)
class RegressorPreset:
    """Numbers of a recipe. `images` are made once and kept; 0 makes new ones for every step. With kept images encoder
    and head are trained first, by `head`, on features that are computed once: several of its steps cost as much as one
    of all. Every step has `batch` pictures and `simulated` times as many people without pictures."""

    loop: LoopConfig
    head: LoopConfig | None = None
    images: int = 0
    batch: int = 64
    simulated: int = 2
    hidden: int = 1024
    held_out: int = 1024


PRESETS: dict[str, RegressorPreset] = {
    "cpu": RegressorPreset(
        LoopConfig(steps=6_000, learning_rate=4e-4, warmup=200, log_every=100, slow_part="backbone.", slow_rate=0.5),
        head=LoopConfig(steps=8_000, learning_rate=1e-3, log_every=100),
        images=40_960,
    ),
    "gpu": RegressorPreset(
        LoopConfig(
            steps=60_000, learning_rate=5e-4, warmup=1000, log_every=200, ema=0.9995,
            slow_part="backbone.", slow_rate=0.3,
        ),
        batch=256,
    ),
}  # fmt: skip


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

    `steps` and `images` replace the preset's numbers. `resume` goes on from ``out/checkpoint.pt``; kept images in
    ``out/images`` are used again. `start` begins from a trained regressor's file. `clips` are videos without labels
    that SPIN's loop fits bodies to; `adversarial` adds HMR's prior.
    """
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    numbers = PRESETS[preset]
    loop = replace(numbers.loop, steps=steps or numbers.loop.steps)
    images = numbers.images if images is None else images
    out, device = Path(out), torch.device(device)
    torch.manual_seed(loop.seed)
    regressor = build(name, hidden=numbers.hidden).to(device)
    body = load_body(device=device)
    spared = min(numbers.held_out, images) if images else numbers.held_out
    make_examples(out / "held_out", spared, regressor.backbone, device, "test")
    held_out = load_examples(out / "held_out", spared)
    draw = Source(regressor, out / "images", images, numbers.batch, device)
    slips = LandmarkErrors(*draw.landmarks(ERRING), body)
    loss = Objective(draw, body, slips, SimulatedPeople(body, slips), numbers.simulated)
    if start is not None:
        load_into(regressor, {key: value.float() for key, value in load_state(start).items()}, start)
    else:
        mean, scale = draw.standards(STANDARDS)
        regressor.feature_mean.copy_(mean)
        regressor.feature_scale.copy_(scale)
        if numbers.head and draw.kept:
            config = replace(numbers.head, steps=min(numbers.head.steps, steps or numbers.head.steps))
            train_head(regressor, loss, held_out, config, out / "head", resume)
    fits = LoopFit(clip_examples(clips, regressor, device), body) if clips else None
    if adversarial:
        regressor.adversary = Adversary().to(device)
    loss = replace(loss, fits=fits, people=PoseSampler("train", wobble=0.0) if adversarial else None, vertices=True)

    def evaluate(model: nn.Module) -> dict[str, float]:
        return score(model, held_out, body)  # type: ignore[arg-type]

    average = fit(regressor, loss, loop, out, evaluate=evaluate, evaluate_every=EVALUATE_EVERY, resume=resume)
    path = out / f"{name}.safetensors"
    recipe = {"preset": preset, "images": images, "loop": asdict(loop), "clips": len(clips), "adversarial": adversarial}
    export_regressor(average, path, recipe)  # type: ignore[arg-type]
    return path


@dataclass(frozen=True)
class Objective:
    """What a step minimises: the loss on synthetic pictures and simulated people, with `vertices` now and then that of
    the mesh, SPIN's on `fits`, HMR's prior against `people`. `seen` is what was computed of the kept pictures."""

    draw: Source
    body: Body
    slips: LandmarkErrors
    simulated: SimulatedPeople
    times: int
    vertices: bool = False
    fits: LoopFit | None = None
    people: PoseSampler | None = None
    seen: Tensor | None = None

    def __call__(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        device = self.draw.device
        examples, rows = self.draw(generator)
        looked = replace(
            examples.looked, landmarks=self.slips.shortened(examples.looked.landmarks, examples.truth, generator)
        )
        landmarks, truth = self.simulated(self.times * len(examples), generator)
        with torch.autocast(device.type, torch.bfloat16):
            backbone: Any = model.backbone
            seen = backbone.seen(looked) if self.seen is None else self.seen[rows].to(device).float()
            features = _stacked(backbone.together(seen, looked.landmarks), backbone.together(None, landmarks))
            estimate = model.regress(features)  # type: ignore[operator]
        meshes = self.vertices and torch.rand((), generator=generator) < 1 / VERTICES_EVERY
        weights = LossWeights() if meshes else LossWeights(vertices=0.0)
        total = body_loss(estimate, concatenate(examples.truth, truth), self.body, weights)
        if self.people is not None:
            _, pose, betas = self.people(self.draw.batch, generator)
            total = total + ADVERSARY_WEIGHT * model.adversary(estimate, pose.to(device), betas.to(device))  # type: ignore[operator]
        if self.fits is not None and torch.rand((), generator=generator) < 1 / LOOP_EVERY:
            total = total + LOOP_WEIGHT * self._loop(model, self.fits, generator)
        return total

    def _loop(self, model: nn.Module, fits: LoopFit, generator: torch.Generator) -> Tensor | float:
        """SPIN's loss on pictures of real people."""
        rows = torch.randint(len(fits.examples), (self.draw.batch,), generator=generator)
        looked = fits.examples[rows].to(self.draw.device).looked
        with torch.autocast(self.draw.device.type, torch.bfloat16):
            unlabelled = model.regress(model.backbone.features(looked))  # type: ignore[operator]
        truth, good = fits(rows, unlabelled)
        return body_loss(_rows(unlabelled, good), _rows(truth, good), self.body) if good.any() else 0.0


def train_head(
    regressor: HmrRegressor, loss: Objective, held_out: Examples, config: LoopConfig, out: Path, resume: bool
) -> None:
    """Train encoder and head alone, on what the backbone sees of the kept pictures; `regressor` then has their averaged
    weights."""
    assert loss.draw.kept is not None
    loss = replace(loss, seen=_seen(regressor, loss.draw.kept, loss.draw.device))
    resume = resume and (out / CHECKPOINT).is_file()
    regressor.backbone.requires_grad_(False)
    average = fit(
        regressor, loss, config, out,
        evaluate=lambda model: score(model, held_out, loss.body),  # type: ignore[arg-type]
        evaluate_every=EVALUATE_EVERY, resume=resume,
    )  # fmt: skip
    regressor.load_state_dict(average.state_dict())
    regressor.backbone.requires_grad_(True)


@torch.no_grad()
def _seen(regressor: HmrRegressor, examples: Examples, device: torch.device) -> Tensor:
    """What the backbone sees of every picture (N,C), float16. In full precision: a head that was trained on rounded
    features is 8 mm worse on those that it gets in use."""
    parts = (examples[slice(start, start + 128)].to(device) for start in range(0, len(examples), 128))
    return torch.cat([regressor.backbone.seen(part.looked).half().cpu() for part in parts])


def _stacked(first: Features, second: Features) -> Features:
    return Features(torch.cat([first.global_feature, second.global_feature]), ())


def _rows(values: Any, mask: Tensor) -> Any:
    """The rows of every tensor of a dataclass that `mask` (B,) chooses."""
    parts = {part.name: getattr(values, part.name) for part in fields(values)}
    return type(values)(**{name: value if isinstance(value, tuple) else value[mask] for name, value in parts.items()})


class Source:
    """Batches of examples: out of kept ones, or new ones each time."""

    def __init__(self, regressor: HmrRegressor, folder: Path, images: int, batch: int, device: torch.device) -> None:
        self.backbone, self.batch, self.device = regressor.backbone, batch, device
        self.kept: Examples | None = None
        if images:
            make_examples(folder, images, self.backbone, device)
            self.kept = load_examples(folder, images)
        else:
            from hmrkit.training.synthetic import SyntheticImages

            self.images = SyntheticImages("train", device=device)

    def __call__(self, generator: torch.Generator) -> tuple[Examples, Tensor]:
        """A batch, and which of the kept ones it is (empty for new ones)."""
        if self.kept is None:
            return fresh_examples(self.backbone, self.images, self.batch, generator), torch.empty(0, dtype=torch.int64)
        rows = torch.randint(len(self.kept), (self.batch,), generator=generator)
        return self.kept[rows].to(self.device), rows

    def landmarks(self, count: int) -> tuple[Landmarks, Truth]:
        """What BlazePose said of about `count` pictures, and the truth."""
        found = [(part.looked.landmarks, part.truth) for part in self._some(count)]
        landmarks = (torch.cat([getattr(said, f.name) for said, _ in found]) for f in fields(Landmarks))
        truths = {f.name: torch.cat([getattr(truth, f.name) for _, truth in found]) for f in fields(Truth)}
        return Landmarks(*landmarks), Truth(**truths)

    def _some(self, count: int) -> Iterator[Examples]:
        generator = torch.Generator().manual_seed(-count)
        for _ in range(-(-count // self.batch)):
            yield self(generator)[0]

    @torch.no_grad()
    def standards(self, count: int) -> tuple[Tensor, Tensor]:
        """Mean and scale of every feature (C,) over about `count` pictures."""
        found = [self.backbone.features(part.looked).global_feature for part in self._some(count)]
        features = torch.cat(found)
        return features.mean(0), 1 / features.std(0).clamp_min(1e-3)


def export_regressor(regressor: HmrRegressor, path: str | Path, recipe: dict) -> None:
    """Write a regressor as `load_regressor` reads it: float16, with what is needed to rebuild it."""
    shape = {"backbone": "embedded", "hidden": regressor.head.fc2.out_features}
    metadata = {"network": json.dumps(shape), "recipe": json.dumps(recipe)}
    state = {key: value.half() for key, value in regressor.state_dict().items() if not key.startswith("adversary.")}
    save_state(state, path, metadata)
