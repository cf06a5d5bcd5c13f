"""Shot changes: frames from which on a clip shows something else, which no track, smoothing or lifting may cross.

A frame is described by histograms of its colours in bands of rows and of columns. Where the camera pans or people move,
colours change little from frame to frame; at a cut most of them change at once, far more than at the frames about it,
and they stay changed (after a flash they do not). Dissolves and fades are not found: ``--cuts FILE`` names them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from hmrkit.errors import InputError
from hmrkit.files import sha256_of

LEVELS = 6  # of the square root of each channel: dark film has as many as bright film
BANDS = 3  # a pan along a row leaves the colours of the row as they are
GRID = 72  # pixels described along each side
# Hellinger distances of the frames on either side of a cut: at least; so many times what is usual about it, or enough
# in any case. In four real clips, also grey, negative and at 1 Hz, neighbours are up to 0.47 apart.
LEAST, USUAL, CERTAIN = 0.25, 4.0, 0.5
AROUND = 8  # frames on either side that say what is usual
FLASH = 3  # frames that a flash or a disturbed image may last


class CutFinder(Protocol):
    """Finds where shots begin; `weights_sha256` names a file that it has them from (else empty)."""

    weights_sha256: str

    def __call__(self, frame_indices: np.ndarray, colours: np.ndarray) -> tuple[int, ...]:
        """Frame numbers (T,), rising, and their `frame_colours` (T,F) -> numbers of frames that begin a shot."""
        ...


def frame_colours(frame: np.ndarray) -> np.ndarray:
    """What colours a frame (H,W,3) RGB uint8 has where: (F,) float16, square roots of six histograms in a row."""
    height, width = frame.shape[:2]
    rows, columns = (((np.arange(GRID) + 0.5) * side / GRID).astype(int) for side in (height, width))
    level = np.minimum((np.sqrt(frame[rows[:, None], columns] / 255) * LEVELS).astype(int), LEVELS - 1)
    bins = level @ np.array([LEVELS**2, LEVELS, 1])
    bands = [part.ravel() for along in (bins, bins.T) for part in np.split(along, BANDS)]
    counts = np.stack([np.bincount(band, minlength=LEVELS**3) for band in bands])
    return np.sqrt(counts * BANDS / GRID**2).astype(np.float16).ravel()


def colour_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hellinger distance (...) in [0, 1] of frame colours (...,F), of rows or of columns, whichever is less."""
    difference = a.astype(np.float32) - b
    difference = difference.reshape(*difference.shape[:-1], 2, BANDS, -1)
    return (np.linalg.norm(difference, axis=-1) / np.sqrt(2)).mean(-1).min(-1)


def find_cuts(colours: np.ndarray) -> np.ndarray:
    """Rows (C,) of frame colours (T,F) that begin another shot than the row before; never row 0."""
    count = len(colours)
    if count < 2:
        return np.zeros(0, int)
    step = colour_distance(colours[1:], colours[:-1])  # step[k] leads to row k + 1
    around = np.pad(step, AROUND, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(around, 2 * AROUND + 1).copy()
    around[:, AROUND] = np.nan
    usual = np.nan_to_num(np.nanquantile(around, 0.75, axis=1)) if count > 2 else np.zeros(1)
    neighbours = np.pad(step, 1)
    largest = (step >= neighbours[:-2]) & (step > neighbours[2:])
    found = np.flatnonzero((step > np.clip(USUAL * usual, LEAST, CERTAIN)) & largest) + 1
    return np.array([row for row in found if _stays(colours, int(row))], int)


def _stays(colours: np.ndarray, row: int) -> bool:
    """Whether none of the frames from `row` on resembles one before it: a flash comes back to what was there."""
    before, after = colours[max(0, row - FLASH) : row], colours[row : row + FLASH]
    return bool(colour_distance(before[:, None], after).min() > LEAST)


class _Colours:
    weights_sha256 = ""

    def __call__(self, frame_indices: np.ndarray, colours: np.ndarray) -> tuple[int, ...]:
        return tuple(int(frame_indices[row]) for row in find_cuts(colours))


class _Listed:
    def __init__(self, numbers: Sequence[int], weights_sha256: str) -> None:
        self.numbers, self.weights_sha256 = numbers, weights_sha256

    def __call__(self, frame_indices: np.ndarray, colours: np.ndarray) -> tuple[int, ...]:
        inside = [n for n in self.numbers if len(frame_indices) and frame_indices[0] < n <= frame_indices[-1]]
        return tuple(inside)


def load_cuts(spec: str = "auto") -> CutFinder:
    """``auto`` (by colours), ``off``, or a text file: numbers of the frames that begin a shot, between white space or
    commas. InputError where it cannot be read or holds something else."""
    if spec == "auto":
        return _Colours()
    if spec == "off":
        return _Listed((), "")
    try:
        words = re.split(r"[\s,\[\]]+", Path(spec).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"--cuts {spec}: expected auto, off or a text file of frame numbers, got {error}") from error
    wrong = [word for word in words if word and not (word.isascii() and word.isdigit())]
    if wrong:
        raise InputError(f"--cuts {spec}: expected whole frame numbers, found {wrong[0][:40]!r}")
    return _Listed(sorted({int(word) for word in words if word}), sha256_of(Path(spec)))


def shots(frame_indices: np.ndarray, cuts: Sequence[int]) -> np.ndarray:
    """Number (T,) of the shot, from 0, that each of the frames `frame_indices` (T,) lies in."""
    return np.searchsorted(np.sort(np.asarray(cuts, np.int64)), frame_indices, side="right")
