"""SGRE: its equations against plain loops, people without maps, the ablations' networks, training."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from hmrkit.backbones import Features
from hmrkit.backbones.embedded import EmbeddedBackbone
from hmrkit.blazepose.integral_head import BodyPoints
from hmrkit.body import load_body
from hmrkit.errors import UsageError
from hmrkit.geometry import rotation_from_6d
from hmrkit.regressors import CropContext, load_regressor, sgre_timing
from hmrkit.regressors.frame import flatten
from hmrkit.regressors.sgre import JointHeads, LocalFeatures, SgreNetwork, SgreRegressor, build, network_on
from hmrkit.regressors.sgre_branches import GroupedLinear, JointBranches
from hmrkit.regressors.soft_argmax import expected_cell, volume_softmax
from hmrkit.skeletons import SMPL_24
from hmrkit.training import example_source
from hmrkit.training import kept_examples as kept
from hmrkit.training.examples import Truth
from hmrkit.training.loop import LoopConfig
from hmrkit.training.losses import LossWeights
from hmrkit.training.recipe import changed
from hmrkit.training.recipes import sgre as recipe

SMALL = SgreNetwork(hidden=16, branch=8, local=6)


class Maps(nn.Module):
    """What a regressor wants to know of a backbone with three maps, the finest of which may be missing."""

    input_size, global_channels = (256, 256), 10
    map_channels, map_strides = (4, 5, 7), (4, 16, 32)


def features(count: int, finest: bool = True, maps: bool = True, points: bool = True) -> Features:
    rng = torch.Generator().manual_seed(count)
    found = [
        torch.randn(count, c, 256 // s, 256 // s, generator=rng) for c, s in zip((4, 5, 7), (4, 16, 32), strict=True)
    ]
    at = torch.rand(count, 57, 3, generator=rng) * 1.8 - 0.9
    known = BodyPoints(at[..., :2], at, at[..., 0]) if points else None
    shown = tuple(found[0 if finest else 1 :]) if maps else ()
    return Features(torch.randn(count, 10, generator=rng), shown, points=known)


def made(**changes) -> SgreRegressor:
    torch.manual_seed(0)
    return SgreRegressor("sgre", dataclasses.replace(SMALL, **changes), Maps()).eval()


def one(layer: GroupedLinear, joint: int, x: Tensor) -> Tensor:
    return x @ layer.weight[joint] + layer.bias[joint]


@pytest.mark.parametrize(("rotations", "sequential"), [("global", True), ("relative", True), ("global", False)])
@torch.no_grad()
def test_the_branches_are_eq_11_joint_by_joint(rotations, sequential) -> None:
    torch.manual_seed(0)
    branches = JointBranches(16, 6, 8, rotations, sequential)
    branches.out.weight *= 30  # far from the rest pose
    feature, local = torch.randn(3, 16), torch.randn(24, 3, 6)
    found = branches(feature, local)
    wanted: list[Tensor] = []
    facing, identity = torch.tensor([1.0, 0, 0, -1, 0, 0]), torch.tensor([1.0, 0, 0, 1, 0, 0])
    for joint, parent in enumerate(SMPL_24.parents):
        rest = (identity if rotations == "relative" and joint else facing).expand(3, 6)
        above = wanted[parent] if sequential and joint else rest
        whole = branches.from_global(feature)[:, 8 * joint : 8 * joint + 8]
        hidden = whole + one(branches.from_local, joint, local[joint]) + one(branches.from_parent, joint, above)
        residual = one(branches.out, joint, one(branches.middle, joint, hidden.relu()).relu())
        wanted.append(residual + (above if rotations == "global" else rest))
    torch.testing.assert_close(found, torch.stack(wanted, 1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_relative_rotations_are_eq_10_of_global_ones() -> None:
    model, seen = made(), features(3)
    estimate = model.regress(seen)
    feature = model.encoder(model.standardised(seen.global_feature))
    local = model.local(seen.maps[-2:], model.joints(seen)[..., :2])
    world = rotation_from_6d(model.branches(feature, local), "interleaved")
    for joint, parent in enumerate(SMPL_24.parents):
        mine = estimate.body_pose[:, joint - 1] if joint else estimate.global_orient
        wanted = torch.linalg.inv(world[:, parent]) @ world[:, joint] if joint else world[:, 0]
        torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=0)
    # A branch that adds nothing leaves the parent's rotation: the rest pose, facing the camera.
    for layer in (model.branches.out.weight, model.branches.out.bias):
        layer.zero_()
    estimate = model.regress(seen)
    torch.testing.assert_close(estimate.body_pose, torch.eye(3).expand(3, 23, 3, 3))


@torch.no_grad()
def test_local_features_are_read_where_the_joints_lie() -> None:
    torch.manual_seed(0)
    local, seen = LocalFeatures((5, 7), 6), features(2)
    places = torch.rand(2, 24, 2) * 1.8 - 0.9
    found = local(seen.maps[-2:], places)
    for b, joint in ((0, 3), (1, 20)):
        read = []
        for norm, at in zip(local.norms, seen.maps[-2:], strict=True):
            x, y = ((places[b, joint] + 1) / 2 * at.shape[-1] - 0.5).tolist()
            value = torch.zeros(at.shape[1])
            for v in range(at.shape[-1]):
                for u in range(at.shape[-1]):
                    value += max(0, 1 - abs(u - x)) * max(0, 1 - abs(v - y)) * at[b, :, v, u]
            read.append(norm(value))
        torch.testing.assert_close(found[joint, b], local.mix(torch.cat(read)).relu(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_joints_are_the_mean_cell_of_their_volume(rng) -> None:
    volume = 2 * torch.randn(2, 3, 4, 5, 6, generator=rng)
    wanted = torch.zeros(2, 3, 3)
    for b in range(2):
        for joint in range(3):
            heat = volume[b, joint].exp() / volume[b, joint].exp().sum()
            for z in range(4):
                for y in range(5):
                    for x in range(6):
                        wanted[b, joint] += heat[z, y, x] * torch.tensor([x, y, z])
    torch.testing.assert_close(expected_cell(volume_softmax(volume)), wanted, atol=1e-5, rtol=0)
    # A sharp peak in the cell at the lower right, in front.
    heads, coarse = JointHeads(1), torch.zeros(1, 1, 8, 8)
    heads.heat.weight.zero_()
    heads.heat.bias.zero_()
    heads.heat.weight[::8] = 100.0  # the nearest cell of every joint
    coarse[..., 7, 6] = 1.0
    torch.testing.assert_close(heads(coarse)[0, 0], torch.tensor([0.625, 0.875, -0.875]), atol=1e-4, rtol=0)


@torch.no_grad()
def test_maps_and_their_number_matter_only_where_they_are_read() -> None:
    model = made()
    whole = flatten(model.regress(features(3)))
    assert torch.equal(flatten(model.regress(features(3, finest=False))), whole)
    alone = flatten(model.regress(features(3, maps=False)))
    assert alone.shape == whole.shape
    assert not torch.equal(alone, whole)
    bare = made(local_features=False)
    assert torch.equal(flatten(bare.regress(features(3))), flatten(bare.regress(features(3, maps=False))))


@torch.no_grad()
def test_a_backbone_without_points_needs_joint_heads() -> None:
    with pytest.raises(UsageError, match="joint_heads"):
        made().regress(features(2, points=False))
    model = made(joint_heads=True)
    joints = model.joints(features(2, points=False))
    assert joints.shape == (2, 24, 3)
    assert joints.abs().max() < 1
    assert network_on("hrnet-w32").joint_heads
    assert not network_on("embedded").joint_heads


@torch.no_grad()
def test_every_variant_of_the_ablation_is_another_network() -> None:
    outputs = {}
    for variant in recipe.ABLATION:
        network = changed(recipe.PRESETS["cpu"], {**variant.changes, "network.hidden": 16}).network
        torch.manual_seed(0)
        outputs[network] = flatten(SgreRegressor("sgre", network, Maps()).eval().regress(features(2)))
    assert len(outputs) == 5
    values = list(outputs.values())
    assert all(not torch.allclose(a, b) for k, a in enumerate(values) for b in values[:k])


def test_the_shipped_network_is_small() -> None:
    network = SgreRegressor("sgre", SgreNetwork(), EmbeddedBackbone)  # its sizes are all that is asked for
    assert sum(p.numel() for p in network.parameters()) < 5.5e6


def test_training_learns_global_rotations_and_ends_in_a_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(kept, "SHARD", 8)
    monkeypatch.setattr(kept, "_EXAMPLES_AT_ONCE", 8)
    monkeypatch.setattr(example_source, "STATISTICS_COUNT", 8)
    sizes = {"data.batch": 8, "data.images": 8, "data.held_out": 8, "loop": LoopConfig(2, warmup=0), "network": SMALL}
    path = recipe.train("sgre", changed(recipe.PRESETS["cpu"], sizes), tmp_path)
    found = load_regressor("sgre", checkpoint=path)
    assert found.network == SMALL
    assert path.stat().st_size < 1e5  # the backbone stays as it ships and is left out


def test_the_loss_counts_global_rotations_and_the_networks_own_joints() -> None:
    body, model = load_body(), made(joint_heads=True)
    rest, transl = torch.eye(3).repeat(2, 24, 1, 1), torch.tensor([[0.0, 0, 4]] * 2)
    joints_2d, focal = torch.full((2, 24, 2), 128.0), torch.full((2,), 400.0)
    truth = Truth(rest[:, 0], rest[:, 1:], torch.zeros(2, 10), transl, focal, joints_2d)
    only = LossWeights(rotations=1.0, betas=0, joints=0, vertices=0, projection=0, camera=0)
    seen, nothing = features(2, points=False), CropContext()
    estimate = model.regress(seen)
    off = (recipe.global_rotations(estimate) - torch.eye(3)).square().mean()
    without = recipe.SgreLoss(0.0)(model, seen, nothing, truth, body, only)
    torch.testing.assert_close(without, off)
    joints = (model.joints(seen) - recipe.true_joints(truth, body)).abs().mean()
    torch.testing.assert_close(recipe.SgreLoss(2.0)(model, seen, nothing, truth, body, only) - without, 2 * joints)
    relative = made(rotations="relative")
    estimate, seen = relative.regress(features(2)), features(2)
    off = torch.cat([estimate.global_orient[:, None], estimate.body_pose], 1) - torch.eye(3)
    found = recipe.SgreLoss(1.0)(relative, seen, nothing, truth, body, only)
    torch.testing.assert_close(found, off.square().mean())


def test_the_parts_can_be_timed() -> None:
    times = sgre_timing.time_parts(build("sgre", SMALL).eval(), load_body(), batch=1, runs=1)
    assert set(times) == {"features", "parameters", "sequential", "mesh"}
    assert all(value > 0 for value in times.values())
