"""The plain module equals the original graph (TensorFlow.js 4.22.0, wasm) on the real crops of BlazePose's test."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hmrkit.conversion.movenet import convert
from hmrkit.errors import WeightsError
from hmrkit.keypoints import load_keypoints
from hmrkit.keypoints.movenet import JOINTS, STRIDE, MoveNetMaps, decode, load_movenet
from hmrkit.skeletons import COCO_17

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture(scope="module")
def network():
    return load_movenet()


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    """(4,3,256,256) in [0, 1]."""
    with np.load(DATA / "blazepose_oracle.npz") as file:
        images = [np.asarray(Image.open(io.BytesIO(file[f"png_{k}"].tobytes()))) for k in range(4)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    """(4,17,3): x px, y px, score by the original, which says y and x as fractions of the crop."""
    with np.load(DATA / "movenet_oracle.npz") as file:
        y, x, score = np.moveaxis(file["y_x_score"], -1, 0)
    return np.stack([x * 256, y * 256, score], -1)


def test_equals_the_original_runtime(network, crops, wanted) -> None:
    with torch.inference_mode():
        got = network(crops).numpy()
    assert got.dtype == np.float32
    assert np.abs(got[..., :2] - wanted[..., :2]).max() < 0.1  # px
    assert np.abs(got[..., 2] - wanted[..., 2]).max() < 1e-3


def test_a_batch_changes_nothing(network, crops) -> None:
    with torch.inference_mode():
        together, alone = network(crops), network(crops[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-3, rtol=0)


def test_a_mirrored_person_is_found_mirrored(network, crops) -> None:
    with torch.inference_mode():
        plain, mirrored = network(crops).numpy(), network(crops.flip(-1)).numpy()[:, COCO_17.mirror]
    mirrored[..., 0] = 256 - mirrored[..., 0]
    sure = (plain[..., 2] > 0.4) & (mirrored[..., 2] > 0.4)
    assert sure.sum() > 34
    difference = (mirrored - plain)[sure][:, :2]
    assert np.median(np.abs(difference)) < 1.5
    assert abs(difference[:, 0].mean()) < 0.5  # cells and padding are not off to one side


def test_on_a_track_the_keypoints_lie_in_the_image(crops, wanted) -> None:
    """A crop set into an image and its own square as the box: the answer is the crop's, moved."""
    image = torch.zeros(1, 400, 500, 3, dtype=torch.uint8)
    image[0, 60:316, 90:346] = (crops[1] * 255).round().byte().permute(1, 2, 0)
    side = 256 / 1.25  # the estimator widens boxes by this
    box = np.array([218 - side / 2, 188 - side / 2, 218 + side / 2, 188 + side / 2])
    estimator = load_keypoints("movenet-thunder")
    [people] = estimator(image, [0], [{5: box}])
    points, joints = people[5]
    assert joints is None
    assert estimator.has_depth is False
    np.testing.assert_allclose(points[:, :2], wanted[1, :, :2] + [90, 60], atol=0.1)


def logit(chance: float) -> float:
    return float(np.log(chance / (1 - chance)))


def test_decoding_follows_the_middle_person_from_centre_to_heatmap_to_offset() -> None:
    size = 64
    center = torch.full((1, 1, size, size), logit(0.01))
    center[0, 0, 30, 33] = logit(0.7)
    center[0, 0, 2, 2] = logit(0.9)  # stronger, but far from the middle
    regression = torch.zeros(1, 2 * JOINTS, size, size)
    regression[0, 0::2, 30, 33], regression[0, 1::2, 30, 33] = -8.0, 5.0  # y, x
    heatmaps = torch.full((1, JOINTS, size, size), logit(0.01))
    heatmaps[0, :, 22, 37] = logit(0.6)  # a cell from where the regression points
    heatmaps[0, :, 50, 50] = logit(0.95)  # somebody else's
    offsets = torch.zeros(1, 2 * JOINTS, size, size)
    offsets[0, 0::2, 22, 37], offsets[0, 1::2, 22, 37] = 0.25, 0.75
    points = decode(MoveNetMaps(center, heatmaps, regression, offsets))
    expected = torch.tensor([37.75 * STRIDE, 22.25 * STRIDE, 0.6]).expand(1, JOINTS, 3)
    torch.testing.assert_close(points, expected, atol=1e-4, rtol=0)


def test_the_converter_refuses_another_network(tmp_path: Path) -> None:
    nodes = [{"name": "w", "op": "Const"}, {"name": "k", "op": "Relu", "input": ["w"]}]
    weights = [{"name": "w", "shape": [2], "dtype": "float32"}]
    model = {"modelTopology": {"node": nodes}, "weightsManifest": [{"paths": ["m.bin"], "weights": weights}]}
    (tmp_path / "m.json").write_text(json.dumps(model))
    (tmp_path / "m.bin").write_bytes(np.ones(2, "<f4").tobytes())
    with pytest.raises(WeightsError, match="Conv1"):
        convert(tmp_path / "m.json", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
