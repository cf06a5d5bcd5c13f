"""Synthetic images: the truth that comes with an image is true of the image."""

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hmrkit.body import load_body
from hmrkit.camera import crop_cameras
from hmrkit.crops import person_region
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic import backgrounds, degradation, lighting
from hmrkit.synthetic.backgrounds import Occluders
from hmrkit.synthetic.cameras import Difficulty, draw_views, region_of_points, region_points
from hmrkit.synthetic.images import SyntheticImages
from hmrkit.synthetic.iuv import body_charts
from hmrkit.synthetic.lighting import harmonic_basis, irradiance, panorama_directions, panorama_light, rotate_harmonics
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.types import Camera

EASY = Difficulty(truncated=0, wrong_angle=0, crowded=0, occluded=0, jitter=0, degraded=0)
GREEN = torch.tensor([0.05, 0.6, 0.05])


class GreenSuits:
    """Everybody wears the same green from head to toe."""

    def dress(self, count, generator):
        return SimpleNamespace(
            offsets=torch.zeros(count, 6890), albedo=lambda mesh, face, barycentrics: GREEN.expand(len(mesh), 3)
        )


class Poses:
    def __call__(self, batch, generator):
        rotation = torch.rand(batch, generator=generator) * 6.28
        zero, one = torch.zeros(batch), torch.ones(batch)
        orient = torch.stack(
            [rotation.cos(), zero, rotation.sin(), zero, one, zero, -rotation.sin(), zero, rotation.cos()], -1
        )
        return orient.view(-1, 3, 3), torch.eye(3).expand(batch, 23, 3, 3), torch.randn(batch, 10, generator=generator)


def grey_panoramas(count=2):
    return torch.full((count, 64, 128, 3), 0.5)


def make(difficulty=EASY, size=128, **changes):
    parts = {"poses": Poses(), "wardrobe": GreenSuits(), "panoramas": grey_panoramas()} | changes
    return SyntheticImages("train", size=size, difficulty=difficulty, **parts)


@pytest.fixture(scope="module")
def hard():
    images = make(Difficulty(crowded=0.5, occluded=0.7))
    return images, images(12, torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def easy():
    return make()(8, torch.Generator().manual_seed(1))


def test_parameters_give_the_joints_and_these_the_pixels(hard):
    images, s = hard
    posed = images.body(s.global_orient, s.body_pose, s.betas, s.transl_c)
    assert torch.allclose(posed.joints, s.joints_c, atol=2e-5)
    assert torch.allclose(images.body.keypoints(posed.vertices), s.keypoints_c, atol=2e-5)
    for points, pixels in ((s.joints_c, s.joints_2d), (s.keypoints_c, s.keypoints_2d)):
        projected = s.focal_px[:, None, None] * points[..., :2] / points[..., 2:] + 64
        assert torch.allclose(projected, pixels, atol=0.01)
    assert (s.joints_c[..., 2] > 0.3).all()


def test_mask_parts_and_depth_are_of_the_same_pixels(hard):
    _, s = hard
    assert s.images.dtype == torch.float32
    assert s.images.min() >= 0
    assert s.images.max() <= 1
    assert torch.equal(s.mask, s.iuv[:, 0] > 0)
    assert torch.equal(s.mask, s.depth.isfinite())
    assert set(s.iuv[:, 0].unique().int().tolist()) <= set(range(25))
    assert s.iuv.amin() >= 0
    assert s.iuv[:, 1:].amax() <= 1
    # Visible skin is about as far away as the body.
    nearest = (s.depth - s.joints_c[:, :1, 2:]).abs().nan_to_num().amax((1, 2))
    assert (nearest < 1.5).all()


def test_each_part_is_where_its_bone_is(easy):
    # The middle of the forearms' pixels lies near the middle between elbow and wrist.
    for side in ("left_", "right_"):
        elbow, wrist = SMPL_24.indices(side + "elbow", side + "wrist")
        for n in range(8):
            rows, columns = torch.nonzero(easy.iuv[n, 0] == elbow + 1, as_tuple=True)
            if len(rows) > 60 and not easy.joints_self_hidden[n, [elbow, wrist]].any():
                middle = easy.joints_2d[n, [elbow, wrist]].mean(0)
                length = (easy.joints_2d[n, elbow] - easy.joints_2d[n, wrist]).norm()
                assert (torch.stack([columns, rows], -1) + 0.5 - middle).norm(dim=-1).mean() < 0.6 * length + 4


def test_the_same_seed_gives_the_same_bits():
    images = make(Difficulty())
    first, again, other = (images(5, torch.Generator().manual_seed(k)) for k in (7, 7, 8))
    for field in fields(first):
        a, b = getattr(first, field.name), getattr(again, field.name)
        assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1)), field.name
    assert not torch.equal(first.images, other.images)


def test_people_have_the_colour_of_their_clothes_and_the_place_has_not(easy):
    red, green, blue = easy.images.permute(1, 0, 2, 3)
    greener = green - torch.maximum(red, blue)
    for n in range(8):
        assert 0.02 < easy.mask[n].float().mean() < 0.6
        # On people and nowhere else; the lens smears a pixel or two of the outline.
        assert greener[n][easy.mask[n]].median() > greener[n][~easy.mask[n]].median() + 0.1
    both = torch.stack([greener.flatten(), easy.mask.flatten().float()])
    assert torch.corrcoef(both)[0, 1] > 0.6


def test_everything_of_a_person_alone_in_a_large_image_is_visible(easy):
    inside = ((easy.joints_2d >= 0) & (easy.joints_2d < 128)).all(-1)
    whole = inside.all(1)
    assert whole.sum() >= 6
    pixel = easy.joints_2d.clamp(0, 127).long()
    on_body = easy.mask[torch.arange(8)[:, None], pixel[..., 1], pixel[..., 0]]
    assert on_body[easy.joints_visible].float().mean() > 0.95
    # A T-pose seen from any side hides something of itself somewhere, never most of it.
    assert 0 < easy.joints_self_hidden.float().mean() < 0.4


def test_what_stands_behind_an_occluder_is_flagged(monkeypatch):
    def left_half(count, difficulty, size, g, device):
        two = torch.zeros(count, 2)
        center, half = torch.tensor([[0.0, 64], [0, 0]]).expand(count, 2, 2), torch.full((count, 2, 2), 64.0)
        there = torch.tensor([[True, False]]).expand(count, 2)
        return Occluders(center, half, two, two.bool(), there)

    monkeypatch.setattr("hmrkit.synthetic.images.draw_occluders", left_half)
    s = make()(8, torch.Generator().manual_seed(1))
    assert not s.mask[:, :, :63].any()
    assert s.mask[:, :, 65:].any()
    for points, visible in ((s.joints_2d, s.joints_visible), (s.keypoints_2d, s.keypoints_visible)):
        left = points[..., 0] < 63
        assert left.any()
        assert not visible[left].any()
        assert visible[~left].float().mean() > 0.8


def test_another_body_in_front_hides_and_one_behind_does_not():
    crowd = make(Difficulty(truncated=0, crowded=1, occluded=0, jitter=0, degraded=0))(
        8, torch.Generator().manual_seed(2)
    )
    alone = make()(8, torch.Generator().manual_seed(2))
    inside = ((crowd.joints_2d >= 0) & (crowd.joints_2d < 128)).all(-1)
    hidden = inside & ~crowd.joints_visible
    pixel = crowd.joints_2d.clamp(0, 127).long()
    on_me = crowd.mask[torch.arange(8)[:, None], pixel[..., 1], pixel[..., 0]]
    assert hidden.any()
    assert not (hidden & on_me).any()
    inside_alone = ((alone.joints_2d >= 0) & (alone.joints_2d < 128)).all(-1)
    assert (inside_alone & ~alone.joints_visible).float().mean() < hidden.float().mean()


def test_the_image_ends_where_the_full_image_ends():
    s = make(Difficulty(truncated=1, wrong_angle=0, crowded=0, occluded=0, jitter=0, degraded=0))(
        16, torch.Generator().manual_seed(0)
    )
    black = (s.images == 0).all(1)
    assert (black.float().mean((1, 2)) > 0.02).float().mean() > 0.8
    assert not (black & s.mask).any()
    pixel = s.joints_2d.clamp(0, 127).long()
    in_black = black[torch.arange(16)[:, None], pixel[..., 1], pixel[..., 0]]
    assert in_black.any()
    assert not s.joints_visible[in_black].any()


def test_crops_are_those_of_the_chain():
    """The view without errors is the camera that `person_region` and `crop_cameras` give for the full image."""
    g = torch.Generator().manual_seed(5)
    body = load_body()
    orient, pose, betas = Poses()(40, g)
    posed = body(orient, pose, betas)
    points_w = region_points(body, body.keypoints(posed.vertices))
    views = draw_views(points_w, posed.joints[:, 0], EASY, 256, g)
    points_c = views.apply(points_w)
    for n in range(40):
        full_focal = np.float32(640 / max(float(v) for v in views.half_view[n]))
        camera = Camera(np.array([full_focal] * 2), np.array([640.0, 640.0], np.float32), 1280, 1280)
        full = (points_c[n] @ views.full_from_crop[n].T).numpy()
        image = full[:, :2] / full[:, 2:] * full_focal + 640
        region = person_region(image[None])
        cameras = crop_cameras(camera, region, 256)
        assert np.allclose(cameras.focal_px[0], views.focal_px[n], rtol=1e-3)
        assert np.allclose(cameras.camera_from_crop[0], views.full_from_crop[n], atol=1e-3)
        assert np.allclose(region.size[0], views.resolution[n], rtol=1e-3)


def test_near_cameras_have_wide_lenses_and_stand_close():
    body = load_body()
    posed = body(*Poses()(200, torch.Generator().manual_seed(0)))
    points = region_points(body, body.keypoints(posed.vertices))
    pelvis = posed.joints[:, 0]
    near, usual = (
        draw_views(points, pelvis, replace(EASY, near=share), 256, torch.Generator().manual_seed(1)) for share in (1, 0)
    )
    widest = near.half_view.amax(1).atan().rad2deg() * 2
    assert widest.min() > 54
    assert widest.max() < 91
    distance = [(v.eye - pelvis).norm(dim=-1) for v in (near, usual)]
    assert distance[0].median() < 3
    assert distance[1].median() > 6
    looks_down = torch.rad2deg(torch.asin((near.eye - pelvis)[:, 1] / distance[0]))
    assert looks_down.min() > -11
    assert looks_down.max() < 51


def test_people_who_stand_have_straight_legs_and_hold_their_arms_as_people_do():
    knees, elbows = ([k - 1 for k in SMPL_24.indices(f"left_{name}", f"right_{name}")] for name in ("knee", "elbow"))

    def drawn(everyday):
        sampler = PoseSampler(wobble=0, tumble=0, everyday=everyday)
        orient, pose, _ = sampler(500, torch.Generator().manual_seed(0))
        trace = pose.diagonal(dim1=2, dim2=3).sum(-1)
        return orient[:, 1, 1], torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))

    (upright, bends), (mixed, others) = drawn(1.0), drawn(0.0)
    assert bends[:, knees].quantile(0.9) < 35
    assert bends[:, knees].median() < others[:, knees].median() - 15
    assert bends[:, elbows].quantile(0.25) < 15
    assert bends[:, elbows].quantile(0.75) > 40
    assert mixed.min() < 0.5 < upright.min()


def test_the_benchmarks_people_are_those_of_old():
    """The held-out poses of the benchmark stay as they were, those of `standing` are people who stand."""
    _, pose, _ = PoseSampler("test")(4, torch.Generator().manual_seed(20260000))
    torch.testing.assert_close(
        pose[:, 3, 0, 0], torch.tensor([0.997292, 0.997115, 0.994698, 0.997275]), atol=1e-5, rtol=0
    )
    standing, _, _ = PoseSampler("test", everyday=1.0)(50, torch.Generator().manual_seed(0))
    assert standing[:, 1, 1].min() > 0.8


def test_region_is_person_region():
    points = torch.rand(20, 13, 2, dtype=torch.float64) * 300
    expected = person_region(points.numpy())
    for mine, theirs in zip(region_of_points(points), (expected.center, expected.size, expected.angle), strict=True):
        assert np.allclose(mine, theirs)


def test_harmonics_reproduce_the_irradiance_of_a_panorama():
    # A panorama of order 2 is reproduced exactly; light from above lights what faces up.
    directions = panorama_directions(128, 256)
    coefficients = torch.tensor([3.0, 0.8, -0.3, 0.2, 0.1, 0.3, -0.2, 0.1, 0.25])
    panorama = (harmonic_basis(directions) @ coefficients)[..., None].expand(-1, -1, 3)
    harmonics, _, sun, _ = panorama_light(panorama[None])
    assert torch.allclose(harmonics[0, :, 0], coefficients, atol=0.02)
    assert sun.abs().max() < 1e-3
    normals = torch.nn.functional.normalize(torch.randn(50, 3), dim=-1)
    area = (1 - directions[..., 1] ** 2).clamp_min(0).sqrt() * (torch.pi / 128) * (2 * torch.pi / 256)
    cosine = (directions.view(-1, 3) @ normals.T).clamp_min(0)
    summed = (panorama[..., 0] * area).flatten() @ cosine / torch.pi
    assert torch.allclose(irradiance(harmonics[0], normals)[:, 0], summed, rtol=0.02)


def test_light_rotates_with_its_place():
    harmonics = torch.randn(4, 9, 3)
    yaw, there = torch.rand(4) * 6, torch.nn.functional.normalize(torch.randn(4, 3), dim=-1)
    rotated = lighting.rotate_about_up(there, yaw)
    before = (harmonic_basis(there)[..., None] * harmonics).sum(1)
    after = (harmonic_basis(rotated)[..., None] * rotate_harmonics(harmonics, yaw)).sum(1)
    assert torch.allclose(before, after, atol=1e-4)


def test_background_rotates_with_the_camera():
    """A bright spot of the panorama appears where its direction projects to."""
    panorama = torch.full((1, 256, 512, 3), 0.1)
    panorama[0, 126:130, 254:258] = 20  # towards +z
    painter = backgrounds.Backdrops(panorama, torch.device("cpu"))
    body = load_body()
    posed = body(*Poses()(30, torch.Generator().manual_seed(0)))
    points = region_points(body, body.keypoints(posed.vertices))
    views = draw_views(points, posed.joints[:, 0], EASY, 64, torch.Generator().manual_seed(0))
    yaw, zero = torch.linspace(-3, 3, 30), torch.zeros(30)
    image = painter._place(views, torch.zeros(30, dtype=torch.int64), yaw, zero, zero + 1, 64).mean(0)
    tangent = 32 / views.focal_px
    focal = views.focal_px * tangent / tangent.clamp_min(0.2)
    ray = (views.rotation @ lighting.rotate_about_up(torch.tensor([[0.0, 0, 1]]).expand(30, 3), yaw)[..., None])[..., 0]
    spot = ray[:, :2] / ray[:, 2:] * focal[:, None] + 32
    seen = (ray[:, 2] > 0) & ((spot > 4) & (spot < 60)).all(-1)
    assert seen.any()
    for n in seen.nonzero()[:, 0]:
        row, column = divmod(int(image[n].argmax()), 64)
        assert abs(column + 0.5 - spot[n, 0]) < 3
        assert abs(row + 0.5 - spot[n, 1]) < 3
    assert image[~seen & (spot.sub(32).norm(dim=-1) > 80)].max() < image[seen].flatten(1).amax(1).min()


def test_spheres_darken_what_they_stand_over():
    points = torch.tensor([[[0.0, 0, 0], [3.0, 0, 0]]])
    up, sphere = torch.tensor([0.0, 1, 0]), torch.tensor([[[0.0, 0.3, 0, 0.15]]])
    ambient, direct = lighting.sphere_shadows(points, up, sphere, up[None], torch.tensor([0.05]))
    assert ambient[0, 0] < 0.85
    assert direct[0, 0] < 0.01
    assert ambient[0, 1] > 0.999
    assert direct[0, 1] == 1


def test_resampling_there_and_back_keeps_smooth_images():
    ramp = torch.linspace(0, 1, 128).expand(2, 3, 128, 128).contiguous()
    pixels, whole = torch.tensor([60.0, 128.0]), torch.tensor([128.0, 128.0])
    small = degradation._resample(ramp, whole, pixels)
    assert torch.equal(small[1], ramp[1])
    assert torch.allclose(degradation._resample(small, pixels, whole)[..., 3:-3], ramp[..., 3:-3], atol=0.01)


def test_jpeg_blocks_lose_detail_but_not_the_mean():
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    transform, tables, _ = degradation._jpeg_tables(torch.device("cpu"))
    assert torch.allclose(transform @ transform.T, torch.eye(8), atol=1e-6)
    fine, coarse = (degradation._quantised(image, transform, tables[0], torch.tensor(s)) for s in (0.01, 4.0))
    assert (fine - image).abs().max() < 0.02
    assert (coarse - image).std() > 0.1
    assert (coarse - image).mean().abs() < 0.05


def test_charts_name_every_part_once_round():
    body = load_body()
    charts = body_charts(body)
    assert charts.part.unique().tolist() == list(range(1, 25))
    corners = charts.at(torch.arange(len(body.faces)).repeat(3), torch.eye(3).repeat_interleave(len(body.faces), 0))
    assert corners[:, 1:].min() >= 0
    assert corners[:, 1:].max() <= 1
    # No face spans the chart: corners of one face stay close in U, across the seam too.
    assert (charts.uv[..., 0].amax(1) - charts.uv[..., 0].amin(1)).median() < 0.1


def test_what_ships_makes_images_of_both_splits():
    for split in ("train", "test"):
        s = SyntheticImages(split)(4, torch.Generator().manual_seed(0))
        assert s.images.shape == (4, 3, 256, 256)
        assert s.images.isfinite().all()
        assert s.mask.flatten(1).sum(1).max() > 500
        assert (s.images.flatten(2).std(-1).mean(1) > 0.02).all()


@pytest.mark.gpu
def test_a_gpu_renders_the_same_truth():
    here, there = (
        SyntheticImages(device=device, poses=Poses(), panoramas=grey_panoramas())(8, torch.Generator().manual_seed(0))
        for device in ("cpu", "cuda")
    )
    assert torch.allclose(here.joints_2d, there.joints_2d.cpu(), atol=0.01)
    assert (here.mask != there.mask.cpu()).float().mean() < 0.002
    assert (here.images - there.images.cpu()).abs().mean() < 0.05


def test_folds_bend_only_cloth():
    wrinkles = lighting.Wrinkles(3, torch.Generator().manual_seed(0), torch.device("cpu"))
    normals = torch.nn.functional.normalize(torch.randn(60, 3), dim=-1)
    owner = torch.arange(60) % 3
    cloth = (torch.arange(60) < 30).float()
    bent = wrinkles.bend(normals, torch.randn(60, 3), owner, cloth)
    assert torch.allclose(bent.norm(dim=-1), torch.ones(60), atol=1e-5)
    assert torch.allclose(bent[30:], normals[30:], atol=1e-6)
    assert (bent[:30] - normals[:30]).norm(dim=-1).mean() > 0.05
