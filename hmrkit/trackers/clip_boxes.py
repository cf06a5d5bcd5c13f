"""The boxes of a whole clip, and what is asked of a piece of a track: where it is between its boxes, how it moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hmrkit.types import Detections, DroppedTrack

VELOCITY_S = 0.5  # a velocity is taken over this time, and extrapolation forgets it over this time
DUPLICATE_IOU = 0.5
FILL_S = 1.0  # longest gap that is filled; a longer one stays open
TIE_S = 1e-6  # times that are this near are the same


class ClipBoxes:
    """All boxes of a clip in one list; a piece of a track is an array of places in it, in the order of frames.

    `frame` (D,) counts the frames given to the tracker from 0: what a detector misses, it misses in one frame or two at
    any rate. All else goes by the frames' `times` (T,) s; `time` (D,) are those of the boxes, and `step_s` is the usual
    time between two frames.
    """

    def __init__(self, detections: Sequence[Detections], times: np.ndarray, step_s: float) -> None:
        self.times, self.step_s = np.asarray(times, np.float64), step_s
        self.length = len(detections)
        counts = [len(d.scores) for d in detections]
        self.frame = np.repeat(np.arange(len(counts)), counts)
        self.time = self.times[self.frame]
        self.boxes = np.concatenate([np.zeros((0, 4)), *(d.boxes_xyxy for d in detections)]).astype(np.float64)
        self.scores = np.concatenate([np.zeros(0), *(d.scores for d in detections)]).astype(np.float64)
        colours = [d.appearance for d in detections if len(d.scores) and d.appearance is not None]
        described = len(self.scores) > 0 and sum(map(len, colours)) == len(self.scores)
        self.colours = (
            np.concatenate(colours).astype(np.float64) if described else np.full((len(self.scores), 1), np.nan)
        )
        first = np.concatenate([[0], np.cumsum(counts)])
        self.in_frame = [np.arange(first[i], first[i + 1]) for i in range(len(counts))]

    def limit(self, seconds: float) -> float:
        """What counts as no longer than so many `seconds`: at least a step, and half a step for rounding."""
        return max(seconds, self.step_s) + self.step_s / 2 + TIE_S

    def span(self, piece: np.ndarray) -> float:
        """Seconds for which a piece is there, its last frame included."""
        return float(self.time[piece[-1]] - self.time[piece[0]]) + self.step_s

    def dropped(self, piece: np.ndarray, frame_indices: np.ndarray, reason: str) -> DroppedTrack:
        """A piece as what was left out, with the source's numbers `frame_indices` (T,) of the clip's frames."""
        first, last = frame_indices[self.frame[piece[[0, -1]]]]
        return DroppedTrack(int(first), int(last), len(piece), round(float(self.scores[piece].max()), 3), reason)

    def interpolated(self, piece: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Boxes (N,4) px of a piece at some `frames` (N,), linear in time between those that it has."""
        known, at = self.boxes[piece], self.times[frames]
        return np.stack([np.interp(at, self.time[piece], known[:, k]) for k in range(4)], -1)

    def end_state(self, piece: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Centre px (2,), outward speed px/s (2,) and longer side px at the first box of `piece` (rows run inwards)."""
        away = np.abs(self.time[piece] - self.time[piece[0]])
        near = piece[: max(3, np.searchsorted(away, VELOCITY_S - self.step_s / 2 - TIE_S))]
        boxes = self.boxes[near]
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        length = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
        if len(near) < 3:
            return centers[0], np.zeros(2), length
        slope, at_end = np.polyfit(away[: len(near)], centers, 1)
        return (centers[0] + at_end) / 2, -slope, length
