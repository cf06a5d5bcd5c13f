"""HMR and SPIN: one network (a backbone's global feature, iterative error feedback), trained in two ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features, load_backbone
from hmrkit.backbones.resnet import ResNet50
from hmrkit.errors import UsageError, WeightsError
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.ief import IefHead
from hmrkit.weights import load_into, load_state, read_metadata, verify

SHIPPED = "regressors/{}.safetensors"


class HmrRegressor(nn.Module):
    """See `hmrkit.regressors.Regressor`.

    Features of the embedded backbone are standardised by `feature_mean` and `feature_scale`, measured once in training.
    """

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, name: str, backbone: Any, head: IefHead, framing: Literal["upright", "box"]) -> None:
        super().__init__()
        self.name, self.weights_sha256 = name, ""
        self.framing: Literal["upright", "box"] = framing
        self.shape_space: Literal["hmrkit", "smpl"] = "hmrkit"
        self.backbone, self.head = backbone, head
        self.input_size: tuple[int, int] = backbone.input_size
        if framing == "upright":
            self.register_buffer("feature_mean", torch.zeros(backbone.global_channels))
            self.register_buffer("feature_scale", torch.ones(backbone.global_channels))

    def forward(self, crops: Tensor) -> BodyEstimate:
        return self.regress(self.backbone(crops))

    def regress(self, features: Features) -> BodyEstimate:
        """What follows the backbone."""
        return self.head(self.standardised(features.global_feature))

    def standardised(self, feature: Tensor) -> Tensor:
        """Features (B,C) as the head reads them. Clamped: what lies far outside of training must not run away."""
        if self.framing == "box":
            return feature
        return ((feature - self.feature_mean) * self.feature_scale).clamp(-8, 8)


def build(name: str, backbone: str = "embedded", hidden: int = 1024) -> HmrRegressor:
    """An untrained regressor."""
    trunk = load_backbone(backbone)
    head = IefHead(trunk.global_channels, hidden)
    return HmrRegressor(name, trunk, head, "upright" if backbone == "embedded" else "box")


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> HmrRegressor:
    """See `hmrkit.regressors.load_regressor`."""
    if checkpoint is None and weights is None:
        regressor = build(name, backbone or "embedded")
    else:
        path = checkpoint or SHIPPED.format(name)
        state = load_state(path)
        if "conv1.weight" in state:
            trained_on, regressor = "resnet50", _published(name, state, path)
        else:
            trained_on, regressor = _trained(name, {key: value.float() for key, value in state.items()}, path)
        if backbone not in (None, trained_on):
            raise UsageError(f"{path} was trained on backbone {trained_on}, not {backbone}; leave --backbone out")
        regressor.weights_sha256 = verify(path)
    return regressor.eval().requires_grad_(False).to(device)


def _trained(name: str, state: dict[str, Tensor], path: str | Path) -> tuple[str, HmrRegressor]:
    """What `hmrkit train` wrote: the name of its backbone, the regressor."""
    written = read_metadata(path) if Path(path).suffix == ".safetensors" else {}
    shape = json.loads(written.get("network", "{}"))
    if "backbone" not in shape:
        raise WeightsError(f"{path}: wanted a regressor that `hmrkit train` wrote or SPIN's checkpoint, found neither")
    regressor = build(name, shape["backbone"], shape["hidden"])
    load_into(regressor, state, path)
    return shape["backbone"], regressor


def _published(name: str, state: dict[str, Tensor], path: str | Path) -> HmrRegressor:
    """SPIN's ``model_checkpoint.pt``: ResNet-50's keys at top level, then the head's. Descendants of it carry SMPL's
    own arrays as ``smpl.*``; the body comes from elsewhere here, so they are passed over."""
    state = {key: value for key, value in state.items() if not key.startswith("smpl.")}
    trunk = ResNet50()
    head = IefHead(trunk.global_channels, activate=False)
    own = head.state_dict()
    load_into(head, {key: value for key, value in state.items() if key in own}, path)
    load_into(trunk, {key: value for key, value in state.items() if key not in own}, path)
    regressor = HmrRegressor(name, trunk, head, "box")
    regressor.shape_space = "smpl"
    return regressor
