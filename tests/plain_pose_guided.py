"""SGRE's and 3DCrowdNet's network written down flat, one joint and one crop at a time where it is small."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

# Bones and pairs of the 15 joints by number: pelvis, hips, knees, ankles, neck, head, shoulders, elbows, wrists.
_EDGES = (
    (0, 1), (1, 3), (3, 5), (0, 2), (2, 4), (4, 6), (0, 7), (7, 8), (7, 9), (9, 11), (11, 13), (7, 10), (10, 12),
    (12, 14), (1, 2), (3, 4), (5, 6), (9, 10), (11, 12), (13, 14),
)  # fmt: skip


class Plain:
    """What both have, from a checkpoint's tensors."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def normed(self, x: Tensor, key: str) -> Tensor:
        parts = (self.state[f"{key}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *parts, training=False, eps=1e-5)

    def linear(self, x: Tensor, key: str) -> Tensor:
        return x @ self.state[f"{key}.weight"].T + self.state[f"{key}.bias"]

    def conv(self, x: Tensor, key: str, stride: int = 1, padding: int = 0) -> Tensor:
        bias = self.state.get(f"{key}.bias")
        return functional.conv2d(x, self.state[f"{key}.weight"], bias, stride, padding)

    def image_feature(self, crops: Tensor, heat: Tensor) -> Tensor:
        x = functional.relu(self.normed(self.conv(crops, "backbone.conv1", 2, 3), "backbone.bn1"))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        x = self.conv(torch.cat([x, heat], 1), "pose2feat.conv.0", padding=1)
        x = functional.relu(self.normed(x, "pose2feat.conv.1"))
        for layer, blocks in enumerate((3, 4, 6, 3), 1):
            for block in range(blocks):
                key, stride = f"backbone.layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
                y = functional.relu(self.normed(self.conv(x, f"{key}.conv1"), f"{key}.bn1"))
                y = functional.relu(self.normed(self.conv(y, f"{key}.conv2", stride, 1), f"{key}.bn2"))
                y = self.normed(self.conv(y, f"{key}.conv3"), f"{key}.bn3")
                if block == 0:
                    x = self.normed(self.conv(x, f"{key}.downsample.0", stride), f"{key}.downsample.1")
                x = functional.relu(x + y)
        return x

    def joint(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """A joint's volume (8,8,8), depth first -> its mean cell and the heat there, interpolated by hand."""
        heat = volume.exp() / volume.exp().sum()
        cells = [torch.tensor([x, y, z]) for z in range(8) for y in range(8) for x in range(8)]
        at = sum(h * cell for h, cell in zip(heat.flatten(), cells, strict=True))
        score = sum(
            h * (1 - (cell - at).abs()).clamp_min(0).prod() for h, cell in zip(heat.flatten(), cells, strict=True)
        )
        return at, score

    def sample(self, image: Tensor, at: Tensor) -> Tensor:
        x0, y0 = int(at[0]), int(at[1])
        x, y = at[0] - x0, at[1] - y0
        x1, y1 = min(x0 + 1, 7), min(y0 + 1, 7)
        above = (1 - x) * image[:, y0, x0] + x * image[:, y0, x1]
        below = (1 - x) * image[:, y1, x0] + x * image[:, y1, x1]
        return (1 - y) * above + y * below

    def graph_conv(self, nodes: Tensor, key: str) -> Tensor:
        own = [
            self.normed(self.linear(nodes[j][None], f"{key}.fcbn_list.{j}.0"), f"{key}.fcbn_list.{j}.1")[0]
            for j in range(15)
        ]
        beside = [{j, *(b for a, b in _EDGES if a == j), *(a for a, b in _EDGES if b == j)} for j in range(15)]
        return torch.stack([
            sum(own[k] / math.sqrt(len(beside[j]) * len(beside[k])) for k in beside[j]) for j in range(15)
        ]).relu()  # fmt: skip

    def graph(self, every: list[Tensor]) -> Tensor:
        """What is known of the 15 joints (2052) each -> the graph's feature (1920)."""
        nodes = self.graph_conv(torch.stack(every), "rotation_net.graph_block.0")
        for block in range(1, 5):
            key = f"rotation_net.graph_block.{block}"
            nodes = nodes + self.graph_conv(self.graph_conv(nodes, f"{key}.graph_block1"), f"{key}.graph_block2")
        return nodes.flatten()


def rotation(six: Tensor) -> Tensor:
    first, second = six[0::2], six[1::2]
    b1 = first / first.norm()
    b2 = second - (b1 * second).sum() * b1
    b2 = b2 / b2.norm()
    return torch.stack([b1, b2, torch.linalg.cross(b1, b2)], -1)
