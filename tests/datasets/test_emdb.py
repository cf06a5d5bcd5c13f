"""EMDB: the posed body, seen by the camera that was read, lies on the keypoints that the file has."""

import pickle

import numpy as np
import pytest
from made_datasets import free_body, make_emdb

from hmrkit.camera import project
from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.errors import InputError, UsageError

RECORDINGS = [("P1", "14_outdoor_climb", 4, True, False), ("P0", "09_outdoor_walk", 5, False, True)]


def read(root, **options):
    dataset = load_dataset("emdb", root, DatasetOptions(**options))
    dataset.check()
    return list(dataset.sequences())


def test_the_body_read_lies_on_the_keypoints_read(tmp_path):
    (sequence,) = read(make_emdb(tmp_path, RECORDINGS))
    (person,) = sequence.people
    truth = person.body
    joints_w = free_body().joints_only(truth.global_orient, truth.body_pose, truth.betas, truth.transl).joints.numpy()
    matrix = person.camera_from_world
    joints_c = joints_w @ matrix[:, :3, :3].transpose(0, 2, 1) + matrix[:, None, :3, 3]
    assert np.abs(project(sequence.camera, joints_c) - person.keypoints_2d[..., :2]).max() < 0.01
    assert (sequence.name, sequence.frame_count, truth.gender) == ("P1_14_outdoor_climb", 4, "female")
    assert (sequence.camera.width, sequence.camera.height) == (144, 192)
    assert sequence.frames == tmp_path / "P1" / "14_outdoor_climb" / "images"


def test_masks_and_boxes_are_the_files(tmp_path):
    (sequence,) = read(make_emdb(tmp_path, RECORDINGS))
    (person,) = sequence.people
    assert person.valid.tolist() == [True, False, True, True]
    assert np.isnan(person.boxes_xyxy).all(1).tolist() == [False, True, True, False]
    points = person.keypoints_2d[0, :, :2]
    np.testing.assert_allclose(person.boxes_xyxy[0], [*points.min(0), *points.max(0)], atol=1e-3)


def test_splits_go_by_the_flags_and_choose_the_protocol(tmp_path):
    make_emdb(tmp_path, RECORDINGS)
    assert [s.name for s in read(tmp_path, split="2")] == ["P0_09_outdoor_walk"]
    assert len(read(tmp_path, split="all")) == 2
    assert load_dataset("emdb", tmp_path).default_protocol == "emdb-official"
    assert load_dataset("emdb", tmp_path, DatasetOptions(split="2")).default_protocol == "wham-world"
    with pytest.raises(UsageError, match="--subset means nothing"):
        read(tmp_path, subset="outdoor")


def test_what_is_missing_or_another_version_is_said(tmp_path):
    with pytest.raises(InputError, match=r"emdb\.ait\.ethz\.ch"):
        read(tmp_path)
    make_emdb(tmp_path, RECORDINGS[:1], images=False)
    assert read(tmp_path)[0].frames is None
    with pytest.raises(InputError, match="none of the 1 sequences"):
        read(tmp_path, split="2")
    path = next(tmp_path.glob("P1/*/*.pkl"))
    record = pickle.loads(path.read_bytes())
    del record["smpl"]["trans"]
    path.write_bytes(pickle.dumps(record))
    with pytest.raises(InputError, match="its smpl, it lacks trans"):
        read(tmp_path)
