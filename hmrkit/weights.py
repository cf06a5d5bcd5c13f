"""Find weights, check them, load them: the only file that knows where weights live.

A weight's name is its path below a weights folder (``detector/yolox_nano.safetensors``). Folders are searched in this
order, the first that has the file wins: ``$HMRKIT_WEIGHTS``, ``./weights``, the user's data folder
(``$XDG_DATA_HOME/hmrkit``, by default ``~/.local/share/hmrkit``), what the package carries.

A weights folder may hold a manifest, ``weights.json``: name -> ``sha256``, ``licence``, ``source``, ``summary``. A file
that its own folder's manifest names is checked against it, so a file that you put into your own folder replaces
the shipped one without complaint, and a damaged shipped one is noticed.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import io
import json
import os
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmrkit.errors import WeightsError
from hmrkit.files import atomic_path, sha256_of

if TYPE_CHECKING:  # torch takes a second to import; finding and listing weights must not wait for it
    from torch import Tensor, nn

MANIFEST = "weights.json"
FIGURES = "regressors/figures.json"
LARGEST = 16e9  # bytes of a checkpoint's tensors in memory: a file can claim more than it holds
# Where published checkpoints keep their state dict, when it is not the file's top level.
_STATE_KEYS = ("state_dict", "model", "model_state_dict", "model_pos", "network", "gen_state_dict", "ema")
# What trainers leave beside it: settings and callbacks of these packages, plain types, paths, arrays, and states of
# random numbers.
_TRAINERS = ("pytorch_lightning.", "lightning.", "yacs.", "omegaconf.")
_PLAIN = (
    "typing.Any", "argparse.Namespace", "pathlib.PosixPath", "pathlib.WindowsPath", "collections.defaultdict",
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "set", "str", "int", "float", "bool")),
    "numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
    "numpy.random.__RandomState_ctor", "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._pickle.__bit_generator_ctor", "numpy.random._mt19937.MT19937",
)  # fmt: skip
# Of these, the classes derived from dict: they are filled key by key.
_DICTS = ("yacs.config.CfgNode", "pytorch_lightning.utilities.parsing.AttributeDict")


def shipped_folder() -> Path:
    """Weights folder that came with the package: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def weight_folders() -> list[Path]:
    """Folders searched for weights, first wins; they need not exist."""
    folders = [Path(os.environ["HMRKIT_WEIGHTS"]).expanduser()] if os.environ.get("HMRKIT_WEIGHTS") else []
    user_data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return [*folders, Path("weights"), user_data / "hmrkit", shipped_folder()]


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
    places = [given, *([] if given.is_absolute() else [folder / name for folder in weight_folders()])]
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
    searched = ", ".join(str(place) for place in dict.fromkeys(places))
    raise WeightsError(f"weights {name} not found; searched {searched}; put the file there or set $HMRKIT_WEIGHTS")


def _shard_paths(path: Path, count: int) -> list[Path]:
    return [path.with_name(f"{path.stem}-{i + 1}of{count}{path.suffix}") for i in range(count)]


def available() -> list[dict[str, str]]:
    """Every weights file of every folder, first wins: ``name``, ``path``, the manifest's ``licence`` ("" if none)."""
    entries: dict[str, dict[str, str]] = {}
    for folder in weight_folders():
        manifest = read_manifest(folder)
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            name = path.relative_to(folder).as_posix()
            if path.suffix in (".safetensors", ".npz") and name not in entries:
                licence = manifest.get(name, {}).get("licence", "")
                entries[name] = {"name": name, "path": str(path), "licence": licence}
    return list(entries.values())


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
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix in (".safetensors", ".npz"))
    entries = {name: {**known.get(name, {}), "sha256": sha256_of(folder / name)} for name in names}
    path = folder / MANIFEST
    path.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return path


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
    """State dict of a ``.safetensors`` file (or of its shards) or of a PyTorch checkpoint, read with
    ``weights_only=True``.

    A checkpoint's wrapping (``{"state_dict": ...}``) and the ``module.`` of data-parallel training are taken off. What
    trainers leave beside the tensors (`_TRAINERS`, `_PLAIN`) is not read, whether its package is there or not.
    With `mapped` the tensors of a PyTorch file stay there until they are read. Raises WeightsError where the file is
    absent, damaged, or would have to run code to be read.
    """
    import torch
    from safetensors.torch import load_file

    parts = find_parts(path)
    verify(path)
    path = parts[0]
    try:
        if path.suffix == ".safetensors":
            return {key: value for part in parts for key, value in load_file(part, device=str(device)).items()}
        zipped = _is_stored_zip(path)
        with torch.serialization.safe_globals([*_numpy_scalars(), *_stand_ins(path)]):
            loaded = torch.load(path, map_location=device, weights_only=True, mmap=mapped and zipped)
    except pickle.UnpicklingError as error:
        forbidden = re.search(r"GLOBAL (\S+)", str(error))  # torch's own advice is to switch its guard off
        what = forbidden.group(1) if forbidden else "a pickle that is no checkpoint"
        raise WeightsError(f"{path}: holds more than tensors ({what}), refused; save its state dict alone") from error
    except WeightsError:
        raise
    except Exception as error:  # a damaged file can fail anywhere inside the readers, with any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"{path}: expected .safetensors or a PyTorch checkpoint, got {reason}") from error
    return _state_of(loaded, path)


def load_into(module: nn.Module, state: dict[str, Tensor], source: str | Path, assign: bool = False) -> None:
    """Copy `state` into `module`, strictly: WeightsError names what is missing, unexpected or of another shape.

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
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if keys
    ]
    if problems:
        raise WeightsError(f"{source} does not fit {type(module).__name__}: {'; '.join(problems)}")
    module.load_state_dict(state, assign=assign)


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
    """The text fields that a ``.safetensors`` file carries beside its tensors."""
    from safetensors import safe_open

    with safe_open(find_parts(path)[0], framework="np") as file:
        return dict(file.metadata() or {})


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


def _is_stored_zip(path: Path) -> bool:
    """Whether a file is a zip file, as PyTorch's have been since 2020. WeightsError where it is compressed, which they
    never are: it could unfold to any size."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise WeightsError(f"{path}: expected a PyTorch checkpoint, found a compressed zip file, refused")
    return True


class _StandIn:
    """For an object of a trainer: takes what the file makes it with, does nothing, keeps nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _stand_ins(path: Path) -> list[tuple[Any, str]]:
    """What is read in place of the things that trainers leave in a checkpoint; their packages need not be there."""
    named = [name for name in _names_in(path) if name.startswith(_TRAINERS)]
    return [(collections.OrderedDict if name in _DICTS else _StandIn, name) for name in (*_PLAIN, *named)]


def _names_in(path: Path) -> list[str]:
    """The classes and functions that the pickles of a PyTorch file name; what cannot be read has none."""
    names: dict[str, None] = {}
    with contextlib.suppress(Exception), open(path, "rb") as file:
        pickles: list[Any] = [file] * 4  # before 2020: marks of the format, then what was saved
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                pickles = [io.BytesIO(archive.read(n)) for n in archive.namelist() if n.endswith("data.pkl")]
        for stream in pickles:
            found = (text for code, text, _ in pickletools.genops(stream) if code.name == "GLOBAL")
            names |= dict.fromkeys(str(text).replace(" ", ".") for text in found)
    return list(names)


def _numpy_scalars() -> list[Any]:
    """Plain numbers that trainers leave in checkpoints as NumPy scalars; none of these can run code."""
    import numpy as np

    scalar = type(np.float64(0)).__reduce__(np.float64(0))[0]  # numpy's private `scalar`, wherever this version has it
    dtypes = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "u4", "?")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *dtypes]
