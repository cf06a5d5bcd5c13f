"""`hmrkit` as a shell starts it, in a process of its own, but without the seconds that importing PyTorch takes.

A server that has imported everything, and computed nothing, forks a process for each command.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
# What hmrkit imports; nothing of its own, which some tests change first. Optimisers import `torch._dynamo`: 3 s.
_IMPORTS = (
    "torch torch._dynamo av decord pydantic.types safetensors.torch supervision trackers typer PIL.Image PIL.ImageDraw "
)
_IMPORTS += "scipy.optimize scipy.sparse.linalg scipy.spatial scipy.ndimage"
_SERVER.set_forkserver_preload(_IMPORTS.split())
_WAYS = os.O_RDONLY, os.O_WRONLY, os.O_WRONLY | os.O_APPEND
HMRKIT = "from hmrkit.cli import main; main()"


def hmrkit(
    *args: object,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    code: str = HMRKIT,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, or other `code` with its arguments. A return code below zero is the signal that ended
    it."""
    with tempfile.TemporaryDirectory() as folder:
        streams = _streams(Path(folder), "stdin", "stdout", "stderr")
        streams[0].write_bytes(stdin)
        process = start(*args, streams=streams, cwd=cwd, env=env, code=code)
        return _ended(process, args, streams)


def piped(*commands: list[object]) -> subprocess.CompletedProcess[bytes]:
    """Run commands all at once, each reading what the one before it prints, as a shell's `|` does. The last one's
    output, everybody's messages, and the first return code that is not 0."""
    with tempfile.TemporaryDirectory() as folder:
        stdin, stdout, stderr = _streams(Path(folder), "stdin", "stdout", "stderr")
        links = [Path(folder) / f"pipe_{k}" for k in range(len(commands) - 1)]
        for link in links:
            os.mkfifo(link)
        ends = zip([stdin, *links], [*links, stdout], strict=True)
        running = [start(*args, streams=[*both, stderr]) for args, both in zip(commands, ends, strict=True)]
        codes = [_ended(process, [], [stdin, stdout, stderr]).returncode for process in running]
        return subprocess.CompletedProcess([], next(filter(None, codes), 0), stdout.read_bytes(), stderr.read_bytes())


def start(
    *args: object,
    streams: list[Path],
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    code: str = HMRKIT,
) -> ForkServerProcess:
    """A command that runs beside the test; `streams` are its input, output and messages: files, or named pipes."""
    process = _SERVER.Process(target=_run, args=(code, [str(arg) for arg in args], streams, cwd, env or {}))
    process.start()
    return process


def _streams(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.touch()
    return paths


def _ended(process: ForkServerProcess, args: object, streams: list[Path]) -> subprocess.CompletedProcess[bytes]:
    process.join()
    assert process.exitcode is not None
    return subprocess.CompletedProcess(args, process.exitcode, *(path.read_bytes() for path in streams[1:]))


def _run(code: str, words: list[str], streams: list[Path], cwd: Path | None, env: dict[str, str]) -> None:
    # Each stream is opened one way only: the reader of a named pipe sees its end when its writers have gone.
    for number, (path, way) in enumerate(zip(streams, _WAYS, strict=True)):
        handle = os.open(path, way)
        os.dup2(handle, number)
        os.close(handle)
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    sys.stdin, sys.stdout, sys.stderr = (open(k, mode) for k, mode in enumerate(("r", "w", "w")))  # noqa: SIM115
    sys.argv = ["hmrkit", *words]
    exec(code, {"__name__": "__main__"})
