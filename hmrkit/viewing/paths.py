"""Paths of the joints that tell most of a motion: pelvis, wrists and ankles, through the world."""

from __future__ import annotations

import numpy as np

from hmrkit.skeletons import SMPL_24
from hmrkit.viewing.clip import Shown, ViewClip

PATH_JOINTS = SMPL_24.indices("pelvis", "left_wrist", "right_wrist", "left_ankle", "right_ankle")
LAST_S = 1.0


def shot_starts(clip: ViewClip) -> np.ndarray:
    """Places in the timeline where a shot begins, but for the first: paths do not go on across them."""
    return np.unique(np.searchsorted(clip.frames, clip.take.video.cuts))


def last_second(clip: ViewClip, frame: int) -> int:
    """The place in the timeline of the first frame within `LAST_S` before that of place `frame`."""
    return int(np.searchsorted(clip.times, clip.times[frame] - LAST_S - 1e-9))


def path_segments(clip: ViewClip, person: Shown, calibrated: bool, first: int, last: int) -> np.ndarray:
    """Lines (S,2,3) m in the world from frame to frame, for each of `PATH_JOINTS`, from one place in the timeline to
    another. Where the person is not seen, and at cuts, paths are broken."""
    rows = person.rows[first : last + 1]
    begins = np.isin(np.arange(first, last + 1), shot_starts(clip))
    joined = (rows[:-1] >= 0) & (rows[1:] >= 0) & ~begins[1:]
    places = (person.goal if calibrated and person.goal is not None else person.posed).places[:, PATH_JOINTS]
    ends = np.stack([places[rows[:-1][joined]], places[rows[1:][joined]]], 2)
    matrix = clip.world_from_camera
    return (ends.reshape(-1, 2, 3) @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)
