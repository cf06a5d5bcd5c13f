"""How images are divided among threads, tiles and passes, and what is written on them: none of it is to be seen."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from hmrkit.device import one_thread, usable_threads
from hmrkit.rendering import shading
from hmrkit.rendering.overlay import _tiles
from hmrkit.rendering.rasteriser import interpolate_at, visible_fragments
from hmrkit.rendering.stamps import caption_stamp, edge_width, label_stamp, stamp

SIZE = (40, 50)
FOCAL, CENTER = torch.tensor([50.0, 50.0]), torch.tensor([24.6, 20.3])


def _scene(sphere):
    """Five spheres in four images, of which one is empty, out of order, and their colours."""
    ball, faces = sphere(2)
    rng = torch.Generator().manual_seed(4)
    places = torch.tensor([[0.1, 0, 2.5], [0.3, 0.2, 3], [-0.4, 0, 4], [0, 0.1, 2.2], [0.2, -0.1, 5]])
    image = torch.tensor([3, 0, 0, 1, 3])
    colours = torch.rand(5, len(ball), 3, generator=rng)
    return ball * 0.5 + places[:, None], colours, faces, FOCAL.expand(5, 2), CENTER.expand(5, 2), SIZE, image, 4


def test_threads_and_passes_change_nothing(sphere, monkeypatch):
    scene = _scene(sphere)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = shading.draw_meshes(*scene)
        monkeypatch.setitem(shading.SAMPLES_PER_PASS, "cpu", SIZE[0] * SIZE[1] * 4)
        torch.set_num_threads(3)
        with one_thread():
            assert (torch.get_num_threads(), usable_threads()) == (1, 3)
            divided = shading.draw_meshes(*scene)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert torch.equal(whole, divided)
    assert whole[2].abs().max() == 0
    assert (whole[..., 3].sum((1, 2)) > 50).tolist() == [True, True, False, True]


def test_colours_are_those_of_the_points_that_samples_see(sphere):
    vertices, colours, faces, focal, center, size, image, images = _scene(sphere)
    drawn = shading.draw_meshes(vertices, colours, faces, focal, center, size, image, images)
    large = (size[0] * 2, size[1] * 2)
    seen = visible_fragments(vertices, faces, focal * 2, center * 2, large, image, images, cull_back=True)
    expected = torch.zeros(images * large[0] * large[1], 4)
    expected[seen.pixel, :3] = interpolate_at(colours, faces, seen.mesh, seen.face, seen.barycentrics)
    expected[seen.pixel, 3] = 1
    expected = expected.view(images, size[0], 2, size[1], 2, 4).mean((2, 4))
    torch.testing.assert_close(drawn[..., 3], expected[..., 3], rtol=0, atol=1e-6)
    # A face's colours are taken to be linear in the image: with random ones on 162 vertices it is a grey level off.
    assert (drawn - expected)[..., :3].abs()[drawn[..., 3] == 1].mean() < 1 / 255


def test_people_apart_are_tiles_of_their_own_and_those_who_meet_share_one():
    boxes = np.array([[0, 0, 10, 10], [30, 0, 40, 10], [9, 5, 31, 8], [50, 0, 60, 9], [0, 0, 10, 10], [5, 5, 5, 9]])
    of_person, tiles = _tiles(boxes, [0, 0, 0, 0, 1, 1])
    assert tiles.tolist() == [[0, 0, 0, 40, 10], [0, 50, 0, 60, 9], [1, 0, 0, 10, 10]]
    assert of_person.tolist() == [0, 0, 0, 1, 2, -1]
    nobody, none = _tiles(np.zeros((0, 4), int), [])
    assert (len(nobody), none.shape) == (0, (0, 5))


@pytest.mark.parametrize("unit", [13, 18, 45])
def test_a_kept_caption_is_what_is_drawn_on_the_image_itself(unit):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (3 * unit, 14 * unit, 3)).astype(np.uint8)
    page, edge = Image.fromarray(image), edge_width(unit)
    font = ImageFont.load_default(unit)
    ImageDraw.Draw(page).text((9, 7), "frame 1207", (255,) * 3, font, stroke_width=edge, stroke_fill=(0,) * 3)
    stamp(image, caption_stamp("frame 1207", unit), 9 - edge, 7 - edge)
    assert np.abs(image.astype(int) - np.asarray(page)).max() <= 2


def test_a_stamp_that_reaches_over_the_edges_is_cut():
    label = label_stamp(3, 20)
    height, width = label.shape[:2]
    image = np.zeros((height, width, 3), np.uint8)
    stamp(image, label, 0, 0)
    moved = np.zeros_like(image)
    stamp(moved, label, -4, 6)
    np.testing.assert_array_equal(moved[6:, :-4], image[:-6, 4:])
    assert moved[:6].max() == 0
    stamp(moved, label, width, -height)  # all of it is outside
