"""Where the background goes: a window that moves over a still image, with somebody who moves otherwise before it."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from hmrkit.fitting.standing import standing_knees
from hmrkit.report import report
from hmrkit.scene import ExportOptions
from hmrkit.scene.build import build_scene
from hmrkit.take import load_take, save_take
from hmrkit.types import Camera, Take, VideoInfo
from hmrkit.video.camera_motion import BackgroundPath, camera_moves, moving_background


@pytest.fixture(scope="module")
def wall():
    """An image (H,W,3) with texture of several sizes."""
    random = np.random.default_rng(0)
    sizes = (random.integers(0, 256, (-(-480 // k), -(-1000 // k), 1)) for k in (4, 16, 48))
    layers = [layer.repeat(k, 0).repeat(k, 1)[:480, :1000] for layer, k in zip(sizes, (4, 16, 48), strict=True)]
    return np.mean(layers, 0).astype(np.uint8).repeat(3, 2)


def _path(wall, corners, walks=0.0):
    """Found places (T,2) of the background in windows of 512 x 384 px at `corners` (T,2), with somebody before it."""
    random = np.random.default_rng(1)
    coat = random.integers(0, 256, (200, 64, 3), np.uint8)
    background, places = BackgroundPath(), []
    for k, (x, y) in enumerate(np.asarray(corners, int)):
        frame = wall[y : y + 384, x : x + 512].copy()
        left = int(100 + walks * k)
        frame[100:300, left : left + 64] = coat
        places.append(background(frame, np.array([[left, 100, left + 64, 300.0]])))
    return np.array(places)


@pytest.mark.parametrize("speed", [0.5, 5.0])
def test_a_pan_is_followed_whatever_a_person_does(wall, speed):
    steps = np.arange(60)
    corners = np.round(np.stack([speed * steps, 40 + 20 * np.sin(steps / 10)], 1))
    found = _path(wall, corners, walks=3.0)
    np.testing.assert_allclose(found, corners[0] - corners, atol=6)


def test_a_camera_that_stands_has_a_background_that_stands(wall):
    found = _path(wall, np.tile([50, 40], (40, 1)), walks=4.0)
    assert np.abs(found).max() < 0.5


def test_nothing_is_made_of_a_cut_or_of_a_blank_wall(wall):
    background = BackgroundPath()
    frames = [wall[:384, :512], wall[::-1][:384, 300:812], np.full((384, 512, 3), 90, np.uint8)]
    assert all((background(frame, np.zeros((0, 4))) == 0).all() for frame in frames)


def _video(travel, frames=10):
    numbers = np.arange(frames)
    along = np.stack([np.linspace(0, travel, frames), np.zeros(frames)], 1).astype(np.float32)
    return VideoInfo("a.mp4", "00", 640, 480, Fraction(10), frames, numbers, numbers / 10, background_px=along)


def test_it_stays_with_its_frames_and_in_the_file(tmp_path):
    video = _video(90)
    assert camera_moves(video)
    assert not camera_moves(_video(5))
    assert not camera_moves(replace(video, background_px=None))
    camera = Camera(np.full(2, 600.0, np.float32), np.array([320, 240], np.float32), 640, 480, "given")
    np.testing.assert_allclose(moving_background(Take(video, camera), np.array([2, 5]))[:, 0], [20, 50])
    assert (moving_background(Take(_video(5), camera), np.array([2, 5])) == 0).all()
    np.testing.assert_allclose(video.at(np.array([3, 9])).background_px[:, 0], [30, 90])
    save_take(Take(video, camera), tmp_path / "take.npz")
    np.testing.assert_array_equal(load_take(tmp_path / "take.npz").video.background_px, video.background_px)


def test_a_moving_camera_is_reported_and_its_world_warned_of(take, models, caplog):
    along = np.stack([np.linspace(0, 100, 10), np.zeros(10)], 1).astype(np.float32)
    for shown, moves in ((take, False), (replace(take, video=replace(take.video, background_px=along)), True)):
        build_scene(shown, models, ExportOptions(space="world"))
        assert ("the camera moves" in caplog.text) == moves
        assert any("the camera moves" in note for note in report(shown)["notes"]) == moves


def test_feet_that_go_with_the_background_stand(models):
    """A standing person under a panning camera: without the background nothing rests."""
    from hmrkit.camera import assume_camera
    from hmrkit.types import BodyParams

    count, camera = 40, assume_camera(640, 480)
    times = np.arange(count) / 10
    pose = np.tile(np.eye(3, dtype=np.float32), (count, 23, 1, 1))
    upright = np.tile(np.diag(np.array([1.0, -1, -1], np.float32)), (count, 1, 1))
    transl = np.stack([0.1 * np.arange(count) - 2, np.zeros(count), np.full(count, 4.0)], 1).astype(np.float32)
    params = BodyParams(upright, pose, np.zeros(10, np.float32), transl, "neutral", models.body.model_id)
    pan = np.stack([transl[:, 0] * float(camera.focal_px[0]) / 4, np.zeros(count)], 1)
    assert standing_knees(params, times, camera, models.body).max() < 0.1
    assert standing_knees(params, times, camera, models.body, pan).max() > 0.5
