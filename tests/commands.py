"""`hmrkit` as a shell starts it, in a process of its own, but without the seconds that importing PyTorch takes.

A server that has imported everything, and computed nothing, forks a process for each command.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
# What hmrkit imports; nothing of its own, which some tests change first.
_SERVER.set_forkserver_preload(
    ["torch", "av", "scipy.optimize", "scipy.sparse.linalg", "scipy.spatial", "supervision", "trackers", "typer"]
)


def hmrkit(
    *args: object,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    code: str = "from hmrkit.cli import main; main()",
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, or other `code` with its arguments. A return code below zero is the signal that ended
    it."""
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        streams[0].write_bytes(stdin)
        words = [str(arg) for arg in args]
        process = _SERVER.Process(target=_run, args=(code, words, streams, cwd, env or {}))
        process.start()
        process.join()
        assert process.exitcode is not None
        return subprocess.CompletedProcess(words, process.exitcode, *(path.read_bytes() for path in streams[1:]))


def _run(code: str, words: list[str], streams: list[Path], cwd: Path | None, env: dict[str, str]) -> None:
    for number, path in enumerate(streams):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    sys.stdin, sys.stdout, sys.stderr = (open(k, mode) for k, mode in enumerate(("r", "w", "w")))  # noqa: SIM115
    sys.argv = ["hmrkit", *words]
    exec(code, {"__name__": "__main__"})
