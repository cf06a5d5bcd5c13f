"""Lifting by temporal convolution (Pavllo et al. 2019, 3D human pose estimation in video with temporal convolutions).

Two networks: `PublishedNet` has the layout and the input convention of the published checkpoints; `RayNet` is this
project's own, which reads keypoints as rays of a camera that faces the trunk (`hmrkit.lifters.rays`), gives every
frame of a clip at once, and may be told which joints are missing.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from hmrkit.camera import assume_camera
from hmrkit.device import inference
from hmrkit.errors import InputError, WeightsError
from hmrkit.lifters.rays import FEATURES, encode
from hmrkit.skeletons import COCO_17, H36M_17, Skeleton
from hmrkit.weights import find_weights, load_into, load_state, read_metadata, sha256_of

DEFAULT_WEIGHTS = "lifter/videopose3d.safetensors"
NETWORK_FPS = 30.0
# What the network is told of every joint that is seen. Confidences mean another thing with every detector, and one that
# is unsure of a hidden joint still places it well: told BlazePose's own, the network did 10 % worse on rendered people.
_TRUST = 0.75
# Joints out of the picture are guesses; below this confidence they are left out.
_OUTSIDE_CONFIDENCE = 0.5
# Frames in one pass; longer clips go through in overlapping pieces, so memory does not grow with the clip.
_PIECE = 1024


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


class RayNet(nn.Module):
    """Features (B,T,`FEATURES`) of `encode` at 30 Hz -> joints (B,T,17,3) m about the pelvis, virtual camera's axes."""

    def __init__(
        self, width: int = 320, frame_blocks: int = 2, dilations: tuple[int, ...] = (1, 3, 9, 27, 1, 3, 9)
    ) -> None:
        super().__init__()
        self.dilations = dilations
        self.stem = nn.Linear(FEATURES, width)
        self.frames = nn.Sequential(*[_FrameBlock(width) for _ in range(frame_blocks)])
        self.time = nn.Sequential(*[_TimeBlock(width, d) for d in dilations])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3 * (len(H36M_17) - 1))

    @property
    def receptive_field(self) -> int:
        """Frames at 30 Hz that one output depends on (not counting the smoothing of the input's axes)."""
        return 1 + 2 * sum(self.dilations)

    def forward(self, features: Tensor) -> Tensor:
        joints = self.head(self.norm(self.time(self.frames(self.stem(features))))).float()
        return pad(joints.unflatten(-1, (-1, 3)), (0, 0, 1, 0))  # the pelvis comes first and is the origin


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


class VideoPose3D:
    """A lifter with its weights, as `hmrkit.lifters.Lifter` describes it."""

    input_skeleton: Skeleton = COCO_17
    output_skeleton: Skeleton = H36M_17

    def __init__(
        self, network: RayNet | PublishedNet, weights_sha256: str = "", device: torch.device | str = "cpu"
    ) -> None:
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

        Confidence only tells what is missing (and which guesses out of the picture are left out). Axes are the
        camera's. Size is that of a person of average height: a single camera cannot tell it. `flip`
        averages with the mirrored clip. `focal_px` where it is known; the published networks do not use it. Any
        number of frames, any frame rate.
        """
        keypoints = np.asarray(keypoints_2d, np.float32)
        if keypoints.ndim != 3 or keypoints.shape[1] != 17 or keypoints.shape[2] not in (2, 3):
            raise InputError(f"lifter: wanted COCO-17 keypoints (T,17,2) or (T,17,3), got {keypoints.shape}")
        if not fps > 0:
            raise InputError(f"lifter: wanted a positive frame rate, got {fps}")
        if keypoints.shape[2] == 2:
            keypoints = np.concatenate([keypoints, np.ones_like(keypoints[..., :1])], -1)
        keypoints = np.where(keypoints[..., 2:] > 0, keypoints, np.float32(np.nan))
        if len(keypoints) == 0:
            return np.zeros((0, 17, 3), np.float32)
        if isinstance(self.network, PublishedNet):
            return self._published(self.network, keypoints, width, height, flip)
        return self._rays(keypoints, width, height, fps, flip, focal_px, center_px)

    def _rays(
        self,
        keypoints: np.ndarray,
        width: int,
        height: int,
        fps: float,
        flip: bool,
        focal_px: float | np.ndarray | None,
        center_px: np.ndarray | None,
    ) -> np.ndarray:
        assumed = assume_camera(width, height)
        focal = assumed.focal_px if focal_px is None else np.broadcast_to(np.asarray(focal_px, np.float32), (2,))
        center = assumed.center_px if center_px is None else np.asarray(center_px, np.float32)
        # A caller may pass the assumed focal length on; that does not make it known.
        known = float(not np.allclose(focal, assumed.focal_px, rtol=1e-3))
        outside = ((keypoints[..., :2] < 0) | (keypoints[..., :2] > (width, height))).any(-1, keepdims=True)
        left_out = outside & (keypoints[..., 2:] < _OUTSIDE_CONFIDENCE)
        seen = np.where(np.isfinite(keypoints).all(-1, keepdims=True) & ~left_out, _TRUST, np.nan)
        rays = np.concatenate([(keypoints[..., :2] - center) / focal, seen], -1).astype(np.float32)
        count = len(rays)
        steps = max(1, round((count - 1) / fps * NETWORK_FPS) + 1)
        source = np.linspace(0, count - 1, steps)
        clip = torch.from_numpy(resample(rays, source)).to(self.device)
        margin = self.receptive_field
        pieces = []
        with inference(self.device):
            for start in range(0, steps, _PIECE):
                low, high = max(0, start - margin), min(steps, start + _PIECE + margin)
                joints = self.lift_rays(clip[None, low:high], torch.full((1,), known, device=self.device), flip)
                pieces.append(joints[0, start - low : start - low + _PIECE].cpu().numpy())
        joints = np.concatenate(pieces)[:steps]
        return resample(joints, np.linspace(0, steps - 1, count)).astype(np.float32)

    def lift_rays(self, rays: Tensor, focal_known: Tensor, flip: bool = True) -> Tensor:
        """Rays (B,T,17,3) as `encode` takes them, at 30 Hz -> joints (B,T,17,3) m, real camera's axes."""
        if flip:
            mirrored = rays[:, :, list(COCO_17.mirror)] * torch.tensor([-1.0, 1, 1]).to(rays)
            both = self.lift_rays(torch.cat([rays, mirrored]), torch.cat([focal_known, focal_known]), False)
            plain, mirrored = both.chunk(2)
            return (plain + mirrored[:, :, list(H36M_17.mirror)] * torch.tensor([-1.0, 1, 1]).to(rays)) / 2
        features, real_from_virtual = encode(rays, focal_known)
        return self.network(features) @ real_from_virtual.mT

    def _published(
        self, network: PublishedNet, keypoints: np.ndarray, width: int, height: int, flip: bool
    ) -> np.ndarray:
        """The convention that the published weights were trained with: screen coordinates, repeated ends."""
        points = fill_gaps(keypoints[..., :2])
        screen = points / width * 2 - np.array([1, height / width], np.float32)
        if network.expand_conv.in_channels == 17 * 3:
            screen = np.concatenate([screen, np.nan_to_num(keypoints[..., 2:])], -1)
        reach = (network.receptive_field - 1) // 2
        screen = np.concatenate([screen[:1].repeat(reach, 0), screen, screen[-1:].repeat(reach, 0)])
        clip = torch.from_numpy(screen.astype(np.float32)).to(self.device)
        sign_in = torch.tensor([-1.0, 1, 1][: clip.shape[-1]], device=self.device)
        sign_out = torch.tensor([-1.0, 1, 1], device=self.device)
        pieces = []
        with inference(self.device):
            for start in range(0, len(keypoints), _PIECE):
                piece = clip[None, start : start + _PIECE + 2 * reach]
                joints = network(piece)
                if flip:
                    mirrored = network(piece[:, :, list(COCO_17.mirror)] * sign_in)
                    joints = (joints + mirrored[:, :, list(H36M_17.mirror)] * sign_out) / 2
                pieces.append(joints[0])
        joints = torch.cat(pieces)
        return (joints - joints[:, :1]).cpu().numpy()


def resample(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Rows of `values` (T,...) at fractional positions `at` by straight lines.

    Keypoints (T,17,3) that are missing at one of the two ends of a line are missing on it; on a sample exactly it is
    as the sample is.
    """
    low = np.clip(np.floor(at + 1e-6).astype(int), 0, len(values) - 1)
    high = np.minimum(low + 1, len(values) - 1)
    part = np.clip(at - low, 0, 1).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    part = np.where(part < 1e-4, 0, part).astype(np.float32)
    # Twice NaN: a missing end of weight 0 must not spoil the other.
    return np.where(part == 0, values[low], values[low] * (1 - part) + values[high] * part)


def fill_gaps(points: np.ndarray) -> np.ndarray:
    """Missing points of (T,17,2) between their neighbours in time, else their joint's nearest; never seen: the mean."""
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


def load(checkpoint: str | Path | None = None, *, device: torch.device | str = "cpu") -> VideoPose3D:
    """Our weights (default) or a checkpoint of either network; which of the two is told from its tensors."""
    path = find_weights(checkpoint or DEFAULT_WEIGHTS)
    state = load_state(path)
    if "expand_conv.weight" in state:
        network: RayNet | PublishedNet = PublishedNet.for_state(state)
        if network.expand_conv.in_channels not in (34, 51) or network.shrink.out_channels != 51:
            raise WeightsError(
                f"{path}: wanted a lifter from 17 joints to 17 joints, found {network.expand_conv.in_channels} inputs "
                f"and {network.shrink.out_channels} outputs; a trajectory model is not a pose model"
            )
    elif "stem.weight" in state:
        metadata = read_metadata(path)
        network = RayNet(**json.loads(metadata["network"]))
        state = {key: value.float() for key, value in state.items()}
    else:
        raise WeightsError(f"{path}: wanted a VideoPose3D or RayNet checkpoint, found {', '.join(list(state)[:4])}")
    load_into(network, state, path)
    return VideoPose3D(network, sha256_of(path), device)
