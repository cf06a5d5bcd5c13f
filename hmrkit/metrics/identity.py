"""Errors of identity: a person who is followed under one number and then under another."""

from __future__ import annotations

import numpy as np


def identity_switches_per_frame(track_ids: np.ndarray) -> np.ndarray:
    """Where a true person, who is matched to the tracks `track_ids` (T,) int (-1: to none), changes the track (T,).

    1 in a frame whose track is another one than in the last matched frame before it, however long ago; 0 in other
    matched frames, NaN where there is no match. Their sum is CLEAR MOT's number of mismatches of that person
    (Bernardin and Stiefelhagen 2008).
    """
    values = np.full(len(track_ids), np.nan)
    matched = np.nonzero(track_ids >= 0)[0]
    values[matched] = np.diff(track_ids[matched], prepend=track_ids[matched[:1]]) != 0
    return values
