"""Tracklets without duplicates, cut to pieces that are surely one person each: where they have gaps and where people
cross, frame-by-frame association guesses."""

from __future__ import annotations

import numpy as np

from hmrkit.crops import box_iou, paired_iou
from hmrkit.trackers.clip_boxes import DUPLICATE_IOU, FILL_S, ClipBoxes

# Longest time that two people may cover each other and be distinguished by what was before and after, s.
CROSSING_S = 1.6
CROSSING_IOU = 0.3
COVERED = 0.4  # share of a box that lies in another's where its person is lost behind the other, or in a merged box


def without_duplicates(clip: ClipBoxes, pieces: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pieces to keep, and those that lie on a longer or surer piece for most of their time."""
    order = sorted(range(len(pieces)), key=lambda i: -clip.scores[pieces[i]].sum())
    kept: list[np.ndarray] = []
    doubles: list[np.ndarray] = []
    for piece in (pieces[i] for i in order):
        double = any(_is_duplicate(clip, piece, other) for other in kept if _overlap_in_time(clip, piece, other))
        (doubles if double else kept).append(piece)
    return kept, doubles


def _overlap_in_time(clip: ClipBoxes, a: np.ndarray, b: np.ndarray) -> bool:
    return bool(clip.frame[a[0]] <= clip.frame[b[-1]] and clip.frame[b[0]] <= clip.frame[a[-1]])


def _is_duplicate(clip: ClipBoxes, piece: np.ndarray, other: np.ndarray) -> bool:
    """Whether `piece` lies on `other`, seen or between two boxes of it (a detector may give now one, now the other)."""
    known = clip.frame[other]
    after = np.searchsorted(known, clip.frame[piece])
    inside_span = (after < len(known)) & (clip.frame[piece] >= known[0])
    gap = clip.time[other[np.minimum(after, len(known) - 1)]] - clip.time[other[np.maximum(after - 1, 0)]]
    common = piece[inside_span & (np.isin(clip.frame[piece], known) | (gap <= clip.limit(FILL_S)))]
    if len(common) < 0.7 * len(piece):
        return False
    a, b = clip.boxes[common], clip.interpolated(other, clip.frame[common])
    if np.median(paired_iou(a, b)) > DUPLICATE_IOU:
        return True
    # The upper body detected as a person of its own: inside the whole, with the same head and shoulders.
    inside = np.prod(np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None), -1)
    inside /= np.maximum(np.prod(a[:, 2:] - a[:, :2], -1), 1e-9)
    size = b[:, 2:] - b[:, :2]
    same_top = np.abs(a[:, 1] - b[:, 1]) < 0.08 * size[:, 1]
    same_width = (a[:, 2] - a[:, 0]) > 0.65 * size[:, 0]
    return bool(np.median((inside > 0.85) & same_top & same_width) > 0.5)


def cut(clip: ClipBoxes, pieces: list[np.ndarray]) -> list[np.ndarray]:
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


def _merged(clip: ClipBoxes, pieces: list[np.ndarray]) -> np.ndarray:
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


def _lies_in(clip: ClipBoxes, boxes: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """Mask (N,): which of the `boxes` (places in the clip) lie in the box that another `piece` has in their frame."""
    a, b = clip.boxes[boxes], clip.interpolated(piece, clip.frame[boxes])
    inside = np.prod(np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None), -1)
    smaller = np.minimum(np.prod(a[:, 2:] - a[:, :2], -1), np.prod(b[:, 2:] - b[:, :2], -1))
    during = (clip.frame[boxes] >= clip.frame[piece[0]]) & (clip.frame[boxes] <= clip.frame[piece[-1]])
    return during & (inside > COVERED * smaller) & ~np.isin(boxes, piece)
