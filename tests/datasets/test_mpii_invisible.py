"""MPII's annotation as MATLAB wrote it, and as the usual JSON conversion has it, made here."""

import json

import numpy as np
import pytest
from scipy.io import savemat

from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.datasets.mpii_invisible import MPII_16
from hmrkit.errors import InputError

# The first person of MPII's training images: x, y, visible; None where MATLAB's field is empty.
PEOPLE = {
    "015601864.jpg": [
        {
            0: (620, 394, 1), 1: (616, 269, 1), 2: (573, 185, 1), 3: (647, 188, 0), 4: (661, 221, 1), 5: (656, 231, 1),
            6: (610, 187, 0), 7: (647, 176, 1), 8: (637.0201, 189.8183, None), 9: (695.9799, 108.1817, None),
            10: (606, 217, 1), 11: (553, 161, 1), 12: (601, 167, 1), 13: (692, 185, 1), 14: (693, 240, 1),
            15: (688, 313, 1),
        },
        {6: (1010, 412, 0), 7: (1054, 440, 1)},
    ],
    "015599452.jpg": [{0: (100, 200, 1), 9: (110, 20, None)}],
}  # fmt: skip
HEADS = {"015601864.jpg": [(627, 100, 706, 198), (1000, 300, 1030, 340)], "015599452.jpg": [(90, 10, 130, 60)]}


def structs(rows, fields):
    """A MATLAB structure array."""
    out = np.zeros((1, len(rows)), [(field, object) for field in fields])
    for i, row in enumerate(rows):
        for field in fields:
            out[0, i][field] = row[field]
    return out


def write_mat(root):
    images = []
    for number, (name, people) in enumerate(PEOPLE.items()):
        rects = []
        for person, (x1, y1, x2, y2) in zip(people, HEADS[name], strict=True):
            flags = {0: [0, "0"][number], 1: [1, "1"][number], None: np.zeros((0, 0))}
            points = [{"x": x, "y": y, "id": k, "is_visible": flags[v]} for k, (x, y, v) in person.items()]
            annopoints = structs([{"point": structs(points, ("x", "y", "id", "is_visible"))}], ("point",))
            rects.append({"x1": x1, "y1": y1, "x2": x2, "y2": y2, "annopoints": annopoints, "scale": 3.02})
        if number == 0:  # a person who was not annotated
            rects.append({**rects[0], "annopoints": np.zeros((0, 0))})
        fields = ("x1", "y1", "x2", "y2", "annopoints", "scale")
        images.append({"image": structs([{"name": name}], ("name",)), "annorect": structs(rects, fields)})
    images.append({"image": structs([{"name": "test.jpg"}], ("name",)), "annorect": np.zeros((0, 0))})
    release = structs(
        [{"annolist": structs(images, ("image", "annorect")), "img_train": np.array([[1, 1, 0]])}],
        ("annolist", "img_train"),
    )
    savemat(root / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})


def write_json(root):
    """Wei et al.'s conversion: (0, 0, 0) where not annotated."""
    entries = []
    for name, people in PEOPLE.items():
        for person in people:
            rows = [list(person.get(k, (0, 0, 0))) for k in range(16)]
            entries.append(
                {
                    "dataset": "MPI", "isValidation": float(name == "015601864.jpg"), "img_paths": name,
                    "joint_self": [[x, y, 1 if v is None else v] for x, y, v in rows], "scale_provided": 3.02,
                }
            )  # fmt: skip
    (root / "mpii_annotations.json").write_text(json.dumps(entries))


def read(root, **options):
    dataset = load_dataset("mpii-invisible", root, DatasetOptions(**options))
    dataset.check()
    return list(dataset.sequences())


def test_official_file(tmp_path):
    write_mat(tmp_path)
    (sequence,) = read(tmp_path, split="all")
    assert sequence.stills
    assert sequence.frame_count == 2
    first, second = sequence.people
    points = first.keypoints_2d[0]
    assert MPII_16.joints[6] == "pelvis"
    for joint, (x, y, visible) in PEOPLE["015601864.jpg"][0].items():
        np.testing.assert_allclose(points[joint], [x, y, 1 if visible == 0 else 2], rtol=1e-6)
    assert second.frame_indices.tolist() == [0]
    assert np.isnan(second.keypoints_2d[0, 0, :2]).all()
    assert second.keypoints_2d[0, :, 2].tolist() == [0] * 6 + [1, 2] + [0] * 8
    assert first.valid.tolist() == [True, False], "the second image's person has no hidden joint"
    expected = [0.6 * np.hypot(79, 98), 0.6 * np.hypot(40, 50)]
    np.testing.assert_allclose(first.facts["head_size_px"], expected, rtol=1e-6)
    box = first.boxes_xyxy[0]
    assert (points[:, :2] >= box[:2]).all()
    assert (points[:, :2] <= box[2:]).all()
    assert box[1] == 100, "the head box belongs to the person, and begins at 100"


def test_both_forms_say_the_same(tmp_path):
    for name, write in (("mat", write_mat), ("json", write_json)):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    (mat,), (table,) = read(tmp_path / "mat", split="all"), read(tmp_path / "json", split="all")
    for a, b in zip(mat.people, table.people, strict=True):
        np.testing.assert_array_equal(a.frame_indices, b.frame_indices)
        np.testing.assert_allclose(a.keypoints_2d, b.keypoints_2d, rtol=1e-6)
        np.testing.assert_array_equal(a.valid, b.valid)
        assert np.isnan(b.facts["head_size_px"]).all(), "the JSON has no head boxes"


def test_which_images_are_for_validation(tmp_path):
    write_mat(tmp_path)
    with pytest.raises(InputError, match="does not say which images are for validation"):
        read(tmp_path)
    listed = tmp_path / "list.txt"
    listed.write_text("images/015599452.jpg\n")
    assert read(tmp_path, frame_list=listed)[0].frame_count == 1
    assert read(tmp_path, frame_list=listed)[0].people[0].facts["head_size_px"][0] == pytest.approx(
        0.6 * np.hypot(40, 50)
    )
    (tmp_path / "annot").mkdir()
    (tmp_path / "annot" / "valid.json").write_text(json.dumps([{"image": "015599452.jpg", "joints_vis": [1] * 16}]))
    assert len(read(tmp_path)[0].people) == 1
    (tmp_path / "annot" / "valid.json").unlink()
    write_json(tmp_path)
    validation, train = read(tmp_path)[0], read(tmp_path, split="train")[0]
    assert len(validation.people) == 2
    assert len(train.people) == 1


def test_what_is_missing_or_not_enough(tmp_path):
    with pytest.raises(InputError, match=r"mpii_human_pose_v1_u12_1\.mat.*human-pose"):
        load_dataset("mpii-invisible", tmp_path).check()
    (tmp_path / "annot").mkdir()
    (tmp_path / "annot" / "valid.json").write_text("[]")
    with pytest.raises(InputError, match=r"valid\.json does not say which joints are hidden"):
        load_dataset("mpii-invisible", tmp_path).check()
    (tmp_path / "mpii_human_pose_v1_u12_1.mat").write_bytes(b"MATLAB 5.0 but cut off")
    with pytest.raises(InputError, match="RELEASE"):
        read(tmp_path, split="all")
