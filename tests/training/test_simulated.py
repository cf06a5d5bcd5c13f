"""People without pictures: what is told of them is where their bodies are, and as wrong as it is in the bank."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from hmrkit.backbones.embedded import Told, head_frame, limb_features
from hmrkit.body import load_body
from hmrkit.regressors.hmr import build
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.training.examples import Truth, chosen, joined, mapped
from hmrkit.training.simulated import (
    FACE_TURN,
    POINT_STEPS,
    SHORTEST_STEP,
    SimulatedPeople,
    Slips,
    rightly_told,
    turned_faces,
)
from hmrkit.training.synthetic import SyntheticImages

NO_FACE = [i for i in range(57) if not 24 <= i < 35]


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def rendered():
    return SyntheticImages("train")(8, torch.Generator().manual_seed(5))


def truth_of(samples) -> Truth:
    return Truth(**{f.name: getattr(samples, f.name) for f in dataclasses.fields(Truth)})


def moved(told: Told, crop: float, world: float) -> Told:
    """Told wrong: landmarks and points by `crop` px to the right, and `world` m."""
    step = torch.tensor([crop, 0.0, 0.0])
    landmarks = dataclasses.replace(
        told.landmarks, points_2d=told.landmarks.points_2d + step, world=told.landmarks.world + world
    )
    points = dataclasses.replace(
        told.points, points_2d=told.points.points_2d + step[:2] / 128, world=told.points.world + world
    )
    return Told(landmarks, points)


def test_what_is_rightly_told_lies_on_the_rendered_body(rendered, body) -> None:
    truth = truth_of(rendered)
    right = rightly_told(truth, body)
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


def test_steps_of_landmarks_are_shortened_and_half_of_them_stay(rendered, body) -> None:
    truth = joined([truth_of(rendered)] * 64)
    right = rightly_told(truth, body)
    found = moved(right, 10.0, 0.1)
    slips = Slips(right, right)
    said = slips.shortened(found, right.landmarks, torch.Generator().manual_seed(0))
    length = (said.landmarks.points_2d - right.landmarks.points_2d)[..., :2].norm(dim=-1).mean(1) / 10
    assert 0.35 < (length > 0.999).float().mean() < 0.65
    assert length.min() >= SHORTEST_STEP - 1e-3
    off = (said.landmarks.world - right.landmarks.world).mean((1, 2))
    torch.testing.assert_close(off, 0.1 * length, atol=1e-4, rtol=0)
    assert torch.equal(said.points.world[:, NO_FACE], found.points.world[:, NO_FACE])


def test_how_faces_are_drawn_is_not_shortened(rendered, body) -> None:
    """BlazePose draws ears too low, in whatever way a head is held; that is no error to be got rid of."""
    right = rightly_told(joined([truth_of(rendered)] * 8), body)
    head = head_frame(right.landmarks.world)
    ears = list(BLAZEPOSE_33.indices("left_ear", "right_ear"))
    low = torch.zeros(33, 3)
    low[ears] = torch.tensor([0.0, 0.005, 0.02])
    low[:11] -= low[:11].mean(0)
    drawn = dataclasses.replace(right.landmarks, world=right.landmarks.world + low @ head.mT)
    slips = Slips(Told(drawn, right.points), right)
    said = slips.shortened(Told(drawn, right.points), right.landmarks, torch.Generator().manual_seed(0))
    torch.testing.assert_close(said.landmarks.world, drawn.world, atol=1e-5, rtol=0)
    simulated = slips.of_people(right, torch.Generator().manual_seed(0))
    torch.testing.assert_close(simulated.landmarks.world, drawn.world, atol=1e-5, rtol=0)


def test_faces_among_the_points_are_turned_and_nothing_else(rendered, body) -> None:
    points = rightly_told(joined([truth_of(rendered)] * 64), body).points
    turned = turned_faces(points, torch.Generator().manual_seed(0))
    for name in ("points_2d", "world", "spread"):
        assert torch.equal(getattr(turned, name)[:, NO_FACE], getattr(points, name)[:, NO_FACE])
    before, after = (side.world[:, 24:35] for side in (points, turned))
    torch.testing.assert_close(after.mean(1), before.mean(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cdist(after, after), torch.cdist(before, before), atol=1e-4, rtol=0)
    ahead = [side[:, 0] - side[:, 7:9].mean(1) for side in (before, after)]
    angle = torch.cosine_similarity(*ahead).acos()
    # Two of the three axes turn the way that the nose points.
    assert 0.8 * FACE_TURN < angle.square().mean().div(2).sqrt() < 1.2 * FACE_TURN
    # A centimetre in metres is as far in the crop as elsewhere on the person: the trunk is a ruler.
    trunk = [side[:, 24 + 11] - side[:, 24 + 24] for side in (points.world[..., :2], points.points_2d)]
    ruler = trunk[1].norm(dim=-1) / trunk[0].norm(dim=-1)
    moved_by = [(after - before)[..., :2], (turned.points_2d - points.points_2d)[:, 24:35]]
    share = moved_by[1].norm(dim=-1).mean(1) / moved_by[0].norm(dim=-1).mean(1) / ruler
    assert 0.8 < share.median() < 1.25


def test_simulated_people_are_where_what_is_told_of_them_says(rendered, body) -> None:
    truth = truth_of(rendered)
    exact = Slips(rightly_told(truth, body), rightly_told(truth, body))
    told, people = SimulatedPeople(body, exact)(32, torch.Generator().manual_seed(1))
    right = rightly_told(people, body)
    torch.testing.assert_close(told.landmarks.points_2d, right.landmarks.points_2d, atol=1e-3, rtol=0)
    torch.testing.assert_close(told.landmarks.world, right.landmarks.world, atol=1e-5, rtol=0)
    for name in ("points_2d", "world"):
        mine, wanted = (getattr(side.points, name)[:, NO_FACE] for side in (told, right))
        torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(people.joints_2d, (right.points.points_2d[:, :24] + 1) * 128, atol=1e-3, rtol=0)
    inside = (people.joints_2d > 0) & (people.joints_2d < 256)
    assert inside.float().mean() > 0.9
    again, _ = SimulatedPeople(body, exact)(32, torch.Generator().manual_seed(1))
    assert torch.equal(again.landmarks.world, told.landmarks.world)
    # With errors in the bank they err, like people who are held alike.
    slips = Slips(moved(right, 5.0, 0.0), right)
    told, people = SimulatedPeople(body, slips)(32, torch.Generator().manual_seed(1))
    right = rightly_told(people, body)
    step = (told.landmarks.points_2d - right.landmarks.points_2d)[..., 0]
    assert ((step > 5 * SHORTEST_STEP - 1e-2) & (step < 5.01)).all()
    step = (told.points.points_2d - right.points.points_2d)[:, NO_FACE, 0] * 128
    assert ((step > 5 * POINT_STEPS[0] - 1e-2) & (step < 5 * POINT_STEPS[1] + 1e-2)).all()


def test_a_mirrored_truth_is_what_the_flipped_crop_shows(rendered, body) -> None:
    truth = truth_of(rendered)
    mirrored = rightly_told(truth.mirrored(), body).points
    right = rightly_told(truth, body).points
    flipped = right.points_2d[:, list(SMPL_24.mirror)] * torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(mirrored.points_2d[:, :24], flipped, atol=1e-3, rtol=0)
    flipped = right.world[:, list(SMPL_24.mirror)] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(mirrored.world[:, :24], flipped, atol=2e-3, rtol=0)
    for name, value in vars(truth.mirrored().mirrored()).items():
        torch.testing.assert_close(value, getattr(truth, name), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_person_without_a_picture_has_the_features_of_one_with(rendered, body) -> None:
    torch.manual_seed(0)
    regressor = build("hmr", hidden=16).eval()
    backbone = regressor.backbone
    seen = backbone(rendered.images)
    assert seen.global_feature.shape == (8, backbone.global_channels)
    told = backbone.told(backbone.look(rendered.images))
    features = backbone.together(told)
    torch.testing.assert_close(features.global_feature, seen.global_feature, atol=1e-4, rtol=0)
    simulated = backbone.together(rightly_told(truth_of(rendered), body))
    assert simulated.global_feature.shape == seen.global_feature.shape
    assert limb_features(told.landmarks.world).shape == (8, 133)
    assert torch.isfinite(regressor.regress(simulated).body_pose).all()


def test_rows_and_parts_of_nested_dataclasses(rendered, body) -> None:
    told = rightly_told(truth_of(rendered), body)
    halves = [chosen(told, slice(0, 3)), chosen(told, torch.arange(8) >= 3)]
    assert torch.equal(joined(halves).points.world, told.points.world)
    assert mapped(lambda value: value.half(), told).landmarks.world.dtype == torch.float16
