"""A claim on a folder: one process writes in it at a time, on this machine or another one.

The claim is the file ``.hmrkit.lock``, which says whose it is (host, process, since when), and the operating system's
lock on it. The lock ends with its owner, however that ends, so what a dead process held is free at once. Some network
file systems keep locks within a machine, or have none. So the owner also touches the file every `BEAT_S`, and a claim
that a process of another machine touched within `STALE_S` is respected whatever the locks are.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from hmrkit.errors import InputError
from hmrkit.files import make_folder

log = logging.getLogger(__name__)
LOCK = ".hmrkit.lock"
BEAT_S, STALE_S = 15.0, 90.0
SETTLE_S = 1.0  # two machines that take over a claim at once: the one that wrote last has it
_POLL_S = (0.02, 1.0)  # how often a waiting process asks, at first and later


@contextlib.contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a folder for this process; yields False, at once, where another one holds it and `wait` is False.

    InputError where the folder cannot be written. Where a file system knows no locks at all, that is a warning, and
    claims keep machines apart, not the processes of one.
    """
    path, pause, warned = folder / LOCK, _POLL_S[0], False
    while (handle := _claim(path)) is None:
        if not wait:
            yield False
            return
        if not warned:
            log.warning("%s: in use by %s; waiting", folder, owner_text(folder))
            warned = True
        time.sleep(pause)
        pause = min(2 * pause, _POLL_S[1])
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(handle, ended), name="hmrkit-claim", daemon=True)
    try:
        beat.start()
        yield True
    finally:
        ended.set()
        if beat.ident is not None:  # no signal came before it
            beat.join()
        with contextlib.suppress(OSError, ValueError, AttributeError):  # gone, or damaged
            if _is_own(handle):  # else it was stopped for so long that another machine has taken it over
                path.unlink()
        os.close(handle)


def owner_of(folder: Path) -> dict[str, Any] | None:
    """What a folder's claim says of its owner (``host``, ``pid``, ``since``), who may be dead; None without one."""
    try:
        facts = json.loads((folder / LOCK).read_text())
        return facts if {"host", "pid", "since"} <= facts.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def owner_text(folder: Path) -> str:
    """Who holds a folder, for people."""
    facts = owner_of(folder)
    return f"process {facts['pid']} on {facts['host']} since {facts['since']}" if facts else "another process"


def _claim(path: Path) -> int | None:
    """The open, locked file of a claim that is this process's now; None where another process has it."""
    while True:
        make_folder(path.parent)
        try:
            handle, found = _open(path)
        except FileNotFoundError:  # somebody removed the folder meanwhile
            continue
        except OSError as error:
            raise InputError(f"{path}: cannot write it ({error.strerror}); choose another --out") from error
        held = False
        try:
            if not _take_lock(handle, path):
                break
            if not _is_still(handle, path):
                os.close(handle)
                continue  # its owner removed it meanwhile
            foreign = found and _owner_machine(handle) not in ("", _machine())
            if foreign and time_of_folder(path.parent) - os.fstat(handle).st_mtime < STALE_S:
                break
            text, held = json.dumps(_own_facts()).encode(), True
            os.truncate(handle, 0)
            os.pwrite(handle, text, 0)
            os.fsync(handle)  # over NFS others else find an empty file for as long as this one's writes are cached
            if foreign:
                time.sleep(SETTLE_S)
                if path.read_bytes() != text:
                    break
            return handle
        except BaseException:
            if held:  # a signal ends this process before it begins
                path.unlink(missing_ok=True)
            os.close(handle)
            raise
    os.close(handle)
    return None


def _open(path: Path) -> tuple[int, bool]:
    """The open file, and whether it was there: of two machines that make it at once, one does."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), False
    except FileExistsError:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666), True


def _take_lock(handle: int, path: Path) -> bool:
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        log.warning("%s: there are no locks on this file system; start no second run there", path.parent)
    return True


def _is_still(handle: int, path: Path) -> bool:
    """Whether the locked file is the one that has the name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _owner_machine(handle: int) -> str:
    """The machine whose process wrote the claim; "" where none says so yet: its owner is about to, if it lives."""
    for _ in range(2):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(os.pread(handle, 4096, 0))["machine"])
        time.sleep(0.05)
    return ""


def _is_own(handle: int) -> bool:
    facts = json.loads(os.pread(handle, 4096, 0) or b"{}")
    return (facts.get("machine"), facts.get("pid")) == (_machine(), os.getpid())


def _own_facts() -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "machine": _machine()}


@lru_cache(maxsize=1)
def _machine() -> str:
    """What tells kernels apart: within one, locks are always known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def time_of_folder(folder: Path) -> float:
    """The time in seconds by the clock that dates a folder's files, which may be a server's."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".hmrkit-") as probe:  # two machines can have equal pids
        return os.fstat(probe.fileno()).st_mtime


def _beat(handle: int, ended: threading.Event) -> None:
    """Show that the owner lives."""
    while not ended.wait(BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(handle)
