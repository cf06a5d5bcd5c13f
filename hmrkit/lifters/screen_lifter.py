"""The lifter around published networks, which read keypoints scaled by the image's width.

VideoPose3D (Pavllo et al. 2019) and SemGCN (Zhao et al. 2019) share the convention: x from -1 to 1 across the image, y
by the same scale, missing joints filled in, the ends of the clip repeated, joints about the pelvis out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hmrkit.device import inference
from hmrkit.lifters.inputs import check_keypoints
from hmrkit.lifters.timing import NetworkClock
from hmrkit.skeletons import Skeleton


class ScreenNetwork(nn.Module):
    """A network from screen coordinates (B,T,J,C) to joints (B,T',J',3) m; T' is `receptive_field` - 1 less than T.

    `channels` C is 2 (x, y) or 3 (with confidence). `rate` is the frame rate, Hz, of the clips that it was trained on;
    None for a network that sees each frame by itself.
    """

    channels: int
    rate: float | None = None

    @property
    def receptive_field(self) -> int:
        """Frames that one output depends on."""
        raise NotImplementedError


class ScreenLifter:
    """A `hmrkit.lifters.Lifter` around a screen network, which is moved to `device` and put into eval mode.

    `input_skeleton` and `output_skeleton` name the joints that the network reads and returns. Clips of more than
    `piece_frames` go through the network in pieces, so memory does not grow with the clip.
    """

    piece_frames = 1024

    def __init__(
        self,
        network: ScreenNetwork,
        input_skeleton: Skeleton,
        output_skeleton: Skeleton,
        weights_sha256: str = "",
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.input_skeleton, self.output_skeleton = input_skeleton, output_skeleton
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
        times: np.ndarray | None = None,
    ) -> np.ndarray:
        """Keypoints (T,K,2|3) px, NaN or confidence 0 = missing -> joints (T,J,3) m about the pelvis.

        Axes are the camera's (x right, y down, z forward). Missing joints are filled in from frames nearby. `flip`
        averages with the prediction for the flipped clip, flipped back. Frames at any rate, or at any rising `times`
        (T,) s, are brought to the network's. It does not know the camera: `focal_px` and `center_px` change nothing.
        InputError where the keypoints are not of `input_skeleton` or `fps` is not positive.
        """
        keypoints = check_keypoints(keypoints_2d, fps, self.input_skeleton)
        if len(keypoints) == 0:
            return np.zeros((0, len(self.output_skeleton), 3), np.float32)
        clock = NetworkClock(len(keypoints), fps, times, self.network.rate)
        points = clock.to_ticks(fill_gaps(keypoints[..., :2], clock.seconds))
        screen = points / width * 2 - np.array([1, height / width], np.float32)
        if self.network.channels == 3:
            screen = np.concatenate([screen, clock.to_ticks(np.nan_to_num(keypoints[..., 2:]))], -1)
        reach, piece = (self.receptive_field - 1) // 2, self.piece_frames
        screen = np.concatenate([screen[:1].repeat(reach, 0), screen, screen[-1:].repeat(reach, 0)])
        clip = torch.from_numpy(screen.astype(np.float32)).to(self.device)
        with inference(self.device):
            starts = range(0, clock.steps, piece)
            joints = torch.cat([self.predict(clip[None, i : i + piece + 2 * reach], flip)[0] for i in starts])
        return clock.to_frames((joints - joints[:, :1]).cpu().numpy()).astype(np.float32)

    def predict(self, screen: Tensor, flip: bool) -> Tensor:
        """Screen coordinates (B,T + `receptive_field` - 1,K,C) -> joints (B,T,J,3) m, not yet about the pelvis."""
        joints = self.network(screen)
        if not flip:
            return joints
        sign = torch.tensor([-1.0, 1, 1], device=screen.device)
        flipped = self.network(screen[:, :, list(self.input_skeleton.mirror)] * sign[: screen.shape[-1]])
        return (joints + flipped[:, :, list(self.output_skeleton.mirror)] * sign) / 2


def fill_gaps(points: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Points (T,K,2) at `times` (T,) with NaN filled in: linear over time, at the ends the joint's nearest value.

    A joint that is never detected lies at the mean of all others.
    """
    filled = points.reshape(len(points), -1).copy()
    for column in filled.T:
        seen = np.isfinite(column)
        if seen.any():
            column[~seen] = np.interp(times[~seen], times[seen], column[seen])
    filled = filled.reshape(points.shape)
    seen = np.isfinite(filled)
    mean = np.where(seen, filled, 0).sum((0, 1)) / np.maximum(seen.sum((0, 1)), 1)
    return np.where(seen, filled, mean).astype(np.float32)
