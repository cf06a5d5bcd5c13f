"""Least squares over time, whose unknowns lie on the knots of a spline: each couples with its neighbours alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

REACH = 3  # frames that a term may join: as many as an acceleration has


def spline_basis(times: np.ndarray, spacing: float) -> Tensor:
    """Cubic B-splines (T,M) on knots about `spacing` seconds apart; the unit matrix where frames are as far apart.

    What is refined is a smooth correction of the fit, not each frame by itself: that leaves out what smoothness would
    have to fight.
    """
    count = max(1, round(float(times[-1] - times[0]) / spacing)) if len(times) > 1 else 1
    if count >= len(times) - 1:
        return torch.eye(len(times))
    place = (times - times[0]) / (times[-1] - times[0]) * count
    off = np.abs(place[:, None] - np.arange(-1, count + 2))
    near = 2 / 3 - off**2 + off**3 / 2
    far = (2 - off).clip(0) ** 3 / 6
    return torch.from_numpy(np.where(off < 1, near, far).astype(np.float32))


class Knots:
    """The knots of some stretches of frames that follow one another, stretch after stretch: M knots of F frames.

    `bases` (T,M) of the stretches. Nothing couples two of them: what is not finite in one stays there. Knots m and
    m + `width` are the farthest that couple; `owner` (M,) is the stretch of each.
    """

    def __init__(self, bases: Sequence[Tensor], device: torch.device) -> None:
        self._bases = [basis.to(device) for basis in bases]
        self._lengths, self._counts = [len(b) for b in bases], [b.shape[1] for b in bases]
        self.owner = torch.from_numpy(np.repeat(np.arange(len(bases)), self._counts)).to(device)
        frames, frame, knot, entries = sum(self._lengths), 0, 0, []
        for basis in bases:
            for offset in range(min(REACH, len(basis))):
                entries.append(_couplings(basis.numpy(), offset, frame + offset * frames, frame, knot))
            frame, knot = frame + len(basis), knot + basis.shape[1]
        source, low, high, value = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        self.width = max(1, int(np.abs(high - low).max()))
        # Two tables of sums: (m, d) of blocks (m, m + d), then of blocks (m + d, m).
        flipped = high < low
        place = np.minimum(low, high) * (self.width + 1) + np.abs(high - low)
        place += flipped * len(self) * (self.width + 1)
        order = np.argsort(place, kind="stable")
        starts = np.searchsorted(place[order], np.arange(2 * len(self) * (self.width + 1)))
        self._source, self._value, self._starts = (
            torch.from_numpy(a).to(device) for a in (source[order], value[order], starts)
        )

    def __len__(self) -> int:
        return sum(self._counts)

    def to_frames(self, values: Tensor) -> Tensor:
        """What values (M,D) of knots are in the frames: (F,D)."""
        parts = zip(self._bases, values.split(self._counts), strict=True)
        return torch.cat([basis @ own for basis, own in parts])

    def from_frames(self, gradient: Tensor) -> Tensor:
        """A gradient (F,D) by values of frames -> by those of the knots (M,D)."""
        parts = zip(self._bases, gradient.split(self._lengths), strict=True)
        return torch.cat([basis.T @ own for basis, own in parts])

    def solve(self, blocks: Tensor, right: Tensor) -> Tensor:
        """`solve_banded` of every stretch by itself, blocks (M,width+1,D,D) and `right` (M,D)."""
        parts = zip(blocks.split(self._counts), right.split(self._counts), strict=True)
        return torch.cat([solve_banded(own, wanted) for own, wanted in parts])

    def blocks(self, blocks: Tensor) -> Tensor:
        """Blocks (3,F,D,D) between frames t and t, t + 1, t + 2 -> blocks (M,width+1,D,D) between knots m + d and m:
        the lower half of a symmetric matrix. Blocks whose second frame is of another stretch are not read."""
        size = blocks.shape[-1]
        flat = blocks.view(-1, size * size)
        sums = embedding_bag(self._source, flat, self._starts, mode="sum", per_sample_weights=self._value)
        above, below = sums.view(2, len(self), self.width + 1, size, size)
        below[:, 0] = above[:, 0]
        return below.add_(above.mT)


def _couplings(basis: np.ndarray, offset: int, source: int, frame: int, knot: int) -> tuple[np.ndarray, ...]:
    """Which blocks (t, t + offset), counted from `source`, go into which blocks of knots, counted from `knot`, and with
    what weight. Blocks of a frame with itself go by halves, because their transposes are added."""
    first = (basis != 0).argmax(1)
    near = first[:, None] + np.arange(min(4, basis.shape[1]))
    near = np.minimum(near, basis.shape[1] - 1)
    weights = np.take_along_axis(basis, near, 1)
    weights[:, 1:][near[:, 1:] == near[:, :-1]] = 0
    stop = len(basis) - offset
    products = weights[:stop, :, None] * weights[offset:, None, :] * (1.0 if offset else 0.5)
    at, a, b = products.nonzero()
    low, high = near[at, a], near[at + offset, b]
    return at + source, low + knot, high + knot, products[at, a, b].astype(np.float32)


def solve_banded(blocks: Tensor, right: Tensor) -> Tensor:
    """Solve A x = `right` (M,D) for symmetric positive definite A of `blocks` (M,width+1,D,D) between m + d and m.

    Cholesky's factorisation, one knot after the other, without host synchronisation; it overwrites the blocks. Where A
    is not positive definite, x means nothing or is NaN.
    """
    count, size = right.shape
    width = blocks.shape[1] - 1
    roots, found = [], list(right[..., None])
    panels = blocks[:, 1:].view(count, width * size, size)
    for m in range(count):
        root = torch.linalg.cholesky_ex(blocks[m, 0])[0]
        roots.append(root)
        panels[m] = torch.linalg.solve_triangular(root.mT, panels[m], upper=True, left=False)
        found[m] = torch.linalg.solve_triangular(root, found[m], upper=False)
        for d in range(1, min(width, count - 1 - m) + 1):
            rest = panels[m, (d - 1) * size :]
            blocks[m + d, : width + 1 - d].view(-1, size).addmm_(rest, rest[:size].mT, alpha=-1)
            found[m + d] = found[m + d] - rest[:size] @ found[m]
    for m in reversed(range(count)):
        later = found[m + 1 : m + 1 + width]
        vector = found[m] - panels[m, : len(later) * size].mT @ torch.cat(later) if later else found[m]
        found[m] = torch.linalg.solve_triangular(roots[m].mT, vector, upper=True)
    return torch.stack(found)[..., 0]
