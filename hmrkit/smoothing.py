"""Keypoints over time: swapped sides put right, spikes dropped, gaps bridged, jitter taken out without delay.

Everything works on a time base in seconds, so 5 and 30 frames per second behave alike, and on all series of a track
at once. The smoother is Whittaker's (1923): the curve that trades the distance to the samples against its own second
derivative, solved exactly, hence without lag. Two robust turns make it fit people: a spike loses its weight, and where
the motion really is fast the curve is allowed to bend (Student-t weights on the acceleration).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hmrkit.skeletons import Skeleton

WINDOW, MARGIN = 96, 32  # frames solved at once, and what neighbouring windows share
BRIDGE_WEIGHT = 1e-3  # weight of a filled-in sample against a confident one


def smooth_series(
    values: Tensor,
    weights: Tensor,
    times: Tensor,
    noise: float,
    acceleration: float,
    rounds: int = 3,
) -> Tensor:
    """Smooth `values` (T,S,D) over `times` (T,) s; S series share nothing, their D components share their weights.

    `weights` (T,S) >= 0 are confidences, 0 where missing (values there may be NaN and are bridged). `noise` is the
    standard deviation of a sample of weight 1, `acceleration` that of an ordinary motion per second squared, in the
    values' unit; faster motion is followed, because each of the `rounds` adapts to the acceleration found so far.
    A series without any sample returns NaN. Returns (T,S,D) in the values' dtype.
    """
    count, dtype = len(values), values.dtype
    seen = (weights > 0) & values.isfinite().all(-1)
    filled = bridge(values.double(), seen, times.double())
    if count < 3:
        return filled.to(dtype)
    w = torch.where(seen, weights.double(), torch.zeros((), dtype=torch.float64, device=values.device))
    w = w.clamp_min(BRIDGE_WEIGHT) / noise**2
    curve = _second_derivative(times.double())
    bend = torch.full((count - 2, values.shape[1]), acceleration**-2.0, dtype=torch.float64, device=values.device)
    smooth = filled
    for turn in range(rounds):
        smooth = _solve_windows(filled, w, curve, bend)
        if turn + 1 < rounds:
            energy = ((curve[:, :, None, None] * _triples(smooth)).sum(1) ** 2).sum(-1)
            # The neighbourhood's acceleration decides, so that one quiet frame inside a fast swing is not flattened.
            energy = torch.nn.functional.max_pool1d(energy.T[None], 3, stride=1, padding=1)[0].T
            bend = 4 / (3 * acceleration**2 + energy)
    return torch.where(seen.any(0)[None, :, None], smooth, torch.nan).to(dtype)


def bridge(values: Tensor, seen: Tensor, times: Tensor) -> Tensor:
    """Fill samples (T,S,D) that are not `seen` (T,S) linearly from their neighbours in time; ends are held."""
    count = len(values)
    order = torch.arange(count, device=values.device)[:, None].expand_as(seen)
    before = torch.where(seen, order, -1).cummax(0).values
    after = torch.where(seen, order, count).flip(0).cummin(0).values.flip(0)
    before, after = torch.where(before < 0, after, before), torch.where(after >= count, before, after)
    before, after = before.clamp(0, count - 1), after.clamp(0, count - 1)
    start, stop = times[before], times[after]
    share = ((times[:, None] - start) / (stop - start).clamp_min(1e-9)).clamp(0, 1)[..., None]
    known = torch.nan_to_num(values)
    pick = [known.gather(0, i[..., None].expand_as(values)) for i in (before, after)]
    return torch.where(seen[..., None], known, pick[0] + share * (pick[1] - pick[0]))


def _triples(series: Tensor) -> Tensor:
    """(T,...) -> (T-2,3,...): each sample with its two neighbours."""
    return torch.stack([series[:-2], series[1:-1], series[2:]], 1)


def _second_derivative(times: Tensor) -> Tensor:
    """(T,) -> (T-2,3): coefficients of the second derivative on an uneven time base, (second divided differences)."""
    h0, h1 = times[1:-1] - times[:-2], times[2:] - times[1:-1]
    return torch.stack([2 / (h0 * (h0 + h1)), -2 / (h0 * h1), 2 / (h1 * (h0 + h1))], 1)


def _solve_windows(values: Tensor, weights: Tensor, curve: Tensor, bend: Tensor) -> Tensor:
    """Minimise sum w (x - y)^2 + sum bend (curve x)^2 in overlapping windows, so that cost grows with T, not T^2."""
    count, series = values.shape[:2]
    result = torch.empty_like(values)
    for core in range(0, count, WINDOW):
        low, high = max(0, core - MARGIN), min(count, core + WINDOW + MARGIN)
        low = min(low, max(0, high - 3))
        size = high - low
        c, b = curve[low : high - 2], bend[low : high - 2]
        matrix = torch.zeros(series, size, size, dtype=values.dtype, device=values.device)
        rows = torch.arange(size - 2, device=values.device)
        for i in range(3):
            for j in range(3):
                matrix[:, rows + i, rows + j] += (b * (c[:, i] * c[:, j])[:, None]).T
        matrix.diagonal(dim1=1, dim2=2).add_(weights[low:high].T)
        right = (weights[low:high, :, None] * values[low:high]).transpose(0, 1)
        solved = torch.cholesky_solve(right, torch.linalg.cholesky(matrix)).transpose(0, 1)
        stop = min(core + WINDOW, count)
        result[core:stop] = solved[core - low : stop - low]
    return result


def drop_spikes(values: np.ndarray, noise: float, tolerance: float = 4.0) -> np.ndarray:
    """Mask (T,S) of samples of `values` (T,S,D) that leap away and come back.

    A spike stands off the median of its five neighbours in time by more than `tolerance` times their usual step plus
    five times the `noise`; a fast limb does not, because its neighbours step as far.
    """
    if len(values) < 5:
        return np.zeros(values.shape[:2], bool)
    padded = np.concatenate([values[:1], values[:1], values, values[-1:], values[-1:]])
    around = np.stack([padded[i : i + len(values)] for i in range(5)])
    with np.errstate(all="ignore"):
        off = np.linalg.norm(values - np.median(around, 0), axis=-1)
        step = np.median(np.linalg.norm(np.diff(around, axis=0), axis=-1), 0)
        return off > tolerance * step + 5 * noise


def unswap_sides(
    points: np.ndarray, weights: np.ndarray, times: np.ndarray, skeleton: Skeleton, longest_s: float = 0.6
) -> np.ndarray:
    """Where left and right were exchanged for a moment: mask (T,K) of landmarks to take from their counterpart.

    `points` (T,K,D) m, `weights` (T,K). Between two frames a person moves less than the distance between the sides; a
    step that gets much shorter by exchanging them marks the begin or end of an exchange. Only stretches up to
    `longest_s` that are bounded on both sides are put right: what stays exchanged longer may be true. The whole body is
    tried first, then arms and legs by themselves (only above 8 frames per second: walking legs do pass one another).
    """
    mirror = np.array(skeleton.mirror)
    groups = [("", 1.0)]
    if len(times) > 2 and np.median(np.diff(times)) < 0.125:
        groups += [("shoulder elbow wrist pinky index thumb", 1.0), ("knee ankle heel foot_index", 1.0)]
    swapped = np.zeros(points.shape[:2], bool)
    current = np.where(np.isfinite(points), points, np.nan)
    for words, _ in groups:
        chosen = np.array([any(word in name for word in words.split(" ")) for name in skeleton.joints])
        stretches = _short_exchanges(
            current, weights, times, chosen & (mirror != np.arange(len(mirror))), mirror, longest_s
        )
        exchange = stretches[:, None] & chosen
        current = np.where(exchange[..., None], current[:, mirror], current)
        swapped ^= exchange
    return swapped


def _short_exchanges(
    points: np.ndarray, weights: np.ndarray, times: np.ndarray, chosen: np.ndarray, mirror: np.ndarray, longest_s: float
) -> np.ndarray:
    """Mask (T,) of frames inside a short stretch where the chosen landmarks are exchanged."""
    if len(points) < 3:
        return np.zeros(len(points), bool)
    pair = (np.minimum(weights[1:], weights[:-1]) * chosen)[..., None]
    with np.errstate(invalid="ignore"):
        kept = np.nansum(pair * np.abs(points[1:] - points[:-1]), (1, 2))
        crossed = np.nansum(pair * np.abs(points[1:] - points[:-1][:, mirror]), (1, 2))
    leap = crossed < 0.4 * kept
    # Leaps open and close stretches alternately; an even number of them before a frame means "as at the start".
    edges = np.flatnonzero(leap) + 1
    inside = np.zeros(len(points), bool)
    position = 0
    while position + 1 < len(edges):  # over exchanges, of which there are few
        begin, end = edges[position], edges[position + 1]
        short = times[end] - times[begin] <= longest_s
        inside[begin:end] = short
        position += 2 if short else 1
    return inside
