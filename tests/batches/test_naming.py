"""A clip's folder follows from its path alone; what would meet is refused; thousands of inputs are named at once."""

import time

import pytest

from hmrkit.batches.naming import name_clips
from hmrkit.errors import UsageError


def names(*sources, root=None):
    return [clip.name for clip in name_clips([str(s) for s in sources], root)]


def test_names_follow_from_the_path_under_the_root(tmp_path):
    assert names("clip.mp4") == ["clip"]
    assert names(tmp_path / "a" / "clip.mp4", root=tmp_path) == ["a/clip"]
    assert names(tmp_path / "a" / "clip.mp4", tmp_path / "b" / "clip.MOV") == ["a/clip", "b/clip"]
    assert names("x.mp4", "y.mp4", "./x.mp4") == ["x", "y"]  # an input that is named twice is one clip
    assert names("/m/a/x.mp4", "/n/y.mp4") == ["m/a/x", "n/y"]
    assert names("a/sc.010_v2.mp4") == ["sc.010_v2"]


def test_folders_of_frames_keep_their_whole_name(tmp_path):
    (tmp_path / "shot.v2").mkdir()
    (tmp_path / "plates").mkdir()
    assert names(tmp_path / "shot.v2", tmp_path / "plates") == ["shot.v2", "plates"]
    (tmp_path / "clip.xyz").touch()
    assert names(tmp_path / "clip.xyz") == ["clip"]


def test_links_are_clips_of_their_own(tmp_path):
    (tmp_path / "v1.mp4").touch()
    (tmp_path / "latest.mp4").symlink_to(tmp_path / "v1.mp4")
    assert names(tmp_path / "v1.mp4", tmp_path / "latest.mp4") == ["v1", "latest"]


def test_what_would_share_a_folder_or_lies_elsewhere_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"found 1 that would share .*a/c\.mov and a/c\.mp4 \(c\)"):
        names("a/c.mov", "a/c.mp4")
    with pytest.raises(UsageError, match=r"found 2 that do not: b/c\.mp4; rootless\.mp4; name a folder above"):
        names("root/a.mp4", "b/c.mp4", "rootless.mp4", root="root")


def test_many_inputs_take_no_time():
    sources = [f"/farm/show/seq{k // 100:04d}/sh{k:06d}/video.mp4" for k in range(20_000)]
    started = time.perf_counter()
    clips = name_clips(sources)
    assert time.perf_counter() - started < 10  # seconds; a quadratic way takes an hour
    assert clips[-1] == (sources[-1], "seq0199/sh019999/video")
