"""CrowdPose's file: COCO's fields without area, 14 keypoints, and a crowd index for each image."""

import json

import numpy as np
import pytest
from PIL import Image

from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.datasets.crowdpose import CROWDPOSE_14, difficulty
from hmrkit.errors import InputError

CROWDING = {114203: 0.76, 115625: 0.0, 102218: 1.0, 117306: 0.19, 104173: 0.2, 107292: 0.8}


def write_crowdpose(root, folder="json"):
    # Keypoints of CrowdPose's first validation annotation (its num_keypoints counts otherwise than the flags).
    keypoints = [181, 164, 2, 212, 193, 2, 194, 222, 2, 221, 235, 2, 218, 256, 2, 227, 275, 1, 121, 235, 2, 144, 250, 2,
                 176, 283, 2, 0, 0, 0, 180, 344, 2, 138, 382, 2, 227, 142, 1, 205, 169, 1]  # fmt: skip
    images = [
        {"file_name": f"{i}.jpg", "id": i, "height": 1000, "width": 795, "crowdIndex": c} for i, c in CROWDING.items()
    ]
    annotations = [
        {
            "num_keypoints": 12,
            "iscrowd": 0,
            "keypoints": keypoints,
            "image_id": image,
            "bbox": [111.1, 134.5, 129.44, 271.82],
            "category_id": 1,
            "id": 100016 + n,
        }
        for n, image in enumerate(CROWDING)
    ]
    annotations.append({**annotations[0], "id": 7, "num_keypoints": 0, "keypoints": [0] * 42})
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "crowdpose_test.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]})
    )
    return root


def read(root):
    dataset = load_dataset("crowdpose", root)
    dataset.check()
    return list(dataset.sequences())


def test_sequences_are_grouped_by_difficulty(tmp_path):
    sequences = read(write_crowdpose(tmp_path))
    assert [s.group for s in sequences] == ["easy", "medium", "hard"]
    ids = [np.concatenate([p.facts["image_id"] for p in s.people]).tolist() for s in sequences]
    assert ids == [[115625, 117306], [114203, 104173, 114203], [102218, 107292]]
    for sequence in sequences:
        for person in sequence.people:
            indices = [CROWDING[i] for i in person.facts["image_id"]]
            np.testing.assert_allclose(person.facts["crowd_index"], indices, rtol=1e-6)


def test_limits_of_difficulty_are_those_of_the_published_code():
    assert [difficulty(c) for c in (0, 0.19, 0.2, 0.79, 0.8, 1)] == ["easy", "easy", "medium", "medium", "hard", "hard"]


def test_people(tmp_path):
    medium = read(write_crowdpose(tmp_path))[1]
    first, second = medium.people
    assert first.keypoint_skeleton is CROWDPOSE_14
    named = dict(zip(CROWDPOSE_14.joints, first.keypoints_2d[0].tolist(), strict=True))
    assert named["left_shoulder"] == [181, 164, 2]
    assert named["right_wrist"] == [227, 275, 1]
    assert np.isnan(named["right_knee"][0])
    assert named["left_ankle"] == [180, 344, 2]
    assert named["head_top"] == [227, 142, 1]
    assert named["neck"] == [205, 169, 1]
    np.testing.assert_allclose(first.facts["area_px2"][0], 0.53 * 129.44 * 271.82, rtol=1e-6)
    assert first.valid.all()
    assert second.valid.tolist() == [False]
    assert medium.frames is None, "no images: only predictions can be scored"


def test_images(tmp_path):
    root = write_crowdpose(tmp_path, folder="annotations")
    (root / "images").mkdir()
    for image in CROWDING:
        Image.new("RGB", (8, 8)).save(root / "images" / f"{image}.jpg")
    assert [p.name for p in read(root)[2].frames] == ["102218.jpg", "107292.jpg"]


def test_missing_and_wrong_files(tmp_path):
    with pytest.raises(
        InputError, match=r"crowdpose_test\.json; download it from https://github.com/Jeff-sjtu/CrowdPose"
    ):
        load_dataset("crowdpose", tmp_path, DatasetOptions()).check()
    root = write_crowdpose(tmp_path)
    path = root / "json" / "crowdpose_test.json"
    path.write_text(path.read_text().replace("crowdIndex", "crowd"))
    with pytest.raises(InputError, match="lacks crowdIndex"):
        read(root)
