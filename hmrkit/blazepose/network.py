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

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.weights import load_into, load_state

WEIGHTS = "keypoints/blazepose_heavy.safetensors"  # two shards
CROP_SIZE = 256
LANDMARKS = 39  # 33 of the body, then 2 that say where the next crop goes, then 4 that nobody documents
FEATURE_STRIDES = (4, 8, 16, 32)
FEATURE_CHANNELS = (32, 56, 160, 272)
# The network's constant error between the body's sides: what it adds to left landmarks, x, y px of the crop, then world
# x, y, z mm; to right ones the same in x, the opposite in y and z of the world (`OTHER_SIDE`). Measured on synthetic
# images by `python -m hmrkit.training.blazepose_bias`; real clips show a similar error.
_SIDE_BIAS = {
    "nose": (0.1, 0.0, -7, 0, 0),
    "left_eye_inner": (0.5, -0.1, 0, 5, 6),
    "left_eye": (0.5, -0.1, 2, 5, 18),
    "left_eye_outer": (0.4, -0.1, 4, -2, 6),
    "left_ear": (0.4, -0.1, 7, -22, -5),
    "left_mouth": (0.0, -0.1, 11, -16, 13),
    "left_shoulder": (0.2, 0.3, 17, 31, -27),
    "left_elbow": (0.3, 0.6, 22, -11, -9),
    "left_wrist": (0.3, 1.3, 9, 2, 37),
    "left_pinky": (0.2, 1.6, 16, 4, 63),
    "left_index": (0.3, 1.2, 21, 19, 60),
    "left_thumb": (0.4, 1.2, 13, 16, 41),
    "left_hip": (-1.2, 0.4, 1, 5, 22),
    "left_knee": (0.5, 1.8, 16, 37, 10),
    "left_ankle": (-0.7, 0.7, 7, 14, -1),
    "left_heel": (-0.3, 0.5, -5, 15, 21),
    "left_foot_index": (-2.8, 0.4, -15, 22, 27),
}  # fmt: skip
OTHER_SIDE = (1.0, -1.0, 1.0, -1.0, -1.0)  # a row's signs for the landmark of the other side


@dataclass(frozen=True)
class BlazePoseOutput:
    """The network's predictions for B crops.

    `landmarks` (B,39,5): x, y, z px of the crop (z is depth about the hips), visibility and presence as logits.
    `world` (B,39,3): metres about the middle of the hips; x right, y down, z away from a camera that looks at the
    crop's centre. `presence` (B,): is there a person, in [0, 1]. `heatmaps` (B,39,64,64) and `mask` (B,1,256,256) are
    logits, None unless asked for.
    """

    landmarks: Tensor
    world: Tensor
    presence: Tensor
    heatmaps: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class Lower:
    """The lower half's maps: the `trunk`'s of strides 2, 4, 8, 16, 32; `first32` (B,272,8,8), what the first block of
    stride 32 makes; `wide` (B,1632,8,8), the trunk's last map widened; `merged` (B,48,64,64), the pyramid's sum, from
    which heatmaps are read; `branch` (B,192,16,16), the regression branch at stride 16."""

    trunk: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
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

    def forward(self, crops: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
        at2 = self.stem_block(functional.relu6(self.stem(crops), inplace=True))
        at4 = self.stride4(at2)
        at8 = self.stride8(at4)
        at16 = self.stride16(at8)
        first32 = self.stride32[0](at16)
        return (at2, at4, at8, at16, self.stride32[1:](first32)), first32


class BlazePose(nn.Module):
    """Crops (B,3,256,256) RGB in [0, 1] -> `BlazePoseOutput`. Mask and heatmaps are made only when asked for."""

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
        (at2, at4, at8, at16, at32), first32 = self.trunk(crops)
        wide = functional.relu6(self.widen_depthwise(functional.relu6(self.widen(at32), inplace=True)), inplace=True)
        merged = _twice(self.pyramid32(wide)).add_(self.pyramid16(at16))
        merged = _twice(merged).add_(self.pyramid8(at8))
        merged = _twice(merged).add_(self.pyramid4(at4))
        branch = self.blocks8(self.down8(merged)).add_(self.join8(at8))
        branch = self.blocks16(self.down16(branch)).add_(self.join16(at16))
        return Lower((at2, at4, at8, at16, at32), first32, wide, merged, branch)

    def upper(self, lower: Lower, mask: bool = False, heatmaps: bool = False) -> BlazePoseOutput:
        """The predictions made from the maps of `lower`."""
        x = self.blocks32(self.down32(lower.branch)) + self.join32(lower.wide)
        x = self.blocks128(self.down128(self.blocks64(self.down64(x))))
        return BlazePoseOutput(
            landmarks=self.to_landmarks(x).float().reshape(-1, LANDMARKS, 5),
            world=self.to_world(x).float().reshape(-1, LANDMARKS, 3),
            presence=self.to_presence(x).float().sigmoid().flatten(),
            heatmaps=self.to_heatmaps(lower.merged).float() if heatmaps else None,
            mask=self._mask(lower.trunk[0], lower.merged) if mask else None,
        )

    def forward(self, crops: Tensor, mask: bool = False, heatmaps: bool = False) -> BlazePoseOutput:
        return self.upper(self.lower(crops), mask, heatmaps)

    def _mask(self, at2: Tensor, merged: Tensor) -> Tensor:
        x = self.mask_blocks2(_twice(self.mask_from4(merged)).add_(self.mask_join2(at2)))
        return self.to_mask(self.mask_blocks1(_twice(x))).float()


def without_side_bias(output: BlazePoseOutput) -> BlazePoseOutput:
    """The prediction with the network's constant side bias subtracted (see `side_bias`)."""
    px, metres = side_bias(output.world.device)
    landmarks, world = output.landmarks.clone(), output.world.clone()
    landmarks[:, : len(px), :2] -= px
    world[:, : len(px)] -= metres
    return replace(output, landmarks=landmarks, world=world)


def flipped_back(output: BlazePoseOutput) -> BlazePoseOutput:
    """The prediction for a mirrored crop, flipped back: as if made for the crop itself. The mask is left out."""
    order = [*BLAZEPOSE_33.mirror, *range(len(BLAZEPOSE_33), output.landmarks.shape[1])]
    landmarks, world = output.landmarks[:, order].clone(), output.world[:, order].clone()
    landmarks[..., 0] = CROP_SIZE - landmarks[..., 0]
    world[..., 0] *= -1
    heatmaps = None if output.heatmaps is None else output.heatmaps[:, order].flip(-1)
    return BlazePoseOutput(landmarks, world, output.presence, heatmaps)


@cache
def side_bias(device: torch.device) -> tuple[Tensor, Tensor]:
    """The network's constant error between left and right, of 33 landmarks: (33,2) px of the crop, (33,3) m.

    The shoulders of somebody who holds them level, for example, come out 6 cm apart in height.
    """
    rows = torch.zeros(len(BLAZEPOSE_33), 5)
    for name, row in _SIDE_BIAS.items():
        left = BLAZEPOSE_33.index[name]
        right = BLAZEPOSE_33.mirror[left]
        rows[right] = torch.tensor(row) * torch.tensor(OTHER_SIDE)
        rows[left] = torch.tensor(row)
    return rows[:, :2].to(device), rows[:, 2:].to(device) / 1000


def load_network(device: str | torch.device = "cpu", mask: bool = True) -> BlazePose:
    """The shipped weights on `device`, ready for inference; float32 (they are kept as float16, as published). Without
    `mask` the layers that make masks alone are left out."""
    model = BlazePose().eval()
    load_into(model, {key: value.float() for key, value in load_state(WEIGHTS).items()}, WEIGHTS)
    if not mask:
        for name in ("mask_join2", "mask_from4", "mask_blocks2", "mask_blocks1", "to_mask"):
            delattr(model, name)
    return model.to(device).to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
