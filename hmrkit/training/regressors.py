"""The recipes of the regressors that ship."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hmrkit import metrics
from hmrkit.body import Body, load_body
from hmrkit.errors import UsageError
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.hmr import HmrRegressor, build
from hmrkit.regressors.projection import CROP, crop_camera, project
from hmrkit.training.adversary import Adversary
from hmrkit.training.examples import Examples, Truth, clip_examples, fresh_examples, load_examples, make_examples
from hmrkit.training.loop import CHECKPOINT, LoopConfig, fit
from hmrkit.training.loop_fit import LoopFit
from hmrkit.training.poses import PoseSampler
from hmrkit.weights import load_into, load_state, save_state

log = logging.getLogger(__name__)

EVALUATE_EVERY = 500
ADVERSARY_WEIGHT = 0.05
LOOP_EVERY, LOOP_WEIGHT = 2, 0.5


@dataclass(frozen=True)
class RegressorPreset:
    """Numbers of a recipe. `images` are made once and kept; 0 makes new ones for every step. With kept images the head
    is trained first, by `head`, on features that are computed once: ten of its steps cost as much as one of all."""

    loop: LoopConfig
    head: LoopConfig | None = None
    images: int = 0
    batch: int = 64
    hidden: int = 1024
    held_out: int = 1024


PRESETS: dict[str, RegressorPreset] = {
    "cpu": RegressorPreset(
        LoopConfig(steps=6_000, learning_rate=4e-4, warmup=200, log_every=100, slow_part="backbone.", slow_rate=0.5),
        head=LoopConfig(steps=6_000, learning_rate=1e-3, log_every=100),
        images=30_720,
    ),
    "gpu": RegressorPreset(
        LoopConfig(
            steps=60_000, learning_rate=5e-4, warmup=1000, log_every=200, ema=0.9995,
            slow_part="backbone.", slow_rate=0.3,
        ),
        batch=256,
        hidden=2048,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class LossWeights:
    """Of the terms of `body_loss`; `early` is what the estimates before the last one count."""

    rotations: float = 8.0
    betas: float = 0.02
    joints: float = 5.0
    vertices: float = 5.0
    projection: float = 4.0
    camera: float = 1.0
    early: float = 0.3


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
    """Train on synthetic images; returns ``out/<name>.safetensors``.

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
    draw = _Source(regressor, out / "images", images, numbers.batch, device)
    if start is not None:
        load_into(regressor, {key: value.float() for key, value in load_state(start).items()}, start)
    else:
        standardise(regressor, draw)
        if numbers.head and draw.kept:
            config = replace(numbers.head, steps=min(numbers.head.steps, steps or numbers.head.steps))
            _train_head(regressor, draw.kept, held_out, body, config, numbers.batch, out / "head", resume)
    fits = LoopFit(clip_examples(clips, regressor, device), body) if clips else None
    if adversarial:
        regressor.adversary = Adversary().to(device)
    loss = _Objective(draw, body, fits, PoseSampler("train", wobble=0.0) if adversarial else None)

    def evaluate(model: nn.Module) -> dict[str, float]:
        return score(model, held_out, body)  # type: ignore[arg-type]

    average = fit(regressor, loss, loop, out, evaluate=evaluate, evaluate_every=EVALUATE_EVERY, resume=resume)
    path = out / f"{name}.safetensors"
    recipe = {"preset": preset, "images": images, "loop": asdict(loop), "clips": len(clips), "adversarial": adversarial}
    export_regressor(average, path, recipe)  # type: ignore[arg-type]
    return path


@dataclass(frozen=True)
class _Objective:
    """What a step minimises: the loss on synthetic pictures, SPIN's on `fits`, HMR's prior against `people`."""

    draw: _Source
    body: Body
    fits: LoopFit | None
    people: PoseSampler | None

    def __call__(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        examples, device = self.draw(generator), self.draw.device
        estimate = self.estimates(model, examples)
        total = body_loss(estimate, examples.truth, self.body)
        if self.people is not None:
            _, pose, betas = self.people(len(examples), generator)
            total = total + ADVERSARY_WEIGHT * model.adversary(  # type: ignore[operator]
                estimate, pose.to(device), betas.to(device)
            )
        # The fits of a batch take as long as a step.
        if self.fits is not None and torch.rand((), generator=generator) < 1 / LOOP_EVERY:
            rows = torch.randint(len(self.fits.examples), (self.draw.batch,), generator=generator)
            unlabelled = self.estimates(model, self.fits.examples[rows].to(device))
            truth, good = self.fits(rows, unlabelled)
            if good.any():
                total = total + LOOP_WEIGHT * body_loss(_rows(unlabelled, good), _rows(truth, good), self.body)
        return total

    def estimates(self, model: nn.Module, examples: Examples) -> BodyEstimate:
        with torch.autocast(self.draw.device.type, torch.bfloat16):
            return model.regress(model.backbone.features(examples.looked))  # type: ignore[operator]


def _train_head(
    regressor: HmrRegressor,
    kept: Examples,
    held_out: Examples,
    body: Body,
    config: LoopConfig,
    batch: int,
    out: Path,
    resume: bool,
) -> None:
    """Train the head alone; `regressor` then has its averaged weights."""
    features, spared = _features(regressor, kept), _features(regressor, held_out)
    device = spared.device

    def loss(head: nn.Module, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(kept), (batch,), generator=generator)
        with torch.autocast(device.type, torch.bfloat16):
            estimate = head(features[rows])
        truth = {f.name: getattr(kept.truth, f.name)[rows].to(device) for f in fields(Truth)}
        return body_loss(estimate, Truth(**truth), body, LossWeights(vertices=0.0))

    def evaluate(head: nn.Module) -> dict[str, float]:
        return errors(head(spared), held_out.truth, body)

    resume = resume and (out / CHECKPOINT).is_file()
    average = fit(regressor.head, loss, config, out, evaluate=evaluate, evaluate_every=EVALUATE_EVERY, resume=resume)
    regressor.head.load_state_dict(average.state_dict())


@torch.no_grad()
def _features(regressor: HmrRegressor, examples: Examples) -> Tensor:
    """What the head sees of every example (N,C), computed once."""
    device, found = regressor.feature_mean.device, []
    for start in range(0, len(examples), 128):
        with torch.autocast(device.type, torch.bfloat16):
            features = regressor.backbone.features(examples[slice(start, start + 128)].to(device).looked)
        found.append(regressor.standardised(features.global_feature))
    return torch.cat(found)


def _rows(values: Any, mask: Tensor) -> Any:
    """The rows of every tensor of a dataclass (and of dataclasses in it) that `mask` (B,) chooses."""
    parts = {}
    for part in fields(values):
        value = getattr(values, part.name)
        parts[part.name] = tuple(_rows(v, mask) for v in value) if isinstance(value, tuple) else value[mask]
    return type(values)(**parts)


class _Source:
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

    def __call__(self, generator: torch.Generator) -> Examples:
        if self.kept is None:
            return fresh_examples(self.backbone, self.images, self.batch, generator)
        rows = torch.randint(len(self.kept), (self.batch,), generator=generator)
        return self.kept[rows].to(self.device)


@torch.no_grad()
def standardise(regressor: HmrRegressor, draw: _Source, batches: int = 16) -> None:
    """Set the scale of every feature from some batches."""
    found = [draw(torch.Generator().manual_seed(-1 - k)) for k in range(batches)]
    features = torch.cat([regressor.backbone.features(examples.looked).global_feature for examples in found])
    regressor.feature_mean.copy_(features.mean(0))
    regressor.feature_scale.copy_(1 / features.std(0).clamp_min(1e-3))


def body_loss(estimate: BodyEstimate, truth: Truth, body: Body, weights: LossWeights | None = None) -> Tensor:
    """HMR's and SPIN's supervised terms: rotations, shape, joints and vertices about the pelvis (m), joints in the
    picture, the crop's camera. Distances count linearly, so that a few wrecked samples do not rule a batch."""
    w = weights or LossWeights()
    pose = body if w.vertices else body.joints_only
    wanted = pose(truth.global_orient, truth.body_pose, truth.betas)
    total = _terms(estimate, truth, wanted.vertices if w.vertices else None, wanted.joints, body, w)
    for earlier in estimate.iterations:
        total = total + w.early * _terms(earlier, truth, None, wanted.joints, body, w)
    return total


def _terms(
    estimate: BodyEstimate, truth: Truth, vertices: Tensor | None, joints: Tensor, body: Body, w: LossWeights
) -> Tensor:
    pose = body if vertices is not None else body.joints_only
    made = pose(estimate.global_orient, estimate.body_pose, estimate.betas)
    root, wanted_root = made.joints[:, :1], joints[:, :1]
    rotations = torch.cat([estimate.global_orient[:, None], estimate.body_pose], 1)
    wanted_rotations = torch.cat([truth.global_orient[:, None], truth.body_pose], 1)
    projected = project(made.joints, estimate.crop_camera, truth.focal_px)
    off = (projected - truth.joints_2d) / (CROP / 2)
    wanted_camera = crop_camera(truth.transl_c, truth.focal_px)
    total = w.rotations * (rotations - wanted_rotations).square().mean()
    total = total + w.betas * (estimate.betas - truth.betas).square().mean()
    total = total + w.joints * _length((made.joints - root) - (joints - wanted_root))
    total = total + w.projection * _length(off.clamp(-2, 2))
    total = total + w.camera * (estimate.crop_camera - wanted_camera).abs().clamp_max(2).mean()
    if vertices is not None:
        total = total + w.vertices * _length((made.vertices - root) - (vertices - wanted_root))
    return total


def _length(vectors: Tensor) -> Tensor:
    return (vectors.square().sum(-1) + 1e-8).sqrt().mean()


@torch.no_grad()
def score(regressor: HmrRegressor, examples: Examples, body: Body) -> dict[str, float]:
    """`errors` of a regressor on kept examples."""
    device = body.device
    parts = [examples[slice(start, start + 128)].to(device) for start in range(0, len(examples), 128)]
    said = [regressor.regress(regressor.backbone.features(part.looked)) for part in parts]
    whole = BodyEstimate(
        global_orient=torch.cat([estimate.global_orient for estimate in said]),
        body_pose=torch.cat([estimate.body_pose for estimate in said]),
        betas=torch.cat([estimate.betas for estimate in said]),
        crop_camera=torch.cat([estimate.crop_camera for estimate in said]),
    )
    return errors(whole, examples.truth, body)


@torch.no_grad()
def errors(estimate: BodyEstimate, truth: Truth, body: Body) -> dict[str, float]:
    """MPJPE, PA-MPJPE (24 joints) and PVE in mm about the pelvis, and the joints' median distance in px."""
    truth = Truth(**{f.name: getattr(truth, f.name).to(body.device).float() for f in fields(Truth)})
    found = body(estimate.global_orient, estimate.body_pose, estimate.betas)
    wanted = body(truth.global_orient, truth.body_pose, truth.betas)
    pixels = (project(found.joints, estimate.crop_camera, truth.focal_px) - truth.joints_2d).norm(dim=-1)
    return {
        "MPJPE": metrics.mpjpe_mm(found.joints, wanted.joints),
        "PA": metrics.pa_mpjpe_mm(found.joints, wanted.joints),
        "PVE": metrics.pve_mm(found.vertices, wanted.vertices, found.joints[:, 0], wanted.joints[:, 0]),
        "px": float(pixels.median()),
    }


def export_regressor(regressor: HmrRegressor, path: str | Path, recipe: dict) -> None:
    """Write a regressor as `load_regressor` reads it: float16, with what is needed to rebuild it."""
    shape = {"backbone": "embedded", "hidden": regressor.head.fc2.out_features}
    metadata = {"network": json.dumps(shape), "recipe": json.dumps(recipe)}
    state = {key: value.half() for key, value in regressor.state_dict().items() if not key.startswith("adversary.")}
    save_state(state, path, metadata)
