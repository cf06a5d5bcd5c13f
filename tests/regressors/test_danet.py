"""DaNet: its equations against plain loops, its variants, its IUV maps, and training from end to end."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from hmrkit.backbones import Features, Landmarks, load_backbone
from hmrkit.backbones.embedded import FrozenMaps
from hmrkit.body import load_body
from hmrkit.regressors import load_regressor
from hmrkit.regressors.crop_camera import crop_camera, project
from hmrkit.regressors.danet import DELTA, DanetNetwork, build
from hmrkit.regressors.danet_graph import Refinement
from hmrkit.regressors.danet_iuv import DropParts, crop_about, foreground_side, soft_argmax, soft_maps
from hmrkit.regressors.frame import flatten
from hmrkit.rendering.rasteriser import rasterise
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.iuv import SurfacePoints, body_charts
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training import example_source
from hmrkit.training.ablation import Result, claims
from hmrkit.training.examples import Examples, Truth, select_rows
from hmrkit.training.losses import LossWeights
from hmrkit.training.recipe import changed
from hmrkit.training.recipes import danet
from hmrkit.training.regressors import context_of
from hmrkit.weights import save_state

SMALL = DanetNetwork(hidden=16, channels=16, features=8, flip=False)


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("embedded").requires_grad_(False)


@pytest.fixture(scope="module")
def truth(body) -> Truth:
    orient, pose, betas = PoseSampler("test")(8, torch.Generator().manual_seed(3))
    orient = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ orient
    transl, focal = torch.tensor([[0.1, 0.05, 2.5]]).repeat(8, 1), torch.full((8,), 256.0)
    joints = body.joints_only(orient, pose, betas).joints
    return Truth(orient, pose, betas, transl, focal, project(joints, crop_camera(transl, focal), focal))


@pytest.fixture(scope="module")
def examples(backbone, truth) -> Examples:
    torch.manual_seed(0)
    landmarks = Landmarks(torch.rand(8, 33, 3) * torch.tensor([256.0, 256, 1]), torch.randn(8, 33, 3))
    return Examples(FrozenMaps(torch.randn(8, 192, 16, 16), torch.randn(8, 272, 8, 8), landmarks), truth)


@pytest.fixture(scope="module")
def features(backbone, examples) -> Features:
    return backbone.features(examples.observation)


def regressor_of(network: DanetNetwork, backbone, moved: bool = True):
    """One whose last layers, zero at first, have some values."""
    torch.manual_seed(1)
    made = build("danet", network)
    made.backbone = backbone
    if moved:
        for name, value in made.named_parameters():
            if "pose_regressors" in name or "global_stream.final" in name:
                torch.nn.init.normal_(value, std=0.05)
    return made.eval()


def test_refinement_is_that_of_the_paper_in_loops() -> None:
    torch.manual_seed(0)
    made = Refinement(4).eval()
    torch.nn.init.uniform_(made.edge_importance, -0.5, 1)
    x = torch.rand(2, 24, 4)
    refined = made(x)
    parents, joints = SMPL_24.parents, range(24)

    def ancestors(joint):
        return [] if parents[joint] < 0 else [parents[joint], *ancestors(parents[joint])]

    def near(i, j):  # how many bones join them; the neck and a shoulder count as neighbours
        if {i, j} in ({12, 16}, {12, 17}):
            return 2
        up = [[k, *ancestors(k)] for k in (i, j)]
        meet = next(k for k in up[0] if k in up[1])
        return up[0].index(meet) + up[1].index(meet)

    def layer(graph, net, k, value):
        out = torch.zeros(2, 24, net.gc[k].bias.shape[0])
        for i in joints:
            for j in joints:
                out[:, i] += graph[i][j] * (value[:, j] @ net.gc[k].weight)
            out[:, i] += net.gc[k].bias
        return (out / (1 + 1e-5) ** 0.5).relu()  # batch norm as it is before training

    collect = [[float(j in ancestors(i)) / max(1, len(ancestors(i))) for j in joints] for i in joints]
    around = [[j for j in joints if near(i, j) <= 1] for i in joints]
    convert = [[float(j in around[i]) / len(around[i]) for j in joints] for i in joints]
    edges = made.edge_importance[0].relu().tolist()
    mask = [[1.0 if i == j else edges[i][j] * (near(i, j) <= 2) for j in joints] for i in joints]
    degree = [sum(mask[i][j] for i in joints) for j in joints]
    refine = [[mask[i][j] / (degree[i] * degree[j]) ** 0.5 for j in joints] for i in joints]
    y = layer(collect, made.r2p_gcn, 0, x)  # eq. 7
    after = y
    for k in range(3):  # eq. 8 with the edges of eq. 9
        after = layer(refine, made.refine_gcn, k, after)
    torch.testing.assert_close(refined.positions[1], y + after, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(refined.features, layer(convert, made.p2r_gcn, 0, y + after), atol=1e-5, rtol=1e-4)


def test_a_roi_is_about_its_joint_and_as_large_as_the_foreground_says(backbone, features) -> None:
    """Eq. 2, and that the transformer cuts what it describes."""
    made = regressor_of(SMALL, backbone)
    dense = made.dense(features)
    maps = torch.zeros(8, 3, 25, 32, 32)
    maps[:, 2, 0] = 1
    maps[0, 2, 0, 4:20, 7:17] = 0
    maps[1, 2, 0, 30:, 5:31] = 0
    assert foreground_side(maps)[:3].tolist() == [16 / 32, 26 / 32, 1]  # nothing is seen in the third
    torch.nn.init.uniform_(made.alpha)
    centre, scale = made.regions(dataclasses.replace(dense, maps=maps))
    torch.testing.assert_close(scale[0], made.alpha * 0.5 + DELTA)
    heat = torch.full((1, 24, 32, 32), -9.0)
    heat[..., 5, 20] = 9
    assert soft_argmax(heat)[0, 3].tolist() == pytest.approx([20, 5], abs=1e-4)
    feature = torch.randn(1, 4, 16, 16)
    whole = crop_about(feature, torch.zeros(1, 24, 2), torch.ones(1, 24), 16)
    torch.testing.assert_close(whole[:, 7], feature, atol=1e-5, rtol=0)
    quarter = crop_about(feature, torch.full((1, 24, 2), 0.5), torch.full((1, 24), 0.5), 8)
    torch.testing.assert_close(quarter[0, 0], feature[0, :, 8:, 8:], atol=1e-5, rtol=0)
    assert crop_about(feature, torch.full((1, 24, 2), 3.0), torch.full((1, 24), 0.5), 8).abs().max() == 0
    assert centre.shape == (8, 24, 2)


def test_partdrop_leaves_whole_parts_out_of_all_maps() -> None:
    """Eq. 5: some parts are zero everywhere, the others and the background as they were."""
    torch.manual_seed(0)
    maps, partial = soft_maps(torch.randn(3, 3, 25, 8, 8)), soft_maps(torch.randn(3, 24, 3, 7, 4, 4))
    retained = torch.randint(0, 25, (24, 7))
    drop = DropParts("part", 0.3, 3, 24, torch.device("cpu"))
    found, cut = drop(maps), drop(partial, retained)
    for b in range(3):
        for p in range(25):
            kept = bool(drop.kept[b, p])
            assert torch.equal(found[b, :, p], maps[b, :, p] * kept)
            for joint, channel in (retained == p).nonzero().tolist():
                assert torch.equal(cut[b, joint, :, channel], partial[b, joint, :, channel] * kept)
    assert drop.kept[:, 0].all()
    assert 0 < (drop.kept == 0).sum() < 40
    for kind, longest in (("unit", 1), ("block", 3)):
        kept = DropParts(kind, 0.2, 3, 24, torch.device("cpu"))(torch.ones(3, 3, 25, 24, 24))
        assert torch.equal(kept[:, 0, 1], kept[:, 2, 24])
        assert kept[:, :, 0].all()
        share = float((kept[:, 0, 1] == 0).float().mean())
        assert 0.12 < share < 0.25
        holes = functional.max_pool2d(kept[:, :1, 1], longest, 1)  # zero only where a whole block is
        assert (holes == 0).any()


def test_iuv_images_are_those_of_the_mesh(body, truth) -> None:
    images = SurfacePoints(body).images(
        truth.global_orient, truth.body_pose, truth.betas, truth.transl_c, truth.focal_px / 256, 32
    )
    vertices = body(truth.global_orient, truth.body_pose, truth.betas, truth.transl_c).vertices
    faces = torch.as_tensor(body.faces).long()
    focal, middle = truth.focal_px[:, None].expand(8, 2) / 8, torch.tensor([16.0, 16.0])
    raster = rasterise(vertices, faces, focal, middle, (32, 32))
    seen = raster.face_index >= 0
    wanted = body_charts(body).at(raster.face_index[seen], raster.barycentrics[seen])
    found = images[seen]
    assert (found[:, 0] > 0).float().mean() > 0.97
    assert (images[~seen][:, 0] > 0).float().mean() < 0.06
    same = found[:, 0] == wanted[:, 0]
    assert same.float().mean() > 0.8
    assert (found - wanted)[same].abs().median(0).values.max() < 0.06


def test_people_without_images_have_the_global_streams_body(backbone, features) -> None:
    made = regressor_of(SMALL, backbone, moved=False)
    without = Features(features.global_feature, ())
    first = made.head(made.encoder(made.standardised(features.global_feature)))
    torch.testing.assert_close(flatten(made.regress(without)), flatten(first), atol=1e-6, rtol=0)
    # Before training the local streams correct nothing.
    torch.testing.assert_close(flatten(made.regress(features)), flatten(first), atol=1e-5, rtol=0)
    moved = regressor_of(SMALL, backbone)
    whole = flatten(moved.regress(features))
    assert (whole - flatten(moved.regress(without))).abs().max() > 1e-3
    one_by_one = torch.cat([flatten(moved.regress(select_rows(features, slice(i, i + 1)))) for i in range(8)])
    torch.testing.assert_close(one_by_one, whole, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_every_variant_of_the_paper_is_another_network_and_trains(backbone, features, truth, body) -> None:
    recipe = dataclasses.replace(danet.PRESETS["cpu"], network=SMALL)
    loss, seen = danet.DanetLoss(body, recipe.terms), set()
    features, truth = select_rows(features, slice(3)), select_rows(truth, slice(3))
    context = context_of(features, truth, body)
    for variant in danet.ABLATION:
        network = changed(recipe, variant.changes).network
        if network in seen:
            continue
        seen.add(network)
        made = regressor_of(network, backbone).train()
        value = loss(made, features, context, truth, body, LossWeights(vertices=0))
        value.backward()
        learned = {name.split(".")[0] for name, p in made.named_parameters() if p.grad is not None and p.grad.any()}
        assert torch.isfinite(value)
        assert ("local_streams" in learned) is (network.streams == "decomposed"), variant
        assert ("alpha" in learned) is (network.streams == "decomposed" and network.scales == "learned"), variant
        if network.refinement == "position" and network.streams == "decomposed":
            assert made.refinement.coord_regressors[1][1].weight.grad.any()
    assert len(seen) == 17


def test_orthogonality_is_zero_for_rotations_only(truth) -> None:
    for columns in (truth.body_pose, truth.body_pose[..., :2]):
        assert danet.orthogonality(columns) < 1e-3
        assert danet.orthogonality(1.1 * columns) > 0.2


def test_the_papers_claims_are_read_from_its_figures() -> None:
    results = [Result(v, {"PA-MPJPE mm": [min(v.paper.values(), default=99.0)]}) for v in danet.ABLATION]
    assert claims(results).count(": as in the paper") == 6


def test_two_steps_end_in_a_file_that_loads(examples, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(example_source, "STATISTICS_COUNT", 8)
    for folder in ("images", "images/held_out"):
        (tmp_path / folder).mkdir()
        save_state(examples.tensors(), tmp_path / folder / "examples-00000.safetensors")
    recipe = changed(danet.PRESETS["cpu"].with_steps(2), {"data.images": 8, "data.held_out": 8, "data.batch": 2})
    recipe = dataclasses.replace(recipe, network=SMALL)
    path = danet.train("danet", recipe, tmp_path, examples=tmp_path / "images")
    assert path.stat().st_size < 600_000  # the backbone's weights ship once
    found = load_regressor("danet", checkpoint=path)
    assert found.network == SMALL
    with torch.no_grad():
        assert torch.isfinite(flatten(found.regress(found.backbone.features(examples.observation)))).all()
