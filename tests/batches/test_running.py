"""Batches: what is finished is kept, what failed is remembered, what died is counted, no two meet in a folder."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from films import TOYS, write_film
from in_process import hmrkit

from hmrkit.batches import clip as clips
from hmrkit.batches.clip import ClipRunner
from hmrkit.batches.journal import Journal, latest, read_lines, summarise
from hmrkit.batches.naming import Clip
from hmrkit.batches.result import ClipResult, Outputs, result_of
from hmrkit.batches.running import Choice, plan
from hmrkit.batches.watching import Watch
from hmrkit.device import out_of_memory
from hmrkit.errors import GpuMemoryError
from hmrkit.keypoints import KEYPOINTS
from hmrkit.keypoints.toy import ToyEstimator
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.take.claims import LOCK, locked

QUICK = [*TOYS, "--mesh", "toy", "--shape", "mesh", "--format", "npz"]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "walk.mp4", frames=3)


@pytest.fixture(scope="module")
def finished(film, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    result = hmrkit("run", film, "--out", out, *QUICK)
    assert result.returncode == 0, result.stderr
    return out


def run(*args):
    return hmrkit("run", *args, *QUICK)


def statuses(out):
    return [(line["clip"], line["status"], line["tries"]) for line in read_lines(out)]


def never(*_, **__):
    raise AssertionError("opened again")


def test_what_is_finished_is_kept_without_being_opened(film, finished, tmp_path, monkeypatch):
    out = shutil.copytree(finished, tmp_path / "out")
    with monkeypatch.context() as closed:
        closed.setattr(clips, "open_clip", never)
        again = run(film, "--out", out)
    assert (again.returncode, again.stdout.split()) == (
        0,
        [str(out / "walk" / name) for name in ("take.npz", "person_01.npz")],
    )
    assert statuses(out) == [("walk", "done", 0)]
    person = out / "walk" / "person_01.npz"
    whole = person.read_bytes()
    person.write_bytes(whole[:50] + b"x" + whole[51:])
    assert run(film, "--out", out).returncode == 0
    assert person.read_bytes() == whole  # altered: made again
    other = run(film, "--out", out, "--smooth", "0.5")
    assert (other.returncode, person.read_bytes() == whole) == (0, False)
    os.utime(film)
    monkeypatch.setattr(clips, "open_clip", never)
    assert run(film, "--out", out, "--smooth", "0.5").returncode == 4  # another source, perhaps: it is opened


def test_another_clip_of_the_same_name_is_refused_before_any_work(film, finished, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "b").mkdir()
    other = write_film(tmp_path / "b" / "walk.mp4", frames=2)
    before = (out / "walk" / "take.npz").read_bytes()
    result = run(other, "--out", out)
    assert result.returncode == 4
    assert f"has the results of another clip, {film}" in result.stderr
    assert (out / "walk" / "take.npz").read_bytes() == before
    first = other.read_bytes()
    shutil.copy(film, other)  # the clip of that folder, moved
    assert run(other, "--out", out).returncode == 0
    other.write_bytes(first)
    assert run(other, "--out", out, "--root", tmp_path, "--overwrite").returncode == 0
    assert (out / "b" / "walk" / "take.npz").exists()


def test_failures_are_counted_tried_again_and_left_alone(film, tmp_path):
    out, bad = tmp_path / "out", tmp_path / "clips" / "bad.mp4"
    bad.parent.mkdir()
    bad.write_bytes(b"no video" * 99)
    good = shutil.copy(film, bad.parent / "good.mp4")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{bad}\n{good}\n")
    common = ("--input-list", listed, "--out", out, "--max-tries", "2")
    assert run(*common).returncode == 1
    assert statuses(out) == [("bad", "failed", 1), ("good", "done", 0)]
    assert not (out / "bad").exists()
    assert run(*common, "--retry-failed").returncode == 4  # the one code of what went wrong
    result = run(*common)
    assert (result.returncode, "failed 2 times, so it is left alone" in result.stderr) == (1, True)
    assert statuses(out)[2:] == [("bad", "failed", 2), ("bad", "quarantined", 2)]
    shown = hmrkit("report", "failed", out).stdout
    assert shown.startswith("QuarantineError\t2 tries\tbad\t")
    assert "last failure: expected a video, cannot open it" in shown
    assert "last failure: expected a video" in run(*common).stderr
    assert hmrkit("report", "failed", out, "--sources").stdout == f"{bad}\n"
    assert "2 clips: 1 done, 1 quarantined\n3 frames" in hmrkit("report", "show", out).stdout
    merged = json.loads((out / hmrkit("report", "merge", out).stdout.strip()).read_text())
    assert [line["clip"] for line in merged["clips"]] == ["bad", "good"]
    assert merged["summary"]["clips"] == {"quarantined": 1, "done": 1}
    shutil.copy(film, bad)
    assert run(*common, "--retry-failed", "--max-tries", "3").returncode == 0
    assert statuses(out)[-1] == ("bad", "done", 0)
    assert "none of these inputs failed" in run(*common, "--retry-failed").stderr


def test_a_process_that_died_in_a_clip_counts_as_a_failure(film, tmp_path):
    for _ in range(2):
        with locked(tmp_path / "walk"):
            claim = (tmp_path / "walk" / LOCK).read_text()
        (tmp_path / "walk" / LOCK).write_text(claim.replace(str(os.getpid()), "999999"))
        run(film, "--out", tmp_path, "--max-tries", "2", "--overwrite")
    assert statuses(tmp_path) == 2 * [("walk", "failed", 1), ("walk", "done", 0)]
    assert "999999" in next(read_lines(tmp_path))["error"]


def test_shards_do_their_parts_and_keep_books_of_their_own(film, tmp_path):
    for k in range(3):
        shutil.copy(film, tmp_path / f"f{k}.mp4")
    films = sorted(tmp_path.glob("*.mp4"))
    assert run(*films, "--out", tmp_path / "o", "--shard", "2/2").returncode == 0
    assert run(*films, "--out", tmp_path / "o", "--shard", "1/2").returncode == 0
    books = [(tmp_path / "o" / f"report_{k}_of_2.jsonl").read_text() for k in (1, 2)]
    assert [book.count("\n") for book in books] == [2, 1]
    assert set(latest(tmp_path / "o")) == {"f0", "f1", "f2"}


def test_too_little_gpu_memory_halves_the_batch(film, tmp_path, monkeypatch):
    sizes = []

    def stages(take, stages, models, *rest):
        sizes.append(models.batch_size)
        if sizes[-1] > 2:
            raise GpuMemoryError("cuda:0 ran out of memory")
        return real(take, stages, models, *rest)

    real = clips.run_stages
    monkeypatch.setattr(clips, "run_stages", stages)
    chosen = Options(detector="toy", tracker="toy", keypoints="toy", lifter="toy", mesh="toy", device="cpu")
    runner = ClipRunner(Models(chosen), Outputs(tmp_path, ["npz"]))
    result = result_of(Clip(str(film), "walk"), runner.outputs)
    assert runner.run(result, lambda *_: None, lambda _: None)
    assert (result.status, sizes, runner.models.batch_size) == ("done", [8, 4, 2], 2)
    other = result_of(Clip(str(film), "other"), runner.outputs)
    assert runner.run(other, lambda *_: None, lambda _: None)
    assert (other.status, sizes[3:]) == ("done", [2])
    assert not out_of_memory(RuntimeError("other"))


@pytest.mark.parametrize(("frames_at_once", "tries"), [(8, 1), (0, 4)])
def test_a_stage_with_frames_of_its_own_is_not_tried_with_fewer(frames_at_once, tries, film, tmp_path, monkeypatch):
    sizes = []

    def full(self, *_):
        sizes.append(1)
        raise GpuMemoryError("cuda:0 ran out of memory")

    monkeypatch.setattr(ToyEstimator, "__call__", full)
    monkeypatch.setitem(KEYPOINTS, "toy", replace(KEYPOINTS["toy"], frames_at_once=frames_at_once))
    chosen = Options(detector="toy", tracker="toy", keypoints="toy", lifter="toy", mesh="toy", device="cpu")
    runner = ClipRunner(Models(chosen), Outputs(tmp_path, ["npz"]))
    result = result_of(Clip(str(film), "walk"), runner.outputs)
    assert runner.run(result, lambda *_: None, lambda _: None)
    assert (result.kind, len(sizes)) == ("GpuMemoryError", tries)


def test_a_clip_of_little_use_has_failed_everywhere(tmp_path):
    journal, watch = Journal(tmp_path), Watch(3)
    for name, status, code in (("a", "done", 0), ("b", "done", 1), ("c", "failed", 4)):
        result = ClipResult(f"{name}.mp4", tmp_path / name, status, kind="undecodable", exit_code=code)
        journal.add(result)
        watch.done(result)
    chosen = Options(detector="toy", tracker="toy", keypoints="toy", lifter="toy", mesh="toy", device="cpu")
    again = plan(["a.mp4", "b.mp4", "c.mp4"], chosen, Outputs(tmp_path, ["npz"]), Choice(retry_failed=True))
    assert [clip.name for clip in again] == ["b", "c"]
    assert hmrkit("report", "failed", tmp_path, "--sources").stdout.split() == [
        os.path.abspath(clip.source) for clip in again
    ]
    assert (watch.failed, Journal(tmp_path).tries("b")) == (2, 0)


def test_a_journal_outlives_half_lines_and_adds_up(tmp_path):
    journal = Journal(tmp_path, "1_of_2", "cuda:0")
    for name, status, kind in (("a", "failed", "InputError"), ("b", "done", ""), ("a", "failed", "died")):
        result = ClipResult(f"{name}.mp4", tmp_path / name, status, kind=kind, exit_code=int(status != "done"))
        result.detail = {"frames": 10}
        journal.add(result)
    with open(journal.path, "a") as file:
        file.write(json.dumps(next(read_lines(tmp_path)) | {"clip": "odd", "tries": "two"}) + "\n")
        file.write('{"clip": "c", "stat')
    journal.add(ClipResult("d.mp4", tmp_path / "d", "kept"))
    assert statuses(tmp_path) == [("a", "failed", 1), ("b", "done", 0), ("a", "failed", 2), ("d", "kept", 0)]
    assert Journal(tmp_path).tries("a") == 2
    summary = summarise(latest(tmp_path).values())
    assert (dict(summary.clips), dict(summary.kinds)) == ({"failed": 1, "done": 2}, {"died": 1})
    assert max(len(line) for line in journal.path.read_text().splitlines()) < 400
    assert json.loads(journal.path.read_text().splitlines()[0])["source"] == os.path.abspath("a.mp4")
