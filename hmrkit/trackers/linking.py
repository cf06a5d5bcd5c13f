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

from hmrkit.crops import box_iou, paired_iou
from hmrkit.trackers import DroppedTrack, TrackingResult
from hmrkit.types import Detections, Track

# Seconds.
CROSSING_S = 1.6  # longest time that two people may cover each other and be distinguished by what was before and after
JOIN_S = 4.2  # longest gap that is joined
FILL_S = 1.0  # longest gap that is filled; a longer one stays open
SHORTEST_S = 0.5
SPREAD_S = 2.0  # where somebody may be grows for as long: who was away for longer comes back near where they went
VELOCITY_S = 0.5  # a velocity is taken over this time, and extrapolation forgets it over this time
SMOOTH_S = 0.3
# Overlaps (IoU).
CROSSING_IOU = 0.3
COVERED = 0.4  # share of a box that lies in another's where its person is lost behind the other, or in a merged box
DUPLICATE_IOU = 0.5
ADOPT_IOU = 0.3
# Scores.
CERTAIN_SCORE = 0.5
WEAK_BOXES = 3  # fewer boxes, none certain, may fill a gap but say nothing about where a track goes on
# Why boxes are left out.
DUPLICATE = "duplicate of another track"
UNCERTAIN = f"no score of {CERTAIN_SCORE:g} or more"
CROSSING = "nobody's for certain, where people cross or just once"
# The cost of a join is half a sum of squares of about normal deviates; above this it is not made.
JOIN_COST = 6.0
STOPPED = 2.0  # deviation that it is for a person to have lost all speed unseen (two who cross must not swap by it)
VELOCITY_WORST = 1.5  # deviations of a change of velocity at most: people do turn round unseen
UNSEEN_PER_S = 0.8  # cost of a second out of sight: the longer, the likelier it is someone else
COLOUR_SIGMA = 0.2
COLOUR_WORST = (
    2.5  # turning around or a shadow changes colours entirely: more deviations than this are no stronger evidence
)
COLOUR_OTHER = 0.6  # Hellinger distance of other clothes ...
CHANGE_S = 0.5  # ... where there was time for somebody else to come


class _Clip:
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
        return max(seconds, self.step_s) + self.step_s / 2

    def span(self, piece: np.ndarray) -> float:
        """Seconds for which a piece is there, its last frame included."""
        return float(self.time[piece[-1]] - self.time[piece[0]]) + self.step_s

    def dropped(self, piece: np.ndarray, frame_indices: np.ndarray, reason: str) -> DroppedTrack:
        first, last = frame_indices[self.frame[piece[[0, -1]]]]
        return DroppedTrack(int(first), int(last), len(piece), round(float(self.scores[piece].max()), 3), reason)


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
    clip = _Clip(detections, times, step_s)
    owner = np.concatenate([np.zeros(0, int), *ids]).astype(int)
    pieces = [np.flatnonzero(owner == i) for i in np.unique(owner[owner >= 0])]
    # A certain box that the tracker did not take (a person's first, say) is a piece of its own.
    pieces += [np.array([i]) for i in np.flatnonzero((owner < 0) & (clip.scores >= CERTAIN_SCORE))]
    pieces, doubles = _without_duplicates(clip, pieces)
    pieces = _cut(clip, pieces)
    weak = [p for p in pieces if len(p) < WEAK_BOXES and clip.scores[p].max() < CERTAIN_SCORE]
    pieces = _join(clip, [p for p in pieces if len(p) >= WEAK_BOXES or clip.scores[p].max() >= CERTAIN_SCORE])
    pieces = _adopt(clip, pieces)
    pieces, more_doubles = _without_duplicates(clip, pieces)

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
        if clip.span(piece) < shortest - step_s / 2:
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


def _of_nobody(clip: _Clip, boxes: np.ndarray, kept: list[np.ndarray]) -> list[tuple[np.ndarray, str]]:
    """Boxes that belong to no track and to no tracklet left out: those that follow one another, and why they are."""
    runs: list[list[int]] = []
    reasons: list[str] = []
    for i in boxes:  # in order of frames; there are few
        reason = UNCERTAIN if clip.scores[i] < CERTAIN_SCORE else CROSSING
        at = clip.frame[i : i + 1]
        present = [piece for piece in kept if clip.frame[piece[0]] <= at[0] <= clip.frame[piece[-1]]]
        if present:
            tracked = np.concatenate([_interpolated(clip, piece, at) for piece in present])
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


# ----------------------------------------------------------------------------------------------- duplicates, cuts


def _without_duplicates(clip: _Clip, pieces: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pieces to keep, and those that lie on a longer or surer piece for most of their time."""
    order = sorted(range(len(pieces)), key=lambda i: -clip.scores[pieces[i]].sum())
    kept: list[np.ndarray] = []
    doubles: list[np.ndarray] = []
    for piece in (pieces[i] for i in order):
        double = any(_is_duplicate(clip, piece, other) for other in kept if _overlap_in_time(clip, piece, other))
        (doubles if double else kept).append(piece)
    return kept, doubles


def _overlap_in_time(clip: _Clip, a: np.ndarray, b: np.ndarray) -> bool:
    return bool(clip.frame[a[0]] <= clip.frame[b[-1]] and clip.frame[b[0]] <= clip.frame[a[-1]])


def _is_duplicate(clip: _Clip, piece: np.ndarray, other: np.ndarray) -> bool:
    """Whether `piece` lies on `other`, seen or between two boxes of it (a detector may give now one, now the other)."""
    known = clip.frame[other]
    after = np.searchsorted(known, clip.frame[piece])
    inside_span = (after < len(known)) & (clip.frame[piece] >= known[0])
    gap = clip.time[other[np.minimum(after, len(known) - 1)]] - clip.time[other[np.maximum(after - 1, 0)]]
    common = piece[inside_span & (np.isin(clip.frame[piece], known) | (gap <= clip.limit(FILL_S)))]
    if len(common) < 0.7 * len(piece):
        return False
    a, b = clip.boxes[common], _interpolated(clip, other, clip.frame[common])
    if np.median(paired_iou(a, b)) > DUPLICATE_IOU:
        return True
    # The upper body detected as a person of its own: inside the whole, with the same head and shoulders.
    inside = np.prod(np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None), -1)
    inside /= np.maximum(np.prod(a[:, 2:] - a[:, :2], -1), 1e-9)
    size = b[:, 2:] - b[:, :2]
    same_top = np.abs(a[:, 1] - b[:, 1]) < 0.08 * size[:, 1]
    same_width = (a[:, 2] - a[:, 0]) > 0.65 * size[:, 0]
    return bool(np.median((inside > 0.85) & same_top & same_width) > 0.5)


def _cut(clip: _Clip, pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Pieces without gaps and without the frames where people cross (if that is short)."""
    crossing = np.zeros(len(clip.scores), bool)
    holder = np.full(len(clip.scores), -1)
    for i, piece in enumerate(pieces):
        holder[piece] = i
    for found in clip.in_frame:
        held = found[holder[found] >= 0]
        if len(held) > 1:
            overlap = box_iou(clip.boxes[held], clip.boxes[held])
            np.fill_diagonal(overlap, 0)
            crossing[held] = overlap.max(1) > CROSSING_IOU
    crossing |= _merged(clip, pieces)
    result = []
    for piece in pieces:
        run_of = np.cumsum(np.diff(crossing[piece].astype(int), prepend=0) != 0)
        remove = np.zeros(len(piece), bool)
        for run in np.unique(run_of[crossing[piece]]):
            inside = run_of == run
            remove |= inside if clip.span(piece[inside]) <= clip.limit(CROSSING_S) else False
        rest = piece[~remove]
        # One frame may be missed without doubt about who it is.
        result += [p for p in np.split(rest, np.flatnonzero(np.diff(clip.frame[rest]) > 2) + 1) if len(p)]
    return result


def _merged(clip: _Clip, pieces: list[np.ndarray]) -> np.ndarray:
    """Mask (D,) of boxes in which somebody is lost who comes out of them again: there two people may share a box."""
    merged = np.zeros(len(clip.scores), bool)
    frames = [clip.frame[piece] for piece in pieces]
    gaps = [np.flatnonzero(np.diff(f) > 2) for f in frames]
    ends = np.concatenate([np.zeros(0, int), *(np.append(p[g], p[-1]) for p, g in zip(pieces, gaps, strict=True))])
    starts = np.concatenate([np.zeros(0, int), *(np.append(p[g + 1], p[0]) for p, g in zip(pieces, gaps, strict=True))])
    for piece, known in zip(pieces, frames, strict=True):
        lost, back = (np.sort(clip.frame[i[_lies_in(clip, i, piece)]]) for i in (ends, starts))
        for frame in lost:
            after = back[(back > frame) & (clip.times[back] - clip.times[frame] <= clip.limit(CROSSING_S))]
            if len(after):
                merged[piece[(known >= frame) & (known <= after[-1])]] = True
    return merged


def _lies_in(clip: _Clip, boxes: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """Mask (N,): which of the `boxes` (places in the clip) lie in the box that another `piece` has in their frame."""
    a, b = clip.boxes[boxes], _interpolated(clip, piece, clip.frame[boxes])
    inside = np.prod(np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None), -1)
    smaller = np.minimum(np.prod(a[:, 2:] - a[:, :2], -1), np.prod(b[:, 2:] - b[:, :2], -1))
    during = (clip.frame[boxes] >= clip.frame[piece[0]]) & (clip.frame[boxes] <= clip.frame[piece[-1]])
    return during & (inside > COVERED * smaller) & ~np.isin(boxes, piece)


# ----------------------------------------------------------------------------------------------------------- joins


def _join(clip: _Clip, pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Pieces joined into tracks with the least sum of costs; not to join costs `JOIN_COST`."""
    count = len(pieces)
    if count < 2:
        return pieces
    starts = np.array([clip.time[p[0]] for p in pieces])
    ends = np.array([clip.time[p[-1]] for p in pieces])
    with np.errstate(all="ignore"):
        colours = np.stack([_mean_rows(clip.colours[p]) for p in pieces])
    cost = np.full((count, count), JOIN_COST)
    for a in range(count):
        for b in np.flatnonzero((starts > ends[a]) & (starts - ends[a] <= clip.limit(JOIN_S))):
            cost[a, b] = min(JOIN_COST, _join_cost(clip, pieces[a], pieces[b], colours[a], colours[b]))
    before, after = linear_sum_assignment(cost)
    successor = {int(a): int(b) for a, b in zip(before, after, strict=True) if cost[a, b] < JOIN_COST}
    joined = []
    for head in sorted(set(range(count)) - set(successor.values())):
        chain = [head]
        while chain[-1] in successor:
            chain.append(successor[chain[-1]])
        joined.append(np.concatenate([pieces[i] for i in chain]))
    return joined


def _join_cost(clip: _Clip, a: np.ndarray, b: np.ndarray, colour_a: np.ndarray, colour_b: np.ndarray) -> float:
    """Half the sum of squared deviations in position, size and colours when `b` goes on where `a` ends."""
    gap = float(clip.time[b[0]] - clip.time[a[-1]])
    center_a, speed_a, length_a = _end_state(clip, a[::-1])
    center_b, speed_b, length_b = _end_state(clip, b)
    length = np.sqrt(length_a * length_b)
    # A speed is believed for a while and then forgotten: people stop and turn back.
    carried = VELOCITY_S * (1 - np.exp(-gap / VELOCITY_S))
    spread = length * (0.15 + 0.35 * min(gap, SPREAD_S))
    moving = np.inf
    for seconds in (carried, gap):  # forgotten, or kept up all the while
        forward = np.linalg.norm(center_a + speed_a * seconds - center_b)
        backward = np.linalg.norm(center_b + speed_b * seconds - center_a)
        moving = min(moving, ((forward + backward) / 2 / spread) ** 2)
    last_a, first_b = clip.boxes[a[-1]], clip.boxes[b[0]]
    stopped = (np.linalg.norm(last_a[:2] + last_a[2:] - first_b[:2] - first_b[2:]) / 2 / spread) ** 2 + STOPPED**2
    # Outward speeds: who goes on at the same velocity has opposite ones.
    change = min(float(np.linalg.norm(speed_a + speed_b)) / length / (0.3 + 0.2 * gap), VELOCITY_WORST)
    size = np.log(length_a / length_b) / (0.2 + 0.1 * gap)
    colour = 0.0
    if np.isfinite(colour_a + colour_b).all():
        distance = np.linalg.norm(colour_a - colour_b) / 2
        if gap > CHANGE_S and distance > COLOUR_OTHER:
            return JOIN_COST
        colour = min(distance / COLOUR_SIGMA, COLOUR_WORST)
    return float(min(moving, stopped) + change**2 + size**2 + colour**2) / 2 + UNSEEN_PER_S * gap


def _end_state(clip: _Clip, piece: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre px (2,), outward speed px/s (2,) and longer side px at the first box of `piece` (rows run inwards)."""
    away = np.abs(clip.time[piece] - clip.time[piece[0]])
    near = piece[: max(3, np.searchsorted(away, VELOCITY_S - clip.step_s / 2))]
    boxes = clip.boxes[near]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    length = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    if len(near) < 3:
        return centers[0], np.zeros(2), length
    slope, at_end = np.polyfit(away[: len(near)], centers, 1)
    return (centers[0] + at_end) / 2, -slope, length


def _mean_rows(rows: np.ndarray) -> np.ndarray:
    good = rows[np.isfinite(rows).all(1)]
    return good.mean(0) if len(good) else np.full(rows.shape[1], np.nan)


# -------------------------------------------------------------------------------------------------- boxes left over


def _adopt(clip: _Clip, pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Tracks with boxes that were nobody's: in their gaps where they lie between, and on from their ends."""
    free = np.ones(len(clip.scores), bool)
    free[np.concatenate([np.zeros(0, int), *pieces])] = False
    expected: list[list[tuple[int, np.ndarray]]] = [[] for _ in range(clip.length)]
    for i, piece in enumerate(pieces):
        inner = np.setdiff1d(np.arange(int(clip.frame[piece[0]]), int(clip.frame[piece[-1]])), clip.frame[piece])
        for frame, box in zip(inner, _interpolated(clip, piece, inner), strict=True):
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


def _extend(clip: _Clip, piece: np.ndarray, free: np.ndarray, step: int) -> np.ndarray:
    """`piece` with free boxes that go on from its last (`step` 1) or first (-1) frame; they are free no more."""
    while True:
        inwards = piece[::-1] if step > 0 else piece
        frame = int(clip.frame[inwards[0]]) + step
        if not 0 <= frame < clip.length:
            return piece
        candidates = clip.in_frame[frame][free[clip.in_frame[frame]]]
        if not len(candidates):
            return piece
        _, speed, _ = _end_state(clip, inwards)
        box = clip.boxes[inwards[0]] + np.tile(speed * abs(clip.times[frame] - clip.time[inwards[0]]), 2)
        overlap = np.maximum(
            box_iou(box[None], clip.boxes[candidates]), box_iou(clip.boxes[inwards[:1]], clip.boxes[candidates])
        )[0]
        if overlap.max() < ADOPT_IOU:
            return piece
        best = candidates[overlap.argmax()]
        free[best] = False
        piece = np.append(piece, best) if step > 0 else np.insert(piece, 0, best)


# -------------------------------------------------------------------------------------------------- finished tracks


def _interpolated(clip: _Clip, piece: np.ndarray, frames: np.ndarray) -> np.ndarray:
    known, at = clip.boxes[piece], clip.times[frames]
    return np.stack([np.interp(at, clip.time[piece], known[:, k]) for k in range(4)], -1)


def _finished(clip: _Clip, piece: np.ndarray, frame_indices: np.ndarray, track_id: int) -> Track:
    """A track with short gaps filled and boxes smoothed, in the source's frame numbers."""
    known = clip.frame[piece]
    longest = clip.limit(FILL_S) + clip.step_s  # from the frame before to the frame after
    fill = (np.diff(known) > 1) & (np.diff(clip.time[piece]) <= longest)
    filled = [np.arange(int(known[i]) + 1, int(known[i + 1])) for i in np.flatnonzero(fill)]
    frames = np.sort(np.concatenate([known, *filled]))
    seen = np.isin(frames, known)
    scores = np.full(len(frames), np.nan, np.float32)
    scores[seen] = clip.scores[piece]
    boxes = _interpolated(clip, piece, frames)
    for run in np.split(np.arange(len(frames)), np.flatnonzero(np.diff(frames) > 1) + 1):
        boxes[run] = _smoothed(boxes[run], clip.times[frames[run]])
    return Track(track_id, frame_indices[frames], boxes.astype(np.float32), scores, ~seen)


def _smoothed(boxes: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Boxes (T,4) at `times` (T,) s through a zero-phase filter that keeps parabolas: jumps stay.

    Each is that of the parabola, in time, through the boxes about it (Savitzky and Golay 1964, for any times). At the
    ends it is the parabola of the first and the last `SMOOTH_S`.
    """
    step = float(np.median(np.diff(times))) if len(times) > 1 else np.inf
    window = max(5, round(SMOOTH_S / step) | 1)
    # Below 8 Hz five frames are longer than a step or half a squat: nothing there is noise for certain.
    if step > 1 / 8 or len(boxes) < window:
        return boxes
    first = np.clip(np.arange(len(boxes)) - window // 2, 0, len(boxes) - window)
    rows = first[:, None] + np.arange(window)
    away = times[rows] - times[:, None]  # (T,W)
    counts = np.abs(away) <= max(SMOOTH_S, (window - 0.5) * step)  # where frames are sparse, fewer of them
    parabola = np.linalg.pinv(counts[..., None] * (away / step)[..., None] ** np.arange(3))
    return np.einsum("tw,tw,twc->tc", parabola[:, 0], counts, boxes[rows])
