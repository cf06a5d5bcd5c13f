"""AMASS's layout, read back with plain NumPy."""

import numpy as np
import pytest
import torch

from hmrkit.errors import InputError
from hmrkit.exporters.npz import COORDINATE_FRAME, NpzExporter
from hmrkit.geometry import axis_angle_to_matrix


@pytest.fixture
def files(take, meshes, tmp_path):
    exporter = NpzExporter(tmp_path / "out", take)
    for mesh in meshes:
        exporter.add(mesh)
    return exporter.close()


def _rotations(params):
    return np.concatenate([params.global_orient[:, None], params.body_pose], 1)


def test_parameters_come_back(take, files):
    assert [f.name for f in files] == ["person_01.npz", "person_02.npz"]
    for path, params in zip(files, (take.body[1], take.calibrated[2].params), strict=True):
        data = np.load(path)  # without allow_pickle
        poses = data["poses"]
        assert poses.shape == (len(params.transl_c), 72)
        back = axis_angle_to_matrix(torch.from_numpy(poses.reshape(-1, 24, 3))).numpy()
        np.testing.assert_allclose(back, _rotations(params), atol=2e-6)
        np.testing.assert_array_equal(np.hstack([data["root_orient"], data["pose_body"]]), poses[:, :66])
        np.testing.assert_array_equal(data["trans"], params.transl_c)
        np.testing.assert_array_equal(data["betas"], params.betas)
        assert (str(data["gender"]), str(data["model_id"])) == ("neutral", "a-body")
        assert str(data["coordinate_frame"]) == COORDINATE_FRAME


def test_times_camera_and_what_was_measured(take, meshes, files):
    first, second = (np.load(path) for path in files)
    assert float(first["mocap_framerate"]) == float(first["mocap_frame_rate"]) == pytest.approx(30000 / 1001)
    np.testing.assert_array_equal(first["frame_indices"], [10, 11, 12, 14, 15])
    np.testing.assert_allclose(first["frame_times"], first["frame_indices"] * 1001 / 30000)
    np.testing.assert_array_equal(second["joints_c"], np.concatenate([m.joints_c for m in meshes if m.track_id == 2]))
    np.testing.assert_array_equal(first["keypoints_2d"], take.keypoints[1].keypoints_2d)
    np.testing.assert_array_equal(second["refit_residual_mm"], take.calibrated[2].refit_residual_mm)
    assert "refit_residual_mm" not in first
    assert (bool(first["calibrated"]), bool(second["calibrated"])) == (False, True)
    np.testing.assert_array_equal(first["camera_focal_px"], [70, 71])
    np.testing.assert_array_equal(first["image_size"], [64, 48])
    assert all(data[key].dtype.kind != "O" for data in (first, second) for key in data.files)


def test_a_person_whose_meshes_are_missing_is_not_written(take, meshes, tmp_path):
    exporter = NpzExporter(tmp_path, take)
    exporter.add(meshes[0])
    with pytest.raises(ValueError, match="person 1: 5 frames in the take, meshes of 2"):
        exporter.close()
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_one_line(take, meshes, tmp_path):
    (tmp_path / "out").write_text("a file")
    exporter = NpzExporter(tmp_path / "out", take)
    with pytest.raises(InputError, match=r"person_01\.npz: cannot write it") as error:
        for mesh in meshes:
            exporter.add(mesh)
    assert "\n" not in str(error.value)
