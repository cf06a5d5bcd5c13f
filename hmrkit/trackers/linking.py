"""The pass over the whole clip that makes people out of tracklets.

1. Boxes that follow another track's all along are left out as duplicates.
2. Tracklets are cut where they have gaps and where people cross: there, frame-by-frame association guesses.
3. Pieces are joined: each is given at most one successor so that the sum of costs is least (an assignment problem).
   The cost of a join compares position, extrapolated both ways, size and colours over the time between.
4. Boxes that are nobody's are taken in where a track has a gap, or at its ends.
5. Tracks too short or never certain are left out; short gaps are filled; boxes are smoothed without delay.

Everything that is left out is in the result's `dropped`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from hmrkit.crops import box_iou
from hmrkit.trackers import TrackingResult
from hmrkit.trackers.clip_boxes import DUPLICATE_IOU, FILL_S, TIE_S, ClipBoxes
from hmrkit.trackers.joins import join
from hmrkit.trackers.pieces import cut, without_duplicates
from hmrkit.types import Detections, Track

SHORTEST_S = 0.5
SMOOTH_S = 0.3
ADOPT_IOU = 0.3
# Scores.
CERTAIN_SCORE = 0.5
WEAK_BOXES = 3  # fewer boxes, none certain, may fill a gap but say nothing about where a track goes on
# Why boxes are left out.
DUPLICATE = "duplicate of another track"
UNCERTAIN = f"no score of {CERTAIN_SCORE:g} or more"
CROSSING = "nobody's for certain, where people cross or just once"


def link_tracks(
    frame_indices: np.ndarray,
    detections: Sequence[Detections],
    ids: Sequence[np.ndarray],
    times: np.ndarray,
    step_s: float,
) -> TrackingResult:
    """People of a clip from the tracklet `ids` (N,) of each frame's `detections` (see the module's steps).

    `frame_indices` (T,) are the frames' numbers in the source, `times` (T,) s theirs, rising, `step_s` the usual time
    between two.
    """
    clip = ClipBoxes(detections, times, step_s)
    owner = np.concatenate([np.zeros(0, int), *ids]).astype(int)
    pieces = [np.flatnonzero(owner == i) for i in np.unique(owner[owner >= 0])]
    # A certain box that the tracker did not take (a person's first, say) is a piece of its own.
    pieces += [np.array([i]) for i in np.flatnonzero((owner < 0) & (clip.scores >= CERTAIN_SCORE))]
    pieces, doubles = without_duplicates(clip, pieces)
    pieces = cut(clip, pieces)
    weak = [p for p in pieces if len(p) < WEAK_BOXES and clip.scores[p].max() < CERTAIN_SCORE]
    pieces = join(clip, [p for p in pieces if len(p) >= WEAK_BOXES or clip.scores[p].max() >= CERTAIN_SCORE])
    pieces = _adopt(clip, pieces)
    pieces, more_doubles = without_duplicates(clip, pieces)

    kept: list[np.ndarray] = []
    left_out: list[tuple[np.ndarray, str]] = []
    taken = np.concatenate([np.zeros(0, int), *pieces])
    for piece in doubles + more_doubles:
        rest = np.setdiff1d(piece, taken)
        if len(rest):
            left_out.append((rest, DUPLICATE))
    for piece in weak:
        if not np.isin(piece, taken).any():
            left_out.append((piece, UNCERTAIN))
    # A clip that is shorter itself may show people throughout.
    shortest = min(max(SHORTEST_S, 2 * step_s), float(clip.times[-1] - clip.times[0]) + step_s if clip.length else 0)
    for piece in pieces:
        best = clip.scores[piece].max()
        if clip.span(piece) < shortest - step_s / 2 - TIE_S:
            left_out.append((piece, f"shorter than {SHORTEST_S:g} s"))
        elif best < CERTAIN_SCORE:
            left_out.append((piece, UNCERTAIN))
        else:
            kept.append(piece)
    kept.sort(key=lambda piece: (clip.frame[piece[0]], clip.boxes[piece[0], 0]))
    known = np.concatenate([np.zeros(0, int), *kept, *(piece for piece, _ in left_out)])
    left_out += _of_nobody(clip, np.setdiff1d(np.arange(len(clip.scores)), known), kept)
    dropped = [clip.dropped(piece, frame_indices, reason) for piece, reason in left_out]
    tracks = tuple(_finished(clip, piece, frame_indices, i + 1) for i, piece in enumerate(kept))
    return TrackingResult(tracks, tuple(sorted(dropped, key=lambda d: (d.first_frame, d.last_frame))))


def _of_nobody(clip: ClipBoxes, boxes: np.ndarray, kept: list[np.ndarray]) -> list[tuple[np.ndarray, str]]:
    """Boxes that belong to no track and to no tracklet left out: those that follow one another, and why they are."""
    runs: list[list[int]] = []
    reasons: list[str] = []
    for i in boxes:  # in order of frames; there are few
        reason = UNCERTAIN if clip.scores[i] < CERTAIN_SCORE else CROSSING
        at = clip.frame[i : i + 1]
        present = [piece for piece in kept if clip.frame[piece[0]] <= at[0] <= clip.frame[piece[-1]]]
        if present:
            tracked = np.concatenate([clip.interpolated(piece, at) for piece in present])
            reason = DUPLICATE if box_iou(clip.boxes[i][None], tracked).max() > DUPLICATE_IOU else reason
        for run, other in zip(reversed(runs), reversed(reasons), strict=True):
            follows = 0 < at[0] - clip.frame[run[-1]] <= 2 and reason == other
            if follows and box_iou(clip.boxes[i][None], clip.boxes[run[-1]][None])[0, 0] >= ADOPT_IOU:
                run.append(int(i))
                break
        else:
            runs.append([int(i)])
            reasons.append(reason)
    return [(np.array(run), reason) for run, reason in zip(runs, reasons, strict=True)]


def _adopt(clip: ClipBoxes, pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Tracks with boxes that were nobody's: in their gaps where they lie between, and on from their ends."""
    free = np.ones(len(clip.scores), bool)
    free[np.concatenate([np.zeros(0, int), *pieces])] = False
    expected: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(clip.length)]
    for i, piece in enumerate(pieces):
        inner = np.setdiff1d(np.arange(int(clip.frame[piece[0]]), int(clip.frame[piece[-1]])), clip.frame[piece])
        for frame, box in zip(inner, clip.interpolated(piece, inner), strict=True):
            expected[frame].append((i, box))
    grown = [list(piece) for piece in pieces]
    for frame, waiting in enumerate(expected):
        candidates = clip.in_frame[frame][free[clip.in_frame[frame]]]
        if not waiting or not len(candidates):
            continue
        overlap = box_iou(np.stack([box for _, box in waiting]), clip.boxes[candidates])
        for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
            if overlap[row, column] >= ADOPT_IOU:
                grown[waiting[row][0]].append(int(candidates[column]))
                free[candidates[column]] = False
    result = [np.array(sorted(g, key=lambda d: clip.frame[d])) for g in grown]
    order = sorted(range(len(result)), key=lambda i: -len(result[i]))  # the surest first
    for i in order:
        for step in (1, -1):
            result[i] = _extend(clip, result[i], free, step)
    return result


def _extend(clip: ClipBoxes, piece: np.ndarray, free: np.ndarray, step: int) -> np.ndarray:
    """`piece` with free boxes that go on from its last (`step` 1) or first (-1) frame; they are free no more."""
    while True:
        inwards = piece[::-1] if step > 0 else piece
        frame = int(clip.frame[inwards[0]]) + step
        if not 0 <= frame < clip.length:
            return piece
        candidates = clip.in_frame[frame][free[clip.in_frame[frame]]]
        if not len(candidates):
            return piece
        _, speed, _ = clip.end_state(inwards)
        box = clip.boxes[inwards[0]] + np.tile(speed * abs(clip.times[frame] - clip.time[inwards[0]]), 2)
        overlap = np.maximum(
            box_iou(box[None], clip.boxes[candidates]), box_iou(clip.boxes[inwards[:1]], clip.boxes[candidates])
        )[0]
        if overlap.max() < ADOPT_IOU:
            return piece
        best = candidates[overlap.argmax()]
        free[best] = False
        piece = np.append(piece, best) if step > 0 else np.insert(piece, 0, best)


def _finished(clip: ClipBoxes, piece: np.ndarray, frame_indices: np.ndarray, track_id: int) -> Track:
    """A track with short gaps filled and boxes smoothed, in the source's frame numbers."""
    known = clip.frame[piece]
    longest = clip.limit(FILL_S) + clip.step_s  # from the frame before to the frame after
    fill = (np.diff(known) > 1) & (np.diff(clip.time[piece]) <= longest)
    filled = [np.arange(int(known[i]) + 1, int(known[i + 1])) for i in np.flatnonzero(fill)]
    frames = np.sort(np.concatenate([known, *filled]))
    seen = np.isin(frames, known)
    scores = np.full(len(frames), np.nan, np.float32)
    scores[seen] = clip.scores[piece]
    boxes = clip.interpolated(piece, frames)
    for run in np.split(np.arange(len(frames)), np.flatnonzero(np.diff(frames) > 1) + 1):
        boxes[run] = _smoothed(boxes[run], clip.times[frames[run]])
    return Track(track_id, frame_indices[frames], boxes.astype(np.float32), scores, ~seen)


def _smoothed(boxes: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Boxes (T,4) at `times` (T,) s through a zero-phase filter that keeps parabolas: jumps stay.

    Each is that of the parabola, in time, through the boxes about it (Savitzky and Golay 1964, for any times). At the
    ends it is the parabola of the first and the last `SMOOTH_S`.
    """
    step = float(np.median(np.diff(times))) if len(times) > 1 else np.inf
    window = max(5, round(SMOOTH_S / step + TIE_S) | 1)
    # Below 8 Hz five frames are longer than a step or half a squat: nothing there is noise for certain.
    if step > 1 / 8 or len(boxes) < window:
        return boxes
    first = np.clip(np.arange(len(boxes)) - window // 2, 0, len(boxes) - window)
    rows = first[:, None] + np.arange(window)
    away = times[rows] - times[:, None]  # (T,W)
    counts = np.abs(away) <= max(SMOOTH_S, (window - 0.5) * step)  # where frames are sparse, fewer of them
    parabola = np.linalg.pinv(counts[..., None] * (away / step)[..., None] ** np.arange(3))
    return np.einsum("tw,tw,twc->tc", parabola[:, 0], counts, boxes[rows])
