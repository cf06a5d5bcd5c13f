"""Claims: what dead processes held is free at once; a living process of another machine is respected without locks."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from hmrkit.take import claims
from hmrkit.take.claims import LOCK, STALE_S, locked, owner_of

CHILD = {**os.environ, "OMP_NUM_THREADS": "1"}


def left_by(folder, age, **facts):
    """A claim as a process of another machine left it, touched `age` seconds ago."""
    text = {"host": "render7", "pid": 4711, "since": "2026-11-30 01:00:00", "machine": "another"} | facts
    (folder / LOCK).write_text(json.dumps(text))
    stamp = time.time() - age
    os.utime(folder / LOCK, (stamp, stamp))


def test_one_writer_at_a_time_and_a_dead_ones_lock_is_taken_over(tmp_path):
    hold = f"""
import sys
from pathlib import Path
from hmrkit.take.claims import locked
with locked(Path({str(tmp_path)!r})) as held:
    print(held, flush=True)
    sys.stdin.read()
"""
    owner = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=CHILD)
    assert owner.stdout.readline() == b"True\n"
    with locked(tmp_path, wait=False) as held:
        assert not held
    assert owner_of(tmp_path)["pid"] == owner.pid
    owner.kill()
    owner.wait()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path, wait=False) as held:
        assert held
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("age", "free"), [(1, False), (STALE_S + 60, True)])
def test_another_machines_claim_lasts_while_it_is_touched(age, free, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "SETTLE_S", 0.0)
    left_by(tmp_path, age)
    with locked(tmp_path, wait=False) as held:
        assert held == free
        assert owner_of(tmp_path)["host"] == ("render7" if not free else claims._own_facts()["host"])
    assert (tmp_path / LOCK).exists() != free


def test_of_two_machines_that_take_over_at_once_the_last_to_write_has_it(tmp_path, monkeypatch):
    left_by(tmp_path, STALE_S + 60)
    monkeypatch.setattr(claims.time, "sleep", lambda _: left_by(tmp_path, 0, host="render8"))  # meanwhile
    with locked(tmp_path, wait=False) as held:
        assert not held
    assert owner_of(tmp_path)["host"] == "render8"


def test_the_owner_shows_that_it_lives_and_never_removes_anothers_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT_S", 0.02)
    with locked(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - (tmp_path / LOCK).stat().st_mtime < 60
        left_by(tmp_path, 0)  # it was taken over while this process was suspended
    assert owner_of(tmp_path)["host"] == "render7"


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_claim_that_was_damaged_meanwhile_is_left(text, tmp_path):
    with locked(tmp_path):
        (tmp_path / LOCK).write_text(text)
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path, wait=False) as held:
        assert held
    assert not list(tmp_path.iterdir())


def test_a_claim_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(claims.os, "fsync", lambda handle: seen.append(os.pread(handle, 4096, 0)))
    with locked(tmp_path):
        assert json.loads(seen[0])["pid"] == os.getpid()


def test_the_folders_clock_leaves_nothing_there(tmp_path):
    (tmp_path / f".hmrkit-{os.getpid()}").touch()  # another machine's process may have that number
    assert abs(claims.time_of_folder(tmp_path) - time.time()) < 60
    assert [path.name for path in tmp_path.iterdir()] == [f".hmrkit-{os.getpid()}"]


def test_many_threads_hold_it_one_after_another(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(5):
            with locked(tmp_path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert (max(most), len(most)) == (1, 20)
    assert not list(tmp_path.iterdir())
