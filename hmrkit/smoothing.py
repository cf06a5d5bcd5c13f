"""Keypoints and bodies over time: swapped sides put right, spikes dropped, gaps bridged, jitter taken out, no delay.

Everything works on a time base in seconds, so 5 and 30 frames per second behave alike, and on all series of a track
at once. The smoother is Whittaker's (1923): the curve that trades the distance to the samples against its own second
derivative, solved exactly, hence without lag. Two robust rounds make it fit people: a spike loses its weight, and where
the motion really is fast the curve is allowed to bend (Student-t weights on the acceleration).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from hmrkit.geometry import project_to_rotation
from hmrkit.skeletons import Skeleton
from hmrkit.types import BodyParams

WINDOW, MARGIN = 48, 12  # frames solved at once, and how far neighbouring windows overlap, up to `SLOW_HZ`
SLOW_HZ, MARGIN_S = 31.0, 0.8  # quicker clips overlap for as long as this: what is further away has no say
BRIDGE_WEIGHT = 1e-3  # weight of a filled-in sample against a confident one
# Of bodies, at strength 1: jitter and ordinary acceleration of a rotation (radians), of the root across the view and in
# depth (m); the weight of frames in which they are not seen.
ROTATION_NOISE, ROTATION_ACCELERATION = 0.04, 12.0
ROOT_NOISE, DEPTH_NOISE, ROOT_ACCELERATION = 0.01, 0.025, 8.0
UNSEEN_WEIGHT = 0.02
HANG_S = 1.0  # rotations that the image does not show are means over this time: they drift, but do not flail


def smooth_series(
    values: np.ndarray,
    weights: np.ndarray,
    times: np.ndarray,
    noise: float,
    acceleration: float,
    rounds: int = 3,
) -> np.ndarray:
    """Smooth `values` (T,S,D) over `times` (T,) s; S series share nothing, their D components share their weights.

    `weights` (T,S) >= 0 are confidences, 0 where missing (values there may be NaN and are bridged). `noise` is the
    standard deviation of a sample of weight 1, `acceleration` that of an ordinary motion per second squared, in the
    values' unit; faster motion is followed, because each of the `rounds` adapts to the acceleration found so far.
    A series without any sample returns NaN. Returns (T,S,D) in the values' dtype.
    """
    seen = np.logical_and(weights > 0, np.isfinite(values).all(-1))
    filled = bridge(values.astype(np.float64), seen, times)
    smooth = filled
    if len(values) >= 3:
        w = np.maximum(np.where(seen, weights, 0.0), BRIDGE_WEIGHT) / noise**2
        curve = _second_derivative(times)
        rate = 1 / float(np.quantile(np.diff(times), 0.1))
        margin = MARGIN if rate < SLOW_HZ else min(round(MARGIN_S * rate), max(MARGIN, len(values)))
        bend = np.full((len(values) - 2, values.shape[1]), acceleration**-2.0)
        for done in range(1, rounds + 1):
            smooth = _solve_windows(filled, w, curve, bend, margin)
            if done < rounds:
                energy = (_bending(smooth, curve) ** 2).sum(-1)
                # The neighbourhood's acceleration decides: one quiet frame inside a fast swing is not flattened.
                edge = np.pad(energy, ((1, 1), (0, 0)), mode="edge")
                energy = np.maximum(np.maximum(edge[:-2], edge[2:]), energy)
                bend = 4 / (3 * acceleration**2 + energy)
    return np.where(np.any(seen, axis=0)[None, :, None], smooth, np.nan).astype(values.dtype)


def smooth_body(
    params: BodyParams, seen: np.ndarray, times: np.ndarray, strength: float, shown: np.ndarray | None = None
) -> BodyParams:
    """Body parameters of T frames at `times` (T,) s without jitter; `strength` 1 is usual, 0 changes nothing.

    Rotations are smoothed as matrices and brought back to the nearest rotation. Frames that are not `seen` (T,) and
    what leaps away for a frame or two and comes back hardly count. `shown` (T,24) are the rotations that the image
    shows; the others are means over time, so that limbs that nobody sees hang still.
    """
    if not strength:
        return params
    rotations = np.concatenate([params.global_orient[:, None], params.body_pose], 1).astype(np.float64)
    flat = rotations.reshape(*rotations.shape[:2], 9)
    weights = np.where(seen, 1.0, UNSEEN_WEIGHT)[:, None]
    trust = np.where(drop_spikes(flat, ROTATION_NOISE * strength), UNSEEN_WEIGHT, weights)
    if shown is not None:
        flat = np.where(shown[..., None], flat, running_mean(flat, times, HANG_S))
        trust = np.where(shown, trust, UNSEEN_WEIGHT)
    flat = smooth_series(flat, trust, times, ROTATION_NOISE * strength, ROTATION_ACCELERATION)
    rotations = project_to_rotation(torch.from_numpy(flat.reshape(rotations.shape))).numpy().astype(np.float32)
    place = params.transl_c.astype(np.float64)
    across = smooth_series(place[:, None, :2], weights, times, ROOT_NOISE * strength, ROOT_ACCELERATION)[:, 0]
    depth = smooth_series(place[:, None, 2:], weights, times, DEPTH_NOISE * strength, ROOT_ACCELERATION)[:, 0]
    transl = np.concatenate([across, depth], 1).astype(np.float32)
    return replace(params, global_orient=rotations[:, 0], body_pose=rotations[:, 1:], transl_c=transl)


def running_mean(values: np.ndarray, times: np.ndarray, window_s: float) -> np.ndarray:
    """Means (T,...) of `values` (T,...) over `window_s` seconds about each of their `times` (T,) s."""
    begin = np.searchsorted(times, times - window_s / 2)
    end = np.searchsorted(times, times + window_s / 2, "right")
    total = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, 0)])
    return (total[end] - total[begin]) / (end - begin).reshape(-1, *[1] * (values.ndim - 1))


def bridge(values: np.ndarray, seen: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Fill samples (T,S,D) that are not `seen` (T,S) linearly from their neighbours in time; ends are held."""
    count = len(values)
    order = np.broadcast_to(np.arange(count)[:, None], seen.shape)
    before = np.maximum.accumulate(np.where(seen, order, -1), 0)
    after = np.minimum.accumulate(np.where(seen, order, count)[::-1], 0)[::-1]
    before, after = np.where(before < 0, after, before), np.where(after >= count, before, after)
    before, after = before.clip(0, count - 1), after.clip(0, count - 1)
    span = np.maximum(times[after] - times[before], 1e-9)
    share = ((times[:, None] - times[before]) / span).clip(0, 1)[..., None]
    known = np.nan_to_num(values)
    first, last = (np.take_along_axis(known, i[..., None], 0) for i in (before, after))
    return np.where(seen[..., None], known, first + share * (last - first))


def bridge_bodies(
    rotations: np.ndarray, transl: np.ndarray, seen: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fill frames that are not `seen` (T,) of rotations (T,24,3,3) and translations (T,3) from their neighbours.

    Rotations are the ones nearest to the linear mean (chordal L2 mean, Hartley et al. 2013).
    """
    flat = bridge(rotations.reshape(len(seen), -1, 9), np.repeat(seen[:, None], rotations.shape[1], 1), times)
    filled = project_to_rotation(torch.from_numpy(flat.reshape(rotations.shape))).numpy()
    return filled, bridge(transl[:, None], seen[:, None], times)[:, 0]


def _second_derivative(times: np.ndarray) -> np.ndarray:
    """(T,) -> (T-2,3): coefficients of the second derivative on an uneven time base (divided differences)."""
    h0, h1 = times[1:-1] - times[:-2], times[2:] - times[1:-1]
    return np.stack([2 / (h0 * (h0 + h1)), -2 / (h0 * h1), 2 / (h1 * (h0 + h1))], 1)


def _bending(series: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Second derivative (T-2,S,D) of series (T,S,D)."""
    c = curve[:, :, None, None]
    return c[:, 0] * series[:-2] + c[:, 1] * series[1:-1] + c[:, 2] * series[2:]


def _solve_windows(
    values: np.ndarray, weights: np.ndarray, curve: np.ndarray, bend: np.ndarray, margin: int
) -> np.ndarray:
    """Minimise sum w (x - y)^2 + sum bend (curve x)^2 in x (T,S,D).

    The normal equations couple each frame with two on either side. They are solved for x - y in overlapping windows,
    all windows and series at once, so that the loop runs over the frames of one window only; outside its window
    x - y is taken as zero, which the `margin` of frames between them makes harmless.
    """
    count, series, depth = values.shape
    diagonal, first, second = np.ones((3, count, series))
    diagonal[:], first[:], second[:] = weights, 0, 0
    for i in range(3):
        diagonal[i : count - 2 + i] += bend * curve[:, i, None] ** 2
    for i in range(2):
        first[i : count - 2 + i] += bend * (curve[:, i] * curve[:, i + 1])[:, None]
    second[: count - 2] = bend * (curve[:, 0] * curve[:, 2])[:, None]
    right = np.zeros_like(values)
    pull = bend[..., None] * _bending(values, curve)
    for i in range(3):
        right[i : count - 2 + i] -= curve[:, i, None, None] * pull

    window = WINDOW * margin // MARGIN
    if count <= window:
        window, margin = count, 0  # nothing lies beyond
    windows = -(-count // window)
    size = window + 2 * margin
    frames = np.arange(windows)[:, None] * window - margin + np.arange(size)
    outside, frames = (frames < 0) | (frames >= count), frames.clip(0, count - 1)

    def cut(array: np.ndarray, fill: float) -> np.ndarray:
        """(T,S,...) -> (size, windows * S, ...)"""
        piece = array[frames]
        piece[outside] = fill
        return np.moveaxis(piece, 1, 0).reshape(size, windows * series, *array.shape[2:])

    solved = _solve_pentadiagonal(cut(diagonal, 1.0), cut(first, 0.0), cut(second, 0.0), cut(right, 0.0))
    inner = solved[margin : margin + window].reshape(window, windows, series, depth)
    return values + np.moveaxis(inner, 1, 0).reshape(windows * window, series, depth)[:count]


def _solve_pentadiagonal(diagonal: np.ndarray, first: np.ndarray, second: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve B symmetric systems at once by LDL^T.

    `diagonal`, `first` and `second` off-diagonals (n,B), `right` (n,B,D). ``first[i]`` couples i
    with i + 1, ``second[i]`` i with i + 2; what would reach beyond the end is ignored.
    """
    n = len(diagonal)
    pivot, low1, low2, x = diagonal.copy(), np.zeros_like(first), np.zeros_like(second), right.copy()
    for i in range(1, n):
        low1[i] = first[i - 1]
        if i > 1:
            low2[i] = second[i - 2] / pivot[i - 2]
            low1[i] -= low2[i] * pivot[i - 2] * low1[i - 1]
            pivot[i] -= low2[i] ** 2 * pivot[i - 2]
            x[i] -= low2[i, :, None] * x[i - 2]
        low1[i] /= pivot[i - 1]
        pivot[i] -= low1[i] ** 2 * pivot[i - 1]
        x[i] -= low1[i, :, None] * x[i - 1]
    x /= pivot[..., None]
    for i in range(n - 2, -1, -1):
        x[i] -= low1[i + 1, :, None] * x[i + 1]
        if i + 2 < n:
            x[i] -= low2[i + 2, :, None] * x[i + 2]
    return x


def drop_spikes(values: np.ndarray, noise: float, tolerance: float = 4.0) -> np.ndarray:
    """Mask (T,S) of samples of `values` (T,S,D) that leap away and come back.

    A spike stands off the median of its five neighbours in time by more than `tolerance` times their usual step plus
    five times the `noise`; a fast limb does not, because its neighbours step as far. Frames count here, not their
    times: a network errs in one frame or two at any rate.
    """
    if len(values) < 5:
        return np.zeros(values.shape[:2], bool)
    padded = np.concatenate([values[:1], values[:1], values, values[-1:], values[-1:]])
    around = np.stack([padded[i : i + len(values)] for i in range(5)])
    with np.errstate(all="ignore"):
        off = np.linalg.norm(values - np.median(around, 0), axis=-1)
        step = np.sort(np.linalg.norm(np.diff(around, axis=0), axis=-1), 0)[1]  # of four, two are the spike's own
        return off > tolerance * step + 5 * noise


def unswap_sides(
    points: np.ndarray, weights: np.ndarray, times: np.ndarray, skeleton: Skeleton, longest_s: float = 0.6
) -> np.ndarray:
    """Where left and right were exchanged for a moment: mask (T,K) of landmarks to take from their counterpart.

    `points` (T,K,D) m, all that is known of where they are, `weights` (T,K). Between two frames a person moves less
    than the distance between the sides; a step that gets much shorter by exchanging them marks the begin or end of an
    exchange. Only stretches up to `longest_s` that are bounded on both sides are put right: what stays exchanged longer
    may be true. The whole body is tried first, then arms and legs by themselves (only above 8 frames per second:
    walking legs do pass one another).
    """
    mirror = np.array(skeleton.mirror)
    groups = [""]
    if len(times) > 2 and np.median(np.diff(times)) < 0.125:
        groups += ["shoulder elbow wrist pinky index thumb", "knee ankle heel foot_index"]
    swapped = np.zeros(points.shape[:2], bool)
    current = np.where(np.isfinite(points), points, np.nan)
    for words in groups:
        chosen = np.array([not words or name.partition("_")[2] in words.split() for name in skeleton.joints])
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


def standing_still(
    pixels: np.ndarray, weights: np.ndarray, height: np.ndarray, times: np.ndarray, still: float = 0.12
) -> np.ndarray:
    """How surely (T-1,S) points of the feet stand between two frames, 0 to 1: where they rest in the image.

    `pixels` (T,S,2), `weights` (T,S), `height` (T,) px of the person, `still` in heights per second. In the image, and
    not by the fitted body's height: neither the ground nor the camera's tilt is known. A moving camera moves all feet:
    then pixels are to be counted from the background (`hmrkit.video.camera_motion`).
    """
    size = (height[1:, None] + height[:-1, None]) / 2
    speed = np.linalg.norm(np.diff(pixels, axis=0), axis=-1) / size / np.diff(times)[:, None]
    # Shoes are often half seen, and a foot that rests before and after a gap rested in it; never seen is no rest.
    seen = np.minimum(weights[1:], weights[:-1]).clip(0.3, 1) ** 0.5 * (weights.max(0) > 0)
    return (seen * np.exp(-((speed / still) ** 2))).astype(np.float32)
