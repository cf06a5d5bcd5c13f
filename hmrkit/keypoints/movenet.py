"""MoveNet thunder, single pose: COCO's 17 keypoints of the person in the middle of a crop, as a plain module.

Source: https://blog.tensorflow.org/2021/05/next-generation-pose-detection-with-movenet-and-tensorflowjs.html and the
graph ``movenet/singlepose/thunder/4`` (Google, Apache-2.0), batch norms folded in. It is CenterNet (Zhou et al. 2019,
"Objects as Points", arXiv 1904.07850) on MobileNetV2 of width 1.75 with a feature pyramid that ends at stride 4: a map
of where people are, for every cell the way from a person's centre to each of their joints, a heatmap a joint, and the
way from a heatmap's cell to the joint itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.weights import load_into, load_state

WEIGHTS = "keypoints/movenet_thunder.safetensors"
JOINTS = 17
STRIDE = 4  # px of the crop that a cell of the heads stands for

# MobileNetV2 at width 1.75: channels, blocks, stride of the first block. The block before these does not widen.
_STAGES = ((40, 2, 2), (56, 3, 2), (112, 4, 2), (168, 3, 1), (280, 3, 2), (560, 1, 1))
_FIRST, _LAST = 32, 1280
# Blocks after which the pyramid takes the map, the finest first, and how wide it makes it.
_TAPS = {2: 24, 5: 32, 9: 64}
_PYRAMID = 24
_HEAD = 96
# Cells: how slowly the weight of a candidate falls with its distance from where it is expected.
_FALLOFF = 1.8


@dataclass(frozen=True)
class MoveNetMaps:
    """What the heads say about B crops, h = H / 4, w = W / 4. Pairs are y, x in cells.

    `center` (B,1,h,w) and `heatmaps` (B,17,h,w) are logits; `regression` (B,34,h,w) leads from a cell that is a
    person's centre to each joint, `offsets` (B,34,h,w) from the cell that holds a joint to the joint.
    """

    center: Tensor
    heatmaps: Tensor
    regression: Tensor
    offsets: Tensor


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018): widen, filter each channel, narrow, add where the shape allows."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, factor: int = 6) -> None:
        super().__init__()
        hidden = inputs * factor
        self.expand = nn.Conv2d(inputs, hidden, 1) if factor > 1 else None
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 2 - stride, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.stride, self.shortcut = stride, inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else functional.relu6(self.expand(x), inplace=True)
        if self.stride == 2:
            hidden = _pad_end(hidden)
        out = self.project(functional.relu6(self.depthwise(hidden), inplace=True))
        return out.add_(x) if self.shortcut else out


class Separable(nn.Module):
    """A 3 x 3 convolution of each channel by itself, a 1 x 1 convolution across channels, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.pointwise(self.depthwise(x)), inplace=True)


class MoveNet(nn.Module):
    """Crops (B,3,256,256) RGB in [0, 1] -> (B,17,3) float32: x px, y px of the crop, score in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        width = 56
        self.stem = nn.Conv2d(3, width, 3, 2)
        blocks = [InvertedResidual(width, _FIRST, factor=1)]
        width = _FIRST
        taps: list[int] = []
        for channels, count, stride in _STAGES:
            for i in range(count):
                blocks.append(InvertedResidual(width, channels, stride if i == 0 else 1))
                width = channels
                if len(blocks) - 1 in _TAPS:
                    taps.append(width)
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Conv2d(width, _LAST, 1)
        narrow = list(_TAPS.values())
        # Coarsest first, the order in which the pyramid is built.
        self.lateral32 = nn.Conv2d(_LAST, narrow[-1], 1)
        self.lateral = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(taps[::-1], narrow[::-1], strict=True))
        self.merge = nn.ModuleList(Separable(a, b) for a, b in zip(narrow[::-1], (32, 24, _PYRAMID), strict=True))
        self.center = _head(1)
        self.heatmaps = _head(JOINTS)
        self.regression = _head(2 * JOINTS)
        self.offsets = _head(2 * JOINTS)

    def maps(self, crops: Tensor) -> MoveNetMaps:
        """The heads' maps, float32, before a person is read off them."""
        x = crops.to(self.stem.weight.dtype) * 2 - 1
        x = functional.relu6(self.stem(_pad_end(x)), inplace=True)
        tapped = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in _TAPS:
                tapped.append(x)
        merged = self.lateral32(functional.relu6(self.last(x), inplace=True))
        for lateral, merge, finer in zip(self.lateral, self.merge, reversed(tapped), strict=True):
            twice = functional.interpolate(merged, scale_factor=2, mode="bilinear", align_corners=False)
            merged = merge(twice + lateral(finer))
        heads = (self.center, self.heatmaps, self.regression, self.offsets)
        return MoveNetMaps(*(head(merged).float() for head in heads))

    def forward(self, crops: Tensor) -> Tensor:
        return decode(self.maps(crops))


def decode(maps: MoveNetMaps) -> Tensor:
    """The one person of each crop: (B,17,3) x px, y px, score.

    The person is the strongest centre, those near the crop's middle preferred; the centre's regression says roughly
    where each joint is; the joint is the strongest cell of its heatmap, those near that guess preferred.
    """
    batch, _, height, width = maps.center.shape
    rows = torch.arange(height, device=maps.center.device, dtype=torch.float32)[:, None]
    columns = torch.arange(width, device=maps.center.device, dtype=torch.float32)
    from_middle = torch.hypot(rows - height // 2, columns - width // 2)
    person = (maps.center[:, 0].sigmoid() / (from_middle + _FALLOFF)).flatten(1).argmax(1)  # (B,)

    regression = maps.regression.reshape(batch, JOINTS, 2, -1)
    step = regression.take_along_dim(person[:, None, None, None], -1)[..., 0]  # (B,17,2)
    guess = step + torch.stack([person // width, person % width], -1)[:, None]
    from_guess = torch.hypot(rows - guess[..., 0, None, None], columns - guess[..., 1, None, None])
    scores = maps.heatmaps.sigmoid()
    cell = (scores / (from_guess + _FALLOFF)).flatten(2).argmax(2)  # (B,17)

    offsets = maps.offsets.reshape(batch, JOINTS, 2, -1)
    y, x = offsets.take_along_dim(cell[..., None, None], -1)[..., 0].unbind(-1)
    score = scores.flatten(2).take_along_dim(cell[..., None], -1)[..., 0]
    return torch.stack([(cell % width + x) * STRIDE, (cell // width + y) * STRIDE, score], -1)


def load_movenet(device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> MoveNet:
    """The shipped weights on `device` in `dtype` (they are kept as float16, as published), ready for inference."""
    network = MoveNet().eval()
    load_into(network, load_state(WEIGHTS), WEIGHTS)
    return network.to(device, dtype).to(memory_format=torch.channels_last).requires_grad_(False)


def _head(outputs: int) -> nn.Sequential:
    return nn.Sequential(Separable(_PYRAMID, _HEAD), nn.Conv2d(_HEAD, outputs, 1))


def _pad_end(x: Tensor) -> Tensor:
    """TensorFlow pads what a 3 x 3 filter of stride 2 needs on an even map only to the right and below."""
    return functional.pad(x, (0, 1, 0, 1))
