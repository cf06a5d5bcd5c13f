"""Training of regressors: losses that vanish at the truth, SPIN's fitting loop, the command from end to end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hmrkit.backbones import Landmarks, load_backbone
from hmrkit.backbones.embedded import FrozenMaps
from hmrkit.body import load_body
from hmrkit.body.landmarks import body_landmarks, world_from_local
from hmrkit.cli.app import app
from hmrkit.errors import InputError
from hmrkit.regressors import BodyEstimate, load_regressor
from hmrkit.regressors.crop_camera import crop_camera, project
from hmrkit.regressors.hmr import HmrNetwork
from hmrkit.synthetic import wardrobe
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training import example_source
from hmrkit.training import kept_examples as kept
from hmrkit.training.adversary import Adversary
from hmrkit.training.example_source import ImageData
from hmrkit.training.examples import Examples, Truth
from hmrkit.training.integral_head import train_points
from hmrkit.training.kept_examples import load_examples, make_examples
from hmrkit.training.keypoint_noise import true_points
from hmrkit.training.loop import LoopConfig
from hmrkit.training.losses import body_loss
from hmrkit.training.recipes import hmr
from hmrkit.training.spin_fits import LoopFit


@pytest.fixture(scope="module")
def body():
    return load_body()


@pytest.fixture(scope="module")
def truth(body) -> Truth:
    """Eight captured people, upright before the camera at four metres."""
    orient, pose, betas = PoseSampler("test")(8, torch.Generator().manual_seed(3))
    orient = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ orient
    transl, focal = torch.tensor([[0.1, 0.05, 4.0]]).repeat(8, 1), torch.full((8,), 400.0)
    joints = body.joints_only(orient, pose, betas).joints
    return Truth(orient, pose, betas, transl, focal, project(joints, crop_camera(transl, focal), focal))


def estimate_of(truth: Truth) -> BodyEstimate:
    camera = crop_camera(truth.transl_c, truth.focal_px)
    return BodyEstimate(truth.global_orient, truth.body_pose, truth.betas, camera)


def test_the_crop_camera_is_the_translation_that_it_stands_for(truth, body) -> None:
    joints = body.joints_only(truth.global_orient, truth.body_pose, truth.betas).joints + truth.transl_c[:, None]
    wanted = 400 * joints[..., :2] / joints[..., 2:] + 128
    torch.testing.assert_close(truth.joints_2d, wanted, atol=1e-3, rtol=0)


def test_the_loss_vanishes_at_the_truth_and_nowhere_near_it(truth, body) -> None:
    right = estimate_of(truth)
    assert float(body_loss(right, truth, body)) < 2e-3
    for change in (
        {"global_orient": truth.global_orient @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))},
        {"body_pose": truth.body_pose.roll(1, 0)},
        {"betas": truth.betas + 1},
        {"crop_camera": right.crop_camera * 1.2},
    ):
        assert float(body_loss(dataclasses.replace(right, **change), truth, body)) > 0.05


def test_the_adversary_learns_and_pushes_the_other_way(truth) -> None:
    torch.manual_seed(0)
    adversary = Adversary()
    flat = dataclasses.replace(estimate_of(truth), body_pose=torch.eye(3).expand(8, 23, 3, 3).clone().requires_grad_())
    solver = torch.optim.Adam(adversary.parameters(), 1e-3)
    losses = []
    for _ in range(60):
        solver.zero_grad()
        flat.body_pose.grad = None
        loss = adversary(flat, truth.body_pose, truth.betas)
        loss.backward()
        solver.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    # A step of the network against its gradient makes the discriminators' loss larger.
    moved = dataclasses.replace(flat, body_pose=(flat.body_pose - 0.05 * flat.body_pose.grad.sign()).detach())
    loss = adversary(flat, truth.body_pose, truth.betas)
    assert float(adversary(moved, truth.body_pose, truth.betas).detach()) > float(loss.detach())


@pytest.fixture
def unlabelled(truth, body) -> Examples:
    """The people's landmarks as a perfect network would see them; their bodies are unknown."""
    points = body_landmarks(body)
    local = torch.cat([truth.global_orient[:, None], truth.body_pose], 1)
    seen, _ = points(world_from_local(local), truth.betas)
    pixels = project(seen, crop_camera(truth.transl_c, truth.focal_px), truth.focal_px)
    landmarks = Landmarks(torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1), seen)
    unknown = {f.name: torch.full_like(getattr(truth, f.name), torch.nan) for f in dataclasses.fields(Truth)} | {
        "focal_px": truth.focal_px
    }
    return Examples(FrozenMaps(torch.zeros(8, 1), torch.zeros(8, 1), landmarks), Truth(**unknown))


def test_the_loop_finds_the_body_and_keeps_the_better_fit(truth, unlabelled, body) -> None:
    loop = LoopFit(unlabelled, body)
    rows = torch.arange(8)
    near = estimate_of(truth)
    rotation = torch.tensor(
        [[0.955, 0.0, 0.2955], [0.0, 1.0, 0.0], [-0.2955, 0.0, 0.955]]
    )  # 17 degrees about the vertical
    near = dataclasses.replace(near, global_orient=rotation @ near.global_orient, betas=near.betas * 0)
    made, good = loop(rows, near)
    assert good.all()
    error = loop.error_px.clone()
    assert error.max() < 5  # px, of a person 180 px tall
    joints = body.joints_only(made.global_orient, made.body_pose, made.betas).joints
    wanted = body.joints_only(truth.global_orient, truth.body_pose, truth.betas).joints
    start = body.joints_only(near.global_orient, near.body_pose, near.betas).joints
    assert (joints - wanted).norm(dim=-1).mean() < (start - wanted).norm(dim=-1).mean()
    # From a hopeless estimate nothing better is found, and the first fit stays.
    far = dataclasses.replace(near, crop_camera=near.crop_camera * 0.3 + 0.5)
    kept_fit, _ = loop(rows, far)
    assert (loop.error_px <= error).all()
    stays = loop.error_px == error
    torch.testing.assert_close(kept_fit.body_pose[stays], made.body_pose[stays])


def test_the_last_blocks_learn_in_a_copy(truth, body, tmp_path) -> None:
    torch.manual_seed(0)
    backbone = load_backbone("embedded", weights=None)
    maps = FrozenMaps(torch.randn(8, 192, 16, 16), torch.randn(8, 272, 8, 8), true_points(truth, body).landmarks)
    examples = Examples(maps, truth)
    backbone.init_from(maps)
    published = backbone._network.trunk.stride32[1].state_dict()
    before = {name: value.clone() for name, value in published.items()}
    train_points(backbone, lambda _: examples, examples, body, LoopConfig(2, warmup=0), tmp_path, False)
    for name, value in backbone.integral.last_blocks[0].state_dict().items():
        assert torch.equal(published[name], before[name])
        # The small filters stay as they were, too.
        assert torch.equal(value, before[name]) == name.startswith("depthwise"), name


def test_kept_examples_are_the_same_whoever_makes_them_and_stay(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(kept, "SHARD", 4)
    monkeypatch.setattr(kept, "_EXAMPLES_AT_ONCE", 4)
    backbone = load_backbone("embedded", weights=None)
    device = torch.device("cpu")
    make_examples(tmp_path / "one", 8, backbone, device)
    # The first shard is being made by another run, which was killed long ago: the second is made first.
    lock = tmp_path / "two" / "examples-00000.lock"
    lock.parent.mkdir()
    lock.touch()
    monkeypatch.setattr(kept, "_STALE_SECONDS", 1.0)
    make_examples(tmp_path / "two", 8, backbone, device)
    assert not lock.exists()
    first, second = ((tmp_path / "two" / f"examples-0000{k}.safetensors").stat().st_mtime_ns for k in (0, 1))
    assert second < first
    one, two = (load_examples(tmp_path / name, 6, backbone).tensors() for name in ("one", "two"))
    for name, value in one.items():
        assert len(value) == 6
        np.testing.assert_array_equal(value, two[name])
    assert not torch.equal(one["betas"][:2], one["betas"][4:6])
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "one").iterdir()}
    make_examples(tmp_path / "one", 8, backbone, device)
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "one").iterdir()}
    with pytest.raises(InputError, match="wanted 9 examples, found 8"):
        load_examples(tmp_path / "one", 9, backbone)


@pytest.mark.parametrize("method", ["hmr", pytest.param("spin", marks=pytest.mark.slow)])
def test_the_command_trains_resumes_and_writes_what_loads(tmp_path, monkeypatch, method) -> None:
    monkeypatch.setattr(kept, "SHARD", 8)
    monkeypatch.setattr(kept, "_EXAMPLES_AT_ONCE", 8)
    monkeypatch.setattr(example_source, "STATISTICS_COUNT", 4)
    monkeypatch.setattr(wardrobe, "PATTERNS", dict.fromkeys(wardrobe.PATTERNS, 8))
    whole = hmr.PRESETS["cpu"]
    small = dataclasses.replace(whole, data=dataclasses.replace(whole.data, batch=4, held_out=4))
    monkeypatch.setitem(hmr.PRESETS, "cpu", small)
    line = ["train", method, "--out", str(tmp_path), "--images", "8", "--device", "cpu"]
    line += ["--adversarial"] if method == "hmr" else ["--loop-fit", "tests/data/one_by_one_5s.mp4"]
    first = CliRunner().invoke(app, [*line, "--steps", "1"])
    assert first.exit_code == 0, first.output
    again = CliRunner().invoke(app, [*line, "--steps", "2", "--resume"])
    assert again.exit_code == 0, again.output
    path = tmp_path / f"{method}.safetensors"
    assert again.stdout.strip() == str(path)
    assert (tmp_path / "curve.png").stat().st_size > 1000
    regressor = load_regressor(method, checkpoint=path)
    crops = torch.rand(2, 3, 256, 256)
    one, both = regressor(crops[:1]), regressor(crops)
    torch.testing.assert_close(one.body_pose, both.body_pose[:1], atol=1e-4, rtol=0)


def test_a_short_run_keeps_fewer_images() -> None:
    whole = hmr.PRESETS["cpu"]
    short = whole.with_steps(300)
    assert (short.points.steps, short.loop.steps) == (300, 300)
    # As often seen as in a whole run, and no more than a few minutes' worth.
    assert short.data.images / short.points.steps == pytest.approx(whole.data.images / whole.points.steps, rel=0.01)
    assert whole.with_steps(2).data.images == kept.SHARD
    assert whole.with_steps(10**6) == whole
    assert hmr.PRESETS["gpu"].with_steps(300).data.images == 0


@pytest.mark.slow
def test_without_kept_images_every_step_gets_new_ones(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(kept, "SHARD", 8)
    monkeypatch.setattr(kept, "_EXAMPLES_AT_ONCE", 8)
    monkeypatch.setattr(example_source, "NOISE_POOL", 8)
    monkeypatch.setattr(example_source, "STATISTICS_COUNT", 8)
    small = dataclasses.replace(
        hmr.PRESETS["gpu"],
        data=ImageData(batch=4, held_out=8),
        network=HmrNetwork(hidden=32),
        loop=LoopConfig(2, warmup=0),
    )
    small = small.with_steps(2)
    path = hmr.train("hmr", small, tmp_path)
    assert not (tmp_path / "images").exists()
    before = load_regressor("hmr", checkpoint=path)
    path = hmr.train("hmr", small.with_steps(1), tmp_path / "next", start=path)
    after = load_regressor("hmr", checkpoint=path)
    # What began from trained weights keeps their integral head and moves the rest.
    for (name, one), other in zip(before.state_dict().items(), after.state_dict().values(), strict=True):
        if name.startswith(("backbone.", "feature_")):
            assert torch.equal(one, other), name
    assert not torch.equal(before.head.decpose.weight, after.head.decpose.weight)
