"""HRNet (Sun et al. 2019) under its authors' key names, which PARE, CLIFF and DaNet keep.

Three forms of it are published, and a checkpoint says which one it is by its keys:

- classification (ImageNet, CLIFF): a head joins the four maps to a global feature of 2048 channels;
- all four maps, no such head (PARE);
- pose (the authors' keypoint networks, DaNet): the last exchange between resolutions makes the finest map only. The
  coarser three are then those that went into it.

Without the head the global feature is the means of the four maps side by side: 15 w channels.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones import CropImages, Features
from hmrkit.backbones.published import ImageNetNormalisation, initialise, load_part, part_of
from hmrkit.backbones.resnet import bottlenecks
from hmrkit.errors import WeightsError
from hmrkit.weights import load_state

_LANDMARK = "stage4.2.branches.3.3.conv2.weight"
_WIDTH_KEY, _HEAD_KEY = "transition1.0.0.weight", "incre_modules.0.0.conv1.weight"
_COARSE_KEYS = "stage4.2.fuse_layers.1."
_HEAD_PLANES = (32, 64, 128, 256)


def _convolution(inputs: int, outputs: int, *, size: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), *([nn.ReLU()] if relu else []))


class BasicBlock(nn.Module):
    """(B,c,h,w) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + x)


class Exchange(nn.Module):
    """Four blocks at each resolution, then every output is the sum of all resolutions, brought to its own.

    `channels` of the maps, finest first; `outputs`: so many of the finest are made, the others pass without exchange.
    """

    def __init__(self, channels: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(4))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_bring(channels, source, target) for source in range(len(channels)))
            for target in range(outputs)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        joined: list[Tensor] = []
        for row in self.fuse_layers:
            assert isinstance(row, nn.ModuleList)
            total = row[0](maps[0])
            for bring, x in zip(row[1:], maps[1:], strict=True):
                total = total + bring(x)
            joined.append(functional.relu(total))
        return joined + maps[len(joined) :]


def _bring(channels: tuple[int, ...], source: int, target: int) -> nn.Module:
    """A map of resolution `source` to the resolution and channels of `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        smaller = _convolution(channels[source], channels[target], size=1, relu=False)
        return nn.Sequential(*smaller, nn.Upsample(scale_factor=2 ** (source - target)))
    steps = [_convolution(channels[source], channels[source], stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, _convolution(channels[source], channels[target], stride=2, relu=False))


def _stage(channels: tuple[int, ...], modules: int, last_outputs: int | None = None) -> nn.Sequential:
    """`modules` exchanges in a row."""
    outputs = [len(channels)] * (modules - 1) + [last_outputs or len(channels)]
    return nn.Sequential(*(Exchange(channels, made) for made in outputs))


def _transition(inputs: int, channels: tuple[int, ...]) -> nn.ModuleList:
    """One more resolution: all maps but the last pass, the last is made from the coarsest there is."""
    coarser = nn.Sequential(_convolution(inputs, channels[-1], stride=2))
    return nn.ModuleList([*(nn.Identity() for _ in channels[:-1]), coarser])


class HRNet(nn.Module):
    """See `hmrkit.backbones.Backbone`. `width` w: maps of w, 2 w, 4 w, 8 w channels; `head` and `coarse_outputs` say
    which published form it has (this module's text). Crops may have any height and width that 32 divides."""

    input_size = (224, 224)
    map_strides = (4, 8, 16, 32)
    observation = CropImages

    def __init__(self, width: int, head: bool = True, coarse_outputs: bool = True) -> None:
        super().__init__()
        channels = (width, 2 * width, 4 * width, 8 * width)
        self.map_channels = channels
        self.global_channels = 2048 if head else sum(channels)
        self.normalise = ImageNetNormalisation()
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = bottlenecks(64, 64, 4)
        self.transition1 = _transition(256, channels[:2])
        self.transition1[0] = _convolution(256, width)
        self.stage2 = _stage(channels[:2], 1)
        self.transition2 = _transition(channels[1], channels[:3])
        self.stage3 = _stage(channels[:3], 4)
        self.transition3 = _transition(channels[2], channels)
        self.stage4 = _stage(channels, 3, last_outputs=4 if coarse_outputs else 1)
        self.head = head
        if head:
            wide = [4 * planes for planes in _HEAD_PLANES]
            self.incre_modules = nn.ModuleList(
                bottlenecks(inputs, planes, 1) for inputs, planes in zip(channels, _HEAD_PLANES, strict=True)
            )
            self.downsamp_modules = nn.ModuleList(
                nn.Sequential(nn.Conv2d(fine, coarse, 3, 2, 1), nn.BatchNorm2d(coarse), nn.ReLU())
                for fine, coarse in pairwise(wide)
            )
            self.final_layer = nn.Sequential(nn.Conv2d(wide[-1], 2048, 1), nn.BatchNorm2d(2048), nn.ReLU())
        initialise(self)

    def encode(self, crops: Tensor) -> CropImages:
        return CropImages(crops)

    def forward(self, crops: Tensor) -> Features:
        return self.features(self.encode(crops))

    def use_engine(self) -> None:
        """It has no graph: PyTorch runs it."""

    def features(self, observation: CropImages) -> Features:
        x = functional.relu(self.bn1(self.conv1(self.normalise(observation.images))))
        x = functional.relu(self.bn2(self.conv2(x)))
        maps = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            maps = stage([step(x) for step, x in zip(transition, [*maps, maps[-1]], strict=True)])
        return Features(self._global(maps), tuple(maps))

    def _global(self, maps: list[Tensor]) -> Tensor:
        if not self.head:
            return torch.cat([x.mean((2, 3)) for x in maps], 1)
        joined = self.incre_modules[0](maps[0])
        for wider, down, x in zip(self.incre_modules[1:], self.downsamp_modules, maps[1:], strict=True):
            joined = wider(x) + down(joined)
        return self.final_layer(joined).mean((2, 3))


def load(
    name: str, checkpoint: str | Path | None, *, device: str | torch.device, weights: str | None = "default"
) -> HRNet:
    """See `hmrkit.backbones.load_backbone`. The form follows the checkpoint; without one it is classification."""
    width = int(name.removeprefix("hrnet-w"))
    if checkpoint is None:
        return HRNet(width).eval().to(device)
    part = part_of(load_state(checkpoint), _LANDMARK, "an HRNet", checkpoint)
    found = len(part.get(_WIDTH_KEY, ()))
    if found not in (0, width):
        raise WeightsError(f"{checkpoint}: wanted {name}, found an HRNet-W{found}; name backbone hrnet-w{found}")
    backbone = HRNet(width, _HEAD_KEY in part, any(key.startswith(_COARSE_KEYS) for key in part))
    load_part(backbone, part, checkpoint)
    return backbone.eval().to(device)
