"""JSON from others: regular files only, of a limited size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

from hmrkit.errors import InputError
from hmrkit.untrusted import limits
from hmrkit.untrusted.arrays import open_regular


def read_json(path: Path, wanted: str) -> Any:
    """What a JSON file holds. InputError, with `wanted` in it, where there is none or it is too large to be read."""
    try:
        with open_regular(path) as file:
            return parse_json(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected {wanted}, got {error}") from error


def parse_json(file: BinaryIO) -> Any:
    """What an open JSON file holds. ValueError where it is something else or too large."""
    text = file.read(limits.JSON_BYTES + 1)
    if len(text) > limits.JSON_BYTES:
        raise ValueError(f"more than {limits.JSON_BYTES / 1e6:.0f} MB; split it")
    return json.loads(text.decode("utf-8"))
