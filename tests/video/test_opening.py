"""What must not be opened: pipes, playlists that name other files, decoders that hang."""

import os
import threading

import pytest
from films import write_film
from PIL import Image

from hmrkit.errors import InputError
from hmrkit.scene.build import read_timecode
from hmrkit.take import load_take
from hmrkit.video import index, probe, read_frames, reading, watch
from hmrkit.video.playlists import allow_playlists

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:5,\n{}\n"
DASH = '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{}</BaseURL></MPD>'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ffconcat", "ffconcat version 1.0\nfile {}\n"),
        ("a.mp4", "ffconcat version 1.0\nfile {}\n"),
        ("a.m3u8", HLS),
        ("a.mp4", HLS),
        ("a.mpd", DASH),
    ],
)
def test_playlists_are_refused_whatever_they_are_named(name, text, tmp_path):
    (tmp_path / name).write_text(text.format(write_film(tmp_path / "other.mp4")))
    with pytest.raises(InputError, match="found a playlist, which opens other files; join them"):
        probe(tmp_path / name)
    assert read_timecode(str(tmp_path / name)) is None


@pytest.fixture
def playlists():
    """Two films joined by a playlist of each kind, allowed."""
    allow_playlists(True)
    yield
    allow_playlists(False)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("both.ffconcat", "ffconcat version 1.0\nfile 'a.ts'\nfile b.ts  # the second\n"),
        ("both.m3u8", HLS.format("a.ts") + "#EXT-X-DISCONTINUITY\n#EXTINF:5,\nb.ts\n#EXT-X-ENDLIST\n"),
    ],
)
def test_an_allowed_playlist_is_read_with_its_parts(name, text, playlists, tmp_path):
    parts = [write_film(tmp_path / part) for part in ("a.ts", "b.ts")]
    (tmp_path / name).write_text(text)
    video, single = probe(tmp_path / name), probe(parts[0])
    assert video.frame_count == 2 * single.frame_count
    assert sum(len(batch.frames) for batch in read_frames(video)) == video.frame_count
    parts[1].write_bytes(parts[1].read_bytes() + bytes(188))
    assert probe(tmp_path / name).sha256 != video.sha256


def test_a_part_whose_name_ffmpeg_refuses_is_named_as_the_reason(playlists, tmp_path):
    write_film(tmp_path / "two words.ts")
    (tmp_path / "a.ffconcat").write_text("ffconcat version 1.0\nfile 'two words.ts'\n")
    with pytest.raises(InputError, match=r"cannot open it .*; each part must be a video, and ffconcat takes names of"):
        probe(tmp_path / "a.ffconcat")


@pytest.mark.parametrize("named", ["../x.ts", "/etc/hostname", "file:x.ts", "none.ts", "nested.m3u8", ""])
def test_an_allowed_playlist_names_plain_files_beside_it(named, playlists, tmp_path):
    (tmp_path / "nested.m3u8").write_text(HLS.format("x.ts"))
    (tmp_path / "a.ffconcat").write_text(f"ffconcat version 1.0\nfile '{named}'\n")
    with pytest.raises(InputError, match=r"a\.ffconcat: .*; (copy the parts|give that one)"):
        probe(tmp_path / "a.ffconcat")


def test_a_file_named_like_a_pattern_is_itself(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "f001.png")
    (tmp_path / "f%03d.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot open it"):
        probe(tmp_path / "f%03d.png")


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", "/dev/zero"):
        with pytest.raises(InputError, match="no regular file"):
            probe(path)
    with pytest.raises(InputError, match="found a pipe or a device"):
        load_take(tmp_path / "pipe.mp4")
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(3):
        Image.new("RGB", (40, 30)).save(folder / f"f_{k}.png")
    os.mkfifo(folder / "f_3.png")
    video = probe(folder)
    assert [len(batch.frames) for batch in read_frames(video)] == [3]


@pytest.fixture
def impatient():
    watch.set_timeout(0.2)
    yield
    watch.set_timeout(60)


def test_a_decoder_that_hangs_is_given_up(tmp_path, monkeypatch, impatient):
    film, stuck = write_film(tmp_path / "walk.mp4"), threading.Event()
    video = probe(film)

    def hang(*_):
        yield reading.FrameBatch(video.frame_indices[:1], None)
        stuck.wait()

    with monkeypatch.context() as hanging:
        hanging.setattr(reading, "_decode_batches", hang)
        frames = read_frames(video)
        next(frames)
        with pytest.raises(InputError, match=r"no progress in decoding it for 0\.2 s.*--timeout"):
            next(frames)
    index._index_video.cache_clear()
    monkeypatch.setattr(index, "_scan_packets", lambda _: stuck.wait())
    with pytest.raises(InputError, match="no progress"):
        probe(film)
    stuck.set()


def test_slow_progress_and_slow_readers_are_no_hang(tmp_path, monkeypatch, impatient):
    video, pause = probe(write_film(tmp_path / "walk.mp4")), threading.Event()

    def slow(*_):
        for k in range(2):
            for _ in range(4):
                pause.wait(0.1)
                watch.beat()
            yield reading.FrameBatch(video.frame_indices[k : k + 1], None)

    monkeypatch.setattr(reading, "_decode_batches", slow)
    frames = read_frames(video, prefetch=1)
    next(frames)
    pause.wait(0.5)
    assert len(list(frames)) == 1
