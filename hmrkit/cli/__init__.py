"""The command line: one thin module a subcommand. Nothing heavy is imported until a command runs.

Paths and JSON go to standard output, messages to standard error. Exit codes: `hmrkit.errors`.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO


def main() -> None:
    """Entry point of `hmrkit`: errors made on purpose become one line and their exit code."""
    _open_missing_streams()
    from hmrkit.batches.stopping import end_on_signals

    end_on_signals()
    from hmrkit.cli.app import app
    from hmrkit.errors import EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_TIME_LIMIT, HmrkitError

    sys.stdout, sys.stderr = _quiet(sys.stdout), _quiet(sys.stderr)
    verbose = any(a in ("-v", "--verbose") for a in sys.argv[1:])
    stopped = {EXIT_INTERRUPTED: "interrupted", EXIT_HUNG_UP: "hung up", EXIT_TERMINATED: "terminated"}
    stopped[EXIT_TIME_LIMIT] = "the time limit is reached"
    try:
        app()
    except HmrkitError as error:
        if verbose:
            raise
        sys.stderr.write(f"hmrkit: {error}\n")
        sys.exit(error.exit_code)
    except (SystemExit, KeyboardInterrupt) as stop:  # typer turns Ctrl-C into an exit, but for its own last moments
        code = stop.code if isinstance(stop, SystemExit) else EXIT_INTERRUPTED
        if code not in stopped:
            raise
        sys.stderr.write(f"hmrkit: {stopped[code]}; the same command goes on from here\n")
        sys.exit(code)
    except BrokenPipeError:  # of a take in a pipe whose reader has gone
        sys.exit(EXIT_INTERRUPTED)


def _open_missing_streams() -> None:
    """Standard streams that were closed from outside (``>&-``) lead nowhere, so that no result's file gets their
    number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


class _QuietStream(io.TextIOWrapper):
    """A text stream whose reader may go (``| head -1``): the rest leads nowhere, the command's work goes on."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._lead_nowhere()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._lead_nowhere()

    def _lead_nowhere(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def _quiet(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    errors = "surrogateescape" if stream.errors == "strict" else stream.errors  # names of files that are no UTF-8
    settings = {"encoding": stream.encoding, "errors": errors, "line_buffering": stream.line_buffering}
    return _QuietStream(stream.detach(), **settings)
