"""The lifter around any network that reads ray features: from keypoints in pixels to joints in the camera's axes.

A new network is one module: a `RayNetwork`, the dataclass of its sizes, and a ``load`` that calls `load_ray_lifter`.
Everything before and after the network is here: camera, missing joints, frame rate, long clips, flip averaging.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hmrkit.camera import assume_camera
from hmrkit.device import inference
from hmrkit.errors import WeightsError
from hmrkit.files import sha256_of
from hmrkit.lifters.inputs import check_keypoints
from hmrkit.lifters.rays import NETWORK_FPS, SMOOTHING_REACH, encode
from hmrkit.lifters.timing import NetworkClock
from hmrkit.skeletons import COCO_17, H36M_17, Skeleton
from hmrkit.weights import find_weights, load_into, load_state, read_metadata

# The confidence that the network reads for every detected joint. Detectors' own are not comparable, and a detector that
# is unsure of a hidden joint still places it well: BlazePose's own made errors on rendered clips 10 % larger.
_DETECTED_CONFIDENCE = 0.75
# Joints outside the image are extrapolated by the detector; below this confidence they count as missing.
_OUTSIDE_CONFIDENCE = 0.5


class RayNetwork(nn.Module):
    """A network from features (B,T,`hmrkit.lifters.rays.FEATURES`) at 30 Hz to joints (B,T,J,3) m about the root.

    The joints are those of `output_skeleton` in the virtual camera's axes, T stays the same for any T, and the root
    comes first, at 0.
    """

    output_skeleton: Skeleton = H36M_17

    @property
    def receptive_field(self) -> int:
        """Frames at 30 Hz that one output depends on (not counting the smoothing of the features over time)."""
        raise NotImplementedError


class RayLifter:
    """A `hmrkit.lifters.Lifter` around a ray network, which is moved to `device` and put into eval mode.

    Clips of more than `piece_frames` at 30 Hz go through the network in overlapping pieces, so memory does not grow
    with the clip.
    """

    input_skeleton: Skeleton = COCO_17
    piece_frames = 1024

    def __init__(self, network: RayNetwork, weights_sha256: str = "", device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.weights_sha256 = weights_sha256
        self.receptive_field = network.receptive_field
        self.output_skeleton = network.output_skeleton

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
        times: np.ndarray | None = None,
    ) -> np.ndarray:
        """Keypoints (T,17,2|3) px, COCO order, NaN or confidence 0 = missing -> joints (T,J,3) m about the root.

        Axes are the camera's (x right, y down, z forward). Size is that of a person of average height: one camera
        cannot measure it. Confidence decides only what is missing, and which joints outside the image are left out.
        `flip` averages with the prediction for the flipped clip, flipped back. Without `focal_px` (one number or two)
        and `center_px` the camera of `hmrkit.camera.assume_camera` is taken. Any number of frames, at any rate or at
        any rising `times` (T,) s.
        InputError where the keypoints are not COCO-17 or `fps` is not positive.
        """
        keypoints = check_keypoints(keypoints_2d, fps)
        if len(keypoints) == 0:
            return np.zeros((0, len(self.output_skeleton), 3), np.float32)
        rays, known = _rays_of(keypoints, width, height, focal_px, center_px)
        clock = NetworkClock(len(rays), fps, times, NETWORK_FPS)
        clip, steps = torch.from_numpy(clock.to_ticks(rays)).to(self.device), clock.steps
        focal_known = torch.full((1,), known, device=self.device)
        piece = self.piece_frames
        margin = max(self.receptive_field, self.receptive_field // 2 + SMOOTHING_REACH)
        pieces = []
        with inference(self.device):
            for start in range(0, steps, piece):
                low, high = max(0, start - margin), min(steps, start + piece + margin)
                joints = self.lift_rays(clip[None, low:high], focal_known, flip)
                pieces.append(joints[0, start - low : start - low + piece].cpu().numpy())
        return clock.to_frames(np.concatenate(pieces)[:steps]).astype(np.float32)

    def lift_rays(self, rays: Tensor, focal_known: Tensor, flip: bool = True) -> Tensor:
        """Rays (B,T,17,3) as `encode` takes them, at 30 Hz -> joints (B,T,J,3) m, real camera's axes."""
        if flip:
            sign = torch.tensor([-1.0, 1, 1]).to(rays)
            flipped = rays[:, :, list(self.input_skeleton.mirror)] * sign
            both = self.lift_rays(torch.cat([rays, flipped]), torch.cat([focal_known, focal_known]), False)
            plain, flipped = both.chunk(2)
            return (plain + flipped[:, :, list(self.output_skeleton.mirror)] * sign) / 2
        features, real_from_virtual = encode(rays, focal_known)
        return self.network(features) @ real_from_virtual.mT


def _rays_of(
    keypoints: np.ndarray,
    width: int,
    height: int,
    focal_px: float | np.ndarray | None,
    center_px: np.ndarray | None,
) -> tuple[np.ndarray, float]:
    """Keypoints (T,17,3) px -> rays (T,17,3) float32 as `encode` takes them, and 1.0 where the focal length is known.

    Joints that are missing, or outside the image and doubtful, have confidence NaN.
    """
    assumed = assume_camera(width, height)
    focal = assumed.focal_px if focal_px is None else np.broadcast_to(np.asarray(focal_px, np.float32), (2,))
    center = assumed.center_px if center_px is None else np.asarray(center_px, np.float32)
    # A caller may pass the assumed focal length on; that does not make it known.
    known = float(not np.allclose(focal, assumed.focal_px, rtol=1e-3))
    outside = ((keypoints[..., :2] < 0) | (keypoints[..., :2] > (width, height))).any(-1, keepdims=True)
    left_out = outside & (keypoints[..., 2:] < _OUTSIDE_CONFIDENCE)
    detected = np.isfinite(keypoints).all(-1, keepdims=True) & ~left_out
    confidence = np.where(detected, _DETECTED_CONFIDENCE, np.nan)
    return np.concatenate([(keypoints[..., :2] - center) / focal, confidence], -1).astype(np.float32), known


def load_ray_lifter(
    checkpoint: str | Path, build: Callable[[dict[str, Any]], RayNetwork], device: torch.device | str = "cpu"
) -> RayLifter:
    """A lifter from a weights file whose metadata has the network's sizes, as `hmrkit.training.lifter` writes it.

    `build` makes the network from the sizes, a dict of the metadata's JSON. WeightsError where the file has no sizes or
    its tensors do not fit them.
    """
    path = find_weights(checkpoint)
    state = {key: value.float() for key, value in load_state(path).items()}
    sizes = read_metadata(path).get("network") if path.suffix == ".safetensors" else None
    if sizes is None:
        raise WeightsError(f"{path}: wanted a .safetensors file with the network's sizes in its metadata, found none")
    try:
        network = build(json.loads(sizes))
    except (TypeError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: wanted sizes of the network in the metadata, found {sizes}") from error
    load_into(network, state, path)
    return RayLifter(network, sha256_of(path), device)
