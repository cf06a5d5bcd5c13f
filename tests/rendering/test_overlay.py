"""The overlay: right place, right order in depth, the side view's direction, and batches that change nothing."""

import numpy as np
import pytest

from hmrkit.camera import assume_camera, project
from hmrkit.errors import UsageError
from hmrkit.rendering.options import RenderOptions
from hmrkit.rendering.overlay import Overlay, lay_out
from hmrkit.rendering.shading import track_colour
from hmrkit.rendering.styles import Figure
from hmrkit.types import Camera, Zoom

WIDTH, HEIGHT = 160, 120
CAMERA = assume_camera(WIDTH, HEIGHT, focal_px=150.0)


def _hue(pixel):
    pixel = np.asarray(pixel, float)
    return pixel / max(np.linalg.norm(pixel), 1e-6)


def _is(pixel, track_id):
    return np.dot(_hue(pixel), _hue(track_colour(track_id))) > 0.98


@pytest.fixture
def ball(sphere):
    vertices, faces = sphere(3)
    return vertices.numpy() * 0.4, faces.numpy()


def _figures(people):
    return [[Figure(*person) for person in here] for here in people]


def _draw(faces, people, frames=None, camera=CAMERA, **options):
    if frames is None:
        frames = np.zeros((len(people), camera.height, camera.width, 3), np.uint8)
    return Overlay(camera, faces, 10, RenderOptions(**options)).draw(frames, _figures(people), range(len(people)))


def test_mesh_lies_where_the_camera_projects_it_and_the_rest_of_the_footage_is_untouched(tmp_path, ball):
    vertices, faces = ball
    frames = np.random.default_rng(0).integers(0, 255, (1, HEIGHT, WIDTH, 3), np.uint8)
    camera = Camera(np.array([150, 120], np.float32), np.array([70, 66], np.float32), WIDTH, HEIGHT)
    here = vertices + np.array([0.5, 0.2, 3], np.float32)
    drawn = _draw(faces, [[(1, here)]], frames, camera)[0, :, :WIDTH]
    pixels = project(camera, here)
    low, high = pixels.min(0), pixels.max(0)
    x, y = project(camera, np.array([0.5, 0.2, 3], np.float32)).astype(int)
    assert _is(drawn[y, x].astype(float) - 0.12 * frames[0, y, x], 1)
    changed = (drawn != frames[0]).any(-1)
    changed[:30, :] = False  # captions
    ys, xs = changed.nonzero()
    assert low[0] - 1 <= xs.min() <= low[0] + 1
    assert high[0] - 2 <= xs.max() <= high[0] + 1
    assert high[1] - 2 <= ys.max() <= high[1] + 1


def test_nearer_people_hide_farther_ones_in_both_views(tmp_path, ball):
    vertices, faces = ball
    near, far = vertices + np.array([0, 0.0, 3], np.float32), vertices + np.array([0.1, 0, 4.5], np.float32)
    for people in ([(1, near), (2, far)], [(2, far), (1, near)]):
        drawn = _draw(faces, [people])[0]
        assert _is(drawn[HEIGHT // 2, WIDTH // 2], 1)
    # From the right, who stands further to the right is in front.
    left, right = vertices + np.array([-0.6, 0.1, 4], np.float32), vertices + np.array([0.6, 0.1, 4], np.float32)
    drawn = _draw(faces, [[(1, left), (2, right)]])[0]
    assert _is(drawn[HEIGHT // 2, WIDTH + HEIGHT // 2], 2)


def test_side_view_shows_depth_to_the_right_and_to_scale(tmp_path, ball):
    vertices, faces = ball
    near, far = vertices + np.array([0, 0.0, 3], np.float32), vertices + np.array([0, 0, 4.0], np.float32)
    panel = _draw(faces, [[(1, near), (2, far)]])[0, :, WIDTH:]
    assert panel.shape == (HEIGHT, HEIGHT, 3)
    row = panel[HEIGHT // 2]
    first = np.flatnonzero([_is(p, 1) for p in row])
    second = np.flatnonzero([_is(p, 2) for p in row])
    assert first.max() < second.min()
    # One metre apart, 0.8 m wide each.
    ratio = (second.mean() - first.mean()) / (second.max() - second.min() + 1)
    assert ratio == pytest.approx(1 / 0.8, rel=0.1)


def test_batches_change_nothing(tmp_path, ball):
    vertices, faces = ball
    people = [[(i, vertices + np.array([0.1 * k - 0.3 * i, 0, 3 + 0.2 * k + i], np.float32)) for i in range(k % 3)]
              for k in range(6)]  # fmt: skip
    frames = np.random.default_rng(0).integers(0, 255, (6, HEIGHT, WIDTH, 3), np.uint8)
    whole = _draw(faces, people, frames)
    overlay = Overlay(CAMERA, faces, 10)
    single = [overlay.draw(frames[k, None], _figures([here]), [k])[0] for k, here in enumerate(people)]
    # Where a sample falls on an outline may hang on the region that is drawn, which a batch shares.
    differs = (np.abs(np.stack(single).astype(int) - whole) > 2).any(-1)
    assert differs.mean() < 1e-3


def test_people_out_of_sight_behind_the_camera_or_missing_draw_nothing(tmp_path, ball):
    vertices, faces = ball
    for shift in ((50, 0, 3), (-50, 0, 3), (0, 50, 3), (0, 0, -3), (0, 0, np.nan)):
        people = [[(1, vertices + np.array(shift, np.float32))], []]
        drawn = _draw(faces, people)[:, 20:, :WIDTH]  # below the caption
        assert drawn.max() == 0


def test_a_clip_without_people_needs_no_faces(tmp_path):
    assert _draw(None, [[], []]).shape == (2, HEIGHT, WIDTH + HEIGHT, 3)
    assert _draw(None, [[]], views=("overlay",)).shape == (1, HEIGHT, WIDTH, 3)


def test_seen_from_above_far_is_up_and_right_is_right(tmp_path, ball):
    vertices, faces = ball
    near, far = vertices + np.array([-0.5, 0, 3], np.float32), vertices + np.array([0.5, 0, 4], np.float32)
    drawn = _draw(faces, [[(1, near), (2, far)]], views=("top",))[0]
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    first, second = (np.argwhere([[_is(p, i) for p in row] for row in drawn]).mean(0) for i in (1, 2))
    assert second[0] < first[0]
    assert second[1] > first[1]
    # Seen from far above, a metre is as long across as along.
    assert first[0] - second[0] == pytest.approx(second[1] - first[1], abs=2)


def test_the_turntable_comes_back_after_eight_seconds_and_halfway_sees_the_back(tmp_path, ball):
    vertices, faces = ball
    left, right = vertices + np.array([-0.6, 0, 4], np.float32), vertices + np.array([0.6, 0, 4], np.float32)
    drawn = _draw(faces, [[(1, left), (2, right)]] * 81, views=("turntable",), labels=False)
    columns = {
        (k, i): np.flatnonzero([_is(p, i) for p in drawn[k, HEIGHT // 2]]).mean() for k in (0, 40, 80) for i in (1, 2)
    }
    assert columns[0, 1] < columns[0, 2]
    assert columns[40, 1] > columns[40, 2]
    assert columns[80, 1] == pytest.approx(columns[0, 1], abs=1)
    assert (drawn[80, 30:] != drawn[0, 30:]).mean() < 0.02  # below the caption


def test_with_alpha_there_are_only_people_in_their_own_colours(tmp_path, ball):
    vertices, faces = ball
    here = vertices + np.array([0.1, 0.05, 3], np.float32)
    (image,) = Overlay(CAMERA, faces, 10, RenderOptions(("overlay",), alpha=True)).draw(None, [[Figure(1, here)]], [7])
    assert image.shape == (HEIGHT, WIDTH, 4)
    solid = _draw(faces, [[(1, here)]], views=("overlay",), labels=False, opacity=1.0)[0]
    # Straight alpha: over black it is what is drawn over black, also where an edge pixel is covered in part.
    partly = (image[..., 3] > 0) & (image[..., 3] < 255)
    assert partly.sum() > 20
    over = image[..., :3].astype(float) * (image[..., 3:] / 255)
    assert np.abs(over - solid)[30:].max() <= 2
    assert image[image[..., 3] == 0].max() == 0
    assert all(_is(p[:3], 1) for p in image[partly])


def test_insets_lie_in_the_corner_of_the_first_view(tmp_path, ball):
    vertices, faces = ball
    frames = np.full((1, HEIGHT, WIDTH, 3), 200, np.uint8)
    here = [[(1, vertices + np.array([0, 0, 3], np.float32))]]
    options = {"views": ("overlay", "side", "top"), "labels": False}
    inset = _draw(faces, here, frames, inset=True, **options)[0]
    beside = _draw(faces, here, frames, **options)[0]
    assert inset.shape == (HEIGHT, WIDTH, 3)
    assert beside.shape == (HEIGHT, WIDTH + 2 * HEIGHT, 3)
    _, panels = lay_out(RenderOptions(inset=True, **options), CAMERA, 10.0)
    outside = np.ones((HEIGHT, WIDTH), bool)
    for panel in panels[1:]:
        edge = 2
        outside[panel.y - edge : panel.y + panel.height + edge, panel.x - edge : panel.x + panel.width + edge] = False
        assert any(_is(p, 1) for p in panel.of(inset)[panel.height // 2])
    assert outside.mean() > 0.6
    np.testing.assert_array_equal(inset[outside], beside[:, :WIDTH][outside])


def test_an_image_in_an_image_shows_the_footage_smaller(tmp_path, ball):
    vertices, faces = ball
    frames = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    frames[:, :, WIDTH // 2 :] = (0, 200, 0)
    here = [[(1, vertices + np.array([0, 0, 3], np.float32))]]
    drawn = _draw(faces, here, frames, views=("turntable", "overlay"), inset=True)
    _, panels = lay_out(RenderOptions(("turntable", "overlay"), inset=True), CAMERA, 10.0)
    small = panels[1].of(drawn)[0]
    assert small.shape[1] / small.shape[0] == pytest.approx(WIDTH / HEIGHT, rel=0.05)
    assert _is(small[small.shape[0] // 2, small.shape[1] // 2 - 2], 1)
    assert small[2, 2].max() < 30
    assert small[2, -3].tolist() == [0, 200, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"views": ("above",)},
        {"views": ()},
        {"views": ("side", "side")},
        {"style": "cubist"},
        {"alpha": True},
        {"opacity": 0.0},
        {"heat_max": 5.0},
        {"style": "residual", "heat_max": 0.0},
    ],
)
def test_what_does_not_go_together_is_said(options):
    with pytest.raises(UsageError, match="--"):
        RenderOptions(**options)


def test_a_lens_that_zooms_draws_each_frame_by_its_own_focal_length(ball):
    vertices, faces = ball
    here = vertices + np.array([0.3, 0.2, 3], np.float32)
    zooming = Camera(CAMERA.focal_px, CAMERA.center_px, WIDTH, HEIGHT, zoom=Zoom(np.arange(2), np.array([1.0, 1.5])))
    both = _draw(faces, [[(1, here)], [(1, here)]], camera=zooming, views=("overlay",), labels=False)
    longer = assume_camera(WIDTH, HEIGHT, focal_px=225.0)
    for drawn, camera in zip(both, (CAMERA, longer), strict=True):
        (wanted,) = _draw(faces, [[(1, here)]], camera=camera, views=("overlay",), labels=False)
        assert np.array_equal(drawn[20:], wanted[20:])  # below the frame's number
