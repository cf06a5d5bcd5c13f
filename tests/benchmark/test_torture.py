"""Two minutes of harm, of every kind at least once: nothing is lost."""

import pytest

from hmrkit.benchmark.torture import KINDS, torture


@pytest.mark.slow
def test_two_minutes_of_harm_lose_nothing(tmp_path):
    counts = torture(2, tmp_path, seed=1)
    assert counts.keys() == KINDS.keys()
    assert all(count.tried == count.survived > 0 for count in counts.values()), counts
