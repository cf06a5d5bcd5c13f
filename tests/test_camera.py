import numpy as np
import pytest

from hmrkit.camera import (
    assume_camera,
    camera_from_ray,
    crop_cameras,
    pixel_rays,
    plain_crop_cameras,
    project,
    solve_translation,
    unzoomed,
)
from hmrkit.crops import Region, crop_affine
from hmrkit.errors import UsageError
from hmrkit.types import Camera, Keypoints, Track, Zoom


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


def test_camera_from_ray_rotates_the_axis_onto_the_ray_by_the_least_angle():
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


def through(homographies, pixels):
    """Crop pixels (N,P,2) -> image pixels (N,P,2)."""
    ends = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1) @ homographies.transpose(0, 2, 1)
    return ends[..., :2] / ends[..., 2:]


@pytest.mark.parametrize("fov", [30, 55, 110])
@pytest.mark.parametrize("out", [224, 256])
def test_a_crops_own_camera_loses_nothing(fov, out):
    """What it projects lands, by the homography, on the full camera's pixels: wherever the crop, however rotated."""
    rng = np.random.default_rng(fov)
    plain = assume_camera(1920, 1080, fov_deg=fov)
    camera = Camera(plain.focal_px * np.float32([1, 1.03]), plain.center_px + np.float32([70, -40]), 1920, 1080)
    region = Region(
        rng.uniform([-300, -300], [2200, 1400], (200, 2)), rng.uniform(50, 1500, 200), rng.uniform(-4, 4, 200)
    )
    crops = crop_cameras(camera, region, out)
    points = rng.uniform([-0.8, -0.8, 2], [0.8, 0.8, 6], (200, 24, 3))
    seen = points[..., :2] / points[..., 2:] * crops.focal_px[:, None, None] + out / 2
    full = points @ crops.camera_from_crop.transpose(0, 2, 1)
    rays = full[..., :2] / full[..., 2:] * camera.focal_px.astype(float) + camera.center_px.astype(float)
    ahead = full[..., 2] > 0.2
    assert ahead.mean() > 0.9
    off = np.linalg.norm(through(crops.image_from_crop, seen) - rays, axis=-1)
    assert off[ahead].max() < 0.01
    middle = np.full((200, 1, 2), out / 2)
    assert np.abs(through(crops.image_from_crop, middle)[:, 0] - region.center).max() < 0.01
    assert np.allclose(crops.camera_from_crop @ crops.camera_from_crop.transpose(0, 2, 1), np.eye(3), atol=1e-6)


def test_in_the_middle_of_the_image_a_crops_camera_is_the_plain_crop():
    camera = assume_camera(1280, 720)
    region = Region(np.array([[640.0, 360.0]] * 2), np.array([300.0, 90.0]), np.array([0.0, 0.7]))
    pixels = np.random.default_rng(0).uniform(0, 256, (2, 50, 2))
    affine = crop_affine(region, 256)
    plain = pixels @ affine[..., :2].transpose(0, 2, 1) + affine[:, None, :, 2]
    assert np.abs(through(crop_cameras(camera, region, 256).image_from_crop, pixels) - plain).max() < 0.01


def test_off_the_axis_a_crops_camera_keeps_the_scale_across_and_undoes_the_stretch_along():
    camera = assume_camera(2000, 1000, fov_deg=90)
    away = np.radians(35)
    center = camera.center_px + np.array([camera.focal_px[0] * np.tan(away), 0])
    region = Region(center[None], np.array([400.0]), np.zeros(1))
    step = 0.01
    pixels = np.array([[[128.0, 128], [128 + step, 128], [128, 128 + step]]])
    image = through(crop_cameras(camera, region, 256).image_from_crop, pixels)[0]
    along, across = np.linalg.norm(image[1:] - image[0], axis=-1) / step
    assert across == pytest.approx(400 / 256, rel=1e-3)
    assert along == pytest.approx(400 / 256 / np.cos(away), rel=1e-3)


def test_a_plain_crops_camera_is_the_full_one_with_its_centre_elsewhere():
    rng = np.random.default_rng(5)
    camera = assume_camera(1920, 1080, fov_deg=70)
    camera = Camera(camera.focal_px, camera.center_px + np.float32([70, -40]), 1920, 1080)
    region = Region(rng.uniform([0, 0], [1920, 1080], (20, 2)), rng.uniform(50, 900, 20), np.zeros(20))
    crops, affine = plain_crop_cameras(camera, region, 256), crop_affine(region, 256)
    pixels = rng.uniform(0, 256, (20, 50, 2))
    plain = pixels @ affine[..., :2].transpose(0, 2, 1) + affine[:, None, :, 2]
    assert np.abs(through(crops.image_from_crop, pixels) - plain).max() < 0.01
    points = rng.uniform([-0.8, -0.8, 2], [0.8, 0.8, 6], (20, 24, 3))
    seen = points[..., :2] / points[..., 2:] * crops.focal_px[:, None, None] + crops.center_px[:, None]
    image = np.stack([project(camera, p) for p in points])
    assert np.abs(through(crops.image_from_crop, seen) - image).max() < 0.01


@pytest.mark.parametrize("cameras_of", [crop_cameras, plain_crop_cameras])
def test_crops_of_a_lens_that_zooms_are_those_of_its_focal_lengths(cameras_of):
    camera = Camera(np.array([900, 950], np.float32), np.array([600, 350], np.float32), 1280, 720)
    region = Region(np.array([[300.0, 200], [1000, 500]]), np.array([200.0, 300]), np.array([0.1, -0.3]))
    zooming = Camera(camera.focal_px, camera.center_px, 1280, 720, zoom=Zoom(np.array([5, 9]), np.array([1.0, 1.4])))
    found = cameras_of(zooming, region, 256, zooming.zoom_at(np.array([5, 9])))
    for k, factor in enumerate((1.0, 1.4)):
        single = Camera(camera.focal_px * np.float32(factor), camera.center_px, 1280, 720)
        wanted = cameras_of(single, region[k : k + 1], 256)
        for part in ("camera_from_crop", "focal_px", "image_from_crop", "center_px"):
            assert np.allclose(getattr(found, part)[k], getattr(wanted, part)[0], rtol=1e-5, atol=1e-5), part


def test_unzoomed_keypoints_are_seen_along_the_same_rays(points):
    camera = assume_camera(1280, 720)
    frames, factors = np.arange(3, 9), np.linspace(1, 1.5, 6)
    zooming = Camera(camera.focal_px, camera.center_px, 1280, 720, zoom=Zoom(frames, factors))
    seen = (project(camera, points) - camera.center_px) * factors[:, None, None] + camera.center_px
    flat = np.concatenate([seen, np.ones((6, 17, 1))], -1).astype(np.float32)
    boxes = np.concatenate([seen.min(1), seen.max(1)], 1).astype(np.float32)
    track = Track(1, frames, boxes, np.ones(6, np.float32), np.zeros(6, bool))
    found, keypoints = unzoomed(zooming, track, Keypoints(flat, None, "coco-17"))
    assert np.allclose(keypoints.keypoints_2d[..., :2], project(camera, points), atol=1e-2)
    assert np.allclose(found.boxes_xyxy[:, :2], project(camera, points).min(1), atol=1e-2)
    assert unzoomed(camera, track, keypoints) == (track, keypoints)
