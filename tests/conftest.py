"""Shared by all tests: one thread pool size, the repository's folders, a small take;
no GPU tests without a GPU, no slow ones unless asked for (`-m slow`)."""

from pathlib import Path

import pytest
import torch
from made_takes import models, scene_of, take  # noqa: F401  (fixtures)

REPOSITORY = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"


def pytest_configure(config):
    torch.set_num_threads(1)  # the run has two processes


def pytest_collection_modifyitems(config, items):
    asked = "slow" in config.getoption("markexpr")
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if "slow" in item.keywords and not asked:
            item.add_marker(pytest.mark.skip(reason="takes minutes: pytest -m slow"))


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)
