"""BlazePose with the integral head on its maps, as one network: what keypoints and regressors read in inference."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hmrkit.blazepose.integral_head import BodyPoints, IntegralHead, load_body_points
from hmrkit.blazepose.network import MASK_LAYERS, BlazePose, BlazePoseOutput, load_network


class PoseMaps(NamedTuple):
    """Of B crops: `landmarks` (B,39,5), `world` (B,39,3), `presence` (B,) and `heatmaps` (B,39,64,64) as of
    `BlazePoseOutput`; BlazePose's maps `branch`, `first32` and `merged`; the head's `stride32` and its `BodyPoints`."""

    landmarks: Tensor
    world: Tensor
    presence: Tensor
    heatmaps: Tensor
    branch: Tensor
    first32: Tensor
    merged: Tensor
    stride32: Tensor
    points_2d: Tensor
    points_world: Tensor
    spread: Tensor

    @property
    def output(self) -> BlazePoseOutput:
        return BlazePoseOutput(self.landmarks, self.world, self.presence, self.heatmaps)

    @property
    def points(self) -> BodyPoints:
        return BodyPoints(self.points_2d, self.points_world, self.spread)


class BlazePoseWithPoints(nn.Module):
    """Crops (B,3,256,256) RGB in [0, 1] -> `PoseMaps`."""

    def __init__(self, network: BlazePose, integral: IntegralHead) -> None:
        super().__init__()
        self.network, self.integral = network, integral

    def forward(self, crops: Tensor) -> PoseMaps:
        lower = self.network.lower(crops)
        output = self.network.upper(lower, heatmaps=True)
        stride32 = self.integral.last_blocks(lower.first32)
        points = self.integral.points(lower.branch, stride32)
        assert output.heatmaps is not None
        return PoseMaps(
            output.landmarks, output.world, output.presence, output.heatmaps, lower.branch, lower.first32, lower.merged,
            stride32, points.points_2d, points.world, points.spread,
        )  # fmt: skip


def load_with_points(device: str | torch.device = "cpu") -> BlazePoseWithPoints:
    """Both networks that ship, on `device`, ready for inference."""
    return BlazePoseWithPoints(load_network(device, without=MASK_LAYERS), load_body_points(device)).eval()
