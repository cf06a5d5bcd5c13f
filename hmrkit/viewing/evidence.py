"""What speaks for a person in each frame: how sure the keypoints are, and which feet stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hmrkit.scene.foot_contact import sole_points, standing
from hmrkit.types import Take, Track

if TYPE_CHECKING:
    from hmrkit.models import Models
    from hmrkit.viewing.clip import Shown

LANE_PX = 16  # of a person in a strip: the bar, then a line for each foot
BAR, FEET = slice(2, 10), (slice(11, 13), slice(14, 16))
GROUND_COLOUR, FOOT_COLOURS = (27, 28, 32), ((127, 208, 255), (255, 178, 127))


@dataclass(frozen=True)
class Evidence:
    """A track's T rows: `confidence` (T,) 0 to 1, NaN where unknown; `contact` (T,2), left and right foot stand."""

    confidence: np.ndarray
    contact: np.ndarray


def evidence_of(take: Take, track: Track, models: Models, up: np.ndarray) -> Evidence:
    """The mean confidence of a person's 2D keypoints (the detection's where there are none), and the standing feet.

    Feet are those of the final body, see `standing`; `up` (3,) points against gravity in the camera frame.
    """
    i = track.track_id
    points, done = take.keypoints.get(i), take.calibrated.get(i)
    confidence = track.scores if points is None else points.keypoints_2d[..., 2].mean(1)
    _, rows = stretch(take, track)
    soles = on_rows(sole_points(models.body, take.body[i] if done is None else done.params), rows)
    contact = standing(soles, take.video.motion_fps, up)[rows >= 0]
    return Evidence(np.clip(confidence, 0, 1).astype(np.float32), contact)


def stretch(take: Take, track: Track) -> tuple[slice, np.ndarray]:
    """The chosen frames from a track's first to its last (N of them), and the track's row (N,) in each, -1: none."""
    first, last = np.searchsorted(take.video.frame_indices, track.frame_indices[[0, -1]])
    rows = np.full(last - first + 1, -1)
    rows[np.searchsorted(take.video.frame_indices, track.frame_indices) - first] = np.arange(len(track.frame_indices))
    return slice(first, last + 1), rows


def on_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`values` (T,...) at `rows` (N,): (N,...), NaN where a row is -1."""
    values = np.asarray(values, np.float64)
    return np.where((rows >= 0).reshape(-1, *[1] * (values.ndim - 1)), values[rows], np.nan)


def strip(people: Sequence[Shown], width: int) -> np.ndarray:
    """The timeline as an image (people x `LANE_PX`, `width`, 3): a bar a person, paler where confidence is lower, and
    lines under it while the left and the right foot stand."""
    image = np.full((LANE_PX * max(len(people), 1), width, 3), GROUND_COLOUR, np.uint8)
    for k, person in enumerate(people):
        lane = image[LANE_PX * k : LANE_PX * (k + 1)]
        rows = person.rows[np.arange(width) * len(person.rows) // width]
        shade = 0.25 + 0.75 * np.nan_to_num(person.evidence.confidence[rows], nan=0.5)[:, None]
        bar = shade * np.array(person.colour) + (1 - shade) * np.array(GROUND_COLOUR)
        lane[BAR, rows >= 0] = bar[rows >= 0].round()
        for side, (line, colour) in enumerate(zip(FEET, FOOT_COLOURS, strict=True)):
            lane[line, (rows >= 0) & person.evidence.contact[rows, side]] = colour
    return image
