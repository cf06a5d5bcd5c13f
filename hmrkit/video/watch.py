"""A decoder that makes no progress is given up: it works in a thread of its own and says by `beat` that it goes on."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hmrkit.errors import InputError

T = TypeVar("T")
_beats: dict[int, float] = {}  # when each thread, by its number, last made progress
_timeout_s = 60.0


class HangError(InputError):
    """A decoder made no progress for too long; its thread is left behind."""


def set_timeout(seconds: float) -> None:
    """How long decoders of this process may make no progress."""
    global _timeout_s
    _timeout_s = seconds


def beat() -> None:
    """The thread that calls it makes progress."""
    _beats[threading.get_ident()] = time.monotonic()


def next_result(ready: queue.Queue[T], worker: threading.Thread, path: str | Path) -> T:
    """The next item that a worker puts into `ready`. HangError where it makes no progress for the time allowed."""
    seen = time.monotonic()
    while True:
        try:
            return ready.get(timeout=min(1.0, _timeout_s))
        except queue.Empty:
            last = _beats.get(worker.ident or 0, 0.0)
            if last > seen:
                seen = last
                beat()  # who waits for a worker is a worker, too
            elif time.monotonic() - seen > _timeout_s:
                raise HangError(
                    f"{path}: no progress in decoding it for {_timeout_s:g} s; check the file, or allow more: --timeout"
                ) from None


def watched(work: Callable[[], T], path: str | Path) -> T:
    """What `work` returns or raises, done in a thread that is watched. HangError as of `next_result`."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(1)

    def run() -> None:
        try:
            ready.put((work(), None))
        except BaseException as error:  # handed to who waits for it
            ready.put((None, error))
        finally:
            _beats.pop(threading.get_ident(), None)

    worker = threading.Thread(target=run, name="hmrkit-index", daemon=True)
    worker.start()
    result: Any
    result, error = next_result(ready, worker, path)
    if error is not None:
        raise error
    return result
