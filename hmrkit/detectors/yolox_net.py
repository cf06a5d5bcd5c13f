"""YOLOX (Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430) as a plain module, for inference.

A CSPDarknet trunk gives maps at strides 8, 16 and 32, a path-aggregation pyramid mixes them, and a decoupled head
predicts for every cell of every map one box, its objectness and its classes. Sizes differ by width (channels) and
depth (blocks); the nano size also splits every k x k convolution into a depthwise and a pointwise one.

Parameters are named as in Megvii's checkpoints, with each batch norm folded into the convolution before it
(`fold_batch_norm`), so published checkpoints of every size load.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDES = (8, 16, 32)
BATCH_NORM_EPS = 1e-3  # YOLOX's, not PyTorch's default


class ConvAct(nn.Module):
    """Convolution with "same" padding (its batch norm folded in), then SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.conv(x), inplace=True)


class DepthwiseConvAct(nn.Module):
    """A k x k convolution of each channel by itself, then a 1 x 1 convolution across channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.dconv = ConvAct(inputs, inputs, kernel, stride, groups=inputs)
        self.pconv = ConvAct(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pconv(self.dconv(x))


class Focus(nn.Module):
    """Each 2 x 2 block of pixels becomes one pixel of four times the channels: left column first, then right."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = ConvAct(12, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[..., ::2], x[..., 1::2]
        blocks = [left[..., ::2, :], left[..., 1::2, :], right[..., ::2, :], right[..., 1::2, :]]
        return self.conv(torch.cat(blocks, 1))


class Bottleneck(nn.Module):
    def __init__(self, channels: int, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.conv1 = ConvAct(channels, channels, 1)
        self.conv2 = DepthwiseConvAct(channels, channels, 3) if depthwise else ConvAct(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        return out + x if self.shortcut else out


class CspLayer(nn.Module):
    """Half of the channels go through `blocks` bottlenecks, the other half around them (Wang et al. 2020)."""

    def __init__(self, inputs: int, outputs: int, blocks: int, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = ConvAct(inputs, half, 1)
        self.conv2 = ConvAct(inputs, half, 1)
        self.conv3 = ConvAct(2 * half, outputs, 1)
        self.m = nn.Sequential(*(Bottleneck(half, shortcut, depthwise) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        through = self.conv1(x)
        around = self.conv2(x)
        return self.conv3(torch.cat([self.m(through), around], 1))


class SpatialPyramidPooling(nn.Module):
    """The map beside its maxima over 5, 9 and 13 cells."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvAct(channels, channels // 2, 1)
        self.conv2 = ConvAct(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.conv1(x)]
        for _ in range(3):  # a maximum over 5 of a maximum over 5 is the maximum over 9, and so on
            maps.append(functional.max_pool2d(maps[-1], 5, stride=1, padding=2))
        return self.conv2(torch.cat(maps, 1))


class CspDarknet(nn.Module):
    def __init__(self, width: int, depth: int, depthwise: bool) -> None:
        super().__init__()
        conv = DepthwiseConvAct if depthwise else ConvAct
        self.stem = Focus(width)
        self.dark2 = nn.Sequential(conv(width, width * 2, 3, 2), CspLayer(width * 2, width * 2, depth, True, depthwise))
        self.dark3 = nn.Sequential(
            conv(width * 2, width * 4, 3, 2), CspLayer(width * 4, width * 4, depth * 3, True, depthwise)
        )
        self.dark4 = nn.Sequential(
            conv(width * 4, width * 8, 3, 2), CspLayer(width * 8, width * 8, depth * 3, True, depthwise)
        )
        self.dark5 = nn.Sequential(
            conv(width * 8, width * 16, 3, 2),
            SpatialPyramidPooling(width * 16),
            CspLayer(width * 16, width * 16, depth, False, depthwise),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stride8 = self.dark3(self.dark2(self.stem(x)))
        stride16 = self.dark4(stride8)
        return stride8, stride16, self.dark5(stride16)


class FeaturePyramid(nn.Module):
    """Path aggregation (Liu et al. 2018): coarse maps flow down to fine ones, then fine ones back up."""

    def __init__(self, width: int, depth: int, depthwise: bool) -> None:
        super().__init__()
        conv = DepthwiseConvAct if depthwise else ConvAct
        c3, c4, c5 = width * 4, width * 8, width * 16
        self.backbone = CspDarknet(width, depth, depthwise)
        self.lateral_conv0 = ConvAct(c5, c4, 1)
        self.C3_p4 = CspLayer(2 * c4, c4, depth, False, depthwise)
        self.reduce_conv1 = ConvAct(c4, c3, 1)
        self.C3_p3 = CspLayer(2 * c3, c3, depth, False, depthwise)
        self.bu_conv2 = conv(c3, c3, 3, 2)
        self.C3_n3 = CspLayer(2 * c3, c4, depth, False, depthwise)
        self.bu_conv1 = conv(c4, c4, 3, 2)
        self.C3_n4 = CspLayer(2 * c4, c5, depth, False, depthwise)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine, middle, coarse = self.backbone(x)
        coarse = self.lateral_conv0(coarse)
        middle = self.reduce_conv1(self.C3_p4(torch.cat([_double(coarse), middle], 1)))
        fine = self.C3_p3(torch.cat([_double(middle), fine], 1))
        middle = self.C3_n3(torch.cat([self.bu_conv2(fine), middle], 1))
        return fine, middle, self.C3_n4(torch.cat([self.bu_conv1(middle), coarse], 1))


class Head(nn.Module):
    """Separate branches for what and where."""

    def __init__(self, width: int, classes: int, depthwise: bool) -> None:
        super().__init__()
        conv = DepthwiseConvAct if depthwise else ConvAct
        hidden = width * 4

        def branch() -> nn.Sequential:
            return nn.Sequential(conv(hidden, hidden, 3), conv(hidden, hidden, 3))

        self.stems = nn.ModuleList(ConvAct(width * scale, hidden, 1) for scale in (4, 8, 16))
        self.cls_convs = nn.ModuleList(branch() for _ in STRIDES)
        self.reg_convs = nn.ModuleList(branch() for _ in STRIDES)
        self.cls_preds = nn.ModuleList(nn.Conv2d(hidden, classes, 1) for _ in STRIDES)
        self.reg_preds = nn.ModuleList(nn.Conv2d(hidden, 4, 1) for _ in STRIDES)
        self.obj_preds = nn.ModuleList(nn.Conv2d(hidden, 1, 1) for _ in STRIDES)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        outputs = []
        for level, features in enumerate(maps):
            stem = self.stems[level](features)
            classes = self.cls_preds[level](self.cls_convs[level](stem)).sigmoid()
            where = self.reg_convs[level](stem)
            box, objectness = self.reg_preds[level](where), self.obj_preds[level](where).sigmoid()
            outputs.append(torch.cat([box, objectness, classes], 1).flatten(2))
        return torch.cat(outputs, 2).mT


class YoloX(nn.Module):
    """`width` channels after the stem (16 nano, 24 tiny, 32 s, 48 m, 64 l, 80 x), `depth` blocks (1 to 4: nano to x).

    Takes (B,3,H,W) float, BGR 0-255, H and W multiples of 32; returns (B,A,5+classes) for the cells of strides 8,
    16, 32 in row-major order: x, y, log w, log h in cells (see `decode`), objectness and class scores in [0, 1].
    """

    def __init__(self, width: int = 16, depth: int = 1, depthwise: bool = True, classes: int = 80) -> None:
        super().__init__()
        self.backbone = FeaturePyramid(width, depth, depthwise)
        self.head = Head(width, classes, depthwise)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def decode(predictions: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Network output (B,A,5+C) for an input of that size -> boxes xyxy (B,A,4) input px, scores (B,A,C)."""
    cells, strides = [], []
    for stride in STRIDES:
        rows = torch.arange(height // stride, device=predictions.device)
        columns = torch.arange(width // stride, device=predictions.device)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        cells.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((y.numel(), 1), stride, device=predictions.device))
    stride = torch.cat(strides)
    center = (predictions[..., :2] + torch.cat(cells)) * stride
    half = predictions[..., 2:4].exp() * stride / 2
    return torch.cat([center - half, center + half], -1), predictions[..., 4:5] * predictions[..., 5:]


def fold_batch_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict with ``X.bn.*`` merged into ``X.conv.weight`` and ``X.conv.bias``; unchanged where there is none."""
    folded = {key: value for key, value in state.items() if ".bn." not in key}
    for key in state:
        if key.endswith(".bn.weight"):
            layer = key.removesuffix(".bn.weight")
            norm = {name: state[f"{layer}.bn.{name}"] for name in ("weight", "bias", "running_mean", "running_var")}
            scale = norm["weight"] * (norm["running_var"] + BATCH_NORM_EPS).rsqrt()
            folded[f"{layer}.conv.weight"] = state[f"{layer}.conv.weight"] * scale[:, None, None, None]
            folded[f"{layer}.conv.bias"] = norm["bias"] - norm["running_mean"] * scale
    return folded


def module_for(state: dict[str, Tensor]) -> YoloX:
    """An untrained network of the size that a folded state dict was made for; KeyError where it is no YOLOX."""
    trunk = "backbone.backbone."
    blocks = {key.split(".")[5] for key in state if key.startswith(f"{trunk}dark2.1.m.")}
    return YoloX(
        width=state[f"{trunk}stem.conv.conv.weight"].shape[0],
        depth=len(blocks),
        depthwise=f"{trunk}dark2.0.dconv.conv.weight" in state,
        classes=state["head.cls_preds.0.weight"].shape[0],
    )


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
