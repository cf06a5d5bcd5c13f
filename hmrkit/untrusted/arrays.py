"""NumPy's ``.npy`` and ``.npz`` from others: sizes are checked before memory is filled, objects go through `unpickle`.

A zip file's members are never written to disk; their names are keys and no paths.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hmrkit.errors import reason_of
from hmrkit.untrusted.kinds import array_kind, array_of, array_size
from hmrkit.untrusted.tree import refused
from hmrkit.untrusted.values import unpickle

SMALLEST = 64 << 20  # bytes that any file may unfold to
FACTOR = 50  # and how many times its size a larger one may: zeros compress a thousandfold, measured motion twofold
LARGE, LARGE_FACTOR = 2 << 30, 4  # from here on so many times only


def most_of(size: int) -> int:
    """Bytes that a compressed file of `size` bytes may unfold to."""
    return min(SMALLEST + FACTOR * size, max(LARGE, LARGE_FACTOR * size))


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file to read. OSError where it is absent or none that has an end, such as a pipe or a device."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(0, "not a regular file")
    return file


Objects = Callable[[BinaryIO], Any]


def read_npz(stream: BinaryIO, names: Iterable[str] | None = None, objects: Objects = unpickle) -> dict[str, Any]:
    """Members of an ``.npz`` by name without ``.npy``, all or those of `names`: arrays, and what `objects` reads.

    WeightsError where they would unfold to more than `most_of` the file's size or ask for what no file of arrays needs;
    zipfile.BadZipFile, ValueError, KeyError and others where it is damaged.
    """
    size = stream.seek(0, io.SEEK_END)
    with zipfile.ZipFile(stream) as archive:
        if (claimed := sum(member.file_size for member in archive.infolist())) > most_of(size):
            raise refused(f"unfolds to {claimed / 1e9:.1f} GB from {size / 1e6:.1f} MB")
        found = {}
        for member in archive.namelist() if names is None else [f"{name}.npy" for name in names]:
            with archive.open(member) as part:
                found[member.removesuffix(".npy")] = read_npy(io.BytesIO(part.read()), objects)
        return found


def load_arrays(source: str | Path | BinaryIO, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` by name, all or those of `names` that it has, of a path or of an open file such as a pipe.

    OSError where it cannot be read; ValueError where it is damaged, unfolds to more than `most_of` its size, or has
    anything but plain arrays.
    """
    with open_regular(source) if isinstance(source, (str, Path)) else io.BytesIO(source.read()) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                there = [name.removesuffix(".npy") for name in archive.namelist()]
            wanted = set(there) if names is None else set(names)
            return read_npz(stream, [name for name in there if name in wanted], _no_objects)
        except Exception as error:  # a flipped bit can make a zip fail in any way
            raise ValueError(_reason(error)) from error


def load_array(path: str | Path) -> np.ndarray:
    """The array of a ``.npy``; errors as `load_arrays` has them."""
    with open_regular(path) as stream:
        try:
            return read_npy(stream, _no_objects)
        except Exception as error:
            raise ValueError(_reason(error)) from error


def _no_objects(stream: BinaryIO) -> Any:
    raise ValueError("it holds a pickle")


def _reason(error: Exception) -> str:
    return reason_of(error).split(", which")[0]


def read_npy(stream: BinaryIO, objects: Objects = unpickle) -> Any:
    """The array of a ``.npy``, or what `objects` reads of its pickle. ValueError where it is not as long as it says."""
    major, _ = np.lib.format.read_magic(stream)
    read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[major]
    shape, fortran, dtype = read_header(stream)  # type: ignore[operator]
    if dtype.hasobject and dtype == np.dtype(object):
        return objects(stream)
    dtype = array_kind(dtype.str[1:]).newbyteorder(dtype.str[0]) if dtype.isbuiltin != 0 or dtype.kind in "SU" else None
    if dtype is None:
        raise refused("asks for an array of records")
    start = stream.tell()
    shape, size = array_size(shape, dtype)
    if size != stream.seek(0, io.SEEK_END) - start:
        raise ValueError("an array is not as long as it says")
    stream.seek(start)
    return array_of(stream.read(size), dtype, shape, "F" if fortran else "C")
