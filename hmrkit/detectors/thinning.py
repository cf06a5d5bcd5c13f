"""Detection on every N-th frame. Between two such frames people's boxes are interpolated, where that is safe.

It is where the same people are sure to be in both frames, having moved little. Elsewhere (somebody enters, leaves or is
fast, the shot changes) the frames between are detected as well. Nothing depends on how frames come in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from hmrkit.crops import box_iou
from hmrkit.types import Detections
from hmrkit.video.cuts import LEAST, colour_distance, frame_colours

# From this rate on (Hz) frames are left out by default, so that about so many a second are detected.
THINNED_FROM, DETECTED_HZ = 24.0, 9.0
LONGEST = 8  # frames from one to the next by default: those between wait in memory
SURE = 0.4  # score of a box that must be in both frames; ByteTrack's strong ones
SAME_IOU = 0.8  # overlap of one person's boxes in both frames; people who move faster are detected in every frame

Detect = Callable[[np.ndarray, Sequence[int]], list[Detections]]
Settled = tuple[int, np.ndarray, np.ndarray, Detections]


def usual_interval(rate: float) -> int:
    """Detect every this many frames, by default, in a clip of so many frames a second (as it is shown)."""
    return min(max(1, round(rate / DETECTED_HZ)), LONGEST) if rate >= THINNED_FROM - 1e-6 else 1


def detect_thinned(
    batches: Iterable[tuple[Sequence[int], np.ndarray]],
    detect: Detect,
    every: int,
    seconds: Callable[[np.ndarray], np.ndarray],
) -> Iterator[Settled]:
    """Number, image (H,W,3), `frame_colours` and people of every frame of `batches` (numbers, images), in order.

    `detect` gives the people of images (B,H,W,3) uint8 and their numbers, `seconds` the times of numbered frames
    from the first of them on.
    """
    between: list[tuple[int, np.ndarray, np.ndarray]] = []
    last: tuple[int, np.ndarray, Detections] | None = None  # number, colours and people of the last detected frame
    position = 0
    for indices, frames in batches:
        rows = [k for k in range(len(indices)) if (position + k) % every == 0]
        chosen = frames if len(rows) == len(frames) else frames[rows]
        found = iter(detect(chosen, [indices[k] for k in rows]) if rows else [])
        for k, (index, frame) in enumerate(zip(indices, frames, strict=True)):
            colours = frame_colours(frame)
            if (position + k) % every:
                # A batch is as large as its frames are many; one that waits must not keep it.
                between.append((index, frame.copy(), colours))
                continue
            people = next(found)
            if last is not None:
                yield from _settled(between, last, (index, colours, people), detect, seconds)
            between, last = [], (index, colours, people)
            yield index, frame, colours, people
        position += len(indices)
    yield from _settled(between, last, None, detect, seconds)


def _settled(
    between: Sequence[tuple[int, np.ndarray, np.ndarray]],
    before: tuple[int, np.ndarray, Detections] | None,
    after: tuple[int, np.ndarray, Detections] | None,
    detect: Detect,
    seconds: Callable[[np.ndarray], np.ndarray],
) -> Iterator[Settled]:
    """The frames `between` two detected ones with their people."""
    if not between:
        return
    numbers = [index for index, _, _ in between]
    same = None
    if before and after and colour_distance(before[1], after[1]) <= LEAST:
        same = same_people(before[2], after[2])
    if before and after and same:
        times = seconds(np.array([before[0], *numbers, after[0]]))
        people = [interpolated(before[2], after[2], same, float(share)) for share in times[1:-1] / times[-1]]
    else:
        people = [
            found
            for start in range(0, len(between), LONGEST)
            for found in detect(
                np.stack([frame for _, frame, _ in between[start : start + LONGEST]]), numbers[start : start + LONGEST]
            )
        ]
    for (index, frame, colours), here in zip(between, people, strict=True):
        yield index, frame, colours, here


def same_people(before: Detections, after: Detections) -> tuple[np.ndarray, np.ndarray] | None:
    """Rows of both that are one person each; None where somebody sure is not in both, or has moved far."""
    overlap = box_iou(before.boxes_xyxy.astype(np.float64), after.boxes_xyxy.astype(np.float64))
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    good = overlap[rows, columns] >= SAME_IOU
    rows, columns = rows[good], columns[good]
    alone = [np.setdiff1d(np.flatnonzero(d.scores >= SURE), r) for d, r in ((before, rows), (after, columns))]
    return None if len(alone[0]) or len(alone[1]) else (rows, columns)


def interpolated(
    before: Detections, after: Detections, same: tuple[np.ndarray, np.ndarray], share: float
) -> Detections:
    """People at a `share` of the way, linearly; the lower score of the two."""
    rows, columns = same
    boxes = (1 - share) * before.boxes_xyxy[rows] + share * after.boxes_xyxy[columns]
    return Detections(boxes.astype(np.float32), np.minimum(before.scores[rows], after.scores[columns]))
