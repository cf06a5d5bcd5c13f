"""SGRE as it was published: 3DCrowdNet's network, guided by 2D joints, with SGRE's sequential rotations.

Source: Wang and Zhang 2023 (SGRE). Module names are those of the checkpoint ``snapshot_10.pth.tar``, 1416 tensors.
What it shares with 3DCrowdNet stands in `hmrkit.regressors.pose_guided`; here joints in 3D are 30, and image features
at SMPL's 24 go to the branches of eq. 11. The published code and this network give the same numbers for the same crop
and heatmaps (``tests/data/sgre_oracle.npz``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmrkit.body.landmarks import local_from_world
from hmrkit.geometry import rotation_from_6d
from hmrkit.regressors.pose_guided import (
    CHANNELS,
    GRAPH_15,
    GRAPH_FEATURE,
    JOINTS_30,
    NODE,
    GraphConv,
    GraphResBlock,
    GuidedRegressor,
    sampled,
)
from hmrkit.skeletons import SMPL_24

LANDMARK = "rotation_net.pose_branch.0.0.weight"  # a tensor that no other checkpoint has
CONFIDENT = 0.05


class RotationNet(nn.Module):
    """Image feature and joints -> global 6D rotations (B,24,6) interleaved, betas (B,10), camera (B,3)."""

    def __init__(self) -> None:
        super().__init__()
        self.graph_block = nn.Sequential(GraphConv(CHANNELS + 4), *(GraphResBlock() for _ in range(4)))
        self.shape_out, self.cam_out, self.global_rot = (
            nn.Sequential(nn.Linear(GRAPH_FEATURE, count)) for count in (10, 3, 6)
        )
        self.pose_branch = nn.ModuleList(
            nn.Sequential(
                nn.Linear(GRAPH_FEATURE + CHANNELS + 6, NODE), nn.ReLU(), nn.Linear(NODE, NODE), nn.ReLU(),
                nn.Linear(NODE, 6),
            )
            for _ in SMPL_24.joints[1:]
        )  # fmt: skip
        self.nodes = JOINTS_30.indices(*GRAPH_15.joints)

    def forward(self, image: Tensor, joints: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        local = sampled(image, joints)
        nodes = torch.cat([local, joints, scores], -1)[:, self.nodes]
        feature = self.graph_block(nodes).flatten(1)
        rotations = [self.global_rot(feature)]
        for (parent, joint), branch in zip(SMPL_24.bones, self.pose_branch, strict=True):
            above = rotations[parent]
            rotations.append(above + branch(torch.cat([feature, local[:, joint], above], 1)))  # eq. 11
        return torch.stack(rotations, 1), self.shape_out(feature), self.cam_out(feature)


class PublishedSgre(GuidedRegressor):
    """See `GuidedRegressor`."""

    def __init__(self, name: str) -> None:
        super().__init__(name, RotationNet(), len(JOINTS_30), CONFIDENT)

    def bodies(self, image: Tensor, joints: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rotations, betas, camera = self.rotation_net(image, joints, scores)
        return local_from_world(rotation_from_6d(rotations, "interleaved")), betas, camera  # eq. 10
