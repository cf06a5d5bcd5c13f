"""`hmrkit` as a shell starts it, in a process of its own, but without the seconds that importing PyTorch takes.

A server that has imported everything, and computed nothing, forks a process for each command.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
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
LIMIT_S = 600.0  # of a command: none takes a tenth of it by itself


def hmrkit(
    *args: object,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    code: str = HMRKIT,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end, or other `code` with its arguments. A return code below zero is the signal that ended
    it. TimeoutExpired after `LIMIT_S`."""
    with tempfile.TemporaryDirectory() as folder:
        streams = _streams(Path(folder), "stdin", "stdout", "stderr")
        streams[0].write_bytes(stdin)
        with start(*args, streams=streams, cwd=cwd, env=env, code=code) as process:
            returned = ended(process, streams[2])
        return subprocess.CompletedProcess(args, returned, streams[1].read_bytes(), streams[2].read_bytes())


def piped(*commands: list[object]) -> subprocess.CompletedProcess[bytes]:
    """Run commands all at once, each reading what the one before it prints, as a shell's `|` does. The last one's
    output, everybody's messages, and the first return code that is not 0."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        stdin, stdout, stderr = _streams(Path(folder), "stdin", "stdout", "stderr")
        links = [Path(folder) / f"pipe_{k}" for k in range(len(commands) - 1)]
        for link in links:
            os.mkfifo(link)
        ends = zip([stdin, *links], [*links, stdout], strict=True)
        pairs = zip(commands, ends, strict=True)
        processes = [running.enter_context(start(*args, streams=[*both, stderr])) for args, both in pairs]
        codes = [ended(process, stderr) for process in processes]
        return subprocess.CompletedProcess([], next(filter(None, codes), 0), stdout.read_bytes(), stderr.read_bytes())


@contextmanager
def start(
    *args: object,
    streams: list[Path],
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    code: str = HMRKIT,
) -> Iterator[ForkServerProcess]:
    """A command that runs beside the test, and is killed with all that it started where it still runs afterwards;
    `streams` are its input, output and messages: files, or named pipes."""
    process = _SERVER.Process(target=_run, args=(code, [str(arg) for arg in args], streams, cwd, env or {}))
    process.start()
    try:
        yield process
    finally:
        if process.is_alive():
            with suppress(ProcessLookupError):  # it has no group of its own yet
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
        process.join()


def ended(process: ForkServerProcess, messages: Path) -> int:
    """Wait for the end of a process; its exit code. TimeoutExpired, with its `messages`, after `LIMIT_S`."""
    process.join(LIMIT_S)
    if process.exitcode is None:
        raise subprocess.TimeoutExpired(process.name, LIMIT_S, stderr=messages.read_bytes())
    return process.exitcode


def wait_for(happened: Callable[[], bool], process: ForkServerProcess) -> None:
    """Until something has `happened`. AssertionError where the process ends before, or after `LIMIT_S`."""
    deadline = time.monotonic() + LIMIT_S
    while not happened():
        assert process.is_alive(), f"ended with {process.exitcode}"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _streams(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.touch()
    return paths


def _run(code: str, words: list[str], streams: list[Path], cwd: Path | None, env: dict[str, str]) -> None:
    os.setsid()  # a group of its own, with all that it starts
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
