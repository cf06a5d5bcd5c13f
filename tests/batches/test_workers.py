"""Worker processes share one list: each clip is done once, and a worker that dies costs one attempt."""

import json
import logging
import multiprocessing
import os
import signal

import pytest
import torch
from films import TOYS, write_film
from in_process import hmrkit

from hmrkit.batches import workers
from hmrkit.batches.journal import latest, read_lines
from hmrkit.batches.naming import Clip, name_clips
from hmrkit.batches.result import Outputs, result_of
from hmrkit.batches.watching import Watch
from hmrkit.batches.workers import Workers, run_workers
from hmrkit.device import resolve_device
from hmrkit.errors import DeviceError, UsageError
from hmrkit.options import Options
from hmrkit.take import claims
from hmrkit.take.claims import LOCK, locked

CHOSEN = dict(zip((word.lstrip("-") for word in TOYS[::2]), TOYS[1::2], strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_all_gpus_of_a_machine_without_one(tmp_path):
    result = hmrkit("run", "clip.mp4", "--out", tmp_path, "--device", "cuda:all", "--dry-run")
    assert (result.returncode, "no CUDA device is here; use --device cpu" in result.stderr) == (1, True)
    with pytest.raises(UsageError, match="is for `hmrkit run`"):
        resolve_device("cuda:all")


class Killing(Watch):
    """Kills the worker whose clip is to die, each time that clip is worked on."""

    def advance(self, worker, source, stage, done, total):
        if "dies" in source:
            (claim,) = self.out.glob("dies/.hmrkit.lock")
            os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)


@pytest.mark.slow
def test_two_workers_do_each_clip_once_and_outlive_a_death(tmp_path):
    films = [write_film(tmp_path / f"f{k}.mp4", frames=2) for k in range(4)]
    films.insert(1, write_film(tmp_path / "dies.mp4", frames=40))
    watch, ended = Killing(5), []
    watch.out = tmp_path / "out"
    codes = run_workers(
        name_clips(map(str, films)),
        Workers(Options(mesh="toy", shape="mesh", **CHOSEN), Outputs(watch.out, ["npz"]), ["cpu", "cpu"]),
        watch,
        ended.append,
    )
    assert dict(codes) == {0: 4, 1: 1}
    assert watch.finished == len(ended) == 5
    lines = latest(watch.out)
    assert {name for name, line in lines.items() if line["status"] == "done"} == {"f0", "f1", "f2", "f3"}
    assert (lines["dies"]["kind"], lines["dies"]["tries"]) == ("died", 2)
    counted = [line["clip"] for line in read_lines(watch.out) if line["status"] == "done"]
    assert sorted(counted) == ["f0", "f1", "f2", "f3"]
    assert not (watch.out / "dies" / LOCK).exists()


def one_worker(finished):
    """A round of one worker, whose process is 999999: it dies in every clip called so."""

    def rounds(clips, workers, watch, done):
        for clip in clips:
            result = result_of(clip, workers.outputs)
            if "dies" in clip.name:
                result.folder.mkdir(parents=True, exist_ok=True)
                claim = claims._own_facts() | {"pid": 999999}
                (result.folder / LOCK).write_text(json.dumps(claim))
                break
            finished.append(clip.name)
            done(result, "cuda:0")
        return {999999}

    return rounds


def test_deadly_clips_cost_one_worker_no_other_clip(tmp_path, monkeypatch):
    finished, ended = [], []
    monkeypatch.setattr(workers, "_round", one_worker(finished))
    clips = [Clip(f"{name}.mp4", name) for name in ("dies", "a", "dies_too", "b")]
    codes = run_workers(clips, Workers(Options(), Outputs(tmp_path), ["cuda:0"]), Watch(4), ended.append)
    assert (dict(codes), finished) == ({0: 2, 1: 2}, ["a", "b"])
    assert len(ended) == 4
    assert [(line["clip"], line["kind"], line["tries"]) for line in read_lines(tmp_path)] == [
        (name, "died", tries) for tries in (1, 2) for name in ("dies", "dies_too")
    ]
    assert not list(tmp_path.glob(f"*/{LOCK}"))  # the next run counts no death again


def test_another_ones_claim_is_no_death_and_workers_that_take_nothing_end_it(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_round", lambda *_: {999999})
    with (
        locked(tmp_path / "a"),
        pytest.raises(DeviceError, match="died before they took a clip"),
    ):
        run_workers([Clip("a.mp4", "a")], Workers(Options(), Outputs(tmp_path), ["cuda:0"]), Watch(1), print)
    assert not list(read_lines(tmp_path))


def test_a_worker_leaves_ctrl_c_to_its_parent_and_logs_as_it_does(tmp_path, monkeypatch):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    log = logging.getLogger("hmrkit")
    level = log.level
    ours, theirs = multiprocessing.Pipe()

    def work(*_):
        signal.raise_signal(signal.SIGINT)
        assert log.getEffectiveLevel() == logging.DEBUG
        try:
            signal.raise_signal(signal.SIGTERM)
        except SystemExit as end:
            signal.raise_signal(signal.SIGTERM)  # the parent's, in the middle of what is kept
            signal.raise_signal(signal.SIGHUP)
            raise RuntimeError(end.code) from end

    monkeypatch.setattr(workers, "run_batch", work)
    try:
        workers._work("cpu", Workers(Options(device="cpu"), Outputs(tmp_path), ["cpu"]), logging.DEBUG, theirs)
    finally:
        log.setLevel(level)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert str(ours.recv()) == "143"
