"""Weights files of trained regressors: tensors as float16, and the recipe that rebuilds the network.

A backbone that ships stands in a file of its own, ``backbones/<name>.safetensors``, and a regressor whose backbone
equals it leaves it out: regressors share it. A network whose field `still` names another shipped regressor leaves out
the tensors that are equal there."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hmrkit.backbones import BACKBONES
from hmrkit.errors import UsageError, WeightsError
from hmrkit.weights import find_weights, load_into, load_state, read_metadata, save_state, verify

BACKBONE = "backbone."
SHIPPED = "regressors/{}.safetensors"

_WIDEST = 8192  # of a network's sizes; a file that says more would fill memory before its tensors are compared

R = TypeVar("R", bound=nn.Module)


def write_regressor(
    regressor: nn.Module,
    recipe: Any,
    path: str | Path,
    run: dict[str, Any] | None = None,
    without: tuple[str, ...] = ("adversary.", "deltas."),
) -> None:
    """Write `regressor` with its `recipe`, a dataclass whose part `network` says how to build it.

    `run` is what was asked of the training besides. Tensors whose names begin with `without` serve training only.
    """
    described = asdict(recipe)
    metadata = {"recipe": json.dumps(described), "run": json.dumps(run or {}), "method": str(regressor.name)}
    state = {key: value.half().cpu() for key, value in regressor.state_dict().items() if not key.startswith(without)}
    if _is_shipped(_part(state, BACKBONE), described["network"]["backbone"]):
        state = {key: value for key, value in state.items() if not key.startswith(BACKBONE)}
    if still := _still_file(described["network"]):
        known = _own_part(still)
        kept = {key: value for key, value in state.items() if key not in known or not torch.equal(value, known[key])}
        if len(kept) < len(state):
            state, metadata["shared"] = kept, verify(still)
    save_state(state, path, metadata)


def read_regressor(
    name: str, path: str | Path, build: Callable[..., R], network: Callable[..., Any], backbone: str | None = None
) -> R:
    """What `write_regressor` wrote, rebuilt by ``build(name, network(**fields))`` and named by its hash.

    WeightsError where the file is another network's; UsageError where it stands on another `backbone` than asked for.
    """
    found, state = read_network(path), whole_state(path)
    if wide := [f"{key} {size}" for key, size in _sizes(found) if not -_WIDEST <= size <= _WIDEST]:
        raise WeightsError(f"{path}: wanted a network of sizes up to {_WIDEST}, found {wide[0]}; the file is damaged")
    try:
        fields = network(**found)
    except TypeError as error:
        raise WeightsError(f"{path}: wanted the weights of {name}, found another network's ({error})") from error
    if not found:
        raise WeightsError(
            f"{path}: wanted what `hmrkit train {name}` wrote or its published checkpoint, found neither"
        )
    refuse_other_backbone(path, fields.backbone, backbone)
    regressor = build(name, fields)
    load_into(regressor, state, path)
    shared = _shared_file(path)
    hashes = [verify(path), verify(shared) if shared else "", _shared_hash(path)]
    regressor.weights_sha256 = "".join(hashes)  # type: ignore[assignment]
    return regressor


def load_trained(
    name: str,
    checkpoint: str | Path | None,
    build: Callable[..., R],
    network: Callable[..., Any],
    network_on: Callable[[str], Any],
    weights: str | None,
    backbone: str | None,
) -> R:
    """What `checkpoint` holds (`read_regressor`), else the shipped file; without either, which is where `weights` is
    None, an untrained network as ``network_on`` has it on the `backbone`."""
    if checkpoint is None and weights is None:
        return build(name, network_on(backbone or "embedded"))
    return read_regressor(name, checkpoint or SHIPPED.format(name), build, network, backbone)


def whole_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a regressor's file in float32, with those of the shipped backbone and of another shipped regressor
    where it leaves them out. WeightsError where that regressor has other weights than it had at the time."""
    state, shared = load_state(path), _shared_file(path)
    if shared:
        state |= {BACKBONE + key: value for key, value in load_state(shared).items()}
    if wanted := _shared_hash(path):
        still = _still_file(read_network(path))
        if still is None:
            raise WeightsError(f"{path}: wanted the name of the regressor that it shares tensors with, found none")
        if verify(still) != wanted:
            raise WeightsError(f"{path}: wanted {still} with sha256 {wanted}, found {verify(still)}; train it again")
        state = _own_part(still) | state
    return {key: value.float() for key, value in state.items()}


def _shared_hash(path: str | Path) -> str:
    """The hash of the shipped regressor's file whose tensors a file leaves out; "" where it has all."""
    return read_metadata(path).get("shared", "") if Path(path).suffix == ".safetensors" else ""


def _still_file(network: Mapping[str, Any]) -> str | None:
    """The file of the shipped regressor that a network is built on; WeightsError where it names no such thing."""
    if not (still := network.get("still")):
        return None
    if not re.fullmatch(r"[a-z0-9_-]+", str(still)):
        raise WeightsError(f"wanted a shipped regressor's name for the field still, found {str(still)[:80]!r}: refused")
    return SHIPPED.format(still)


def _own_part(path: str) -> dict[str, Tensor]:
    return {key: value for key, value in load_state(path).items() if not key.startswith(BACKBONE)}


def _shared_file(path: str | Path) -> str | None:
    """The weights file of the backbone that a regressor's file leaves out; None where it holds its own."""
    weights = _shipped_file(read_network(path).get("backbone", ""))
    return None if any(key.startswith(BACKBONE) for key in load_state(path)) else weights


def beside(checkpoint: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that lies beside a checkpoint, else in a weights folder; None where there is none."""
    for name in names:
        if (place := checkpoint.parent / name).is_file():
            return place
    for name in names:
        with contextlib.suppress(WeightsError):
            return find_weights(name)
    return None


def refuse_other_backbone(path: str | Path, trained_on: str, wanted: str | None) -> None:
    """UsageError where `wanted` names another backbone than the one of a file."""
    if wanted not in (None, trained_on):
        raise UsageError(f"{path} was trained on backbone {trained_on}, not {wanted}; leave backbone out")


def read_network(path: str | Path) -> dict[str, Any]:
    """The fields of the network that a file holds, as `write_regressor` stored them; {} where it holds none.

    Older files have a field ``network`` of its own instead, with backbone and hidden width.
    """
    metadata = read_metadata(path) if Path(path).suffix == ".safetensors" else {}
    if "network" in metadata:
        # SPIN's converted checkpoint has a name there.
        return _fields(metadata["network"])
    return _fields(_fields(metadata.get("recipe", "{}")).get("network", {}))


def ship(path: str | Path, folder: str | Path) -> list[Path]:
    """Put a file that `hmrkit train` wrote among the weights of `folder`, as they ship: the regressor, and its backbone
    on its own where that has a file of its own. Returns what was written; the manifest is not."""
    path, folder = Path(path), Path(folder)
    state, metadata = load_state(path), read_metadata(path)
    parts = {f"regressors/{path.stem}.safetensors": state}
    weights = _shipped_file(read_network(path).get("backbone", ""))
    if weights and (backbone := _part(state, BACKBONE)):
        rest = {key: value for key, value in state.items() if not key.startswith(BACKBONE)}
        parts = {f"regressors/{path.stem}.safetensors": rest, weights: backbone}
    for name, tensors in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_state(tensors, folder / name, metadata)
    return [folder / name for name in parts]


def _shipped_file(backbone: Any) -> str | None:
    """The weights file that a backbone has for itself."""
    member = BACKBONES.get(str(backbone))
    return next((name for name in member.weights if name.startswith("backbones/")), None) if member else None


def _is_shipped(state: dict[str, Tensor], backbone: str) -> bool:
    """Whether a backbone's tensors are those that ship."""
    weights = _shipped_file(backbone)
    if weights is None or not state:
        return False
    shipped = load_state(weights)
    return shipped.keys() == state.keys() and all(torch.equal(shipped[key], state[key]) for key in state)


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _sizes(fields: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Numbers among a network's fields, and in their lists."""
    listed = [(key, value if isinstance(value, list) else [value]) for key, value in fields.items()]
    return [(key, item) for key, values in listed for item in values if isinstance(item, (int, float))]


def _fields(value: Any) -> dict[str, Any]:
    """An object of JSON, from its text or read already; {} where it is something else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}
