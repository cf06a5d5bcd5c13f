"""Weights files of trained regressors: tensors as float16, and the recipe that rebuilds the network."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from hmrkit.weights import read_metadata, save_state


def write_regressor(
    regressor: nn.Module, recipe: Any, path: str | Path, run: dict[str, Any] | None = None, without: str = "adversary."
) -> None:
    """Write `regressor` with its `recipe`, a dataclass whose part `network` says how to build it.

    `run` is what was asked of the training besides. Tensors whose names begin with `without` serve training only.
    """
    metadata = {"recipe": json.dumps(asdict(recipe)), "run": json.dumps(run or {})}
    state = {key: value.half() for key, value in regressor.state_dict().items() if not key.startswith(without)}
    save_state(state, path, metadata)


def read_network(path: str | Path) -> dict[str, Any]:
    """The fields of the network that a file holds, as `write_regressor` stored them; {} where it holds none.

    Older files have a field ``network`` of its own instead, with backbone and hidden width.
    """
    metadata = read_metadata(path) if Path(path).suffix == ".safetensors" else {}
    if "network" in metadata:
        # SPIN's converted checkpoint has a name there.
        return _fields(metadata["network"])
    return _fields(_fields(metadata.get("recipe", "{}")).get("network", {}))


def _fields(value: Any) -> dict[str, Any]:
    """An object of JSON, from its text or read already; {} where it is something else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}
