"""ResNet-50 (He et al. 2016) under the key names of torchvision, which SPIN, CLIFF and SGRE keep.

The stride of a bottleneck sits in its 3 x 3 convolution, as in torchvision and in all of these (not in the paper).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones import CropImages, Features
from hmrkit.backbones.published import ImageNetNormalisation, initialise, load_part, part_of
from hmrkit.weights import load_state

# ResNet-18 and -34 have no third convolution, the classifier of ImageNet stands beside it.
_LANDMARK = "layer4.2.conv3.weight"


class Bottleneck(nn.Module):
    """(B,inputs,h,w) -> (B,4 x planes,h / stride,w / stride)."""

    def __init__(self, inputs: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = functional.relu(self.bn2(self.conv2(out)))
        return functional.relu(self.bn3(self.conv3(out)) + self.downsample(x))


def bottlenecks(inputs: int, planes: int, count: int, stride: int = 1) -> nn.Sequential:
    """`count` bottlenecks in a row, the first with the stride."""
    rest = (Bottleneck(4 * planes, planes) for _ in range(count - 1))
    return nn.Sequential(Bottleneck(inputs, planes, stride), *rest)


class ResNet50(nn.Module):
    """See `hmrkit.backbones.Backbone`. The global feature is the mean of the coarsest map; 318 tensors."""

    input_size = (224, 224)
    global_channels = 2048
    map_channels = (256, 512, 1024, 2048)
    map_strides = (4, 8, 16, 32)
    observation = CropImages

    def __init__(self) -> None:
        super().__init__()
        self.normalise = ImageNetNormalisation()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = bottlenecks(64, 64, 3)
        self.layer2 = bottlenecks(256, 128, 4, stride=2)
        self.layer3 = bottlenecks(512, 256, 6, stride=2)
        self.layer4 = bottlenecks(1024, 512, 3, stride=2)
        initialise(self)

    def encode(self, crops: Tensor) -> CropImages:
        return CropImages(crops)

    def forward(self, crops: Tensor) -> Features:
        return self.features(self.encode(crops))

    def use_engine(self) -> None:
        """It has no graph: PyTorch runs it."""

    def features(self, observation: CropImages) -> Features:
        maps = self.stages(self.stem(self.normalise(observation.images)))
        return Features(maps[-1].mean((2, 3)), maps)

    def stem(self, images: Tensor) -> Tensor:
        """Normalised images (B,3,H,W) -> (B,64,H / 4,W / 4), the part ahead of the bottlenecks."""
        return functional.max_pool2d(functional.relu(self.bn1(self.conv1(images))), 3, 2, 1)

    def stages(self, x: Tensor) -> tuple[Tensor, ...]:
        """What `stem` returned -> the maps, finest first."""
        maps: list[Tensor] = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return tuple(maps)


def load(
    name: str, checkpoint: str | Path | None, *, device: str | torch.device, weights: str | None = "default"
) -> ResNet50:
    """See `hmrkit.backbones.load_backbone`. The checkpoint: torchvision's, SPIN's, or any with a ResNet-50 inside."""
    backbone = ResNet50()
    if checkpoint is not None:
        load_part(backbone, part_of(load_state(checkpoint), _LANDMARK, "a ResNet-50", checkpoint), checkpoint)
    return backbone.eval().to(device)
