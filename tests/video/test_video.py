"""Clips made here whose images say their own number, so that a frame cannot pass for another."""

from __future__ import annotations

import logging
import struct
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import hmrkit.video.reading as reading
from hmrkit.errors import InputError, UsageError
from hmrkit.video import probe, read_frames
from hmrkit.video.decoders import load_torchcodec, prefer_decoder

CLIP = Path(__file__).parents[1] / "data" / "one_by_one_5s.mp4"
BITS, CELL, HEIGHT = 12, 16, 48
BACKENDS = ("decord", "pyav")


def image(number: int) -> np.ndarray:
    """An image (48,192,3) whose middle rows hold `number` in binary; red above, blue below."""
    image = np.zeros((HEIGHT, BITS * CELL, 3), np.uint8)
    image[:16, :, 0], image[32:, :, 2] = 200, 200
    for bit in range(BITS):
        image[16:32, bit * CELL : (bit + 1) * CELL] = 255 * (number >> bit & 1)
    return image


def number_in(image: np.ndarray) -> int:
    middle = image[24, CELL // 2 :: CELL, 1] > 128
    return int(sum(1 << bit for bit, on in enumerate(middle) if on))


def write_clip(path: Path, count=90, rate=Fraction(30), codec="libx264", stamps=None, clock=None, **options) -> Path:
    """A counting clip; `stamps` are presentation times in ticks of `clock` seconds."""
    clock = clock or 1 / Fraction(rate)
    container_options = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    if codec == "libx264":
        options = {"bf": "3", "g": "24", "crf": "12", **options}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = BITS * CELL, HEIGHT
        stream.pix_fmt = "rgb24" if codec == "png" else "yuv420p"
        stream.codec_context.time_base = clock
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(image(i), format="rgb24")
            frame.pts, frame.time_base = (i if stamps is None else stamps[i]), clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read(info, **options) -> tuple[list[int], list[int], list[int]]:
    """(frame numbers given, numbers seen in the images, failed)."""
    given, seen, failed = [], [], []
    for batch in read_frames(info, **options):
        assert len(batch.frames) == len(batch.frame_indices)
        given += batch.frame_indices.tolist()
        seen += [number_in(image) for image in batch.frames]
        failed += batch.failed
    return given, seen, failed


@pytest.fixture(scope="module")
def counter(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "counter.mp4", 200, Fraction(30000, 1001))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"start": 101}, {"start": 13, "end": 150, "every": 7}, {"every": 60}])
def test_both_backends_number_frames_alike_with_b_frames(counter, backend, options):
    info = probe(counter, **options)
    given, seen, failed = read(info, backend=backend, batch_size=5)
    assert (
        given
        == seen
        == info.frame_indices.tolist()
        == list(range(200))[slice(*map(options.get, ("start", "end", "every")))]
    )
    assert failed == []


def test_both_backends_give_the_same_pixels():
    info = probe(CLIP, start=10, every=9)
    decord, pyav = (list(read_frames(info, backend=b)) for b in BACKENDS)
    for a, b in zip(decord, pyav, strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)


def test_torchcodec_gives_the_same_frames(counter, caplog):
    """Where it is installed, with FFmpeg's libraries (CI has none)."""
    try:
        load_torchcodec()
    except UsageError as error:
        pytest.skip(str(error))
    caplog.set_level(logging.DEBUG, "hmrkit")
    given, seen, failed = read(probe(counter, start=13, end=150, every=7), backend="torchcodec", batch_size=5)
    assert given == seen == list(range(13, 150, 7))
    assert not failed
    other, pyav = (list(read_frames(probe(CLIP, every=9), backend=b)) for b in ("torchcodec", "pyav"))
    for a, b in zip(other, pyav, strict=True):
        np.testing.assert_allclose(a.frames.astype(int), b.frames, atol=3)
    assert not caplog.messages, "PyAV took over"


def test_a_decoder_is_chosen_for_the_process(counter, monkeypatch):
    with pytest.raises(UsageError, match="torchcodec"):
        prefer_decoder("torchcoded")
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(UsageError, match="pip install torchcodec"):
        prefer_decoder("torchcodec")
    used = []
    monkeypatch.setattr(reading, "_read_decord", lambda *_: used.append("decord"))
    try:
        prefer_decoder("pyav")
        assert read(probe(counter, end=4)) == ([0, 1, 2, 3], [0, 1, 2, 3], [])
    finally:
        prefer_decoder("auto")
    assert not used


def test_probe_of_the_shipped_clip():
    info = probe(str(CLIP))
    assert (info.width, info.height, info.frame_count, info.fps, info.rotation_deg) == (768, 432, 50, 10, 0)
    np.testing.assert_allclose(info.frame_times, np.arange(50) / 10)
    assert len(info.sha256) == 64


@pytest.mark.parametrize(
    "rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(25), Fraction(5), Fraction(60)]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_rates_are_exact(tmp_path, rate, suffix):
    info = probe(write_clip(tmp_path / f"a{suffix}", 40, rate))
    assert info.fps == rate
    np.testing.assert_allclose(info.frame_times, np.arange(40) / float(rate), atol=6e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_variable_rate_keeps_real_times(tmp_path, backend):
    stamps = np.cumsum([0] + [1, 1, 4, 1, 9, 2] * 10)
    path = write_clip(tmp_path / "vfr.mp4", len(stamps), stamps=stamps.tolist(), clock=Fraction(1, 60))
    info = probe(path, start="1.5s")
    assert info.frame_times[0] >= 1.5
    np.testing.assert_allclose(probe(path).frame_times, stamps / 60, atol=1e-4)
    assert read(info, backend=backend)[:2] == (info.frame_indices.tolist(),) * 2


def test_times_and_numbers_choose_frames(counter):
    rate = 30000 / 1001
    for text, first in [
        ("2s", np.ceil(2 * rate)),
        ("00:00:02.5", np.ceil(2.5 * rate)),
        ("0:01", np.ceil(rate)),
        ("77", 77),
    ]:
        assert probe(counter, start=text).frame_indices[0] == first
        assert probe(counter, end=text).frame_indices[-1] == first - 1
    assert probe(counter, end=9999).frame_indices[-1] == 199
    assert probe(counter, start=50, end="3s", every=10).sampled_fps == pytest.approx(rate / 10)


CONTAINERS = [("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.ts", "libx264"), ("a.mkv", "libx264"), ("a.mov", "png")]


@pytest.mark.parametrize(("name", "codec"), CONTAINERS)
def test_another_codec_or_container_needs_no_word(tmp_path, caplog, name, codec):
    info = probe(
        write_clip(tmp_path / name, 120, codec=codec, **({"bf": "2"} if codec == "mpeg4" else {})), start=61, every=2
    )
    expected = list(range(61, 120, 2))
    assert read(info) == (expected, expected, [])
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


@pytest.mark.parametrize(("degrees", "matrix"), [(90, (0, -1, 1, 0)), (180, (-1, 0, 0, -1)), (270, (0, 1, -1, 0))])
def test_rotation_is_applied(tmp_path, counter, degrees, matrix):
    data = bytearray(counter.read_bytes())
    place = data.find(b"tkhd") + 44  # version 0: flags, times, track, duration, layer, volume come before the matrix
    a, b, c, d = (v * 65536 for v in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    info = probe(path, start=5, end=6)
    upright = next(read_frames(probe(counter, start=5, end=6))).frames[0]
    batch = next(read_frames(info))
    assert info.rotation_deg == degrees
    assert batch.frames.shape == (1, info.height, info.width, 3)
    np.testing.assert_array_equal(batch.frames[0], np.rot90(upright, degrees // 90))


def test_batches_are_shared_with_torch(counter):
    for backend in BACKENDS:
        batch = next(read_frames(probe(counter), backend=backend))
        assert batch.frames.flags.c_contiguous
        assert torch.from_numpy(batch.frames).data_ptr() == batch.frames.ctypes.data


def test_a_clip_cut_short_gives_what_there_is(tmp_path, counter, caplog):
    path = tmp_path / "cut.mp4"
    data = counter.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    info = probe(path)
    given, seen, failed = read(info)
    assert info.frame_count == 200
    assert 60 < len(given) < 160
    # A B-frame that was cut off before a later frame in the file shifts the last few numbers at most.
    assert given[:-4] == seen[: len(given) - 4]
    assert sorted(given + failed) == list(range(200))
    assert info.frame_times[-1] == pytest.approx(199 * 1001 / 30000, abs=0.2)


def test_a_damaged_frame_fails_alone(tmp_path):
    path = write_clip(tmp_path / "damaged.mov", 20, codec="png")
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][7]
        place = packet.pos
    data = bytearray(path.read_bytes())
    data[place : place + 64] = bytes(64)
    path.write_bytes(data)
    rest = [i for i in range(20) if i != 7]
    assert read(probe(path), batch_size=4) == (rest, rest, [7])


def test_folder_of_images_in_natural_order(tmp_path):
    for i in range(12):
        Image.fromarray(image(i)).save(tmp_path / f"frame{i}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    info = probe(tmp_path)
    assert (info.fps, info.frame_count, info.width, info.height) == (30, 12, BITS * CELL, HEIGHT)
    assert read(info, batch_size=5) == (list(range(12)), list(range(12)), [])
    assert probe(tmp_path, fps=25, start="0.2s").frame_indices[0] == 5
    (tmp_path / "frame3.png").write_bytes(b"broken")
    Image.fromarray(image(4)[:-2]).save(tmp_path / "frame4.png")
    given, seen, failed = read(probe(tmp_path), batch_size=5)
    assert given == seen == [i for i in range(12) if i not in (3, 4)]
    assert failed == [3, 4]


def test_a_folder_changes_its_hash_with_its_content(tmp_path):
    for i in range(3):
        Image.fromarray(image(i)).save(tmp_path / f"{i}.png")
    before = probe(tmp_path).sha256
    assert probe(tmp_path).sha256 == before
    Image.fromarray(image(9)).save(tmp_path / "1.png")
    assert probe(tmp_path).sha256 != before


def make_bad(folder: Path, kind: str) -> Path:
    path = folder / {"text": "notes.txt", "text as mp4": "notes.mp4"}.get(kind, "bad.mp4")
    if kind.startswith("text"):
        path.write_text("These are not the frames that you look for.\n" * 50)
    elif kind == "empty":
        path.touch()
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(50_000))
    elif kind == "folder":
        path = folder / "pictures"
        path.mkdir()
        (path / "readme.md").write_text("nothing here")
    elif kind == "broken images":
        path = folder / "pictures"
        path.mkdir()
        (path / "a.png").write_bytes(b"no image")
    elif kind == "headless":
        path.write_bytes(CLIP.read_bytes()[:500])
    elif kind == "sound":
        path = folder / "sound.m4a"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    elif kind == "no frames":
        path = folder / "none.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            container.start_encoding()
    return path


KINDS = [
    "missing",
    "text",
    "text as mp4",
    "empty",
    "noise",
    "folder",
    "broken images",
    "headless",
    "sound",
    "no frames",
]


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_one_clear_line(tmp_path, kind):
    path = make_bad(tmp_path, kind)
    with pytest.raises(InputError) as error:
        probe(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_choices(counter):
    with pytest.raises(InputError, match="beyond its end"):
        probe(counter, start=200)
    with pytest.raises(InputError, match="beyond its end"):
        probe(counter, start="9s")
    for options in ({"start": 9, "end": 9}, {"start": "2.5"}, {"end": "soon"}, {"every": 0}, {"fps": 0}, {"start": -1}):
        with pytest.raises(UsageError):
            probe(counter, **options)


def test_a_file_that_changed_is_refused(tmp_path, counter):
    path = tmp_path / "a.mp4"
    path.write_bytes(counter.read_bytes())
    info = probe(path)
    write_clip(path, 20)
    with pytest.raises(InputError, match="changed"):
        list(read_frames(info))
    path.unlink()
    with pytest.raises(InputError):
        list(read_frames(info))


def decoders() -> int:
    return sum(t.name == "hmrkit-decode" for t in threading.enumerate())


def test_the_thread_ends_when_the_consumer_stops(counter):
    frames = read_frames(probe(counter), batch_size=1)
    next(frames)
    assert decoders() == 1
    frames.close()
    assert decoders() == 0
    with pytest.raises(RuntimeError, match="of the consumer"):
        for _ in read_frames(probe(counter), batch_size=1):
            raise RuntimeError("of the consumer")
    assert decoders() == 0


def test_decoding_runs_ahead_but_not_far(counter, monkeypatch):
    import hmrkit.video.reading as video

    made = []

    def slow_source(path, index, groups):
        for group in groups:
            made.append(len(group))
            yield video.FrameBatch(group, np.zeros((len(group), 2, 2, 3), np.uint8))

    monkeypatch.setattr(video, "_read_pyav", slow_source)
    frames = read_frames(probe(counter), batch_size=1, prefetch=3, backend="pyav")
    next(frames)
    time.sleep(0.3)
    assert len(made) == 4  # one taken, three ready or being made
    frames.close()
