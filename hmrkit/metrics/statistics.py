"""How sure a figure is: confidence intervals by resampling sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Interval(NamedTuple):
    """Both ends of a confidence interval, in the unit of the figure."""

    low: float
    high: float


def bootstrap_interval(
    values_by_sequence: Sequence[Any],
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    statistic: Callable[[list[Any]], float] | None = None,
) -> Interval:
    """Confidence interval of a figure over a data set, by drawing whole sequences with replacement (percentiles).

    Frames of a sequence resemble each other, so frames must not be drawn one by one: the interval would be far too
    narrow. `values_by_sequence`: one array of per-frame values (any shape, NaN left out) a sequence; the figure is
    their mean over all frames. For another figure give a `statistic` of a list of drawn sequences, whatever these are
    (``lambda counts: sum(counts[1:], counts[0]).f1``). To compare two methods give the differences of their per-frame
    values: they differ where the interval leaves out 0. The same seed gives the same interval. NaN, NaN for fewer than
    two sequences with values: there is no result.
    """
    edges = [50 * (1 - confidence), 50 * (1 + confidence)]
    random = np.random.default_rng(seed)
    values = list(values_by_sequence)
    if statistic is None:
        values = [np.asarray(v, np.float64).ravel() for v in values]
        values = [known for v in values if len(known := v[~np.isnan(v)])]
    if len(values) < 2:
        return Interval(float("nan"), float("nan"))
    chosen = random.integers(len(values), size=(draws, len(values)))
    if statistic is None:  # a mean of drawn sequences needs only their sums and lengths: all draws at once
        sums, lengths = np.array([v.sum() for v in values]), np.array([len(v) for v in values])
        figures = sums[chosen].sum(1) / lengths[chosen].sum(1)
    else:
        figures = np.array([statistic([values[i] for i in draw]) for draw in chosen])
    return Interval(*np.nanpercentile(figures, edges).tolist())
