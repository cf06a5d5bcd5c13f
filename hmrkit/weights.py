"""Find weights, check them, load them: the only file that knows where weights live.

A weight's name is its path below a weights folder (``detector/yolox_nano.safetensors``). Places are searched in the
order of `ORDER`, the first that has the file wins. The user's data folder is ``$XDG_DATA_HOME/hmrkit``, by default
``~/.local/share/hmrkit``.

A weights folder may hold a manifest, ``weights.json``: name -> ``sha256``, ``licence``, ``source``, ``summary``. A file
that its own folder's manifest names is checked against it, so a file that you put into your own folder replaces
the shipped one without complaint, and a damaged shipped one is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmrkit.errors import WeightsError, reason_of
from hmrkit.files import atomic_path, sha256_of
from hmrkit.untrusted.checkpoints import read_checkpoint

if TYPE_CHECKING:  # torch takes a second to import; finding and listing weights must not wait for it
    from torch import Tensor, nn

MANIFEST = "weights.json"
PUBLIC = "public_files.json"
ORDER = ("--body or --checkpoint", "$HMRKIT_WEIGHTS", "./weights", "the user's data folder", "the package")
SUFFIXES = (".safetensors", ".npz", ".pkl", ".pt", ".pth", ".tar", ".ckpt", ".bin")  # of what `available` lists
FIGURES = "regressors/figures.json"
LARGEST = 4e9  # bytes that a checkpoint's tensors may claim: they can share one storage, and so be more than the file
# Where published checkpoints keep their state dict, when it is not the file's top level.
_STATE_KEYS = ("state_dict", "model", "model_state_dict", "model_pos", "network", "gen_state_dict", "ema")


def shipped_folder() -> Path:
    """Weights folder that came with the package: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def user_folder() -> Path:
    """The user's data folder; it need not exist."""
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "hmrkit"


def search_places() -> list[tuple[str, Path]]:
    """Folders searched for weights, first wins, each with its name in `ORDER`; they need not exist."""
    variable = os.environ.get("HMRKIT_WEIGHTS")
    folders = [Path(variable).expanduser() if variable else None, Path("weights"), user_folder(), shipped_folder()]
    return [(place, folder) for place, folder in zip(ORDER[1:], folders, strict=True) if folder is not None]


def weight_folders() -> list[Path]:
    """The folders of `search_places`."""
    return [folder for _, folder in search_places()]


def find_weights(name: str | Path) -> Path:
    """Path of a weights file: `name` itself where that is a file, else the first folder's that has it.

    Raises WeightsError that names every place searched.
    """
    found = find_parts(name)
    if len(found) > 1:
        raise WeightsError(f"weights {name} are kept in {len(found)} shards; {found[0]} is the first")
    return found[0]


def find_parts(name: str | Path) -> list[Path]:
    """As `find_weights`; weights too large for one file are kept as shards, ``x-1of2.safetensors`` and so on for
    ``x.safetensors``: then the paths of all, in order."""
    given = Path(name).expanduser()
    folders = [] if given.is_absolute() else search_places()
    places = {given: ORDER[0], **{folder / name: place for place, folder in folders if folder / name != given}}
    for place in places:
        if place.is_file():
            return [place]
        if shards := sorted(place.parent.glob(f"{place.stem}-1of[2-9]{place.suffix}")):
            count = int(shards[0].stem[-1])
            found = [path for path in _shard_paths(place, count) if path.is_file()]
            if len(found) == count:
                return found
    if given.is_dir():
        raise WeightsError(f"{name}: wanted a weights file, found a folder; name a file in it")
    searched = ", ".join(f"{path} ({place})" for path, place in places.items())
    raise WeightsError(
        f"weights {name} not found; searched in this order: {searched}; put the file there or set $HMRKIT_WEIGHTS"
        f"{where_to_get(name)}"
    )


def _shard_paths(path: Path, count: int) -> list[Path]:
    return [path.with_name(f"{path.stem}-{i + 1}of{count}{path.suffix}") for i in range(count)]


def available() -> list[dict[str, str]]:
    """Every weights file of every folder, first wins: ``name``, ``path``, ``place`` (whose name in `ORDER`), the
    manifest's ``licence`` ("" if none)."""
    entries: dict[str, dict[str, str]] = {}
    for place, folder in search_places():
        manifest = read_manifest(folder)
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            name = path.relative_to(folder).as_posix()
            if path.suffix in SUFFIXES and name not in entries:
                licence = manifest.get(name, {}).get("licence", "")
                entries[name] = {"name": name, "path": str(path), "place": place, "licence": licence}
    return list(entries.values())


def public_files() -> list[dict[str, Any]]:
    """Files of others that hmrkit reads and does not ship: ``files`` (names in circulation), ``what``, ``option``,
    ``register`` (the page that gives it), ``licence``, ``sha256`` (name -> digest, where several public sources state
    it)."""
    path = shipped_folder() / PUBLIC
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def where_to_get(name: str | Path) -> str:
    """``; it is ..., from ...`` for a file that others publish, found by its name; "" for one that is not known."""
    wanted = Path(name).name.lower()
    for entry in public_files():
        if wanted in (file.lower() for file in entry["files"]):
            return f"; it is {entry['what']}, which {entry['register']} gives ({entry['licence']})"
    return ""


def read_manifest(folder: str | Path) -> dict[str, dict[str, str]]:
    """The folder's manifest, name -> entry; empty where it has none."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: expected JSON, got {error}; restore the file") from error


def shipped_figures() -> dict[str, dict[str, Any]]:
    """By method what `hmrkit train figures` measured of the weights; {} where they have no such file."""
    try:
        return json.loads(find_weights(FIGURES).read_text(encoding="utf-8"))
    except WeightsError:
        return {}


def write_manifest(folder: str | Path) -> Path:
    """Bring a folder's manifest up to date: new and changed files get their hash, other fields of an entry stay."""
    folder = Path(folder)
    known = read_manifest(folder)
    names = sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.suffix in (".safetensors", ".npz", ".onnx", ".jpg")
    )
    entries = {name: {**known.get(name, {}), "sha256": sha256_of(folder / name)} for name in names}
    path = folder / MANIFEST
    path.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return path


def add_to_manifest(folder: str | Path, name: str, **facts: str) -> None:
    """Enter one file of a weights folder into its manifest, with its hash; other entries stay as they are."""
    folder = Path(folder)
    entries = {**read_manifest(folder), name: {**facts, "sha256": sha256_of(folder / name)}}
    with atomic_path(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def verify(name: str | Path) -> str:
    """Find weights and return their sha256 (of shards: that of their digests in a row); WeightsError where their
    folder's manifest has another one."""
    digests = [_verified(path.resolve()) for path in find_parts(name)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _verified(path: Path) -> str:
    found = sha256_of(path)
    for folder in (folder.resolve() for folder in weight_folders()):
        if path.is_relative_to(folder):
            wanted = read_manifest(folder).get(path.relative_to(folder).as_posix(), {}).get("sha256", found)
            if wanted != found:
                raise WeightsError(f"{path}: expected sha256 {wanted}, found {found}; it is damaged, fetch it again")
    return found


def load_state(path: str | Path, device: str = "cpu", mapped: bool = False) -> dict[str, Tensor]:
    """State dict of a ``.safetensors`` file (or of its shards) or of a PyTorch checkpoint, read as
    `hmrkit.untrusted.checkpoints` does.

    A checkpoint's wrapping (``{"state_dict": ...}``) and the ``module.`` of data-parallel training are taken off. What
    trainers leave beside the tensors is not read, whether its package is there or not.
    With `mapped` the tensors of a PyTorch file stay there until they are read. Raises WeightsError where the file is
    absent, damaged, claims tensors that it does not hold, or would have to run code to be read.
    """
    from safetensors.torch import load_file

    parts = find_parts(path)
    verify(path)
    path = parts[0]
    try:
        if path.suffix == ".safetensors":
            return {key: value for part in parts for key, value in load_file(part, device=str(device)).items()}
        loaded = read_checkpoint(path, mapped)
    except WeightsError as error:
        what = str(error).split(", which")[0]
        if what.startswith("asks for "):
            what = f"holds more than tensors ({what.removeprefix('asks for ')})"
        raise WeightsError(f"{path}: {what}, refused; save its state dict alone") from error
    except Exception as error:  # a damaged file can fail anywhere inside the readers, with any exception
        reason = reason_of(error)
        raise WeightsError(
            f"{path}: expected .safetensors or a PyTorch checkpoint, found a damaged or cut-off file or another kind "
            f"({reason}); get it again"
        ) from error
    return {key: value.to(device) for key, value in _state_of(loaded, path).items()}


def load_into(module: nn.Module, state: dict[str, Tensor], source: str | Path, assign: bool = False) -> None:
    """Copy `state` into `module`, strictly: WeightsError names what is missing, unexpected, of another shape or NaN.

    With `assign` the module takes the tensors themselves, as one does whose own are on the device "meta".
    """
    wanted = module.state_dict()
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    shapes = [
        f"{key} is {tuple(state[key].shape)} not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    damaged = [key for key in wanted if key in state and _holds_nan(state[key])]
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
            ("with NaN", damaged),
        )
        if keys
    ]
    if problems:
        raise WeightsError(f"{source} does not fit {type(module).__name__}: {'; '.join(problems)}")
    module.load_state_dict(state, assign=assign)


def _holds_nan(value: Tensor) -> bool:
    """Whether a tensor has NaN somewhere; the largest item is NaN then, and needs no copy."""
    return bool(value.is_floating_point() and value.numel() and value.amax().isnan())


def save_state(
    state: dict[str, Tensor], path: str | Path, metadata: dict[str, str] | None = None, shards: int = 1
) -> None:
    """Write a ``.safetensors`` file, or `shards` of about the same size; a file appears under its name only when it is
    complete."""
    from safetensors.torch import save

    path = Path(path)
    paths = [path] if shards == 1 else _shard_paths(path, shards)
    parts: list[dict[str, Tensor]] = [{} for _ in paths]
    total, seen = sum(value.numel() for value in state.values()), 0
    for name, value in state.items():
        parts[seen * shards // max(total, 1)][name] = value.contiguous()
        seen += value.numel()
    for place, part in zip(paths, parts, strict=True):
        with atomic_path(place) as temporary:
            temporary.write_bytes(_in_order(save(part, metadata)))


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text fields that a ``.safetensors`` file carries beside its tensors; WeightsError where it is damaged."""
    from safetensors import SafetensorError, safe_open

    path = find_parts(path)[0]
    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise WeightsError(f"{path}: expected .safetensors, got {error}; fetch or train it again") from error


def _in_order(data: bytes) -> bytes:
    """A ``.safetensors`` file's bytes with its text fields sorted: the library shuffles them, and hashes with them."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _state_of(loaded: Any, path: Path) -> dict[str, Tensor]:
    import torch

    for key in _STATE_KEYS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
            break
    if not isinstance(loaded, dict) or not any(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise WeightsError(f"{path}: expected a state dict of tensors, found {type(loaded).__name__}")
    state = {key.removeprefix("module."): value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    claimed = sum(value.numel() * value.element_size() for value in state.values())
    if claimed > LARGEST:
        raise WeightsError(f"{path}: its tensors claim {claimed / 1e9:.1f} GB, refused; no network here has as many")
    return state
