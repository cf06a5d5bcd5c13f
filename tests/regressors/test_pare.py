"""PARE: its published checkpoint by name and shape, and each part of the network against plain code."""

from __future__ import annotations

import logging

import pytest
import torch
from seeded_weights import published_keys, seeded_crops, seeded_state
from torch import Tensor
from torch.nn import functional

from hmrkit.errors import UsageError, WeightsError
from hmrkit.files import sha256_of
from hmrkit.regressors import load_regressor
from hmrkit.regressors.pare import JointLayers, PareHead, Upsampling, attended

KEYS = published_keys("pare")
UNUSED = ("smpl.", "backbone.final_layer.", "head.temperature", "head.init_")


def saved(state: dict[str, Tensor], path):
    """A file laid out as the published one: Lightning's names below ``state_dict``."""
    torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}, "epoch": 3}, path)
    return path


@pytest.fixture(scope="module")
def state():
    found = seeded_state({key: shape for key, shape in KEYS.items() if not key.startswith("smpl.")})
    # Attention over many places, not one alone.
    return {key: value * (0.1 if "final_layer" in key else 1) for key, value in found.items()}


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    arrays = {key: torch.zeros(shape) for key, shape in KEYS.items() if key.startswith("smpl.")}
    return saved(state | arrays, tmp_path_factory.mktemp("pare") / "pare_w_3dpw_checkpoint.ckpt")


class Plain:
    """The head written down flat, for one image."""

    def __init__(self, state: dict[str, Tensor], first_part: int = 0) -> None:
        self.state, self.first_part = state, first_part

    def layers(self, x: Tensor, key: str, *numbers: int) -> Tensor:
        """Convolution `number` below `key`, the BatchNorm after it, a ReLU; one after the other."""
        for number in numbers:
            x = functional.conv2d(x, self.state[f"{key}.{number}.weight"], padding=1)
            norm = (self.state[f"{key}.{number + 1}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
            x = functional.batch_norm(x, *norm, training=False, eps=1e-5).relu()
        return x

    def point(self, x: Tensor, key: str) -> Tensor:
        return functional.conv2d(x, self.state[f"{key}.weight"], self.state[f"{key}.bias"])

    def joined(self, maps: tuple[Tensor, ...]) -> Tensor:
        """The finest map, then each coarser one doubled in size, corner on corner, until it is as fine."""
        found = [maps[0]]
        for k, x in enumerate(maps[1:], 1):
            for step in range(k):
                size = 2 * x.shape[-1]
                x = functional.interpolate(x, (size, size), mode="bilinear", align_corners=True)
                x = self.layers(x, f"backbone.upsample_stage_{k + 1}", 4 * step + 1)
            found.append(x)
        return torch.cat(found, 1)

    def __call__(self, joined: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Joined maps (1,480,h,w) -> 6D numbers (24,6), betas, camera."""
        parts = self.point(self.layers(joined, "head.keypoint_deconv_layers", 0, 3), "head.keypoint_final_layer")[0]
        features = self.layers(joined, "head.smpl_deconv_layers", 0, 3)
        shape_features = self.point(features, "head.smpl_final_layer")[0]
        pose, whole = [], torch.empty(64, 24)
        for joint in range(24):
            part = parts[joint + self.first_part]
            weight = part.exp() / part.exp().sum()
            local = torch.stack([(weight * channel).sum() for channel in features[0]])
            whole[:, joint] = torch.stack([(weight * channel).sum() for channel in shape_features])
            pose.append(self.state["head.pose_mlp.weight"][0, :, :, joint, 0, 0] @ local)
        rest = (
            self.state[f"head.{key}.weight"] @ whole.flatten() + self.state[f"head.{key}.bias"]
            for key in ("shape_mlp", "cam_mlp")
        )
        return torch.stack(pose), *rest


def rotation(six: Tensor) -> Tensor:
    first = six[0::2] / six[0::2].norm()
    second = six[1::2] - (first * six[1::2]).sum() * first
    second = second / second.norm()
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def compare(found, b: int, plain: tuple[Tensor, Tensor, Tensor]) -> None:
    pose, betas, camera = plain
    rotations = torch.stack([rotation(six) for six in pose])
    assert (torch.cat([found.global_orient[b, None], found.body_pose[b]]) - rotations).abs().max() < 1e-4
    assert (found.betas[b] - betas).abs().max() < 1e-4
    assert (found.crop_camera[b] - camera).abs().max() < 1e-4


@torch.no_grad()
def test_the_published_checkpoint_is_the_published_network(checkpoint, state, caplog) -> None:
    caplog.set_level(logging.INFO, logger="hmrkit")
    regressor = load_regressor("pare", checkpoint=checkpoint)
    assert (regressor.framing, regressor.shape_space, regressor.input_size) == ("box", "smpl", (224, 224))
    assert regressor.weights_sha256 == sha256_of(checkpoint)
    own = {key.replace("upsampling.", "backbone."): tuple(v.shape) for key, v in regressor.state_dict().items()}
    assert own == {key: shape for key, shape in KEYS.items() if not key.startswith(UNUSED)}
    assert len(KEYS) == 1917
    left = sum(key.startswith(UNUSED) for key in KEYS)
    assert f"passed over {left} tensors that inference does not read: " in caplog.text
    crops, plain = seeded_crops(2, 224, 224), Plain(state)
    found = regressor(crops)
    maps = regressor.backbone(crops).maps  # checked against its authors' code in test_published.py
    for b in range(2):
        compare(found, b, plain(plain.joined(tuple(x[b : b + 1] for x in maps))))
    assert (found.body_pose[0] - found.body_pose[1]).abs().max() > 1e-3
    assert (regressor(crops[:1]).body_pose - found.body_pose[:1]).abs().max() < 1e-4


@torch.no_grad()
def test_attention_with_a_background_leaves_the_background_out() -> None:
    head = PareHead(40, 25).eval()
    state = seeded_state({f"head.{key}": tuple(value.shape) for key, value in head.state_dict().items()})
    head.load_state_dict({key.removeprefix("head."): value for key, value in state.items()})
    joined = torch.randn(1, 40, 8, 8, generator=torch.Generator().manual_seed(0))
    compare(head(joined), 0, Plain(state, first_part=1)(joined))
    assert head.attention(joined).sum((2, 3))[0].tolist() == pytest.approx([1.0] * 24, abs=1e-5)


def test_features_are_pooled_where_the_attention_is() -> None:
    features, attention = torch.arange(24.0).view(1, 2, 3, 4), torch.zeros(1, 2, 3, 4)
    attention[0, 0, 1, 2] = 1
    attention[0, 1, 0, 0] = attention[0, 1, 2, 3] = 0.5
    assert attended(features, attention).tolist() == [[[6.0, 5.5], [18.0, 17.5]]]


def test_every_joint_has_a_layer_of_its_own() -> None:
    layers, features = JointLayers(3, 4), torch.randn(2, 3, 4)
    found = layers(features)
    for joint in range(4):
        wanted = features[:, :, joint] @ layers.weight[0, :, :, joint, 0, 0].T
        torch.testing.assert_close(found[:, :, joint], wanted)


def test_maps_are_joined_at_the_size_of_the_finest() -> None:
    joined = Upsampling((2, 3, 4)).eval()((torch.rand(1, 2, 8, 8), torch.rand(1, 3, 4, 4), torch.rand(1, 4, 2, 2)))
    assert joined.shape == (1, 9, 8, 8)


def test_files_that_do_not_fit_are_named_in_one_line(state, tmp_path) -> None:
    cases = {
        "1 missing (cam_mlp.bias); 1 unexpected (keypoint_attention.scale)": {
            key.replace("cam_mlp.bias", "keypoint_attention.scale"): value for key, value in state.items()
        },
        "wanted the weights of the published PARE, found 1 others": {"backbone.conv1.weight": torch.zeros(64, 3, 3, 3)},
    }
    for message, wrong in cases.items():
        with pytest.raises(WeightsError) as error:
            load_regressor("pare", checkpoint=saved(wrong, tmp_path / "wrong.ckpt"))
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="pare stands on hrnet-w32, not on resnet50"):
        load_regressor("pare", checkpoint=tmp_path / "wrong.ckpt", backbone="resnet50")
