"""LSP's joints.mat and images with the labels of UPi-S1h, made here."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import LSP_14


def write_lsp(root, up="upi-s1h", size=(40, 60)):
    joints = np.zeros((3, 14, 2000))
    joints[0] = np.arange(14)[:, None] + 3 + np.arange(2000) % 7
    joints[1] = 4 * np.arange(14)[:, None] + 2
    joints[2, LSP_14.index["left_wrist"]] = 1  # hidden
    (root / "lsp_dataset" / "images").mkdir(parents=True)
    savemat(root / "lsp_dataset" / "joints.mat", {"joints": joints})
    labels = root / up / "data" / "lsp"
    labels.mkdir(parents=True)
    for number in range(1001, 2001):
        if number <= 1003:
            Image.new("RGB", size).save(root / "lsp_dataset" / "images" / f"im{number:04d}.jpg")
        if number != 1002:
            Image.new("L", (40, 60)).save(labels / f"im{number:04d}_segmentation.png")
        if number % 2:
            Image.new("L", (40, 60)).save(labels / f"im{number:04d}_part_segmentation.png")
    return root, joints


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_lsp(tmp_path_factory.mktemp("lsp"))


def test_test_images_with_labels(files):
    root, joints = files
    dataset = load_dataset("lsp", root)
    dataset.check()
    sequences = list(dataset.sequences())
    assert [s.frame_count for s in sequences] == [250] * 4
    first = sequences[0].people[0]
    assert first.keypoint_skeleton is LSP_14
    np.testing.assert_array_equal(first.keypoints_2d[0, :, :2], joints[:2, :, 1000].T.astype(np.float32))
    flags = dict(zip(LSP_14.joints, first.keypoints_2d[0, :, 2], strict=True))
    assert flags.pop("left_wrist") == 1
    assert set(flags.values()) == {2}
    assert first.silhouettes[0].name == "im1001_segmentation.png"
    assert first.silhouettes[1] is None
    assert first.valid.tolist() == [True, False] + [True] * 248
    assert first.parts[0].name == "im1001_part_segmentation.png"
    assert first.parts[1] is None
    assert sequences[3].people[0].silhouettes[-1].name == "im2000_segmentation.png"
    # The box of the joints, hidden ones among them; a regressor is then shown SPIN's 1.2 times of it.
    low, high = joints[:2, :, 1000].min(1), joints[:2, :, 1000].max(1)
    box = first.boxes_xyxy[0]
    assert max(box[2:] - box[:2]) == pytest.approx(max(high - low))
    np.testing.assert_allclose((box[2:] + box[:2]) / 2, (low + high) / 2)


def test_images_are_all_there_or_none(files):
    root, _ = files
    assert all(sequence.frames is None for sequence in load_dataset("lsp", root).sequences())


def test_high_resolution_images_do_not_fit_the_labels(tmp_path):
    root, _ = write_lsp(tmp_path, size=(400, 600))
    with pytest.raises(InputError, match="not lsp_dataset_original"):
        load_dataset("lsp", root).check()


def test_what_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"joints.mat, .*im1001_segmentation.png; download LSP .* licence"):
        load_dataset("lsp", tmp_path).check()
    (tmp_path / "data" / "lsp").mkdir(parents=True)
    Image.new("L", (4, 6)).save(tmp_path / "data" / "lsp" / "im1001_segmentation.png")
    savemat(tmp_path / "joints.mat", {"joints": np.zeros((14, 3, 10000))})
    with pytest.raises(InputError, match=r"found \(14, 3, 10000\); that is LSP extended"):
        load_dataset("lsp", tmp_path).check()
    with pytest.raises(UsageError, match="unknown --split"):
        load_dataset("lsp", tmp_path, DatasetOptions(split="val"))
