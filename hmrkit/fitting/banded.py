"""Least squares over time, whose unknowns couple only to their neighbours': blocks between knots, and their solution."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

REACH = 3  # frames that a term may couple: an acceleration joins three


class KnotBlocks:
    """Blocks between frames -> blocks between the knots of a basis (T,M), of which each frame sees a few neighbours.

    `joined` (T-1,) bool: frames that follow one another; no term couples others. `width`: knots m and m + width are the
    farthest that couple.
    """

    def __init__(self, basis: Tensor, joined: np.ndarray) -> None:
        weights = basis.cpu().numpy()
        self.knots = weights.shape[1]
        near = min(4, self.knots)
        first = np.minimum((weights != 0).argmax(1), self.knots - near)
        index = first[:, None] + np.arange(near)
        weights = np.take_along_axis(weights, index, 1)
        source, low, high, value = [], [], [], []
        for offset in range(min(REACH, len(index))):
            stop = len(index) - offset
            together = np.ones(stop, bool)
            for step in range(offset):
                together &= joined[step : step + stop]
            product = weights[:stop, :, None] * weights[offset:, None, :] * together[:, None, None]
            frame, a, b = product.nonzero()
            source.append(frame + offset * len(index))
            low.append(index[frame, a])
            high.append(index[frame + offset, b])
            value.append(product[frame, a, b] * (0.5 if offset == 0 else 1.0))
        source, low, high, value = (np.concatenate(parts) for parts in (source, low, high, value))
        self.width = int(np.abs(high - low).max())
        # Row m, column d of the sums: block (m, m + d - width).
        row = low * (2 * self.width + 1) + high - low + self.width
        order = np.argsort(row, kind="stable")
        starts = np.searchsorted(row[order], np.arange(self.knots * (2 * self.width + 1)))
        device = basis.device
        self._source = torch.from_numpy(source[order]).to(device)
        self._value = torch.from_numpy(value[order].astype(np.float32)).to(device)
        self._starts = torch.from_numpy(starts).to(device)

    def __call__(self, blocks: Tensor) -> Tensor:
        """Blocks (3,T,D,D) between frames t and t, t + 1, t + 2 -> lower blocks (M,width+1,D,D) between knots m + d
        and m. Those of the last frames, which have no partner, are not read."""
        size = blocks.shape[-1]
        sums = embedding_bag(
            self._source, blocks.reshape(-1, size * size), self._starts, mode="sum", per_sample_weights=self._value
        )
        sums = sums.view(self.knots, 2 * self.width + 1, size, size)
        lower = sums[:, : self.width + 1].flip(1)  # (m, m - d)
        # Block (m + d, m) is that sum at m + d, and the transpose of (m, m + d).
        shifted = [pad(lower[d:, d], (0, 0, 0, 0, 0, d)) for d in range(self.width + 1)]
        return torch.stack(shifted, 1) + sums[:, self.width :].mT


def solve_banded(blocks: Tensor, right: Tensor) -> Tensor:
    """Solve A x = `right` (M,D) for a symmetric positive definite A of lower `blocks` (M,width+1,D,D) between m + d
    and m: Cholesky's factors of groups of `width` knots, which couple with the next group alone. NaN where A is not
    positive definite."""
    count, width, size = len(blocks), max(blocks.shape[1] - 1, 1), blocks.shape[-1]
    groups = -(-count // width)
    spare = groups * width - count
    blocks = pad(blocks, (0, 0, 0, 0, 0, 0, 0, spare))
    if spare:
        blocks[count:, 0] = torch.eye(size, dtype=blocks.dtype, device=blocks.device)
    blocks = blocks.view(groups, width, -1, size, size)
    own = blocks.new_zeros(groups, width, size, width, size)
    below = blocks.new_zeros(groups, width, size, width, size)
    for i in range(width):
        for d in range(blocks.shape[2]):
            place, row = (own, i + d) if i + d < width else (below, i + d - width)
            place[:, row, :, i] = blocks[:, i, d]
    own, below = (part.view(groups, width * size, width * size) for part in (own, below))
    vectors = pad(right, (0, 0, 0, spare)).reshape(groups, width * size, 1)
    factors, links, found = [], [], []
    for k in range(groups):
        block, vector = own[k], vectors[k]
        if k:
            link = torch.linalg.solve_triangular(factors[-1], below[k - 1].mT, upper=False).mT
            block, vector = block - link @ link.mT, vector - link @ found[-1]
            links.append(link)
        factors.append(torch.linalg.cholesky_ex(block)[0])
        found.append(torch.linalg.solve_triangular(factors[-1], vector, upper=False))
    for k in reversed(range(groups)):
        vector = found[k] - links[k].mT @ found[k + 1] if k + 1 < groups else found[k]
        found[k] = torch.linalg.solve_triangular(factors[k].mT, vector, upper=True)
    return torch.stack(found).view(-1, size)[:count]
