"""HKMR: a body's pose in kinematic chains, refined along each chain and from the root chain outwards.

Source: Georgakis et al. 2020, Hierarchical kinematic human mesh recovery. The root chain (trunk) comes first; head,
arms and legs depend on it. Chains refine their rotations in inner iterations (`hmrkit.regressors.hkmr_chains`); shape
and camera are estimated anew after each outer iteration. The pose prior serves training only
(`hmrkit.training.pose_vae`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features, load_backbone
from hmrkit.geometry import rotation_from_6d, rotation_to_6d
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.encoder import Encoder
from hmrkit.regressors.files import load_trained
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.regressors.hkmr_chains import DEPENDENT_CHAINS, ROOT_CHAIN, SIZE, ChainGroup

BETAS, CAMERA = 10, 3


@dataclass(frozen=True)
class HkmrNetwork:
    """What the network is: `build` makes it, weights files hold it.

    `hidden` is the width of the encoder, `embedding` that of the chains' embeddings and of the networks for shape and
    camera. `encoder`: residual layers between feature and chains, which read the feature standardised. `inner` counts
    the passes along a chain, `outer` the rounds over all chains. The paper's ablations: without `joint_hierarchy` a
    joint depends on its predecessor alone; without `backward` all passes are forward ones. `flip`: the crop and its
    mirror image are averaged. `framing` and `shape_space`: see `hmrkit.regressors.Regressor`.
    """

    backbone: str = "embedded"
    hidden: int = 768
    embedding: int = 256
    encoder: bool = True
    inner: int = 4
    outer: int = 3
    joint_hierarchy: bool = True
    backward: bool = True
    framing: Literal["upright", "box"] = "upright"
    flip: bool = True
    shape_space: Literal["hmrkit", "smpl"] = "hmrkit"


# The form on each backbone; those that are not named have `_PLAIN`, the paper's: chains directly on the feature.
_FORMS = {"embedded": HkmrNetwork()}
_PLAIN = HkmrNetwork(encoder=False, framing="box", flip=False)


def network_on(backbone: str) -> HkmrNetwork:
    """HKMR's network on a backbone, in the form that it has there."""
    return replace(_FORMS.get(backbone, _PLAIN), backbone=backbone)


@dataclass(frozen=True)
class IteratedEstimate(BodyEstimate):
    """The last outer iteration's bodies, and those of the `earlier` iterations, which training reads."""

    earlier: tuple[BodyEstimate, ...] = ()

    def iterations(self) -> list[BodyEstimate]:
        """The estimates of all outer iterations, in their order."""
        return [*self.earlier, BodyEstimate(self.global_orient, self.body_pose, self.betas, self.crop_camera)]


class HkmrRegressor(FrameRegressor):
    """See `hmrkit.regressors.frame.FrameRegressor`; `network` says what it consists of."""

    mean_pose: Tensor
    mean_camera: Tensor

    def __init__(self, name: str, network: HkmrNetwork, backbone: Any) -> None:
        super().__init__(name, backbone, network.framing, network.shape_space, network.flip, network.encoder)
        self.network = network
        channels = backbone.global_channels
        self.encoder = Encoder(channels, network.hidden) if network.encoder else nn.Identity()
        self.drop = nn.Dropout(0.05)
        width = network.hidden if network.encoder else channels
        options = {"joint_hierarchy": network.joint_hierarchy, "backward": network.backward}
        sizes = width, network.embedding, network.inner
        self.root = ChainGroup([ROOT_CHAIN], *sizes, reads_root=False, **options)
        self.dependent = ChainGroup(list(DEPENDENT_CHAINS.values()), *sizes, reads_root=True, **options)
        self.shape = _estimator(width + 24 * SIZE + BETAS, network.embedding, BETAS)
        self.camera = _estimator(width + 24 * SIZE + BETAS, network.embedding, CAMERA)
        # Standing before the camera: the body's y points up, the camera's down.
        rest = torch.eye(3).repeat(24, 1, 1)
        rest[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        self.register_buffer("mean_pose", rotation_to_6d(rest, "columns"), persistent=False)
        self.register_buffer("mean_camera", torch.tensor([0.9, 0.0, 0.0]), persistent=False)

    def regress(self, features: Features, context: CropContext | None = None) -> IteratedEstimate:
        feature = features.global_feature
        if self.network.encoder:
            feature = self.drop(self.encoder(self.standardised(feature)))
        pose = self.mean_pose.expand(len(feature), -1, -1)
        betas = self.mean_pose.new_zeros(len(feature), BETAS)
        for_root, for_dependent = self.root.read(feature), self.dependent.read(feature)
        estimates = []
        for _ in range(self.network.outer):
            pose = self.root(for_root, betas, pose)
            pose = self.dependent(for_dependent, betas, pose)
            theta = pose.flatten(1)
            betas = betas + self.shape(torch.cat([feature, theta, betas], 1)).float()
            camera = self.mean_camera + self.camera(torch.cat([feature, theta, betas], 1)).float()
            rotations = rotation_from_6d(pose.float(), "columns")
            estimates.append(BodyEstimate(rotations[:, 0], rotations[:, 1:], betas, camera))
        return IteratedEstimate(**vars(estimates[-1]), earlier=tuple(estimates[:-1]))


def _estimator(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """The network that estimates shape or camera from feature, pose and shape; its first answers are near zero."""
    last = nn.Linear(hidden, outputs)
    nn.init.xavier_uniform_(last.weight, gain=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), last)


def build(name: str, network: HkmrNetwork | None = None, weights: str | None = None) -> HkmrRegressor:
    """An untrained regressor; by default on the embedded backbone, with its `weights`: None or those that ship."""
    network = network or HkmrNetwork()
    return HkmrRegressor(name, network, load_backbone(network.backbone, weights=weights))


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> HkmrRegressor:
    """See `hmrkit.regressors.load_regressor`. The paper's authors have published no checkpoint."""
    regressor = load_trained(name, checkpoint, build, HkmrNetwork, network_on, weights, backbone)
    return regressor.eval().requires_grad_(False).to(device)
