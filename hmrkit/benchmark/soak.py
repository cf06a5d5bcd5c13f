"""A soak of batches: thousands of tiny clips, processes killed at random moments and started again, several at once.

What it answers: is a clip lost, is one done twice, what does a clip cost beside its own work, how much is written
beside the results, does memory grow. The networks are the toy members. For Linux: memory is read from /proc.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from hmrkit.batches.clip import REPORT
from hmrkit.batches.journal import Journal, latest, read_lines
from hmrkit.batches.naming import Clip, name_clips
from hmrkit.batches.result import Outputs
from hmrkit.batches.running import run_batch
from hmrkit.batches.watching import Watch
from hmrkit.benchmark.torture import write_clip
from hmrkit.exporters.writing import export_take
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.pipeline import open_clip, run_stages, stages_of
from hmrkit.take import save_take
from hmrkit.take.clip_folder import MANIFEST

MEMBERS = {"detector": "toy", "tracker": "toy", "keypoints": "toy", "method": "toy", "shape": "mesh", "device": "cpu"}
WORDS = [word for name, member in MEMBERS.items() for word in (f"--{name}", member)]
SHARDS = ("1/2", "2/2", "1/1")  # the last one's clips are the others', too
LISTED = 100_000
MEASURED = 100  # clips, for what one costs
PAUSES_S = (8.0, 25.0)  # from one kill to the next; a process needs some seconds to begin


@dataclass
class Soak:
    """What came of it. Times in ms are CPU time a clip; `start_s` is how long a list of `LISTED` inputs takes to its
    first stage's end, by the clock and on the CPUs; `lost` and `twice` name clips."""

    clips: int = 0
    kills: int = 0
    seconds: float = 0.0
    work_ms: float = 0.0
    batch_ms: float = 0.0
    kept_ms: float = 0.0
    start_s: float = 0.0
    start_cpu_s: float = 0.0
    bytes_beside: float = 0.0
    memory_mb: list[float] = field(default_factory=list)  # a third into the measured clips, and at their end
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)

    @property
    def overhead_ms(self) -> float:
        """What a clip costs beside its own work."""
        return self.batch_ms - self.work_ms


def soak(
    clips: int,
    folder: Path,
    seed: int = 0,
    measured: int = MEASURED,
    progress: Callable[[str], object] = lambda _: None,
) -> Soak:
    """Run `clips` clips by processes that are killed at random moments; `folder` is empty. `measured` clips more are
    run in this process, undisturbed, for the figures. Kills end when every clip has ended once."""
    result, random = Soak(clips), np.random.default_rng(seed)
    sources = make_clips(folder / "clips", clips)
    (folder / "list.txt").write_text("\n".join(sources))
    measure(result, make_clips(folder / "measured", measured), folder, progress)
    result.start_s, result.start_cpu_s = start(folder, sources[0])
    out = folder / "out"
    started = time.monotonic()
    running = {shard: _start(folder, shard) for shard in SHARDS}
    kill_at = time.monotonic() + random.uniform(*PAUSES_S)
    try:
        while running:
            time.sleep(0.2)
            for shard in [shard for shard, process in running.items() if process.poll() is not None]:
                if code := running.pop(shard).returncode:
                    result.lost.append(f"shard {shard} ended with {code}: {_last_words(folder, shard)}")
            if running and time.monotonic() > kill_at and len({line["clip"] for line in read_lines(out)}) < clips:
                shard = str(random.choice(list(running)))
                running[shard].send_signal(signal.SIGKILL)
                running[shard].wait()
                running[shard] = _start(folder, shard)
                result.kills += 1
                kill_at = time.monotonic() + random.uniform(*PAUSES_S)
                progress(f"{result.kills} kills, {time.monotonic() - started:.0f} s")
    finally:
        for process in running.values():
            process.kill()
    result.seconds = time.monotonic() - started
    check(result, name_clips(sources), out, folder / "measured_out" / "clip_00000")
    return result


def make_clips(folder: Path, count: int) -> list[str]:
    """`count` names of one tiny clip."""
    folder.mkdir(parents=True)
    first = write_clip(folder / "clip_00000.mp4")
    paths = [folder / f"clip_{k:05d}.mp4" for k in range(count)]
    for path in paths[1:]:
        os.link(first, path)
    return [str(path) for path in paths]


def measure(result: Soak, sources: Sequence[str], folder: Path, progress: Callable[[str], object]) -> None:
    """What a clip costs: its work alone, in a batch, and in a batch again where it is finished; and memory."""
    options = Options(**MEMBERS)  # type: ignore[arg-type]
    models, stages = Models(options), stages_of(options)

    def work(source: str, place: Path) -> None:
        take = run_stages(open_clip(source, options), stages, models, save=lambda t: save_take(t, place / "take.npz"))
        export_take(take, place, ["npz"], models, lambda *_: None)

    work(sources[0], folder / "warm")  # loads and compiles
    outputs, clips = Outputs(folder / "measured_out", ["npz"]), name_clips(sources)
    outputs.folder.mkdir()
    journal = Journal(outputs.folder)
    bare, batch = [0.0], [0.0]
    for k, clip in enumerate(clips):  # by turns, so that what else the machine does hits both alike
        bare.append(_cpu_ms(partial(work, clip.source, folder / "bare" / f"{k}")))
        batch.append(_cpu_ms(partial(_batch, [clip], models, outputs, journal)))
        if k in (len(clips) // 3, len(clips) - 1):
            result.memory_mb.append(_memory_mb())
    result.work_ms, result.batch_ms = sum(bare) / len(clips), sum(batch) / len(clips)
    result.kept_ms = _cpu_ms(partial(_batch, clips, models, outputs, journal)) / len(clips)
    shutil.rmtree(folder / "bare")
    progress(f"work {result.work_ms:.1f} ms a clip, in a batch {result.batch_ms:.1f}, finished {result.kept_ms:.1f}")


def start(folder: Path, source: str) -> tuple[float, float]:
    """Seconds from a command with `LISTED` inputs to its first progress, and the seconds of CPU time that it took.

    The first input is there; the others are names, which are not opened."""
    names = [source, *(f"{folder}/sequence_{k // 100}/shot_{k}/video.mp4" for k in range(1, LISTED))]
    (folder / "names.txt").write_text("\n".join(names))
    words = ["run", "--input-list", str(folder / "names.txt"), "--out", str(folder / "started"), *WORDS]
    started = time.perf_counter()
    command = [sys.executable, "-m", "hmrkit", *words, "--progress", "json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr
        process.stderr.readline()
        seconds = time.perf_counter() - started
        process.kill()
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = code
    return seconds, usage.ru_utime + usage.ru_stime


def _cpu_ms(work: Callable[[], object]) -> float:
    """This process's time on the CPUs, which other processes do not change."""
    started = time.process_time()
    work()
    return 1e3 * (time.process_time() - started)


def _batch(clips: Sequence[Clip], models: Models, outputs: Outputs, journal: Journal) -> None:
    run_batch(clips, models, outputs, journal, Watch(0).progress, lambda _: None)


def check(result: Soak, clips: Sequence[Clip], out: Path, reference: Path) -> None:
    """Whether every clip was done, once, and its results are those of an undisturbed run."""
    ends = latest(out)
    done = Counter(line["clip"] for line in read_lines(out) if line["status"] == "done")
    person = _motion(reference)
    beside = sum(path.stat().st_size for path in out.glob("report*.jsonl"))
    for clip in clips:
        place = out / clip.name
        if clip.name not in ends or ends[clip.name]["status"] not in ("done", "kept"):
            result.lost.append(f"{clip.name}: {ends.get(clip.name, {}).get('error', 'in no journal')}")
        elif not (place / "take.npz").exists() or person != _motion(place):
            result.lost.append(f"{clip.name}: other results than of an undisturbed run")
        elif left := [path.name for path in place.iterdir() if path.name.startswith(".")]:
            result.lost.append(f"{clip.name}: {left[0]} was left")
        if done[clip.name] > 1:
            result.twice.append(clip.name)
        beside += sum((place / name).stat().st_size for name in (REPORT, MANIFEST) if (place / name).exists())
    result.bytes_beside = beside / max(len(clips), 1)


def _motion(folder: Path) -> dict[str, bytes]:
    """A clip's result but for its name."""
    with np.load(folder / "person_01.npz") as person:
        return {name: person[name].tobytes() for name in ("poses", "betas", "trans", "joints_c", "frame_times")}


def _start(folder: Path, shard: str) -> subprocess.Popen[bytes]:
    words = ["run", "--input-list", str(folder / "list.txt"), "--out", str(folder / "out"), "--shard", shard, *WORDS]
    with open(folder / f"log_{shard.replace('/', '_')}.txt", "ab") as log:
        command = [sys.executable, "-m", "hmrkit", *words, "--format", "npz"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)


def _last_words(folder: Path, shard: str) -> str:
    return (folder / f"log_{shard.replace('/', '_')}.txt").read_text(errors="replace")[-300:]


def _memory_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
