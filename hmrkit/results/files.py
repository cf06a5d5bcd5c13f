"""Files and folders of results -> dictionaries of arrays; what kind of file it is, its first bytes say."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from hmrkit.errors import InputError, WeightsError
from hmrkit.results.pickles import unpickle_results
from hmrkit.untrusted.arrays import open_regular, read_npy, read_npz
from hmrkit.untrusted.checkpoints import MAGIC, read_checkpoint, read_stream
from hmrkit.untrusted.json_files import parse_json

# What is read of a folder, by its path in it: TRAM's and SMPLer-X's; where one of `ALONE` is there, that file alone.
PARTS = ("camera.npy", "hps/hps_track_*.npy", "smplx/*.npz", "meta/*.json")
ALONE = ("results.pkl", "hmr4d_results.pt", "wham_output.pkl", "vibe_output.pkl", "video_results.npz", "res.pk")


def read_file(path: str | Path) -> Any:
    """What a file holds, as dictionaries, lists, text, numbers and arrays; of a folder a dictionary of its `PARTS` by
    name. InputError where it is absent, damaged, of another kind, too large, a link out of its folder, or asks for what
    no results need."""
    path = Path(path)
    if path.is_dir():
        for name in ALONE:
            if (path / name).is_file():
                return read_file(_inside(path / name, path))
        found = sorted(file for part in PARTS for file in path.glob(part))
        if not found:
            raise InputError(f"{path}: wanted a folder of results, found none of {', '.join((*PARTS, *ALONE))} in it")
        return {file.relative_to(path).as_posix(): read_file(_inside(file, path)) for file in found}
    try:
        with open_regular(path) as stream:
            return read_contents(stream, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except WeightsError as error:
        what = str(error).split(", which")[0]
        raise InputError(f"{path}: {what}, which no results need: refused; get the file from its makers") from None
    except Exception as error:  # a damaged pickle can fail anywhere inside the unpickler, with any exception
        raise InputError(
            f"{path}: wanted a file of results, found something else or a cut-off file ({type(error).__name__}); "
            "write it again with the tool that it is from"
        ) from None


def read_contents(stream: BinaryIO, path: Path) -> Any:
    """What the file `path`, open as `stream`, holds; any exception where it is damaged."""
    head = stream.read(6)
    stream.seek(0)
    if head.startswith(b"PK"):
        with zipfile.ZipFile(stream) as archive:
            ours = not any(name.endswith("data.pkl") for name in archive.namelist())
        return read_npz(stream, objects=unpickle_results) if ours else read_checkpoint(path, arrays=True)
    if head == b"\x93NUMPY":
        return read_npy(stream, unpickle_results)
    if head[:1] in (b"{", b"["):
        return parse_json(stream)
    found = unpickle_results(stream)
    return read_stream(stream, arrays=True) if found == MAGIC else found


def _inside(path: Path, folder: Path) -> Path:
    """`path` where it leads to a file in `folder`, also over links; InputError where it leads out of it."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path}: wanted a file inside {folder}, found a link out of it; put the file itself there")
    return path
