"""The plain module equals the original runtime (ai-edge-litert on ``pose_landmark_heavy.tflite``) on real crops."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hmrkit.blazepose.network import FEATURE_CHANNELS, FEATURE_STRIDES, load_network
from hmrkit.blazepose.side_bias import side_bias, without_side_bias
from hmrkit.keypoints.blazepose_reading import refine_by_heatmaps
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.training.blazepose_bias import one_sided

ORACLE = Path(__file__).parents[1] / "data" / "blazepose_oracle.npz"


@pytest.fixture(scope="module")
def network():
    return load_network()


@pytest.fixture(scope="module")
def oracle() -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """Four crops (4,3,256,256) and the original runtime's output for them (of heatmaps and masks: a grid)."""
    with np.load(ORACLE) as file:
        images = [np.asarray(Image.open(io.BytesIO(file[f"png_{k}"].tobytes()))) for k in range(4)]
        names = ("landmarks", "world", "presence", "heatmaps", "mask")
        answers = {name: np.stack([file[f"{name}_{k}"] for k in range(4)]) for name in names}
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, answers


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def test_equals_the_original_runtime(network, oracle) -> None:
    crops, wanted = oracle
    with torch.inference_mode():
        got, mask = network(crops, heatmaps=True), network.mask(crops).numpy()
    landmarks = got.landmarks.numpy()
    assert np.abs(landmarks[..., :3] - wanted["landmarks"][..., :3]).max() < 0.1  # px
    assert np.abs(sigmoid(landmarks[..., 3:]) - sigmoid(wanted["landmarks"][..., 3:])).max() < 1e-3
    assert np.abs(got.world.numpy() - wanted["world"]).max() < 1e-3  # m
    assert np.abs(got.presence.numpy() - wanted["presence"]).max() < 1e-3
    heatmaps = got.heatmaps.numpy().transpose(0, 2, 3, 1)[:, ::8, ::8]
    assert np.abs(sigmoid(heatmaps) - sigmoid(wanted["heatmaps"])).max() < 1e-3
    assert np.abs(sigmoid(mask[:, 0, ::16, ::16]) - sigmoid(wanted["mask"])).max() < 2e-3


def test_a_batch_changes_nothing_and_what_is_not_asked_for_is_not_made(network, oracle) -> None:
    crops, _ = oracle
    with torch.inference_mode():
        together, alone = network(crops), network(crops[1:2])
    assert together.heatmaps is None
    torch.testing.assert_close(together.landmarks[1:2], alone.landmarks, atol=0.01, rtol=0)


def test_features_have_the_strides_and_widths_that_they_announce(network) -> None:
    with torch.inference_mode():
        maps, first32 = network.trunk(torch.rand(1, 3, 128, 192))
    assert first32.shape == maps[-1].shape
    assert [tuple(m.shape[1:]) for m in maps[1:]] == [
        (c, 128 // s, 192 // s) for c, s in zip(FEATURE_CHANNELS, FEATURE_STRIDES, strict=True)
    ]


def test_refinement_finds_the_middle_of_a_blob_and_leaves_the_unsure_alone() -> None:
    row = torch.arange(64.0)  # cell i stands for pixel 4 i
    target = torch.tensor([[30.3, 21.7]])  # cells
    squared = (row[None, :] - target[0, 0]) ** 2 + (row[:, None] - target[0, 1]) ** 2
    chance = (0.98 * torch.exp(-squared / 2)).clamp(1e-6, 0.999)
    heatmaps = torch.stack([chance.logit(), (chance * 0.3).logit()])[None]
    start = torch.tensor([[[4 * 29.6, 4 * 22.4], [4 * 29.6, 4 * 22.4]]])
    refined = refine_by_heatmaps(start, heatmaps)
    torch.testing.assert_close(refined[0, 0], 4 * target[0], atol=0.5, rtol=0)
    torch.testing.assert_close(refined[0, 1], start[0, 1])


def test_refinement_at_and_beyond_the_edge_stays_finite() -> None:
    start = torch.tensor([[[-40.0, 300.0], [0.0, 256.0], [1e6, -1e6]]])
    heatmaps = torch.full((1, 3, 64, 64), 5.0)
    assert torch.isfinite(refine_by_heatmaps(start, heatmaps)).all()


def test_real_people_show_the_side_bias_of_the_table(network, oracle) -> None:
    """The table comes from rendered people; four crops of real ones show it with much noise, but all of them show
    it."""
    crops, _ = oracle
    with torch.inference_mode():
        straight, mirrored = network(crops), network(crops.flip(-1).contiguous())
    before = one_sided(straight, mirrored)[..., 2:]
    after = one_sided(without_side_bias(straight), without_side_bias(mirrored))[..., 2:]
    assert (after.norm(dim=-1).mean(1) < before.norm(dim=-1).mean(1)).all()
    table = side_bias(torch.device("cpu"))[1] * 1000
    torch.testing.assert_close(before - after, table.expand_as(before), atol=0.01, rtol=0)
    shares = (before * table).sum((1, 2)) / table.square().sum()
    assert shares.min() > 0.2
    assert 0.5 < shares.mean() < 1.5


def test_the_table_is_as_mirrored_people_need_it(network, oracle) -> None:
    px, world = side_bias(torch.device("cpu"))
    mirror = list(BLAZEPOSE_33.mirror)
    torch.testing.assert_close(px[mirror] * torch.tensor([1.0, -1]), px)
    torch.testing.assert_close(world[mirror] * torch.tensor([1.0, -1, -1]), world)
    crops, _ = oracle
    with torch.inference_mode():
        raw = network(crops)
    corrected = without_side_bias(raw)
    torch.testing.assert_close(corrected.world[:, :33] + world, raw.world[:, :33])
    torch.testing.assert_close(corrected.world[:, 33:], raw.world[:, 33:])
    torch.testing.assert_close(corrected.landmarks[..., 2:], raw.landmarks[..., 2:])
