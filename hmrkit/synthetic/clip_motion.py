"""Stretches of captured motion at any frame rate, on a level ground: how the people of synthetic clips move.

The motion that ships is thinned to 10 Hz. Between its frames rotations follow a cubic spline through their quaternions,
brought back to unit length: unlike slerp it has no jump of velocity at each captured frame, which would be the largest
acceleration of the true motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d, minimum_filter1d
from torch import Tensor

from hmrkit.body import Body
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_quaternion, mirrored_pose, quaternion_to_matrix
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.mocap import Split, load_motion
from hmrkit.synthetic.poses import POSES
from hmrkit.weights import find_weights

# A clip whose feet are most of the time so much above their lowest place climbs on something that is not there.
CLIMB_M = 0.1
WALK_M_PER_S = 0.8
# The ground follows the lowest point of a second, smoothed over a quarter: the captured ground is off by centimetres,
# and jumps last less.
_GROUND_S, _SMOOTH_S = 1.0, 0.25


@dataclass(frozen=True)
class Walk:
    """Motion of one person, T frames: `local` (T,24,3,3) rotations relative to the parent joint, the root's in a world
    with y up; `pelvis` (T,3) m, level, about the middle of the way; `betas` (10,)."""

    local: Tensor
    pelvis: Tensor
    betas: Tensor

    def about_up(self, yaw: float) -> Walk:
        """The same motion rotated by `yaw` about +y."""
        rotation = axis_angle_to_matrix(torch.tensor([0.0, yaw, 0.0]))
        local = self.local.clone()
        local[:, 0] = rotation @ local[:, 0]
        return Walk(local, self.pelvis @ rotation.T, self.betas)

    @property
    def heading(self) -> float:
        """Angle about +y of the way from the first frame to the last, 0 along +z."""
        way = self.pelvis[-1] - self.pelvis[0]
        return math.atan2(float(way[0]), float(way[2]))


class ClipMotion:
    """Draws stretches of the motion of a split; `body` is the free body that moves."""

    def __init__(self, split: Split, body: Body) -> None:
        self.motion = load_motion(find_weights(POSES), split)
        self.body = body
        local = torch.from_numpy(self.motion.local_rotations)
        joints = body.joints_only(local[:, 0], local[:, 1:]).joints.cpu().numpy()
        lowest = (joints[..., 1] - joints[:, :1, 1]).min(1) + self.motion.root_pos_m[:, 1]
        clips = [self.motion.clip(i) for i in range(len(self.motion.clips))]
        self._level = [np.median(lowest[clip]) - np.percentile(lowest[clip], 5) < CLIMB_M for clip in clips]

    def draw(self, frames: int, fps: float, walks: bool, generator: torch.Generator) -> Walk:
        """`frames` frames of some clip at its captured speed, mirrored or not, of a person of a new shape.

        `walks`: who goes at least `WALK_M_PER_S`. Every clip that is long enough is as likely as any other.
        """
        motion, g = self.motion, generator
        need = math.ceil((frames - 1) / fps * motion.fps) + 1
        first: list[np.ndarray] = []
        for i, level in enumerate(self._level):
            starts = np.arange(motion.starts[i], motion.starts[i + 1] - need + 1) if level else np.zeros(0, int)
            if walks and len(starts):
                way = (motion.root_pos_m[starts + need - 1] - motion.root_pos_m[starts])[:, [0, 2]]
                starts = starts[np.linalg.norm(way, axis=1) >= WALK_M_PER_S * (need - 1) / motion.fps]
            if len(starts):
                first.append(starts)
        starts = first[int(torch.randint(len(first), (), generator=g))]
        start = int(starts[int(torch.randint(len(starts), (), generator=g))])
        mirrored = bool(torch.rand((), generator=g) < 0.5)
        betas = torch.randn(10, generator=g).clamp(-2, 2)

        local, pelvis = self._between(start, start + need, np.arange(frames) * motion.fps / fps)
        if mirrored:
            local = mirrored_pose(local, SMPL_24.mirror)
            pelvis = pelvis * torch.tensor([-1.0, 1.0, 1.0])
        pelvis = pelvis * self._leg(betas) / self._leg(torch.zeros(10))
        pelvis[:, [0, 2]] -= (pelvis[:, [0, 2]].amin(0) + pelvis[:, [0, 2]].amax(0)) / 2
        return Walk(local, pelvis, betas)

    def _between(self, start: int, end: int, at: np.ndarray) -> tuple[Tensor, Tensor]:
        """Local rotations and pelvis at places `at` (T,) (in captured frames) of the captured frames start to end."""
        knots = np.arange(end - start)
        quaternions = matrix_to_quaternion(torch.from_numpy(self.motion.local_rotations[start:end])).numpy()
        # q and -q are one rotation: each frame takes the sign that is nearer to the frame before.
        flips = np.sign((quaternions[1:] * quaternions[:-1]).sum(-1, keepdims=True))
        quaternions[1:] *= np.cumprod(np.where(flips == 0, 1, flips), axis=0)
        between = torch.from_numpy(_spline(knots, quaternions, at))
        local = quaternion_to_matrix(torch.nn.functional.normalize(between, dim=-1))
        return local.float(), torch.from_numpy(_spline(knots, self.motion.root_pos_m[start:end], at)).float()

    def _leg(self, betas: Tensor) -> float:
        joints = self.body.joints_only(betas=betas).joints[0]
        hip, ankle = SMPL_24.indices("left_hip", "left_ankle")
        return float(joints[hip, 1] - joints[ankle, 1])


def _spline(knots: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A cubic spline (twice differentiable) through values (N,...) at `knots`; a line through two."""
    if len(knots) < 2:
        return np.repeat(values[:1], len(at), 0)
    return CubicSpline(knots, values.astype(np.float64), bc_type="not-a-knot" if len(knots) > 3 else "natural")(at)


def ground_height(lowest: np.ndarray, fps: float) -> np.ndarray:
    """Height (T,) of the ground under a person whose lowest point is at `lowest` (T,) m."""
    floor = minimum_filter1d(lowest, max(1, round(_GROUND_S * fps)), mode="nearest")
    return gaussian_filter1d(floor, _SMOOTH_S * fps, mode="nearest")
