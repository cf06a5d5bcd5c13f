"""VIBE: SPIN's features of a track, corrected by a recurrent network over time, then SPIN's regressor.

Source: Kocabas et al. 2020, VIBE: Video inference for human body pose and shape estimation. VIBE ships two files side
by side: its generator (``vibe_model_w_3dpw.pth.tar``, no image network in it), and SPIN's checkpoint, whose ResNet-50
makes the features. `load` is given the first and finds the second. Module names are those of the generator.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones import Features, load_backbone
from hmrkit.errors import WeightsError
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.files import beside
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.regressors.ief import IefHead
from hmrkit.weights import find_weights, load_into, load_state, verify

log = logging.getLogger(__name__)

LANDMARK = "encoder.gru.weight_ih_l0"
# SPIN's checkpoint, as VIBE and as SPIN itself name it.
SPIN_FILES = ("spin_model_checkpoint.pth.tar", "model_checkpoint.pt")
FEATURE, HIDDEN = 2048, 1024


class TemporalEncoder(nn.Module):
    """Features (T,2048) in the order of time -> the same, each corrected by those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURE, HIDDEN, num_layers=2)
        self.linear = nn.Linear(HIDDEN, FEATURE)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.linear(functional.relu(self.gru(features)[0]))


class VibeRegressor(FrameRegressor):
    """See `hmrkit.regressors.Regressor`. The code of a crop is its feature (2048)."""

    def __init__(self, name: str, backbone: Any) -> None:
        super().__init__(name, backbone, framing="box", shape_space="smpl")
        self.encoder = TemporalEncoder()
        self.regressor = IefHead(FEATURE, HIDDEN, activate=False)

    def encode(self, crops: Tensor, context: CropContext | None = None) -> Tensor:
        """See `hmrkit.regressors.Regressor.encode`: (B,2048)."""
        return self.backbone(crops).global_feature

    def decode(self, codes: Tensor, times: Tensor) -> BodyEstimate:
        """See `hmrkit.regressors.Regressor.decode`. The network knows no time: the frames that a track has are its
        video, as in the published demo."""
        return self.regressor(self.encoder(codes))

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        """Each crop as a still of its own."""
        return self.regressor(self.encoder(features.global_feature[None])[0])


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> VibeRegressor:
    """See `hmrkit.regressors.load_regressor`; without a checkpoint an untrained one.

    The checkpoint is the generator; SPIN's lies beside it or in a weights folder (`SPIN_FILES`).
    """
    if checkpoint is None:
        regressor = VibeRegressor(name, load_backbone("resnet50", weights=None))
    else:
        spin = _spin_beside(find_weights(checkpoint))
        regressor = VibeRegressor(name, load_backbone("resnet50", spin, device=device)).to(device)
        _fill(regressor, load_state(checkpoint), checkpoint)
        regressor.weights_sha256 = verify(checkpoint) + verify(spin)
    return regressor.eval().requires_grad_(False).to(device)


def _fill(regressor: VibeRegressor, state: dict[str, Tensor], path: str | Path) -> None:
    """Load the generator's tensors, without SPIN's features, which are loaded already."""
    if LANDMARK not in state:
        found = ", ".join(list(state)[:3])
        raise WeightsError(f"{path}: wanted VIBE's published generator, found {len(state)} tensors ({found}, ...)")
    own = {key: value for key, value in state.items() if not key.startswith("regressor.smpl.")}
    if passed_over := len(state) - len(own):
        log.info("%s: passed over %d tensors of SMPL (regressor.smpl); the body comes from --body", path, passed_over)
    features = {f"backbone.{key}": value for key, value in regressor.backbone.state_dict().items()}
    load_into(regressor, own | features, path)


def _spin_beside(generator: Path) -> Path:
    if found := beside(generator, SPIN_FILES):
        return found
    raise WeightsError(
        f"{generator}: VIBE reads SPIN's features; wanted {' or '.join(SPIN_FILES)} beside it or in a weights folder "
        "($HMRKIT_WEIGHTS, ./weights), found neither; VIBE's own download has it"
    )
