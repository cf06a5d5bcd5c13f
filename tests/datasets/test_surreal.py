"""SURREAL: the mirror in its camera is undone so that body, joints, keypoints and image agree."""

import numpy as np
import pytest
from made_datasets import free_body, make_surreal

from hmrkit import metrics
from hmrkit.camera import project
from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.errors import InputError
from hmrkit.skeletons import SMPL_24

CLIPS = [
    ("test", 0, "01_01", 1, 6),
    ("test", 1, "01_01", 1, 5),
    ("test", 0, "02_03", 2, 1),
    ("train", 0, "05_05", 1, 3),
]


def read(root, **options):
    dataset = load_dataset("surreal", root, DatasetOptions(**options))
    dataset.check()
    return list(dataset.sequences())


def test_joints_lie_on_the_keypoints_and_the_mirrored_body_on_the_joints(tmp_path):
    for sequence in read(make_surreal(tmp_path, CLIPS)):
        (person,) = sequence.people
        off = np.abs(project(sequence.camera, person.joints_c) - person.keypoints_2d[..., :2])
        assert off.max() <= 0.501  # the file has whole pixels
        truth = person.body
        assert np.allclose(np.linalg.det(truth.global_orient), 1, atol=1e-5)
        joints = free_body().joints_only(truth.global_orient, truth.body_pose, truth.betas).joints.numpy()
        assert metrics.mpjpe_mm(joints, person.joints_c) < 0.1
        sides_swapped = person.joints_c[:, list(SMPL_24.mirror)]
        assert metrics.pa_mpjpe_mm(joints, sides_swapped) > 50  # so the measure can tell
        assert truth.gender == "male"
        assert np.isnan(truth.transl).all()


def test_clips_are_named_by_run_and_a_clip_of_one_frame_is_read(tmp_path):
    make_surreal(tmp_path / "cmu", CLIPS, video=True)
    sequences = read(tmp_path)
    assert [s.name for s in sequences] == ["run0_01_01_c0001", "run0_02_03_c0002", "run1_01_01_c0001"]
    assert [s.frame_count for s in sequences] == [6, 1, 5]
    assert sequences[0].frames == tmp_path / "cmu" / "test" / "run0" / "01_01" / "01_01_c0001.mp4"
    assert [s.name for s in read(tmp_path, split="train")] == ["run0_05_05_c0001"]
    assert [s.group for s in read(tmp_path, subset="run1")] == ["run1"]
    middle = [s.people[0].valid for s in read(tmp_path, subset="middle")]
    assert [np.flatnonzero(valid).tolist() for valid in middle] == [[3], [0], [2]]


def test_what_is_missing_or_damaged_is_said(tmp_path):
    with pytest.raises(InputError, match=r"www\.di\.ens\.fr"):
        read(tmp_path)
    make_surreal(tmp_path, CLIPS[:1])
    info = next(tmp_path.rglob("*_info.mat"))
    info.write_bytes(info.read_bytes()[:400])
    with pytest.raises(InputError, match=r"01_01_c0001_info\.mat: "):
        read(tmp_path)
