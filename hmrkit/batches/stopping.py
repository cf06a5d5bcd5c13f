"""How a command stops before its work is done: by a signal, or by its time limit. Light: every command imports it."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType

from hmrkit.errors import EXIT_TIME_LIMIT, UsageError

_MARGIN_S = 60.0  # before the end of a Slurm job


def end_on_signals(again: signal.Handlers = signal.SIG_DFL) -> None:
    """SIGTERM and SIGHUP end a command as Ctrl-C does: what is half-written is removed, 143 or 129 is the exit code.

    `again` is what a second one does: it ends the process at once (SIG_DFL), or nothing (SIG_IGN). A signal that is
    ignored from outside, as by nohup, stays ignored.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows: no SIGHUP
    numbers = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]

    def end(number: int, _: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, again)
        sys.exit(128 + number)

    for number in numbers:
        signal.signal(number, end)


def end_after(limit: str | None, environment: Mapping[str, str] = os.environ) -> None:
    """End the process with exit code 124 after a time: seconds, ``90m``, ``3h50m``, ``hh:mm:ss``, or ``auto``, a minute
    before the Slurm job's end (``SLURM_JOB_END_TIME``); None never. UsageError where it is none of these."""
    if limit is None:
        return
    seconds = seconds_of(limit, environment)
    if not hasattr(signal, "setitimer"):
        raise UsageError("--time-limit needs a POSIX system's timers; leave it out here")

    def end(_: int, __: FrameType | None) -> None:
        sys.exit(EXIT_TIME_LIMIT)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def seconds_of(limit: str, environment: Mapping[str, str] = os.environ) -> float:
    """A time limit in seconds; see `end_after`."""
    if limit == "auto":
        end = environment.get("SLURM_JOB_END_TIME", "")
        if not end.isdecimal():
            raise UsageError("--time-limit auto wants $SLURM_JOB_END_TIME, found none; name a time, such as 3h50m")
        return max(int(end) - time.time() - _MARGIN_S, 1.0)
    patterns = r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", r"(\d+):(\d\d):(\d\d)"
    match = next((found for pattern in patterns if (found := re.fullmatch(pattern, limit))), None)
    parts = match.groups(default="0") if match else ("0", "0", "0")
    seconds = sum(float(part) * unit for part, unit in zip(parts, (3600, 60, 1), strict=True))
    if seconds <= 0:
        raise UsageError(f"--time-limit wants seconds, 90m, 3h50m, hh:mm:ss or auto, got {limit!r}")
    return seconds
