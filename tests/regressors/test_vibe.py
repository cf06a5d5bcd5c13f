"""VIBE: outputs of the published generator, features from SPIN's file beside it, and files that do not fit."""

from __future__ import annotations

import logging
import os

import numpy as np
import pytest
import torch
from conftest import DATA
from seeded_weights import published_keys, seeded_crops, seeded_state, stored_rule_state

from hmrkit.backbones import load_backbone
from hmrkit.backbones.resnet import ResNet50
from hmrkit.errors import WeightsError
from hmrkit.files import sha256_of
from hmrkit.regressors import load_regressor
from hmrkit.regressors.frame import flatten
from hmrkit.regressors.vibe import VibeRegressor

KEYS = published_keys("vibe_gen")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """VIBE's download: the generator, with SMPL's arrays in it, and SPIN's checkpoint."""
    folder = tmp_path_factory.mktemp("vibe_data")
    state = stored_rule_state({key: shape for key, shape in KEYS.items() if ".smpl." not in key})
    smpl = {key: torch.zeros(1) for key in KEYS if ".smpl." in key}
    whole = {"epoch": 1, "gen_state_dict": state | smpl, "performance": np.float64(56.5), "disc_motion_state_dict": {}}
    torch.save(whole, folder / "vibe_model_w_3dpw.pth.tar")
    torch.save({"model": seeded_state(published_keys("spin_hmr"))}, folder / "spin_model_checkpoint.pth.tar")
    return folder


@pytest.fixture(scope="module")
def regressor(folder):
    return load_regressor("vibe", checkpoint=folder / "vibe_model_w_3dpw.pth.tar")


@torch.inference_mode()
def test_the_generator_gives_the_published_output(regressor) -> None:
    assert (regressor.framing, regressor.shape_space, regressor.input_size) == ("box", "smpl", (224, 224))
    features = torch.randn(2, 16, 2048, generator=torch.Generator().manual_seed(1501)).abs() * 0.5
    stored = np.load(DATA / "vibe_temporal.npz")
    for k, track in enumerate(features):
        found = regressor.decode(track, torch.arange(16) / 30)
        rotations = torch.cat([found.global_orient[:, None], found.body_pose], 1)
        first = regressor.encoder(track)[:, :64]
        for key, value in {
            "encoder_feature_first64": first, "rotmat": rotations, "betas": found.betas, "cam": found.crop_camera,
        }.items():  # fmt: skip
            assert np.abs(value.numpy() - stored[key][k]).max() < 1e-4, key


@torch.inference_mode()
def test_features_are_those_of_spins_file(regressor, folder) -> None:
    crops = seeded_crops(2, 224, 224)
    codes = regressor.encode(crops)
    wanted = load_backbone("resnet50", folder / "spin_model_checkpoint.pth.tar").eval()(crops).global_feature
    assert torch.equal(codes, wanted)
    together, stills = regressor.decode(codes, torch.tensor([0.0, 0.04])), regressor(crops)
    torch.testing.assert_close(flatten(together)[0], flatten(stills)[0], atol=1e-4, rtol=0)  # nothing precedes it
    assert (flatten(together)[1] - flatten(stills)[1]).abs().max() > 1e-3
    hashes = [sha256_of(folder / name) for name in ("vibe_model_w_3dpw.pth.tar", "spin_model_checkpoint.pth.tar")]
    assert regressor.weights_sha256 == "".join(hashes)


def test_no_constant_stays_on_another_device() -> None:
    regressor = VibeRegressor("vibe", ResNet50()).eval().to("meta")
    codes = regressor.encode(torch.empty(2, 3, 224, 224, device="meta"))
    found = regressor.decode(codes, torch.arange(2.0, device="meta"))
    assert {value.device.type for value in vars(found).values()} == {"meta"}


def test_spins_file_may_lie_in_a_weights_folder_and_must_lie_somewhere(folder, tmp_path, monkeypatch, caplog) -> None:
    alone = tmp_path / "vibe_model_wo_3dpw.pth.tar"
    os.link(folder / "vibe_model_w_3dpw.pth.tar", alone)
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("HMRKIT_WEIGHTS", str(own))
    with pytest.raises(WeightsError, match=r"wanted spin_model_checkpoint\.pth\.tar or model_checkpoint\.pt beside it"):
        load_regressor("vibe", checkpoint=alone)
    os.link(folder / "spin_model_checkpoint.pth.tar", own / "model_checkpoint.pt")
    with caplog.at_level(logging.INFO, logger="hmrkit"):
        assert load_regressor("vibe", checkpoint=alone).name == "vibe"
    assert "passed over 12 tensors of SMPL" in caplog.text
    swapped = folder / "spin_model_checkpoint.pth.tar"
    with pytest.raises(WeightsError, match="wanted VIBE's published generator, found 331 tensors"):
        load_regressor("vibe", checkpoint=swapped)
    with pytest.raises(
        WeightsError, match=r"vibe has no weights of its own; give --checkpoint FILE: vibe_model_w_3dpw"
    ):
        load_regressor("vibe")
