"""DaNet's aggregated refinement (Zhang et al. 2020, section 4.3): rotation features of 24 joints help one another.

Three steps of graph convolutions: rotation features are collected into position features along the kinematic chain,
these are refined among neighbours, and converted back. Key names are those of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from hmrkit.skeletons import SMPL_24

JOINTS = len(SMPL_24)
# Paper, table 9: none; among rotation features; by way of position features, with and without their supervision.
Mode = Literal["none", "direct", "implicit", "position"]


def chain_distances() -> Tensor:
    """Bones (24,24) between each two joints along the kinematic tree."""
    distance = torch.full((JOINTS, JOINTS), float(JOINTS)).fill_diagonal_(0)
    for parent, child in SMPL_24.bones:
        distance[parent, child] = distance[child, parent] = 1
    for via in range(JOINTS):
        distance = torch.minimum(distance, distance[:, via, None] + distance[None, via])
    return distance


def collection_graph() -> Tensor:
    """A^r2p (24,24) of eq. 7: 1 where j is an ancestor of i."""
    graph = torch.zeros(JOINTS, JOINTS)
    for joint, parent in enumerate(SMPL_24.parents):
        if parent >= 0:
            graph[joint] = graph[parent]
            graph[joint, parent] = 1
    return graph


def neighbours() -> Tensor:
    """The graph of eq. 8 without its diagonal (24,24): 1 for joints that one or two bones join, and for the neck with
    the shoulders, which the published network takes for neighbours."""
    graph = (chain_distances() <= 2).float() - torch.eye(JOINTS)
    neck, *shoulders = SMPL_24.indices("neck", "left_shoulder", "right_shoulder")
    graph[neck, shoulders] = graph[shoulders, neck] = 1
    return graph


def conversion_graph() -> Tensor:
    """A^p2r (24,24) of eq. 10: each joint, its parent and its children."""
    return (chain_distances() <= 1).float()


def row_normalised(graph: Tensor) -> Tensor:
    """``D^-1 A``; a row without edges stays zero. The published network has it for both graphs that convert."""
    return graph / graph.sum(-1, keepdim=True).clamp_min(1e-6)


def symmetrically_normalised(graph: Tensor) -> Tensor:
    """``D^-1/2 A D^-1/2`` (below eq. 6), D of the columns as the published network has it."""
    scale = graph.sum(-2).rsqrt()
    return scale[..., :, None] * graph * scale[..., None, :]


class GraphConvolution(nn.Module):
    """``A Z W + b`` inside eq. 6: (B,24,inputs) -> (B,24,outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * (2 / inputs) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, graph: Tensor, features: Tensor) -> Tensor:
        return graph @ features @ self.weight + self.bias


class GraphNetwork(nn.Module):
    """Graph convolutions in a row (eq. 6), each with batch norm, whose channels are the joints, and ReLU."""

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.gc = nn.ModuleList(GraphConvolution(inputs, outputs) for inputs, outputs in pairwise(channels))
        self.act = nn.ModuleList(nn.Sequential(nn.BatchNorm1d(JOINTS), nn.ReLU()) for _ in self.gc)

    def forward(self, graph: Tensor, features: Tensor) -> Tensor:
        for convolution, activation in zip(self.gc, self.act, strict=True):
            features = activation(convolution(graph, features))
        return features


class JointHeads(nn.Sequential):
    """A linear layer for each joint as one convolution in 24 groups: (B,24,inputs) -> (B,24,outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Identity(), nn.Conv2d(JOINTS * inputs, JOINTS * outputs, 1, groups=JOINTS))

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]
        return self[1](features.flatten(1)[..., None, None]).view(len(features), JOINTS, -1)


@dataclass(frozen=True)
class Refined:
    """`features` X^ (B,24,C), and the position features Y, Y~ (B,24,C), where there are any."""

    features: Tensor
    positions: tuple[Tensor, ...] = ()


class Refinement(nn.Module):
    """Rotation features X (B,24,C) -> refined ones (eq. 7 to 10), and the heads on both.

    `pose_regressors` go from X and from X^ to `numbers` of each joint's rotation, `coord_regressors` from Y and Y~ to
    joint positions: these and the first of those are for training only. `learned_edges`: the edge weights M of eq. 9.
    """

    r2p_A: Tensor
    A_mask: Tensor
    p2r_A: Tensor

    def __init__(self, width: int, numbers: int = 6, mode: Mode = "position", learned_edges: bool = True) -> None:
        super().__init__()
        self.mode = mode
        self.register_buffer("r2p_A", row_normalised(collection_graph())[None], persistent=False)
        self.register_buffer("A_mask", neighbours()[None], persistent=False)
        self.register_buffer("p2r_A", row_normalised(conversion_graph())[None], persistent=False)
        self.pose_regressors = nn.ModuleList(JointHeads(width, numbers) for _ in range(2))
        if mode == "none":
            return
        self.edge_importance = nn.Parameter(torch.ones(1, JOINTS, JOINTS), requires_grad=learned_edges)
        # The direct strategy has as many layers as the three steps together.
        inner = [2 * width] * (4 if mode == "direct" else 2)
        self.refine_gcn = GraphNetwork(width, *inner, width)
        if mode != "direct":
            self.r2p_gcn, self.p2r_gcn = GraphNetwork(width, width), GraphNetwork(width, width)
            self.coord_regressors = nn.ModuleList(JointHeads(width, 3) for _ in range(2))

    def refinement_graph(self) -> Tensor:
        """``I + M o A~^rf`` of eq. 9, normalised (1,24,24)."""
        edges = torch.eye(JOINTS, device=self.A_mask.device) + self.A_mask * self.edge_importance.relu()
        return symmetrically_normalised(edges)

    def forward(self, features: Tensor) -> Refined:
        if self.mode == "none":
            return Refined(features)
        if self.mode == "direct":
            return Refined(features + self.refine_gcn(self.refinement_graph(), features))
        collected = self.r2p_gcn(self.r2p_A, features)  # eq. 7
        refined = collected + self.refine_gcn(self.refinement_graph(), collected)  # eq. 8
        return Refined(self.p2r_gcn(self.p2r_A, refined), (collected, refined))  # eq. 10

    def positions(self, refined: Refined) -> list[Tensor]:
        """Joint positions (B,24,3) that Y and Y~ predict; none without position features."""
        if not refined.positions:
            return []
        return [head(features) for head, features in zip(self.coord_regressors, refined.positions, strict=True)]


def nearest_joints(count: int) -> list[Sequence[int]]:
    """For each joint the `count` nearest along the kinematic tree, itself first; of equally near ones the first."""
    return [row.argsort(stable=True)[:count].tolist() for row in chain_distances()]
