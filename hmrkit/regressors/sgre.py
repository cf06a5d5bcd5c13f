"""SGRE: global rotations estimated along the kinematic tree, each as its parent's plus a residual.

Source: Wang and Zhang 2023, 3D human mesh recovery with sequentially global rotation estimation. A relative rotation
passes its error on to all joints below; a global one does not. The published network has ResNet-50's pooled map as its
global feature. Here residual layers stand between the backbone's global feature and the branches, as in
`hmrkit.regressors.hmr`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones import Features, load_backbone
from hmrkit.body.landmarks import local_from_world
from hmrkit.errors import UsageError
from hmrkit.geometry import rotation_from_6d
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.encoder import Encoder
from hmrkit.regressors.files import SHIPPED, load_trained, refuse_other_backbone
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.regressors.sgre_branches import JOINTS, JointBranches
from hmrkit.regressors.sgre_published import LANDMARK, PublishedSgre
from hmrkit.regressors.soft_argmax import expected_cell, volume_softmax
from hmrkit.weights import load_into, load_state, verify

DEPTHS = 8  # cells of the joints' volume along z


@dataclass(frozen=True)
class SgreNetwork:
    """What the network is: `build` makes it, weights files hold it.

    `hidden` is the width of the global stream, `branch` that of a joint's branch, `local` that of its local feature.
    `rotations`, `sequential` and `local_features` are the paper's ablations: relative or global baseline have neither
    of the two parts, Relative++ has both. `joint_heads`: the network finds the joints itself, for backbones that
    know no points. `framing` and `shape_space`: see `hmrkit.regressors.Regressor`; `flip`: the crop and its mirror
    image are averaged.
    """

    backbone: str = "embedded"
    hidden: int = 768
    branch: int = 96
    local: int = 64
    rotations: Literal["global", "relative"] = "global"
    sequential: bool = True
    local_features: bool = True
    joint_heads: bool = False
    framing: Literal["upright", "box"] = "upright"
    flip: bool = True
    shape_space: Literal["hmrkit", "smpl"] = "hmrkit"


def network_on(backbone: str) -> SgreNetwork:
    """SGRE's network on a backbone; all but the embedded one need joint heads."""
    return replace(SgreNetwork(), backbone=backbone, joint_heads=backbone != "embedded")


class JointHeads(nn.Module):
    """The coarsest map (B,C,h,w) -> joints (B,24,3): x, y from -1 to 1 over the crop, z in m from the pelvis."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heat = nn.Conv2d(channels, JOINTS * DEPTHS, 1)

    def forward(self, coarse: Tensor) -> Tensor:
        volume = self.heat(coarse).unflatten(1, (JOINTS, DEPTHS))
        size = torch.tensor(volume.shape[:1:-1], device=coarse.device)  # w, h, D
        return (expected_cell(volume_softmax(volume)) + 0.5) * 2 / size - 1


class LocalFeatures(nn.Module):
    """The two coarsest maps at the places of the joints (section 3.2, local feature enhancement) -> (24,B,width)."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(count) for count in channels)
        self.mix = nn.Linear(sum(channels), width)

    def forward(self, maps: tuple[Tensor, ...], places: Tensor) -> Tensor:
        """`places` (B,24,2), from -1 to 1 over the crop."""
        sampled = [
            norm(functional.grid_sample(at.float(), places[:, :, None], align_corners=False)[..., 0].permute(2, 0, 1))
            for norm, at in zip(self.norms, maps, strict=True)
        ]
        return functional.relu(self.mix(torch.cat(sampled, -1)))


class SgreRegressor(FrameRegressor):
    """See `hmrkit.regressors.frame.FrameRegressor`; `network` says what it consists of.

    Where features have no maps, the global feature is all that the branches read. Maps are counted from the coarsest:
    kept examples lack the finest one.
    """

    def __init__(self, name: str, network: SgreNetwork, backbone: Any) -> None:
        super().__init__(name, backbone, network.framing, network.shape_space, network.flip, standardise=True)
        self.network = network
        local = network.local if network.local_features else 0
        self.encoder = Encoder(backbone.global_channels, network.hidden)
        self.local = LocalFeatures(backbone.map_channels[-2:], local) if local else None
        self.heads = JointHeads(backbone.map_channels[-1]) if local and network.joint_heads else None
        self.branches = JointBranches(network.hidden, local, network.branch, network.rotations, network.sequential)
        self.shape, self.camera = nn.Linear(network.hidden, 10), nn.Linear(network.hidden, 3)
        for layer, start in ((self.shape, torch.zeros(10)), (self.camera, torch.tensor([0.9, 0.0, 0.0]))):
            nn.init.xavier_uniform_(layer.weight, gain=0.01)
            layer.bias.data.copy_(start)

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        return self.regress_at(features, self.joints(features))

    def joints(self, features: Features) -> Tensor | None:
        """Where the joints lie (B,24,3): x, y from -1 to 1 over the crop, z in m from the pelvis, by the network's own
        heads or the backbone; None where no map is read. UsageError where neither knows."""
        if self.local is None or not features.maps:
            return None
        if self.heads is not None:
            return self.heads(features.maps[-1])
        if features.points is None:
            raise UsageError(f"backbone {self.network.backbone} knows no points; sgre needs joint_heads on it")
        points = features.points
        return torch.cat([points.points_2d[:, :JOINTS], points.world[:, :JOINTS, 2:]], -1)

    def regress_at(self, features: Features, joints: Tensor | None) -> BodyEstimate:
        """Bodies from features and `joints`, which `joints` found."""
        feature = self.encoder(self.standardised(features.global_feature))
        local = None
        if self.local is not None and joints is not None:
            local = self.local(features.maps[-2:], joints[..., :2])
        rotations = rotation_from_6d(self.branches(feature, local), "interleaved")
        if self.network.rotations == "global":
            # In the autocast of training the product would be bfloat16, which is no rotation.
            with torch.autocast(rotations.device.type, enabled=False):
                rotations = local_from_world(rotations)  # eq. 10
        return BodyEstimate(
            rotations[:, 0], rotations[:, 1:], self.shape(feature).float(), self.camera(feature).float()
        )


def build(name: str, network: SgreNetwork | None = None, weights: str | None = None) -> SgreRegressor:
    """An untrained regressor; by default on the embedded backbone, with its `weights`: None or those that ship."""
    network = network or SgreNetwork()
    return SgreRegressor(name, network, load_backbone(network.backbone, weights=weights))


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> SgreRegressor | PublishedSgre:
    """See `hmrkit.regressors.load_regressor`."""
    regressor: SgreRegressor | PublishedSgre
    path = checkpoint or SHIPPED.format(name)
    state = load_state(path) if checkpoint or weights else {}
    if LANDMARK in state:
        refuse_other_backbone(path, "resnet50", backbone)
        regressor = PublishedSgre(name)
        # The body comes from elsewhere here.
        load_into(regressor, {k: v for k, v in state.items() if not k.startswith("human_model_layer.")}, path)
        regressor.weights_sha256 = verify(path)
    else:
        regressor = load_trained(name, checkpoint, build, SgreNetwork, network_on, weights, backbone)
    return regressor.eval().requires_grad_(False).to(device)
