"""Smoothing of a track's corrections over time, by the times of its frames: a clip that is sampled at another rate, at
a variable rate or with gaps is smoothed over the same seconds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_REACH = 3  # deviations at which the Gaussian is cut off
_NEAR = 2.5  # deviations: neighbours that are farther apart do not spoil the time between them


class TimeFilter:
    """A Gaussian of `sigma_s` seconds over frames at rising `times` (T,) s.

    A frame counts for the time that it stands for: half of the way to its neighbours, at most `sigma_s` on each side.
    The ends are held. `sigma_s` 0 leaves everything as it is, and then `times` may be empty.
    """

    def __init__(self, times: np.ndarray, sigma_s: float) -> None:
        self.times, self.sigma_s = np.asarray(times, np.float64), sigma_s
        self.active = sigma_s > 0 and len(self.times) > 1

    def correct(self, vectors: Tensor, trusted: Tensor) -> Tensor:
        """Corrections (T,...,D) smoothed along T, and exactly zero where they are not `trusted` (T,...).

        A plain Gaussian would carry the corrections of good frames into the bad ones beside them."""
        return self.fade(trusted)[..., None] * self.smooth(vectors)

    def smooth(self, values: Tensor, narrowed: float = 1.0) -> Tensor:
        """`values` (T,...) smoothed along T; the Gaussian is `narrowed` times as wide."""
        if not self.active:
            return values
        kernel = torch.from_numpy(_kernel(self.times, narrowed * self.sigma_s)).to(values)
        reach = kernel.shape[1] // 2
        ends = (reach, *values.shape[1:])
        held = torch.cat([values[:1].expand(ends), values, values[-1:].expand(ends)])
        return torch.einsum("t...k,tk->t...", held.unfold(0, 2 * reach + 1, 1), kernel)

    def fade(self, trusted: Tensor) -> Tensor:
        """1 well inside the runs of frames that are `trusted` (T,...) bool, 0 outside of them, smooth in between.

        Runs are shortened by the reach of the Gaussian that smooths their ends, half as wide as the corrections' own.
        """
        inside = trusted
        if self.active:
            reach = _REACH * self.sigma_s / 2
            # An untrusted frame spoils the time up to its neighbours, if they are near.
            steps = np.diff(self.times)
            steps = np.where(steps <= _NEAR * self.sigma_s, steps, 0)
            begin = np.searchsorted(self.times, self.times - np.append(0, steps) - reach, "right")
            end = np.searchsorted(self.times, self.times + np.append(steps, 0) + reach)
            doubt = (~trusted).int()
            opened = torch.zeros_like(torch.cat([doubt, doubt[:1]]))
            opened.index_add_(0, torch.from_numpy(begin).to(doubt.device), doubt)
            opened.index_add_(0, torch.from_numpy(end).to(doubt.device), -doubt)
            inside = opened[:-1].cumsum(0) == 0
        # What is left of the kernel's rounding must not move what is not trusted.
        return torch.where(trusted, self.smooth(inside.float(), 0.5), 0.0)


UNSMOOTHED = TimeFilter(np.zeros(0), 0.0)


def _kernel(times: np.ndarray, sigma_s: float) -> np.ndarray:
    """Weights (T,2R+1) of each frame's neighbours; R reaches past the cut-off everywhere. Rows sum to 1."""
    reach_s = _REACH * sigma_s
    before = np.arange(len(times)) - np.searchsorted(times, times - reach_s)
    after = np.searchsorted(times, times + reach_s, "right") - 1 - np.arange(len(times))
    reach = 1 + int(max(before.max(), after.max()))
    away = np.arange(1, reach + 2)
    first, last = times[0] - away[::-1] * (times[1] - times[0]), times[-1] + away * (times[-1] - times[-2])
    padded = np.concatenate([first, times, last])
    half = np.minimum(np.diff(padded) / 2, sigma_s)
    padded, stands_for = padded[1:-1], half[1:] + half[:-1]
    around = np.arange(len(times))[:, None] + np.arange(2 * reach + 1)
    weights = stands_for[around] * np.exp(-0.5 * ((padded[around] - times[:, None]) / sigma_s) ** 2)
    return weights / weights.sum(1, keepdims=True)
