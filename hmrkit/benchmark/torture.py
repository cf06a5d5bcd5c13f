"""Harm on purpose: runs that are killed, lack disk space, share a folder or get damaged files, and what is left.

Every kind of harm ends in the same question: does the same command, left alone, give what an untouched run gives, bit
for bit? In between, no file with a final name may be half-written. The clip is a small made-up one, the networks are
the toy members, so that it is files and not networks that are tried. For POSIX systems: processes are forked.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from hmrkit.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_SOME_FAILED, InputError
from hmrkit.files import sha256_of
from hmrkit.take import load_take
from hmrkit.take.unfinished import UNFINISHED

MEMBERS = ("--detector", "toy", "--tracker", "toy", "--keypoints", "toy", "--lifter", "toy", "--mesh", "toy")
WORDS = (*MEMBERS, "--shape", "mesh", "--device", "cpu", "--format", "npz,obj", "--render", "overlay.mp4")
FRAMES, SIZE = 4, (96, 128)
LONGEST_S = 120.0  # of one command; on a busy machine as well
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

IMPORTED = [
    *("hmrkit.batches.workers", "hmrkit.batches.watching", "hmrkit.cli.run"),
    *("hmrkit.video.reading", "hmrkit.trackers.linking", "hmrkit.fitting.people"),
    *("hmrkit.calibration.track", "hmrkit.regressors.stream", "hmrkit.regressors.toy"),
    *("hmrkit.lifters.toy", "hmrkit.rendering.overlay", "hmrkit.rendering.sheet"),
    *("hmrkit.exporters.obj", "hmrkit.exporters.npz", "hmrkit.detectors.toy"),
    *("hmrkit.trackers.toy", "hmrkit.keypoints.toy", "hmrkit.detectors.yolox"),
    *("hmrkit.report", "hmrkit.scene.build", "hmrkit.fitting.standing"),
    *("hmrkit.rendering.comparison", "scipy.optimize", "av"),
    *("decord", "pydantic"),
]


@cache
def _server() -> ForkServerContext:
    """Forks processes that have imported everything; a run of its own takes a tenth of the time."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(IMPORTED)
    return server


class Lost(Exception):
    """Something did not survive."""


@dataclass
class Count:
    """What became of one kind of harm; `lost` says which round and what was wrong."""

    tried: int = 0
    survived: int = 0
    lost: list[str] = field(default_factory=list)


class Bench:
    """The clip, what an untouched run makes of it, and how long that takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clip = write_clip(folder / "clip.mp4")
        out = folder / "untouched"
        self.run(out)
        started = time.monotonic()
        shutil.rmtree(out)
        self.run(out)
        self.seconds = time.monotonic() - started
        self.reference = contents(out)

    def start(self, out: Path, clip: Path | None = None, limit: int | None = None) -> BaseProcess:
        """A run that goes on while this one returns; `limit` is the most bytes that a file may have."""
        process = _server().Process(
            target=_command, args=(_words(clip or self.clip, out), out.with_suffix(".txt"), limit)
        )
        process.start()
        return process

    def run(self, out: Path) -> None:
        """A run that must succeed."""
        code = end(self.start(out))
        if code != EXIT_OK:
            raise Lost(f"an undisturbed run ended with {code}: {messages(out)[-200:]}")

    def check_whole(self, out: Path) -> None:
        """Lost where a file under its final name is not one that an untouched run makes."""
        for name, digest in contents(out, hidden=True).items():
            path = out / name
            if name.endswith("take.npz"):
                try:
                    load_take(path)
                except InputError as error:
                    raise Lost(f"a half-written take: {error}") from error
            elif path.suffix == ".json":
                try:
                    json.loads(path.read_text())
                except ValueError as error:
                    raise Lost(f"a half-written {name}: {error}") from error
            elif not any(part.startswith(".") for part in Path(name).parts) and self.reference.get(name) != digest:
                raise Lost(f"{name} is not what an untouched run makes")

    def check_same(self, out: Path) -> None:
        """Lost where a folder differs from that of the untouched run, left-over files included."""
        found = contents(out, hidden=True)
        wrong = sorted(
            name for name in found.keys() | self.reference.keys() if found.get(name) != self.reference.get(name)
        )
        if wrong:
            raise Lost(f"other than of an untouched run: {', '.join(wrong[:5])}")


def write_clip(path: Path) -> Path:
    """A bright figure that moves over a dark ground; H.264."""
    import av

    height, width = SIZE
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for t in range(FRAMES):
            image = np.full((height, width, 3), 20, np.uint8)
            image[15:85, 20 + 3 * t : 46 + 3 * t] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def contents(out: Path, hidden: bool = False) -> dict[str, str]:
    """Digests of a folder's files. Reports and journals have times in them: only that they are there counts."""
    names = (path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    chosen = (name for name in names if hidden or not any(part.startswith(".") for part in name.split("/")))
    return {name: "" if Path(name).stem == "report" else sha256_of(out / name) for name in chosen}


def _words(clip: Path, out: Path) -> list[str]:
    return ["run", str(clip), "--out", str(out), *WORDS]


def _command(words: Sequence[str], log: Path, limit: int | None) -> None:
    """In the forked process: `hmrkit` as a shell starts it, its messages in a file."""
    handles = [os.open(os.devnull, os.O_RDWR), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)]
    for number, handle in enumerate((handles[0], handles[0], handles[1])):
        os.dup2(handle, number)
    sys.stdin, sys.stdout, sys.stderr = (open(k, mode) for k, mode in enumerate(("r", "w", "w")))  # noqa: SIM115
    if limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ["hmrkit", *words]
    runpy.run_module("hmrkit", run_name="__main__", alter_sys=True)


def end(process: BaseProcess) -> int:
    """The exit code, below zero for a signal. Lost where it takes too long."""
    process.join(LONGEST_S)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise Lost(f"no end after {LONGEST_S:.0f} s")
    return process.exitcode


def messages(out: Path) -> str:
    """What the last run wrote to standard error."""
    return out.with_suffix(".txt").read_text(errors="replace")


def _refused_well(out: Path, code: int) -> None:
    """Lost where a run ended otherwise than all well or with an error of which somebody has thought."""
    if code not in (EXIT_OK, EXIT_SOME_FAILED, EXIT_BAD_INPUT):
        raise Lost(f"ended with {code}: {messages(out)[-200:]}")
    if "unexpected" in messages(out) or "Traceback" in messages(out):
        raise Lost(f"an error that nobody thought of: {messages(out)[-200:]}")


# ------------------------------------------------------------------------------------------------ kinds of harm


def kills(bench: Bench, out: Path, random: np.random.Generator) -> None:
    """Killed at one to three random moments, then left alone."""
    for _ in range(random.integers(1, 4)):
        process = bench.start(out)
        process.join(random.uniform(0, bench.seconds))
        process.kill()
        process.join()
        bench.check_whole(out)
    bench.run(out)
    bench.check_same(out)


def signals(bench: Bench, out: Path, random: np.random.Generator) -> None:
    """Ended by a signal that a program can answer: half-written files are gone at once."""
    number = SIGNALS[random.integers(len(SIGNALS))]
    process = bench.start(out)
    process.join(random.uniform(0.2, 1) * bench.seconds)
    if process.pid is not None and process.exitcode is None:
        os.kill(process.pid, number)
    code = end(process)
    if code not in (EXIT_OK, 128 + number, -number):  # the last where the command had not begun
        raise Lost(f"{number.name} ended it with {code}: {messages(out)[-200:]}")
    bench.check_whole(out)
    hidden = [name for name in contents(out, hidden=True) if "/." in f"/{name}" and not name.endswith(UNFINISHED)]
    if code == 128 + number and hidden:
        raise Lost(f"{number.name} left {hidden[0]}")
    bench.run(out)
    bench.check_same(out)


def full_disk(bench: Bench, out: Path, random: np.random.Generator) -> None:
    """No file may grow beyond a random size."""
    code = end(bench.start(out, limit=int(np.exp(random.uniform(np.log(500), np.log(700_000))))))
    _refused_well(out, code)
    bench.check_whole(out)
    if code == EXIT_OK:
        bench.check_same(out)
    bench.run(out)
    bench.check_same(out)


def concurrent(bench: Bench, out: Path, random: np.random.Generator) -> None:
    """Two or three runs on one folder, of which one may be killed."""
    processes = []
    for _ in range(random.integers(2, 4)):
        processes.append(bench.start(out))
        time.sleep(random.uniform(0, 0.3) * bench.seconds)
    if random.integers(2):
        victim = processes.pop(random.integers(len(processes)))
        victim.join(random.uniform(0, bench.seconds))
        victim.kill()
    codes = [end(process) for process in processes]
    if set(codes) != {EXIT_OK}:
        raise Lost(f"ended with {codes}: {messages(out)[-200:]}")
    bench.check_same(out)


def damaged_videos(bench: Bench, out: Path, random: np.random.Generator) -> None:
    """Bytes of the clip changed, or the clip cut off."""
    clip = out.with_suffix(".mp4")
    clip.write_bytes(damaged(bench.clip.read_bytes(), random))
    code = end(bench.start(out, clip))
    _refused_well(out, code)
    take = out / clip.stem / "take.npz"
    if take.exists():
        load_take(take)
    elif code == EXIT_OK:
        raise Lost("all well, it says, but there is no take")


def damaged_takes(bench: Bench, out: Path, random: np.random.Generator) -> None:
    """A finished run's take, and any of its other files, changed: the same command mends them."""
    shutil.copytree(bench.folder / "untouched", out)
    files = [name for name in bench.reference if Path(name).stem != "report"]
    for name in {f"{bench.clip.stem}/take.npz", *random.choice(files, 2)}:
        path = out / str(name)
        if random.integers(3) == 0:
            path.unlink()
        else:
            path.write_bytes(damaged(path.read_bytes(), random))
    bench.run(out)
    bench.check_same(out)


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """One to three changes: a bit, a run of bytes, a part put elsewhere, a cut."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 4)):
        at, length = int(random.integers(max(len(changed), 1))), int(random.integers(1, 300))
        kind = random.integers(5)
        if kind == 0 and changed:
            changed[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            changed[at : at + length] = bytes(length)
        elif kind == 2:
            changed[at : at + length] = random.bytes(length)
        elif kind == 3:
            start = int(random.integers(len(data)))
            changed[at : at + length] = data[start : start + length]
        else:
            del changed[at:]
    return bytes(changed)


KINDS: dict[str, Callable[[Bench, Path, np.random.Generator], None]] = {
    "kills": kills,
    "signals": signals,
    "full disk": full_disk,
    "concurrent runs": concurrent,
    "damaged videos": damaged_videos,
    "damaged results": damaged_takes,
}


def torture(
    minutes: float, folder: Path, seed: int = 0, progress: Callable[[str], object] = lambda _: None
) -> dict[str, Count]:
    """Do every kind of harm in rotation until the time is over, each at least once; count what survived.

    `folder` is empty; folders of what was lost stay in it, all others are removed. The same `seed` makes the same
    harm, but for the moments of kills, which depend on the machine.
    """
    bench = Bench(folder)
    counts = {name: Count() for name in KINDS}
    until, number = time.monotonic() + 60 * minutes, 0
    while number < len(KINDS) or time.monotonic() < until:
        name = list(KINDS)[number % len(KINDS)]
        out, count = folder / f"round_{number:05d}", counts[name]
        count.tried += 1
        try:
            KINDS[name](bench, out, np.random.default_rng([seed, number]))
            count.survived += 1
            for path in folder.glob(f"{out.name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except Exception as error:
            count.lost.append(f"{out.name}: {error if isinstance(error, Lost) else repr(error)}")
            progress(f"{name}: {count.lost[-1]}")
        number += 1
    return counts
