"""JSON from others: regular files only, of a limited size."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hmrkit.errors import InputError
from hmrkit.untrusted import limits
from hmrkit.untrusted.arrays import open_regular


def read_json(path: Path, wanted: str) -> Any:
    """What a JSON file holds. InputError, with `wanted` in it, where there is none or it is too large to be read."""
    try:
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > limits.JSON_BYTES:
                raise ValueError(f"{size / 1e6:.0f} MB, of at most {limits.JSON_BYTES / 1e6:.0f}; split it")
            return json.loads(file.read().decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected {wanted}, got {error}") from error
