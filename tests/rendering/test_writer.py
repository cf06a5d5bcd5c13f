"""Video files: exact rate, right colours, no half-written files."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from hmrkit.errors import InputError, UsageError
from hmrkit.rendering.writer import VideoWriter, open_writer


def _read(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(video=0))
        return stream.average_rate, frames, stream.codec_context.name


def test_frames_rate_and_colours_come_back(tmp_path):
    colours = np.array([(200, 30, 40), (20, 160, 60), (40, 60, 210), (128, 128, 128), (250, 250, 250)], np.uint8)
    with VideoWriter(tmp_path / "new" / "clip.mp4", 64, 48, Fraction(30000, 1001)) as writer:
        for colour in colours:
            writer.write(np.broadcast_to(colour, (48, 64, 3)).copy())
    rate, frames, codec = _read(tmp_path / "new" / "clip.mp4")
    assert rate == Fraction(30000, 1001)
    assert codec in ("h264", "mpeg4")
    assert [f.time for f in frames] == pytest.approx([k * 1001 / 30000 for k in range(5)], abs=1e-6)
    for frame, colour in zip(frames, colours, strict=True):
        image = frame.to_ndarray(format="rgb24")
        assert np.abs(image.astype(int) - colour).max() <= 6
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["clip.mp4"]


def test_odd_sizes_and_float_rates(tmp_path):
    with VideoWriter(tmp_path / "clip.mp4", 33, 21, 24000 / 1001) as writer:
        writer.write(np.full((21, 33, 3), 90, np.uint8))
    rate, frames, _ = _read(tmp_path / "clip.mp4")
    assert rate == Fraction(24000, 1001)
    assert (frames[0].width, frames[0].height) == (34, 22)


def test_falls_back_where_there_is_no_libx264(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", set(av.codecs_available) - {"libx264"})
    with VideoWriter(tmp_path / "clip.mp4", 32, 32, 10) as writer:
        writer.write(np.full((32, 32, 3), 90, np.uint8))
    rate, frames, codec = _read(tmp_path / "clip.mp4")
    assert (rate, len(frames), codec) == (10, 1, "mpeg4")


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_text("older")
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(path, 32, 32, 10) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
        raise RuntimeError("stop")
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]
    assert path.read_text() == "older"


def test_no_frames_and_unwritable_paths_are_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match="not one frame"), VideoWriter(tmp_path / "clip.mp4", 32, 32, 10):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write it") as error:
        VideoWriter(tmp_path / "file" / "clip.mp4", 32, 32, 10)
    assert "\n" not in str(error.value)


def test_closing_twice_and_wrong_frames(tmp_path):
    writer = VideoWriter(tmp_path / "clip.mp4", 32, 32, 10)
    with pytest.raises(ValueError, match="wanted a uint8 frame"):
        writer.write(np.zeros((16, 32, 3), np.uint8))
    writer.write(np.zeros((32, 32, 3), np.uint8))
    writer.close()
    writer.close()
    assert len(_read(tmp_path / "clip.mp4")[1]) == 1


def test_a_sequence_keeps_alpha_and_counts_from_its_first_frame(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (8, 12, 4), np.uint8)
    with open_writer(tmp_path / "matte", 12, 8, 10, alpha=True, first_frame=1001) as writer:
        writer.write(image, 7)
    (path,) = (tmp_path / "matte").iterdir()
    assert path.name == "frame_001008.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image)


def test_an_mp4_has_no_alpha_and_a_sequence_is_a_folder(tmp_path):
    with pytest.raises(UsageError, match="no alpha"):
        open_writer(tmp_path / "o.mp4", 12, 8, 10, alpha=True)
    with pytest.raises(InputError, match="folder"):
        open_writer(tmp_path / "o.mov", 12, 8, 10)
