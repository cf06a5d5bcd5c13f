"""SPIN's recipe: HMR's, and a loss on clips of people without labels, whose bodies a fitting loop supplies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hmrkit.backbones.embedded import EmbeddedBackbone, PointEstimates
from hmrkit.body import Body
from hmrkit.regressors.hmr import HmrRegressor
from hmrkit.training.clip_examples import clip_examples
from hmrkit.training.examples import Examples, select_rows, to_device
from hmrkit.training.integral_head import points_of
from hmrkit.training.losses import EstimateLoss, body_loss
from hmrkit.training.point_objective import regress_points
from hmrkit.training.recipes import hmr
from hmrkit.training.recipes.hmr import PRESETS, HmrRecipe
from hmrkit.training.spin_fits import LoopFit

__all__ = ["EXTRAS", "PRESETS", "train"]

EXTRAS = ("clips", "tune_points", "adversarial")


class FittedClips:
    """SPIN's loss on images of real people (`hmrkit.training.regressors.ClipLoss`)."""

    def __init__(
        self, backbone: EmbeddedBackbone, examples: Examples, body: Body, loss: EstimateLoss = body_loss
    ) -> None:
        points = points_of(backbone.integral, examples.observation)
        self.predicted = to_device(PointEstimates(examples.observation.landmarks, points), body.device)
        self.fits, self.body, self.loss = LoopFit(examples, body), body, loss

    def __call__(self, model: nn.Module, batch: int, generator: torch.Generator) -> Tensor | float:
        rows = torch.randint(len(self.fits.examples), (batch,), generator=generator)
        estimate = regress_points(model, select_rows(self.predicted, rows))
        truth, good = self.fits(rows, estimate)
        return self.loss(select_rows(estimate, good), select_rows(truth, good), self.body) if good.any() else 0.0


def train(
    name: str,
    recipe: HmrRecipe,
    out: str | Path,
    *,
    device: str | torch.device = "cpu",
    clips: Sequence[str | Path] = (),
    **rest: Any,
) -> Path:
    """See `hmrkit.training.recipes.Recipe` and `hmrkit.training.recipes.hmr.train`, which has the rest."""
    device = torch.device(device)

    def clip_loss(regressor: HmrRegressor, body: Body) -> FittedClips:
        return FittedClips(regressor.backbone, clip_examples(clips, regressor, device), body)

    return hmr.train(name, recipe, out, device=device, clip_loss=clip_loss if clips else None, **rest)
