"""HMR's network: SPIN's published checkpoint, the head's promises, files that do not fit."""

from __future__ import annotations

import itertools
import json
import pickle

import numpy as np
import pytest
import torch
from conftest import DATA
from seeded_weights import published_keys, seeded_crops, seeded_state
from torch import Tensor
from torch.nn import functional

from hmrkit.backbones import Features
from hmrkit.blazepose.integral_head import BodyPoints
from hmrkit.body import load_body
from hmrkit.conversion import convert
from hmrkit.errors import UsageError, WeightsError
from hmrkit.files import sha256_of
from hmrkit.geometry import axis_angle_to_matrix, rotation_from_6d
from hmrkit.regressors import BodyEstimate, load_regressor
from hmrkit.regressors.frame import average_flipped
from hmrkit.regressors.hmr import HmrNetwork, build, load, network_on
from hmrkit.regressors.ief import IefHead
from hmrkit.skeletons import SMPL_24
from hmrkit.weights import load_state, save_state

SPIN = published_keys("spin_hmr")


@pytest.fixture(scope="module")
def state():
    return seeded_state(SPIN)


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    """A file laid out as SPIN's trainer writes it, in the container of PyTorch 1.1."""
    path = tmp_path_factory.mktemp("spin") / "model_checkpoint.pt"
    optimizer = {"state": {7: {"step": 5, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 3e-5, "params": [7]}]}
    whole = {"model": state, "optimizer": optimizer, "epoch": 60, "batch_idx": 0, "batch_size": 64}
    whole |= {"dataset_perm": list(range(5)), "total_step_count": 292500}
    torch.save(whole, path, _use_new_zipfile_serialization=False)
    return path


def parts(estimate: BodyEstimate) -> dict[str, Tensor]:
    rotations = torch.cat([estimate.global_orient[:, None], estimate.body_pose], 1)
    return {"rotations": rotations, "betas": estimate.betas, "camera": estimate.crop_camera}


def plain_spin(state: dict[str, Tensor], crops: Tensor) -> dict[str, Tensor]:
    """SPIN's network written down flat, as its authors describe it."""

    def normed(x: Tensor, key: str) -> Tensor:
        mean, var, weight, bias = (state[f"{key}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, weight, bias, training=False, eps=1e-5)

    def linear(x: Tensor, key: str) -> Tensor:
        return x @ state[f"{key}.weight"].T + state[f"{key}.bias"]

    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (crops - mean[:, None, None]) / deviation[:, None, None]
    x = functional.relu(normed(functional.conv2d(x, state["conv1.weight"], stride=2, padding=3), "bn1"))
    x = functional.max_pool2d(x, 3, stride=2, padding=1)
    for layer, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            key = f"layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            y = functional.relu(normed(functional.conv2d(x, state[f"{key}.conv1.weight"]), f"{key}.bn1"))
            y = functional.conv2d(y, state[f"{key}.conv2.weight"], stride=stride, padding=1)
            y = functional.relu(normed(y, f"{key}.bn2"))
            y = normed(functional.conv2d(y, state[f"{key}.conv3.weight"]), f"{key}.bn3")
            if block == 0:
                x = functional.conv2d(x, state[f"{key}.downsample.0.weight"], stride=stride)
                x = normed(x, f"{key}.downsample.1")
            x = functional.relu(x + y)
    feature = functional.avg_pool2d(x, 7).flatten(1)
    pose, shape, camera = (state[f"init_{k}"].repeat(len(crops), 1) for k in ("pose", "shape", "cam"))
    for _ in range(3):
        hidden = linear(linear(torch.cat([feature, pose, shape, camera], 1), "fc1"), "fc2")
        pose = pose + linear(hidden, "decpose")
        shape = shape + linear(hidden, "decshape")
        camera = camera + linear(hidden, "deccam")
    first, second = pose.view(-1, 24, 6)[..., 0::2], pose.view(-1, 24, 6)[..., 1::2]
    b1 = first / first.norm(dim=-1, keepdim=True)
    b2 = second - (b1 * second).sum(-1, keepdim=True) * b1
    b2 = b2 / b2.norm(dim=-1, keepdim=True)
    return {
        "rotations": torch.stack([b1, b2, torch.cross(b1, b2, dim=-1)], -1),
        "betas": shape,
        "camera": camera,
    }


@torch.no_grad()
def test_the_published_checkpoint_gives_the_published_output(checkpoint, state) -> None:
    regressor = load_regressor("spin", checkpoint=checkpoint)
    assert (regressor.name, regressor.framing, regressor.input_size) == ("spin", "box", (224, 224))
    assert regressor.weights_sha256 == sha256_of(checkpoint)
    crops = seeded_crops(2, 224, 224)
    found = parts(regressor(crops))
    oracle = np.load(DATA / "published_networks.npz")  # what SPIN's own code gives (tests/data/README.md)
    for wanted in ({key: oracle[f"spin_{key}"] for key in found}, plain_spin(state, crops)):
        for key, value in found.items():
            assert (value - torch.as_tensor(wanted[key])).abs().max() < 1e-4, key
    assert (found["rotations"][0] - found["rotations"][1]).abs().max() > 1e-3  # it depends on the crops


def test_the_same_file_is_read_under_the_name_hmr_and_after_conversion(checkpoint, tmp_path, monkeypatch) -> None:
    crops = seeded_crops(1, 224, 224)
    wanted = parts(load_regressor("hmr", checkpoint=checkpoint)(crops))
    monkeypatch.setenv("HMRKIT_WEIGHTS", str(tmp_path))
    converted = tmp_path / "regressors" / "spin.safetensors"
    convert("spin", checkpoint, converted)
    found = parts(load_regressor("spin")(crops))  # a converted file in the user's folder comes before the shipped one
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert set(load_state(converted)) == set(SPIN)


def test_smpls_arrays_in_a_checkpoint_are_passed_over(state, tmp_path) -> None:
    path = tmp_path / "with_smpl.pt"
    arrays = {"smpl.v_template": torch.zeros(6890, 3), "smpl.betas": torch.zeros(64, 10)}
    torch.save({"model": {f"module.{key}": value for key, value in (state | arrays).items()}}, path)
    found = load("spin", path, device="cpu").head.fc1.weight
    assert torch.equal(found, state["fc1.weight"])


def test_files_that_do_not_fit_are_named_in_one_line(state, tmp_path) -> None:
    path = tmp_path / "wrong.pt"
    without = {key: value for key, value in state.items() if key not in ("fc2.bias", "layer4.2.bn3.running_var")}
    cliff = {f"encoder.{key}": value for key, value in state.items() if key.startswith(("conv", "bn", "layer"))}
    cases = {
        "1 missing (fc2.bias)": without,
        "1 missing (layer4.2.bn3.running_var)": without | {"fc2.bias": state["fc2.bias"]},
        "1 unexpected (fc3.bias)": state | {"fc3.bias": torch.zeros(3)},
        "fc1.weight is (1024, 2208) not (1024, 2205)": state | {"fc1.weight": torch.zeros(1024, 2208)},
        "wanted what `hmrkit train spin` wrote or its published checkpoint, found neither": cliff,
    }
    for message, wrong in cases.items():
        torch.save({"model": wrong}, path)
        with pytest.raises(WeightsError) as error:
            load_regressor("spin", checkpoint=path)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise AssertionError('code in a checkpoint was run')",))


def test_a_checkpoint_that_would_run_code_is_refused(state, tmp_path) -> None:
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))):
        path = tmp_path / "bomb.pt"
        save({"model": {"fc2.bias": state["fc2.bias"]}, "epoch": Bomb()}, path)
        with pytest.raises(WeightsError) as error:
            load_regressor("spin", checkpoint=path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_backbone_may_be_chosen_untrained_and_must_match_when_trained(tmp_path, checkpoint) -> None:
    fresh = build("hmr", network_on("resnet50", hidden=8))
    path = tmp_path / "hmr.safetensors"
    metadata = {"network": json.dumps({"backbone": "resnet50", "hidden": 8})}  # as files of before recipes have it
    save_state({key: value.half() for key, value in fresh.state_dict().items()}, path, metadata)
    found = load("hmr", path, device="cpu", backbone="resnet50")
    assert torch.equal(found.head.fc2.weight, fresh.head.fc2.weight.half().float())
    for file in (path, checkpoint):
        with pytest.raises(UsageError, match="was trained on backbone resnet50, not hrnet-w32"):
            load_regressor("hmr", checkpoint=file, backbone="hrnet-w32")
    assert load_regressor("hmr", weights=None, backbone="resnet50").framing == "box"


def test_the_head_starts_from_a_person_who_faces_the_camera() -> None:
    """With nothing to correct the answer is the mean: upright in a camera whose y points down, limbs at rest."""
    head = IefHead(5).eval()
    for layer in (head.decpose, head.decshape, head.deccam):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    estimate = head(torch.randn(2, 5))
    assert torch.equal(estimate.global_orient, torch.diag(torch.tensor([1.0, -1, -1])).expand(2, 3, 3))
    assert torch.equal(estimate.body_pose, torch.eye(3).expand(2, 23, 3, 3))
    assert torch.equal(estimate.crop_camera, torch.tensor([[0.9, 0, 0]]).expand(2, 3))


@torch.no_grad()
def test_a_mirrored_crop_gives_the_mirrored_body() -> None:
    torch.manual_seed(0)
    regressor = build("hmr", HmrNetwork(hidden=16)).eval()
    crops = seeded_crops(2, 256, 256)
    straight, mirrored = regressor(crops), regressor(crops.flip(-1))
    body = load_body()
    joints = body.joints_only(straight.global_orient, straight.body_pose, straight.betas).joints
    flipped = body.joints_only(mirrored.global_orient, mirrored.body_pose, mirrored.betas).joints
    reversed_x = joints[:, list(SMPL_24.mirror)] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(flipped, reversed_x, atol=2e-3, rtol=0)
    torch.testing.assert_close(mirrored.crop_camera, straight.crop_camera * torch.tensor([1.0, -1.0, 1.0]))
    # The mean differs from the estimate for the crop alone.
    alone = regressor.regress(regressor.backbone(crops))
    assert (alone.body_pose - straight.body_pose).abs().max() > 1e-4


def test_two_estimates_that_face_opposite_ways_are_not_averaged() -> None:
    """The second person faces the camera in the crop's estimate and looks away in that of its mirror image; where the
    hips lie decides. The first person's two estimates are near each other: the result lies half way."""

    def facing(*degrees: float) -> BodyEstimate:
        rotation = torch.stack([torch.zeros(2), torch.deg2rad(torch.tensor(degrees)), torch.zeros(2)], 1)
        orient = torch.diag(torch.tensor([1.0, -1, -1])) @ axis_angle_to_matrix(rotation)
        camera = torch.tensor([[0.9, 0.1, 0.0]]).repeat(2, 1)
        return BodyEstimate(orient, torch.eye(3).repeat(2, 23, 1, 1), torch.zeros(2, 10), camera)

    def features(points: Tensor) -> Features:
        return Features(torch.zeros(2, 1), (), points=BodyPoints(points[..., :2], points, points[..., 0]))

    straight, mirrored = facing(0, 10), facing(-30, 160)
    hips = torch.zeros(2, 57, 3)
    hips[:, SMPL_24.index["left_hip"], 0] = 0.1
    for points, mirrored_points, wanted in ((hips, hips, 10.0), (-hips, -hips, -160.0)):
        found = average_flipped(straight, mirrored, features(points), features(mirrored_points))
        torch.testing.assert_close(found.global_orient, facing(15, wanted).global_orient, atol=1e-5, rtol=0)
        assert abs(float(found.crop_camera[0, 1])) < 1e-6
        assert abs(float(found.crop_camera[1, 1])) == pytest.approx(0.1)
    # A backbone without points cannot decide: the crop as it is counts.
    nothing = Features(torch.zeros(2, 1), ())
    found = average_flipped(straight, mirrored, nothing, nothing)
    torch.testing.assert_close(found.global_orient, facing(15, 10).global_orient, atol=1e-5, rtol=0)


def test_every_iteration_corrects_the_one_before(rng) -> None:
    head = IefHead(5, hidden=16).eval()
    feature = torch.randn(3, 5, generator=rng)
    estimates = []
    for iterations in (1, 2, 3):
        shorter = IefHead(5, hidden=16, iterations=iterations).eval()
        shorter.load_state_dict(head.state_dict())
        estimates.append(parts(shorter(feature)))
    for before, after in itertools.pairwise(estimates):
        assert not any(torch.equal(value, after[key]) for key, value in before.items())
    # Three is the default.
    assert all(torch.equal(value, estimates[2][key]) for key, value in parts(head(feature)).items())
    rotations = estimates[2]["rotations"]
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3).expand_as(rotations), atol=1e-5)
    assert torch.allclose(rotation_from_6d(head.init_pose.view(1, 24, 6), "interleaved").det(), torch.ones(1, 24))
