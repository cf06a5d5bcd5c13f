"""Versions of people beside each other: each in its own place, all seen from the same place."""

import numpy as np
import pytest

from hmrkit.camera import assume_camera
from hmrkit.rendering.comparison import GAP, Comparison, title_strip
from hmrkit.rendering.options import RenderOptions
from hmrkit.rendering.overlay import Overlay
from hmrkit.rendering.styles import Figure

WIDTH, HEIGHT = 200, 150
CAMERA = assume_camera(WIDTH, HEIGHT, focal_px=180.0)
FRAMES = np.full((2, HEIGHT, WIDTH, 3), 90, np.uint8)


@pytest.fixture
def ball(sphere):
    vertices, faces = sphere(2)
    return vertices.numpy() * 0.3 + np.array([0, 0.1, 3], np.float32), faces.numpy()


def _comparison(faces, titles, views=("overlay",), stacked=False):
    options = RenderOptions(views, labels=False)
    return Comparison([Overlay(CAMERA, faces, 10, options) for _ in titles], titles, stacked)


def test_each_version_stands_in_its_own_place(ball):
    vertices, faces = ball
    left, right = ([[Figure(1, vertices + shift)]] * 2 for shift in np.array([(-0.5, 0, 0), (0.5, 0, 0)], np.float32))
    for stacked in (False, True):
        comparison = _comparison(faces, ("before", "after"), stacked=stacked)
        drawn = comparison.draw(FRAMES, [left, right], [0, 1])
        assert drawn.shape == (2, *comparison.size[::-1], 3)
        strip = len(title_strip("before", WIDTH, HEIGHT))
        second = (0, strip + HEIGHT + GAP) if stacked else (WIDTH + GAP, 0)
        for version, (x, y) in ((left, (0, 0)), (right, second)):
            area = drawn[:, y + strip : y + strip + HEIGHT, x : x + WIDTH]
            alone = _comparison(faces, ("",)).draw(FRAMES, [version], [0, 1])
            np.testing.assert_array_equal(area, alone)
            assert drawn[0, y : y + strip, x : x + WIDTH].max() > 200  # the title


def test_views_do_not_hide_that_one_version_stands_elsewhere(ball):
    vertices, faces = ball
    here, nearer = [[Figure(1, vertices)]], [[Figure(1, vertices - np.array([0, 0, 0.6], np.float32))]]
    comparison = _comparison(faces, ("", ""), ("side",), stacked=True)
    drawn = comparison.draw(None, [here, nearer], [0])[0, :, :, 2].astype(int)
    alone = _comparison(faces, ("",), ("side",))

    def middle(image):
        return np.nonzero(image[30:] > 130)[1].mean()  # below the caption

    above, below = drawn[:HEIGHT], drawn[HEIGHT + GAP :]
    assert middle(above) - middle(below) == pytest.approx(0.6 * HEIGHT / 2.4, abs=2)  # a view shows 2.4 m
    # On its own each would be in the middle.
    assert middle(alone.draw(None, [nearer], [0])[0, :, :, 2]) == pytest.approx(WIDTH / 2, abs=2)


def test_a_long_title_fits_a_narrow_clip():
    strip = title_strip("calibrated to the lifted pose and its proportions", 120, 400)
    assert strip.shape[1] == 120
    written = np.nonzero((strip > 100).any((0, 2)))[0]
    assert written.min() > 0
    assert 60 < written.max() < 120
    assert title_strip("", 120, 400).shape == (0, 120, 3)
