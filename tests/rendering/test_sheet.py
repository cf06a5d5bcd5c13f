"""The contact sheet."""

import numpy as np
import pytest
from PIL import Image

from hmrkit.errors import InputError
from hmrkit.rendering.sheet import ContactSheet


def _image(value, width=90, height=40):
    return np.full((height, width, 3), value, np.uint8)


def _values(path, tiles, columns=3, width=90, height=40):
    """The grey level in the middle of each tile, in reading order; each differs from the background."""
    image = np.asarray(Image.open(path).convert("L")).astype(int)
    rows = -(-tiles // columns)
    middles = image[8 + 26 + height // 2 :: height + 26 + 8, 8 + width // 2 :: width + 8]
    assert middles.shape == (rows, min(columns, tiles))
    return middles.ravel()[:tiles].tolist()


def test_tiles_are_spread_evenly_first_and_last_included(tmp_path):
    path = tmp_path / "sheet.png"
    with ContactSheet(path, frames=101, tiles=5, columns=3) as sheet:
        for start in range(0, 101, 8):
            indices = list(range(start, min(start + 8, 101)))
            sheet.add_batch(np.stack([_image(100 + i) for i in indices]), indices)
    assert _values(path, 5) == [100, 125, 150, 175, 200]
    assert Image.open(path).width == 3 * 90 + 4 * 8
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_short_and_broken_clips(tmp_path):
    for frames, added in ((1, 1), (3, 3), (40, 7)):
        with ContactSheet(tmp_path / "s.png", frames=frames, tiles=12) as sheet:
            for k in range(added):
                sheet.add(_image(100 + k), k)
        expected = sorted({round(k * (frames - 1) / 11) for k in range(12)} & set(range(added)))
        assert _values(tmp_path / "s.png", len(expected)) == [100 + k for k in expected]
    with pytest.raises(InputError, match="not one frame"), ContactSheet(tmp_path / "none.png", frames=5):
        pass
    assert not (tmp_path / "none.png").exists()


def test_wide_images_are_shrunk(tmp_path):
    with ContactSheet(tmp_path / "s.png", frames=1, tile_width=50) as sheet:
        sheet.add(_image(120, 500, 200), 0)
    assert Image.open(tmp_path / "s.png").width == 50 + 16


def test_a_legend_stands_above_the_tiles_and_fits(tmp_path):
    lines = ["a long line about all of the tiles", "another"]
    with (
        ContactSheet(tmp_path / "plain.png", frames=1) as plain,
        ContactSheet(tmp_path / "said.png", frames=1, legend=lines) as said,
    ):
        plain.add(_image(100), 0)
        said.add(_image(100), 0)
    plain, said = (np.asarray(Image.open(tmp_path / name)) for name in ("plain.png", "said.png"))
    assert said.shape[1] > plain.shape[1]
    head = len(said) - len(plain)
    assert np.array_equal(said[head:, : plain.shape[1]], plain)
    assert (said[: head // 2] > 200).any()
    assert (said[head // 2 : head] > 200).any()
