"""Published VideoPose3D checkpoints (Pavllo et al. 2019, 3D human pose estimation in video with temporal convolutions).

The network has the tensors' names and shapes of the authors' ``pretrained_h36m_*.bin``, and reads keypoints by the
convention that they were trained with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hmrkit.device import inference
from hmrkit.errors import WeightsError
from hmrkit.files import sha256_of
from hmrkit.lifters.inputs import check_keypoints
from hmrkit.skeletons import COCO_17, H36M_17, Skeleton
from hmrkit.weights import load_into


class PublishedNet(nn.Module):
    """The paper's dilated network in the published layout (eval mode: BatchNorm with its running statistics).

    `filters` are the widths of its convolutions in frames, (3, 3, 3) for 27 and (3, 3, 3, 3, 3) for 243 frames.
    """

    def __init__(self, filters: tuple[int, ...], channels: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.filters = filters
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


class PublishedLifter:
    """A `hmrkit.lifters.Lifter` with published weights: pixels scaled by the image's width, ends of the clip repeated.

    Clips of more than `piece_frames` go through the network in pieces, so memory does not grow with the clip.
    """

    input_skeleton: Skeleton = COCO_17
    output_skeleton: Skeleton = H36M_17
    piece_frames = 1024

    def __init__(self, network: PublishedNet, weights_sha256: str = "", device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.weights_sha256 = weights_sha256
        self.receptive_field = network.receptive_field

    def __call__(
        self,
        keypoints_2d: np.ndarray,
        *,
        width: int,
        height: int,
        fps: float,
        flip: bool = True,
        focal_px: float | np.ndarray | None = None,
        center_px: np.ndarray | None = None,
    ) -> np.ndarray:
        """Keypoints (T,17,2|3) px, COCO order, NaN or confidence 0 = missing -> joints (T,17,3) m about the pelvis.

        Axes are the camera's (x right, y down, z forward). Missing joints are filled in from frames nearby. `flip`
        averages with the prediction for the flipped clip, flipped back. The published networks know neither frame rate
        nor camera: `fps`, `focal_px` and `center_px` change nothing. InputError where the keypoints are not COCO-17 or
        `fps` is not positive.
        """
        keypoints = check_keypoints(keypoints_2d, fps)
        if len(keypoints) == 0:
            return np.zeros((0, len(H36M_17), 3), np.float32)
        points = fill_gaps(keypoints[..., :2])
        screen = points / width * 2 - np.array([1, height / width], np.float32)
        if self.network.expand_conv.in_channels == 3 * len(COCO_17):
            screen = np.concatenate([screen, np.nan_to_num(keypoints[..., 2:])], -1)
        reach, piece = (self.receptive_field - 1) // 2, self.piece_frames
        screen = np.concatenate([screen[:1].repeat(reach, 0), screen, screen[-1:].repeat(reach, 0)])
        clip = torch.from_numpy(screen.astype(np.float32)).to(self.device)
        with inference(self.device):
            starts = range(0, len(keypoints), piece)
            joints = torch.cat([self._predict(clip[None, i : i + piece + 2 * reach], flip)[0] for i in starts])
        return (joints - joints[:, :1]).cpu().numpy()

    def _predict(self, screen: Tensor, flip: bool) -> Tensor:
        """Screen coordinates (1,T + `receptive_field` - 1,17,2|3) -> joints (1,T,17,3) m, not yet about the pelvis."""
        joints = self.network(screen)
        if not flip:
            return joints
        sign = torch.tensor([-1.0, 1, 1], device=self.device)
        flipped = self.network(screen[:, :, list(COCO_17.mirror)] * sign[: screen.shape[-1]])
        return (joints + flipped[:, :, list(H36M_17.mirror)] * sign) / 2


def fill_gaps(points: np.ndarray) -> np.ndarray:
    """Points (T,17,2) with NaN filled in: linear over time, at the ends the joint's nearest value.

    A joint that is never detected lies at the mean of all others.
    """
    frames = np.arange(len(points))
    filled = points.reshape(len(points), -1).copy()
    for column in filled.T:
        seen = np.isfinite(column)
        if seen.any():
            column[~seen] = np.interp(frames[~seen], frames[seen], column[seen])
    filled = filled.reshape(points.shape)
    seen = np.isfinite(filled)
    mean = np.where(seen, filled, 0).sum((0, 1)) / np.maximum(seen.sum((0, 1)), 1)
    return np.where(seen, filled, mean).astype(np.float32)


def load_published(path: Path, state: dict[str, Tensor], device: torch.device | str = "cpu") -> PublishedLifter:
    """The lifter of a published checkpoint's tensors; WeightsError where it is no pose model of 17 joints."""
    network = PublishedNet.for_state(state)
    if network.expand_conv.in_channels not in (34, 51) or network.shrink.out_channels != 51:
        raise WeightsError(
            f"{path}: wanted a lifter from 17 joints to 17 joints, found {network.expand_conv.in_channels} inputs "
            f"and {network.shrink.out_channels} outputs; a trajectory model is not a pose model"
        )
    load_into(network, state, path)
    return PublishedLifter(network, sha256_of(path), device)
