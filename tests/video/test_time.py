"""Clips whose time is not that of evenly counted frames: each made here, each frame with its own number in it."""

from __future__ import annotations

import os
from fractions import Fraction

import av
import numpy as np
import pytest

from hmrkit.errors import UsageError
from hmrkit.video import frame_number, probe, read_frames

TICK = Fraction(1, 600)
STEADY = [20 * n for n in range(12)]  # 30 Hz
SIZE = (48, 64)


def image(number: int, size=SIZE) -> np.ndarray:
    """A grey level for each number up to 15."""
    return np.full((*size, 3), 10 + 15 * number, np.uint8)


def number_in(image: np.ndarray) -> int:
    return round((float(image.mean()) - 10) / 15)


def film(path, stamps=STEADY, codec="libx264", tags=None, mangle=lambda packets: packets, **options):
    """A clip with these time stamps; `mangle` changes its packets before they are written."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"} if tags else {}) as container:
        stream = container.add_stream(codec, rate=30, options={"crf": "4", "bf": "0", **options})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = stream.time_base = TICK
        container.metadata.update(tags or {})
        packets = []
        for n, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(image(n), format="rgb24")
            frame.pts, frame.time_base = stamp, TICK
            packets += stream.encode(frame)
        for packet in mangle(packets + stream.encode()):
            container.mux(packet)
    return path


def read(info, **options):
    batches = list(read_frames(info, **options))
    given = [int(n) for batch in batches for n in batch.frame_indices]
    return given, [number_in(i) for b in batches for i in b.frames], [f for b in batches for f in b.failed]


def test_a_late_start_is_time_zero(tmp_path):
    info = probe(film(tmp_path / "late.mkv", [5000 + s for s in STEADY]))
    np.testing.assert_allclose(info.frame_times, np.array(STEADY) / 600, atol=1.1e-3)
    assert not info.variable


def test_variable_rates_are_seen_and_jitter_is_not(tmp_path):
    slower = [20 * n for n in range(6)] + [120 + 40 * n for n in range(6)]
    info = probe(film(tmp_path / "vfr.mp4", slower))
    assert info.variable
    np.testing.assert_allclose(info.seconds(info.frame_indices), np.array(slower) / 600, atol=1e-6)
    assert info.seconds(np.array([5, 7]))[1] == pytest.approx(60 / 600)
    jitter = [s + (s // 20) % 3 for s in STEADY]
    assert not probe(film(tmp_path / "jitter.mp4", jitter)).variable
    assert frame_number("0.2s", "--start", info) == 6


@pytest.mark.parametrize("given", [None, 120.0, 30.0])
def test_slow_motion_by_the_cameras_note_or_by_hand(tmp_path, caplog, given):
    path = film(tmp_path / "slow.mp4", tags={"com.android.capture.fps": "240.0"})
    info = probe(path, capture_fps=given)
    factor = (given or 240) / 30
    assert info.slowdown == pytest.approx(factor)
    assert info.fps == 30
    assert info.frame_times[-1] == pytest.approx(11 / 30)  # exports keep the clip's own time
    assert info.motion_fps == pytest.approx(30 * factor)
    assert info.seconds(info.frame_indices)[-1] == pytest.approx(11 / 30 / factor)
    assert len(caplog.records) == (given is None)
    assert len(info.notes) == (factor != 1)


@pytest.mark.parametrize("given", [1e9, 1e-9, 0.0, float("nan")])
def test_no_camera_captures_at_such_a_rate(tmp_path, given):
    with pytest.raises(UsageError, match=r"--capture-fps must be a number from 0.0001 to 1e\+06, got"):
        probe(film(tmp_path / "a.mp4"), capture_fps=given)


def test_a_rate_noted_by_an_ordinary_clip_is_no_slow_motion(tmp_path):
    assert probe(film(tmp_path / "a.mp4", tags={"com.android.capture.fps": "29.97"})).slowdown == 1


def cut(packets, first):
    return [p for p in packets if p.pts is not None and p.dts >= packets[first].dts]


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_a_clip_cut_without_encoding_begins_at_its_first_keyframe(tmp_path, backend):
    path = film(tmp_path / "cut.mkv", mangle=lambda p: cut(p, 3), g="6", keyint_min="6", sc_threshold="0")
    info = probe(path)
    given, seen, failed = read(info, backend=backend)
    assert (given, seen, failed) == (list(range(6)), list(range(6, 12)), [])
    assert info.frame_times[0] == 0
    assert "3" in info.notes[0]


def test_open_groups_lose_only_the_frames_that_lead_into_the_cut(tmp_path):
    options = {"bf": "2", "g": "6", "x264-params": "open-gop=1:keyint=6:min-keyint=6:scenecut=0:b-adapt=0"}
    whole = probe(film(tmp_path / "whole.mkv", **options))
    assert read(whole) == (list(range(12)), list(range(12)), [])
    with av.open(whole.path) as container:
        keys = [k for k, p in enumerate(container.demux(video=0)) if p.size and p.is_keyframe]
    path = film(tmp_path / "cut.mkv", mangle=lambda p: cut(p, keys[1]), **options)
    given, seen, failed = read(probe(path))
    assert failed == []
    assert given == list(range(len(given)))
    assert seen == list(range(12 - len(given), 12))


def repeated(packets):
    packets[3].pts = packets[4].pts = packets[5].pts
    return packets


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_repeated_stamps_lie_between_their_neighbours(tmp_path, name):
    info = probe(film(tmp_path / name, mangle=repeated))
    assert read(info) == (list(range(12)), list(range(12)), [])
    assert np.diff(info.frame_times).min() > 0
    np.testing.assert_allclose(info.frame_times[[0, 1, 2, 6, 11]], np.array([0, 20, 40, 120, 220]) / 600, atol=2e-3)
    assert np.abs(info.frame_times - np.array(STEADY) / 600).max() < 0.1


def test_frames_that_an_edit_list_hides_are_none(tmp_path):
    path = film(tmp_path / "edit.mp4", [s - 100 for s in STEADY])  # negative stamps become an edit list
    info = probe(path)
    given, seen, failed = read(info)
    assert failed == []
    assert seen == list(range(12 - len(given), 12))
    assert info.frame_times[0] == 0


@pytest.mark.parametrize("default", [(0, 1), (0,)])
def test_the_default_stream_else_the_largest(tmp_path, default):
    path = tmp_path / "two.mp4"
    sizes = ((48, 64), (96, 128))
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in sizes]
        for n, (stream, size) in enumerate(zip(streams, sizes, strict=True)):
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            stream.disposition = av.stream.Disposition.default if n in default else av.stream.Disposition(0)
        for n, (stream, size) in enumerate(zip(streams, sizes, strict=True)):
            for t in range(3 + n):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image(t + n, size), format="rgb24")))
            container.mux(stream.encode())
    info = probe(path)
    chosen = len(default) - 1
    assert (info.width, info.frame_count) == ((128, 4) if chosen else (64, 3))
    assert f"stream {chosen} is taken" in info.notes[0]
    assert read(info)[1] == [t + chosen for t in range(info.frame_count)]


NAMES = [
    "take:1.mp4", "file:a.mp4", "concat:a|b.mp4", "two words.mp4", "shot%04d.mp4", "it's \"it\".mp4", "人 é.mp4",
    "-start.mp4", "x" * 200 + ".mp4", "a?b#c&d.mp4",
]  # fmt: skip


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_any_name_is_a_file(tmp_path, monkeypatch, backend):
    made = film(tmp_path / "made.mp4")
    folder = tmp_path / "deep" / ("d" * 100) / ("e" * 100)
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    os.symlink(made, "link.mp4")
    for name in NAMES:
        os.link(made, name)
    for name in [*NAMES, "link.mp4"]:
        info = probe(name)
        assert read(info, backend=backend)[1] == list(range(12)), name


def test_avi_whose_frames_change_places_is_numbered_as_shown(tmp_path):
    """AVI dates packets in the order of decoding, so H.264 with B-frames has the stamps of others."""
    path = tmp_path / "b.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4", "bf": "3", "x264-params": "b-adapt=0"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for n in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image(n), format="rgb24")))
        container.mux(stream.encode())
    assert read(probe(path)) == ([*range(12)], [*range(12)], [])
