"""HMR's recipe on the embedded backbone, in two parts.

First the integral head learns from synthetic images where the body's points lie (`hmrkit.training.integral_head`). Then
encoder and head learn bodies from what it predicts, for images and for synthetic landmarks
(`hmrkit.training.keypoint_noise`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hmrkit.body import Body, load_body
from hmrkit.regressors.hmr import HmrNetwork, HmrRegressor, build
from hmrkit.training.example_source import ExampleSource, ImageData, held_out_examples, held_out_folder
from hmrkit.training.examples import concatenate
from hmrkit.training.integral_head import train_points
from hmrkit.training.loop import CHECKPOINT, LoopConfig
from hmrkit.training.point_objective import ClipLoss, train_on_points
from hmrkit.training.recipe import RegressorRecipe
from hmrkit.training.regressors import load_start

EXTRAS = ("tune_points", "adversarial")


@dataclass(frozen=True, kw_only=True)
class HmrRecipe(RegressorRecipe):
    """`points`: the loop of the integral head; `loop`: that of encoder and head."""

    points: LoopConfig
    network: HmrNetwork = field(default_factory=HmrNetwork)


# The last blocks are pretrained: they start from BlazePose's and learn slowly.
_SLOWLY: dict[str, Any] = {"slow_part": "last_blocks", "slow_rate": 0.2}

PRESETS: dict[str, HmrRecipe] = {
    "cpu": HmrRecipe(
        points=LoopConfig(steps=4_000, learning_rate=2e-3, warmup=200, weight_decay=0.05, log_every=100, **_SLOWLY),
        loop=LoopConfig(steps=6_000, learning_rate=1e-3, weight_decay=0.04, log_every=100),
        data=ImageData(images=81_920),
    ),
    "gpu": HmrRecipe(
        points=LoopConfig(
            steps=60_000, learning_rate=2e-3, warmup=1000, weight_decay=0.05, log_every=200, ema=0.9995, **_SLOWLY
        ),
        loop=LoopConfig(steps=20_000, learning_rate=1e-3, warmup=500, weight_decay=0.04, log_every=200),
        data=ImageData(batch=256),
    ),
}


def train(
    name: str,
    recipe: HmrRecipe,
    out: str | Path,
    *,
    device: str | torch.device = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
    examples: str | Path | None = None,
    run: dict[str, Any] | None = None,
    tune_points: bool = False,
    adversarial: bool = False,
    clip_loss: Callable[[HmrRegressor, Body], ClipLoss] | None = None,
) -> Path:
    """See `hmrkit.training.recipes.Recipe`. `clip_loss` makes SPIN's loss once the regressor's backbone is trained.

    Checkpoints are ``out/points/checkpoint.pt`` and ``out/checkpoint.pt``; kept images in ``out/images`` are used
    again. The integral head of a file to `start` from stays as it is, unless `tune_points` asks to train it further."""
    out, device = Path(out), torch.device(device)
    torch.manual_seed(recipe.loop.seed)
    regressor = build(name, recipe.network).to(device)
    backbone, data = regressor.backbone, recipe.data
    body = load_body(device=device)
    if start is not None:
        load_start(regressor, start)
    held_out = held_out_examples(backbone, held_out_folder(out, examples), data, device)
    source = ExampleSource(backbone, Path(examples or out / "images"), data, device)
    if start is None:
        backbone.init_from(concatenate([examples.observation for examples in source.statistics()]))
    if start is None or tune_points:
        train_points(backbone, source, held_out, body, recipe.points, out / "points", resume)
        resume = resume and (out / CHECKPOINT).is_file()
    return train_on_points(
        regressor, recipe, out, source, held_out, body=body, fresh=start is None, clip_loss=clip_loss,
        adversarial=adversarial, resume=resume, run=run,
    )  # fmt: skip
