"""HMR's recipe on the embedded backbone, in two parts.

First the integral head learns from synthetic images where the body's points lie (`hmrkit.training.integral_head`). Then
encoder and head learn bodies from what it predicts, for images and for synthetic landmarks
(`hmrkit.training.keypoint_noise`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hmrkit.body import Body, load_body
from hmrkit.regressors.hmr import HmrNetwork, HmrRegressor, build
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training.adversary import Adversary
from hmrkit.training.examples import SHARD, concatenate
from hmrkit.training.integral_head import train_points
from hmrkit.training.keypoint_noise import LandmarkNoise, NoisyLandmarks
from hmrkit.training.loop import CHECKPOINT, LoopConfig
from hmrkit.training.losses import errors
from hmrkit.training.regressors import (
    Batch,
    ClipLoss,
    ExampleSource,
    ImageData,
    Losses,
    Objective,
    batches,
    fit_and_write,
    held_out_examples,
    load_start,
    preset_of,
    standardise,
)

EXTRAS = ("tune_points", "adversarial")


@dataclass(frozen=True)
class HmrRecipe:
    """`points`: the loop of the integral head; `loop`: that of encoder and head. The rest: see
    `hmrkit.training.regressors.RegressorRecipe`."""

    points: LoopConfig
    loop: LoopConfig
    network: HmrNetwork = field(default_factory=HmrNetwork)
    data: ImageData = field(default_factory=ImageData)
    losses: Losses = field(default_factory=Losses)

    def with_steps(self, steps: int) -> HmrRecipe:
        """The same for at most so many steps of each part. A short run keeps fewer images, in proportion: making all
        of them would take hours for its minutes."""
        points, loop = (part.with_steps(min(part.steps, steps)) for part in (self.points, self.loop))
        images = self.data.images * points.steps // self.points.steps
        images = min(self.data.images, max(SHARD, images))
        return replace(self, points=points, loop=loop, data=replace(self.data, images=images))


# The last blocks are pretrained: they start from BlazePose's and learn slowly.
_SLOWLY: dict[str, Any] = {"slow_part": "last_blocks", "slow_rate": 0.2}

PRESETS: dict[str, HmrRecipe] = {
    "cpu": HmrRecipe(
        LoopConfig(steps=4_000, learning_rate=2e-3, warmup=200, weight_decay=0.05, log_every=100, **_SLOWLY),
        LoopConfig(steps=6_000, learning_rate=1e-3, weight_decay=0.04, log_every=100),
        data=ImageData(images=81_920),
    ),
    "gpu": HmrRecipe(
        LoopConfig(
            steps=60_000, learning_rate=2e-3, warmup=1000, weight_decay=0.05, log_every=200, ema=0.9995, **_SLOWLY
        ),
        LoopConfig(steps=20_000, learning_rate=1e-3, warmup=500, weight_decay=0.04, log_every=200),
        data=ImageData(batch=256),
    ),
}


def train(
    name: str,
    out: str | Path,
    preset: str = "cpu",
    steps: int | None = None,
    images: int | None = None,
    device: str | torch.device = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
    examples: str | Path | None = None,
    tune_points: bool = False,
    adversarial: bool = False,
) -> Path:
    """See `hmrkit.training.recipes.Recipe`. `steps`: at most so many of each part, and images in proportion.

    Checkpoints are ``out/points/checkpoint.pt`` and ``out/checkpoint.pt``; kept images in ``out/images`` are used
    again. The integral head of a file to `start` from stays as it is, unless `tune_points` asks to train it further."""
    recipe = recipe_of(preset, steps, images)
    run = {"preset": preset, "clips": 0, "tune_points": tune_points, "adversarial": adversarial}
    return train_hmr(
        name, recipe, Path(out), torch.device(device), resume, start, examples, None, tune_points, adversarial, run
    )  # fmt: skip


def recipe_of(preset: str, steps: int | None, images: int | None) -> HmrRecipe:
    """A preset with the numbers that were asked for instead of its own."""
    recipe: HmrRecipe = preset_of(PRESETS, preset)
    recipe = recipe.with_steps(steps) if steps else recipe
    return recipe if images is None else replace(recipe, data=replace(recipe.data, images=images))


def train_hmr(
    name: str,
    recipe: HmrRecipe,
    out: Path,
    device: torch.device,
    resume: bool,
    start: str | Path | None,
    examples: str | Path | None,
    clip_loss: Callable[[HmrRegressor, Body], ClipLoss] | None,
    tune_points: bool,
    adversarial: bool,
    run: dict[str, Any],
) -> Path:
    """Both parts; `clip_loss` makes the loss on clips once the regressor's backbone is trained."""
    torch.manual_seed(recipe.loop.seed)
    regressor = build(name, recipe.network).to(device)
    backbone, data = regressor.backbone, recipe.data
    body = load_body(device=device)
    if start is not None:
        load_start(regressor, start)
    held_out = held_out_examples(backbone, out / "held_out", data, device)
    source = ExampleSource(backbone, Path(examples or out / "images"), data, device)
    if start is None:
        backbone.init_from(concatenate([examples.observation for examples in source.statistics()]))
    if start is None or tune_points:
        train_points(backbone, source, held_out, body, recipe.points, out / "points", resume)
        resume = resume and (out / CHECKPOINT).is_file()
    backbone.requires_grad_(False)
    pool = concatenate([Batch.of(backbone, examples, body) for examples in source.held_out_pool()])
    if start is None:
        standardise(regressor, backbone.features_of_points(pool.predicted).global_feature)
    if adversarial:
        regressor.adversary = Adversary().to(device)
    objective = Objective(
        batches(source, backbone, body), data, recipe.losses,
        NoisyLandmarks(body, LandmarkNoise(pool.predicted, pool.true)),
        real_poses=PoseSampler("train", wobble=0.0) if adversarial else None,
        clips=clip_loss(regressor, body) if clip_loss else None,
    )  # fmt: skip
    new = Batch.of(backbone, held_out, body)
    features = backbone.features_of_points(new.predicted)

    @torch.no_grad()
    def evaluate(model: nn.Module) -> dict[str, float]:
        return errors(model.regress(features), new.truth, body)  # type: ignore[operator]

    return fit_and_write(regressor, recipe, out, objective, evaluate, resume, run)
