"""Pieces joined into tracks: each is given at most one successor so that the sum of costs is least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hmrkit.trackers.clip_boxes import VELOCITY_S, ClipBoxes

# Seconds.
JOIN_S = 4.2  # longest gap that is joined
SPREAD_S = 2.0  # where somebody may be grows for as long: who was away for longer comes back near where they went
# The cost of a join is half a sum of squares of about normal deviates; above this it is not made.
JOIN_COST = 6.0
STOPPED = 2.0  # deviation that it is for a person to have lost all speed unseen (two who cross must not swap by it)
VELOCITY_WORST = 1.5  # deviations of a change of velocity at most: people do turn round unseen
UNSEEN_PER_S = 0.8  # cost of a second out of sight: the longer, the likelier it is someone else
COLOUR_SIGMA = 0.2
COLOUR_S = 0.5  # colours are compared over this time beside a gap, too: who rolls or bends changes them along a track
COLOUR_WORST = 2.5  # deviations: whoever faces away or steps into a shadow changes colours entirely
COLOUR_OTHER = 0.6  # Hellinger distance of other clothes ...
CHANGE_S = 0.5  # ... where there was time for somebody else to come


def join(clip: ClipBoxes, pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Pieces joined into tracks with the least sum of costs; not to join costs `JOIN_COST`."""
    count = len(pieces)
    if count < 2:
        return pieces
    starts = np.array([clip.time[p[0]] for p in pieces])
    ends = np.array([clip.time[p[-1]] for p in pieces])
    colours = [_Colours.of(clip, p) for p in pieces]
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


def _join_cost(clip: ClipBoxes, a: np.ndarray, b: np.ndarray, colours_a: _Colours, colours_b: _Colours) -> float:
    """Half the sum of squared deviations in position, size and colours when `b` goes on where `a` ends."""
    gap = float(clip.time[b[0]] - clip.time[a[-1]])
    center_a, speed_a, length_a = clip.end_state(a[::-1])
    center_b, speed_b, length_b = clip.end_state(b)
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
    distance = colours_a.distance(colours_b)
    if np.isfinite(distance):
        if gap > CHANGE_S and distance > COLOUR_OTHER:
            return JOIN_COST
        colour = min(distance / COLOUR_SIGMA, COLOUR_WORST)
    return float(min(moving, stopped) + change**2 + size**2 + colour**2) / 2 + UNSEEN_PER_S * gap


@dataclass
class _Colours:
    """Mean colours (C,) of a piece: of all of it, and of its first and last `COLOUR_S`. NaN where there are none."""

    mean: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, clip: ClipBoxes, piece: np.ndarray) -> _Colours:
        colours, time = clip.colours[piece], clip.time[piece]
        near = clip.limit(COLOUR_S)
        return cls(
            _mean_rows(colours),
            _mean_rows(colours[time - time[0] <= near]),
            _mean_rows(colours[time[-1] - time <= near]),
        )

    def distance(self, later: _Colours) -> float:
        """Hellinger distance of two pieces' colours, NaN where there are none: that of the pieces as a whole or that
        beside the gap, whichever is smaller. A pose lasts over a gap; who crosses somebody has colours of both there.
        """
        return float(np.fmin(np.linalg.norm(self.mean - later.mean), np.linalg.norm(self.last - later.first)) / 2)


def _mean_rows(rows: np.ndarray) -> np.ndarray:
    good = rows[np.isfinite(rows).all(1)]
    return good.mean(0) if len(good) else np.full(rows.shape[1], np.nan)
