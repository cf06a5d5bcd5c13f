"""MPI-INF-3DHP: either MATLAB format gives the same test set, and the camera is found from its own joints."""

import sys

import numpy as np
import pytest
from made_datasets import make_mpi_inf_3dhp

from hmrkit.camera import project
from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.datasets.mpi_inf_3dhp import MPI_INF_3DHP_17
from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import SPIN_17


def read(root, **options):
    dataset = load_dataset("mpi-inf-3dhp", root, DatasetOptions(**options))
    dataset.check()
    return list(dataset.sequences())


def test_hdf5_and_older_files_are_read_alike(tmp_path):
    pytest.importorskip("h5py")
    new = read(make_mpi_inf_3dhp(tmp_path / "new" / "mpi_inf_3dhp_test_set").parent)
    old = read(make_mpi_inf_3dhp(tmp_path / "old", hdf5=False))
    assert [s.name for s in new] == [f"TS{k}" for k in range(1, 7)]
    assert [s.group for s in new] == ["green-screen"] * 2 + ["studio"] * 2 + ["outdoor"] * 2
    for a, b in zip(new, old, strict=True):
        np.testing.assert_array_equal(a.people[0].joints_c, b.people[0].joints_c)
        np.testing.assert_array_equal(a.people[0].keypoints_2d, b.people[0].keypoints_2d)
        np.testing.assert_array_equal(a.people[0].facts["activity"], [1, 2, 3, 4])
        assert a.frame_count == b.frame_count == 4
        assert a.frames.name == "imageSequence"


def test_the_camera_is_the_one_that_made_the_keypoints(tmp_path):
    make_mpi_inf_3dhp(tmp_path, hdf5=False)
    for seed, sequence in enumerate(read(tmp_path, settings={"joints": "annot3"})):
        camera, (person,) = sequence.camera, sequence.people
        size = (camera.width, camera.height)
        np.testing.assert_allclose(camera.focal_px, [1500 + seed, 1502], atol=0.05)
        np.testing.assert_allclose(camera.center_px, [size[0] / 2 + 3, size[1] / 2 - 5], atol=0.05)
        assert np.abs(project(camera, person.joints_c) - person.keypoints_2d[..., :2]).max() < 0.01


def test_the_benchmark_scores_the_joints_of_universal_height(tmp_path):
    make_mpi_inf_3dhp(tmp_path, hdf5=False)
    universal, metric = read(tmp_path)[0].people[0], read(tmp_path, settings={"joints": "annot3"})[0].people[0]
    np.testing.assert_allclose(universal.joints_c, 0.9 * metric.joints_c, rtol=1e-5)
    assert set(MPI_INF_3DHP_17.joints) == set(SPIN_17.joints)  # what the protocol asks for
    with pytest.raises(UsageError, match="univ_annot3, annot3"):
        read(tmp_path, settings={"joints": "annot4"})


def test_frames_count_by_valid_frame_and_under_spins_protocol_if_whole(tmp_path):
    make_mpi_inf_3dhp(tmp_path, hdf5=False)
    assert read(tmp_path)[0].people[0].valid.tolist() == [True, False, False, True]
    assert read(tmp_path, protocol="landmarks")[0].people[0].valid.tolist() == [True, False, True, True]
    wrist = MPI_INF_3DHP_17.index["left_wrist"]
    assert read(tmp_path)[0].people[0].keypoints_2d[:, wrist, 2].tolist() == [2, 2, 1, 2]


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"TS1.annot_data\.mat.*and 3 more"):
        read(tmp_path)
    pytest.importorskip("h5py")
    make_mpi_inf_3dhp(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match="pip install h5py"):
        read(tmp_path)
