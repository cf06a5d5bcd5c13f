"""People without pictures: their landmarks lie where their bodies are, and are as wrong as those of the bank."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hmrkit.backbones import Landmarks
from hmrkit.backbones.embedded import limb_features
from hmrkit.body import load_body
from hmrkit.regressors.hmr import build
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.training.examples import Truth
from hmrkit.training.simulated import SHORTEST_STEP, LandmarkErrors, SimulatedPeople, concatenate, right_landmarks
from hmrkit.training.synthetic import SyntheticImages


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def rendered():
    return SyntheticImages("train")(8, torch.Generator().manual_seed(5))


def truth_of(samples) -> Truth:
    return Truth(**{f.name: getattr(samples, f.name) for f in dataclasses.fields(Truth)})


def test_right_landmarks_lie_on_the_rendered_body(rendered, body) -> None:
    right = right_landmarks(truth_of(rendered), body)
    shared = [name for name in body.keypoint_names if name in BLAZEPOSE_33.index and "eye" not in name]
    mine = right.points_2d[:, BLAZEPOSE_33.indices(*shared), :2]
    wanted = rendered.keypoints_2d[:, [body.keypoint_names.index(name) for name in shared]]
    # Landmarks leave the blend shapes of poses out: some millimetres, a pixel or two.
    assert (mine - wanted).norm(dim=-1).median() < 1.0
    assert (mine - wanted).norm(dim=-1).max() < 8.0
    hips = right.world[:, BLAZEPOSE_33.indices("left_hip", "right_hip")].mean(1)
    torch.testing.assert_close(hips, torch.zeros_like(hips), atol=1e-6, rtol=0)


def test_steps_are_shortened_and_half_of_them_stay(rendered, body) -> None:
    truth = truth_of(rendered)
    many = Truth(**{key: value.repeat(64, *[1] * (value.ndim - 1)) for key, value in vars(truth).items()})
    right = right_landmarks(many, body)
    found = Landmarks(right.points_2d + torch.tensor([8.0, 6.0, -0.25]), right.world + 0.1)
    errors = LandmarkErrors(found, many, body)
    said = errors.shortened(found, many, torch.Generator().manual_seed(0))
    length = (said.points_2d - right.points_2d)[..., :2].norm(dim=-1).mean(1) / 10
    assert 0.35 < (length > 0.999).float().mean() < 0.65
    assert length.min() >= SHORTEST_STEP - 1e-3
    torch.testing.assert_close((said.world - right.world).mean((1, 2)), 0.1 * length, atol=1e-4, rtol=0)
    torch.testing.assert_close(said.points_2d[..., 2], found.points_2d[..., 2])


def test_simulated_people_are_where_their_landmarks_say(rendered, body) -> None:
    truth = truth_of(rendered)
    exact = LandmarkErrors(right_landmarks(truth, body), truth, body)
    landmarks, people = SimulatedPeople(body, exact)(32, torch.Generator().manual_seed(1))
    right = right_landmarks(people, body)
    torch.testing.assert_close(landmarks.points_2d, right.points_2d, atol=1e-3, rtol=0)
    torch.testing.assert_close(landmarks.world, right.world, atol=1e-5, rtol=0)
    inside = (people.joints_2d > 0) & (people.joints_2d < 256)
    assert inside.float().mean() > 0.9
    again, _ = SimulatedPeople(body, exact)(32, torch.Generator().manual_seed(1))
    assert torch.equal(again.world, landmarks.world)
    # With errors in the bank they err, like people who are held alike.
    moved = LandmarkErrors(Landmarks(right.points_2d + 5, right.world), people, body)
    landmarks, people = SimulatedPeople(body, moved)(32, torch.Generator().manual_seed(1))
    step = (landmarks.points_2d - right_landmarks(people, body).points_2d)[..., 0]
    assert ((step > 5 * SHORTEST_STEP - 1e-2) & (step < 5.01)).all()
    assert len(concatenate(people, truth).betas) == 40


@torch.no_grad()
def test_a_person_without_a_picture_is_read_from_landmarks_alone(rendered, body) -> None:
    torch.manual_seed(0)
    regressor = build("hmr", hidden=16).eval()
    landmarks = right_landmarks(truth_of(rendered), body)
    features = regressor.backbone.together(None, landmarks)
    assert features.global_feature.shape == (8, regressor.backbone.global_channels)
    known = ~features.global_feature.isnan()
    assert known.sum(1).eq(regressor.backbone.global_channels - regressor.backbone.seen_channels).all()
    assert limb_features(landmarks.world).shape == (8, 133)
    # The same as the mean of what pictures show.
    seen = regressor.feature_mean[: regressor.backbone.seen_channels].expand(8, -1)
    alone, with_mean = regressor.regress(features), regressor.regress(regressor.backbone.together(seen, landmarks))
    torch.testing.assert_close(alone.body_pose, with_mean.body_pose)
    assert torch.isfinite(alone.body_pose).all()
