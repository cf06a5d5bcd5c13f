"""The painted skin: the file that ships is what the recipe paints, alike on both sides, with nothing left out."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hmrkit.body import load_body
from hmrkit.skeletons import SMPL_24
from hmrkit.training.make_skin.paint import paint
from hmrkit.training.make_skin.surface import body_surface, noise
from hmrkit.weights import find_weights

SIZE = 256


@pytest.fixture(scope="module")
def surface():
    return body_surface(load_body(), SIZE)


@pytest.fixture(scope="module")
def colours(surface):
    return paint(surface)


def test_the_file_that_ships_is_what_the_recipe_paints(surface, colours):
    shipped = Image.open(find_weights("body/skin.jpg")).resize((SIZE, SIZE), Image.Resampling.BOX)
    difference = np.abs(np.asarray(shipped, float) - surface.image(colours)).mean(-1)
    on_charts = difference[tuple(surface.texel.T)]
    assert np.median(on_charts) < 3
    assert np.quantile(on_charts, 0.99) < 25  # edges, which a large texel shows hard
    assert difference.mean() < 4


def test_texels_lie_on_the_body(surface):
    vertices = load_body()().vertices[0].numpy()
    assert (surface.place >= vertices.min(0) - 1e-6).all()
    assert (surface.place <= vertices.max(0) + 1e-6).all()
    np.testing.assert_allclose(surface.weights.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(surface.normal, axis=1), 1, atol=1e-5)
    assert len(np.unique(surface.texel, axis=0)) == len(surface.texel)


def test_little_light_reaches_folds(surface):
    """Between the legs less than on the crown; the knees are open to it."""

    def openness(place):
        return surface.openness[np.linalg.norm(surface.place - place, axis=1) < 0.02].mean()

    assert openness((0, -0.09, 0)) < 0.5 * openness((0, 0.79, 0.03))
    assert openness((0.136, -0.408, 0.08)) > 0.8
    assert 0 <= surface.openness.min() <= surface.openness.max() <= 1


def test_both_sides_are_painted_alike(surface, monkeypatch):
    """Each texel as its mirror image: but for the noise, which would show a mirror's line."""
    monkeypatch.setattr("hmrkit.training.make_skin.paint.noise", lambda place, wavelength_m, seed: np.zeros(len(place)))
    flip = np.array([-1, 1, 1], np.float32)
    mirrored = replace(
        surface, place=surface.place * flip, normal=surface.normal * flip, weights=surface.weights[:, SMPL_24.mirror]
    )
    np.testing.assert_allclose(paint(mirrored), paint(surface), atol=1e-6)


def test_an_image_has_no_empty_texel(surface):
    white = surface.image(np.ones((len(surface.texel), 3)))
    assert white.shape == (SIZE, SIZE, 3)
    assert (white == 255).all()


def test_noise_is_smooth_and_the_same_every_time():
    place = np.random.default_rng(0).uniform(-1, 1, (2000, 3))
    values = noise(place, 0.05, 3)
    np.testing.assert_array_equal(values, noise(place, 0.05, 3))
    assert abs(values.mean()) < 0.05
    assert values.std() > 0.2
    assert np.abs(noise(place + np.array([1e-4, 0, 0]), 0.05, 3) - values).max() < 0.02
