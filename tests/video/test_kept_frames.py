"""A clip's first frames are decoded once for all stages of a run, within a bound."""

import numpy as np
import pytest
from PIL import Image

import hmrkit.video.kept_frames as kept_frames
import hmrkit.video.reading as reading
from hmrkit.video import probe, read_frames
from hmrkit.video.kept_frames import keeping_frames

SIZE = 16 * 24 * 3


def folder_of(path, colours):
    path.mkdir()
    for k, colour in enumerate(colours):
        Image.fromarray(np.full((16, 24, 3), colour, np.uint8)).save(path / f"{k:04d}.png")
    return path


@pytest.fixture
def clip(tmp_path):
    """20 frames whose grey is their number; frame 7 cannot be decoded."""
    folder = folder_of(tmp_path / "clip", range(20))
    (folder / "0007.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The frames that were wanted of the decoder."""
    wanted, decode = [], reading._decode_batches

    def counted(info, batch_size, backend):
        wanted.extend(info.frame_indices.tolist())
        return decode(info, batch_size, backend)

    monkeypatch.setattr(reading, "_decode_batches", counted)
    return wanted


def read(info, batch_size=4):
    """(numbers, numbers seen in the images, failed) of each batch; what is read may be written over."""
    batches = []
    for batch in read_frames(info, batch_size=batch_size):
        assert batch.frames.shape[1:] == (16, 24, 3)
        batches.append((batch.frame_indices.tolist(), batch.frames[:, 0, 0, 0].tolist(), batch.failed))
        batch.frames[:] = 255
    return batches


def test_frames_are_decoded_once(clip, decoded):
    info = probe(clip)
    plain = read(info)
    assert plain[1] == ([4, 5, 6], [4, 5, 6], (7,))
    del decoded[:]
    with keeping_frames():
        assert read(info) == plain
        assert read(info) == plain
        assert read(info, batch_size=3)[2] == ([6, 8], [6, 8], (7,))
        assert read(info.at(info.frame_indices % 5 == 0)) == [([0, 5, 10, 15], [0, 5, 10, 15], ())]
    assert decoded == list(range(20))
    assert read(info) == plain
    assert len(decoded) == 40


def test_only_what_fits_is_kept_and_batches_stay_the_same(clip, decoded, monkeypatch):
    monkeypatch.setattr(kept_frames, "KEPT_BYTES", 6 * SIZE)
    info = probe(clip)
    plain = read(info)
    del decoded[:]
    with keeping_frames() as kept:
        assert read(info) == plain
        del decoded[:]
        assert read(info) == plain
        assert kept.held == 6 * SIZE
    assert decoded == list(range(4, 20))


def test_another_clip_takes_the_place_of_the_first(clip, decoded, tmp_path):
    other = probe(folder_of(tmp_path / "other", range(100, 104)))
    with keeping_frames() as kept:
        read(probe(clip))
        assert read(other) == [([0, 1, 2, 3], [100, 101, 102, 103], ())]
        assert read(other) == [([0, 1, 2, 3], [100, 101, 102, 103], ())]
        assert kept.held == 4 * SIZE


def test_a_stage_that_went_on_in_the_middle_does_not_keep_the_start_out(clip, decoded, monkeypatch):
    monkeypatch.setattr(kept_frames, "KEPT_BYTES", 8 * SIZE)
    info = probe(clip)
    with keeping_frames() as kept:
        read(info.at(np.arange(12, 20)))
        read(info)
        assert kept.leading(info) == 9  # one of them cannot be decoded and takes no room
