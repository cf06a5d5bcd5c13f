"""HKMR: its equations against plain loops over joints, what the chains depend on, training in both uses."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import fields

import pytest
import torch
from seeded_weights import seeded_crops

from hmrkit.backbones import Features, load_backbone
from hmrkit.body import load_body
from hmrkit.regressors import BodyEstimate, load_regressor
from hmrkit.regressors.crop_camera import crop_camera
from hmrkit.regressors.hkmr import HkmrNetwork, IteratedEstimate, build, network_on
from hmrkit.regressors.hkmr_chains import DEPENDENT_CHAINS, ROOT_CHAIN, SIZE, ChainGroup
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training import kept_examples as kept
from hmrkit.training.examples import Examples, Truth
from hmrkit.training.loop import LoopConfig
from hmrkit.training.losses import LossWeights, body_loss
from hmrkit.training.pose_vae import PoseVae, normal_divergence
from hmrkit.training.recipe import changed
from hmrkit.training.recipes import hkmr as recipe
from hmrkit.weights import load_state

CHAINS = list(DEPENDENT_CHAINS.values())
NETWORK = HkmrNetwork(hidden=16, embedding=8)
DESIGNS = [{}, {"joint_hierarchy": False}, {"backward": False}, {"inner": 6}]


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """With weights of which none is zero: residuals of earlier joints count."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def plain_group(group: ChainGroup, chains, feature, betas, pose, design) -> torch.Tensor:
    """Section 3.2 written down joint by joint: equation 1 along each chain, equation 2 back again."""
    pose, given = pose.clone(), pose.clone()
    width = group.second.shape[-1]
    relu = torch.nn.functional.relu
    for c, names in enumerate(chains):
        joints, rows = SMPL_24.indices(*names), slice(c * width, (c + 1) * width)

        def embedding(theta, c=c, rows=rows, joints=joints):
            first = feature @ group.from_feature.weight[rows].T + group.from_feature.bias[rows]
            first = first + betas @ group.from_betas.weight[rows].T
            if group.from_root is not None:
                root = given[:, SMPL_24.indices(*ROOT_CHAIN)].flatten(1)
                first = first + root @ group.from_root.weight[rows].T
            first = first + theta.flatten(1) @ group.from_pose[c, : len(joints) * SIZE]
            return relu(relu(first) @ group.second[c] + group.second_bias[rows])

        theta = pose[:, joints]
        for p in range(design.get("inner", 4)):
            back = p % 2 == 1 and design.get("backward", True)
            layer = group.passes[int(back)]
            psi, deltas = embedding(theta), {}
            order = range(len(joints))[::-1] if back else range(len(joints))
            for i in order:
                to = slice(i * SIZE, (i + 1) * SIZE)
                seen = list(deltas) if design.get("joint_hierarchy", True) else list(deltas)[-1:]
                delta = psi @ layer.weight[c, :, to] + layer.bias.view(len(chains), -1)[c, to]
                for j in seen:
                    delta = delta + deltas[j] @ layer.earlier[c, j * SIZE : (j + 1) * SIZE, to]
                deltas[i] = delta
            theta = theta + torch.stack([deltas[i] for i in range(len(joints))], 1)
        pose[:, joints] = theta
    return pose


@torch.no_grad()
@pytest.mark.parametrize("design", DESIGNS, ids=str)
@pytest.mark.parametrize("chains", [[ROOT_CHAIN], CHAINS], ids=["root", "dependent"])
def test_a_group_of_chains_is_the_papers_loop_over_joints(design, chains, rng) -> None:
    options = {"inner": 4} | design
    group = shaken(ChainGroup(chains, 7, 8, reads_root=chains is CHAINS, **options))
    feature, betas, pose = (torch.randn(size, generator=rng) for size in ((3, 7), (3, 10), (3, 24, SIZE)))
    found = group(group.read(feature), betas, pose)
    torch.testing.assert_close(found, plain_group(group, chains, feature, betas, pose, design), atol=1e-3, rtol=1e-4)
    others = [i for i in range(24) if i not in SMPL_24.indices(*(joint for chain in chains for joint in chain))]
    assert torch.equal(found[:, others], pose[:, others])


def test_the_six_chains_hold_every_joint_once_from_parent_to_child() -> None:
    assert sorted(joint for chain in (ROOT_CHAIN, *CHAINS) for joint in chain) == sorted(SMPL_24.joints)
    for chain in (ROOT_CHAIN, *CHAINS):
        for parent, child in itertools.pairwise(chain):
            assert SMPL_24.parent_names[SMPL_24.index[child]] == parent
    assert {SMPL_24.parent_names[SMPL_24.index[chain[0]]] for chain in CHAINS} <= set(ROOT_CHAIN)


@torch.no_grad()
def test_the_dependent_chains_follow_the_root_chain_and_not_each_other(rng) -> None:
    group = shaken(ChainGroup(CHAINS, 7, 8, reads_root=True))
    read, betas, pose = group.read(torch.randn(1, 7, generator=rng)), torch.zeros(1, 10), torch.randn(1, 24, SIZE)
    for moved, follows in (("spine2", set(DEPENDENT_CHAINS)), ("left_knee", {"left leg"})):
        other = pose.clone()
        other[:, SMPL_24.index[moved]] += 0.5
        step = (group(read, betas, other) - other) - (group(read, betas, pose) - pose)
        for name, chain in DEPENDENT_CHAINS.items():
            assert bool((step[:, SMPL_24.indices(*chain)].abs() > 1e-5).any()) == (name in follows), (moved, name)


@torch.no_grad()
def test_each_outer_iteration_refines_the_previous_one(rng) -> None:
    """An iteration's estimate does not depend on how many follow; people without maps have an estimate, each by
    itself."""
    regressors = [build("hkmr", dataclasses.replace(NETWORK, outer=outer)) for outer in (1, 3)]
    for regressor in regressors:
        shaken(regressor.shape), shaken(regressor.camera), shaken(regressor.root), regressor.eval()
    regressors[0].load_state_dict(regressors[1].state_dict())
    one, three = regressors
    features = Features(torch.randn(4, one.backbone.global_channels, generator=rng), ())
    estimates = three.regress(features).iterations()
    assert len(estimates) == 3
    assert len(one.regress(features).iterations()) == 1
    for name, value in vars(one.regress(features).iterations()[0]).items():
        torch.testing.assert_close(value, getattr(estimates[0], name), atol=1e-5, rtol=0)
        assert not torch.equal(value, getattr(estimates[1], name))
    alone = three.regress(Features(features.global_feature[:1], ()))
    torch.testing.assert_close(alone.body_pose, estimates[-1].body_pose[:1], atol=1e-4, rtol=0)


def test_it_starts_from_a_person_who_faces_the_camera() -> None:
    regressor = build("hkmr", NETWORK).eval()
    for parameter in regressor.parameters():
        torch.nn.init.zeros_(parameter)
    estimate = regressor.regress(Features(torch.randn(2, regressor.backbone.global_channels), ()))
    assert torch.equal(estimate.global_orient, torch.diag(torch.tensor([1.0, -1, -1])).expand(2, 3, 3))
    assert torch.equal(estimate.body_pose, torch.eye(3).expand(2, 23, 3, 3))
    assert torch.equal(estimate.crop_camera, torch.tensor([[0.9, 0, 0]]).expand(2, 3))


@torch.no_grad()
def test_other_backbones_have_the_papers_form_chains_directly_on_the_feature() -> None:
    regressor = load_regressor("hkmr", weights=None, backbone="resnet50")
    assert regressor.network == network_on("resnet50")
    assert not any(key.startswith(("encoder.", "feature_")) for key in regressor.state_dict())
    assert regressor(seeded_crops(2, *regressor.input_size)).body_pose.shape == (2, 23, 3, 3)


def test_the_loss_is_the_sum_over_the_outer_iterations(rng) -> None:
    """Equation 3, from single iterations' losses."""
    body = load_body()
    orient, pose, betas = PoseSampler("test")(6, rng)
    transl, focal = torch.tensor([[0.1, 0.05, 4.0]]).repeat(3, 1), torch.full((3,), 400.0)
    truth = Truth(orient[:3], pose[:3], betas[:3], transl, focal, torch.full((3, 24, 2), 128.0))
    camera = crop_camera(transl, focal)
    first = BodyEstimate(orient[3:], pose[3:], betas[3:], camera * 1.1)
    second = BodyEstimate(orient[[1, 3, 5]], pose[[1, 3, 5]], betas[[1, 3, 5]], camera)
    vae, weights = PoseVae(), LossWeights(vertices=0)
    found = recipe.HkmrLoss(vae, 0.2)(IteratedEstimate(**vars(second), earlier=(first,)), truth, body, weights)
    wanted = sum(body_loss(e, truth, body, weights) + 0.2 * vae.divergence(e.body_pose).mean() for e in (first, second))
    torch.testing.assert_close(found, wanted)


def test_the_priors_divergence_is_that_of_normal_distributions(rng) -> None:
    mean, log_variance = torch.randn(5, 3, generator=rng), torch.randn(5, 3, generator=rng)
    one = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    wanted = torch.distributions.kl_divergence(one, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(normal_divergence(mean, log_variance), wanted)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The cpu preset, made small, with its own folder of eight kept images."""
    sizes = {"network": NETWORK, "data.batch": 4, "data.images": 8, "data.held_out": 2}
    preset = changed(recipe.PRESETS["cpu"], sizes | {name: LoopConfig(1, warmup=0) for name in ("loop", "vae")})
    folder, device, backbone = tmp_path_factory.mktemp("images"), torch.device("cpu"), load_backbone("embedded")
    with pytest.MonkeyPatch.context() as patch:
        for place, count, split in ((folder, 8, "train"), (folder / "held_out", 2, "test")):
            patch.setattr(kept, "SHARD", count)
            patch.setattr(kept, "_EXAMPLES_AT_ONCE", count)
            kept.make_examples(place, count, backbone, device, split)
    return preset, folder


def test_training_resumes_and_ends_in_a_file_that_loads(small, tmp_path, monkeypatch) -> None:
    """Also in its other use, with clips whose bodies a fitting loop supplies (section 3.4)."""
    preset, folder = small

    def unlabelled(clips, regressor, device) -> Examples:
        examples = kept.load_examples(folder, 4, regressor.backbone)
        unknown = {f.name: torch.full_like(getattr(examples.truth, f.name), torch.nan) for f in fields(Truth)}
        return Examples(examples.observation, Truth(**unknown | {"focal_px": examples.truth.focal_px})).to(device)

    monkeypatch.setattr(recipe, "clip_examples", unlabelled)
    recipe.train("hkmr", preset, tmp_path, examples=folder)
    longer = changed(preset, {"loop.steps": 2, "losses.clips_every": 1})
    path = recipe.train("hkmr", longer, tmp_path, examples=folder, resume=True, clips=["a clip"])
    assert (tmp_path / "vae" / "checkpoint.pt").is_file()
    found = load_regressor("hkmr", checkpoint=path)
    assert found.network == NETWORK
    # The shipped backbone stays and is left out of the file.
    assert not any(key.startswith("backbone.") for key in load_state(path))
    assert found(seeded_crops(1, *found.input_size)).betas.isfinite().all()


def test_a_discriminator_may_stand_for_the_autoencoder(small, tmp_path) -> None:
    preset, folder = small
    path = recipe.train("hkmr", changed(preset, {"prior": "discriminator"}), tmp_path, examples=folder)
    assert not (tmp_path / "vae").exists()
    assert not any(key.startswith("adversary.") for key in load_state(path))


def test_the_ablation_has_the_papers_lines() -> None:
    preset = recipe.PRESETS["cpu"]
    designs = {v.name: changed(preset, v.changes) for v in recipe.ABLATION}
    assert designs["full model"] == designs["3"] == preset == changed(preset, {"network.inner": 4})
    assert [v.paper["Human3.6M P1 MPJPE mm"] for v in recipe.ABLATION if v.group == "regressor"] == [
        77.10, 75.99, 74.21, 71.08,
    ]  # fmt: skip
