"""Files and folders of results -> dictionaries of arrays; what kind of file it is, its first bytes say."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hmrkit.errors import InputError, WeightsError
from hmrkit.results.pickles import MAX_BYTES, plain, unpickle_results

# What is read of a folder, by its path in it: TRAM's and SMPLer-X's; where one of `ALONE` is there, that file alone.
PARTS = ("camera.npy", "hps/hps_track_*.npy", "smplx/*.npz", "meta/*.json")
ALONE = ("results.pkl", "hmr4d_results.pt", "wham_output.pkl", "vibe_output.pkl", "video_results.npz", "res.pk")


def read_file(path: str | Path) -> Any:
    """What a file holds, as dictionaries, lists, text, numbers and arrays; of a folder a dictionary of its `PARTS` by
    name. InputError where it is absent, damaged, of another kind, too large, or asks for what no results need."""
    path = Path(path)
    if path.is_dir():
        for name in ALONE:
            if (path / name).is_file():
                return read_file(path / name)
        found = sorted(file for part in PARTS for file in path.glob(part))
        if not found:
            raise InputError(f"{path}: wanted a folder of results, found none of {', '.join((*PARTS, *ALONE))} in it")
        return {file.relative_to(path).as_posix(): read_file(file) for file in found}
    try:
        with open(path, "rb") as stream:
            return plain(_read(stream))
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


def _read(stream: BinaryIO) -> Any:
    head = stream.read(6)
    stream.seek(0)
    if head.startswith(b"PK"):
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
            if sum(item.file_size for item in archive.infolist()) > MAX_BYTES:
                raise WeightsError(f"holds more than {MAX_BYTES >> 30} GiB, which no results need: refused")
            if not any(name.endswith("data.pkl") for name in names):
                return {name.removesuffix(".npy"): _read_array(io.BytesIO(archive.read(name))) for name in names}
        return _read_torch(stream)
    if head == b"\x93NUMPY":
        return _read_array(stream)
    if head[:1] in (b"{", b"["):
        return json.loads(stream.read().decode())
    return unpickle_results(stream)


def _read_torch(stream: BinaryIO) -> Any:
    import torch

    stream.seek(0)
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError("asks for more than tensors, which no results need: refused") from error


def _read_array(stream: BinaryIO) -> Any:
    """A ``.npy`` file's array; objects in it go through the restricted unpickler."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    start = stream.tell()
    if dtype.hasobject:
        return unpickle_results(stream)
    if int(np.prod(shape, dtype=object)) * dtype.itemsize > stream.seek(0, io.SEEK_END) - start:
        raise ValueError("an array is longer than its file")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)
