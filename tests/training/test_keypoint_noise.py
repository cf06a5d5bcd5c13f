"""Synthetic landmarks: they lie on the bodies, with the errors of the pool."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hmrkit.backbones.embedded import PointEstimates, head_frame, limb_features
from hmrkit.body import load_body
from hmrkit.regressors.hmr import HmrNetwork, build
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.synthetic.images import SyntheticImages
from hmrkit.training.examples import Truth, concatenate, map_tensors, select_rows
from hmrkit.training.keypoint_noise import (
    FACE_ROTATION,
    POINT_STEPS,
    SHORTEST_STEP,
    LandmarkNoise,
    NoisyLandmarks,
    jitter_faces,
    true_points,
)

NO_FACE = [i for i in range(57) if not 24 <= i < 35]


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def rendered():
    return SyntheticImages("train")(8, torch.Generator().manual_seed(5))


def truth_of(samples) -> Truth:
    return Truth(**{f.name: getattr(samples, f.name) for f in dataclasses.fields(Truth)})


def to_device(predicted: PointEstimates, crop: float, world: float) -> PointEstimates:
    """Estimates that err: landmarks and points by `crop` px to the right, and `world` m."""
    step = torch.tensor([crop, 0.0, 0.0])
    landmarks = dataclasses.replace(
        predicted.landmarks, points_2d=predicted.landmarks.points_2d + step, world=predicted.landmarks.world + world
    )
    points = dataclasses.replace(
        predicted.points, points_2d=predicted.points.points_2d + step[:2] / 128, world=predicted.points.world + world
    )
    return PointEstimates(landmarks, points)


def test_true_points_lie_on_the_rendered_body(rendered, body) -> None:
    truth = truth_of(rendered)
    right = true_points(truth, body)
    shared = [name for name in body.keypoint_names if name in BLAZEPOSE_33.index and "eye" not in name]
    mine = right.landmarks.points_2d[:, BLAZEPOSE_33.indices(*shared), :2]
    wanted = rendered.keypoints_2d[:, [body.keypoint_names.index(name) for name in shared]]
    # Landmarks leave the blend shapes of poses out: some millimetres, a pixel or two.
    assert (mine - wanted).norm(dim=-1).median() < 1.0
    assert (mine - wanted).norm(dim=-1).max() < 8.0
    hips = right.landmarks.world[:, BLAZEPOSE_33.indices("left_hip", "right_hip")].mean(1)
    torch.testing.assert_close(hips, torch.zeros_like(hips), atol=1e-6, rtol=0)
    pixels = (right.points.points_2d + 1) * 128
    torch.testing.assert_close(pixels[:, :24], truth.joints_2d, atol=1e-3, rtol=0)
    torch.testing.assert_close(pixels[:, 24:], right.landmarks.points_2d[..., :2], atol=1e-3, rtol=0)
    joints = rendered.joints_c - rendered.joints_c[:, :1]
    torch.testing.assert_close(right.points.world[:, :24], joints, atol=1e-5, rtol=0)


def test_errors_of_landmarks_are_shrunk_and_half_of_them_stay(rendered, body) -> None:
    truth = concatenate([truth_of(rendered)] * 64)
    right = true_points(truth, body)
    found = to_device(right, 10.0, 0.1)
    noise = LandmarkNoise(right, right)
    shrunk = noise.shrink_errors(found, right.landmarks, torch.Generator().manual_seed(0))
    length = (shrunk.landmarks.points_2d - right.landmarks.points_2d)[..., :2].norm(dim=-1).mean(1) / 10
    assert 0.35 < (length > 0.999).float().mean() < 0.65
    assert length.min() >= SHORTEST_STEP - 1e-3
    off = (shrunk.landmarks.world - right.landmarks.world).mean((1, 2))
    torch.testing.assert_close(off, 0.1 * length, atol=1e-4, rtol=0)
    assert torch.equal(shrunk.points.world[:, NO_FACE], found.points.world[:, NO_FACE])


def test_constant_offsets_of_faces_are_not_shrunk(rendered, body) -> None:
    """BlazePose places ears too low on every head; that is not noise to be shrunk."""
    right = true_points(concatenate([truth_of(rendered)] * 8), body)
    head = head_frame(right.landmarks.world)
    ears = list(BLAZEPOSE_33.indices("left_ear", "right_ear"))
    low = torch.zeros(33, 3)
    low[ears] = torch.tensor([0.0, 0.005, 0.02])
    low[:11] -= low[:11].mean(0)
    drawn = dataclasses.replace(right.landmarks, world=right.landmarks.world + low @ head.mT)
    noise = LandmarkNoise(PointEstimates(drawn, right.points), right)
    shrunk = noise.shrink_errors(PointEstimates(drawn, right.points), right.landmarks, torch.Generator().manual_seed(0))
    torch.testing.assert_close(shrunk.landmarks.world, drawn.world, atol=1e-5, rtol=0)
    synthetic = noise.predict(right, torch.Generator().manual_seed(0))
    torch.testing.assert_close(synthetic.landmarks.world, drawn.world, atol=1e-5, rtol=0)


def test_faces_among_the_points_are_rotated_and_nothing_else(rendered, body) -> None:
    points = true_points(concatenate([truth_of(rendered)] * 64), body).points
    rotated = jitter_faces(points, torch.Generator().manual_seed(0))
    for name in ("points_2d", "world", "spread"):
        assert torch.equal(getattr(rotated, name)[:, NO_FACE], getattr(points, name)[:, NO_FACE])
    before, after = (side.world[:, 24:35] for side in (points, rotated))
    torch.testing.assert_close(after.mean(1), before.mean(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cdist(after, after), torch.cdist(before, before), atol=1e-4, rtol=0)
    ahead = [side[:, 0] - side[:, 7:9].mean(1) for side in (before, after)]
    angle = torch.cosine_similarity(*ahead).acos()
    # Two of the three axes rotate the way that the nose points.
    assert 0.8 * FACE_ROTATION < angle.square().mean().div(2).sqrt() < 1.2 * FACE_ROTATION
    # A centimetre in metres is as far in the crop as elsewhere on the person: the trunk is a ruler.
    trunk = [side[:, 24 + 11] - side[:, 24 + 24] for side in (points.world[..., :2], points.points_2d)]
    ruler = trunk[1].norm(dim=-1) / trunk[0].norm(dim=-1)
    moved_by = [(after - before)[..., :2], (rotated.points_2d - points.points_2d)[:, 24:35]]
    share = moved_by[1].norm(dim=-1).mean(1) / moved_by[0].norm(dim=-1).mean(1) / ruler
    assert 0.8 < share.median() < 1.25


def test_synthetic_landmarks_lie_on_the_true_bodies_and_err_as_the_pool_does(rendered, body) -> None:
    truth = truth_of(rendered)
    exact = LandmarkNoise(true_points(truth, body), true_points(truth, body))
    predicted, people = NoisyLandmarks(body, exact)(32, torch.Generator().manual_seed(1))
    right = true_points(people, body)
    torch.testing.assert_close(predicted.landmarks.points_2d, right.landmarks.points_2d, atol=1e-3, rtol=0)
    torch.testing.assert_close(predicted.landmarks.world, right.landmarks.world, atol=1e-5, rtol=0)
    for name in ("points_2d", "world"):
        mine, wanted = (getattr(side.points, name)[:, NO_FACE] for side in (predicted, right))
        torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(people.joints_2d, (right.points.points_2d[:, :24] + 1) * 128, atol=1e-3, rtol=0)
    inside = (people.joints_2d > 0) & (people.joints_2d < 256)
    assert inside.float().mean() > 0.9
    again, _ = NoisyLandmarks(body, exact)(32, torch.Generator().manual_seed(1))
    assert torch.equal(again.landmarks.world, predicted.landmarks.world)
    # With errors in the pool they err, as the nearest poses there do.
    noise = LandmarkNoise(to_device(right, 5.0, 0.0), right)
    predicted, people = NoisyLandmarks(body, noise)(32, torch.Generator().manual_seed(1))
    right = true_points(people, body)
    step = (predicted.landmarks.points_2d - right.landmarks.points_2d)[..., 0]
    assert ((step > 5 * SHORTEST_STEP - 1e-2) & (step < 5.01)).all()
    step = (predicted.points.points_2d - right.points.points_2d)[:, NO_FACE, 0] * 128
    assert ((step > 5 * POINT_STEPS[0] - 1e-2) & (step < 5 * POINT_STEPS[1] + 1e-2)).all()


def test_a_mirrored_truth_is_what_the_flipped_crop_shows(rendered, body) -> None:
    truth = truth_of(rendered)
    mirrored = true_points(truth.mirrored(), body).points
    right = true_points(truth, body).points
    flipped = right.points_2d[:, list(SMPL_24.mirror)] * torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(mirrored.points_2d[:, :24], flipped, atol=1e-3, rtol=0)
    flipped = right.world[:, list(SMPL_24.mirror)] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(mirrored.world[:, :24], flipped, atol=2e-3, rtol=0)
    for name, value in vars(truth.mirrored().mirrored()).items():
        torch.testing.assert_close(value, getattr(truth, name), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_person_without_an_image_has_the_features_of_one_with(rendered, body) -> None:
    torch.manual_seed(0)
    regressor = build("hmr", HmrNetwork(hidden=16)).eval()
    backbone = regressor.backbone
    seen = backbone(rendered.images)
    assert seen.global_feature.shape == (8, backbone.global_channels)
    predicted = backbone.predict_points(backbone.encode(rendered.images))
    features = backbone.features_of_points(predicted)
    torch.testing.assert_close(features.global_feature, seen.global_feature, atol=1e-4, rtol=0)
    synthetic = backbone.features_of_points(true_points(truth_of(rendered), body))
    assert synthetic.global_feature.shape == seen.global_feature.shape
    assert limb_features(predicted.landmarks.world).shape == (8, 133)
    assert torch.isfinite(regressor.regress(synthetic).body_pose).all()


def test_rows_and_parts_of_nested_dataclasses(rendered, body) -> None:
    predicted = true_points(truth_of(rendered), body)
    halves = [select_rows(predicted, slice(0, 3)), select_rows(predicted, torch.arange(8) >= 3)]
    assert torch.equal(concatenate(halves).points.world, predicted.points.world)
    assert map_tensors(lambda value: value.half(), predicted).landmarks.world.dtype == torch.float16
