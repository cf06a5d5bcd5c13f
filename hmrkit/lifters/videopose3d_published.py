"""Published VideoPose3D checkpoints (Pavllo et al. 2019, 3D human pose estimation in video with temporal convolutions).

The network has the tensors' names and shapes of the authors' ``pretrained_h36m_*.bin``; `hmrkit.lifters.screen_lifter`
reads keypoints by the convention that they were trained with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hmrkit.errors import WeightsError
from hmrkit.files import sha256_of
from hmrkit.lifters.screen_lifter import ScreenLifter, ScreenNetwork
from hmrkit.skeletons import COCO_17, H36M_17, Skeleton
from hmrkit.weights import load_into

# Human3.6M is filmed at 50 Hz, and the authors' networks read its frames as they are.
RATE = 50.0


class PublishedNet(ScreenNetwork):
    """The paper's dilated network in the published layout (eval mode: BatchNorm with its running statistics).

    `filters` are the widths of its convolutions in frames, (3, 3, 3) for 27 and (3, 3, 3, 3, 3) for 243 frames.
    """

    rate = RATE

    def __init__(self, filters: tuple[int, ...], channels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.filters, self.channels = filters, inputs // len(H36M_17)
        self.expand_conv = nn.Conv1d(inputs, channels, filters[0], bias=False)
        self.expand_bn = nn.BatchNorm1d(channels)
        convolutions: list[nn.Module] = []
        dilation = filters[0]
        for size in filters[1:]:
            convolutions += [
                nn.Conv1d(channels, channels, size, dilation=dilation, bias=False),
                nn.Conv1d(channels, channels, 1, bias=False),
            ]
            dilation *= size
        self.layers_conv = nn.ModuleList(convolutions)
        self.layers_bn = nn.ModuleList([nn.BatchNorm1d(channels) for _ in convolutions])
        self.shrink = nn.Conv1d(channels, outputs, 1)

    @classmethod
    def for_state(cls, state: dict[str, Tensor]) -> PublishedNet:
        """The network whose tensors these are."""
        layers = range(sum(key.startswith("layers_conv.") for key in state) // 2)
        filters = [state["expand_conv.weight"].shape[2]] + [
            state[f"layers_conv.{2 * i}.weight"].shape[2] for i in layers
        ]
        channels, inputs, _ = state["expand_conv.weight"].shape
        return cls(tuple(filters), channels, inputs, state["shrink.weight"].shape[0])

    @property
    def receptive_field(self) -> int:
        """Frames that one output depends on."""
        return int(np.prod(self.filters))

    def forward(self, x: Tensor) -> Tensor:
        """(B,T,J,C) with `receptive_field` - 1 frames more than the output (B,T',J',3)."""
        x = self.expand_bn(self.expand_conv(x.flatten(2).mT)).relu()
        for i in range(len(self.filters) - 1):
            wide, narrow = self.layers_conv[2 * i], self.layers_conv[2 * i + 1]
            y = self.layers_bn[2 * i](wide(x)).relu()
            y = self.layers_bn[2 * i + 1](narrow(y)).relu()
            lost = (x.shape[-1] - y.shape[-1]) // 2
            x = x[..., lost : x.shape[-1] - lost] + y
        return self.shrink(x).mT.unflatten(-1, (-1, 3))


def load_published(
    path: Path, state: dict[str, Tensor], device: torch.device | str = "cpu", input_skeleton: Skeleton = COCO_17
) -> ScreenLifter:
    """The lifter of a published checkpoint's tensors; WeightsError where it is no pose model of 17 joints.

    `input_skeleton` is the order of joints that it reads, which its tensors do not show: COCO's for
    ``pretrained_h36m_detectron_coco.bin``, Human3.6M's for ``pretrained_h36m_cpn.bin``.
    """
    network = PublishedNet.for_state(state)
    if network.expand_conv.in_channels not in (34, 51) or network.shrink.out_channels != 51:
        raise WeightsError(
            f"{path}: wanted a lifter from 17 joints to 17 joints, found {network.expand_conv.in_channels} inputs "
            f"and {network.shrink.out_channels} outputs; a trajectory model is not a pose model"
        )
    load_into(network, state, path)
    return ScreenLifter(network, input_skeleton, H36M_17, sha256_of(path), device)
