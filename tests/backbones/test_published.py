"""ResNet-50 and HRNet against their authors' code, and the messages about files that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import DATA
from seeded_weights import published_keys, seeded_crops, seeded_state
from torch.nn import functional

from hmrkit.backbones import load_backbone
from hmrkit.backbones.hrnet import HRNet
from hmrkit.backbones.published import ImageNetNormalisation
from hmrkit.backbones.resnet import ResNet50, load
from hmrkit.errors import WeightsError
from hmrkit.weights import save_state

RESNET = {key: shape for key, shape in published_keys("spin_hmr").items() if key.startswith(("conv", "bn", "layer"))}
CLIFF = published_keys("cliff_hr48", "encoder.")
PARE = published_keys("pare", "backbone.")
# What the authors' keypoint networks have of those: only the finest map comes out of the last exchange, and 17 joints.
POSE = {key: shape for key, shape in PARE.items() if not key.startswith(("upsample", "stage4.2.fuse_layers."))}
POSE |= {key: shape for key, shape in PARE.items() if key.startswith("stage4.2.fuse_layers.0.")}
POSE |= {"final_layer.weight": (17, 32, 1, 1), "final_layer.bias": (17,)}


def shapes_of(module):
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def saved(state, folder, prefix=""):
    path = folder / "checkpoint.safetensors"
    save_state({prefix + key: value for key, value in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def oracle():
    """What the authors' own code makes of `seeded_state` and `seeded_crops` (tests/data/README.md)."""
    return np.load(DATA / "published_networks.npz")


def close(found, wanted):
    """Equal but for float32's rounding through a hundred layers."""
    wanted = torch.as_tensor(wanted)
    return float((found - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())


def test_names_and_shapes_are_the_published_ones() -> None:
    assert shapes_of(ResNet50()) == RESNET
    assert shapes_of(HRNet(48)) == CLIFF
    extras = ("upsample_stage", "final_layer")
    assert shapes_of(HRNet(32, head=False)) == {k: v for k, v in PARE.items() if not k.startswith(extras)}
    pose = {k: v for k, v in POSE.items() if not k.startswith("final_layer")}
    assert shapes_of(HRNet(32, head=False, coarse_outputs=False)) == pose


@pytest.mark.parametrize("name", ["resnet50", "hrnet-w32", "hrnet-w48"])
def test_an_untrained_backbone_keeps_its_word(name: str) -> None:
    backbone = load_backbone(name)
    with torch.no_grad():
        features = backbone(seeded_crops(2, 64, 96))
    assert features.landmarks is None
    assert features.global_feature.shape == (2, backbone.global_channels)
    for found, channels, stride in zip(features.maps, backbone.map_channels, backbone.map_strides, strict=True):
        assert found.shape == (2, channels, 64 // stride, 96 // stride)
        assert found.isfinite().all()
        assert found.std() > 1e-3


@torch.no_grad()
def test_hrnet_w48_equals_its_authors_classification_network(oracle, tmp_path) -> None:
    backbone = load_backbone("hrnet-w48", saved(seeded_state(CLIFF), tmp_path, "encoder."))
    features = backbone(seeded_crops(1, 96, 64))
    assert backbone.global_channels == 2048
    assert close(features.global_feature, oracle["cls_global"])
    for k, found in enumerate(features.maps):
        assert close(found.mean((2, 3)), oracle[f"cls_map{k}"])


@torch.no_grad()
def test_hrnet_w32_equals_its_authors_keypoint_network(oracle, tmp_path) -> None:
    state = seeded_state(POSE)
    backbone = load_backbone("hrnet-w32", saved(state, tmp_path))
    features = backbone(seeded_crops(1, 64, 96))
    heatmaps = functional.conv2d(features.maps[0], state["final_layer.weight"], state["final_layer.bias"])
    assert close(heatmaps, oracle["pose_heatmaps"])
    assert backbone.global_channels == 480
    assert torch.equal(features.global_feature, torch.cat([x.mean((2, 3)) for x in features.maps], 1))


@torch.no_grad()
def test_all_forms_agree_on_the_finest_map(tmp_path) -> None:
    """PARE's network has all four maps; its finest one is that of a keypoint network with the same weights."""
    crops = seeded_crops(1, 64, 64)
    state = seeded_state(PARE)
    whole = load_backbone("hrnet-w32", saved(state, tmp_path, "model.backbone."))(crops)
    pose = {key: state[key] for key in POSE}
    short = load_backbone("hrnet-w32", saved(pose, tmp_path))(crops)
    assert torch.equal(whole.maps[0], short.maps[0])
    assert [x.shape for x in whole.maps] == [x.shape for x in short.maps]
    assert not torch.equal(whole.maps[1], short.maps[1])


@torch.no_grad()
def test_resnet50_equals_torchvisions() -> None:
    torchvision = pytest.importorskip("torchvision")
    net = torchvision.models.resnet50().eval()
    state = seeded_state(RESNET)
    net.load_state_dict(state, strict=False)
    net.fc = torch.nn.Identity()
    crops = seeded_crops(2, 64, 96)
    backbone = ResNet50().eval()
    backbone.load_state_dict(state)
    assert close(backbone(crops).global_feature, net(ImageNetNormalisation()(crops)))


@torch.no_grad()
def test_hrnet_equals_timms() -> None:
    timm = pytest.importorskip("timm")
    state = seeded_state(CLIFF)
    net = timm.create_model("hrnet_w48", num_classes=0).eval()
    net.load_state_dict(state)
    crops = seeded_crops(1, 64, 64)
    backbone = HRNet(48).eval()
    backbone.load_state_dict(state)
    assert close(backbone(crops).global_feature, net(ImageNetNormalisation()(crops)))


def test_half_precision_and_uncounted_batches_are_read(tmp_path) -> None:
    state = seeded_state(RESNET)
    old = {key: value.half() for key, value in state.items() if not key.endswith("num_batches_tracked")}
    found = load("resnet50", saved(old, tmp_path), device="cpu").state_dict()
    assert set(found) == set(RESNET)
    assert all(torch.equal(found[key].half(), value) for key, value in old.items())


@pytest.mark.parametrize("prefix", ["", "encoder.", "backbone.", "module.", "module.backbone.", "model.backbone."])
def test_the_part_is_found_below_any_prefix_and_heads_are_left(prefix: str, tmp_path) -> None:
    state = seeded_state(RESNET)
    others = {"fc1.weight": torch.ones(3, 3), "head.layer1.0.conv1.weight": torch.ones(2)}
    path = tmp_path / "checkpoint.pt"
    torch.save({"epoch": 3, "state_dict": {prefix + key: value for key, value in state.items()} | others}, path)
    found = load("resnet50", path, device="cpu").state_dict()
    assert all(torch.equal(found[key], state[key]) for key in state)


def without(state, key):
    return {k: v for k, v in state.items() if k != key}


RESNET_STATE = {key: torch.zeros(shape) for key, shape in RESNET.items()}
PARE_STATE = {key: torch.zeros(shape) for key, shape in PARE.items()}
DEEPER = {"layer3.6.conv1.weight": torch.zeros(256, 1024, 1, 1)}
WRONG = {
    "a key is missing": ("resnet50", without(RESNET_STATE, "layer2.0.bn1.weight"), "1 missing (layer2.0.bn1.weight)"),
    "ResNet-101": ("resnet50", RESNET_STATE | DEEPER, "1 unexpected (layer3.6.conv1.weight)"),
    "another shape": ("resnet50", RESNET_STATE | {"bn1.bias": torch.zeros(3)}, "bn1.bias is (3,) not (64,)"),
    "something else": ("resnet50", {"a.weight": torch.zeros(2)}, "wanted the weights of a ResNet-50, found 1 others"),
    "an HRNet": ("resnet50", PARE_STATE, "wanted the weights of a ResNet-50"),
    "a ResNet": ("hrnet-w32", RESNET_STATE, "wanted the weights of an HRNet"),
    "the other width": ("hrnet-w48", PARE_STATE, "wanted hrnet-w48, found an HRNet-W32; name backbone hrnet-w32"),
    "half an exchange": ("hrnet-w32", without(PARE_STATE, "stage4.2.fuse_layers.3.2.0.0.weight"), "1 missing"),
    "twice": (
        "resnet50",
        {f"{part}.{key}": value.clone() for part in ("model", "average") for key, value in RESNET_STATE.items()},
        "is in it 2 times, at average. and model.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named_in_one_line(case: str, tmp_path) -> None:
    name, state, message = WRONG[case]
    with pytest.raises(WeightsError) as error:
        load_backbone(name, saved(state, tmp_path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400 + len(str(tmp_path))
