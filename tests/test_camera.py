import numpy as np
import pytest

from hmrkit.camera import assume_camera, camera_from_ray, pixel_rays, project, solve_translation
from hmrkit.errors import UsageError


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(0, 0.4, (6, 17, 3)).astype(np.float32) + np.float32([0.3, -0.2, 5])


def test_project_and_rays_are_inverse(points):
    camera = assume_camera(1280, 720, fov_deg=70)
    rays = pixel_rays(camera, project(camera, points))
    assert np.allclose(rays * points[..., 2:], points, atol=1e-4)


def test_points_behind_the_camera_are_missing():
    assert np.isnan(project(assume_camera(100, 100), np.array([[0.0, 0, -1], [0, 0, 0]]))).all()


def test_field_of_view_is_across_the_longer_side():
    for size in ((1000, 500), (500, 1000)):
        camera = assume_camera(*size, fov_deg=90)
        assert camera.focal_px == pytest.approx(500)
        assert camera.source == "given"
    assert assume_camera(10, 10).source == "assumed"


@pytest.mark.parametrize("bad", [{"focal_px": 1.0, "fov_deg": 2.0}, {"fov_deg": 200.0}, {"focal_px": -5.0}])
def test_impossible_cameras_are_refused(bad):
    with pytest.raises(UsageError):
        assume_camera(100, 100, **bad)


def test_camera_from_ray_turns_the_axis_onto_the_ray_by_the_least_angle():
    camera = assume_camera(1920, 1080, fov_deg=80)
    pixels = np.random.default_rng(1).uniform(0, 1000, (50, 2)).astype(np.float32)
    rotation = camera_from_ray(camera, pixels)
    ray = pixel_rays(camera, pixels)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    assert np.allclose(rotation[..., 2], ray, atol=1e-6)
    assert np.allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3), atol=1e-6)
    cosine = (np.trace(rotation, axis1=1, axis2=2) - 1) / 2
    assert np.allclose(cosine, ray[:, 2], atol=1e-6)


def test_solve_translation_finds_where_the_person_stands(points):
    camera = assume_camera(1920, 1080)
    root = points[:, :1]
    weights = np.ones(points.shape[:2], np.float32)
    weights[:, 3] = 0
    pixels = project(camera, points)
    pixels[:, 3] = np.nan
    found = solve_translation(camera, points - root, pixels, weights)
    assert np.allclose(found, root[:, 0], atol=1e-3)
