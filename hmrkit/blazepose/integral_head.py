"""The integral head: 57 points of a body, in 2D and 3D, from BlazePose's feature maps.

2D positions are expectations under heatmaps (Sun et al. 2018, Integral human pose regression). 3D positions are maps of
coordinates, averaged under the same heatmaps (Mehta et al. 2017, VNect's location maps). It is the trained part of the
embedded backbone: regressors stand on it, and the keypoints take depth from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.blazepose.network import BlazePose, stage32
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.weights import load_into, load_state

WEIGHTS, PREFIX = "backbones/embedded.safetensors", "integral."
POINTS = len(SMPL_24) + len(BLAZEPOSE_33)


@dataclass(frozen=True)
class BodyPoints:
    """Of B crops the 24 joints of SMPL and BlazePose's 33 landmarks, all where they are on the body.

    `points_2d` (B,57,2) px of a crop of 2 x 2 (its middle is 0, its right and lower edges 1), `world` (B,57,3) m about
    the pelvis in the crop's camera, `spread` (B,57): standard deviation of the heatmap, in units of `points_2d`.
    """

    points_2d: Tensor
    world: Tensor
    spread: Tensor


class SeparableBlock(nn.Module):
    """``x + pointwise(relu(norm(depthwise(x))))`` on maps (B,C,h,w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.pointwise = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        # On CPUs the gradient of a depthwise convolution takes three times as long in bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            y = self.depthwise(x.float())
        y = self.pointwise(functional.relu(self.norm(y.permute(0, 2, 3, 1))))
        return x + y.permute(0, 3, 1, 2).float()


class IntegralHead(nn.Module):
    """BlazePose's maps `branch` (B,192,16,16) and `first32` (B,272,8,8) -> `BodyPoints`.

    `last_blocks` are a tuned copy of BlazePose's last seven blocks, which hold most of the trunk's weights. Maps are
    standardised by mean and scale of each channel, measured once in training (`init_from`).
    """

    fine_mean: Tensor
    fine_scale: Tensor
    coarse_mean: Tensor
    coarse_scale: Tensor
    grid: Tensor

    def __init__(self, fine: int = 192, coarse: int = 272, width: int = 192) -> None:
        super().__init__()
        for name, channels in (("fine", fine), ("coarse", coarse)):
            self.register_buffer(f"{name}_mean", torch.zeros(channels))
            self.register_buffer(f"{name}_scale", torch.ones(channels))
        self.last_blocks = nn.Sequential(*stage32()[1:])
        self.from_fine, self.from_coarse = nn.Linear(fine, width), nn.Linear(coarse, width)
        self.from_whole = nn.Linear(coarse, width)
        self.coarse_blocks = nn.Sequential(*(SeparableBlock(width) for _ in range(5)))
        self.fine_blocks = nn.Sequential(*(SeparableBlock(width) for _ in range(3)))
        self.norm = nn.LayerNorm(width)
        self.heat, self.place = nn.Linear(width, POINTS), nn.Linear(width, 3 * POINTS)
        centres = (torch.arange(16) + 0.5) / 8 - 1
        grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).reshape(-1, 2)
        self.register_buffer("grid", grid, persistent=False)

    def forward(self, branch: Tensor, first32: Tensor) -> BodyPoints:
        return self.points(branch, self.last_blocks(first32))

    def points(self, branch: Tensor, stride32: Tensor) -> BodyPoints:
        """The same from `stride32` (B,272,8,8), the output of `last_blocks`, for callers that need that map too."""
        fine = (branch.permute(0, 2, 3, 1) - self.fine_mean) * self.fine_scale
        coarse = (stride32.permute(0, 2, 3, 1) - self.coarse_mean) * self.coarse_scale
        x = self.from_coarse(coarse) + self.from_whole(coarse.mean((1, 2)))[:, None, None]
        x = functional.interpolate(
            self.coarse_blocks(x.permute(0, 3, 1, 2).float()), scale_factor=2, mode="bilinear", align_corners=False
        )
        x = self.fine_blocks(x + self.from_fine(fine).permute(0, 3, 1, 2).float())
        x = self.norm(x.permute(0, 2, 3, 1).flatten(1, 2))
        heat = self.heat(x).float().softmax(1)[..., None]
        points = (heat * self.grid[:, None]).sum(1)
        variance = (heat * (self.grid[:, None] - points[:, None]).square()).sum((1, 3))
        world = (heat * self.place(x).float().unflatten(-1, (POINTS, 3))).sum(1)
        return BodyPoints(points, world, (variance + 1e-8).sqrt())

    @torch.no_grad()
    def init_from(self, network: BlazePose, branch: Tensor, first32: Tensor) -> None:
        """Copy the last blocks; measure mean and scale on the maps of many crops."""
        for mine, published in zip(self.last_blocks, network.trunk.stride32[1:], strict=True):
            mine.load_state_dict(published.state_dict())
        for name, maps in (("fine", branch), ("coarse", self.last_blocks(first32))):
            getattr(self, f"{name}_mean").copy_(maps.float().mean((0, 2, 3)))
            getattr(self, f"{name}_scale").copy_(1 / maps.float().std((0, 2, 3)).clamp_min(1e-3))


def load_body_points(device: str | torch.device = "cpu") -> IntegralHead:
    """The head that ships, on `device`, ready for inference; float32 (it is kept as float16)."""
    head = IntegralHead().eval()
    load_into(head, {key.removeprefix(PREFIX): value.float() for key, value in load_state(WEIGHTS).items()}, WEIGHTS)
    return head.to(device).requires_grad_(False)
