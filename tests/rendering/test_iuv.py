"""IUV maps over footage: the right cells in the right place, and the command's way to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from films import write_film
from PIL import Image

from hmrkit.backbones import Features
from hmrkit.errors import UsageError
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.output import render_take
from hmrkit.pipeline import open_clip, run_stages
from hmrkit.rendering.iuv import iuv_layers, paint_layer
from hmrkit.rendering.options import RenderOptions
from hmrkit.rendering.styles import part_colours


def test_cells_lie_where_the_crop_was_cut() -> None:
    maps = torch.zeros(1, 8, 8, 3)
    maps[0, 2, 5] = torch.tensor([7.0, 0.0, 1.0])
    layer = iuv_layers(maps)[0]
    image = np.full((100, 120, 3), 200, np.uint8)
    # A crop of 64 px is a square of 32 px whose corner is at x = 40, y = 10: a cell is 4 px wide.
    paint_layer(image, layer, np.array([[0.5, 0, 40], [0, 0.5, 10], [0, 0, 1.0]]), 64, 1.0)
    rows, columns = np.nonzero((image != 200).any(-1))
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == (10 + 4 * 2.5, 40 + 4 * 5.5)
    assert np.ptp(rows) < 8
    off = np.full((100, 120, 3), 200, np.uint8)
    paint_layer(off, layer, np.array([[0.5, 0, 400], [0, 0.5, 10], [0, 0, 1.0]]), 64, 1.0)
    assert (off == 200).all()
    whole = iuv_layers(torch.tensor([7.0, 0.0, 1.0]).expand(1, 2, 2, 3))
    torch.testing.assert_close(whole[0, :3, 0, 0], part_colours()[6])


class _Halves(torch.nn.Module):
    """Sees part 3 in the left half of every crop."""

    input_size, framing = (64, 64), "box"

    def backbone(self, crops):
        return Features(crops.mean((2, 3)), ())

    def iuv_images(self, features):
        image = torch.zeros(len(features.global_feature), 8, 8, 3)
        image[:, :, :4] = torch.tensor([3.0, 0.0, 1.0])
        return image


def test_the_maps_of_a_clip_are_drawn(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("hmrkit.regressors.load_regressor", lambda *_, **__: _Halves())
    film = write_film(tmp_path / "walk.mp4")
    models = Models(Options(detector="toy", tracker="toy", keypoints="toy", device="cpu"))
    take = run_stages(open_clip(film, models.options), ("detect", "track", "pose"), models)
    steps = []
    options = RenderOptions(views=("overlay",), what="iuv", opacity=1.0)
    render_take(take, tmp_path / "out", None, models, lambda *step: steps.append(step), options)
    images = sorted((tmp_path / "out").iterdir())
    assert len(images) == len(take.video.frame_indices)
    assert steps[-1][1] == steps[-1][2] == len(images)
    colour = (part_colours()[2] * 255).round().numpy()
    track = take.tracks[0]
    for frame, box in zip(track.frame_indices, track.boxes_xyxy, strict=True):
        image = np.asarray(Image.open(images[frame])).astype(float)
        painted = (np.abs(image - colour) < 4).all(-1)
        assert painted.any()
        assert np.nonzero(painted)[1].max() <= (box[0] + box[2]) / 2 + 1


def test_what_cannot_be_drawn_together_is_refused() -> None:
    for wrong in ({"what": "iuvs"}, {"what": "iuv"}, {"what": "iuv", "views": ("overlay",), "style": "parts"}):
        with pytest.raises(UsageError, match="--what"):
            RenderOptions(**wrong)
