"""Worker processes share one list: each clip is done once, and a worker that dies costs one attempt."""

import json
import os
import signal

import pytest
import torch
from films import TOYS, write_film
from in_process import hmrkit

from hmrkit.batches import workers
from hmrkit.batches.clip import Outputs
from hmrkit.batches.journal import latest, read_lines
from hmrkit.batches.naming import name_clips
from hmrkit.batches.watching import Watch
from hmrkit.device import resolve_device
from hmrkit.errors import UsageError
from hmrkit.options import Options

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
    codes = workers.run_workers(
        name_clips(map(str, films)),
        Options(mesh="toy", shape="mesh", **CHOSEN),
        Outputs(watch.out, ["npz"]),
        ["cpu", "cpu"],
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
