"""Crops land on the pixels that they say, and the way back is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmrkit.crops import Region, crop_affine, crop_batch, crop_from_image, image_from_crop, region_from_boxes


def some_regions(count: int, rng: np.random.Generator) -> Region:
    return Region(rng.uniform(50, 500, (count, 2)), rng.uniform(40, 900, count), rng.uniform(-np.pi, np.pi, count))


def test_crop_pixels_go_to_the_image_and_back_exactly() -> None:
    rng = np.random.default_rng(0)
    region, points = some_regions(20, rng), rng.uniform(-50, 300, (20, 33, 2))
    there = image_from_crop(points, region)
    np.testing.assert_allclose(crop_from_image(there, region), points, atol=1e-9)
    np.testing.assert_allclose(image_from_crop(np.full((20, 1, 2), 128.0), region)[:, 0], region.center, atol=1e-9)


def test_affine_is_a_similarity_that_rotates_by_the_angle() -> None:
    region = Region(np.array([100.0, 80.0]), np.array(512.0), np.array(np.pi / 2))
    # The crop's upward direction points to the image's right when the person leans to the right by a quarter rotation.
    up_in_image = crop_affine(region)[:, :2] @ np.array([0.0, -1.0])
    np.testing.assert_allclose(up_in_image, [2, 0], atol=1e-12)


def test_an_unrotated_crop_at_scale_one_is_a_slice_and_outside_is_black() -> None:
    frames = torch.randint(0, 256, (3, 90, 120, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    region = Region(np.array([[60.0, 40.0], [0.0, 0.0]]), np.array([64.0, 64.0]), np.zeros(2))
    crops = crop_batch(frames, [2, 1], region, out=64)
    inside = frames[2, 8:72, 28:92].permute(2, 0, 1) / 255
    torch.testing.assert_close(crops[0], inside, atol=1e-4, rtol=0)
    torch.testing.assert_close(crops[1, :, 32:, 32:], frames[1, :32, :32].permute(2, 0, 1) / 255, atol=1e-4, rtol=0)
    assert crops[1, :, :32].abs().max() < 1e-5


@pytest.mark.parametrize("size", [100.0, 256.0, 340.0, 700.0, 1500.0])
def test_a_blob_is_found_where_the_affine_says_at_every_scale(size: float) -> None:
    """Half-pixel errors of the crop, of the pyramid or of the grid would all move the blob's centre of mass."""
    rng = np.random.default_rng(int(size))
    height, width = 801, 1203  # odd, so that blocks do not divide them
    y, x = np.mgrid[:height, :width] + 0.5
    targets = rng.uniform([300, 200], [900, 600], (4, 2))
    images = [np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * (size / 40) ** 2)) for u, v in targets]
    frames = torch.from_numpy(np.stack([np.repeat(255 * i[..., None], 3, -1) for i in images]).round().astype(np.uint8))
    region = Region(targets + rng.uniform(-size / 8, size / 8, (4, 2)), np.full(4, size), rng.uniform(-3, 3, 4))
    crops = crop_batch(frames, range(4), region)[:, 0].numpy()
    v, u = np.mgrid[:256, :256] + 0.5
    mass = crops.sum((1, 2))
    found = np.stack([(crops * u).sum((1, 2)) / mass, (crops * v).sum((1, 2)) / mass], -1)
    np.testing.assert_allclose(found, crop_from_image(targets[:, None], region)[:, 0], atol=0.05)


def test_a_blob_is_found_where_a_homography_says():
    from hmrkit.camera import assume_camera, crop_cameras

    rng = np.random.default_rng(1)
    y, x = np.mgrid[:720, :1280] + 0.5
    targets = rng.uniform([60, 60], [1220, 660], (6, 2))
    images = [np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 6.0**2)) for u, v in targets]
    frames = torch.from_numpy(np.stack([np.repeat(255 * i[..., None], 3, -1) for i in images]).round().astype(np.uint8))
    region = Region(targets + rng.uniform(-40, 40, (6, 2)), rng.uniform(200, 600, 6), rng.uniform(-3, 3, 6))
    maps = crop_cameras(assume_camera(1280, 720, fov_deg=100), region, 256).image_from_crop
    crops = crop_batch(frames, range(6), region, 256, maps)[:, 0].numpy()
    v, u = np.mgrid[:256, :256] + 0.5
    mass = crops.sum((1, 2))
    found = np.stack([(crops * u).sum((1, 2)) / mass, (crops * v).sum((1, 2)) / mass, np.ones(6)], -1)
    back = (maps @ found[..., None])[..., 0]
    # A blob's middle is not exactly the middle of its image in perspective: half a pixel of some 2 px a crop pixel.
    np.testing.assert_allclose(back[:, :2] / back[:, 2:], targets, atol=0.5)


def test_a_homography_that_is_affine_cuts_the_same_crop():
    frames = torch.randint(0, 256, (1, 200, 300, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    region = Region(np.array([[140.0, 90.0]]), np.array([120.0]), np.array([0.4]))
    maps = np.concatenate([crop_affine(region, 64), [[[0, 0, 1.0]]]], 1)
    torch.testing.assert_close(crop_batch(frames, [0], region, 64, maps), crop_batch(frames, [0], region, 64))


def test_what_lies_behind_a_crops_camera_is_black():
    """A crop so wide and so far off the axis that part of it looks past the image plane's own plane."""
    from hmrkit.camera import assume_camera, crop_cameras

    camera = assume_camera(200, 100, fov_deg=120)
    region = Region(np.array([[195.0, 50.0]]), np.array([400.0]), np.zeros(1))
    maps = crop_cameras(camera, region, 64).image_from_crop
    u = np.mgrid[:64, :64][1].ravel() + 0.5
    pixels = np.stack([u, np.mgrid[:64, :64][0].ravel() + 0.5, np.ones(64 * 64)])
    x, y, z = maps[0] @ pixels
    assert (z < 0).any()
    white = torch.full((1, 100, 200, 3), 255, dtype=torch.uint8)
    crop = crop_batch(white, [0], region, 64, maps)[0, 0].numpy().ravel()
    assert crop[z <= 0].max() == 0
    inside = (z > 0) & (np.abs(x / z - 100) < 90) & (np.abs(y / z - 50) < 40)
    assert inside.any()
    assert crop[inside].min() > 0.99


def test_shrinking_averages_instead_of_skipping() -> None:
    """Stripes of one pixel become grey; plain sampling would give black and white."""
    frames = torch.zeros(1, 512, 512, 3, dtype=torch.uint8)
    frames[:, :, ::2] = 255
    crops = crop_batch(frames, [0], Region(np.array([[256.0, 256.0]]), np.array([512.0]), np.zeros(1)), out=128)
    torch.testing.assert_close(crops, torch.full_like(crops, 0.5), atol=1e-3, rtol=0)


def test_regions_of_boxes_hold_the_box() -> None:
    region = region_from_boxes(np.array([[10.0, 20, 50, 120], [0, 0, 90, 30]]), expand=1.5)
    np.testing.assert_allclose(region.center, [[30, 70], [45, 15]])
    np.testing.assert_allclose(region.size, [150, 135])


def test_a_region_outside_the_frame_is_black() -> None:
    region = Region(np.array([[-500.0, -500.0]]), np.array([100.0]), np.array([0.3]))
    assert crop_batch(torch.full((1, 50, 50, 3), 255, dtype=torch.uint8), [0], region).abs().max() == 0
