"""GLNet: a body estimated from the global feature, corrected by the cell of a grid that sees it best.

Source: Xiao et al., Global-to-Pixel Regression for Human Mesh Recovery. The global feature gives shape, camera and base
rotations (section 3.2); every cell of a grid proposes keypoints, a score, and a residual of the rotations from the
features at its parts' adaptive points (section 3.3, `hmrkit.regressors.glnet_cells`). The cell of the highest score is
chosen (section 3.4). People without maps keep the global estimate.

Departures: the grid has stride 16, not 4; the residual's layer sees the base estimate beside the local features;
residuals are computed for the cells that need them, which gives the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features, load_backbone
from hmrkit.blazepose.integral_head import BodyPoints
from hmrkit.body import load_body
from hmrkit.geometry import rotation_from_6d
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.encoder import Encoder
from hmrkit.regressors.files import load_trained
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.regressors.glnet_cells import PARTS, Cells, LocalEncoding
from hmrkit.regressors.ief import CAMERA, SHAPE, IefHead, standing_pose
from hmrkit.regressors.swing_twist import SwingTwist

Rotations = Literal["direct", "swing-twist"]


@dataclass(frozen=True)
class GlnetNetwork:
    """What the network is: `build` makes it, weights files hold it.

    `hidden` is the width of encoder and head, `cells` that of the grid's features. `rotations`: regressed as they are,
    or as twists to the swings that joints give. `local`: features at adaptive points, of the cell alone, or no grid at
    all. `refined`: what the residual corrects. `framing`, `flip`, `shape_space`: see `HmrNetwork`.
    """

    backbone: str = "embedded"
    hidden: int = 832
    cells: int = 96
    rotations: Rotations = "swing-twist"
    local: Literal["points", "cell", "none"] = "points"
    refined: Literal["rotations", "rotations+shape", "rotations+shape+camera"] = "rotations"
    framing: Literal["upright", "box"] = "upright"
    flip: bool = True
    shape_space: Literal["hmrkit", "smpl"] = "hmrkit"


class DirectRotations(nn.Module):
    """A pose (N,144) of 24 rotations in 6D -> matrices. It has the methods of `SwingTwist`."""

    initial: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("initial", standing_pose(), persistent=False)

    def anchored(self, pose: Tensor, points: BodyPoints | None) -> Tensor:
        """The pose itself: rotations need no joints."""
        return pose

    def forward(self, pose: Tensor, betas: Tensor) -> Tensor:
        """(N,144) -> (N,24,3,3), the root's in the crop's camera."""
        return rotation_from_6d(pose.float().unflatten(1, (24, 6)), "interleaved")


class GlnetRegressor(FrameRegressor):
    """See `hmrkit.regressors.frame.FrameRegressor`; `network` says what it consists of.

    A body's parameters are a row: its pose (`SwingTwist`, `DirectRotations`), 10 betas, s, tx, ty. `regress` does the
    whole; training calls its parts, because it wants the estimates of many cells.
    """

    def __init__(self, name: str, network: GlnetNetwork, backbone: Any) -> None:
        super().__init__(name, backbone, network.framing, network.shape_space, network.flip, standardise=True)
        self.network = network
        self.encoder = Encoder(backbone.global_channels, network.hidden)
        self.rotations = SwingTwist(load_body()) if network.rotations == "swing-twist" else DirectRotations()
        self.head = IefHead(network.hidden, network.hidden, init_pose=self.rotations.initial)
        # A new network begins with the joints that the backbone knows, and with their body for every cell.
        nn.init.zeros_(self.head.decpose.bias)
        if network.local == "none":
            return
        two_hops = network.local == "points"
        self.cells = LocalEncoding(backbone.map_strides, backbone.map_channels, network.cells, two_hops)
        pose = len(self.rotations.initial)
        refined = pose + SHAPE * ("shape" in network.refined) + CAMERA * ("camera" in network.refined)
        seen = (1 + len(PARTS)) * network.cells + pose + SHAPE + CAMERA
        self.residual = nn.Sequential(
            nn.Linear(seen, 2 * network.cells), nn.ReLU(), nn.Linear(2 * network.cells, refined)
        )
        nn.init.zeros_(self.residual[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.residual[-1].bias)  # type: ignore[arg-type]

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        base = self.base(features)
        if not self.refines(features):
            return self.bodies(base)
        cells = self.cells(features.maps)
        return self.bodies(self.refined(base, cells, cells.best())[:, 0])

    def refines(self, features: Features) -> bool:
        """Whether the grid has a part in these features' estimates."""
        return bool(features.maps) and self.network.local != "none"

    def base(self, features: Features) -> Tensor:
        """The global estimate: parameters (B,P)."""
        pose, betas, camera = self.head.feedback(self.encoder(self.standardised(features.global_feature)))
        return torch.cat([self.rotations.anchored(pose.float(), features.points), betas.float(), camera.float()], 1)

    def refined(self, base: Tensor, cells: Cells, chosen: Tensor) -> Tensor:
        """The estimates (B,K,P) of `chosen` cells (B,K): theta = theta_b + theta_r, the residual from a cell's parts'
        features."""
        base = base[:, None].expand(-1, chosen.shape[1], -1)
        residual = self.residual(torch.cat([cells.gathered(chosen), base], 2)).float()
        return torch.cat([base[..., : residual.shape[2]] + residual, base[..., residual.shape[2] :]], 2)

    def bodies(self, parameters: Tensor) -> BodyEstimate:
        """Parameters (N,P) -> bodies."""
        pose, betas, camera = parameters.split((parameters.shape[1] - SHAPE - CAMERA, SHAPE, CAMERA), 1)
        rotations = self.rotations(pose, betas)
        return BodyEstimate(rotations[:, 0], rotations[:, 1:], betas, camera)


def build(name: str, network: GlnetNetwork | None = None, weights: str | None = None) -> GlnetRegressor:
    """An untrained regressor; by default on the embedded backbone, with its `weights`: None or those that ship."""
    network = network or GlnetNetwork()
    return GlnetRegressor(name, network, load_backbone(network.backbone, weights=weights))


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> GlnetRegressor:
    """See `hmrkit.regressors.load_regressor`. There is no published checkpoint."""
    regressor = load_trained(name, checkpoint, build, GlnetNetwork, GlnetNetwork, weights, backbone)
    return regressor.eval().requires_grad_(False).to(device)
