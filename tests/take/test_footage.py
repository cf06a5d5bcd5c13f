"""A take finds its clip again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from films import write_film

from hmrkit.camera import assume_camera
from hmrkit.errors import InputError
from hmrkit.take import load_take, open_take, save_take
from hmrkit.types import Take
from hmrkit.video import probe, read_frames


@pytest.fixture
def shot(tmp_path, monkeypatch):
    """A take in ``shot/takes`` of a clip in ``shot/clips``, made with a relative path."""
    folder = tmp_path / "shot"
    (folder / "clips").mkdir(parents=True)
    write_film(folder / "clips" / "walk.mp4", frames=3, size=(48, 64))
    monkeypatch.chdir(folder)
    video = replace(probe("clips/walk.mp4"), slowdown=2.0, notes=("odd",))
    save_take(Take(video, assume_camera(64, 48)), "takes/take.npz")
    monkeypatch.chdir(tmp_path)
    return folder


def frames(take):
    return sum(len(batch.frames) for batch in read_frames(take.video))


def test_a_take_opens_from_anywhere_and_keeps_what_was_found(shot):
    take = load_take("shot/takes/take.npz")
    assert take.video.path == str(shot / "clips" / "walk.mp4")
    assert (take.video.slowdown, take.video.notes) == (2.0, ("odd",))
    assert frames(take) == 3


def test_clip_and_take_moved_together(shot, tmp_path):
    shutil.move(shot, tmp_path / "archive")
    assert frames(load_take("archive/takes/take.npz")) == 3


@pytest.mark.parametrize("name", ["walk.mp4", "renamed.mp4"])
def test_a_moved_clip_is_found_beside_the_take_by_its_content(shot, name):
    other = write_film(shot / "takes" / "other.mp4", frames=3, size=(48, 64), empty=True)
    shutil.move(shot / "clips" / "walk.mp4", shot / "takes" / name)
    if name != "walk.mp4":
        shutil.copy(other, shot / "takes" / "walk.mp4")  # of the clip's name, but not the clip
    assert load_take(shot / "takes" / "take.npz").video.path == str(shot / "takes" / name)


def test_a_clip_that_is_gone_is_named_anew(shot, tmp_path, caplog):
    elsewhere = shutil.move(shot / "clips" / "walk.mp4", tmp_path / "here.mp4")
    take = load_take(shot / "takes" / "take.npz")
    with pytest.raises(InputError, match="--video"):
        frames(take)
    assert frames(open_take(str(shot / "takes" / "take.npz"), elsewhere)) == 3
    assert not caplog.records
    shorter = write_film(tmp_path / "shorter.mp4", frames=2, size=(48, 64))
    with pytest.raises(InputError, match="found 64x48 with 2 frames"):
        open_take(str(shot / "takes" / "take.npz"), str(shorter))


def test_a_take_from_before_still_opens(shot):
    path = shot / "takes" / "take.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    manifest = json.loads(str(arrays["manifest"]))
    for key in ("bytes", "first_number", "slowdown", "notes"):
        del manifest["video"][key]
    del manifest["checksums"]
    np.savez(path, **arrays | {"manifest": np.array(json.dumps(manifest))})
    video = load_take(path).video
    assert (video.first_number, video.slowdown, video.notes) == (0, 1.0, ())
    assert Path(video.path).exists()
