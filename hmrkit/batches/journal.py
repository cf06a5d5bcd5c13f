"""What became of the clips of an output folder: one JSON line for each attempt, in ``report.jsonl``, only appended to.

A shard has a file of its own (``report_003_of_100.jsonl``). A line::

    {"clip": folder under --out, "source", "status": done | kept | failed | quarantined, "kind", "error", "exit_code",
     "tries": failures since it was last done, "seconds", "frames", "people", "time", "host", "pid", "device"}

The last line of a clip counts. All that is known of a finished clip stands in its own ``report.json``.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hmrkit.batches.result import BAD, ClipResult, failed
from hmrkit.errors import EXIT_SOME_FAILED, InputError

_KEYS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("clip", "source", "status", "time", "host", "device"), (str,)),
    **dict.fromkeys(("exit_code", "tries", "frames"), (int,)),
    "seconds": (int, float),
}


@dataclass
class Known:
    """What the journals of a folder say of a clip: its last ending, how often it failed since it was done, and why."""

    status: str = ""
    tries: int = 0
    failed: bool = False
    error: str = ""


class Journal:
    """Appends lines to a shard's file; `known` is what all shards' files had when it was opened, and its own lines."""

    def __init__(self, out: Path, label: str = "", device: str = "") -> None:
        self.out, self.path, self.device = out, out / f"report{'_' * bool(label)}{label}.jsonl", device
        self.known: dict[str, Known] = {}
        for line in read_lines(out):
            self._note(line["clip"], line["status"], line["tries"], failed_line(line), line.get("error"))

    def add(self, result: ClipResult) -> None:
        """Enter what became of a clip. A finished clip that was found finished again needs no line."""
        clip = result.folder.relative_to(self.out).as_posix()
        before = self.known.get(clip, Known())
        if (result.status == "kept" and before.status in ("done", "kept")) or result.status == before.status == BAD[1]:
            return
        tries = before.tries + (result.status == "failed") if result.failed else 0
        self._note(clip, result.status, tries, result.failed, result.error)
        self._append(
            {"clip": clip, "source": os.path.abspath(result.source.replace("\0", "_")), "status": result.status}
            | ({"kind": result.kind, "error": result.error} if result.failed else {})
            | {"exit_code": result.exit_code, "tries": tries, "seconds": round(result.seconds, 3)}
            | {"frames": result.detail.get("frames", 0), "people": len(result.detail.get("people", ()))}
        )

    def _note(self, clip: str, status: str, tries: int, failed: bool, error: str | None) -> None:
        """Remember a line. That a clip is left alone is no reason of its own: the failure's stays."""
        why = self.known[clip].error if status == BAD[1] and clip in self.known else str(error or "")
        self.known[clip] = Known(status, tries, failed, why)

    def died(self, result: ClipResult, owner: dict[str, Any]) -> None:
        """Enter a failure of a process that ended without a word while it worked on the clip."""
        error = f"{result.source}: process {owner['pid']} on {owner['host']} ended while it worked on this clip"
        self.add(ClipResult(result.source, result.folder, "failed", error, "died", EXIT_SOME_FAILED))

    def tries(self, clip: str) -> int:
        """How often a clip failed since it was last done."""
        return self.known.get(clip, Known()).tries

    def _append(self, line: dict[str, Any]) -> None:
        line |= {"time": time.strftime("%Y-%m-%dT%H:%M:%S"), "host": socket.gethostname(), "pid": os.getpid()}
        text = json.dumps(line | {"device": self.device}) + "\n"
        try:
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                _lock(handle)  # appending is not atomic over NFS
                size = os.fstat(handle).st_size
                if size and os.pread(handle, 1, size - 1) != b"\n":  # a killed process left half a line
                    text = "\n" + text
                os.write(handle, text.encode())
            finally:
                os.close(handle)
        except OSError as error:
            raise InputError(f"{self.path}: cannot write it ({error.strerror}); free some space") from error


def _lock(handle: int) -> None:
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return


def read_lines(out: Path) -> Iterator[dict[str, Any]]:
    """The lines of all journals of a folder by their times; damaged ones are left out."""
    files = sorted(out.glob("report*.jsonl"))
    lines = (_lines_of(path) for path in files)
    if len(files) < 2:
        yield from next(lines, ())
    else:
        yield from sorted((line for part in lines for line in part), key=lambda line: line["time"])


def failed_line(line: Mapping[str, Any]) -> bool:
    """Whether a line is of a clip that failed; see `hmrkit.batches.result.failed`."""
    return failed(line["status"], line["exit_code"])


def _lines_of(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        for text in file:
            try:
                line = json.loads(text)
                if all(isinstance(line.get(key), kinds) for key, kinds in _KEYS.items()):
                    yield line
            except (ValueError, AttributeError):
                continue


@dataclass
class Summary:
    """Sums over the last line of each clip."""

    clips: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    seconds: float = 0.0
    workers: dict[str, list[float]] = field(default_factory=dict)  # clips, frames, seconds


def latest(out: Path) -> dict[str, dict[str, Any]]:
    """The last line of each clip, by its name. InputError where the folder has no journal."""
    lines = {line["clip"]: line for line in read_lines(out)}
    if not lines:
        raise InputError(f"{out}: expected a report*.jsonl of `hmrkit run`, found none; name the folder given to --out")
    return dict(sorted(lines.items()))


def summarise(lines: Iterable[dict[str, Any]]) -> Summary:
    """How many clips ended how, what failed, and what each process did."""
    summary = Summary()
    for line in lines:
        status = "done" if line["status"] == "kept" else line["status"]
        summary.clips[status] += 1
        if failed_line(line):
            summary.kinds[line.get("kind") or "unknown"] += 1
        summary.frames += line["frames"]
        summary.seconds += line["seconds"]
        worker = summary.workers.setdefault(f"{line['host']} {line['device']}".strip(), [0, 0, 0.0])
        for k, value in enumerate((1, line["frames"], line["seconds"])):
            worker[k] += value
    return summary
