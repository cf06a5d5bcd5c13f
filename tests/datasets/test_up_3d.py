"""UP-3D: every still's body lies, through its own camera, on its own keypoints."""

import numpy as np
import pytest
from made_datasets import LSP_FROM_SMPL, free_body, make_up_3d

from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.errors import InputError
from hmrkit.skeletons import LSP_14, SMPL_24


def read(root, **options):
    dataset = load_dataset("up-3d", root, DatasetOptions(**options))
    dataset.check()
    return list(dataset.sequences())


def test_the_bodies_read_lie_on_the_keypoints_read(tmp_path):
    (sequence,) = read(make_up_3d(tmp_path / "up-3d", 5).parent)
    assert sequence.stills
    assert sequence.frame_count == 5
    assert sequence.camera is None
    assert sequence.frames[3].name == "00003_image.png"
    (person,) = sequence.people
    truth, matrix = person.body, person.camera_from_world
    assert truth.betas.shape == (5, 10)
    assert truth.gender == "neutral"
    joints = free_body().joints_only(truth.global_orient, truth.body_pose, truth.betas, truth.transl).joints.numpy()
    joints_c = joints @ matrix[:, :3, :3].transpose(0, 2, 1) + matrix[:, None, :3, 3]
    pixels = 5000 * joints_c[..., :2] / joints_c[..., 2:] + [30, 45]
    off = np.linalg.norm(pixels[:, SMPL_24.indices(*LSP_FROM_SMPL)] - person.keypoints_2d[..., :2], axis=-1)
    assert np.isnan(off[:, 3]).all()
    assert (person.keypoints_2d[:, 3, 2] == 0).all()
    assert np.nanmax(off) < 0.02
    assert person.keypoint_skeleton is LSP_14


def test_boxes_are_those_of_the_rendering_where_there_is_one(tmp_path):
    (person,) = read(make_up_3d(tmp_path, 4))[0].people
    np.testing.assert_array_equal(person.boxes_xyxy[1::2], [[10, 20, 31, 71]] * 2)
    points = person.keypoints_2d[0, :, :2]
    assert (person.boxes_xyxy[0, :2] == np.nanmin(points, 0)).all()


def test_joints_without_a_row_of_visibility_are_read_alike(tmp_path):
    three, two = (read(make_up_3d(tmp_path / str(rows), 3, rows=rows))[0].people[0] for rows in (3, 2))
    np.testing.assert_array_equal(three.keypoints_2d, two.keypoints_2d)


def test_lists_choose_the_images(tmp_path):
    make_up_3d(tmp_path, 130)
    assert [s.frame_count for s in read(tmp_path)] == [64, 64, 2]
    mine = tmp_path / "namesUPlsp.txt"
    mine.write_text("/00005_image.png 1.0\n00007\n\n")
    (sequence,) = read(tmp_path, frame_list=mine)
    assert [path.name for path in sequence.frames] == ["00005_image.png", "00007_image.png"]
    (whole, *_) = read(tmp_path)
    np.testing.assert_array_equal(sequence.people[0].body.betas, whole.people[0].body.betas[[5, 7]])


def test_what_is_missing_is_said_once(tmp_path):
    with pytest.raises(InputError, match=r"lacks .*test\.txt"):
        read(tmp_path)
    make_up_3d(tmp_path, 3)
    (tmp_path / "00001_body.pkl").unlink()
    with pytest.raises(InputError, match=r"lacks \S+00001_body\.pkl;"):
        read(tmp_path)
