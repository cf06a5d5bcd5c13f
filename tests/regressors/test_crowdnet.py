"""3DCrowdNet's published checkpoint: its tensors by name and shape, VPoser inside or beside, against plain code."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from plain_pose_guided import Plain, rotation
from seeded_weights import published_keys, seeded_crops, seeded_state
from torch import Tensor

from hmrkit.errors import UsageError, WeightsError
from hmrkit.regressors import load_regressor
from hmrkit.regressors.crop_camera import translation
from hmrkit.regressors.crowdnet import vposer_beside
from hmrkit.regressors.pose_guided import heatmaps, joints_30

KEYS = published_keys("crowdnet")
# VPoser v1 as its authors name its tensors.
SIZES = {
    "enc_fc1": (512, 63), "enc_fc2": (512, 512), "enc_mu": (32, 512), "enc_logvar": (32, 512), "dec_fc1": (512, 32),
    "dec_fc2": (512, 512), "dec_out": (126, 512),
}  # fmt: skip
VPOSER: dict[str, tuple[int, ...]] = {f"bodyprior_{key}.weight": size for key, size in SIZES.items()}
VPOSER |= {f"bodyprior_{key}.bias": size[:1] for key, size in SIZES.items()}
VPOSER |= {f"bodyprior_enc_bn{i}.{k}": (n,) for i, n in ((1, 63), (2, 512)) for k in ("weight", "running_var")}


@pytest.fixture(scope="module")
def state():
    found = seeded_state(KEYS)
    return {k: v * (0.3 if "position_net" in k else 1) for k, v in found.items()}


@pytest.fixture(scope="module")
def vposer():
    return seeded_state(VPOSER)


def saved(state: dict[str, Tensor], path):
    """A file laid out as the published ones: data-parallel names below ``network``, an optimizer beside it."""
    torch.save({"epoch": 6, "network": {f"module.{k}": v for k, v in state.items()}, "optimizer": {"state": {}}}, path)
    return path


def with_vposer(state, vposer) -> dict[str, Tensor]:
    return state | {f"vposer.vposer.{key}": value for key, value in vposer.items()}


@torch.no_grad()
def test_the_published_checkpoint_is_the_published_network(state, vposer, rng, tmp_path, caplog) -> None:
    whole = with_vposer(state, vposer) | {"human_model_layer.th_betas": torch.zeros(1, 10)}
    with caplog.at_level(logging.INFO, logger="hmrkit.regressors.crowdnet"):
        regressor = load_regressor("crowdnet", checkpoint=saved(whole, tmp_path / "demo_checkpoint.pth.tar"))
    assert "vposer.vposer.bodyprior_enc_fc1.weight, " in caplog.text
    assert "human_model_layer.th_betas" in caplog.text
    assert (regressor.framing, regressor.shape_space, regressor.input_size) == ("box", "smpl", (256, 256))
    own = {k: tuple(v.shape) for k, v in regressor.state_dict().items() if not k.startswith("vposer.")}
    assert own == KEYS
    assert len(KEYS) == 1280
    crops, plain = seeded_crops(2, 256, 256), Plain(state | vposer)
    keypoints = torch.rand(2, 33, 3, generator=rng) * torch.tensor([256.0, 256.0, 1.0])
    found = regressor(crops, joints_2d=keypoints)
    cameras = []
    for b, image in enumerate(plain.image_feature(crops, heatmaps(joints_30(keypoints), 0.1))):
        volumes = plain.conv(image[None], "position_net.conv.0")[0].view(15, 8, 8, 8)
        joints = [plain.joint(volume) for volume in volumes]
        feature = plain.graph([torch.cat([plain.sample(image, at), at, score[None]]) for at, score in joints])
        code = plain.linear(feature, "rotation_net.pose_out.0")
        for layer in ("dec_fc1", "dec_fc2"):
            code = plain.linear(code, f"bodyprior_{layer}")
            code = torch.where(code < 0, 0.2 * code, code)
        six = [plain.linear(feature, "rotation_net.root_pose_out.0"), *plain.linear(code, "bodyprior_dec_out").split(6)]
        wanted = torch.stack([*map(rotation, six), torch.eye(3), torch.eye(3)])
        assert (torch.cat([found.global_orient[b, None], found.body_pose[b]]) - wanted).abs().max() < 1e-4
        assert (found.betas[b] - plain.linear(feature, "rotation_net.shape_out.0")).abs().max() < 1e-4
        cameras.append(plain.linear(feature, "rotation_net.cam_out.0"))
    # The place of the body in the published camera is that of ours, seen with the same focal length.
    camera = torch.stack(cameras)
    depth = camera[:, 2].sigmoid() * math.sqrt(5000**2 * 2.5**2 / 256**2)
    wanted = torch.cat([camera[:, :2], depth[:, None]], 1)
    torch.testing.assert_close(translation(found.crop_camera, torch.full((2,), 5000.0)), wanted, atol=1e-4, rtol=1e-4)
    moved = regressor(crops, joints_2d=keypoints.flip(1))
    assert (moved.body_pose - found.body_pose).abs().max() > 1e-3
    with pytest.raises(UsageError, match="joints_2d"):
        regressor(crops)


@pytest.mark.parametrize("place", ["TR00_E096.pt", "vposer_v1_0/snapshots/TR00_E096.pt", "mine/TR00_E096.pt"])
def test_vposer_is_found_beside_the_file_or_in_a_weights_folder(place, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HMRKIT_WEIGHTS", str(tmp_path / "mine"))
    checkpoint = tmp_path / "snapshot_6.pth.tar"
    with pytest.raises(WeightsError, match=r"code of VPoser v1.*TR00_E096.pt.*https://smpl-x"):
        vposer_beside(checkpoint)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    assert vposer_beside(checkpoint) == tmp_path / place


def test_vposers_own_file_serves_where_the_checkpoint_has_none(state, vposer, tmp_path) -> None:
    checkpoint, file = saved(state, tmp_path / "snapshot_6.pth.tar"), tmp_path / "TR00_E096.pt"
    torch.save(vposer, file)
    regressor = load_regressor("crowdnet", checkpoint=checkpoint)
    assert torch.equal(regressor.vposer.bodyprior_dec_out.bias, vposer["bodyprior_dec_out.bias"])
    assert len(regressor.weights_sha256) == 128
    torch.save({key: value for key, value in vposer.items() if key != "bodyprior_dec_fc2.bias"}, file)
    with pytest.raises(WeightsError, match=r"TR00_E096.pt does not fit VPoser: 1 missing \(bodyprior_dec_fc2.bias\)"):
        load_regressor("crowdnet", checkpoint=checkpoint)


def test_other_and_incomplete_files_are_refused(state, vposer, tmp_path) -> None:
    whole = with_vposer(state, vposer)
    gone = "rotation_net.graph_block.2.graph_block1.fcbn_list.7.0.bias"
    short = {key: value for key, value in whole.items() if key != gone}
    with pytest.raises(WeightsError, match=rf"1 missing \({gone}\)"):
        load_regressor("crowdnet", checkpoint=saved(short, tmp_path / "short.pth.tar"))
    with pytest.raises(WeightsError, match="wanted 3DCrowdNet's published checkpoint, found 1 others"):
        load_regressor("crowdnet", checkpoint=saved({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth.tar"))
    with pytest.raises(WeightsError, match="found neither"):
        load_regressor("sgre", checkpoint=saved(whole, tmp_path / "crowdnet.pth.tar"))
