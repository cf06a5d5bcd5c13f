"""SGRE's recipe: HMR's supervised terms, the rotations' one on what the network estimates, global rotations or relative
ones. The embedded backbone is the one that ships and stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hmrkit.backbones import Features
from hmrkit.body import Body
from hmrkit.body.landmarks import world_from_local
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.crop_camera import CROP
from hmrkit.regressors.sgre import SgreNetwork, SgreRegressor, build
from hmrkit.training.ablation import Variant
from hmrkit.training.example_source import ImageData
from hmrkit.training.examples import Truth
from hmrkit.training.loop import LoopConfig
from hmrkit.training.losses import LossWeights, body_loss
from hmrkit.training.recipe import RegressorRecipe
from hmrkit.training.regressors import on_shipped_backbone, train_supervised

EXTRAS = ()


@dataclass(frozen=True, kw_only=True)
class SgreRecipe(RegressorRecipe):
    """`joints` weighs the distance of the joints that the network's own heads find, where it has them."""

    network: SgreNetwork = field(default_factory=SgreNetwork)
    joints: float = 1.0


PRESETS: dict[str, SgreRecipe] = {
    "cpu": SgreRecipe(
        loop=LoopConfig(steps=3_500, learning_rate=1e-3, weight_decay=0.04, log_every=100),
        data=ImageData(images=80_000),
    ),
    "gpu": SgreRecipe(
        loop=LoopConfig(steps=20_000, learning_rate=1e-3, warmup=500, weight_decay=0.04, log_every=200),
        data=ImageData(batch=256),
    ),
}

_BARE = {"network.sequential": False, "network.local_features": False}
_RELATIVE = {"network.rotations": "relative"}


def _on_3dpw(mpjpe: float, pa_mpjpe: float, pve: float) -> dict[str, float]:
    return {"3DPW MPJPE mm": mpjpe, "3DPW PA-MPJPE mm": pa_mpjpe, "3DPW PVE mm": pve}


# Tables 1, 2 and 4 of the paper; trained on COCO, tested on 3DPW.
ABLATION: tuple[Variant, ...] = (
    Variant("rotations", "Relative baseline", _BARE | _RELATIVE, _on_3dpw(88.4, 56.7, 105.5)),
    Variant("rotations", "Global baseline", _BARE, _on_3dpw(87.8, 56.3, 104.4)),
    Variant("rotations", "SGRE", {}, _on_3dpw(85.5, 55.0, 101.8)),
    Variant("rotations", "Relative++", _RELATIVE, _on_3dpw(87.6, 56.1, 105.9)),
    Variant("components", "Global baseline", _BARE, _on_3dpw(87.8, 56.3, 104.4)),
    Variant("components", "+Sequential", {"network.local_features": False}, _on_3dpw(86.5, 55.6, 102.6)),
    Variant("components", "+Local feat", {}, _on_3dpw(85.5, 55.0, 101.8)),
    Variant(
        "rotation error", "Relative baseline", _BARE | _RELATIVE, {"3DPW MPJAE deg": 22.3, "3DPW-OCC MPJAE deg": 25.3}
    ),
    Variant("rotation error", "SGRE", {}, {"3DPW MPJAE deg": 21.0, "3DPW-OCC MPJAE deg": 23.8}),
)


@dataclass(frozen=True)
class SgreLoss:
    """Eq. 3 to 6 (`hmrkit.training.regressors.BatchLoss`); `joints` as in `SgreRecipe`."""

    joints: float

    def __call__(
        self,
        model: SgreRegressor,
        features: Features,
        context: CropContext,
        truth: Truth,
        body: Body,
        weights: LossWeights,
    ) -> Tensor:
        joints = model.joints(features)
        estimate = model.regress_at(features, joints)
        if model.network.rotations == "relative":
            total = body_loss(estimate, truth, body, weights)
        else:
            off = global_rotations(estimate) - global_rotations(truth)  # eq. 8
            total = weights.rotations * off.square().mean()
            total = total + body_loss(estimate, truth, body, replace(weights, rotations=0.0))
        if model.heads is None or joints is None:
            return total
        return total + self.joints * (joints - true_joints(truth, body)).abs().clamp_max(2).mean()


def global_rotations(bodies: BodyEstimate | Truth) -> Tensor:
    """Rotations (B,24,3,3) of all joints in the crop's camera."""
    local = torch.cat([bodies.global_orient[:, None], bodies.body_pose], 1)
    with torch.autocast(local.device.type, enabled=False):
        return world_from_local(local)


def true_joints(truth: Truth, body: Body) -> Tensor:
    """Joints (B,24,3) as `SgreRegressor.joints` gives them."""
    depth = body.joints_only(truth.global_orient, truth.body_pose, truth.betas).joints[..., 2:]
    return torch.cat([truth.joints_2d / (CROP / 2) - 1, depth - depth[:, :1]], -1)


def train(name: str, recipe: SgreRecipe, out: str | Path, **rest: Any) -> Path:
    """See `hmrkit.training.recipes.Recipe` and `hmrkit.training.regressors.train_supervised`, which has the rest."""
    regressor = on_shipped_backbone(build, name, recipe)
    return train_supervised(regressor, recipe, out, loss=SgreLoss(recipe.joints), **rest)
