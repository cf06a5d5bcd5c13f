"""How a batch shows that it goes on: a live table on a terminal, a line now and then elsewhere, or lines for a farm."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from functools import partial
from typing import Any

from hmrkit.batches.result import ClipResult
from hmrkit.errors import UsageError
from hmrkit.pipeline import Progress

KINDS = ("auto", "table", "plain", "json", "openjd", "none")
_EVERY_S = {"plain": 30.0, "json": 5.0, "openjd": 5.0}


class Watch:
    """Counts what a batch does and shows nothing. `worker` is "" or the device of one of several workers."""

    def __init__(self, total: int) -> None:
        self.total, self.started = total, time.monotonic()
        self.finished = self.kept = self.failed = self.frames = 0
        self.work: dict[str, tuple[str, str, int, int]] = {}  # of each worker: source, stage, done, total

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def progress(self, source: str, worker: str = "") -> Progress:
        """The progress callback of a clip."""
        return partial(self.advance, worker, source)

    def advance(self, worker: str, source: str, stage: str, done: int, total: int) -> None:
        """A stage of a worker's clip has done so much."""
        self.work[worker] = (source, stage, done, total)
        self.show(worker)

    def done(self, result: ClipResult, worker: str = "") -> None:
        """A clip has ended."""
        self.finished += 1
        self.kept += result.status == "kept"
        self.failed += result.failed
        self.frames += result.detail.get("frames", 0) if result.status == "done" else 0
        self.work.pop(worker, None)
        self.show(worker, result)

    @property
    def fps(self) -> float:
        """Frames of finished clips a second."""
        return self.frames / max(time.monotonic() - self.started, 1e-3)

    @property
    def seconds_left(self) -> float | None:
        """By the pace of the clips that were not kept; None before the first."""
        ran = self.finished - self.kept
        return (self.total - self.finished) * (time.monotonic() - self.started) / ran if ran else None

    @property
    def fraction(self) -> float:
        """Of the batch, 0 to 1; of a clip in work by its stage alone."""
        parts = sum(0.5 * done / max(total, 1) for _, _, done, total in self.work.values())
        return min((self.finished + parts) / max(self.total, 1), 1.0)

    def facts(self) -> dict[str, Any]:
        """The counts as plain values."""
        left = None if self.seconds_left is None else round(self.seconds_left)
        counts = {"finished": self.finished, "total": self.total, "failed": self.failed, "kept": self.kept}
        return counts | {"fps": round(self.fps, 2), "seconds_left": left}

    def line(self) -> str:
        """The counts for people."""
        left = "" if self.seconds_left is None else f", {timedelta(seconds=round(self.seconds_left))} left"
        kept = f", {self.kept} were done before" if self.kept else ""
        return f"{self.finished} of {self.total} clips, {self.failed} failed{kept}, {self.fps:.1f} frames/s{left}"

    def show(self, worker: str, result: ClipResult | None = None) -> None:
        """Called after every change, with the result of a clip that has ended."""

    def close(self) -> None:
        """The batch is over."""


class _Lines(Watch):
    """Lines on standard error; `kind` as in `KINDS`."""

    def __init__(self, total: int, kind: str) -> None:
        super().__init__(total)
        self.kind = kind
        self.last = self.started if kind == "plain" else 0.0  # a farm sees at once that work began

    def show(self, worker: str, result: ClipResult | None = None) -> None:
        ended = result is not None and self.kind != "plain"
        if not ended and time.monotonic() - self.last < _EVERY_S[self.kind]:
            return
        self.last = time.monotonic()
        if self.kind == "plain":
            _write(f"hmrkit: {self.line()}")
        elif self.kind == "openjd":
            _write(f"openjd_progress: {100 * self.fraction:.1f}\nopenjd_status: {self.line()}")
        elif result is not None:
            ending = {"source": result.source, "status": result.status, "exit_code": result.exit_code}
            error = {"error": result.error} if result.error else {}
            seconds = {"seconds": round(result.seconds, 2)}
            _write(json.dumps({"event": "clip", "worker": worker} | ending | error | seconds | self.facts()))
        else:
            work = dict(zip(("source", "stage", "done", "of"), self.work.get(worker, ()), strict=False))
            _write(json.dumps({"event": "progress", "worker": worker} | work | self.facts()))


class _Table(Watch):
    """A live table by rich: what each worker does, and the counts."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        from rich.console import Console
        from rich.live import Live

        # Paths on standard output must not end up in a table on standard error, unless both are the terminal.
        console, both = Console(stderr=True), sys.stdout.isatty()
        self.live = Live(get_renderable=self.table, console=console, redirect_stdout=both, refresh_per_second=4)

    def __enter__(self) -> Watch:
        self.live.start()
        return self

    def table(self):
        """What is shown now."""
        from rich.table import Table

        table = Table(caption=self.line(), expand=True)
        for name in ("worker", "clip", "stage", "done"):
            table.add_column(name, no_wrap=True, ratio=3 if name == "clip" else 1)
        for worker, (source, stage, done, total) in sorted(self.work.items()):
            table.add_row(worker or "1", os.path.basename(source), stage, f"{done}/{total}")
        return table

    def close(self) -> None:
        self.live.stop()


class Bars(Watch):
    """A bar for each stage of the one clip, on standard error."""

    def __init__(self) -> None:
        super().__init__(1)
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bars, self.tasks = Progress(*columns, console=Console(stderr=True)), {}

    def __enter__(self) -> Watch:
        self.bars.start()
        return self

    def show(self, worker: str, result: ClipResult | None = None) -> None:
        if result is not None:
            return
        source, stage, done, total = self.work[worker]
        if stage not in self.tasks:
            self.tasks[stage] = self.bars.add_task(f"{os.path.basename(source)} {stage}", total=total)
        self.bars.update(self.tasks[stage], completed=done, total=total)

    def close(self) -> None:
        self.bars.stop()


def watch_batch(total: int, kind: str = "auto") -> Watch:
    """What shows a batch of `total` clips; `kind` is one of `KINDS`. ``auto``: a table or bars on a terminal, elsewhere
    a line every half a minute. UsageError where there is no such kind."""
    if kind not in KINDS:
        raise UsageError(f"--progress must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "auto":
        kind = ("bars" if total == 1 else "table") if sys.stderr.isatty() else "plain"
    if kind == "bars":
        return Bars()
    if kind == "table":
        return _Table(total)
    return Watch(total) if kind == "none" else _Lines(total, kind)


def _write(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
