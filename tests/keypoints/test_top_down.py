"""HRNet and ViTPose: published names, strict loading, peaks against plain code, the way from crops to the image."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_cuda import on_fake_cuda
from pose_networks import HRNET, vit_shapes
from seeded_weights import seeded_crops, seeded_state
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from hmrkit.errors import UsageError, WeightsError
from hmrkit.keypoints import hrnet, load_keypoints, vitpose
from hmrkit.keypoints.top_down import HeatmapNetwork, TopDownEstimator, newton_peaks, quarter_peaks
from hmrkit.skeletons import COCO_17

DATA = Path(__file__).parent.parent / "data"


def mmpose_1(key: str) -> str:
    for pattern, name in (
        (r"keypoint_head\.", "head."), (r"patch_embed\.proj", "patch_embed.projection"), (r"last_norm", "ln1"),
        (r"blocks\.(\d+)\.norm", r"layers.\1.ln"), (r"blocks\.(\d+)\.mlp\.fc1", r"layers.\1.ffn.layers.0.0"),
        (r"blocks\.(\d+)\.mlp\.fc2", r"layers.\1.ffn.layers.1"), (r"blocks\.", "layers."),
    ):  # fmt: skip
        key = re.sub(pattern, name, key)
    return key


def saved(state: dict[str, Tensor], path, **beside):
    torch.save({"state_dict": state, **beside}, path)
    return path


# A peak of a Gaussian, as a network is trained to answer with.


def gaussians(at: Tensor, height: int = 64, width: int = 48, deviation: float = 2.0) -> Tensor:
    """Places x, y (N,K,2) in cells -> heatmaps (N,K,height,width)."""
    y, x = torch.arange(height)[:, None], torch.arange(width)
    square = (x - at[..., 0, None, None]) ** 2 + (y - at[..., 1, None, None]) ** 2
    return torch.exp(-square / (2 * deviation**2))


def test_newton_finds_gaussians_and_the_quarter_step_comes_near() -> None:
    at = torch.rand(3, 17, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([28.0, 44.0]) + 10
    found, best = newton_peaks(gaussians(at))
    assert (found - at).abs().max() < 2e-3
    assert best.min() > 0.9
    found, _ = quarter_peaks(gaussians(at))
    assert (found - at).abs().max() <= 0.2501


def test_quarter_steps_are_those_of_plain_code() -> None:
    heat = torch.rand(2, 5, 9, 7, generator=torch.Generator().manual_seed(1))
    heat[0, 0, 0, 3] = heat[0, 1, 4, 1] = heat[0, 2, 8, 6] = 2  # at edges nothing moves
    found, best = quarter_peaks(heat)
    for n in range(2):
        for k in range(5):
            plane = heat[n, k].tolist()
            y, x = max(((v, u) for v in range(9) for u in range(7)), key=lambda c: plane[c[0]][c[1]])
            wanted = [float(x), float(y)]
            if 1 < x < 6 and 1 < y < 8:
                wanted[0] += math.copysign(0.25, plane[y][x + 1] - plane[y][x - 1])
                wanted[1] += math.copysign(0.25, plane[y + 1][x] - plane[y - 1][x])
            assert found[n, k].tolist() == wanted
            assert float(best[n, k]) == plane[y][x]


def test_newton_stays_where_there_is_no_peak() -> None:
    found, _ = newton_peaks(torch.zeros(1, 2, 16, 12))
    assert found.abs().max() == 0


class Dot(HeatmapNetwork):
    """Sees every joint at the one bright dot of a crop."""

    def heatmaps(self, crops: Tensor) -> Tensor:
        bright, (height, width) = crops.mean(1), crops.shape[-2:]
        assert (bright.sum((1, 2)) > 0).all(), "the dot is not in the crop"
        across, down = (bright.sum(axis) @ torch.arange(float(n)) for axis, n in ((1, width), (2, height)))
        pixel = torch.stack([across, down], -1) / bright.sum((1, 2))[:, None]
        last = torch.tensor([width, height]) - 1
        cell = pixel / last * ((last + 1) / 4 - 1) if self.unbiased else pixel / 4
        return gaussians(cell[:, None].expand(-1, 17, -1), height // 4, width // 4)


BOX = np.array([120.0, 60.0, 250.0, 330.0], np.float32)


@pytest.mark.parametrize(("unbiased", "flip"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("size", [(256, 192), (384, 288)])
def test_points_come_back_to_the_image(unbiased: bool, flip: bool, size: tuple[int, int]) -> None:
    estimator = TopDownEstimator("dot", Dot(unbiased, flip), size, "", torch.device("cpu"), torch.float32, 3)
    places = np.random.default_rng(0).integers((110, 60), (260, 330), (24, 2))
    frames = torch.zeros(24, 400, 400, 3, dtype=torch.uint8)
    for frame, (x, y) in zip(frames, places, strict=True):
        frame[y - 5 : y + 6, x - 5 : x + 6] = 200
    people = estimator(frames, range(24), [{7: BOX, 3: BOX + n / 4} if n % 2 else {7: BOX} for n in range(24)])
    assert [list(here) for here in people] == [[7, 3] if n % 2 else [7] for n in range(24)]
    px = 337.5 / size[0]  # of the image in a pixel of the crop
    for track_id in (7, 3):
        found = [(n, here[track_id]) for n, here in enumerate(people) if track_id in here]
        away = np.array([points[:, :2] - places[n] - 0.5 for n, (points, _) in found])  # from the middle of the dot
        assert all(none is None and (points[:, 2] > 0.8).all() for _, (points, none) in found)
        assert np.abs(away).max() < (0.1 if unbiased else 1.1) * px  # a quarter of a cell is a pixel
        assert np.abs(away.mean((0, 1))).max() < (0.05 if unbiased else 0.3) * px


# Published files.


@pytest.fixture(scope="module")
def hrnet_state():
    return seeded_state(HRNET)


@pytest.fixture(scope="module")
def hrnet_file(hrnet_state, tmp_path_factory):
    return saved(hrnet_state, tmp_path_factory.mktemp("hrnet") / "pose_hrnet_w32_256x192.pth")


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory):
    state = seeded_state(vit_shapes())
    return saved(state, tmp_path_factory.mktemp("vit") / "vitpose-b.pth", meta={"epoch": 210}, optimizer={"state": {}})


@torch.no_grad()
def test_every_layout_of_hrnets_keys_is_the_published_network(hrnet_file, hrnet_state, tmp_path) -> None:
    stored = np.load(DATA / "published_networks.npz")["pose_heatmaps"]
    estimator = load_keypoints(f"hrnet:{hrnet_file}")
    heat = estimator.network.heatmaps(seeded_crops(1, 64, 96))
    assert float((heat - torch.from_numpy(stored)).abs().max()) < 1e-5 * float(np.abs(stored).max())
    assert (estimator.size, estimator.network.unbiased, estimator.network.flip) == ((256, 192), False, False)
    assert (estimator.skeleton.name, estimator.has_depth, len(estimator.weights_sha256)) == ("coco-17", False, 64)
    for head in ("keypoint_head.", "head."):
        named = {(head if k.startswith("final_layer.") else "backbone.") + k: v.half() for k, v in hrnet_state.items()}
        other = load_keypoints(f"hrnet:{saved(named, tmp_path / 'td-hm_hrnet-w32_udp_coco-384x288.pth')}")
        close = other.network.heatmaps(seeded_crops(1, 64, 96)) - heat
        assert float(close.abs().max()) < 0.05 * float(heat.abs().max())  # the file is in float16
        assert (other.size, other.network.unbiased) == ((384, 288), True)


def test_words_ahead_of_the_file_say_how_hrnet_is_used(hrnet_file, tmp_path) -> None:
    worded = load_keypoints(f"hrnet:384x288:flip:udp:{hrnet_file}")
    assert (worded.size, worded.network.unbiased, worded.network.flip) == ((384, 288), True, True)
    with pytest.raises(UsageError, match="one size"):
        load_keypoints(f"hrnet:384x288:256x192:{hrnet_file}")
    with pytest.raises(UsageError, match="hrnet:<checkpoint>"):
        load_keypoints("hrnet")


@torch.no_grad()
def test_vitpose_is_the_published_network(vit_file) -> None:
    network = load_keypoints(f"vitpose:{vit_file}").network
    assert {k.removeprefix("backbone.") for k in vit_shapes() if k.startswith("backbone.")} == set(
        network.backbone.state_dict()
    )
    state, crops = seeded_state(vit_shapes()), seeded_crops(2, 256, 192)
    x = network.backbone(crops).maps[0]
    for layer in (0, 3):
        weight = state[f"keypoint_head.deconv_layers.{layer}.weight"]
        norm = [state[f"keypoint_head.deconv_layers.{layer + 1}.{k}"] for k in _NORM]
        x = functional.batch_norm(functional.conv_transpose2d(x, weight, stride=2, padding=1), *norm).relu()
    wanted = functional.conv2d(x, *(state[f"keypoint_head.final_layer.{k}"] for k in ("weight", "bias")))
    torch.testing.assert_close(network.heatmaps(crops), wanted, rtol=1e-4, atol=1e-4)
    assert wanted.shape == (2, 17, 64, 48)


_NORM = ("running_mean", "running_var", "weight", "bias")


@torch.no_grad()
def test_the_simple_head_and_mmposes_names(tmp_path) -> None:
    state = seeded_state(vit_shapes(simple=True))
    crops = seeded_crops(1, 256, 192)
    network = vitpose.published(state, "simple.pth")
    found = network.heatmaps(crops)
    wide = functional.interpolate(network.backbone(crops).maps[0].relu(), size=(64, 48), mode="bilinear")
    weight, bias = (state[f"keypoint_head.final_layer.{k}"] for k in ("weight", "bias"))
    torch.testing.assert_close(found, functional.conv2d(wide, weight, bias, padding=1), rtol=1e-4, atol=1e-4)
    # mmpose 1 has no class token: its places are those of the authors, with what is added to all of them.
    renamed = {mmpose_1(key): value for key, value in state.items()}
    position = renamed["backbone.pos_embed"]
    renamed["backbone.pos_embed"] = position[:, 1:] + position[:, :1]
    other = load_keypoints(f"vitpose:{saved(renamed, tmp_path / 'td-hm_ViTPose.pth')}").network
    torch.testing.assert_close(other.heatmaps(crops), found, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["hrnet", "vitpose"])
def test_with_the_flip_test_a_mirrored_crop_has_mirrored_points(name, hrnet_file, vit_file) -> None:
    network = load_keypoints(f"{name}:flip:{hrnet_file if name == 'hrnet' else vit_file}").network
    crops = seeded_crops(1, 256, 192)
    straight, mirrored = network(crops), network(crops.flip(-1))[:, list(COCO_17.mirror)]
    # A peak in the outermost columns of the shifted map has no counterpart.
    inner = (straight[..., 0] > 12) & (straight[..., 0] < 180) & straight.isfinite().all(-1)
    assert inner.sum() > 8
    torch.testing.assert_close(mirrored[inner][:, 0], 192 - straight[inner][:, 0], atol=2e-2, rtol=0)
    torch.testing.assert_close(mirrored[inner][:, 1:], straight[inner][:, 1:], atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("hrnet", "stage3.2.branches.1.0.conv1.weight"), ("hrnet", "transition1.0.0.weight"),
        ("hrnet", "final_layer.bias"), ("vitpose", "backbone.blocks.1.attn.proj.bias"),
        ("vitpose", "backbone.blocks.0.mlp.fc1.bias"), ("vitpose", "keypoint_head.final_layer.bias"),
    ],
)  # fmt: skip
def test_a_missing_tensor_is_named_and_fatal(name, key, hrnet_state) -> None:
    state, module = (hrnet_state, hrnet) if name == "hrnet" else (seeded_state(vit_shapes()), vitpose)
    short = {k: v for k, v in state.items() if k != key}
    with pytest.raises(WeightsError, match=rf"1 missing \(.*{re.escape(key.removeprefix('keypoint_head.'))}"):
        module.published(short, "short.pth")
    more = state | {("" if name == "hrnet" else "backbone.") + "stage5.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"1 unexpected \(backbone.stage5.weight\)"):
        module.published(more, "more.pth")


def test_counts_that_old_files_lack_may_be_missing(hrnet_state) -> None:
    old = {key: value for key, value in hrnet_state.items() if not key.endswith("num_batches_tracked")}
    assert (
        hrnet.published(old, "old.pth").state_dict().keys() == hrnet.published(hrnet_state, "new").state_dict().keys()
    )


WRONG = {
    "wanted an HRNet for keypoints, found 1 other": ("hrnet", {"fc.weight": torch.zeros(1)}),
    "wanted a ViTPose for keypoints, found 1 other": ("vitpose", {"fc.weight": torch.zeros(1)}),
    "17 keypoints, found one for 16": (
        "hrnet",
        {hrnet.LANDMARK: torch.zeros(1), "final_layer.weight": torch.zeros(16)},
    ),
    "256 x 192 px .* found one of 433": ("vitpose", seeded_state(vit_shapes() | {"backbone.pos_embed": (1, 433, 96)})),
    "found one of width 100": ("vitpose", seeded_state(vit_shapes(100))),
    "model_split.py": ("vitpose", seeded_state(vit_shapes() | {"backbone.blocks.0.mlp.experts.0.weight": (3, 96)})),
}


@pytest.mark.parametrize("message", WRONG)
def test_other_files_are_refused_in_one_line(message, tmp_path) -> None:
    name, state = WRONG[message]
    with pytest.raises(WeightsError, match=message) as error:
        load_keypoints(f"{name}:{saved(state, tmp_path / 'file.pth')}")
    assert "\n" not in str(error.value)


def test_heads_of_other_data_sets_are_passed_over_and_listed(tmp_path, caplog) -> None:
    state = seeded_state(vit_shapes()) | {"associate_keypoint_heads.0.final_layer.weight": torch.zeros(16, 256, 1, 1)}
    with caplog.at_level("INFO", logger="hmrkit.keypoints.top_down"):
        load_keypoints(f"vitpose:{saved(state, tmp_path / 'split.pth')}")
    assert "associate_keypoint_heads.0.final_layer.weight" in caplog.text


@pytest.mark.parametrize("name", ["hrnet", "vitpose"])
def test_they_run_on_another_device(name, hrnet_state) -> None:
    vit = seeded_state(vit_shapes())
    network = (
        hrnet.published(hrnet_state, "x", flip=True) if name == "hrnet" else vitpose.published(vit, "x", flip=True)
    )
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        moved = on_fake_cuda(network.eval(), mode)
        points = moved(mode.from_tensor(torch.rand(2, 3, 64, 64) if name == "hrnet" else _CROPS).to("cuda:0"))
    assert (points.device.type, tuple(points.shape)) == ("cuda", (2, 17, 3))


_CROPS = torch.rand(2, 3, 256, 192)
