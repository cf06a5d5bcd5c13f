"""ByteTrack (Zhang et al. 2022): boxes of strong score are matched to predicted boxes first, weak ones to what is left.

Written from the paper (algorithm 1), with SORT's motion model (Bewley et al. 2016): each edge of a box moves at a
constant velocity, which a Kalman filter estimates. Three choices differ from the paper's own code: one overlap
threshold serves both matchings, tracklets that are lost take part in the second one too, and no box is left out for a
score too low, because detectors have removed those. The motion model goes by the frames' times, in units of the usual
time between two: at an even rate it counts frames, as the paper does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from hmrkit.crops import box_iou
from hmrkit.types import Detections

# A person who is lost for longer is begun anew and joined, or not, by `hmrkit.trackers.linking`, which sees both ends.
LOST_S = 1.0
# Small networks give people far away or half hidden 0.4; the pass over the whole clip removes what stays doubtful.
STRONG_SCORE = 0.4
MINIMUM_IOU = 0.1
# A tracklet gets its id with its second box. One that waits for it for longer than this many frames is given up:
# frames count here, a detector misses a frame now and then at any rate.
UNCONFIRMED_FRAMES = 1
# Variances of the Kalman filter: of what is not known at the start, of a step's change, of a measured edge (px^2).
START_VARIANCE, PROCESS_VARIANCE, MEASUREMENT_VARIANCE = 1.0, 0.01, 0.1


class _Tracklet:
    """State of one person: `box` (4,) px, its `velocity` (4,) px a step, and for how many steps it was `missed`.

    The four edges are measured together and equally well, so that one covariance of place and velocity, (2,2), is that
    of each.
    """

    def __init__(self, box: np.ndarray) -> None:
        self.box, self.velocity = box.copy(), np.zeros(4)
        self.covariance = START_VARIANCE * np.eye(2)
        self.track_id = -1
        self.missed, self.missed_frames = 0.0, 0

    def predict(self, steps: float) -> None:
        """A frame on, which comes `steps` usual times between frames later."""
        self.box = self.box + steps * self.velocity
        step = np.array([[1.0, steps], [0.0, 1.0]])
        self.covariance = step @ self.covariance @ step.T + steps * PROCESS_VARIANCE * np.eye(2)
        self.missed, self.missed_frames = self.missed + steps, self.missed_frames + 1

    def update(self, box: np.ndarray) -> None:
        """The Kalman filter's correction by a measured box (4,)."""
        gain = self.covariance[:, 0] / (self.covariance[0, 0] + MEASUREMENT_VARIANCE)
        error = box - self.box
        self.box, self.velocity = self.box + gain[0] * error, self.velocity + gain[1] * error
        self.covariance = self.covariance - np.outer(gain, self.covariance[0])
        self.missed, self.missed_frames = 0.0, 0


def associate(detections: Sequence[Detections], times: np.ndarray, step_s: float) -> list[np.ndarray]:
    """Tracklet ids (N,) of every frame's boxes, from 0; -1 where the box is (so far) nobody's.

    `times` (T,) s of the frames, `step_s` the usual time between two of them.
    """
    # Rounded: what even rates leave of a division must not make one frame more.
    longest = math.ceil(round(LOST_S / step_s, 6))
    steps = np.round(np.diff(times, prepend=times[:1]) / step_s, 6)
    alive: list[_Tracklet] = []
    unused = 0
    result = []
    for people, since in zip(detections, steps, strict=True):
        boxes, scores = people.boxes_xyxy.astype(np.float64), people.scores.astype(np.float64)
        ids = np.full(len(boxes), -1)
        for tracklet in alive:
            tracklet.predict(float(since))
        strong = scores >= STRONG_SCORE
        matched, unmatched, fresh = _match(alive, boxes, np.nonzero(strong)[0])
        more, _, _ = _match(unmatched, boxes, np.nonzero(~strong)[0])
        for tracklet, row in (*matched, *more):
            tracklet.update(boxes[row])
            if tracklet.track_id < 0:
                tracklet.track_id, unused = unused, unused + 1
            ids[row] = tracklet.track_id
        alive = [
            t for t in alive if (t.missed <= longest if t.track_id >= 0 else t.missed_frames <= UNCONFIRMED_FRAMES)
        ]
        alive += [_Tracklet(boxes[row]) for row in fresh]
        result.append(ids)
    return result


def _match(
    tracklets: Sequence[_Tracklet], boxes: np.ndarray, rows: np.ndarray
) -> tuple[list[tuple[_Tracklet, int]], list[_Tracklet], list[int]]:
    """Pairs of tracklet and row with the largest sum of overlaps (Hungarian method), then what is left of both."""
    predicted = np.array([tracklet.box for tracklet in tracklets]).reshape(-1, 4)
    overlap = box_iou(predicted, boxes[rows]).astype(np.float32)  # so that equal overlaps stay equal in its sums
    places, columns = linear_sum_assignment(overlap, maximize=True)
    good = overlap[places, columns] >= MINIMUM_IOU
    places, columns = places[good], columns[good]
    pairs = [(tracklets[place], int(rows[column])) for place, column in zip(places, columns, strict=True)]
    left = [tracklet for place, tracklet in enumerate(tracklets) if place not in set(places)]
    return pairs, left, [int(row) for column, row in enumerate(rows) if column not in set(columns)]
