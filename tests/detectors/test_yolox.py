"""YOLOX equals the original runtime (onnxruntime 1.31.1 on Megvii's ``yolox_nano.onnx``) on a crop of a real frame."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from hmrkit.detectors import load_detector
from hmrkit.detectors.yolox import PADDING, YoloXDetector, default_size, letterbox
from hmrkit.detectors.yolox_net import BATCH_NORM_EPS, STRIDES, YoloX, module_for
from hmrkit.errors import WeightsError
from hmrkit.weights import load_into, load_state

DATA = Path(__file__).parent.parent / "data"
WEIGHTS = "detector/yolox_nano.safetensors"
SQUARE = 416  # px, what the original takes


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    """(416,288,3) uint8 RGB with one person in it."""
    with np.load(DATA / "yolox_oracle.npz") as file:
        return torch.from_numpy(np.array(Image.open(io.BytesIO(file["png"].tobytes()))))


@pytest.fixture(scope="module")
def oracle() -> tuple[np.ndarray, np.ndarray]:
    """Numbers (170,) of cells and the original's raw outputs (170,85) there, the best cells among them."""
    with np.load(DATA / "yolox_oracle.npz") as file:
        return file["cells"], file["outputs"]


@pytest.fixture(scope="module")
def detector() -> YoloXDetector:
    detector = load_detector("yolox-nano")
    assert isinstance(detector, YoloXDetector)
    return detector


def on_grey(image: torch.Tensor, height: int, width: int, y: int = 0, x: int = 0) -> torch.Tensor:
    canvas = torch.full((height, width, 3), PADDING, dtype=torch.uint8)
    canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return canvas


def published_box(cells: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The original's most probable person as xyxy px, decoded here by the paper's rule, cell by cell."""
    best = int(np.argmax(outputs[:, 4] * outputs[:, 5]))
    number = int(cells[best])
    for stride in STRIDES:
        side = SQUARE // stride
        if number < side * side:
            break
        number -= side * side
    x, y = (outputs[best, 0] + number % side) * stride, (outputs[best, 1] + number // side) * stride
    width, height = np.exp(outputs[best, 2:4]) * stride
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def test_equals_the_original_runtime(image, oracle) -> None:
    cells, wanted = oracle
    state = load_state(WEIGHTS)
    network = module_for(state).eval()
    load_into(network, state, WEIGHTS)
    images, scale = letterbox(on_grey(image, SQUARE, SQUARE)[None], SQUARE)
    assert scale == 1
    with torch.inference_mode():
        got = network(images)[0].numpy()
    assert got.shape == (sum((SQUARE // stride) ** 2 for stride in STRIDES), 85)
    assert np.abs(got[cells] - wanted).max() < 1e-3


def test_finds_the_person_where_the_original_sees_them(detector, image, oracle) -> None:
    [people] = detector(on_grey(image, SQUARE, SQUARE)[None], [0])
    assert people.scores.shape == (1,)
    np.testing.assert_allclose(people.boxes_xyxy[0], published_box(*oracle), atol=0.01)


def test_leaving_out_the_padding_changes_little(detector, image) -> None:
    [fitted], [square] = detector(image[None], [0]), detector(on_grey(image, SQUARE, SQUARE)[None], [0])
    np.testing.assert_allclose(fitted.boxes_xyxy, square.boxes_xyxy, atol=2)
    np.testing.assert_allclose(fitted.scores, square.scores, atol=0.02)


def test_a_batch_changes_nothing(detector, image) -> None:
    frames = torch.stack([image, image.flip(1), torch.full_like(image, 90)])
    together = detector(frames, [4, 5, 6])
    alone = [detector(frame[None], [0])[0] for frame in frames]
    assert [len(people.scores) for people in together] == [1, 1, 0]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=0.01)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


def test_a_person_moved_in_the_image_is_found_moved(detector, image) -> None:
    [here] = detector(on_grey(image, 480, 640)[None], [0])
    [there] = detector(on_grey(image, 480, 640, y=32, x=256)[None], [0])
    np.testing.assert_allclose(there.boxes_xyxy, here.boxes_xyxy + np.array([256, 32, 256, 32]), atol=1)


def test_boxes_are_in_px_of_the_frame_and_inside_it(detector, image) -> None:
    large = image.repeat_interleave(3, 0).repeat_interleave(3, 1)  # 1248 x 864 px, shrunk to 640 x 443
    [people], [small] = detector(large[None], [0]), detector(image[None], [0])
    np.testing.assert_allclose(people.boxes_xyxy[0] / 3, small.boxes_xyxy[0], atol=20)
    assert (people.boxes_xyxy >= 0).all()
    assert (people.boxes_xyxy <= [864, 1248, 864, 1248]).all()


def test_letterbox_swaps_colours_and_pads_with_grey_to_the_stride() -> None:
    frames = torch.zeros(2, 50, 100, 3, dtype=torch.uint8)
    frames[..., 0] = 200  # red
    images, scale = letterbox(frames, 200)
    assert images.shape == (2, 3, 128, 224)
    assert scale == 2
    assert images[:, :, :100, :200].amax((0, 2, 3)).tolist() == [0, 0, 200]
    assert (images[:, :, 100:] == PADDING).all()
    assert (images[:, :, :, 200:] == PADDING).all()


def test_default_size_is_a_multiple_of_the_stride() -> None:
    for height, width in ((432, 768), (1080, 1920), (2160, 3840), (1920, 1080), (100, 60)):
        assert default_size(height, width) % STRIDES[-1] == 0


def test_no_cap_on_people(detector) -> None:
    """As many as there are cells: one box for each of 3549, none overlapping another."""
    x, y = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    corner = torch.stack([x, y], -1).reshape(-1, 2)[:3549] * 10
    boxes = torch.cat([corner, corner + 8], -1)[None].repeat(2, 1, 1)
    scores = torch.linspace(0.2, 0.9, 3549).repeat(2, 1)
    scores[1, 5:] = 0.05  # weak ones are not people
    crowd, few = detector._people(boxes, scores, 600, 600)
    assert len(crowd.scores) == 3549
    assert len(few.scores) == 5
    assert (np.diff(crowd.scores) <= 0).all()


def as_published(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same network with batch norms that have something to do, named as in Megvii's checkpoints."""
    generator = torch.Generator().manual_seed(1)
    published = dict(state)
    for key in [key for key in state if key.endswith(".conv.bias")]:
        layer, bias = key.removesuffix(".conv.bias"), published.pop(key)
        gain, mean, variance = (torch.rand(len(bias), generator=generator) + 0.5 for _ in range(3))
        # What PyTorch's own layer makes of 1 and of 0 says what it multiplies by and what it adds.
        one, zero = (
            functional.batch_norm(x, mean, variance, gain, eps=BATCH_NORM_EPS)[0] for x in ones_and_zeros(bias)
        )
        published[f"{layer}.conv.weight"] = state[f"{layer}.conv.weight"] / (one - zero)[:, None, None, None]
        norm = {"weight": gain, "bias": bias - zero, "running_mean": mean, "running_var": variance}
        published |= {f"{layer}.bn.{name}": value for name, value in norm.items()}
        published[f"{layer}.bn.num_batches_tracked"] = torch.tensor(3)
    return published


def ones_and_zeros(like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(1, len(like)), torch.zeros(1, len(like))


def test_published_checkpoints_of_other_sizes_load(tmp_path: Path, image) -> None:
    torch.manual_seed(0)
    network = YoloX(width=8, depth=2, depthwise=False).eval()
    path = tmp_path / "yolox_small.pth"
    torch.save({"start_epoch": 300, "model": as_published(network.state_dict())}, path)
    detector = load_detector(f"yolox:{path}")
    assert isinstance(detector, YoloXDetector)
    assert detector.name == "yolox:yolox_small.pth"
    assert len(detector.weights_sha256) == 64
    images = torch.rand(1, 3, 64, 96) * 255
    with torch.inference_mode():
        torch.testing.assert_close(detector.run(images), network(images)[..., :6], atol=1e-3, rtol=1e-3)
    assert len(detector(image[None], [0])) == 1


def test_a_checkpoint_of_something_else_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="expected a YOLOX checkpoint") as error:
        load_detector(f"yolox:{tmp_path / 'other.pth'}")
    assert "\n" not in str(error.value)
