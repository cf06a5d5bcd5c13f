"""How deep in the scene a resting foot lies: in one place, unless the camera comes nearer or zooms.

An image does not show whether a foot that rests in it keeps its depth: under a slow zoom or push-in the whole person
comes nearer while the feet hardly move. Then the foot's depth and the person's own change together. Where only one of
them does, the other one's change is noise, or a squat, a bow or a step over a planted foot.
"""

from __future__ import annotations

import numpy as np

from hmrkit.smoothing import bridge

COURSE_S = 0.5  # spread of the window that takes noise out of a course
SHORTEST_DRIFT_S = 1.0  # a camera move that a shorter stand shows does no harm to it
# Metres over one stand: less of a common drift is noise, more is the camera's.
STEADY_M, DRIFTING_M = 0.15, 0.35


def hold_still(depth: np.ndarray, contact: np.ndarray, times: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
    """Depth (T,) m of a foot made steady while it stands; between two stands the change is spread evenly.

    `contact` (T-1,) in [0, 1] says how surely it stands between two frames (`smoothing.standing_still`), at `times`
    (T,) s. `own` (T,) m is the person's own depth: where both drift, the foot keeps the drift (`shared_drift`).
    """
    stands = _stands(contact)
    if not stands:
        return depth
    change, standing = np.zeros_like(depth), np.zeros(len(depth), bool)
    drift = np.zeros_like(depth) if own is None else shared_drift(depth, own, contact, times)
    for rows in stands:
        standing[rows] = True
        change[rows] = drift[rows] + (depth[rows] - drift[rows]).mean() - depth[rows]
    return depth + bridge(change[:, None, None], standing[:, None], times)[:, 0, 0]


def shared_drift(depth: np.ndarray, own: np.ndarray, contact: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(T,) m: by how much a resting foot and its person come nearer or go away together during each stand.

    The smaller of the two slow courses about the stand's means, 0 where their signs differ. Drifts below `STEADY_M`
    count for nothing, those above `DRIFTING_M` in full. Zero outside of stands.
    """
    drift = np.zeros(len(depth))
    for rows in _stands(contact):
        if times[rows.stop - 1] - times[rows.start] < SHORTEST_DRIFT_S:
            continue
        foot, body = (slow_course(values[rows], times[rows]) for values in (depth, own))
        foot, body = foot - foot.mean(), body - body.mean()
        common = np.where(foot * body > 0, np.sign(foot) * np.minimum(np.abs(foot), np.abs(body)), 0.0)
        share = np.clip((np.ptp(common) - STEADY_M) / (DRIFTING_M - STEADY_M), 0, 1)
        drift[rows] = share * common
    return drift


def slow_course(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """`values` (n,) at even `times` (n,) s without what is quick: a line fitted about each, Gaussian of `COURSE_S`.

    A line, so that a steady drift has no lag at the ends (Cleveland 1979).
    """
    step = (times[-1] - times[0]) / (len(times) - 1)
    reach = min(int(np.ceil(3 * COURSE_S / step)), len(values) - 1)
    offset = np.arange(-reach, reach + 1) * step
    kernel = np.exp(-0.5 * (offset / COURSE_S) ** 2)
    inside = slice(reach, reach + len(values))

    def moment(power: int, of: np.ndarray) -> np.ndarray:
        # np.convolve flips its kernel: the neighbour at +offset has to get the weight of +offset.
        return np.convolve(of, (kernel * offset**power)[::-1])[inside]

    ones = np.ones(len(values))
    s0, s1, s2 = (moment(power, ones) for power in range(3))
    v0, v1 = moment(0, values), moment(1, values)
    return (s2 * v0 - s1 * v1) / (s0 * s2 - s1**2)


def _stands(contact: np.ndarray) -> list[slice]:
    """Rows of each stretch of frames that `contact` (T-1,) joins."""
    joined = np.concatenate([[False], contact > 0.5, [False]]).astype(np.int8)
    edges = np.flatnonzero(np.diff(joined)).reshape(-1, 2)
    return [slice(int(begin), int(end) + 1) for begin, end in edges]  # n steps join n + 1 frames
