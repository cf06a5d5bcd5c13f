"""Meshes over images: the compiled loops equal PyTorch, and are taken where they are worth their start."""

import sys

import numpy as np
import pytest
import torch

from hmrkit.rendering import painting
from hmrkit.rendering.painting import compiled_loops, paint_meshes

CPU = torch.device("cpu")


def _painted(sphere, loops):
    """Three spheres in two images: overlapping, cut by the border, and with vertices behind the camera and missing."""
    ball, faces = sphere(3)
    places = torch.tensor([[-0.3, 0.1, 3.0], [0.2, 0.0, 2.6], [-0.9, -0.6, 2.4]])
    vertices = ball * 0.6 + places[:, None]
    vertices[0, 5, 2], vertices[0, 9, 0], vertices[2, 7] = -1.0, torch.nan, torch.tensor([0.0, 0.0, 0.01])
    colours = torch.rand(vertices.shape, generator=torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).integers(0, 255, (2, 150, 200, 3), np.uint8)
    tiles = np.array([[0, 5, 3, 200, 149], [1, 0, 0, 120, 150]])
    focal, center = torch.tensor([[160.0, 150.0]]).expand(3, 2), torch.tensor([[100.3, 70.8]]).expand(3, 2)
    behind = images.copy()
    paint_meshes(images, tiles, np.array([0, 0, 1]), vertices, colours, faces, focal, center, 0.88, False, loops)
    return images, behind


def test_compiled_loops_paint_what_pytorch_paints(sphere):
    pytest.importorskip("numba")
    wanted, behind = _painted(sphere, None)
    drawn, _ = _painted(sphere, compiled_loops(CPU, painting.WORTH_PX))
    assert (wanted != behind).any(-1).mean() > 0.1
    gap = np.abs(drawn.astype(int) - wanted)
    assert (gap > 1).mean() < 1e-4  # a sample that two faces see at one depth
    assert (gap > 0).mean() < 1e-3


def test_loops_are_for_cpus_that_draw_much(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "numba", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "hmrkit.rendering.compiled", raising=False)
    with caplog.at_level("INFO", "hmrkit"):
        assert compiled_loops(CPU, painting.WORTH_PX - 1) is None
        assert compiled_loops(torch.device("cuda"), painting.WORTH_PX) is None
        assert not caplog.records
        assert compiled_loops(CPU, painting.WORTH_PX) is None
    assert "pip install numba" in caplog.text
