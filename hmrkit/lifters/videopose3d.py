"""Lifting by temporal convolution (Pavllo et al. 2019, 3D human pose estimation in video with temporal convolutions).

`RayNet` is this project's own network. In place of the paper's image coordinates it reads the rays of a camera that
faces the trunk (`hmrkit.lifters.rays`); it returns every frame of a clip at once, and accepts missing joints. Published
checkpoints are in `hmrkit.lifters.videopose3d_published`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from hmrkit.errors import UsageError, WeightsError
from hmrkit.lifters.ray_lifter import RayNetwork, load_ray_lifter
from hmrkit.lifters.rays import FEATURES
from hmrkit.lifters.videopose3d_published import load_published
from hmrkit.skeletons import COCO_17, H36M_17, Skeleton
from hmrkit.weights import find_weights, load_state

if TYPE_CHECKING:
    from hmrkit.lifters import Lifter

DEFAULT_WEIGHTS = "lifter/videopose3d.safetensors"


@dataclass(frozen=True)
class RayNetSize:
    """What `RayNet` is built from; its weights file has it as JSON under ``network``.

    `width` features per frame, `frame_blocks` blocks on each frame alone, then one block over time for each of
    `dilations` (frames).
    """

    width: int = 320
    frame_blocks: int = 2
    dilations: tuple[int, ...] = (1, 3, 9, 27, 1, 3, 9)


class _FrameBlock(nn.Module):
    """Residual two-layer perceptron on each frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        _start_as_identity(self.outer)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(gelu(self.inner(self.norm(x))))


class _TimeBlock(nn.Module):
    """Residual convolution over three frames `dilation` apart, then over one; the ends are repeated.

    Written as a linear layer on neighbouring frames side by side, which is faster on a CPU than a convolution.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm, self.inner, self.outer = nn.LayerNorm(width), nn.Linear(3 * width, width), nn.Linear(width, width)
        _start_as_identity(self.outer)

    def forward(self, x: Tensor) -> Tensor:
        y, d = self.norm(x), self.dilation
        y = torch.cat([y[:, :1].expand(-1, d, -1), y, y[:, -1:].expand(-1, d, -1)], 1)
        y = torch.cat([y[:, : -2 * d], y[:, d:-d], y[:, 2 * d :]], -1)
        return x + self.outer(gelu(self.inner(y)))


def _start_as_identity(last: nn.Linear) -> None:
    """A residual block that adds nothing yet: a trained network can be given more of them and goes on as it was."""
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)


class RayNet(RayNetwork):
    """Features (B,T,`FEATURES`) of `encode` at 30 Hz -> joints (B,T,17,3) m about the pelvis, virtual camera's axes."""

    def __init__(self, size: RayNetSize) -> None:
        super().__init__()
        self.dilations = size.dilations
        self.stem = nn.Linear(FEATURES, size.width)
        self.frames = nn.Sequential(*[_FrameBlock(size.width) for _ in range(size.frame_blocks)])
        self.time = nn.Sequential(*[_TimeBlock(size.width, d) for d in size.dilations])
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, 3 * (len(H36M_17) - 1))

    @property
    def receptive_field(self) -> int:
        return 1 + 2 * sum(self.dilations)

    def forward(self, features: Tensor) -> Tensor:
        joints = self.head(self.norm(self.time(self.frames(self.stem(features))))).float()
        return pad(joints.unflatten(-1, (-1, 3)), (0, 0, 1, 0))  # the pelvis comes first and is the origin


def load(
    checkpoint: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
    input_skeleton: Skeleton | None = None,
) -> Lifter:
    """Our weights (default) or a checkpoint of either network; its tensors' names say which.

    `input_skeleton` is the order of joints that a published checkpoint reads, COCO's unless given. WeightsError where
    the file is neither, UsageError for another order than COCO's with our own network.
    """
    path = find_weights(checkpoint or DEFAULT_WEIGHTS)
    state = load_state(path)
    if "expand_conv.weight" in state:
        return load_published(path, state, device, input_skeleton or COCO_17)
    if "stem.weight" not in state:
        raise WeightsError(f"{path}: wanted a VideoPose3D or RayNet checkpoint, found {', '.join(list(state)[:4])}")
    if input_skeleton not in (None, COCO_17):
        raise UsageError(
            f"{path}: this project's own lifter reads {COCO_17.name}, {input_skeleton.name} was asked for; "
            "--lifter-skeleton is for published VideoPose3D checkpoints"
        )
    return load_ray_lifter(path, _ray_net, device)


def _ray_net(size: dict[str, Any]) -> RayNet:
    return RayNet(RayNetSize(**{**size, "dilations": tuple(size["dilations"])}))
