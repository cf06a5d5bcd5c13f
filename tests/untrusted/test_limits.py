"""What claims to be huge is refused by one line that names the limit, before memory is filled."""

import json
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from films import write_film
from made_takes import make_take
from PIL import Image

from hmrkit.body.files import check_shapes, find_body, read_smpl_file
from hmrkit.detectors.boxes_file import read_boxes
from hmrkit.errors import InputError, WeightsError
from hmrkit.keypoints.keypoints_file import read_coco
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.pipeline import detect, open_clip
from hmrkit.scene.resampling import make_clock
from hmrkit.untrusted import limits
from hmrkit.video import images, probe, read_frames


def write_bomb(path, width, height):
    """A PNG whose header claims these pixels, of which hardly any are in it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b""))


@pytest.mark.parametrize("side", [8193, 40000])  # above the limit here, and above Pillow's own
def test_images_that_claim_too_many_pixels(side, tmp_path):
    folder = tmp_path / "bombs"
    folder.mkdir()
    for k in range(2):
        write_bomb(folder / f"b_{k}.png", side, 8192 if side < 10000 else side)
    with pytest.raises(InputError, match=r"b_0\.png: .*pixels"):
        probe(folder)
    for k in range(2, 6):  # among good ones they are frames that cannot be decoded
        Image.new("RGB", (40, 30)).save(folder / f"b_{k}.png")
    video = probe(folder)
    (batch,) = read_frames(video)
    assert (video.width, batch.failed, batch.frame_indices.tolist()) == (40, (0, 1), [2, 3, 4, 5])


def test_videos_of_too_large_frames(tmp_path, monkeypatch):
    film = write_film(tmp_path / "walk.mp4")
    monkeypatch.setattr(limits, "FRAME_PIXELS", 96 * 128 - 1)
    with pytest.raises(InputError, match=r"found 128x96; shrink"):
        probe(film)


def test_batches_of_large_frames_are_smaller(tmp_path, monkeypatch):
    video = probe(write_film(tmp_path / "walk.mp4", frames=5))
    monkeypatch.setattr(limits, "BATCH_BYTES", 2 * 96 * 128 * 3)
    assert [len(batch.frames) for batch in read_frames(video, batch_size=4)] == [2, 2, 1]
    assert [len(batch.frames) for batch in read_frames(video, batch_size=4, fixed=True)] == [4, 1]
    assert limits.frames_in_flight(8, 10**5, 10**5) == 1


def test_exports_of_too_many_frames(models):
    take = make_take(models)
    frames = take.tracks[0].frame_indices
    make_clock(take, Fraction(1000), 0).place(frames)
    with pytest.raises(InputError, match="choose a lower --fps"):
        make_clock(take, Fraction(10**9), 0).place(frames)
    with pytest.raises(InputError, match="frames of an export"):  # an edited take
        make_clock(take, None, 0).place(np.array([0, 10**12]))


def test_files_of_too_many_people(tmp_path, monkeypatch):
    path = tmp_path / "many.json"
    path.write_text(json.dumps([{"frame": 3, "bbox": [0, 0, 5, 5]}] * 1001))
    with pytest.raises(InputError, match="frame 3 has more than 1000 people"):
        read_boxes(path)
    path.write_text(json.dumps([{"frame": 4, "keypoints": [1, 2, 1] * 17}] * 1001))
    with pytest.raises(InputError, match="frame 4 has more than 1000 people"):
        read_coco(path)
    monkeypatch.setattr(limits, "JSON_BYTES", 1000)
    with pytest.raises(InputError, match="split it"):
        read_boxes(path)
    path.write_text("[" * 200000)
    monkeypatch.undo()
    with pytest.raises(InputError, match="expected a JSON file of boxes"):
        read_boxes(path)
    with pytest.raises(InputError, match="not a regular file"):
        read_boxes(Path("/dev/zero"))


def test_bodies_that_are_too_large(monkeypatch):
    path = find_body()
    body = read_smpl_file(path)
    monkeypatch.setattr(limits, "BODY_VERTICES", len(body["v_template"]) - 1)
    with pytest.raises(WeightsError, match="expected a body of at most"):
        check_shapes(body)
    monkeypatch.setattr(limits, "BODY_BYTES", 1000)
    with pytest.raises(WeightsError, match="expected a body model of at most"):
        read_smpl_file(path)


def test_plates_and_deep_images_are_measured_before_they_are_read(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(limits, "FRAME_PIXELS", 1000)
    for read in (images.read_image, images.image_size):
        with pytest.raises(OSError, match="found 40x30"):
            read(tmp_path / "a.png")


def test_detections_of_every_frame_are_kept_apart(tmp_path):
    film = write_film(tmp_path / "walk.mp4", frames=7)
    models = Models(Options(method="fit", detector="toy", device="cpu", batch_size=3))
    found = detect(open_clip(film, models.options), models, lambda *_: None)["detections"]
    assert [people.boxes_xyxy.shape for people in found] == [(1, 4)] * 7
    assert all(people.appearance.shape == (1, 24) and people.scores == np.float32(0.9) for people in found)
    lefts = np.array([people.boxes_xyxy[0, 0] for people in found])
    np.testing.assert_allclose(np.diff(lefts), 3, atol=1.5)
