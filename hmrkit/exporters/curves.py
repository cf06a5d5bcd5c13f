"""Animation curves: rotations as Euler angles without jumps, frames as exact times, keys that may be left out."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def euler_deg(rotations: np.ndarray, order: str = "xyz") -> np.ndarray:
    """Rotations (T,...,3,3) -> degrees (T,...,3) about x, y, z in these columns, continuous along T.

    `order` names the axes as they are rotated about, so "xyz" is ``R = Rz Ry Rx``: what FBX and Maya call it. The
    second and third angle are measured after the first has been undone, so the three give back the rotation at and near
    gimbal lock (the middle angle at 90 degrees) too."""
    axes = ["xyz".index(letter) for letter in order]
    # An odd order of axes is a mirrored frame, where every angle counts the other way.
    sign = 1.0 if order in ("xyz", "yzx", "zxy") else -1.0
    r = np.asarray(rotations, np.float64)[..., axes, :][..., :, axes]
    x = np.arctan2(r[..., 2, 1], r[..., 2, 2])
    sine, cosine = np.sin(x), np.cos(x)
    y = np.arctan2(-r[..., 2, 0], sine * r[..., 2, 1] + cosine * r[..., 2, 2])
    z = np.arctan2(sine * r[..., 0, 2] - cosine * r[..., 0, 1], cosine * r[..., 1, 1] - sine * r[..., 1, 2])
    angles = np.empty(r.shape[:-1])
    angles[..., axes] = sign * np.degrees(_continuous(np.stack([x, y, z], -1)))
    return angles


def rotation_from_euler(degrees: np.ndarray, order: str = "xyz") -> np.ndarray:
    """Degrees (...,3) about x, y, z -> rotations (...,3,3); what `euler_deg` takes apart."""
    rotation = np.eye(3)
    for letter in order:
        axis = "xyz".index(letter)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        angle = np.radians(degrees[..., axis])
        one = np.zeros((*angle.shape, 3, 3))
        one[..., axis, axis] = 1
        one[..., a, a] = one[..., b, b] = np.cos(angle)
        one[..., b, a], one[..., a, b] = np.sin(angle), -np.sin(angle)
        rotation = one @ rotation
    return rotation


def upright_order(frame: np.ndarray, up: str) -> str:
    """The order of axes for a root whose axes at rest are `frame` (3,3) in a scene with that axis up: "xyz" or "xzy".

    People rotate about the vertical by any angle, so it must not be the middle axis, which locks at 90 degrees. Other
    orders would do as well, but programs disagree on what they mean for pre-rotations.
    """
    vertical = frame[1] if up == "y" else frame[2]  # in the root's own axes
    return "xzy" if int(np.abs(vertical).argmax()) == 1 else "xyz"


def _continuous(angles: np.ndarray) -> np.ndarray:
    """Of the two triples that mean one rotation, (x, y, z) and (x + pi, pi - y, z + pi), take those that follow on.

    Whether a frame changes sides does not depend on the side of the frame before: both differences are the same for
    either. So a running sum decides, without going frame by frame.
    """
    other = np.stack([angles[..., 0] + np.pi, np.pi - angles[..., 1], angles[..., 2] + np.pi], -1)
    stay, change = (_angle_size(side[1:] - angles[:-1]).sum(-1) for side in (angles, other))
    changed = np.cumsum(change < stay, axis=0) % 2 == 1
    changed = np.concatenate([np.zeros_like(changed[:1], shape=(1, *angles.shape[1:-1])), changed])
    return np.unwrap(np.where(changed[..., None], other, angles), axis=0)


def _angle_size(difference: np.ndarray) -> np.ndarray:
    """Size of an angle's difference when full rotations do not count."""
    return np.abs((difference + np.pi) % (2 * np.pi) - np.pi)


def frame_ticks(frames: np.ndarray, fps: Fraction, ticks_per_second: int) -> np.ndarray:
    """Frame numbers (T,) -> whole ticks (T,) int64, each rounded on its own so that no error grows along a clip."""
    step = Fraction(ticks_per_second) / fps
    numbers = np.asarray(frames, np.int64)
    # n * numerator would overflow 64 bits after some hours; whole steps and remainders do not.
    whole, rest = divmod(step.numerator, step.denominator)
    return numbers * whole + (2 * numbers * rest + step.denominator) // (2 * step.denominator)


def keys_to_keep(values: np.ndarray, tolerance: float) -> np.ndarray:
    """Rows (n,) of `values` (T,C), one a frame, that linear interpolation needs to stay within `tolerance` everywhere.

    The error of a frame is the sum of its C absolute differences: for three Euler angles never less than the angle
    between the rotations, for a place never less than the distance. Douglas and Peucker's splitting (1973).
    """
    last = len(values) - 1
    kept, stretches = {0, last}, [(0, last)]
    while stretches:
        start, end = stretches.pop()
        if end - start < 2:
            continue
        share = (np.arange(1, end - start) / (end - start))[:, None]
        line = values[start] + share * (values[end] - values[start])
        error = np.abs(values[start + 1 : end] - line).sum(-1)
        worst = int(error.argmax())
        if error[worst] > tolerance:
            middle = start + 1 + worst
            kept.add(middle)
            stretches += [(start, middle), (middle, end)]
    return np.array(sorted(kept))
