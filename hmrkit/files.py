"""Files: written whole or not at all, and known by their content."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hmrkit.errors import InputError


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """A temporary path beside `target`, renamed onto it if the block succeeds and removed if it does not."""
    target = Path(target)
    temporary = target.with_name(f".{target.name}.part")  # one name: what a killed run left is written over
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(
            f"{target}: cannot write it ({error.strerror or error}); free the path or choose another"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


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
    stat = path.stat()
    return _digest(str(path), stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=256)
def _digest(path: str, _mtime_ns: int, _size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
