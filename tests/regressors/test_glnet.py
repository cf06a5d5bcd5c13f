"""GLNet: its equations beside plain loops, what each option changes, a training that ends in a file that loads."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from typer.testing import CliRunner

from hmrkit.backbones import Features
from hmrkit.blazepose.integral_head import POINTS, BodyPoints
from hmrkit.body import load_body
from hmrkit.body.landmarks import world_from_local
from hmrkit.cli.app import app
from hmrkit.geometry import axis_angle_to_matrix, rotation_between, rotation_to_6d
from hmrkit.regressors import CropContext, load_regressor
from hmrkit.regressors.frame import flatten
from hmrkit.regressors.glnet import GlnetNetwork, build
from hmrkit.regressors.glnet_cells import PARTS, LocalEncoding, cell_centres
from hmrkit.regressors.swing_twist import CHILDREN, LEAVES, TWISTED, SwingTwist, about
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training import example_source
from hmrkit.training import kept_examples as kept
from hmrkit.training.ablation import _design
from hmrkit.training.examples import Truth
from hmrkit.training.glnet_matching import (
    ALPHA,
    BETA,
    MatchedLoss,
    Matching,
    focal_loss,
    keypoints_of,
    match,
    matching_cost,
)
from hmrkit.training.losses import LossWeights
from hmrkit.training.recipe import changed
from hmrkit.training.recipes import glnet

SMALL = GlnetNetwork(hidden=16, cells=8)


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def truth(body) -> Truth:
    orient, pose, betas = PoseSampler()(5, torch.Generator().manual_seed(3))
    joints = 256 * torch.rand(5, 24, 2, generator=torch.Generator().manual_seed(4))
    return Truth(orient, pose, betas, torch.tensor([[0.0, 0.0, 5.0]]).repeat(5, 1), torch.full((5,), 600.0), joints)


def features_of(regressor, count: int = 5, finest: bool = False) -> Features:
    """Random features as the embedded backbone's; at inference there is a third map, the finest."""
    g = torch.Generator().manual_seed(0)
    points = BodyPoints(*(torch.randn(count, POINTS, n, generator=g) for n in (2, 3, 1)))
    feature = torch.randn(count, regressor.backbone.global_channels, generator=g)
    maps = tuple(torch.randn(count, c, n, n, generator=g) for c, n in ((192, 16), (272, 8)))
    return Features(feature, (torch.zeros(count, 48, 64, 64), *maps) if finest else maps, points=points)


def regressor_of(**options):
    torch.manual_seed(0)
    regressor = build("glnet", dataclasses.replace(SMALL, **options)).eval()
    if options.get("local") != "none":
        torch.nn.init.normal_(regressor.residual[-1].weight, std=0.1)
        torch.nn.init.normal_(regressor.cells.score.weight)
    return regressor


@pytest.fixture(scope="module")
def regressor():
    return regressor_of()


def test_swing_and_twist_give_the_rotations_back(truth, body) -> None:
    """HybrIK: R = R_sw R_tw, the swing from the joints alone."""
    local = torch.cat([truth.global_orient[:, None], truth.body_pose], 1)
    rest = body.joints_only(betas=truth.betas).joints
    twists = []
    for joint in TWISTED:
        bone = rest[:, CHILDREN[joint][0]] - rest[:, joint]
        twist = rotation_between(bone, (local[:, joint] @ bone[..., None])[..., 0]).mT @ local[:, joint]
        axis = bone / bone.norm(dim=-1, keepdim=True)
        sine = torch.stack(
            [twist[:, 2, 1] - twist[:, 1, 2], twist[:, 0, 2] - twist[:, 2, 0], twist[:, 1, 0] - twist[:, 0, 1]], 1
        )
        twists.append(torch.stack([(twist.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2, (sine * axis).sum(1) / 2], 1))
        torch.testing.assert_close(about(bone, 3 * twists[-1]), twist, atol=1e-5, rtol=0)
    seen = body.joints_only(truth.global_orient, truth.body_pose, truth.betas).joints
    leaves = rotation_to_6d(local[:, list(LEAVES)], "interleaved")
    pose = torch.cat([torch.stack(twists, 1).flatten(1), leaves.flatten(1), (seen - seen[:, :1]).flatten(1)], 1)
    solver = SwingTwist(body)
    torch.testing.assert_close(solver(pose, truth.betas), local, atol=1e-4, rtol=0)
    # Other twists rotate the bones about their lengths and leave the joints where they are seen.
    pose[:, : 2 * len(TWISTED)] = torch.randn(5, 2 * len(TWISTED))
    other = solver(pose, truth.betas)
    assert (other - local).abs().max() > 0.5
    found = body.joints_only(other[:, 0], other[:, 1:], truth.betas).joints
    torch.testing.assert_close(found, seen, atol=1e-4, rtol=0)
    # P_k - P_parent = R_k (t_k - t_parent), section 3.1.
    world = world_from_local(other)
    for joint in TWISTED:
        child = CHILDREN[joint][0]
        bone = (world[:, joint] @ (rest[:, child] - rest[:, joint])[..., None])[..., 0]
        torch.testing.assert_close(seen[:, child] - seen[:, joint], bone, atol=1e-4, rtol=0)


def test_seen_bones_of_other_lengths_set_directions_only(truth, body) -> None:
    """The adaptive solution aims from where the joints have come to lie: the wrists' error does not grow outwards."""
    seen = body.joints_only(truth.global_orient, truth.body_pose, truth.betas).joints
    solver = SwingTwist(body)
    pose = solver.initial.repeat(5, 1)
    pose[:, -72:] = 1.1 * (seen - seen[:, :1]).flatten(1)
    rotations = solver(pose, truth.betas)
    found = body.joints_only(rotations[:, 0], rotations[:, 1:], truth.betas).joints
    off = (found - found[:, :1]) - (seen - seen[:, :1])
    assert off.norm(dim=-1).max() < 0.15


def bilinear(image: Tensor, x: float, y: float) -> Tensor:
    """(C,h,w) at a place of a crop of 2 x 2; beyond the middle of an edge's cells as there."""
    height, width = image.shape[1:]
    column = min(max((x + 1) / 2 * width - 0.5, 0), width - 1)
    row = min(max((y + 1) / 2 * height - 0.5, 0), height - 1)
    left, above = min(int(column), width - 2), min(int(row), height - 2)
    a, b = column - left, row - above
    top = (1 - a) * image[:, above, left] + a * image[:, above, left + 1]
    return (1 - b) * top + b * ((1 - a) * image[:, above + 1, left] + a * image[:, above + 1, left + 1])


@torch.no_grad()
def test_two_hops_lead_from_a_cell_to_the_keypoints() -> None:
    """Section 3.3: c_i + first hop = the part's point; point + second hop = keypoint."""
    torch.manual_seed(1)
    local = LocalEncoding((16, 32), (3, 5), width=4).eval()
    cells = local((torch.randn(2, 3, 6, 4), torch.randn(2, 5, 3, 2)))
    assert local.first_hop is not None
    first, second = ((layer.weight[:, :, 0, 0], layer.bias) for layer in (local.first_hop, local.second_hop))
    whole = cells.gathered(torch.arange(24).repeat(2, 1))
    for person, cell in ((0, 0), (1, 7), (1, 23)):
        row, column = divmod(cell, 4)
        centre = torch.tensor([(column + 0.5) / 2 - 1, (row + 0.5) / 3 - 1])
        torch.testing.assert_close(cells.centres[cell], centre)
        feature = cells.features[person, :, row, column]
        gathered = [feature]
        hops = (first[0] @ feature + first[1]).view(len(PARTS), 2)
        for part, joints in enumerate(PARTS):
            point = centre + hops[part]
            torch.testing.assert_close(cells.points[person, cell, part], point)
            gathered.append(bilinear(cells.features[person], *point.tolist()))
            hop = (second[0] @ gathered[-1] + second[1]).view(len(PARTS), 4, 2)[part]
            torch.testing.assert_close(cells.keypoints[person, cell, joints], point + hop, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(whole[person, cell], torch.cat(gathered), atol=1e-5, rtol=1e-4)
    assert sorted(joint for part in PARTS for joint in part) == list(range(len(SMPL_24)))


@torch.no_grad()
def test_the_matching_is_the_optimal_assignment(regressor, truth, body) -> None:
    """Section 3.4: T copies of the truth and N - T empty ones among N cells, by eq. 1."""
    features = features_of(regressor)
    cells, target = regressor.cells(features.maps), keypoints_of(truth)
    cost = matching_cost(cells, target)
    chance = cells.scores.double().sigmoid()
    for person, cell in ((0, 3), (4, 200)):
        p = float(chance[person, cell])
        l1 = sum(
            float((cells.keypoints[person, cell, j] - target[person, j]).abs().clamp_max(2).sum()) for j in range(24)
        )
        wanted = -ALPHA * (1 - p) ** BETA * torch.tensor(p).log() + l1
        torch.testing.assert_close(cost[person, cell], wanted, atol=1e-3, rtol=1e-4)
    matched = match(Matching(positives=20), regressor, regressor.base(features), cells, truth, body)
    for person in range(5):
        square = torch.zeros(256, 256)
        square[:, :20] = cost[person, :, None]
        rows, columns = linear_sum_assignment(square.numpy())
        assert set(matched[person].tolist()) == set(rows[columns < 20].tolist())
    positive = torch.zeros(5, 256).scatter(1, matched, 1.0).bool()
    terms = [
        -ALPHA * (1 - p) ** BETA * p.log() if yes else -(1 - ALPHA) * p**BETA * (1 - p).log()
        for p, yes in zip(chance.flatten(), positive.flatten(), strict=True)
    ]
    torch.testing.assert_close(
        float(focal_loss(cells.scores, matched)), float(sum(terms)) / (5 * 20), rtol=1e-4, atol=0
    )


@torch.no_grad()
def test_other_matching_costs_choose_other_cells(regressor, truth, body) -> None:
    features = features_of(regressor)
    base, cells = regressor.base(features), regressor.cells(features.maps)
    chosen = {}
    for cost in ("2d", "2d+depth", "2d+depth+rotations", "centre"):
        matching = Matching(positives=10, cost=cost)
        chosen[cost] = match(matching, regressor, base, cells, truth, body)
        assert all(len(set(row.tolist())) == 10 for row in chosen[cost])
    assert len({tuple(rows.flatten().tolist()) for rows in chosen.values()}) == 4
    middle = keypoints_of(truth).mean(1)
    centres = cell_centres(16, 16, middle)
    nearest = (centres - middle[:, None]).norm(dim=-1).topk(10, largest=False).indices
    assert torch.equal(chosen["centre"].sort(1).values, nearest.sort(1).values)


@torch.no_grad()
@pytest.mark.parametrize("rotations", ["direct", "swing-twist"])
def test_the_best_cell_corrects_the_global_estimate(rotations) -> None:
    regressor = regressor_of(rotations=rotations)
    features = features_of(regressor)
    found = flatten(regressor.regress(features))
    cells, base = regressor.cells(features.maps), regressor.base(features)
    best = cells.scores.argmax(1)
    every = regressor.refined(base, cells, torch.arange(256).expand(5, -1))
    wanted = every[torch.arange(5), best]
    torch.testing.assert_close(found, flatten(regressor.bodies(wanted)), atol=1e-5, rtol=0)
    pose = len(regressor.rotations.initial)
    assert torch.equal(wanted[:, pose:], base[:, pose:])  # shape and camera are the global estimate's
    assert (wanted[:, :pose] - base[:, :pose]).abs().max() > 0.01
    # The finest map changes nothing, neither does the size of a batch; without maps the global estimate stays.
    assert torch.equal(flatten(regressor.regress(features_of(regressor, finest=True)))[:, 226:], found[:, 226:])
    alone = dataclasses.replace(
        features, global_feature=features.global_feature[1:2], maps=tuple(m[1:2] for m in features.maps),
        points=BodyPoints(*(v[1:2] for v in vars(features.points).values())),
    )  # fmt: skip
    torch.testing.assert_close(flatten(regressor.regress(alone)), found[1:2], atol=1e-4, rtol=0)
    without = regressor.regress(dataclasses.replace(features, maps=()))
    torch.testing.assert_close(flatten(without), flatten(regressor.bodies(base)))


def test_a_backbone_without_points_begins_with_a_standing_body(body) -> None:
    solver = SwingTwist(body)
    pose = solver.anchored(solver.initial.repeat(2, 1), None)
    rotations = solver(pose, torch.zeros(2, 10))
    upright = torch.eye(3).repeat(2, 24, 1, 1)
    upright[:, 0] = axis_angle_to_matrix(torch.tensor([torch.pi, 0.0, 0.0]))
    torch.testing.assert_close(rotations, upright, atol=1e-5, rtol=0)


def test_every_option_changes_the_network_and_its_loss(truth, body) -> None:
    """Gradients reach the grid through classification, keypoints and bodies; the mesh is made of one cell alone."""
    shapes = set()
    for options in (
        {}, {"rotations": "direct"}, {"local": "cell"}, {"local": "none"}, {"refined": "rotations+shape"},
        {"refined": "rotations+shape+camera"},
    ):  # fmt: skip
        regressor = regressor_of(**options).train()
        shapes.add(tuple((name, tuple(v.shape)) for name, v in regressor.named_parameters()))
        features = features_of(regressor)
        for weights in (LossWeights(vertices=0.0), LossWeights())[: 1 if options else 2]:
            MatchedLoss(Matching())(regressor, features, CropContext(), truth, body, weights).backward()
        for name, value in regressor.named_parameters():
            if not name.startswith("backbone"):
                assert value.grad is not None, (options, name)
                assert value.grad.isfinite().all()
    assert len(shapes) == 6


def test_the_variants_of_a_group_are_different_designs() -> None:
    recipe = glnet.PRESETS["cpu"]
    designs: dict[str, list[str]] = {}
    for variant in glnet.ABLATION:
        designs.setdefault(variant.group, []).append(_design(changed(recipe, variant.changes)))
    assert list(designs) == ["components", "refined", "T", "cost"]
    for group in designs.values():
        assert len(set(group)) == len(group)
        assert _design(recipe) in group


@pytest.mark.slow
def test_the_command_trains_both_kinds_of_rotations(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(kept, "SHARD", 8)
    monkeypatch.setattr(kept, "_EXAMPLES_AT_ONCE", 8)
    monkeypatch.setattr(example_source, "STATISTICS_COUNT", 8)
    small = {"data.batch": 4, "network.hidden": 16, "network.cells": 8}
    monkeypatch.setitem(glnet.PRESETS, "cpu", changed(glnet.PRESETS["cpu"], small))
    for rotations in ("direct", "swing-twist"):
        line = ["train", "glnet", "--out", str(tmp_path / rotations), "--examples", str(tmp_path / "images")]
        line += ["--images", "8", "--device", "cpu", "--steps", "2"]
        result = CliRunner().invoke(app, [*line, "--rotations", rotations])
        assert result.exit_code == 0, result.output
        found = load_regressor("glnet", checkpoint=tmp_path / rotations / "glnet.safetensors")
        assert found.network.rotations == rotations
        with torch.no_grad():
            estimate = found(torch.rand(1, 3, 256, 256))
        assert all(value.isfinite().all() for value in vars(estimate).values())
    wrong = CliRunner().invoke(app, [*line, "--rotations", "euler"])
    assert wrong.exit_code != 0
    assert "direct, swing-twist" in str(wrong.exception or wrong.output)
