"""DaNet (Zhang et al. 2020): IUV maps between image and body, a global stream and a local stream for each joint.

Here the global stream also reads the backbone's global feature, by HMR's feedback: it estimates a whole body, which
people without images can teach. The local streams correct its rotations; without maps they add nothing. IUV maps are
those of the free body's own parts (`hmrkit.synthetic.iuv`): part k + 1 belongs to joint k.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features, load_backbone
from hmrkit.geometry import orthonormal_frame
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.danet_graph import JOINTS, JointHeads, Mode, Refined, Refinement, nearest_joints
from hmrkit.regressors.danet_iuv import (
    INDEX,
    BasicBlock,
    Drop,
    DropParts,
    Estimator,
    convolution,
    crop_about,
    foreground_side,
    maps_to_image,
    soft_argmax,
    soft_maps,
)
from hmrkit.regressors.danet_published import LANDMARK, PublishedDanet, published
from hmrkit.regressors.encoder import Encoder
from hmrkit.regressors.files import load_trained, refuse_other_backbone
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.regressors.ief import IefHead
from hmrkit.weights import load_state, verify

PARTS = JOINTS
DELTA = 0.1  # of eq. 2
EQUAL_SCALE = 0.5  # alpha_k of D-Net-ES, and where learned ones start
# Jitter of RoIs in training (section 5.1): of centres in halves of the crop, of scales in parts.
CENTRE_JITTER, SCALE_JITTER = 0.04, 0.1
CONTEXT = 32  # numbers of the global stream's code that each joint sees


@dataclass(frozen=True)
class DanetNetwork:
    """What the network is: `build` makes it, weights files hold it.

    `hidden` is the width of the global stream, `channels` that of the IUV estimator, `features` C of a joint's rotation
    feature, `roi` the side of partial maps in cells, `kept` how many parts a simplified partial map keeps. The
    paper's variants: `streams` (table 8), `representation` of the body that the streams read (table 7), `scales`
    alpha_k learned or equal and `simplify` (table 8), `refinement` (table 9), `learned_edges` (table 10), `drop` at
    `drop_rate` (section 5.4.3), `rotations` as 6D numbers or matrices (table 2). `framing`, `flip`, `shape_space`: as
    `hmrkit.regressors.hmr.HmrNetwork`.
    """

    backbone: str = "embedded"
    hidden: int = 704
    channels: int = 64
    features: int = 48
    roi: int = 8
    kept: int = 6
    streams: Literal["decomposed", "global"] = "decomposed"
    representation: Literal["iuv", "segmentation", "features"] = "iuv"
    scales: Literal["learned", "equal"] = "learned"
    simplify: bool = True
    refinement: Mode = "position"
    learned_edges: bool = True
    drop: Drop = "part"
    drop_rate: float = 0.3
    rotations: Literal["6d", "matrix"] = "6d"
    framing: Literal["upright", "box"] = "upright"
    flip: bool = True
    shape_space: Literal["hmrkit", "smpl"] = "hmrkit"


@dataclass(frozen=True)
class Dense:
    """The intermediate representation of B crops: IUV maps as estimated (`raw`, Index in logits) and as they are read
    (`maps`), (B,3,25,h,w); joints' `heat` (B,24,h,w) and `joints` (B,24,2), the crop's edges at -1 and 1; `feature`
    (B,C,h,w), from which all of them come."""

    feature: Tensor
    raw: Tensor
    maps: Tensor
    heat: Tensor
    joints: Tensor


@dataclass(frozen=True)
class Streams:
    """All that training looks at. `columns` (B,24,3,2|3): rotations before they are made orthogonal. Without maps the
    rest is None. `centre`, `scale`: of the RoIs; `partial`: their IUV maps as estimated (B,24,3,kept,r,r); `early`: the
    body with rotations from unrefined features; `positions` (B,24,3) m that position features predict."""

    estimate: BodyEstimate
    columns: Tensor
    dense: Dense | None = None
    centre: Tensor | None = None
    scale: Tensor | None = None
    partial: Tensor | None = None
    early: BodyEstimate | None = None
    positions: tuple[Tensor, ...] = ()


class GlobalStream(nn.Module):
    """Maps (B,C,h,w) of the whole body -> corrections (B,outputs); nothing at first."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution(inputs, 24), BasicBlock(24, 32, 2), BasicBlock(32, 64, 2))
        self.final = nn.Linear(64, outputs)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias)

    def forward(self, maps: Tensor) -> Tensor:
        return self.final(self.layers(maps).mean((2, 3)))


class LocalStreams(nn.Module):
    """Partial IUV maps (B,24,3,kept,r,r) -> rotation features X (B,24,C): a network that all joints share, in one
    batch, then a residual layer of each joint's own, in 24 groups (section 4.2)."""

    def __init__(self, kept: int, features: int, width: int = 32) -> None:
        super().__init__()
        self.limbs = BasicBlock(3 * kept, width, 2)
        self.joints = BasicBlock(JOINTS * width, JOINTS * features, 2, groups=JOINTS)

    def forward(self, partial: Tensor) -> Tensor:
        shared = self.limbs(partial.flatten(0, 1).flatten(1, 2)).unflatten(0, (-1, JOINTS))
        return self.joints(shared.flatten(1, 2)).mean((2, 3)).unflatten(1, (JOINTS, -1))


class DanetRegressor(FrameRegressor):
    """See `hmrkit.regressors.frame.FrameRegressor`; `network` says what it consists of."""

    retained: Tensor

    def __init__(self, name: str, network: DanetNetwork, backbone: Any) -> None:
        super().__init__(name, backbone, network.framing, network.shape_space, network.flip, standardise=True)
        self.network = network
        self.encoder = Encoder(backbone.global_channels, network.hidden)
        self.head = IefHead(network.hidden, network.hidden)
        self._numbers = 6 if network.rotations == "6d" else 9
        parts = network.kept if network.simplify else PARTS
        # The channels of joint k's partial maps: background, then its own part and those nearest along the skeleton.
        near = torch.tensor([list(row) for row in nearest_joints(parts)]) + 1
        self.register_buffer("retained", torch.cat([torch.zeros_like(near[:, :1]), near], 1), persistent=False)
        fine, coarse = backbone.map_channels[-2:]
        self.estimator = Estimator(fine, coarse, network.channels, 1 + PARTS, 1 + parts)
        inputs = {"iuv": 3 * (1 + PARTS), "segmentation": 1 + PARTS, "features": network.channels // 2}
        outputs = 13 + (0 if network.streams == "decomposed" else JOINTS * self._numbers)
        self.global_stream = GlobalStream(inputs[network.representation], outputs)
        if network.streams == "global":
            return
        self.alpha = nn.Parameter(torch.full((JOINTS,), EQUAL_SCALE), requires_grad=network.scales == "learned")
        self.local_streams = LocalStreams(1 + parts, network.features)
        self.code = nn.Linear(network.hidden, CONTEXT)
        self.from_global = JointHeads(CONTEXT + 6, network.features)
        self.refinement = Refinement(network.features, self._numbers, network.refinement, network.learned_edges)
        for head in self.refinement.pose_regressors:
            assert isinstance(head, JointHeads)
            nn.init.zeros_(head[1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(head[1].bias)  # type: ignore[arg-type]

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        return self.streams(features).estimate

    def streams(self, features: Features) -> Streams:
        """Everything on the way from features to bodies."""
        code = self.encoder(self.standardised(features.global_feature))
        first = self.head(code)
        rotations = torch.cat([first.global_orient[:, None], first.body_pose], 1)
        columns = rotations[..., : self._numbers // 3]
        if not features.maps:
            return Streams(first, columns)
        dense = self.dense(features)
        drop = self._drop(len(rotations), rotations.device)
        correction = self.global_stream(self._read(dense, drop)).float()
        shape, camera = first.betas + correction[:, :10], first.crop_camera + correction[:, 10:13]
        if self.network.streams == "global":
            columns = columns + correction[:, 13:].view_as(columns)
            return Streams(_body(columns, shape, camera), columns, dense)

        centre, scale = self.regions(dense)
        partial = self.estimator.partial_maps(crop_about(dense.feature, centre, scale, self.network.roi))
        found = self.local_streams(drop(soft_maps(partial), self.retained))
        known = torch.cat([self.code(code)[:, None].expand(-1, JOINTS, -1), rotations[..., :2].flatten(2)], -1)
        found = found + self.from_global(known).relu()
        refined: Refined = self.refinement(found)
        before, after = (
            columns + head(x).float().view_as(columns)
            for head, x in zip(self.refinement.pose_regressors, (found, refined.features), strict=True)
        )
        positions = tuple(self.refinement.positions(refined))
        early = _body(before, shape, camera)
        return Streams(_body(after, shape, camera), after, dense, centre, scale, partial, early, positions)

    def dense(self, features: Features) -> Dense:
        """Global IUV maps and joints (section 4.1), from the two coarsest maps of a backbone."""
        feature = self.estimator(*features.maps[-2:])
        raw, heat = self.estimator.global_maps(feature), self.estimator.heat(feature)
        size = heat.new_tensor(heat.shape[:-3:-1])
        return Dense(feature, raw, soft_maps(raw), heat, (2 * soft_argmax(heat) + 1) / size - 1)

    def iuv_images(self, features: Features) -> Tensor:
        """Estimated part (joint + 1, 0 for background), U and V (B,h,w,3) of crops; for images of them."""
        return maps_to_image(self.dense(features).raw)

    def regions(self, dense: Dense) -> tuple[Tensor, Tensor]:
        """Centres (B,24,2) and scales (B,24) of the joints' RoIs, eq. 2; jittered in training (section 5.1)."""
        centre = dense.joints
        scale = self.alpha * foreground_side(dense.maps)[:, None] + DELTA
        if self.training:
            centre = centre + CENTRE_JITTER * torch.randn_like(centre)
            scale = scale * (1 + SCALE_JITTER * torch.randn_like(scale))
        return centre, scale

    def _read(self, dense: Dense, drop: DropParts) -> Tensor:
        """The representation (B,C,h,w) that the global stream reads (table 7)."""
        if self.network.representation == "features":
            return dense.feature
        maps = drop(dense.maps)
        return maps.flatten(1, 2) if self.network.representation == "iuv" else maps[:, INDEX]

    def _drop(self, batch: int, device: torch.device) -> DropParts:
        kind: Drop = self.network.drop if self.training else "none"
        return DropParts(kind, self.network.drop_rate, batch, PARTS, device)


def _body(columns: Tensor, betas: Tensor, camera: Tensor) -> BodyEstimate:
    """Bodies from two or three columns (B,24,3,2|3) of each joint's rotation; the first two decide it."""
    rotations = orthonormal_frame(columns[..., 0], columns[..., 1])
    return BodyEstimate(rotations[:, 0], rotations[:, 1:], betas, camera)


def build(name: str, network: DanetNetwork | None = None, weights: str | None = None) -> DanetRegressor:
    """An untrained regressor; by default on the embedded backbone, with its `weights`: None or those that ship."""
    network = network or DanetNetwork()
    return DanetRegressor(name, network, load_backbone(network.backbone, weights=weights))


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> DanetRegressor | PublishedDanet:
    """See `hmrkit.regressors.load_regressor`. The checkpoint: a file of `hmrkit train`, or the published one."""
    state = load_state(checkpoint) if checkpoint else {}
    if checkpoint and LANDMARK in state:
        refuse_other_backbone(checkpoint, "hrnet-w48", backbone)
        regressor = published(name, state, checkpoint)
        regressor.weights_sha256 = verify(checkpoint)
    else:
        regressor = load_trained(name, checkpoint, build, DanetNetwork, _on, weights, backbone)
    return regressor.eval().requires_grad_(False).to(device)


def _on(backbone: str) -> DanetNetwork:
    """The network on a backbone: on others than the embedded one, crops are as the published networks have them."""
    return DanetNetwork() if backbone == "embedded" else DanetNetwork(backbone, framing="box", flip=False)
