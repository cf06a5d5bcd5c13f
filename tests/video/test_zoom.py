"""A lens that zooms in a rendered room: found in a zoom, with a pan too; not where the camera pans or people come."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from hmrkit.types import Camera, Track, VideoInfo, Zoom
from hmrkit.video.zoom import ZoomFinder, people_disagree

WIDTH, HEIGHT, FOCAL, COUNT = 240, 136, 230.0, 10
ALONG = np.linspace(0, 1, COUNT)
NOBODY = np.zeros((0, 4), np.float32)
CAMERA = Camera(np.full(2, FOCAL, np.float32), np.array([WIDTH / 2, HEIGHT / 2], np.float32), WIDTH, HEIGHT)


def texture(seed):
    noise = np.random.default_rng(seed).standard_normal((256, 256))
    grey = sum(gaussian_filter(noise, size, mode="wrap") * size for size in (1, 2, 4, 8))
    return 128 + 45 * grey / grey.std()


TEXTURES = [texture(seed) for seed in range(2)]


def room(focal=FOCAL, yaw=0.0, bright=1.0):
    """A wall 8 m away and a floor 1.5 m below the camera, as a lens of that focal length shows them."""
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    ray = np.stack([(u - WIDTH / 2) / focal, (v - HEIGHT / 2) / focal, np.ones_like(u)], -1)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    ray = ray @ np.array([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    is_floor = 8 * ray[..., 1] > 1.5 * ray[..., 2]
    depth = np.where(is_floor, 1.5 / np.maximum(ray[..., 1], 1e-6), 8 / ray[..., 2])
    x, y, z = np.moveaxis(ray * depth[..., None] * 30, -1, 0)
    wall, floor = (
        map_coordinates(grey, np.stack(place) % 255, order=1)
        for grey, place in zip(TEXTURES, ((x, y), (x, z)), strict=True)
    )
    image = (np.where(is_floor, floor, wall) * bright).clip(0, 255).astype(np.uint8)
    return np.repeat(image[..., None], 3, -1)


def zoom_of(frames, boxes=None, cuts=()):
    numbers = np.arange(len(frames))
    video = VideoInfo("room", "", WIDTH, HEIGHT, Fraction(25), len(frames), numbers, numbers / 25, cuts=cuts)
    finder = ZoomFinder(CAMERA)
    for k, frame in enumerate(frames):
        finder.add(k, frame, NOBODY if boxes is None else boxes[k])
    return finder.finish(video)


@pytest.mark.parametrize("yaw", [0.0, 0.15])
def test_a_zoom_is_measured_whether_or_not_the_camera_pans(yaw):
    factors = 1.46**ALONG
    found = zoom_of([room(FOCAL * z, yaw * a, 1 - 0.2 * a) for z, a in zip(factors, ALONG, strict=True)])
    assert found is not None
    assert np.abs(found.factors / factors - 1).max() < 0.005


def test_a_pan_is_no_zoom_and_nor_is_a_person_who_comes_nearer():
    assert zoom_of([room(yaw=0.3 * a) for a in ALONG]) is None
    frames, boxes = [], []
    for a in ALONG:
        half = 20 + 20 * a  # a person whose own texture grows, over the middle of a room that stands still
        frame, near = room(), room(FOCAL * (1 + a))
        rows, columns = slice(int(68 - half), int(68 + half)), slice(int(120 - half), int(120 + half))
        frame[rows, columns] = near[rows, columns][:, ::-1]
        frames.append(frame)
        boxes.append(np.array([[120 - half, 68 - half, 120 + half, 68 + half]], np.float32))
    assert zoom_of(frames, boxes) is None


def test_each_shot_has_its_own_zoom_and_black_frames_are_bridged():
    still, zooming = [room()] * 3, [room(FOCAL * z, yaw=2.0) for z in 1.3**ALONG]
    zooming[6] = np.zeros_like(zooming[6])
    found = zoom_of([*still, *zooming], cuts=(3,))
    assert found is not None
    assert (found.factors[:3] == 1).all()
    assert found.factors[3] == 1
    assert found.factors[-1] == pytest.approx(1.3, rel=0.1)  # the new shot's first frames are not measured
    assert abs(found.factors[9] - np.sqrt(found.factors[8] * found.factors[10])) < 0.01


def test_people_who_keep_their_size_contradict_a_zoom():
    zoom = Zoom(np.arange(COUNT), 1.4**ALONG)

    def person(height):
        boxes = np.stack([100 - height, 60 - height, 100 + height, 60 + height], 1) / 2 + 30
        return Track(1, np.arange(COUNT), boxes.astype(np.float32), np.ones(COUNT, np.float32), np.zeros(COUNT, bool))

    size = (WIDTH, HEIGHT)
    assert not people_disagree(zoom, [person(40 * zoom.factors)], size)
    assert people_disagree(zoom, [person(40 + 0 * ALONG)], size)
    assert not people_disagree(zoom, [person(500 + 0 * ALONG)], size)  # cut by the image: says nothing
