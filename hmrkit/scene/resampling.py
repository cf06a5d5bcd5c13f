"""One person's motion on a scene's clock: resampled, gaps bridged, still in the camera frame, metres, OpenCV axes.

A take's track has a row for each frame in which the person was followed; a scene wants consecutive frames at the rate
of the shot. Between rows rotations go by slerp, places linearly, and what calibration adds to the skeleton linearly.
A frame that falls onto a row gets exactly that row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.types import BodyParams, Take, VideoInfo
from hmrkit.untrusted.limits import check_export
from hmrkit.video.index import nearest_common_rate

if TYPE_CHECKING:
    from hmrkit.body import Body
from hmrkit.body.posing import MOVING, skeleton_joints, take_rows

_ON_A_ROW = 1e-3  # rows nearer than this to a whole one are that row


@dataclass(frozen=True)
class Clock:
    """Frame numbers of a scene: frame `n` shows the clip at ``(n - first_frame) / fps`` seconds.

    Without resampling, every chosen frame of the clip has a number of its own, whatever its time.
    """

    video: VideoInfo
    fps: Fraction
    first_frame: int
    resampled: bool

    @property
    def motion_fps(self) -> float:
        """Frames per second of the world: more than `fps` where the clip is in slow motion."""
        return float(self.fps) * self.video.slowdown

    def times(self, frame_indices: np.ndarray) -> np.ndarray:
        """Seconds since the clip's first frame of source frames (T,); by the rate for frames that were not chosen."""
        video = self.video
        if video.variable:
            return np.interp(frame_indices, video.frame_indices, video.frame_times)
        chosen, rate = video.frame_indices, float(video.fps)
        row = np.minimum(np.searchsorted(chosen, frame_indices), len(chosen) - 1)
        start = float(video.frame_times[0]) - (int(chosen[0]) - video.first_number) / rate
        by_rate = (frame_indices - video.first_number) / rate
        return np.where(chosen[row] == frame_indices, video.frame_times[row] - start, by_rate)

    def numbers(self, frame_indices: np.ndarray) -> np.ndarray:
        """Scene frames (R,) float at which source frames are shown; whole numbers without resampling."""
        if self.resampled:
            return self.times(frame_indices) * float(self.fps) + self.first_frame
        return ((frame_indices - self.video.first_number) // self.video.step + self.first_frame).astype(float)

    def place(self, frame_indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A track's source frames (R,) -> scene frames (T,), the row each one shows (T,) float, and seen (T,) bool.

        Not seen are frames inside a gap of the track. InputError where there are too many (`hmrkit.untrusted.limits`).
        """
        count, step = len(frame_indices), self.video.step
        rows_at = self.numbers(frame_indices) - self.first_frame
        if self.resampled:
            first, last = int(np.ceil(rows_at[0] - _ON_A_ROW)), int(np.floor(rows_at[-1] + _ON_A_ROW))
            first = min(first, last) if count > 1 else round(rows_at[0])
            last = max(last, first)
        else:
            first, last = int(rows_at[0]), int(rows_at[-1])
        check_export(last - first + 1, count, f"{self.video.path} at {float(self.fps):g} frames per second")
        numbers = np.arange(first, last + 1)
        rows = np.interp(numbers, rows_at, np.arange(count))
        whole = np.abs(rows - rows.round()) < _ON_A_ROW
        rows = np.where(whole, rows.round(), rows)
        low = np.floor(rows).astype(int)
        gap = frame_indices[np.minimum(low + 1, count - 1)] - frame_indices[low] > step
        return numbers + self.first_frame, rows, whole | ~gap


def make_clock(take: Take, fps: Fraction | None, first_frame: int | None, own_times: bool = False) -> Clock:
    """The clip's own clock (thinned out as the clip was), or one of another rate `fps`, which resamples.

    A clip of variable rate is resampled to `usual_rate` so that frames are where the footage has them; with `own_times`
    each of its frames keeps a number of its own. `first_frame` is the number of the source's first frame, None: what
    the plates have, 0 for a video.
    """
    video = take.video
    first_frame = video.first_number if first_frame is None else first_frame
    if fps is None and video.variable and not own_times:
        return Clock(video, usual_rate(video), first_frame, True)
    own = video.fps / video.step
    return Clock(video, fps or own, first_frame, fps is not None and (fps != own or video.variable))


def usual_rate(video: VideoInfo) -> Fraction:
    """Rate of most of the chosen frames of a clip of variable rate: a common one where one is near.

    The lower quartile of the times between them: where a camera slows down, or a screen stands still, nothing is lost.
    """
    rate = 1 / float(np.quantile(np.diff(video.frame_times) / np.diff(video.frame_indices), 0.25))
    return (nearest_common_rate(rate, 0.02) or Fraction(rate).limit_denominator(1000)) / video.step


@dataclass(frozen=True)
class Motion:
    """A person on the scene's clock.

    `frames` (T,) scene numbers, `rows` (T,) float rows of the track, `visible` (T,) bool. `params`: the skeleton's
    motion (of a calibrated person: refitted to the calibrated mesh). `base`: the parameters that the mesh is made of
    before calibration; `joints_c` (T,24,3) m: the final joints. `cleaned` is `params` after cleaning, or the same.
    """

    track_id: int
    frames: np.ndarray
    rows: np.ndarray
    visible: np.ndarray
    base: BodyParams
    params: BodyParams
    joints_c: np.ndarray
    cleaned: BodyParams
    calibrated: bool
    name: str

    def __len__(self) -> int:
        return len(self.frames)

    def part(self, rows: slice) -> Motion:
        """Some consecutive frames of it."""
        arrays = {key: getattr(self, key)[rows] for key in ("frames", "rows", "visible", "joints_c")}
        moved = {key: take_rows(getattr(self, key), rows) for key in ("base", "params", "cleaned")}
        return replace(self, **arrays, **moved)


def make_motion(take: Take, track_id: int, clock: Clock, body: Body, name: str) -> Motion | None:
    """A track of the take on the scene's clock. Rows whose parameters are NaN count as a gap; None if all are."""
    base, calibrated = take.body[track_id], take.calibrated.get(track_id)
    params = base if calibrated is None else calibrated.params
    good = [np.isfinite(getattr(p, key).reshape(len(p.transl_c), -1)).all(1) for p in (base, params) for key in MOVING]
    kept = np.flatnonzero(np.all(good, axis=0))
    if not len(kept):
        return None
    frames, rows, visible = clock.place(take.track(track_id).frame_indices[kept])
    base, params = take_rows(base, kept), take_rows(params, kept)
    at_rows, posed = sample_params(params, rows), skeleton_joints(body, params)
    # The skeleton rotates between two rows; what calibration adds to its joints is small and changes linearly.
    final = posed if calibrated is None else calibrated.joints_c[kept]
    joints = skeleton_joints(body, at_rows) + sample(final - posed, rows)
    on_row = rows == np.floor(rows)
    joints[on_row] = final[rows[on_row].astype(int)]
    track_rows = np.interp(rows, np.arange(len(kept)), kept)
    return Motion(
        track_id, frames, track_rows, visible, sample_params(base, rows), at_rows, joints.astype(np.float32), at_rows,
        calibrated is not None, name,
    )  # fmt: skip


def sample(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`values` (R,...) at fractional rows (T,), linearly; a whole row comes back as it is."""
    low, high, share = _between(rows, len(values))
    share = share.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return np.where(share == 0, values[low], (1 - share) * values[low] + share * values[high])


def sample_rotations(rotations: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rotation matrices (R,...,3,3) at fractional rows (T,), by slerp; a whole row comes back as it is."""
    low, high, share = _between(rows, len(rotations))
    out = rotations[low].copy()
    moving = np.flatnonzero(share > 0)
    if len(moving):
        start, end = (torch.from_numpy(rotations[i[moving]]).double() for i in (low, high))
        part = torch.from_numpy(share[moving]).reshape(-1, *[1] * (rotations.ndim - 2))
        rotated = start @ axis_angle_to_matrix(part * matrix_to_axis_angle(start.mT @ end))
        out[moving] = rotated.numpy().astype(rotations.dtype)
    return out


def sample_params(params: BodyParams, rows: np.ndarray) -> BodyParams:
    """Body parameters at fractional rows (T,)."""
    return replace(
        params,
        global_orient=sample_rotations(params.global_orient, rows),
        body_pose=sample_rotations(params.body_pose, rows),
        transl_c=sample(params.transl_c, rows),
        fingers=None if params.fingers is None else sample_rotations(params.fingers, rows),
        seen=None if params.seen is None else params.seen[rows.round().astype(int)],
    )


def _between(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low = np.floor(rows).astype(int).clip(0, count - 1)
    return low, np.minimum(low + 1, count - 1), rows - low
