"""HMR and SPIN: one network, trained in two ways: a backbone's global feature, then iterative error feedback.

Sources: Kanazawa et al. 2018 (HMR), Kolotouros et al. 2019 (SPIN). The published networks have the feedback directly on
ResNet-50's feature. On the embedded backbone, whose feature consists of points and limbs, residual layers stand
between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features, load_backbone
from hmrkit.backbones.resnet import ResNet50
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.encoder import Encoder
from hmrkit.regressors.files import SHIPPED, read_regressor, refuse_other_backbone
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.regressors.ief import IefHead
from hmrkit.weights import load_into, load_state, verify


@dataclass(frozen=True)
class HmrNetwork:
    """What the network is: `build` makes it, weights files hold it.

    `hidden` is the width of head and encoder. `encoder`: residual layers between feature and head, which read the
    feature standardised. `flip`: the crop and its mirror image are averaged. `activate`: ReLUs in the head (published
    SPIN has none). `framing` and `shape_space`: see `hmrkit.regressors.Regressor`.
    """

    backbone: str = "embedded"
    hidden: int = 1024
    encoder: bool = True
    framing: Literal["upright", "box"] = "upright"
    flip: bool = True
    activate: bool = True
    shape_space: Literal["hmrkit", "smpl"] = "hmrkit"


# The form that HMR has on each backbone; those that are not named have `_PLAIN`.
_FORMS = {"embedded": HmrNetwork()}
_PLAIN = HmrNetwork(encoder=False, framing="box", flip=False)
_PUBLISHED_SPIN = replace(_PLAIN, backbone="resnet50", activate=False, shape_space="smpl")


def network_on(backbone: str, hidden: int = 1024) -> HmrNetwork:
    """HMR's network on a backbone, in the form that it has there."""
    return replace(_FORMS.get(backbone, _PLAIN), backbone=backbone, hidden=hidden)


class HmrRegressor(FrameRegressor):
    """See `hmrkit.regressors.frame.FrameRegressor`; `network` says what it consists of."""

    def __init__(self, name: str, network: HmrNetwork, backbone: Any) -> None:
        super().__init__(name, backbone, network.framing, network.shape_space, network.flip, network.encoder)
        self.network = network
        channels = backbone.global_channels
        # Made in the order in which a seed has always made them; registered in that of the checkpoints.
        head = IefHead(network.hidden if network.encoder else channels, network.hidden, activate=network.activate)
        self.encoder = Encoder(channels, network.hidden) if network.encoder else nn.Identity()
        self.head = head

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        feature = features.global_feature
        return self.head(self.encoder(self.standardised(feature)) if self.network.encoder else feature)


def build(name: str, network: HmrNetwork | None = None, weights: str | None = None) -> HmrRegressor:
    """An untrained regressor; by default on the embedded backbone, with its `weights`: None or those that ship."""
    network = network or HmrNetwork()
    return HmrRegressor(name, network, load_backbone(network.backbone, weights=weights))


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
        regressor = build(name, network_on(backbone or "embedded"))
    else:
        path = checkpoint or SHIPPED.format(name)
        state = load_state(path)
        if "conv1.weight" in state:
            regressor = _published(name, state, path)
            refuse_other_backbone(path, regressor.network.backbone, backbone)
            regressor.weights_sha256 = verify(path)
        else:
            regressor = read_regressor(name, path, build, _network_of, backbone)
    return regressor.eval().requires_grad_(False).to(device)


def _network_of(**fields: Any) -> HmrNetwork:
    """Files of today hold their `HmrNetwork`, older ones backbone and width alone."""
    return network_on(**fields) if set(fields) == {"backbone", "hidden"} else HmrNetwork(**fields)


def _published(name: str, state: dict[str, Tensor], path: str | Path) -> HmrRegressor:
    """SPIN's ``model_checkpoint.pt``: ResNet-50's keys at top level, then the head's. Descendants of it carry SMPL's
    own arrays as ``smpl.*``; the body comes from elsewhere here, so they are passed over."""
    state = {key: value for key, value in state.items() if not key.startswith("smpl.")}
    regressor = HmrRegressor(name, _PUBLISHED_SPIN, ResNet50())
    own = regressor.head.state_dict()
    load_into(regressor.head, {key: value for key, value in state.items() if key in own}, path)
    load_into(regressor.backbone, {key: value for key, value in state.items() if key not in own}, path)
    return regressor
