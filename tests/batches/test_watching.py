"""What a batch shows: counts, pace and time left, as a table, as lines, as JSON and for Open Job Description."""

import json

import pytest

from hmrkit.batches import watching
from hmrkit.batches.result import ClipResult
from hmrkit.batches.watching import Watch, watch_batch
from hmrkit.cli import options
from hmrkit.errors import UsageError


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    time = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: time[0])
    return time


def ended(name, out, status="done", frames=20):
    code = int(status == "failed")
    return ClipResult(f"{name}.mp4", out / name, status, exit_code=code, detail={"frames": frames})


def test_counts_pace_and_time_left(tmp_path, clock):
    watch = Watch(10)
    assert watch.seconds_left is None
    clock[0] += 4
    for name, status in (("a", "done"), ("b", "failed"), ("c", "kept")):
        watch.done(ended(name, tmp_path, status))
    assert (watch.finished, watch.kept, watch.failed, watch.fps) == (3, 1, 1, 5.0)
    assert watch.seconds_left == 7 * 4 / 2
    assert watch.line() == "3 of 10 clips, 1 failed, 1 were done before, 5.0 frames/s, 0:00:14 left"
    watch.progress("d.mp4")("detect", 5, 10)
    assert watch.fraction == pytest.approx((3 + 0.25) / 10)


def test_lines_come_now_and_then(tmp_path, clock, capsys):
    watch = watch_batch(3, "auto")  # no terminal here
    watch.done(ended("a", tmp_path))
    assert capsys.readouterr().err == ""
    clock[0] += 31
    watch.progress("b.mp4")("pose", 1, 2)
    assert capsys.readouterr().err.startswith("hmrkit: 1 of 3 clips, 0 failed, 0.6 frames/s")


def test_a_farm_reads_json_or_its_own_words(tmp_path, clock, capsys):
    watch = watch_batch(2, "json")
    watch.done(ended("a", tmp_path, "failed"), "cuda:1")
    clock[0] += 6
    watch.progress("b.mp4", "cuda:0")("pose", 1, 2)
    clip, progress = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (clip["event"], clip["status"], clip["exit_code"], clip["worker"]) == ("clip", "failed", 1, "cuda:1")
    assert (progress["stage"], progress["done"], progress["of"], progress["finished"]) == ("pose", 1, 2, 1)
    watch_batch(2, "openjd").done(ended("a", tmp_path))
    assert "openjd_progress: 50.0\nopenjd_status: 1 of 2 clips" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--progress must be one of"):
        watch_batch(2, "loud")


def test_a_commands_bars_are_those_of_one_clip(monkeypatch, capsys):
    monkeypatch.setattr(options.sys.stderr, "isatty", lambda: True)
    with options.progress_bar("walk") as progress:
        progress("pose", 3, 9)
    shown = capsys.readouterr().err
    assert ("walk pose" in shown, "3/9" in shown) == (True, True), shown


def test_the_table_shows_each_worker(tmp_path, capsys):
    with watch_batch(4, "table") as watch:
        watch.done(ended("a", tmp_path), "cuda:0")
        watch.progress("films/b.mp4", "cuda:0")("pose", 3, 9)
        watch.progress("c.mp4", "cuda:1")("detect", 1, 7)
    shown = capsys.readouterr().err
    for word in ("cuda:0", "b.mp4", "3/9", "cuda:1", "detect", "1 of 4 clips"):
        assert word in shown
