"""BlazePose GHUM, heavy: the landmark network of MediaPipe Pose as a plain module.

Source: Bazarevsky et al. 2020 (arXiv 2006.10204) and Grishchenko et al. 2022, "BlazePose GHUM Holistic" (arXiv
2206.11678); the layers are those of ``pose_landmark_heavy.tflite`` in the npm package ``@mediapipe/pose``
(Apache-2.0), with batch norms folded in.

A trunk of inverted residuals gives maps at strides 4, 8, 16 and 32. A small pyramid brings them together at
stride 4, where 39 heatmaps are read off; a regression branch goes down again from there to a 2 x 2 map, from which the
landmarks come. The mask branch goes up to the crop's own size. Submodules are made in the published file's order of
layers: the converter counts on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.weights import load_into, load_state

WEIGHTS = "keypoints/blazepose_heavy.safetensors"  # two shards
CROP_SIZE = 256
LANDMARKS = 39  # 33 of the body, then 2 that say where the next crop goes, then 4 that nobody documents
FEATURE_STRIDES = (4, 8, 16, 32)
FEATURE_CHANNELS = (32, 56, 160, 272)
# Layers of `BlazePose` that masks alone need, and those that landmarks alone need.
MASK_LAYERS = ("mask_join2", "mask_from4", "mask_blocks2", "mask_blocks1", "to_mask")
LANDMARK_LAYERS = (
    *("down8", "blocks8", "join8", "down16", "blocks16", "join16", "down32", "blocks32", "join32"),
    *("down64", "blocks64", "down128", "blocks128", "to_heatmaps", "to_landmarks", "to_world", "to_presence"),
)
TrunkMaps = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # of strides 2, 4, 8, 16, 32


@dataclass(frozen=True)
class BlazePoseOutput:
    """The network's predictions for B crops.

    `landmarks` (B,39,5): x, y, z px of the crop (z is depth about the hips), visibility and presence as logits.
    `world` (B,39,3): metres about the middle of the hips; x right, y down, z away from a camera that looks at the
    crop's centre. `presence` (B,): is there a person, in [0, 1]. `heatmaps` (B,39,64,64) are logits, None unless asked
    for.
    """

    landmarks: Tensor
    world: Tensor
    presence: Tensor
    heatmaps: Tensor | None = None


@dataclass(frozen=True)
class Lower:
    """The lower half's maps: the `trunk`'s of strides 2, 4, 8, 16, 32; `first32` (B,272,8,8), what the first block of
    stride 32 makes; `wide` (B,1632,8,8), the trunk's last map widened; `merged` (B,48,64,64), the pyramid's sum, from
    which heatmaps are read; `branch` (B,192,16,16), the regression branch at stride 16."""

    trunk: TrunkMaps
    first32: Tensor
    wide: Tensor
    merged: Tensor
    branch: Tensor


class Separable(nn.Module):
    """A k x k convolution of each channel by itself, ReLU6, then a 1 x 1 convolution across channels (and ReLU6)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, activate: bool = True) -> None:
        super().__init__()
        # The regression branch pads as TensorFlow does: at stride 2 only to the right and below.
        self.pad_end = stride == 2
        padding = 0 if self.pad_end else kernel // 2
        self.depthwise = nn.Conv2d(inputs, inputs, kernel, stride, padding, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        if self.pad_end:
            x = functional.pad(x, (0, 1, 0, 1))
        x = self.pointwise(functional.relu6(self.depthwise(x), inplace=True))
        return functional.relu6(x, inplace=True) if self.activate else x


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018): widen, filter each channel, narrow, add where the shape allows."""

    def __init__(self, inputs: int, outputs: int, hidden: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.expand = nn.Conv2d(inputs, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu6(self.expand(x), inplace=True)
        out = self.project(functional.relu6(self.depthwise(hidden), inplace=True))
        return out.add_(x) if self.shortcut else out


class BlazeBlock(nn.Module):
    """``relu6(x + separable(x))``; at stride 2 the shortcut is max-pooled, and widened with zeros where it must be."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = Separable(inputs, outputs, stride=stride, activate=False)
        self.stride, self.extra = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.branch(x)
        if self.stride == 2:
            x = functional.max_pool2d(x, 2)
        if self.extra:
            x = functional.pad(x, (0, 0, 0, 0, 0, self.extra))
        return functional.relu6(out.add_(x), inplace=True)


def _stage(inputs: int, outputs: int, first_hidden: int, hidden: tuple[int, ...], kernel: int, stride: int):
    """Inverted residuals: the first changes width and stride, the others keep them."""
    first = InvertedResidual(inputs, outputs, first_hidden, kernel, stride)
    return nn.Sequential(first, *(InvertedResidual(outputs, outputs, wide, kernel) for wide in hidden))


def stage32() -> nn.Sequential:
    """The trunk's last stage, untrained: maps of stride 16 (B,160,h,w) -> of stride 32 (B,272,h/2,w/2)."""
    return _stage(160, 272, 960, (1632,) * 7, kernel=5, stride=2)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(BlazeBlock(channels, channels) for _ in range(count)))


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class BlazePoseTrunk(nn.Module):
    """Crops (B,3,H,W) in [0, 1] -> maps of strides 2, 4, 8, 16, 32 with 24, 32, 56, 160, 272 channels; `first32`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.stem_block = Separable(24, 24, activate=False)
        self.stride4 = _stage(24, 32, 96, (128, 192, 192), kernel=3, stride=2)
        self.stride8 = _stage(32, 56, 192, (336,) * 3, kernel=5, stride=2)
        self.stride16 = nn.Sequential(
            _stage(56, 112, 336, (672,) * 5, kernel=3, stride=2),
            _stage(112, 160, 672, (960,) * 5, kernel=5, stride=1),
        )
        self.stride32 = stage32()

    def forward(self, crops: Tensor) -> tuple[TrunkMaps, Tensor]:
        at2 = self.stem_block(functional.relu6(self.stem(crops), inplace=True))
        at4 = self.stride4(at2)
        at8 = self.stride8(at4)
        at16 = self.stride16(at8)
        first32 = self.stride32[0](at16)
        return (at2, at4, at8, at16, self.stride32[1:](first32)), first32


class BlazePose(nn.Module):
    """Crops (B,3,256,256) RGB in [0, 1] -> `BlazePoseOutput`. Heatmaps are made only when asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = BlazePoseTrunk()
        self.widen = nn.Conv2d(272, 1632, 1)
        self.widen_depthwise = nn.Conv2d(1632, 1632, 3, 1, 1, groups=1632)
        # The pyramid: every map brought to 48 channels.
        self.pyramid32 = Separable(1632, 48)
        self.pyramid16 = Separable(160, 48)
        self.pyramid8 = Separable(56, 48)
        self.pyramid4 = Separable(32, 48)
        # The regression branch, joined at each stride by the trunk's map.
        self.down8 = BlazeBlock(48, 96, 2)
        self.blocks8 = _blocks(96, 6)
        self.join8 = Separable(56, 96)
        self.down16 = BlazeBlock(96, 192, 2)
        self.blocks16 = _blocks(192, 7)
        self.join16 = Separable(160, 192)
        self.down32 = BlazeBlock(192, 288, 2)
        self.blocks32 = _blocks(288, 7)
        self.join32 = Separable(1632, 288)
        self.down64 = BlazeBlock(288, 288, 2)
        self.blocks64 = _blocks(288, 7)
        self.down128 = BlazeBlock(288, 288, 2)
        self.blocks128 = _blocks(288, 7)
        # The mask branch.
        self.mask_join2 = Separable(24, 8)
        self.mask_from4 = Separable(48, 8)
        self.mask_blocks2 = _blocks(8, 2)
        self.mask_blocks1 = _blocks(8, 2)
        # Outputs.
        self.to_mask = nn.Conv2d(8, 1, 3, 1, 1)
        self.to_heatmaps = nn.Conv2d(48, LANDMARKS, 1)
        self.to_landmarks = nn.Conv2d(288, LANDMARKS * 5, 2)
        self.to_world = nn.Conv2d(288, LANDMARKS * 3, 2)
        self.to_presence = nn.Conv2d(288, 1, 2)

    def lower(self, crops: Tensor) -> Lower:
        """What both the landmarks and the backbone of regressors are made from."""
        trunk, first32, wide, merged = self._pyramid(crops)
        branch = self.blocks8(self.down8(merged)).add_(self.join8(trunk[2]))
        branch = self.blocks16(self.down16(branch)).add_(self.join16(trunk[3]))
        return Lower(trunk, first32, wide, merged, branch)

    def upper(self, lower: Lower, heatmaps: bool = False) -> BlazePoseOutput:
        """The predictions made from the maps of `lower`."""
        x = self.blocks32(self.down32(lower.branch)) + self.join32(lower.wide)
        x = self.blocks128(self.down128(self.blocks64(self.down64(x))))
        return BlazePoseOutput(
            landmarks=self.to_landmarks(x).float().reshape(-1, LANDMARKS, 5),
            world=self.to_world(x).float().reshape(-1, LANDMARKS, 3),
            presence=self.to_presence(x).float().sigmoid().flatten(),
            heatmaps=self.to_heatmaps(lower.merged).float() if heatmaps else None,
        )

    def forward(self, crops: Tensor, heatmaps: bool = False) -> BlazePoseOutput:
        return self.upper(self.lower(crops), heatmaps)

    def mask(self, crops: Tensor) -> Tensor:
        """Where the person is in crops (B,3,256,256): logits (B,1,256,256)."""
        trunk, _, _, merged = self._pyramid(crops)
        x = self.mask_blocks2(_twice(self.mask_from4(merged)).add_(self.mask_join2(trunk[0])))
        return self.to_mask(self.mask_blocks1(_twice(x))).float()

    def _pyramid(self, crops: Tensor) -> tuple[TrunkMaps, Tensor, Tensor, Tensor]:
        """`trunk`, `first32`, `wide` and `merged` of `Lower`."""
        trunk, first32 = self.trunk(crops)
        _, at4, at8, at16, at32 = trunk
        wide = functional.relu6(self.widen_depthwise(functional.relu6(self.widen(at32), inplace=True)), inplace=True)
        merged = _twice(self.pyramid32(wide)).add_(self.pyramid16(at16))
        merged = _twice(merged).add_(self.pyramid8(at8))
        return trunk, first32, wide, _twice(merged).add_(self.pyramid4(at4))


class PersonMask(nn.Module):
    """Crops (B,3,256,256) RGB in [0, 1] -> logits (B,1,256,256): `BlazePose.mask` as a network of its own."""

    def __init__(self, network: BlazePose) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: Tensor) -> Tensor:
        return self.network.mask(crops)


def load_network(device: str | torch.device = "cpu", *, without: Sequence[str] = ()) -> BlazePose:
    """The shipped weights on `device`, ready for inference; float32 (they are kept as float16, as published). Layers
    that serve for one thing alone can be left out: `MASK_LAYERS` or `LANDMARK_LAYERS`."""
    model = BlazePose().eval()
    load_into(model, {key: value.float() for key, value in load_state(WEIGHTS).items()}, WEIGHTS)
    for name in without:
        delattr(model, name)
    return model.to(device).to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]


def load_person_mask(device: str | torch.device = "cpu") -> PersonMask:
    """The layers that make masks, ready for inference."""
    return PersonMask(load_network(device, without=LANDMARK_LAYERS)).eval()
