"""Stopped in the middle of a stage, a run keeps what is done, frees its claim and goes on there; time limits end it."""

import json
import signal
import time

import numpy as np
import pytest
from films import TOYS, write_film
from in_process import hmrkit

from hmrkit.batches.stopping import end_after, seconds_of
from hmrkit.detectors.toy import ToyDetector
from hmrkit.errors import UsageError
from hmrkit.keypoints.toy import ToyEstimator
from hmrkit.take.claims import LOCK
from hmrkit.take.unfinished import UNFINISHED, Part, Unfinished

QUICK = [*TOYS, "--mesh", "toy", "--shape", "mesh", "--format", "npz", "--batch-size", "2"]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "walk.mp4", frames=7)


# After the last frame that was detected boxes may lie on the way to the next: it is detected again.
@pytest.mark.parametrize(
    ("member", "every", "before", "after"),
    [
        (ToyDetector, 1, [[0, 1], [2, 3]], [3, 4, 5, 6]),
        (ToyDetector, 3, [[0], [3], [1, 2]], [3, 6, 4, 5]),
        (ToyEstimator, 1, [[0, 1], [2, 3]], [4, 5, 6]),
    ],
)
def test_a_stage_goes_on_where_it_was_stopped(member, every, before, after, film, tmp_path, monkeypatch):
    seen, real = [], member.__call__
    line = ["run", film, *QUICK, "--detect-every", every, "--out"]
    assert hmrkit(*line, tmp_path / "whole").returncode == 0

    def stopped(self, frames, indices, *rest):
        if len(seen) == len(before):
            raise SystemExit(143)
        seen.append(list(indices))
        return real(self, frames, indices, *rest)

    with monkeypatch.context() as limited:
        limited.setattr(member, "__call__", stopped)
        assert hmrkit(*line, tmp_path / "again").returncode == 143
    folder, whole = (tmp_path / name / "walk" for name in ("again", "whole"))
    assert (folder / UNFINISHED).exists()
    assert not (folder / LOCK).exists()
    again = []

    def counted(self, frames, indices, *rest):
        again.extend(indices)
        return real(self, frames, indices, *rest)

    monkeypatch.setattr(member, "__call__", counted)
    assert hmrkit(*line, tmp_path / "again").returncode == 0
    assert (seen, again) == (before, after)
    assert not (folder / UNFINISHED).exists()
    for name in ("take.npz", "person_01.npz"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_part_is_of_one_stage_and_its_options(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        Unfinished(tmp_path).part("detect", {"size": 1}).kept(lambda: {"found": np.arange(3)}),
    ):
        raise KeyboardInterrupt
    assert Unfinished(tmp_path).part("detect", {"size": 1}).arrays["found"].tolist() == [0, 1, 2]
    assert Unfinished(tmp_path).part("detect", {"size": 2}).arrays == {}
    (tmp_path / UNFINISHED).write_bytes(b"damaged")
    assert Unfinished(tmp_path).part("detect", {"size": 1}).arrays == {}
    with pytest.raises(KeyboardInterrupt), Part().kept(never):
        raise KeyboardInterrupt


def never():
    raise AssertionError("kept")


def test_blazepose_goes_on_with_what_it_knew_of_its_tracks():
    from hmrkit.keypoints import Stateful
    from hmrkit.keypoints.blazepose import BlazePoseEstimator, _Track

    before = BlazePoseEstimator.__new__(BlazePoseEstimator)
    before.reset()
    before._tracks = {3: _Track(np.array([0.1, 0.2, 1 / 3, 0.4]), 0.7, 5, 0.25, 16), 4: _Track()}
    after = BlazePoseEstimator.__new__(BlazePoseEstimator)
    after.reset()
    after.restore(json.loads(json.dumps(before.state(), default=float)))
    assert isinstance(after, Stateful)
    assert after.state() == before.state()
    np.testing.assert_array_equal(after._tracks[3].relation, before._tracks[3].relation)


def test_time_limits():
    assert [seconds_of(t) for t in ("90", "90m", "3h50m", "1:00:30", "2.5s")] == [90, 5400, 13800, 3630, 2.5]
    assert 100 < seconds_of("auto", {"SLURM_JOB_END_TIME": str(int(time.time()) + 180)}) <= 120
    for wrong in ("soon", "0", "", "1:2:3", "auto"):
        with pytest.raises(UsageError, match="--time-limit"):
            seconds_of(wrong, {})
    before = signal.getsignal(signal.SIGALRM)
    try:
        end_after("0.01s")
        with pytest.raises(SystemExit) as ended:
            time.sleep(5)
        assert ended.value.code == 124
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
