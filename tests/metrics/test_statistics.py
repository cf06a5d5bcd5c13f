"""Confidence intervals."""

import numpy as np
import pytest

from hmrkit.metrics import SegmentationCounts, bootstrap_interval, mean_known


def sequences(random, count=40):
    """Sequences of unlike length and mean: frames of one resemble each other."""
    return [50 + random.normal() * 10 + random.normal(size=random.integers(20, 60)) for _ in range(count)]


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        low, high = bootstrap_interval(sequences(random), draws=500)
        inside += low <= 50 <= high
    assert 0.90 < inside / 300 < 0.98
    # Frames drawn one by one would give an interval far too narrow.
    values = sequences(random)
    frames = np.concatenate(values)
    low, high = bootstrap_interval(values)
    assert high - low > 4 * 2 * 1.96 * frames.std() / len(frames) ** 0.5


def test_the_fast_way_equals_the_general_one():
    values = sequences(np.random.default_rng(1))
    fast = bootstrap_interval(values)
    general = bootstrap_interval(values, statistic=lambda drawn: float(np.concatenate(drawn).mean()))
    assert fast == pytest.approx(general, rel=1e-12)
    assert fast == bootstrap_interval(values)
    assert fast != bootstrap_interval(values, seed=1)
    wide, narrow = bootstrap_interval(values, confidence=0.99), bootstrap_interval(values, confidence=0.5)
    assert wide.low < fast.low < narrow.low < mean_known(np.concatenate(values)) < narrow.high < fast.high < wide.high


def test_missing_values_and_too_few_sequences():
    values = [np.array([1.0, np.nan, 3.0]), np.array([[2.0, 2.0], [np.nan, 2.0]]), np.full(3, np.nan)]
    assert bootstrap_interval(values) == (2.0, 2.0)
    for few in ([], [np.ones(5)], [np.ones(5), np.array([np.nan])]):
        assert np.isnan(bootstrap_interval(few)).all()
    assert np.isnan(bootstrap_interval([1], statistic=lambda drawn: 1.0)).all()


def test_pooled_figures_have_intervals_too():
    images = [SegmentationCounts(np.array([[50, n], [n, 40]]), np.zeros(2, int)) for n in range(10)]
    low, high = bootstrap_interval(images, draws=200, statistic=lambda drawn: sum(drawn[1:], drawn[0]).f1)
    assert low < sum(images[1:], images[0]).f1 < high
