"""HMR and SPIN: one network (a backbone's global feature, iterative error feedback), trained in two ways.

Published networks have a linear layer between the two, inside the feedback. On the embedded backbone, whose feature is
what is known of the body's points, an encoder of residual layers stands there: it learns most of its part from motion
capture without pictures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features, load_backbone
from hmrkit.backbones.embedded import EmbeddedBackbone
from hmrkit.backbones.resnet import ResNet50
from hmrkit.errors import UsageError, WeightsError
from hmrkit.geometry import mirrored_pose, project_to_rotation
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.ief import IefHead
from hmrkit.skeletons import SMPL_24
from hmrkit.weights import load_into, load_state, read_metadata, verify

SHIPPED = "regressors/{}.safetensors"


class HmrRegressor(nn.Module):
    """See `hmrkit.regressors.Regressor`.

    With an `encoder`, features are standardised by `feature_mean` and `feature_scale`, measured once in training, and
    every crop is read twice, as it is and mirrored: the mean of both errs 5 % less, at twice the cost. Where the two
    face opposite ways, the likelier one counts alone.
    """

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, name: str, backbone: Any, head: IefHead, encoder: nn.Module | None = None) -> None:
        super().__init__()
        self.name, self.weights_sha256 = name, ""
        self.framing: Literal["upright", "box"] = "box" if encoder is None else "upright"
        self.shape_space: Literal["hmrkit", "smpl"] = "hmrkit"
        self.backbone, self.encoder, self.head = backbone, encoder, head
        self.input_size: tuple[int, int] = backbone.input_size
        if encoder is not None:
            self.register_buffer("feature_mean", torch.zeros(backbone.global_channels))
            self.register_buffer("feature_scale", torch.ones(backbone.global_channels))

    def forward(self, crops: Tensor) -> BodyEstimate:
        if self.encoder is None:
            return self.regress(self.backbone(crops))
        told = [self.backbone.told(self.backbone.look(seen)) for seen in (crops, crops.flip(-1))]
        straight, mirrored = (self.regress(self.backbone.together(one)) for one in told)
        return between(straight, mirrored, *(one.points.world for one in told))

    def regress(self, features: Features) -> BodyEstimate:
        """What follows the backbone."""
        feature = features.global_feature
        return self.head(feature if self.encoder is None else self.encoder(self.standardised(feature)))

    def standardised(self, feature: Tensor) -> Tensor:
        """Features (B,C) as the encoder reads them; clamped, because what lies far outside of training must not run
        away."""
        return ((feature - self.feature_mean) * self.feature_scale).clamp(-8, 8)


class Encoder(nn.Module):
    """A feature (B,C) through residual layers -> (B,width) (after Martinez et al. 2017, with layer norm)."""

    def __init__(self, channels: int, width: int, blocks: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.widen = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)
            )
            for _ in range(blocks)
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)

    def forward(self, feature: Tensor) -> Tensor:
        x = self.widen(feature)
        for block in self.blocks:
            x = x + block(x)
        return self.norm(x)


def between(straight: BodyEstimate, mirrored: BodyEstimate, points: Tensor, mirrored_points: Tensor) -> BodyEstimate:
    """The mean of what a crop and its mirror image tell. Where they face opposite ways the mean would face sideways:
    there the one of the two whose left goes better with the hips of its own `points` (B,57,3)."""
    one, other = (torch.cat([e.global_orient[:, None], e.body_pose], 1) for e in (straight, mirrored))
    other = mirrored_pose(other, SMPL_24.mirror)
    opposite = (one[:, 0] * other[:, 0]).sum((1, 2)) < 1  # The trace of the turn between: more than 90 degrees.
    surer = _faces_as(straight, points) < _faces_as(mirrored, mirrored_points)
    share = torch.where(opposite, surer.to(one.dtype), 0.5)[:, None]
    camera = mirrored.crop_camera * mirrored.crop_camera.new_tensor([1.0, -1.0, 1.0])
    pose = project_to_rotation(torch.lerp(one, other, share[..., None, None]))
    betas, camera = torch.lerp(straight.betas, mirrored.betas, share), torch.lerp(straight.crop_camera, camera, share)
    return BodyEstimate(pose[:, 0], pose[:, 1:], betas, camera)


def _faces_as(estimate: BodyEstimate, points: Tensor) -> Tensor:
    """Cosine (B,) between the body's left and the way from the right hip to the left."""
    left, right = SMPL_24.indices("left_hip", "right_hip")
    return torch.cosine_similarity(estimate.global_orient[:, :, 0], points[:, left] - points[:, right])


def build(name: str, backbone: str = "embedded", hidden: int = 1024) -> HmrRegressor:
    """An untrained regressor; `hidden` is the width of its encoder and head."""
    trunk = load_backbone(backbone)
    if not isinstance(trunk, EmbeddedBackbone):
        return HmrRegressor(name, trunk, IefHead(trunk.global_channels, hidden))
    return HmrRegressor(name, trunk, IefHead(hidden, hidden), Encoder(trunk.global_channels, hidden))


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
    regressor = HmrRegressor(name, trunk, head)
    regressor.shape_space = "smpl"
    return regressor
