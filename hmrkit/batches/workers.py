"""Several worker processes on one machine, one a GPU: each takes the next clip of one list, and claims it as every run
does, so that other machines may work on the same list."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from hmrkit.batches.journal import Journal
from hmrkit.batches.naming import Clip
from hmrkit.batches.result import ClipResult, Outputs, result_of
from hmrkit.batches.running import run_batch
from hmrkit.batches.stopping import end_on_signals
from hmrkit.batches.watching import Watch
from hmrkit.errors import DeviceError
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.take.claims import locked, owner_of

ALL_GPUS = "cuda:all"


def all_gpus() -> list[str]:
    """The names of this machine's CUDA devices. DeviceError where there are none."""
    if not (count := torch.cuda.device_count()):
        raise DeviceError(f"--device {ALL_GPUS} was asked for, but no CUDA device is here; use --device cpu")
    return [f"cuda:{k}" for k in range(count)]


@dataclass(frozen=True)
class Workers:
    """How the workers run their clips: one for each name in `devices`; `label` names their shard's journal."""

    options: Options
    outputs: Outputs
    devices: Sequence[str]
    label: str = ""
    max_tries: int | None = None


def run_workers(
    clips: Sequence[Clip], workers: Workers, watch: Watch, done: Callable[[ClipResult], None]
) -> Counter[int]:
    """`run_batch` by one process a device. A clip whose worker dies is tried once more, after the others; then it
    failed. DeviceError where workers die before they take a clip."""
    codes: Counter[int] = Counter()
    left = {clip.name: clip for clip in clips}
    deaths: Counter[str] = Counter()

    def ended(result: ClipResult, worker: str = "") -> None:
        left.pop(result.folder.relative_to(workers.outputs.folder).as_posix(), None)
        codes[result.exit_code] += 1
        watch.done(result, worker)
        done(result)

    while left:
        before = len(left)
        dead = _died(left, workers, _round(list(left.values()), workers, watch, ended))
        if not dead and len(left) == before:
            raise DeviceError("the worker processes died before they took a clip; see the system's log")
        for result, name in dead:
            deaths[name] += 1
            if deaths[name] > 1:
                ended(result)
            else:
                left[name] = left.pop(name)
    return codes


def _died(left: dict[str, Clip], workers: Workers, pids: set[int]) -> list[tuple[ClipResult, str]]:
    """The clips that one of these processes, which have ended, still claims: each is entered as a failure, and free."""
    dead = []
    for clip in left.values():
        result = result_of(clip, workers.outputs)
        owner = owner_of(result.folder)
        if owner is None or owner["pid"] not in pids:
            continue
        with locked(result.folder, wait=False) as held:
            if held:
                error = f"{clip.source}: the process that worked on this clip died; see the system's log"
                result.fail(DeviceError(error))
                result.kind = "died"
                Journal(workers.outputs.folder, workers.label).add(result)
                dead.append((result, clip.name))
    return dead


def _round(clips: Sequence[Clip], workers: Workers, watch: Watch, done: Callable[[ClipResult, str], None]) -> set[int]:
    """One process a device, until all have ended: their process ids."""
    # A server that has computed nothing and forks: what is imported is so once, and CUDA starts in each worker.
    if "forkserver" in multiprocessing.get_all_start_methods():
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(["hmrkit.batches.workers"])
    else:
        server = multiprocessing.get_context("spawn")
    devices, level = workers.devices, logging.getLogger("hmrkit").getEffectiveLevel()
    processes: list[BaseProcess] = []
    upcoming = iter(clips)
    # A channel of its own for each: what workers share, one that is killed could leave locked.
    channels: dict[Connection, str] = {}
    try:
        for number, device in enumerate(devices):
            name = device if len(set(devices)) == len(devices) else f"{device} {number + 1}"
            one = replace(workers, options=replace(workers.options, device=device), devices=[device])
            mine, theirs = server.Pipe()
            processes.append(server.Process(target=_work, args=(name, one, level, theirs), name=name))
            processes[-1].start()
            theirs.close()
            channels[mine] = name
        while channels:
            for channel in wait(list(channels)):
                assert isinstance(channel, Connection)
                try:
                    what = channel.recv()
                    if what is None:
                        channel.send(next(upcoming, None))
                        continue
                except (EOFError, OSError):  # the worker has ended, or died
                    del channels[channel]
                    continue
                if isinstance(what, BaseException):
                    raise what
                if isinstance(what, ClipResult):
                    done(what, channels[channel])
                else:
                    watch.advance(channels[channel], *what)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            if process.pid is not None:
                process.join()
    return {process.pid for process in processes if process.pid is not None}


def _work(name: str, workers: Workers, level: int, channel: Connection) -> None:
    """A worker: asks for the next clip, by sending None, until there is none."""
    # A signal to the whole group reaches the parent too, which then ends this process: that must not come in the middle
    # of what the first one made it write.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_on_signals(again=signal.SIG_IGN)
    logging.basicConfig(stream=sys.stderr, format="hmrkit: %(message)s", level=logging.WARNING)
    logging.getLogger("hmrkit").setLevel(level)

    def mine() -> Iterator[Clip]:
        channel.send(None)
        while (clip := channel.recv()) is not None:
            yield clip
            channel.send(None)

    def progress(source: str) -> Callable[[str, int, int], None]:
        return lambda *facts: channel.send((source, *facts))

    try:
        models, journal = Models(workers.options), Journal(workers.outputs.folder, workers.label, name)
        run_batch(mine(), models, workers.outputs, journal, progress, channel.send, workers.max_tries)
    except Exception as error:
        with contextlib.suppress(OSError):  # the parent has gone
            channel.send(error)
