"""HMMR's recipe: clips of people in motion teach the temporal encoder and the head on a frozen backbone.

A step sees synthetic landmarks of people in motion, which have no images, at one of several frame rates; short rendered
clips, kept as features; and single images as stills. Encoder and head start from the shipped `hmr`, whose encoder
stays: temporal encoder and head learn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hmrkit import metrics
from hmrkit.backbones import Backbone
from hmrkit.body import Body, load_body
from hmrkit.errors import UsageError
from hmrkit.regressors.files import SHIPPED, whole_state
from hmrkit.regressors.hmmr import RATE, HmmrNetwork, HmmrRegressor, build
from hmrkit.training.ablation import Variant
from hmrkit.training.clip_loss import Clips, MotionWeights, clip_loss, delta_heads, placed_joints
from hmrkit.training.example_source import ExampleSource, ImageData, held_out_examples, held_out_folder, measured_noise
from hmrkit.training.examples import Examples, concatenate, select_rows
from hmrkit.training.kept_examples import KeptExamples
from hmrkit.training.loop import LoopConfig
from hmrkit.training.losses import errors
from hmrkit.training.moving_people import MovingLandmarks, make_clips
from hmrkit.training.recipe import RegressorRecipe
from hmrkit.training.regressors import fit_and_write, load_start, standardise, weights_of_step
from hmrkit.weights import load_into

EXTRAS = ()
# Frame rates of the clips without images, in Hz.
RATES = (30, 25, 30, 60, 25, 30, 15, 10, 5)
HELD_OUT_CLIPS = 64
_FEWEST_CLIPS = 8
_AT_ONCE = 128


@dataclass(frozen=True)
class ClipData:
    """Clips have `frames` frames. A step has `batch` of people without images (0: none), `rendered_batch` of the
    `rendered` ones that are made once and kept, and ``data.batch`` of `stills` images."""

    frames: int = 16
    batch: int = 10
    rendered: int = 256
    rendered_batch: int = 4
    stills: int = 8192


@dataclass(frozen=True, kw_only=True)
class HmmrRecipe(RegressorRecipe):
    """`clips`: the clips beside the images; `motion`: weights of the losses over time."""

    network: HmmrNetwork = field(default_factory=HmmrNetwork)
    clips: ClipData = field(default_factory=ClipData)
    motion: MotionWeights = field(default_factory=MotionWeights)

    def with_steps(self, steps: int) -> HmmrRecipe:
        """As `RegressorRecipe.with_steps`; a short run renders fewer clips, too."""
        share = min(1.0, steps / self.loop.steps)
        rendered = min(self.clips.rendered, max(_FEWEST_CLIPS, int(share * self.clips.rendered)))
        return replace(super().with_steps(steps), clips=replace(self.clips, rendered=rendered))


# The head is trained already.
_LOOP: dict[str, Any] = {"weight_decay": 0.04, "slow_part": "head", "slow_rate": 0.1}

PRESETS: dict[str, HmmrRecipe] = {
    "cpu": HmmrRecipe(
        loop=LoopConfig(steps=3_500, learning_rate=1e-3, log_every=100, **_LOOP),
        data=ImageData(images=81_920, batch=32),
    ),
    "gpu": HmmrRecipe(
        loop=LoopConfig(steps=20_000, learning_rate=1e-3, warmup=500, log_every=200, **_LOOP),
        data=ImageData(images=81_920, batch=128),
        clips=ClipData(batch=64, rendered=4096, rendered_batch=32, stills=65_536),
    ),
}

# The paper's own table stands on data that are not here; these are its parts, left out one by one.
ABLATION: tuple[Variant, ...] = (
    Variant("dynamics", "past and future heads"),
    Variant("dynamics", "without past and future heads", {"motion.delta": 0.0}),
    Variant("temporal encoder", "13 instants"),
    Variant("temporal encoder", "5 instants", {"network.blocks": 1}),
    Variant("temporal encoder", "a single instant", {"network.blocks": 0}),
    Variant("motion", "losses of velocity and acceleration"),
    Variant("motion", "bodies alone", {"motion.velocity": 0.0, "motion.acceleration": 0.0}),
)


@dataclass(frozen=True)
class ClipObjective:
    """What a step minimises. `stills` and `rendered` hold one-frame and rendered clips, `moving` draws others."""

    body: Body
    backbone: Any
    recipe: HmmrRecipe
    stills: Clips
    rendered: Clips | None
    moving: MovingLandmarks | None

    def __call__(self, model: nn.Module, generator: torch.Generator) -> Tensor:
        recipe, sizes = self.recipe, self.recipe.clips
        batches = [_drawn(self.stills, recipe.data.batch, generator)]
        if self.rendered is not None:
            batches.append(_drawn(self.rendered, sizes.rendered_batch, generator))
        if self.moving is not None:
            rate = RATES[int(torch.randint(len(RATES), (), generator=generator))]
            batches.append(moving_clips(self.moving, self.backbone, sizes.batch, sizes.frames, rate, generator))
        weights = weights_of_step(recipe.losses, generator)
        total: Tensor = sum(clip_loss(model, clips, self.body, weights, recipe.motion) for clips in batches)  # type: ignore[assignment]
        return total / len(batches)


def moving_clips(
    moving: MovingLandmarks, backbone: Any, count: int, frames: int, rate: float, generator: torch.Generator
) -> Clips:
    """`count` clips of people without images at `rate` Hz."""
    times = [(k - frames // 2) / rate for k in range(frames)]
    estimates, truth = moving(count, times, generator)
    feature = backbone.features_of_points(estimates).global_feature
    return Clips(feature.unflatten(0, (count, frames)), truth, torch.tensor(times, device=feature.device))


def _drawn(kept: Clips, count: int, generator: torch.Generator) -> Clips:
    """Some of the kept clips."""
    frames = len(kept.times)
    which = torch.randint(len(kept.feature), (count,), generator=generator)
    rows = (which[:, None] * frames + torch.arange(frames)).flatten()
    device = kept.feature.device
    return Clips(kept.feature[which.to(device)], select_rows(kept.truth, rows.to(device)), kept.times)


@torch.no_grad()
def _clips_of(
    examples: Examples | KeptExamples, count: int, backbone: Backbone, frames: int, device: torch.device
) -> Clips:
    """The first `count` examples, a clip's frames one after the other, as features: the backbone is frozen."""
    features, truths = [], []
    for start in range(0, count, _AT_ONCE):
        part = examples[slice(start, min(start + _AT_ONCE, count))].to(device)
        features.append(backbone.features(part.observation).global_feature)
        truths.append(part.truth)
    times = torch.arange(frames, device=device) / RATE
    return Clips(torch.cat(features).unflatten(0, (-1, frames)), concatenate(truths), times)


def train(
    name: str,
    recipe: HmmrRecipe,
    out: str | Path,
    *,
    device: str | torch.device = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
    examples: str | Path | None = None,
    run: dict[str, Any] | None = None,
) -> Path:
    """See `hmrkit.training.recipes.Recipe`. Rendered clips are kept in the folder ``clips`` beside the images'."""
    out, device = Path(out), torch.device(device)
    torch.manual_seed(recipe.loop.seed)
    regressor = build(name, recipe.network, weights="default").to(device)
    folder, data, sizes = Path(examples or out / "images"), recipe.data, recipe.clips
    backbone, body = regressor.backbone.requires_grad_(False), load_body(device=device)
    if start is not None:
        load_start(regressor, start)
    elif recipe.network.still:
        start_from_still(regressor, recipe.network.still)
    held_out = held_out_examples(backbone, held_out_folder(out, examples), data, device)
    source = ExampleSource(backbone, folder, data, device)
    if source.kept is None:
        raise UsageError("--images 0 is of no use to hmmr: it learns stills from kept images; wanted a number")
    stills = _clips_of(source.kept, min(sizes.stills, source.learned), backbone, 1, device)
    if start is None and not recipe.network.still:
        standardise(regressor, stills.feature[:, 0])
    rendered = None
    if sizes.rendered:
        place = (folder.parent if examples is None else folder) / "clips"
        make_clips(place, sizes.rendered, [k / RATE for k in range(sizes.frames)], backbone, device)
        kept = KeptExamples(place, sizes.rendered * sizes.frames, backbone)
        rendered = _clips_of(kept, len(kept), backbone, sizes.frames, device)
    moving = tests = None
    if sizes.batch:
        noise, generator = measured_noise(source, backbone, body), torch.Generator().manual_seed(1)
        moving = MovingLandmarks(body, noise)
        unseen = MovingLandmarks(body, noise, "test")
        tests = moving_clips(unseen, backbone, HELD_OUT_CLIPS, sizes.frames, RATE, generator)
    if recipe.network.still:
        regressor.encoder.requires_grad_(False)
    for layer in regressor.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # jitter that is no motion
    regressor.deltas = delta_heads(recipe.network.hidden).to(device)
    objective = ClipObjective(body, backbone, recipe, stills, rendered, moving)
    new = _clips_of(held_out, len(held_out), backbone, 1, device)

    @torch.no_grad()
    def evaluate(model: Any) -> dict[str, float]:
        found = errors(_estimate(model, new), new.truth, body)
        return found | (motion_errors(model, tests, body) if tests is not None else {})

    return fit_and_write(regressor, recipe, out, objective, evaluate, resume, run)


def start_from_still(regressor: HmmrRegressor, still: str) -> None:
    """Take encoder, head and statistics of a shipped regressor of single frames."""
    path = SHIPPED.format(still)
    known = {key: value for key, value in whole_state(path).items() if not key.startswith("backbone.")}
    load_into(regressor, regressor.state_dict() | known, path)


def _estimate(model: Any, clips: Clips) -> Any:
    return model.head(model.strips(model.standardised(clips.feature), clips.times).flatten(0, 1))


@torch.no_grad()
def motion_errors(model: Any, clips: Clips, body: Body) -> dict[str, float]:
    """On clips: MPJPE and PA-MPJPE in mm, and the error of accelerations in mm per frame squared, of the clips as
    they are and, beside it, of each frame as a still."""
    count, frames = clips.feature.shape[:2]
    stills = Clips(clips.feature.flatten(0, 1)[:, None], clips.truth, clips.times[:1])
    found: dict[str, float] = {}
    for name, part in (("clip", clips), ("still", stills)):
        estimate, right = placed_joints(_estimate(model, part), clips.truth, body, frames)
        found[f"{name} PA"] = metrics.pa_mpjpe_mm(estimate.flatten(0, 1), right.flatten(0, 1))
        accelerations = [metrics.accel_error(a, b) for a, b in zip(estimate, right, strict=True)]
        found[f"{name} accel"] = sum(accelerations) / count
    return found
