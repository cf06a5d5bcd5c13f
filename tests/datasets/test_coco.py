"""COCO's layout and fields, made here: people with and without keypoints, a crowd, an empty image."""

import json

import numpy as np
import pytest
from PIL import Image

from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.datasets import coco as coco_module
from hmrkit.errors import InputError, UsageError

NOSE, LEFT_HIP = 0, 11


def annotation(number, image, box, points, crowd=0):
    keypoints = np.zeros((17, 3))
    for joint, point in points.items():
        keypoints[joint] = point
    x, y, w, h = box
    return {
        "segmentation": {"counts": [1, 2], "size": [48, 64]} if crowd else [[x, y, x + w, y, x + w, y + h]],
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "area": w * h / 2,
        "iscrowd": crowd,
        "keypoints": keypoints.ravel().tolist(),
        "image_id": image,
        "bbox": list(box),
        "category_id": 1,
        "id": number,
    }


def write_coco(root, with_images=True, split="val2017"):
    images = [{"license": 1, "file_name": f"{i:012d}.jpg", "height": 48, "width": 64, "id": i} for i in (139, 285, 632)]
    annotations = [
        annotation(1001, 285, (5.5, 6.25, 20, 30), {NOSE: (12, 8, 2), LEFT_HIP: (14, 20, 1)}),
        annotation(1002, 139, (1, 2, 10, 20), {NOSE: (3, 4, 2)}),
        annotation(1003, 285, (30, 6, 4, 5), {}),
        annotation(900100000285, 285, (0, 0, 60, 40), {}, crowd=1),
    ]
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": 1, "name": "person"}]
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
    if with_images:
        (root / split).mkdir()
        for image in images:
            Image.new("RGB", (64, 48)).save(root / split / image["file_name"])
    return root


def read(root, name="coco", **options):
    dataset = load_dataset(name, root, DatasetOptions(**options))
    dataset.check()
    return list(dataset.sequences())


def test_people_are_passed_on_as_annotated(tmp_path):
    (sequence,) = read(write_coco(tmp_path))
    assert sequence.stills
    assert sequence.frame_count == 3
    assert [path.name for path in sequence.frames] == ["000000000139.jpg", "000000000285.jpg", "000000000632.jpg"]
    first, second, third = sequence.people
    assert first.frame_indices.tolist() == [0, 1]
    assert second.frame_indices.tolist() == third.frame_indices.tolist() == [1]
    np.testing.assert_array_equal(first.boxes_xyxy, np.float32([[1, 2, 11, 22], [5.5, 6.25, 25.5, 36.25]]))
    assert first.keypoints_2d[1, NOSE].tolist() == [12, 8, 2]
    assert first.keypoints_2d[1, LEFT_HIP].tolist() == [14, 20, 1]
    missing = first.keypoints_2d[0, LEFT_HIP]
    assert np.isnan(missing[:2]).all()
    assert missing[2] == 0
    assert first.facts["image_id"].tolist() == [139, 285]
    assert first.facts["annotation_id"].tolist() == [1002, 1001]
    assert first.facts["area_px2"].tolist() == [100, 300]
    assert [p.valid.tolist() for p in sequence.people] == [[True, True], [False], [False]]
    assert third.facts["is_crowd"].tolist() == [1]
    assert third.facts["annotation_id"].tolist() == [900100000285], "too large for a float32 or an int32"


def test_all_annotations_come_out_once_whatever_the_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_module, "PICTURES_A_SEQUENCE", 2)
    sequences = read(write_coco(tmp_path))
    assert [s.name for s in sequences] == ["val2017-000", "val2017-001"]
    assert [s.frame_count for s in sequences] == [2, 1]
    ids = [i for s in sequences for p in s.people for i in p.facts["annotation_id"]]
    assert sorted(ids) == [1001, 1002, 1003, 900100000285]


def test_images_may_be_elsewhere_or_absent(tmp_path):
    root = write_coco(tmp_path / "a")
    (root / "images").mkdir()
    (root / "val2017").rename(root / "images" / "val2017")
    assert read(root)[0].frames[0].is_file()
    assert read(write_coco(tmp_path / "b", with_images=False))[0].frames is None
    (root / "images" / "val2017" / "000000000285.jpg").unlink()
    with pytest.raises(InputError, match=r"lacks 1 images \(000000000285.jpg"):
        read(root)


def test_other_splits(tmp_path):
    assert read(write_coco(tmp_path, split="val2014"), split="val2014")[0].name == "val2014-000"
    with pytest.raises(InputError, match=r"person_keypoints_val2017\.json; download it from https://cocodataset.org"):
        load_dataset("coco", tmp_path).check()
    with pytest.raises(UsageError, match="unknown --split 'test2017'"):
        load_dataset("coco", tmp_path, DatasetOptions(split="test2017"))


def test_wrong_files_are_recognised(tmp_path):
    root = write_coco(tmp_path)
    path = root / "annotations" / "person_keypoints_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["keypoints"] = content["annotations"][0]["keypoints"][:42]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="annotation 1001: expected 17 keypoints"):
        read(root)
    path.write_text(json.dumps([{"image_id": 1, "keypoints": []}]))
    with pytest.raises(InputError, match="expected COCO's JSON with images and annotations"):
        read(root)


def test_numbers_are_those_of_pycocotools(tmp_path):
    """What pycocotools reads from the same file, where it is installed."""
    coco = pytest.importorskip("pycocotools.coco")
    root = write_coco(tmp_path)
    theirs = coco.COCO(str(root / "annotations" / "person_keypoints_val2017.json"))
    (sequence,) = read(root)
    for person in sequence.people:
        for t, number in enumerate(person.facts["annotation_id"]):
            other = theirs.anns[int(number)]
            x, y, w, h = other["bbox"]
            assert person.boxes_xyxy[t].tolist() == [x, y, x + w, y + h]
            assert np.nan_to_num(person.keypoints_2d[t]).ravel().tolist() == other["keypoints"]
            assert person.facts["area_px2"][t] == other["area"]
