"""What the fit goes by: a track's keypoints with depth, in order over time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from torch import Tensor

from hmrkit.camera import unzoomed
from hmrkit.errors import UsageError
from hmrkit.skeletons import BLAZEPOSE_33, common_joints, get_skeleton
from hmrkit.smoothing import drop_spikes, smooth_series, standing_still, unswap_sides
from hmrkit.types import Camera, Keypoints, Take, Track
from hmrkit.video.camera_motion import moving_background

# NumPy or torch.
Points = TypeVar("Points", np.ndarray, Tensor)

TALLEST_M = 2.4  # a tall person with raised arms
STATURE_M = 1.7  # of whoever fills a box: turns heights in the image into metres


@dataclass(frozen=True)
class FitOptions:
    """Noise levels are what BlazePose shows on real clips; accelerations are those of unhurried people.

    `smooth` False leaves the keypoints as they come. `rounds` of posing and moving (a second one changes little).
    Measured bone lengths have the relative spread `bone_sigma`, which stays however long the track is, and
    `bone_frame_sigma` of single frames, alike within `bone_memory_s`; against them betas have spread 1.
    `bone_shrinkage`: by how much they are known to be short (`hmrkit.fitting.bone_lengths.SHRINKAGE`; None: not).
    """

    smooth: bool = True
    rounds: int = 1
    noise_m: float = 0.012
    noise_2d: float = 0.005  # of the person's height in the image
    acceleration: float = 3.0  # m/s^2 of a landmark
    depth_noise: float = 0.02  # of the depth
    depth_acceleration: float = 1.0  # m/s^2 of the whole person
    bone_sigma: float = 0.06
    bone_frame_sigma: float = 0.18
    bone_memory_s: float = 0.5
    bone_shrinkage: tuple[float, ...] | None = None
    stature_sigma: float = 0.06


@dataclass(frozen=True)
class CleanTrack:
    """Keypoints in order: `pixels` (T,33,2), `weights` (T,33), `landmarks` (T,33,3) m, `times` (T,) s.

    `height` (T,) px is the box's; beyond `farthest` (T,) m nobody is tall enough to fill the box. `background` (T,2)
    px: where the image's background has gone under a camera that moves.
    """

    pixels: np.ndarray
    weights: np.ndarray
    landmarks: np.ndarray
    times: np.ndarray
    height: np.ndarray
    farthest: np.ndarray
    background: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """(33,): landmarks that the track shows at least once; the others' places are zero and mean nothing."""
        return self.weights.max(0) > 0

    def still_feet(self, landmarks: list[int]) -> np.ndarray:
        """How surely (T-1,S) these landmarks of the feet stand between two frames (`smoothing.standing_still`)."""
        pixels = self.pixels[:, landmarks] - self.background[:, None]  # a foot at rest goes with the background
        return standing_still(pixels, self.weights[:, landmarks], self.height, self.times)


class CleanTracks:
    """`clean_track` of the people of a take by track id, each made when it is first asked for: fitting and refining go
    by the same."""

    def __init__(self, take: Take) -> None:
        self.take = take
        self._made: dict[int, CleanTrack] = {}

    def __getitem__(self, track_id: int) -> CleanTrack:
        if track_id not in self._made:
            take, person = self.take, self.take.track(track_id)
            times = take.video.seconds(person.frame_indices)
            person, points = unzoomed(take.camera, person, points_with_depth(take, person))
            clean = clean_track(person, points, take.camera, times)
            self._made[track_id] = replace(clean, background=moving_background(take, person.frame_indices))
        return self._made[track_id]


def points_with_depth(take: Take, person: Track) -> Keypoints:
    """A person's landmarks with 3D: the estimator's own, or in BlazePose's order with depth from the lifted pose.

    Landmarks that neither the estimator nor the lifter knows are missing.
    """
    points = take.keypoints[person.track_id]
    if points.joints_3d is not None:
        return points
    lifted = take.lifted[person.track_id]
    flat = np.full((len(points.keypoints_2d), len(BLAZEPOSE_33), 3), np.nan, np.float32)
    flat[..., 2] = 0
    deep = np.full_like(flat, np.nan)
    source, target = common_joints(get_skeleton(points.skeleton), BLAZEPOSE_33)
    flat[:, target] = points.keypoints_2d[:, source]
    source, target = common_joints(get_skeleton(lifted.skeleton), BLAZEPOSE_33)
    deep[:, target] = lifted.joints_c[:, source]
    return Keypoints(flat, deep, BLAZEPOSE_33.name)


def clean_track(
    track: Track, keypoints: Keypoints, camera: Camera, times: np.ndarray, options: FitOptions | None = None
) -> CleanTrack:
    """Put one track's keypoints in order over time: sides, spikes, gaps, jitter.

    `keypoints` must be BlazePose's 33 landmarks with 3D; `times` (T,) s as `hmrkit.types.VideoInfo.seconds` gives them.
    UsageError for another skeleton, or where no frame of the track has keypoints.
    """
    options = options or FitOptions()
    if keypoints.skeleton != BLAZEPOSE_33.name or keypoints.joints_3d is None:
        raise UsageError(
            f"the fit needs blazepose-33 keypoints with 3D, got {keypoints.skeleton}"
            f"{'' if keypoints.joints_3d is not None else ' without 3D'}; use --keypoints blazepose-heavy"
        )
    pixels = keypoints.keypoints_2d[..., :2].astype(np.float64)
    landmarks = keypoints.joints_3d.astype(np.float64)
    weights = np.nan_to_num(keypoints.keypoints_2d[..., 2]).astype(np.float64).clip(0, 1)
    missing = ~(np.isfinite(pixels).all(-1) & np.isfinite(landmarks).all(-1))
    weights[missing] = 0
    if not (weights > 0).any():
        raise UsageError(f"track {track.track_id} has no keypoints in any frame; lower the detector's threshold")
    height = np.maximum(track.boxes_xyxy[:, 3] - track.boxes_xyxy[:, 1], 1.0)
    height = np.where(np.isfinite(height), height, np.nanmedian(height)).astype(np.float64)
    if options.smooth and len(times) > 2:
        size = float(np.median(height))
        # In the image, too: of people seen from the side, depth alone turns over now and then.
        both = np.concatenate([landmarks, pixels * (STATURE_M / size)], -1)
        swapped = unswap_sides(both, weights, times, BLAZEPOSE_33)
        mirror = np.array(BLAZEPOSE_33.mirror)
        pixels = np.where(swapped[..., None], pixels[:, mirror], pixels)
        landmarks = np.where(swapped[..., None], landmarks[:, mirror], landmarks)
        weights = np.where(swapped, weights[:, mirror], weights)
        spikes = drop_spikes(landmarks, options.noise_m) | drop_spikes(pixels / size, options.noise_2d)
        trusted = np.where(spikes, 0.0, np.maximum(weights, 0.05) * (weights > 0)) ** 2
        landmarks = smooth_series(landmarks, trusted, times, options.noise_m, options.acceleration)
        acceleration = options.acceleration / STATURE_M  # in heights
        pixels = smooth_series(pixels / size, trusted, times, options.noise_2d, acceleration) * size
    landmarks = landmarks - hips_middle(landmarks)
    single = [np.nan_to_num(a).astype(np.float32) for a in (pixels, weights, landmarks)]
    width = np.nan_to_num(track.boxes_xyxy[:, 2] - track.boxes_xyxy[:, 0], nan=1.0)
    farthest = TALLEST_M * float(camera.focal_px.max()) / np.maximum(height, width)
    return CleanTrack(single[0], single[1], single[2], times, height, farthest, np.zeros((len(times), 2), np.float32))


def hips_middle(points: Points) -> Points:
    """Middle of the hips (T,1,3) of landmarks (T,33,3), NumPy or torch."""
    left, right = BLAZEPOSE_33.indices("left_hip", "right_hip")
    return (points[:, left] + points[:, right])[:, None] / 2
