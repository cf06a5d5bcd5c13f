"""Learning PC-HMR's A and W: pairs that err as measured, a training that helps, shipped weights that beat geometry."""

import json

import pytest
import torch
from made_motion import both_splits
from torch.testing import assert_close
from typer.testing import CliRunner

from hmrkit.body import load_body
from hmrkit.body.landmarks import world_from_local
from hmrkit.calibration import load_calibration
from hmrkit.cli.app import app
from hmrkit.errors import UsageError
from hmrkit.geometry import rigid_align
from hmrkit.lifters import load_lifter
from hmrkit.skeletons import H36M_17, SMPL_24
from hmrkit.training import calibration
from hmrkit.training.calibration_samples import ClipSampler, PairSampler
from hmrkit.weights import find_weights, load_state

BODY = load_body()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_pairs_err_as_the_shipped_regressors_do():
    """Figures of `hmr` in weights/regressors/README.md: MPJPE 88, PA-MPJPE 65, PVE 100 mm, MPJAE 24.5 degrees."""
    pairs = PairSampler("test")(256, seeded(0))
    (mesh, joints), (true_mesh, true_joints) = pairs.estimated.posed(BODY), pairs.true.posed(BODY)
    rotation, scale, translation = rigid_align(joints, true_joints, scale=True)
    aligned = scale[:, None, None] * joints @ rotation.mT + translation[:, None]
    world = [
        world_from_local(torch.cat([b.global_orient[:, None], b.body_pose], 1)) for b in (pairs.estimated, pairs.true)
    ]
    cosine = ((world[0] @ world[1].mT).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    measured = [
        1000 * (joints - true_joints).norm(dim=-1).mean(),
        1000 * (aligned - true_joints).norm(dim=-1).mean(),
        1000 * (mesh - true_mesh).norm(dim=-1).mean(),
        torch.rad2deg(cosine.clamp(-1, 1).acos()).mean(),
    ]
    assert_close(torch.stack(measured), torch.tensor([88.0, 65.0, 100.0, 24.5]), rtol=0.1, atol=0)


def test_pairs_are_the_same_for_the_same_seed_and_upright_in_the_image():
    first, again = (PairSampler("test")(64, seeded(3)) for _ in range(2))
    assert_close(first.estimated.body_pose, again.estimated.body_pose, rtol=0, atol=0)
    assert not torch.equal(first.true.betas, PairSampler("test")(64, seeded(4)).true.betas)
    joints = BODY.joints_only(first.true.global_orient, first.true.body_pose, first.true.betas).joints
    assert ((joints[:, 15] - joints[:, 0])[:, 1] < 0).float().mean() > 0.8  # heads above pelvises: y points down


def test_clips_give_a_lifter_and_a_mesh_stream_the_same_people(tmp_path):
    """The bodies' joints, seen by the clips' camera, are those of the lifter up to size."""
    clips = ClipSampler(both_splits(tmp_path / "motion.npz"), frames=19, every=9)(2, seeded(0))
    _, joints = clips.pairs.true.posed(BODY)
    names = ("left_knee", "right_knee", "left_ankle", "right_ankle", "left_elbow", "right_wrist")
    own = joints[:, SMPL_24.indices(*names)]
    seen = clips.seen.joints_c[:, ::9, H36M_17.indices(*names)].flatten(0, 1)
    _, scale, _ = rigid_align(seen.flatten(0, 1)[None], own.flatten(0, 1)[None], scale=True)
    hips = joints[:, SMPL_24.indices("left_hip", "right_hip")].mean(1, keepdim=True)
    assert 0.85 < float(scale) < 1.15
    for clip in range(2):  # the size is that of the person, so of the clip
        rows = slice(3 * clip, 3 * clip + 3)
        size = (own[rows] - hips[rows]).norm() / seen[rows].norm()
        assert ((own - hips)[rows] - size * seen[rows]).norm(dim=-1).max() < 0.03
    estimated = clips.pairs.estimated.posed(BODY)[1]
    assert 0.03 < (estimated - joints).norm(dim=-1).mean() < 0.2


@pytest.fixture
def small(monkeypatch):
    """Batches and held-out people few enough for a test."""
    for name, count in (("PEOPLE", 4), ("CLIPS", 1), ("HELD_OUT_PEOPLE", 48), ("HELD_OUT_CLIPS", 2)):
        monkeypatch.setattr(calibration, name, count)


def test_a_training_of_few_steps_goes_on_where_it_stopped_and_lowers_the_error(tmp_path, small):
    motion = both_splits(tmp_path / "motion.npz")
    calibration.train_calibration(BODY, tmp_path / "run", "alone", steps=4)
    arguments = ["--motion", str(motion), "--out", str(tmp_path / "run"), "--device", "cpu", "--steps", "8"]
    result = CliRunner().invoke(app, ["train", "calibration", *arguments, "--resume"])
    assert result.exit_code == 0, result.output
    assert "held_out.json" in result.stdout
    errors = json.loads((tmp_path / "run/held_out.json").read_text())
    assert errors["true"]["learned"] < errors["true"]["geometric"] < errors["true"]["geometric rigid"]
    assert errors["lifted"].keys() == errors["true"].keys()
    assert load_calibration(BODY, tmp_path / "run/hmrkit-body-0.safetensors").model_id == BODY.topology_id
    before = load_state(find_weights("lifter/videopose3d.safetensors"))["head.weight"].float()
    after = load_state(tmp_path / "run/lifter.safetensors")["head.weight"].float()
    load_lifter(checkpoint=tmp_path / "run/lifter.safetensors")
    assert 0 < (after - before).abs().max() < 1e-3


def test_shipped_weights_beat_geometry_on_held_out_people(small):
    errors = calibration.held_out_errors(BODY, load_calibration(BODY))["true"]
    assert errors["learned"] < errors["geometric"] - 0.3 < errors["uncalibrated"] / 4
    assert errors["learned"] < errors["learned rigid"] - 1  # the non-rigid term is worth a millimetre


def test_learned_weights_are_shares_near_the_bones_alike_on_both_sides():
    learned = calibration.LearnedWeights(BODY)
    with torch.no_grad():
        learned.shares += torch.randn(learned.shares.shape, generator=seeded(0))
        weights = learned()
    assert_close(weights.attachment.sum(-1), torch.ones(BODY.num_vertices))
    bones = [joint - 1 for joint in SMPL_24.mirror[1:]]
    assert_close(weights.attachment[torch.as_tensor(BODY.vertex_mirror)][:, bones], weights.attachment)
    shin, forearm = (SMPL_24.index[f"left_{name}"] - 1 for name in ("ankle", "wrist"))
    assert ((weights.attachment[:, shin] > 0) & (weights.attachment[:, forearm] > 0)).sum() == 0


def test_together_without_motion_is_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="--motion"):
        calibration.train_calibration(BODY, tmp_path, "together")
    with pytest.raises(UsageError, match="alone, together, both"):
        calibration.train_calibration(BODY, tmp_path, "apart")
