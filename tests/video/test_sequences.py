"""Folders of images: one sequence is chosen, and its frames keep their numbers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hmrkit.errors import InputError
from hmrkit.video import probe, read_frames

GREY = np.full((48, 64, 3), 90, np.uint8)


def folder(path, *names, image=GREY):
    path.mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(image).save(path / name)
    return path


def numbers(info):
    return info.frame_indices.tolist()


def test_plates_keep_their_numbers_and_gaps(tmp_path, caplog):
    plates = folder(tmp_path / "p", *(f"sh010_plate.{n}.png" for n in (1001, 1002, 1005, 1006, 1007)))
    info = probe(plates, fps=25)
    assert numbers(info) == [1001, 1002, 1005, 1006, 1007]
    assert (info.first_number, info.frame_count, info.sampled_fps) == (1001, 5, 25)
    np.testing.assert_allclose(info.frame_times * 25, [0, 1, 4, 5, 6])
    assert "1003-1004" in info.notes[0]
    assert len(caplog.records) == 1
    assert not info.variable
    assert numbers(probe(plates, start=1002, end="1007")) == [1002, 1005, 1006]
    assert numbers(probe(plates, fps=25, start="0.1s")) == [1005, 1006, 1007]
    assert numbers(probe(plates, every=2)) == [1001, 1005, 1007]
    assert probe(plates, every=2).step == 2
    assert numbers(probe(plates, keep_numbers=False)) == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="1001 to 1007"):
        probe(plates, start=2000)
    (batch,) = read_frames(info)
    assert batch.frame_indices.tolist() == numbers(info)


CHOICES = {
    "two kinds": (["f1.png", "f1.jpg", "f2.png", "f2.jpg", "thumbnail.png"], ["f1.png", "f2.png"]),
    "most of all": (["a1.png", "a2.png", "b1.png", "b2.png", "b3.png"], ["b1.png", "b2.png", "b3.png"]),
    "number in the middle": (
        ["c1_01_v2.png", "c1_02_v2.png", "c1_03_v2.png", "c1_02_v1.png"],
        ["c1_01_v2.png", "c1_02_v2.png", "c1_03_v2.png"],
    ),
    "no numbers": (["b.png", "a.png", "c.jpg"], ["a.png", "b.png"]),
    "natural order": (["f10.png", "f9.png", "f11.png"], ["f9.png", "f10.png", "f11.png"]),
}


@pytest.mark.parametrize("case", CHOICES)
def test_one_sequence_is_chosen_and_the_others_are_named(tmp_path, case):
    from hmrkit.video.sequences import find_sequence

    names, chosen = CHOICES[case]
    found = find_sequence(folder(tmp_path / "p", *names))
    assert [path.name for path in found.files] == chosen
    assert all(name in "".join(found.notes) for name in set(names) - set(chosen))


@pytest.mark.parametrize("names", [["7.png", "007.png", "8.png"], ["000139.jpg", "581781.jpg", "000285.jpg"]])
def test_numbers_that_are_not_frames_are_not_kept(tmp_path, names):
    assert numbers(probe(folder(tmp_path / "p", *names))) == [0, 1, 2]


def test_most_images_decide_the_size(tmp_path):
    folder(tmp_path / "p", "0.png", image=np.rot90(GREY).copy())
    info = probe(folder(tmp_path / "p", "1.png", "2.png"))
    assert (info.width, info.height) == (64, 48)
    (batch,) = read_frames(info)
    assert (batch.frame_indices.tolist(), batch.failed) == ([1, 2], (0,))


def test_orientation_by_exif(tmp_path):
    lying = np.zeros((48, 64, 3), np.uint8)
    lying[:, :32] = 200
    tags = Image.Exif()
    tags[0x0112] = 6  # the camera's left is the top
    (tmp_path / "p").mkdir()
    for n in range(2):
        Image.fromarray(lying).save(tmp_path / "p" / f"{n}.png", exif=tags)
    info = probe(tmp_path / "p")
    assert (info.width, info.height) == (48, 64)
    (batch,) = read_frames(info)
    np.testing.assert_array_equal(batch.frames[0], np.rot90(lying, -1))
