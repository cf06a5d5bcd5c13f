"""HMR 2.0: outputs of the published code at reduced size, the published names, and files that do not fit."""

from __future__ import annotations

import logging
import sys
import types

import numpy as np
import pytest
import torch
from conftest import DATA
from seeded_weights import published_keys, stored_rule_state
from torch import nn

from hmrkit.backbones.vit import ViT
from hmrkit.errors import UsageError, WeightsError
from hmrkit.regressors import load_regressor
from hmrkit.regressors.hmr2 import Hmr2Regressor, SmplHead

FULL = {f"{part}.{k}": s for part in ("backbone", "smpl_head") for k, s in published_keys(f"hmr2_{part}").items()}
BESIDE = {
    "smpl.betas": torch.zeros(1, 10),
    "discriminator.conv.weight": torch.ones(2),
    "initialized": torch.tensor(True),
}


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def small_state() -> dict[str, torch.Tensor]:
    return stored_rule_state(shapes_of(Hmr2Regressor("hmr2", ViT(96, 3, 4, 384), SmplHead(64, 2, 64, 128, 96))))


@pytest.fixture(scope="module")
def small(small_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("hmr2") / "epoch=35-step=1000000.ckpt"
    torch.save({"epoch": 35, "state_dict": small_state | BESIDE}, path)
    return path


@torch.inference_mode()
def test_the_small_network_gives_the_published_output(small, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="hmrkit"):
        regressor = load_regressor("hmr2", checkpoint=small)
    assert "passed over 3 tensors that inference does not need (discriminator, initialized, smpl)" in caplog.text
    assert (regressor.framing, regressor.shape_space, regressor.input_size) == ("box", "smpl", (256, 192))
    assert regressor.weights_sha256
    regressor.backbone.normalise = nn.Identity()
    crops = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(1601))
    found, image = regressor(crops[..., 32:-32]), regressor.backbone(crops[..., 32:-32]).maps[0]
    assert torch.equal(regressor(crops).betas, found.betas)  # of a square the middle is read
    rotations = torch.cat([found.global_orient[:, None], found.body_pose], 1)
    stored = np.load(DATA / "hmr2_small.npz")
    for key, value in {
        "backbone_feature": image[:, :, ::4, ::4], "rotmat": rotations, "betas": found.betas, "cam": found.crop_camera,
    }.items():  # fmt: skip
        assert np.abs(value.numpy() - stored[key]).max() < 1e-4, key


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert shapes_of(Hmr2Regressor("hmr2", ViT(), SmplHead())) == FULL
    assert len(FULL) == 503


class Bomb:
    def __reduce__(self):
        return exec, ("raise AssertionError('code in a checkpoint was run')",)


@pytest.mark.parametrize("name", ["omegaconf.dictconfig.DictConfig", "yacs.config.CfgNode"])
def test_a_trainers_settings_beside_the_tensors_do_no_harm(name, small_state, tmp_path, monkeypatch) -> None:
    """They are not read, and nothing needs their packages."""
    module, _, label = name.rpartition(".")
    made = types.ModuleType(module)
    kind = type(label, (dict,) if "yacs" in name else (), {"__module__": module})
    setattr(made, label, kind)
    for part in (module, module.split(".")[0]):
        monkeypatch.setitem(sys.modules, part, made)
    settings = kind()
    settings.__dict__["content"] = {"SMPL_HEAD": {"depth": 6}}
    if "yacs" in name:
        settings["MODEL"] = {"IMAGE_SIZE": 256}
    path = tmp_path / "settings.ckpt"
    torch.save({"hyper_parameters": {"cfg": settings}, "state_dict": small_state}, path)
    for part in (module, module.split(".")[0]):
        monkeypatch.delitem(sys.modules, part)
    assert load_regressor("hmr2", checkpoint=path).name == "hmr2"
    torch.save({"hyper_parameters": {"cfg": Bomb()}, "state_dict": small_state}, path)
    with pytest.raises(WeightsError, match="exec"):
        load_regressor("hmr2", checkpoint=path)


def test_what_does_not_fit_is_named_in_one_line(small_state, small, tmp_path) -> None:
    head = "smpl_head.transformer.transformer.layers."
    cases = {
        "1 missing (backbone.last_norm.bias)": {k: v for k, v in small_state.items() if k != "backbone.last_norm.bias"},
        "wanted HMR 2.0's published checkpoint, found 1 others (fc1.weight, ...)": {"fc1.weight": torch.ones(2)},
        "found one of width 12": small_state | {"backbone.pos_embed": torch.ones(1, 193, 12)},
        "wanted a decoder of inner width 512, found 7": small_state | {f"{head}0.1.fn.to_q.weight": torch.ones(7, 64)},
        "backbone.pos_embed is (1, 257, 96) not": small_state | {"backbone.pos_embed": torch.ones(1, 257, 96)},
    }
    path = tmp_path / "wrong.ckpt"
    for message, state in cases.items():
        torch.save({"state_dict": state}, path)
        with pytest.raises(WeightsError) as error:
            load_regressor("hmr2", checkpoint=path)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    whole = small.read_bytes()
    for cut in (0, 100, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match=r"wrong\.ckpt: expected") as error:
            load_regressor("hmr2", checkpoint=path)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="hmr2 stands on vit-h, not on resnet50"):
        load_regressor("hmr2", checkpoint=small, backbone="resnet50")
    with pytest.raises(
        WeightsError, match=r"no weights of its own; give --checkpoint FILE: epoch=35-step=1000000\.ckpt"
    ):
        load_regressor("hmr2")
