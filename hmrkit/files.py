"""Files: written whole or not at all, and known by their content."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hmrkit.errors import InputError

_A_DAY = 24 * 3600.0
_numbers = itertools.count()
_swept: set[Path] = set()


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A temporary path beside `target`, renamed onto it if the block succeeds and removed if it does not.

    The temporary name is this process's own, so that two writers of one target never share a file. A symbolic link is
    followed. A device or a pipe is never replaced: the finished file is copied into it. InputError where `target` is a
    folder or cannot be written.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        if _is_node(target):
            handle, name = tempfile.mkstemp(prefix="hmrkit-")
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with open(temporary, "rb") as source, open(target, "wb") as node:
                shutil.copyfileobj(source, node)
            return
        if target.is_dir():
            raise InputError(f"{target}: wanted a file to write, found a folder; name a file in it")
        final = Path(os.path.realpath(target))
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.parent not in _swept:
            remove_leftovers(final.parent)
        short = final.name.encode()[:100].decode(errors="ignore")  # a name has 255 bytes at most
        temporary = final.with_name(f".{short}.{_machine()}-{os.getpid()}-{next(_numbers)}.part")
        yield temporary
        os.replace(temporary, final)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            f"{target}: cannot write it ({error.strerror or error}); free the path or choose another"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _is_node(path: Path) -> bool:
    """Whether a path is a device, a pipe, a socket or an open file of a process: written as it is."""
    if os.path.abspath(path).startswith(("/dev/std", "/dev/fd/", "/proc/")):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@functools.lru_cache(maxsize=1)
def _machine() -> str:
    """What tells apart the process numbers of two machines, boots or containers that share a disk."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:8]


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder: of this machine where the writer is dead, of others
    where nothing was written for a day. `atomic_path` does so once a process."""
    _swept.add(folder)
    for entry in folder.glob(".*.part"):
        machine, _, rest = entry.name.removesuffix(".part").rpartition(".")[2].partition("-")
        number = rest.partition("-")[0]
        with contextlib.suppress(OSError):
            left = machine == _machine() and number.isdecimal() and not is_alive(int(number))
            if left or time.time() - entry.stat().st_mtime > _A_DAY:
                entry.unlink()


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def make_folder(path: Path) -> None:
    """Make a folder and those above it. InputError where something else is in its place or nothing may be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot make this folder ({error.strerror or error}); free the path or choose another"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n")


def sha256_of(path: str | Path) -> str:
    """Hex digest of a file; remembered while the file's size and time of change stay the same."""
    path = Path(path).resolve()
    facts = path.stat()
    return _digest(str(path), facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=256)
def _digest(path: str, _mtime_ns: int, _size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
