"""What the energy of ``--refine`` asks of frames that follow one another: feet that stand where the image shows them
still, accelerations of joints that are small unless the motion asks for more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from hmrkit.fitting.observations import CleanTrack
from hmrkit.fitting.penalties import RefineOptions, Residuals, robust
from hmrkit.fitting.resting_feet import shared_drift
from hmrkit.skeletons import BLAZEPOSE_33

FEET = BLAZEPOSE_33.indices("left_heel", "left_foot_index", "right_heel", "right_foot_index")


class TimeTerms:
    """Of stretches of frames of some tracks, F frames in all; `placed` (F,33,3) m their landmarks and `depth` (F,) m
    their persons' depth before refinement. Nothing passes from one stretch to the next."""

    def __init__(self, clean: Sequence[CleanTrack], placed: Tensor, depth: Tensor, options: RefineOptions) -> None:
        self.options, device = options, placed.device

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array.astype(np.float32)).to(device)

        lengths = [len(c.times) for c in clean]
        owner = np.repeat(np.arange(len(clean)), lengths)
        joined = owner[1:] == owner[:-1]
        steps = np.diff(np.concatenate([c.times for c in clean]))
        still = np.concatenate([np.concatenate([c.still_feet(FEET), np.zeros((1, 4))]) for c in clean])[:-1]
        self.feet = torch.tensor(FEET, device=device)
        self._joined, self._contact = torch.from_numpy(joined).to(device)[:, None], tensor(still)
        self._steps = tensor(np.where(joined, steps, 1.0))[:, None]
        before, after = self._steps[:-1], self._steps[1:]
        late, early = 2 / (after * (before + after)), 2 / (before * (before + after))
        self._second = early, -early - late, late  # weights (F-2,1) of three places in an acceleration
        self._smooth = self._joined[1:] & self._joined[:-1]
        usual = [options.acceleration] * 2 + [options.depth_acceleration]
        self._usual_sq = torch.tensor(usual, device=device).square()[:, None]
        foot_depth = placed[:, self.feet, 2].double().cpu().numpy()
        drift = _drift(foot_depth, depth.double().cpu().numpy(), still, clean)
        moved = tensor(np.where(joined[:, None], np.diff(drift, axis=0), 0.0))
        self._drift = pad(moved, (2 * len(FEET), 0))  # what resting feet move with their person, m a step (F-1,3*4)

    def __call__(self, feet: Tensor, joints: Tensor) -> tuple[Residuals, Residuals]:
        """Residuals of `feet` (F,3*4) m, which stand or not, and of the accelerations of `joints` (F,3*24) m."""
        return self._standing(feet), self._accelerations(joints)

    def _standing(self, feet: Tensor) -> Residuals:
        o, frames = self.options, len(feet)
        # Masked, because 0 times what is not finite is not 0.
        step = torch.where(self._joined, feet[1:] - feet[:-1] - self._drift, 0)
        square = step.view(-1, 3, 4).square().sum(1) / self._steps.square()
        energy, weight = robust(square, o.contact_speed, o.outlier_speed)
        weight = (self._contact * weight / self._steps.square()).repeat(1, 3)
        slope = weight * step
        return Residuals(
            _rows((self._contact * energy).sum(1), 0, frames),
            _rows(weight, 0, frames) + _rows(weight, 1, frames),
            _rows(slope, 1, frames) - _rows(slope, 0, frames),
            (-weight,),
        )

    def _accelerations(self, joints: Tensor) -> Residuals:
        (a, b, c), frames = self._second, len(joints)
        bend = torch.where(self._smooth, a * joints[:-2] + b * joints[1:-1] + c * joints[2:], 0)
        square = (bend.view(-1, 3, 24).square() / self._usual_sq).sum(1)
        # Heavy tails (Student's): a jump may accelerate, a standing person may not tremble.
        energy = 0.5 * square.log1p().sum(1)
        weight = ((self._smooth / (1 + square))[:, None] / self._usual_sq).flatten(1)
        slope = weight * bend
        return Residuals(
            _rows(energy, 1, frames),
            _rows(a**2 * weight, 0, frames) + _rows(b**2 * weight, 1, frames) + _rows(c**2 * weight, 2, frames),
            _rows(a * slope, 0, frames) + _rows(b * slope, 1, frames) + _rows(c * slope, 2, frames),
            (_rows(a * b * weight, 0, frames - 1) + _rows(b * c * weight, 1, frames - 1), a * c * weight),
        )


def _drift(depth: np.ndarray, own: np.ndarray, still: np.ndarray, clean: Sequence[CleanTrack]) -> np.ndarray:
    """How the depth of feet (F,4) m, of persons at `own` (F,) m, drifts where they are `still` (F-1,4): a camera that
    zooms or comes nearer."""
    drift, low = np.zeros_like(depth), 0
    for track in clean:
        rows = slice(low, low + len(track.times))
        for k in range(depth.shape[1]):
            standing, times = still[rows.start : rows.stop - 1, k], track.times - track.times[0]
            drift[rows, k] = shared_drift(depth[rows, k], own[rows], standing, times)
        low = rows.stop
    return drift


def _rows(values: Tensor, start: int, count: int) -> Tensor:
    """`values` as the rows from `start` on of `count` rows; the others are zero."""
    rows = values.new_zeros(count, *values.shape[1:])
    rows[start : start + len(values)] = values
    return rows
