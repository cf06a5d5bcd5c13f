"""PARE: each joint reads its features where attention to its body part lies (Kocabas et al. 2021).

HRNet's four maps, brought to the finest one's size, go through two branches: one predicts a map of attention for each
of SMPL's 24 parts, the other features. The softmax of a part's map over all places weighs the features (eq. 3), so a
joint that is hidden is read from what is seen around it. A layer of its own takes each joint's feature to its 6D
rotation; shape and camera are read from all joints' features. The published checkpoint was first trained with part
segmentations: its attention then has a 25th map, the first, for the background, which is not read.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features
from hmrkit.backbones.hrnet import HRNet
from hmrkit.backbones.published import initialise, part_of
from hmrkit.geometry import rotation_from_6d
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.files import refuse_other_backbone
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.skeletons import SMPL_24
from hmrkit.weights import load_into, load_state, verify

log = logging.getLogger(__name__)

BACKBONE, HRNET_WIDTH = "hrnet-w32", 32
PARTS = len(SMPL_24.joints)
WIDTH, SHAPE_WIDTH = 128, 64  # channels of the branches, and of what shape and camera read
_LANDMARK, _ATTENTION = "head.pose_mlp.weight", "head.keypoint_final_layer.weight"
_BACKBONE, _UPSAMPLING, _HEAD = "backbone.", "backbone.upsample_stage_", "head."
# Keypoints of the backbone's authors, their temperature, mean parameters that nothing is added to, and SMPL's arrays:
# inference reads none of them.
_PASSED_OVER = ("backbone.final_layer.", "head.temperature", "head.init_", "smpl.")


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class Upsampling(nn.Module):
    """Maps, each half as fine as the one before it -> all of them at the size of the first (B,sum of channels,h,w)."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        for steps, width in enumerate(channels[1:], 1):
            layers = [
                layer
                for _ in range(steps)
                for layer in (
                    nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
                    *_convolution(width, width),
                )
            ]
            self.add_module(f"upsample_stage_{steps + 1}", nn.Sequential(*layers))
        initialise(self)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        coarser = zip(self.children(), maps[1:], strict=True)
        return torch.cat([maps[0], *(step(x) for step, x in coarser)], 1)


class JointLayers(nn.Module):
    """A linear layer for each joint, without bias: features (B,C,J) -> (B,6,J).

    `weight` (1,6,C,J,1,1) is that of a locally connected layer over J rows and one column, as the checkpoint has it.
    """

    def __init__(self, channels: int, joints: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 6, channels, joints, 1, 1) / channels**0.5)

    def forward(self, features: Tensor) -> Tensor:
        return torch.einsum("ocj,bcj->boj", self.weight[0, ..., 0, 0], features)


class PareHead(nn.Module):
    """Joined maps (B,480,h,w) -> bodies. `attention_maps`: 24 parts, or 25 with the background ahead of them."""

    def __init__(self, channels: int, attention_maps: int = PARTS + 1) -> None:
        super().__init__()
        self.keypoint_deconv_layers, self.smpl_deconv_layers = (
            nn.Sequential(*_convolution(channels, WIDTH), *_convolution(WIDTH, WIDTH)) for _ in range(2)
        )
        self.keypoint_final_layer = nn.Conv2d(WIDTH, attention_maps, 1)
        self.smpl_final_layer = nn.Conv2d(WIDTH, SHAPE_WIDTH, 1)
        self.shape_mlp, self.cam_mlp = (nn.Linear(PARTS * SHAPE_WIDTH, count) for count in (10, 3))
        self.pose_mlp = JointLayers(WIDTH, PARTS)
        nn.init.xavier_uniform_(self.cam_mlp.weight, gain=0.01)
        with torch.no_grad():
            self.cam_mlp.bias.copy_(torch.tensor([0.9, 0.0, 0.0]))

    def forward(self, joined: Tensor) -> BodyEstimate:
        attention, features = self.attention(joined), self.smpl_deconv_layers(joined)
        pose = self.pose_mlp(attended(features, attention)).float().mT
        whole = attended(self.smpl_final_layer(features), attention).flatten(1)
        rotations = rotation_from_6d(pose, "interleaved")
        return BodyEstimate(
            rotations[:, 0], rotations[:, 1:], self.shape_mlp(whole).float(), self.cam_mlp(whole).float()
        )

    def attention(self, joined: Tensor) -> Tensor:
        """(B,24,h,w), how much of each joint's feature comes from each place; the places of a joint sum to one."""
        maps = self.keypoint_final_layer(self.keypoint_deconv_layers(joined))[:, -PARTS:]
        return maps.flatten(2).softmax(-1).view_as(maps)


def attended(features: Tensor, attention: Tensor) -> Tensor:
    """Features (B,C,h,w) and attention (B,J,h,w) -> the features of each joint (B,C,J), eq. 3."""
    return features.flatten(2) @ attention.flatten(2).mT


class PareRegressor(FrameRegressor):
    """See `hmrkit.regressors.frame.FrameRegressor`."""

    def __init__(self, name: str, backbone: Any, attention_maps: int = PARTS + 1) -> None:
        super().__init__(name, backbone, framing="box", shape_space="smpl")
        self.upsampling = Upsampling(backbone.map_channels)
        self.head = PareHead(sum(backbone.map_channels), attention_maps)

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        return self.head(self.upsampling(features.maps))


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> PareRegressor:
    """See `hmrkit.regressors.load_regressor`; without a checkpoint an untrained one."""
    if checkpoint is None:
        regressor = PareRegressor(name, HRNet(HRNET_WIDTH, head=False))
    else:
        refuse_other_backbone(checkpoint, BACKBONE, backbone)
        regressor = _published(name, checkpoint)
    return regressor.eval().requires_grad_(False).to(device)


def _published(name: str, path: str | Path) -> PareRegressor:
    """The network of a published checkpoint, whose tensors stand below ``model.`` or at top level."""
    state = part_of(load_state(path), _LANDMARK, "the published PARE", path)
    unused = [key for key in state if key.startswith(_PASSED_OVER)]
    log.info("%s: passed over %d tensors that inference does not read: %s", path, len(unused), ", ".join(unused))
    attention = state.get(_ATTENTION, torch.empty(PARTS + 1))
    regressor = PareRegressor(name, HRNet(HRNET_WIDTH, head=False), max(len(attention), PARTS))
    parts: dict[str, dict[str, Tensor]] = {"backbone": {}, "upsampling": {}, "head": {}}
    for key, value in state.items():
        if key in unused:
            continue
        if key.startswith(_UPSAMPLING):
            parts["upsampling"][key.removeprefix(_BACKBONE)] = value
        elif key.startswith(_BACKBONE):
            parts["backbone"][key.removeprefix(_BACKBONE)] = value
        else:
            parts["head"][key.removeprefix(_HEAD)] = value
    for part, tensors in parts.items():
        load_into(regressor.get_submodule(part), tensors, path)
    regressor.weights_sha256 = verify(path)
    return regressor
