"""DaNet's IUV maps (Zhang et al. 2020, sections 4.1 and 4.2): estimated, cropped about joints, cleaned, dropped.

IUV maps are (...,3,1+P,h,w): U, V and Index in the order of the published network, one channel for the background and
one for each of P parts.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.regressors.danet_graph import JOINTS

INDEX = 2
Drop = Literal["none", "part", "block", "unit"]
# A block covers 7 of 56 cells of a map's side (section 5.4.3), on small maps at least 3 cells: one would be Dropout.
BLOCK_SHARE, SMALLEST_BLOCK = 1 / 8, 3
HEAT_SHARPNESS = 10.0


class BasicBlock(nn.Module):
    """ResNet's block of two 3 x 3 convolutions, perhaps in groups: (B,inputs,h,w) -> (B,outputs,h/stride,w/stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, groups=groups, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(out + self.downsample(x))


def convolution(inputs: int, outputs: int, size: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Estimator(nn.Module):
    """A backbone's maps at strides s and 2 s -> a feature map at s/2 (B,width/2,2h,2w), from which all else is read.

    `global_maps` makes the IUV maps (B,3,1+P,2h,2w), `heat` a heatmap a joint (B,24,2h,2w), `partial_maps` the IUV maps
    (B,24,3,kept,r,r) of each joint's crop, all joints in one convolution of 24 groups.
    """

    def __init__(self, fine: int, coarse: int, width: int, classes: int, kept: int) -> None:
        super().__init__()
        self.from_fine, self.from_coarse = convolution(fine, width), convolution(coarse, width)
        self.trunk = nn.Sequential(convolution(width, width, 3), convolution(width, width, 3))
        # Four cells for one: a finer map than the backbone's, without a convolution on it.
        half = width // 2
        self.finer = nn.Sequential(nn.Conv2d(width, 4 * half, 1), nn.PixelShuffle(2), nn.BatchNorm2d(half), nn.ReLU())
        self.predict_iuv, self.predict_heat = nn.Conv2d(half, 3 * classes, 1), nn.Conv2d(half, JOINTS, 1)
        self.predict_partial = nn.Conv2d(JOINTS * half, JOINTS * 3 * kept, 1, groups=JOINTS)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        whole = functional.interpolate(self.from_coarse(coarse), fine.shape[-2:], mode="bilinear", align_corners=False)
        return self.finer(self.trunk(self.from_fine(fine) + whole))

    def global_maps(self, feature: Tensor) -> Tensor:
        return self.predict_iuv(feature).float().unflatten(1, (3, -1))

    def heat(self, feature: Tensor) -> Tensor:
        return self.predict_heat(feature).float()

    def partial_maps(self, crops: Tensor) -> Tensor:
        """`crops` (B,24,C,r,r)."""
        return self.predict_partial(crops.flatten(1, 2)).float().unflatten(1, (JOINTS, 3, -1))


def soft_argmax(heat: Tensor) -> Tensor:
    """Expectation (B,J,2) of x and y, in indices of cells, under heatmaps (B,J,h,w)."""
    share = (HEAT_SHARPNESS * heat).flatten(2).softmax(-1).view_as(heat)
    x = torch.arange(heat.shape[-1], device=heat.device, dtype=heat.dtype)
    y = torch.arange(heat.shape[-2], device=heat.device, dtype=heat.dtype)
    return torch.stack([(share.sum(2) * x).sum(-1), (share.sum(3) * y).sum(-1)], -1)


def cell_centres(count: int, device: torch.device) -> Tensor:
    """Of `count` cells side by side over [-1, 1]."""
    return (2 * torch.arange(count, device=device) + 1) / count - 1


def soft_maps(raw: Tensor) -> Tensor:
    """Estimated maps with Index as probabilities, U and V weighted by them.

    The published network takes the likeliest class instead (`clean_maps`), through which no gradient reaches the index.
    """
    u, v, index = raw.unbind(-4)
    share = index.softmax(-3)
    return torch.stack([u * share, v * share, share], -4)


def clean_maps(raw: Tensor) -> Tensor:
    """Estimated maps with Index one-hot at the likeliest class, U and V only there."""
    u, v, index = raw.unbind(-4)
    chosen = torch.zeros_like(index).scatter_(-3, index.argmax(-3, keepdim=True), 1.0)
    return torch.stack([u * chosen, v * chosen, chosen], -4)


def maps_to_image(raw: Tensor) -> Tensor:
    """Estimated maps (B,3,1+P,h,w) -> (B,h,w,3): the likeliest part, 0 for background, and U, V of it there."""
    u, v, index = raw.unbind(1)
    part = index.argmax(1, keepdim=True)
    uv = [(values.gather(1, part) * (part > 0))[:, 0] for values in (u, v)]
    return torch.stack([part[:, 0].to(raw.dtype), *uv], -1)


def foreground_side(maps: Tensor) -> Tensor:
    """max(w_bbox, h_bbox) of eq. 2 (B,) as shares of the map's side, from maps (B,3,1+P,h,w) after `soft_maps`.

    Where nothing is foreground, as early in training, it is the whole map."""
    seen = maps[:, INDEX, 0] < 0.5
    seen = seen | ~seen.flatten(1).any(1)[:, None, None]

    def extent(line: Tensor) -> Tensor:
        at = torch.arange(line.shape[1], device=line.device)
        last = torch.where(line, at + 1, 0).amax(1)
        return (last - torch.where(line, at, last[:, None]).amin(1)) / line.shape[1]

    return torch.maximum(extent(seen.any(1)), extent(seen.any(2)))


def crop_about(
    maps: Tensor, centre: Tensor, scale: Tensor, size: int, mode: str = "bilinear", aligned: bool = False
) -> Tensor:
    """The spatial transformer: maps (B,C,h,w) in squares about 24 joints -> (B,24,C,size,size), zero outside.

    `centre` (B,24,2) with the map's edges at -1 and 1; `scale` (B,24), a square's side as a share of the map's.
    `aligned`: -1 and 1 are the middles of the outermost cells instead, as in PyTorch 1.1.
    """
    step = torch.linspace(-1, 1, size, device=maps.device) if aligned else cell_centres(size, maps.device)
    offset = torch.stack(torch.meshgrid(step, step, indexing="xy"), -1)
    grid = centre[:, :, None, None] + scale[..., None, None, None] * offset
    found = functional.grid_sample(maps, grid.flatten(1, 2), mode=mode, align_corners=aligned)
    return found.unflatten(2, (JOINTS, size)).transpose(1, 2)


class DropParts:
    """What is dropped from B bodies' IUV maps in training: PartDrop (eq. 5), DropBlock or Dropout, at a `rate`.

    PartDrop leaves the same parts out of the global and the partial maps. The others count foreground cells only."""

    def __init__(self, kind: Drop, rate: float, batch: int, parts: int, device: torch.device) -> None:
        self.kind, self.rate = kind, rate
        self.kept = torch.ones(batch, 1 + parts, device=device)
        if kind == "part":
            self.kept[:, 1:] = (torch.rand(batch, parts, device=device) >= rate).float()

    def __call__(self, maps: Tensor, retained: Tensor | None = None) -> Tensor:
        """Maps (B,3,1+P,h,w), or partial ones (B,24,3,kept,r,r) whose channels are the parts `retained` (24,kept)."""
        if self.kind == "none":
            return maps
        if self.kind == "part":
            kept = self.kept if retained is None else self.kept[:, retained]
            return maps * kept[..., None, :, None, None]
        cells = maps.new_empty(*maps.shape[:-4], 1, *maps.shape[-2:])
        mask = self._cells_kept(cells)[..., None, :, :]
        return torch.cat([maps[..., :1, :, :], maps[..., 1:, :, :] * mask], -3)

    def _cells_kept(self, cells: Tensor) -> Tensor:
        side = 1 if self.kind == "unit" else max(SMALLEST_BLOCK, round(BLOCK_SHARE * cells.shape[-1])) | 1
        seeds = (torch.rand(cells.shape, device=cells.device) < self.rate / side**2).float()
        dropped = functional.max_pool2d(seeds.flatten(0, -4) if seeds.ndim > 4 else seeds, side, 1, side // 2)
        return 1 - dropped.view(cells.shape)
