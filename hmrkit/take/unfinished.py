"""What a stage had done of a clip when a signal stopped it, kept in the clip's folder until the stage goes on there."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.errors import InputError
from hmrkit.files import atomic_path
from hmrkit.untrusted.arrays import load_arrays

log = logging.getLogger(__name__)
UNFINISHED = ".hmrkit.unfinished.npz"
Arrays = dict[str, np.ndarray]


class Part:
    """The part of a stage's work that is done. `arrays` is what an earlier run kept; empty without one.

    A stage works within ``with part.kept(snapshot)``: where Ctrl-C, SIGTERM or a time limit ends it, what `snapshot`
    returns is written. A `path` of None keeps nothing."""

    def __init__(self, path: Path | None = None, record: dict[str, Any] | None = None) -> None:
        self.path, self.record = path, json.dumps(record, sort_keys=True)
        self.arrays: Arrays = {}
        if path is not None and path.exists():
            with contextlib.suppress(OSError, ValueError):  # damaged: the stage starts anew
                arrays = load_arrays(path)
                if str(arrays.pop("record", "")) == self.record:
                    self.arrays = arrays

    @contextlib.contextmanager
    def kept(self, snapshot: Callable[[], Arrays]) -> Iterator[None]:
        """Keep what is done of the block's work where the process is stopped in it."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            if self.path is not None:
                try:
                    with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
                        np.savez(file, **(snapshot() | {"record": np.array(self.record)}))  # type: ignore[arg-type]
                except InputError as error:  # the disk is full: then there is less to go on from
                    log.warning("%s", error)
            raise


class Unfinished:
    """Gives each stage of one clip its `Part`; `folder` None keeps nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.path = folder / UNFINISHED if folder is not None else None

    def part(self, stage: str, record: dict[str, Any]) -> Part:
        """The part that was done of a stage whose provenance is `record`."""
        return Part(self.path, {stage: record})

    def remove(self) -> None:
        """The stage is done and saved."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
