"""Samples, loop and recipe of the lifter."""

import json
import sys
from dataclasses import asdict, replace
from types import ModuleType

import numpy as np
import pytest
import torch
from made_keypoints import waving
from made_motion import EXCERPT, both_splits

from hmrkit.body import load_body
from hmrkit.body.landmarks import world_from_local
from hmrkit.errors import InputError, UsageError
from hmrkit.lifters import LIFTERS, load_lifter
from hmrkit.lifters.semgcn import SemGCNSize
from hmrkit.lifters.videopose3d import RayNet, RayNetSize
from hmrkit.skeletons import COCO_17, H36M_16, H36M_17, SMPL_24
from hmrkit.synthetic.mocap import load_motion
from hmrkit.training import lifter as training
from hmrkit.training.lifter_samples import LifterSampler, SkinnedKeypoints, chain
from hmrkit.training.lifter_views import CLEAN
from hmrkit.training.loop import LoopConfig, fit, schedule
from hmrkit.training.recipes.semgcn import PRESETS as SEMGCN_PRESETS
from hmrkit.training.recipes.semgcn import SemGCNRecipe
from hmrkit.training.recipes.videopose3d import PRESETS, VideoPose3DRecipe, train
from hmrkit.weights import read_metadata


@pytest.fixture(scope="module")
def motion():
    return load_motion(EXCERPT, "all")


def test_points_are_the_bodys_own(motion):
    """Keypoints and joints by the short way equal those of the skinned mesh."""
    local = torch.from_numpy(motion.local_rotations[::90])
    body = load_body()
    output = body(local[:, 0], local[:, 1:], pose_blend=False)
    keypoints, joints = SkinnedKeypoints.shared()(
        chain(local.permute(1, 2, 3, 0)[:, :, :, None]),
        torch.zeros(3, 1, len(local)),
        torch.zeros(1, 10),
        torch.ones(1, 24),
    )
    named = [body.keypoint_names.index(name) for name in COCO_17.joints]
    wanted = body.keypoints(output.vertices)[:, named]
    pelvis = output.joints[:, :1]
    torch.testing.assert_close(keypoints[0], wanted - pelvis, atol=2e-4, rtol=0)
    for name in ("left_knee", "right_wrist", "left_shoulder"):
        mine, theirs = joints[0, :, H36M_17.index[name]], output.joints[:, SMPL_24.index[name]] - pelvis[:, 0]
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=0)


def test_chain_is_world_rotations(motion):
    local = torch.from_numpy(motion.local_rotations[:7])
    torch.testing.assert_close(chain(local.permute(1, 2, 3, 0)).permute(3, 0, 1, 2), world_from_local(local))


def test_samples_repeat_and_fit_one_camera(motion):
    sampler = LifterSampler(motion, 20, replace(CLEAN, cut=0), known=1.0)
    samples, again = (sampler(6, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(samples.keypoints, again.keypoints)
    # Clean keypoints and joints fit one camera: a translation exists that projects limbs' joints near their keypoints.
    from hmrkit.camera import project, solve_translation
    from hmrkit.types import Camera

    camera = Camera(np.ones(2, np.float32), np.zeros(2, np.float32), 1, 1)
    names = [
        n for n in COCO_17.joints if n in H36M_17.index and n.split("_")[-1] in ("knee", "ankle", "elbow", "wrist")
    ]
    for keypoints, joints in zip(samples.keypoints.numpy(), samples.joints_c.numpy(), strict=True):
        rays, points = keypoints[:, COCO_17.indices(*names), :2], joints[:, H36M_17.indices(*names)]
        moved = points + solve_translation(camera, points, rays, np.ones(rays.shape[:2]))[:, None]
        size = np.ptp(rays[..., 1], 1).mean()
        assert np.abs(project(camera, moved) - rays).mean() < 0.06 * size


def test_noise_is_as_large_as_it_says(motion):
    noise = replace(CLEAN, clean=0, jitter=0.0, offset=0.03, drift=0, exact=True)
    flawed, clean = (
        LifterSampler(motion, 30, n, known=1.0)(64, torch.Generator().manual_seed(5)) for n in (noise, CLEAN)
    )
    torch.testing.assert_close(flawed.joints_c, clean.joints_c)
    offset = flawed.keypoints[..., :2] - clean.keypoints[..., :2]
    assert offset.diff(dim=1).abs().max() < 1e-4
    height = (clean.keypoints[..., 1].amax(-1) - clean.keypoints[..., 1].amin(-1)).mean(-1)
    assert float((offset[:, 0] / height[:, None, None]).std()) == pytest.approx(0.03, rel=0.1)


def test_full_noise_is_finite_and_drops_joints(motion):
    samples = LifterSampler(motion, 40)(32, torch.Generator().manual_seed(0))
    assert torch.isfinite(samples.keypoints).all()
    assert torch.isfinite(samples.joints_c).all()
    gone = (samples.keypoints[..., 2] == 0).float().mean()
    assert 0.02 < gone < 0.5


def test_loop_resumes_where_it_was(tmp_path):
    def loss(network, generator):
        x = torch.randn(8, 3, generator=generator)
        return (network(x) - x.sum(-1, keepdim=True)).square().mean()

    def network():
        torch.manual_seed(0)
        return torch.nn.Linear(3, 1)

    config = LoopConfig(steps=10, warmup=2, learning_rate=0.2, log_every=5)
    whole = fit(network(), loss, config, tmp_path / "whole")
    stopped = tmp_path / "parts"

    class Stop(Exception):
        pass

    def stopping(model, generator):
        stopping.count += 1
        if stopping.count > 4:
            raise Stop
        return loss(model, generator)

    stopping.count = 0
    with pytest.raises(Stop):
        fit(network(), stopping, replace(config, checkpoint_seconds=-1), stopped)
    parts = fit(network(), loss, config, stopped, resume=True)
    for mine, other in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    assert (stopped / "curve.png").stat().st_size > 1000
    before, after = (loss(net, torch.Generator().manual_seed(9)).item() for net in (network(), parts))
    assert after < 0.5 * before
    with pytest.raises(InputError, match="--resume"):
        fit(network(), loss, config, tmp_path / "nothing", resume=True)
    with pytest.raises(InputError, match="another network"):
        fit(torch.nn.Linear(2, 1), loss, config, stopped, resume=True)
    (stopped / "checkpoint.pt").write_bytes((stopped / "checkpoint.pt").read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot read it"):
        fit(network(), loss, config, stopped, resume=True)


def test_schedule_warms_up_and_ends_low():
    config = LoopConfig(steps=100, warmup=10)
    assert schedule(0, config) == pytest.approx(0.1)
    assert schedule(10, config) == pytest.approx(1.0)
    assert schedule(99, config) < 0.02


def test_a_short_run_has_a_curve_and_ends_at_a_low_rate(tmp_path):
    config = LoopConfig(steps=12_000, learning_rate=1e-3, warmup=300, log_every=100).with_steps(60)
    assert schedule(6, config) == pytest.approx(1.0)
    assert schedule(59, config) < 0.02
    errors = iter(range(99))
    fit(torch.nn.Linear(2, 1), lambda net, _: net(torch.ones(1, 2)).square().mean(), config, tmp_path,
        evaluate=lambda _: {"error": float(next(errors))})  # fmt: skip
    curve = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["curve"]
    assert len(curve) == 20
    assert [step for step, _, scores in curve if scores] == [15, 30, 45, 60]
    whole = LoopConfig(steps=12_000, warmup=300)
    assert whole.with_steps(12_000) == whole


def test_recipe_makes_weights_that_load(tmp_path, monkeypatch):
    small = replace(PRESETS["cpu"], network=RayNetSize(width=32), batch=4, frames=24)
    monkeypatch.setitem(PRESETS, "cpu", small)
    both_splits(tmp_path / "motion.npz")
    path = training.train_lifter(tmp_path / "motion.npz", tmp_path / "run", steps=3)
    metadata = read_metadata(path)
    assert RayNetSize(**json.loads(metadata["network"])).width == 32
    recipe = json.loads(metadata["recipe"])
    assert recipe == json.loads(json.dumps(asdict(replace(small, loop=small.loop.with_steps(3)))))
    lifter = load_lifter("videopose3d", checkpoint=path)
    scores = training.evaluate_lifter(lifter, EXCERPT, cameras=1)
    assert scores["clean"]["frames"] == np.load(EXCERPT)["starts"][-1]
    assert scores["clean"]["mpjpe_mm"] > 100  # three steps teach nothing: the measure must say so
    with pytest.raises(UsageError, match="gpu"):
        training.train_lifter(tmp_path / "motion.npz", tmp_path, preset="huge")
    with pytest.raises(UsageError, match="videopose3d"):
        training.train_lifter(tmp_path / "motion.npz", tmp_path, name="toy")


def test_semgcn_trains_on_rays_and_lifts_to_its_own_joints(tmp_path, monkeypatch):
    small = SemGCNRecipe(
        network=SemGCNSize(width=16, blocks=1), loop=LoopConfig(steps=9, learning_rate=1e-2), batch=4, frames=28
    )
    monkeypatch.setitem(SEMGCN_PRESETS, "cpu", small)
    path = training.train_lifter(both_splits(tmp_path / "motion.npz"), tmp_path / "run", steps=3, name="semgcn")
    assert read_metadata(path)["output_skeleton"] == H36M_16.name
    lifter = load_lifter("semgcn", checkpoint=path)
    joints = lifter(waving(20), width=1280, height=720, fps=30.0)
    assert joints.shape == (20, 16, 3)
    assert np.linalg.norm(joints[:, H36M_16.index["head_top"]], axis=-1).min() > 0
    assert training.evaluate_lifter(lifter, EXCERPT, cameras=1)["clean"]["mpjpe_mm"] > 50


def test_training_begins_from_weights_with_fewer_blocks(tmp_path, monkeypatch):
    few = replace(PRESETS["cpu"], network=RayNetSize(width=16, dilations=(1,)), batch=2, frames=9)
    more = replace(few, network=RayNetSize(width=16, dilations=(1, 3)), loop=replace(few.loop, learning_rate=0.0))
    for name, preset in (("few", few), ("more", more)):
        monkeypatch.setitem(PRESETS, name, preset)
    motion = both_splits(tmp_path / "motion.npz")
    first = train(tmp_path / "few", motion, "few", steps=1)
    second = train(tmp_path / "more", motion, "more", steps=1, start=first)
    points = waving(20)
    mine, theirs = (load_lifter(checkpoint=p)(points, width=1280, height=720, fps=30.0) for p in (second, first))
    np.testing.assert_array_equal(mine, theirs)


def test_a_second_recipe_is_presets_and_a_call(tmp_path, monkeypatch):
    presets = {"cpu": VideoPose3DRecipe(network=RayNetSize(width=8), loop=LoopConfig(steps=9), batch=2, frames=9)}

    def train_dummy(out, motion, preset, steps, device, resume, start):
        recipe = training.choose_preset(presets, preset, steps)
        return training.train_ray_network(RayNet, recipe, motion, out / "dummy.safetensors", device, resume, start)

    module = ModuleType("dummy_recipe")
    module.train = train_dummy
    monkeypatch.setitem(sys.modules, "dummy_recipe", module)
    monkeypatch.setitem(LIFTERS, "dummy", replace(LIFTERS["videopose3d"], recipe="dummy_recipe"))
    path = training.train_lifter(both_splits(tmp_path / "motion.npz"), tmp_path / "run", steps=2, name="dummy")
    assert json.loads(read_metadata(path)["recipe"])["loop"]["steps"] == 2
    assert load_lifter("dummy", checkpoint=path).receptive_field == RayNet(RayNetSize(width=8)).receptive_field


def test_errors_of_a_perfect_and_of_a_rotated_pose(motion):
    joints = torch.randn(5, 17, 3, generator=torch.Generator().manual_seed(0))
    joints = joints - joints[:, :1]
    rotated = 1.3 * joints @ torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    plain, aligned = training.joint_errors_mm(joints, joints)
    assert plain.max() < 1e-3
    assert aligned.max() < 1e-2
    rotated = rotated if torch.linalg.det(torch.linalg.lstsq(joints[0, 1:], rotated[0, 1:]).solution) > 0 else -rotated
    plain, aligned = training.joint_errors_mm(rotated, joints)
    assert plain.min() > 50
    assert aligned.max() < 1e-2


def test_shipped_weights_lift_held_out_motion():
    """The excerpt is held-out walking, jumping and fighting; the card has the figures of all held-out clips."""
    scores = training.evaluate_lifter(load_lifter(), EXCERPT, cameras=2)
    assert scores["clean"]["mpjpe_mm"] < 60
    assert scores["noise"]["mpjpe_mm"] < 95


def test_a_part_may_learn_slowly(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
    before = [p.detach().clone() for p in network.parameters()]
    config = LoopConfig(steps=1, warmup=0, learning_rate=0.1, weight_decay=0.0, slow_part="1.", slow_rate=0.2)
    fit(network, lambda model, _: model(torch.ones(2, 3)).square().sum(), config, tmp_path)
    # Adam's first step is as long as its rate.
    steps = [float((new.detach() - old).abs().max()) for new, old in zip(network.parameters(), before, strict=True)]
    assert steps == pytest.approx([0.1, 0.1, 0.02, 0.02], rel=1e-2)
