"""The overlay: right place, right order in depth, the side view's direction, and batches that change nothing."""

import av
import numpy as np
import pytest

from hmrkit.camera import assume_camera, project
from hmrkit.rendering.overlay import OverlayWriter
from hmrkit.rendering.shading import track_colour
from hmrkit.types import Camera

WIDTH, HEIGHT = 160, 120
CAMERA = assume_camera(WIDTH, HEIGHT, focal_px=150.0)


def _hue(pixel):
    pixel = np.asarray(pixel, float)
    return pixel / np.linalg.norm(pixel)


def _is(pixel, track_id):
    return np.dot(_hue(pixel), _hue(track_colour(track_id))) > 0.98


@pytest.fixture
def ball(sphere):
    vertices, faces = sphere(3)
    return vertices.numpy() * 0.4, faces.numpy()


def _draw(path, faces, people, frames=None, camera=CAMERA, side_view=True):
    if frames is None:
        frames = np.zeros((len(people), camera.height, camera.width, 3), np.uint8)
    with OverlayWriter(path, camera, faces, 10, side_view) as writer:
        return writer.add_batch(frames, people, list(range(len(people))))


def test_mesh_lies_where_the_camera_projects_it_and_the_rest_of_the_footage_is_untouched(tmp_path, ball):
    vertices, faces = ball
    frames = np.random.default_rng(0).integers(0, 255, (1, HEIGHT, WIDTH, 3), np.uint8)
    camera = Camera(np.array([150, 120], np.float32), np.array([70, 66], np.float32), WIDTH, HEIGHT)
    here = vertices + np.array([0.5, 0.2, 3], np.float32)
    drawn = _draw(tmp_path / "o.mp4", faces, [[(1, here)]], frames, camera)[0, :, :WIDTH]
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
        drawn = _draw(tmp_path / "o.mp4", faces, [people])[0]
        assert _is(drawn[HEIGHT // 2, WIDTH // 2], 1)
    # From the right, who stands further to the right is in front.
    left, right = vertices + np.array([-0.6, 0.1, 4], np.float32), vertices + np.array([0.6, 0.1, 4], np.float32)
    drawn = _draw(tmp_path / "o.mp4", faces, [[(1, left), (2, right)]])[0]
    assert _is(drawn[HEIGHT // 2, WIDTH + HEIGHT // 2], 2)


def test_side_view_shows_depth_to_the_right_and_to_scale(tmp_path, ball):
    vertices, faces = ball
    near, far = vertices + np.array([0, 0.0, 3], np.float32), vertices + np.array([0, 0, 4.0], np.float32)
    panel = _draw(tmp_path / "o.mp4", faces, [[(1, near), (2, far)]])[0, :, WIDTH:]
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
    whole = _draw(tmp_path / "a.mp4", faces, people, frames)
    with OverlayWriter(tmp_path / "b.mp4", CAMERA, faces, 10) as writer:
        single = [writer.add(frame, here, k) for k, (frame, here) in enumerate(zip(frames, people, strict=True))]
    # Where a sample falls on an outline may hang on the region that is drawn, which a batch shares.
    differs = (np.abs(np.stack(single).astype(int) - whole) > 2).any(-1)
    assert differs.mean() < 1e-3
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert len(list(container.decode(video=0))) == 6


def test_people_out_of_sight_behind_the_camera_or_missing_draw_nothing(tmp_path, ball):
    vertices, faces = ball
    for shift in ((50, 0, 3), (-50, 0, 3), (0, 50, 3), (0, 0, -3), (0, 0, np.nan)):
        people = [[(1, vertices + np.array(shift, np.float32))], []]
        drawn = _draw(tmp_path / "o.mp4", faces, people)[:, 20:, :WIDTH]  # below the caption
        assert drawn.max() == 0


def test_a_clip_without_people_needs_no_faces(tmp_path):
    assert _draw(tmp_path / "o.mp4", None, [[], []]).shape == (2, HEIGHT, WIDTH + HEIGHT, 3)
    assert _draw(tmp_path / "o.mp4", None, [[]], side_view=False).shape == (1, HEIGHT, WIDTH, 3)


def test_an_exception_leaves_no_file(tmp_path, ball):
    with pytest.raises(KeyError), OverlayWriter(tmp_path / "o.mp4", CAMERA, ball[1], 10) as writer:
        writer.add(np.zeros((HEIGHT, WIDTH, 3), np.uint8), [], 0)
        raise KeyError
    assert list(tmp_path.iterdir()) == []
