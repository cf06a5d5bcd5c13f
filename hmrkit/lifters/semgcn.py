"""Lifting by semantic graph convolutions (Zhao et al. 2019, Semantic graph convolutional networks for 3D human pose
regression): each frame alone, on the graph of Human3.6M's 16 joints, whose edges have learned weights.

`SemGCN` is the paper's network, with and without its non-local layers, in the published tensors' names and shapes.
Published checkpoints read screen coordinates (`hmrkit.lifters.screen_lifter`). Our own weights are the same network
behind ray features (`RaySemGCN`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from hmrkit.errors import WeightsError
from hmrkit.files import sha256_of
from hmrkit.lifters.ray_lifter import RayNetwork, load_ray_lifter
from hmrkit.lifters.rays import FEATURES
from hmrkit.lifters.screen_lifter import ScreenLifter, ScreenNetwork
from hmrkit.skeletons import COCO_17, H36M_16
from hmrkit.weights import find_weights, load_into, load_state

if TYPE_CHECKING:
    from hmrkit.lifters import Lifter

DEFAULT_WEIGHTS = "lifter/semgcn.safetensors"

JOINTS = len(H36M_16)
# Bones in both directions and every joint to itself, row by row: the order of the learned edge weights.
EDGES = sorted([*H36M_16.bones, *((b, a) for a, b in H36M_16.bones), *((joint, joint) for joint in range(JOINTS))])
# Joints in pairs of neighbours: the non-local layer pools each pair.
_PAIRS = (
    *("right_knee", "right_ankle", "left_knee", "left_ankle", "right_hip", "left_hip", "pelvis", "spine"),
    *("thorax", "head_top", "right_elbow", "right_wrist"),
    *("left_elbow", "left_wrist", "left_shoulder", "right_shoulder"),
)
_PAIRED = H36M_16.indices(*_PAIRS)
_IN_ORDER = [_PAIRED.index(joint) for joint in range(JOINTS)]


@dataclass(frozen=True)
class SemGCNSize:
    """What `SemGCN` is built from: `width` features a joint, `blocks` residual blocks, and whether a non-local layer
    follows each of them and the first layer."""

    width: int = 128
    blocks: int = 4
    non_local: bool = True


class SemanticConv(nn.Module):
    """Semantic graph convolution, (B,16,I) -> (B,16,O): the paper's eq. 3 with a second matrix for a joint itself.

    The weights of a joint's edges are a softmax over `e`, one number an edge. `W[0]` maps the joint's own features,
    `W[1]` its neighbours'.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.stack([nn.init.xavier_uniform_(torch.empty(inputs, outputs)) for _ in range(2)]))
        self.e = nn.Parameter(torch.ones(1, len(EDGES)))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = zip(*EDGES, strict=True)
        edges = self.e.new_full((JOINTS, JOINTS), -torch.inf)
        edges[list(rows), list(columns)] = self.e[0]
        edges = edges.softmax(-1)
        own = edges.diagonal()
        return own[:, None] * (x @ self.W[0]) + (edges - own.diag()) @ (x @ self.W[1]) + self.bias


class GraphLayer(nn.Module):
    """Graph convolution, normalisation of each feature, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.gconv, self.bn = SemanticConv(inputs, outputs), nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return _normalised(self.bn, self.gconv(x)).relu()


class ResidualBlock(nn.Module):
    """Two graph layers beside a straight path."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gconv1, self.gconv2 = GraphLayer(width, width), GraphLayer(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gconv2(self.gconv1(x))


class NonLocal(nn.Module):
    """Every joint adds what it reads from all pairs of joints (Wang et al. 2018, Non-local neural networks, the
    concatenation form, without softmax). A new one adds nothing yet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 2
        self.g = nn.Sequential(nn.Conv1d(width, inner, 1))
        self.theta = nn.Conv1d(width, inner, 1)
        self.phi = nn.Sequential(nn.Conv1d(width, inner, 1))
        self.concat_project = nn.Sequential(nn.Conv2d(2 * inner, 1, 1, bias=False))
        self.W = nn.Sequential(nn.Conv1d(inner, width, 1), nn.BatchNorm1d(width))
        nn.init.zeros_(self.W.get_parameter("1.weight"))

    def forward(self, x: Tensor) -> Tensor:
        y = x[:, _PAIRED]
        values, keys = (_mapped(conv[0], y).unflatten(1, (-1, 2)).amax(2) for conv in (self.g, self.phi))
        # The projection of a joint's and a pair's features side by side is the sum of their own projections.
        projection: Any = self.concat_project[0]
        of_joint, of_pair = projection.weight.flatten().chunk(2)
        score = ((_mapped(self.theta, y) @ of_joint)[:, :, None] + (keys @ of_pair)[:, None]).relu() / keys.shape[1]
        return (y + _normalised(self.W[1], _mapped(self.W[0], score @ values)))[:, _IN_ORDER]


def _mapped(conv: Any, x: Tensor) -> Tensor:
    """A convolution over one joint at a time of features (B,16,I), as a linear layer, which is faster on a CPU."""
    return linear(x, conv.weight.flatten(1), conv.bias)


def _normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """Batch normalisation of each feature (B,16,C) over people and joints."""
    return norm(x.flatten(0, 1)).view_as(x)


class NonLocalLayer(nn.Module):
    """`NonLocal` under the published name, which is a keyword of Python."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.add_module("nonlocal", NonLocal(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule("nonlocal")(x)


class SemGCN(ScreenNetwork):
    """Features (B,T,16,`channels`) of `H36M_16` -> joints (B,T,16,3); in published checkpoints two screen coordinates
    -> m, not yet about the pelvis. Each frame alone."""

    def __init__(self, size: SemGCNSize, channels: int = 2) -> None:
        super().__init__()
        self.channels = channels

        def followed(layer: nn.Module) -> list[nn.Module]:
            return [layer, NonLocalLayer(size.width)] if size.non_local else [layer]

        self.gconv_input = nn.Sequential(*followed(GraphLayer(channels, size.width)))
        blocks = [layer for _ in range(size.blocks) for layer in followed(ResidualBlock(size.width))]
        self.gconv_layers = nn.Sequential(*blocks)
        self.gconv_output = SemanticConv(size.width, 3)
        with torch.no_grad():
            self.gconv_output.W.mul_(0.1)  # a new network starts with a pose of a person's size, not of several

    @classmethod
    def for_state(cls, state: dict[str, Tensor]) -> SemGCN:
        """The network whose tensors these are."""
        channels, width = state["gconv_input.0.gconv.W"].shape[1:]
        blocks = sum(key.endswith(".gconv1.gconv.W") for key in state)
        return cls(SemGCNSize(width, blocks, any(".nonlocal." in key for key in state)), channels)

    @property
    def receptive_field(self) -> int:
        return 1

    def forward(self, x: Tensor) -> Tensor:
        frames = x.flatten(0, 1)
        return self.gconv_output(self.gconv_layers(self.gconv_input(frames))).unflatten(0, x.shape[:2])


# What a joint of the graph reads of COCO's keypoints, where it is none of them: the mean of those that are seen.
_HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_TRUNK = ("left_hip", "right_hip", "left_shoulder", "right_shoulder")
_SOURCES = {"pelvis": _TRUNK[:2], "thorax": _TRUNK[2:], "spine": _TRUNK, "head_top": _HEAD}
_SHARES = [
    [(name in _SOURCES.get(joint, (joint,))) / len(_SOURCES.get(joint, (joint,))) for name in COCO_17.joints]
    for joint in H36M_16.joints
]
_EXTRAS = FEATURES - 3 * len(COCO_17)


class RaySemGCN(RayNetwork):
    """`SemGCN` on ray features: a joint has its place and confidence, and what the features say of the whole frame."""

    output_skeleton = H36M_16

    def __init__(self, size: SemGCNSize) -> None:
        super().__init__()
        self.graph = SemGCN(size, 3 + _EXTRAS)

    @property
    def receptive_field(self) -> int:
        return 1

    def forward(self, features: Tensor) -> Tensor:
        keypoints = features[..., :-_EXTRAS].unflatten(-1, (len(COCO_17), 3))
        shares = features.new_tensor(_SHARES) * keypoints[..., None, :, 2]
        confidence = shares.sum(-1, keepdim=True)
        place = shares @ keypoints[..., :2] / confidence.clamp_min(1e-6)
        frame = features[..., None, -_EXTRAS:].expand(*place.shape[:-1], -1)
        joints = self.graph(torch.cat([place, confidence, frame], -1)).float()
        return joints - joints[..., :1, :]


def load(checkpoint: str | Path | None = None, *, device: torch.device | str = "cpu") -> Lifter:
    """Our weights (default) or a checkpoint, as published or of our recipe; its tensors' names say which.

    WeightsError where the file is neither.
    """
    path = find_weights(checkpoint or DEFAULT_WEIGHTS)
    state = load_state(path)
    if "graph.gconv_input.0.gconv.W" in state:
        return load_ray_lifter(path, lambda sizes: RaySemGCN(SemGCNSize(**sizes)), device)
    if "gconv_input.0.gconv.W" not in state:
        raise WeightsError(f"{path}: wanted a SemGCN checkpoint, found {', '.join(list(state)[:4])}")
    network = SemGCN.for_state(state)
    if network.channels != 2:
        raise WeightsError(f"{path}: wanted a SemGCN that reads x and y of a joint, found {network.channels} inputs")
    load_into(network, state, path)
    return ScreenLifter(network, H36M_16, H36M_16, sha256_of(path), device)
