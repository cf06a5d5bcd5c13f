"""Mutated files of every form, each child process reading many: no signal, no other error than ours, no growth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
GROWTH_MB = 300  # a small file may unfold to 64 MB, and is copied on the way


def children(count: int, processes: int) -> Counter:
    total = Counter()
    for seed in range(processes):
        command = [sys.executable, str(TESTS / "hostile_children.py"), str(seed), str(count // processes)]
        child = subprocess.run(
            command, capture_output=True, text=True, cwd=TESTS.parent, env=_environment(), check=False
        )
        assert child.returncode == 0, f"seed {seed} ended with {child.returncode}: {child.stderr[-2000:]}"
        report = json.loads(child.stdout)
        assert not report["wrong"], report["wrong"]
        assert report["grown_mb"] < GROWTH_MB
        assert report["slowest_s"] < 20
        for name, counts in report["counts"].items():
            assert counts.get("refused"), f"no mutation of {name} was noticed"
            total.update(counts)
    print(f"{sum(total.values())} mutated files: {dict(total)}")
    return total


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", "OMP_NUM_THREADS": "1"}


def test_five_hundred_mutated_files_do_no_harm() -> None:
    assert sum(children(500, 1).values()) == 500


@pytest.mark.slow
def test_ten_thousand_mutated_files_do_no_harm() -> None:
    assert sum(children(10_000, 4).values()) == 10_000
