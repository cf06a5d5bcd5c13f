"""Normals, colours and antialiased images."""

import pytest
import torch

from hmrkit.rendering import shading
from hmrkit.rendering.shading import draw_meshes, shade, track_colour, vertex_normals

FOCAL, CENTER, SIZE = torch.tensor([[60.0, 60.0]]), torch.tensor([[32.0, 24.0]]), (48, 64)


def test_normals_of_a_sphere_point_outwards(sphere):
    ball, faces = sphere(3)
    normals = vertex_normals(ball[None] * 2 + 5, faces)[0]
    assert (normals * ball).sum(-1).min() > 0.998


def test_coverage_is_the_area_of_the_outline(sphere):
    """A sphere's outline is known: the supersampled coverage sums to its area, and lies between 0 and 1."""
    ball, faces = sphere(4)
    distance = 4.0
    vertices = (ball + torch.tensor([0.0, 0, distance]))[None]
    image = draw_meshes(vertices, torch.ones_like(vertices), faces, FOCAL, CENTER, SIZE, torch.tensor([0]), 1)
    coverage = image[0, ..., 3]
    assert coverage.min() == 0
    assert coverage.max() == 1
    assert set(coverage.unique().tolist()) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    radius_px = 60 / (distance**2 - 1) ** 0.5
    assert coverage.sum().item() == pytest.approx(torch.pi * radius_px**2, rel=0.02)
    torch.testing.assert_close(image[0, ..., :3], coverage[..., None].expand(-1, -1, 3))


def test_passes_change_nothing(sphere, monkeypatch):
    ball, faces = sphere(2)
    vertices = ball * 0.5 + torch.tensor([[[0.3, 0, 4]], [[0.0, 0, 3]], [[-0.2, 0, 3]]])
    colours = torch.rand(vertices.shape, generator=torch.Generator().manual_seed(0))
    arguments = (vertices, colours, faces, FOCAL.expand(3, 2), CENTER.expand(3, 2), SIZE, torch.tensor([2, 0, 2]), 4)
    whole = draw_meshes(*arguments)
    monkeypatch.setitem(shading.SAMPLES_PER_PASS, "cpu", 1)
    assert torch.equal(whole, draw_meshes(*arguments))
    assert whole[1].sum() == whole[3].sum() == 0
    assert (whole[[0, 2]].sum((1, 2, 3)) > 0).all()


def test_light_comes_from_above_and_left_and_keeps_the_hue(sphere):
    ball, faces = sphere(3)
    vertices = (ball + torch.tensor([0.0, 0, 5]))[None]
    normals = vertex_normals(vertices, faces)
    shaded = shade(vertices, normals, torch.tensor([[0.8, 0.4, 0.2]]))[0]
    assert shaded.min() >= 0
    assert shaded.max() <= 1
    facing = ball[:, 2] < -0.3
    above, below = facing & (ball[:, 1] < -0.4), facing & (ball[:, 1] > 0.4)
    assert shaded[above].mean() > 1.4 * shaded[below].mean()
    assert (shaded[facing][:, 0] > shaded[facing][:, 1]).all()
    assert (shaded[facing][:, 1] > shaded[facing][:, 2]).all()


def test_colours_of_people_differ_and_stay():
    colours = [track_colour(i) for i in range(0, 40)]
    assert len(set(colours)) == 40
    assert all(0 <= c <= 255 for colour in colours for c in colour)
    assert track_colour(1) != track_colour(2)
