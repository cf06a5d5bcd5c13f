"""Meshes over images: compiled loops and OpenGL equal PyTorch, and which one is taken where."""

import sys

import numpy as np
import pytest
import torch

from hmrkit.errors import DeviceError, UsageError
from hmrkit.rendering import painting
from hmrkit.rendering.painting import CompiledPainter, check_renderer, open_painter, paint_meshes

CPU = torch.device("cpu")


def _painted(sphere, painter, wire=False, channels=3):
    """Three spheres in two images: overlapping, cut by the border, and with vertices behind the camera and missing."""
    ball, faces = sphere(3)
    places = torch.tensor([[-0.3, 0.1, 3.0], [0.2, 0.0, 2.6], [-0.9, -0.6, 2.4]])
    vertices = ball * 0.6 + places[:, None]
    vertices[0, 5, 2], vertices[0, 9, 0], vertices[2, 7] = -1.0, torch.nan, torch.tensor([0.0, 0.0, 0.01])
    colours = torch.rand(vertices.shape, generator=torch.Generator().manual_seed(0))
    images = np.random.default_rng(0).integers(0, 255, (2, 150, 200, 3), np.uint8)
    if channels == 4:
        images = np.zeros((2, 150, 200, 4), np.uint8)
    tiles = np.array([[0, 5, 3, 200, 149], [1, 0, 0, 120, 150]])
    focal, center = torch.tensor([[160.0, 150.0]]).expand(3, 2), torch.tensor([[100.3, 70.8]]).expand(3, 2)
    behind = images.copy()
    paint_meshes(images, tiles, np.array([0, 0, 1]), vertices, colours, faces, focal, center, 0.88, wire, painter)
    return images, behind


def test_compiled_loops_paint_what_pytorch_paints(sphere):
    pytest.importorskip("numba")
    wanted, behind = _painted(sphere, None)
    drawn, _ = _painted(sphere, CompiledPainter())
    assert (wanted != behind).any(-1).mean() > 0.1
    gap = np.abs(drawn.astype(int) - wanted)
    assert (gap > 1).mean() < 1e-4  # a sample that two faces see at one depth
    assert (gap > 0).mean() < 1e-3


@pytest.mark.parametrize("channels", [3, 4])
def test_opengl_paints_what_pytorch_paints(sphere, gl, channels):
    wanted, behind = _painted(sphere, None, channels=channels)
    drawn, _ = _painted(sphere, gl, channels=channels)
    assert (wanted != behind).any(-1).mean() > 0.1
    gap = np.abs(drawn.astype(int) - wanted)
    assert (gap > 1).mean() < 1e-4  # an outline that runs through a sample
    assert gap.mean() < 0.05  # half floats


@pytest.mark.parametrize("channels", [3, 4])
def test_opengl_paints_the_wireframes_of_pytorch(sphere, gl, channels):
    wanted, _ = _painted(sphere, None, True, channels)
    drawn, _ = _painted(sphere, gl, True, channels)
    surface, _ = _painted(sphere, gl, False, channels)
    assert (np.abs(surface.astype(int) - drawn) > 20).mean() > 0.02
    gap = np.abs(drawn.astype(int) - wanted)
    assert (gap > 1).mean() < 1e-3  # samples at the border of a line: its edge is snapped to the grid here


def test_auto_is_what_is_known_to_be_fast(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "numba", None)  # as where it is not installed
    monkeypatch.delitem(sys.modules, "hmrkit.rendering.compiled", raising=False)

    def chosen(renderer, device=CPU, pixels=painting.WORTH_PX, surfaces=True):
        with open_painter(renderer, device, pixels, surfaces) as painter:
            return painter

    with caplog.at_level("INFO", "hmrkit"):
        assert chosen("auto", pixels=painting.WORTH_PX - 1) is None
        assert chosen("auto", torch.device("cuda")) is None
        assert chosen("auto", surfaces=False) is None
        assert chosen("torch") is None
        assert not caplog.records
        assert chosen("auto") is None
    assert "pip install numba" in caplog.text
    with pytest.raises(UsageError, match=r"compiled cannot be used .*pip install numba"):
        chosen("compiled")
    with pytest.raises(UsageError, match="draws no --alpha and no --style wireframe"):
        chosen("compiled", surfaces=False)


def test_auto_takes_compiled_loops_and_never_opengl(gl):
    pytest.importorskip("numba")
    with open_painter("auto", CPU, painting.WORTH_PX, True) as painter:
        assert isinstance(painter, CompiledPainter)
    with open_painter("gl", CPU, 0, False) as painter:
        assert type(painter) is type(gl)


def test_what_opengl_lacks_is_named_in_one_line(monkeypatch):
    pytest.importorskip("moderngl")
    check_renderer.cache_clear()
    monkeypatch.setenv("GLCONTEXT_DEVICE_INDEX", "99")  # of graphics cards: EGL gives no context
    with pytest.raises(DeviceError, match=r"wants OpenGL 3\.3 by EGL, which is not here \(.+\); install") as failed:
        check_renderer("gl")
    assert "\n" not in str(failed.value)
    monkeypatch.setitem(sys.modules, "moderngl", None)
    with pytest.raises(UsageError, match=r"needs moderngl, .*pip install 'hmrkit\[gl\]'"):
        check_renderer("gl")
