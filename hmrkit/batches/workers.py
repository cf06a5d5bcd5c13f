"""Several worker processes on one machine, one a GPU: each takes the next clip of one list, and claims it as every run
does, so that other machines may work on the same list."""

from __future__ import annotations

import multiprocessing
import queue
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from hmrkit.batches.clip import ClipResult, Outputs, result_of
from hmrkit.batches.journal import Journal
from hmrkit.batches.naming import Clip
from hmrkit.batches.running import run_batch
from hmrkit.batches.stopping import end_on_signals
from hmrkit.batches.watching import Watch
from hmrkit.errors import EXIT_SOME_FAILED, DeviceError
from hmrkit.models import Models
from hmrkit.options import Options

ALL_GPUS = "cuda:all"


def all_gpus() -> list[str]:
    """The names of this machine's CUDA devices. DeviceError where there are none."""
    if not (count := torch.cuda.device_count()):
        raise DeviceError(f"--device {ALL_GPUS} was asked for, but no CUDA device is here; use --device cpu")
    return [f"cuda:{k}" for k in range(count)]


def run_workers(
    clips: Sequence[Clip],
    options: Options,
    outputs: Outputs,
    devices: Sequence[str],
    watch: Watch,
    done: Callable[[ClipResult], None],
    label: str = "",
    max_tries: int | None = None,
) -> Counter[int]:
    """`run_batch` by one process a device. A clip whose worker dies is tried once more by another; then it failed."""
    codes: Counter[int] = Counter()
    left = {clip.name: clip for clip in clips}
    for _ in range(2):
        if left:
            _round(left, options, outputs, devices, watch, done, codes, label, max_tries)
    journal = Journal(outputs.folder, label)
    for clip in left.values():
        result = result_of(clip, outputs)
        result.fail(DeviceError(f"{clip.source}: the process that worked on this clip died; see the system's log"))
        result.kind = "died"
        journal.add(result)
        codes[EXIT_SOME_FAILED] += 1
        watch.done(result)
        done(result)
    return codes


def _round(
    left: dict[str, Clip],
    options: Options,
    outputs: Outputs,
    devices: Sequence[str],
    watch: Watch,
    done: Callable[[ClipResult], None],
    codes: Counter[int],
    label: str,
    max_tries: int | None,
) -> None:
    """One process a device until all have ended; what they finish is taken out of `left`."""
    # A server that has computed nothing and forks: what is imported is so once, and CUDA starts in each worker.
    if "forkserver" in multiprocessing.get_all_start_methods():
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(["hmrkit.batches.workers"])
    else:
        server = multiprocessing.get_context("spawn")
    place, events = server.Value("q", 0), server.Queue()
    clips = list(left.values())
    workers: list[BaseProcess] = []
    for number, device in enumerate(devices):
        name = device if len(set(devices)) == len(devices) else f"{device} {number + 1}"
        words = (name, clips, replace(options, device=device), outputs, label, max_tries, place, events)
        workers.append(server.Process(target=_work, args=words, name=name))
    try:
        for worker in workers:
            worker.start()
        ended = 0
        while ended < len(workers):
            try:
                worker, what = events.get(timeout=1.0)
            except queue.Empty:
                if not any(process.is_alive() for process in workers):
                    break
                continue
            if what is None:
                ended += 1
            elif isinstance(what, BaseException):
                raise what
            elif isinstance(what, ClipResult):
                left.pop(what.folder.relative_to(outputs.folder).as_posix(), None)
                codes[what.exit_code] += 1
                watch.done(what, worker)
                done(what)
            else:
                watch.advance(worker, *what)
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join()


def _work(
    name: str,
    clips: Sequence[Clip],
    options: Options,
    outputs: Outputs,
    label: str,
    max_tries: int | None,
    place: Any,
    events: Any,
) -> None:
    """A worker: the next clip that none has taken, until there is none."""
    end_on_signals()

    def mine() -> Iterator[Clip]:
        while True:
            with place.get_lock():
                number, place.value = place.value, place.value + 1
            if number >= len(clips):
                return
            yield clips[number]

    def send(what: Any) -> None:
        events.put((name, what))

    def progress(source: str) -> Callable[[str, int, int], None]:
        return partial(_send_progress, send, source)

    try:
        run_batch(mine(), Models(options), outputs, Journal(outputs.folder, label, name), progress, send, max_tries)
        send(None)
    except Exception as error:
        send(error)


def _send_progress(send: Callable[[Any], None], source: str, stage: str, done: int, total: int) -> None:
    send((source, stage, done, total))
