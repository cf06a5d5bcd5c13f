"""HKMR's recipe: the pose prior's autoencoder first, then the chains on points, images and synthetic landmarks alike.

The network reads the global feature alone, so the points of kept images are predicted once
(`hmrkit.training.point_objective`). The shipped embedded backbone stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hmrkit.body import Body, load_body
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.hkmr import HkmrNetwork, HkmrRegressor, IteratedEstimate, build
from hmrkit.training.ablation import Variant
from hmrkit.training.clip_examples import clip_examples
from hmrkit.training.example_source import ExampleSource, ImageData, held_out_examples, held_out_folder
from hmrkit.training.examples import Truth, concatenate
from hmrkit.training.loop import CHECKPOINT, LoopConfig
from hmrkit.training.losses import LossWeights, body_loss
from hmrkit.training.point_objective import train_on_points
from hmrkit.training.pose_vae import PoseVae, train_pose_vae
from hmrkit.training.recipe import RegressorRecipe
from hmrkit.training.recipes.spin import FittedClips
from hmrkit.training.regressors import load_start

EXTRAS = ("clips",)


@dataclass(frozen=True, kw_only=True)
class HkmrRecipe(RegressorRecipe):
    """`vae`: the loop of the pose prior's autoencoder; `loop`: that of the regressor. `prior`: the autoencoder, or
    HMR's discriminator in its place (table 2). `divergence`: the weight of the prior, lambda_KL, a nat."""

    vae: LoopConfig
    network: HkmrNetwork = field(default_factory=HkmrNetwork)
    prior: Literal["vae", "discriminator"] = "vae"
    divergence: float = 5e-4


PRESETS: dict[str, HkmrRecipe] = {
    "cpu": HkmrRecipe(
        vae=LoopConfig(steps=2_000, learning_rate=1e-3, warmup=100, log_every=100),
        loop=LoopConfig(steps=4_000, learning_rate=1e-3, weight_decay=0.04, log_every=100),
        data=ImageData(images=81_920),
    ),
    "gpu": HkmrRecipe(
        vae=LoopConfig(steps=20_000, learning_rate=1e-3, warmup=500, log_every=500),
        loop=LoopConfig(steps=20_000, learning_rate=1e-3, warmup=500, weight_decay=0.04, log_every=200),
        data=ImageData(batch=256),
    ),
}


def _figures(p1: float, p2: float) -> dict[str, float]:
    return {"Human3.6M P1 MPJPE mm": p1, "Human3.6M P2 MPJPE mm": p2}


_FULL = _figures(71.08, 67.74)
# Tables 2 and 3.
ABLATION: tuple[Variant, ...] = (
    Variant("regressor", "no joint hierarchy", {"network.joint_hierarchy": False}, _figures(77.10, 74.28)),
    Variant("regressor", "forward only", {"network.backward": False}, _figures(75.99, 72.10)),
    Variant("regressor", "discriminator", {"prior": "discriminator"}, _figures(74.21, 71.72)),
    Variant("regressor", "full model", {}, _FULL),
    Variant("outer iterations", "1", {"network.outer": 1}, _figures(93.79, 88.61)),
    Variant("outer iterations", "2", {"network.outer": 2}, _figures(80.96, 76.41)),
    Variant("outer iterations", "3", {}, _FULL),
    Variant("outer iterations", "4", {"network.outer": 4}, _figures(73.16, 69.40)),
    Variant("inner iterations", "2", {"network.inner": 2}, _figures(83.34, 82.94)),
    Variant("inner iterations", "4", {}, _FULL),
    Variant("inner iterations", "6", {"network.inner": 6}, _figures(73.61, 69.55)),
)


@dataclass(frozen=True)
class HkmrLoss:
    """Equation 3: the body's loss and the pose prior's, summed over the outer iterations
    (`hmrkit.training.losses.EstimateLoss`). Without `vae` there is no pose prior here."""

    vae: PoseVae | None
    divergence: float

    def __call__(self, estimate: BodyEstimate, truth: Truth, body: Body, weights: LossWeights | None = None) -> Tensor:
        iterations = estimate.iterations() if isinstance(estimate, IteratedEstimate) else [estimate]
        # All iterations as one batch: their mean, times their number, is the sum.
        every = concatenate(iterations)
        total = body_loss(every, concatenate([truth] * len(iterations)), body, weights)
        if self.vae is not None:
            total = total + self.divergence * self.vae.divergence(every.body_pose).mean()
        return len(iterations) * total


def train(
    name: str,
    recipe: HkmrRecipe,
    out: str | Path,
    *,
    device: str | torch.device = "cpu",
    resume: bool = False,
    start: str | Path | None = None,
    examples: str | Path | None = None,
    run: dict[str, Any] | None = None,
    clips: Sequence[str | Path] = (),
) -> Path:
    """See `hmrkit.training.recipes.Recipe`. `clips` are videos of people without labels, whose bodies a fitting loop
    supplies (section 3.4, HKMR_MF).

    Checkpoints are ``out/vae/checkpoint.pt`` and ``out/checkpoint.pt``; kept images in ``out/images`` are used again.
    """
    out, device = Path(out), torch.device(device)
    torch.manual_seed(recipe.loop.seed)
    regressor = build(name, recipe.network, weights="default").to(device)
    if start is not None:
        load_start(regressor, start)
    body, data = load_body(device=device), recipe.data
    held_out = held_out_examples(regressor.backbone, held_out_folder(out, examples), data, device)
    source = ExampleSource(regressor.backbone, Path(examples or out / "images"), data, device)
    vae = None
    if recipe.prior == "vae":
        vae = train_pose_vae(recipe.vae, out / "vae", device, resume)
        resume = resume and (out / CHECKPOINT).is_file()
    loss = HkmrLoss(vae, recipe.divergence)

    def clip_loss(regressor: HkmrRegressor, body: Body) -> FittedClips:
        return FittedClips(regressor.backbone, clip_examples(clips, regressor, device), body, loss)

    return train_on_points(
        regressor, recipe, out, source, held_out, body=body, fresh=start is None, loss=loss,
        clip_loss=clip_loss if clips else None, adversarial=recipe.prior == "discriminator", resume=resume, run=run,
    )  # fmt: skip
