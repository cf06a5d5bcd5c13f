"""Mutated files of every form, each child process reading many: no signal, no other error than ours, no growth."""

from __future__ import annotations

import json
import sys
from collections import Counter

import pytest
from commands import hmrkit

GROWTH_MB = 300  # a small file may unfold to 64 MB, and is copied on the way


CODE = "import hostile_children, sys; hostile_children.main(*map(int, sys.argv[1:]))"


def children(count: int, processes: int) -> Counter:
    total = Counter()
    for seed in range(processes):
        child = hmrkit(seed, count // processes, code=CODE)
        assert child.returncode == 0, f"seed {seed} ended with {child.returncode}: {child.stderr[-2000:]}"
        report = json.loads(child.stdout)
        assert not report["wrong"], report["wrong"]
        assert report["grown_mb"] < GROWTH_MB
        assert report["slowest_s"] < 20
        for name, counts in report["counts"].items():
            assert counts.get("refused"), f"no mutation of {name} was noticed"
            total.update(counts)
    sys.stdout.write(f"{sum(total.values())} mutated files: {dict(total)}\n")
    return total


def test_five_hundred_mutated_files_do_no_harm() -> None:
    assert sum(children(500, 1).values()) == 500


@pytest.mark.slow
def test_ten_thousand_mutated_files_do_no_harm() -> None:
    assert sum(children(10_000, 4).values()) == 10_000
