"""AMASS's layout, read back with plain NumPy."""

import json
from dataclasses import replace

import numpy as np
import torch

from hmrkit.exporters.npz import COORDINATE_FRAME, NpzExporter, amass_arrays
from hmrkit.geometry import axis_angle_to_matrix


def _written(scene_of, folder, **options):
    scene, chosen = scene_of(**options)
    return scene, [np.load(path) for path in NpzExporter().write(scene, folder, chosen)]  # without allow_pickle


def _mesh(models, data):
    """What another program makes of a file: the posed body's vertices and joints."""
    rotations = axis_angle_to_matrix(torch.from_numpy(data["poses"]).reshape(-1, 24, 3))
    return models.body(rotations[:, 0], rotations[:, 1:], data["betas"], data["trans"])


def test_parameters_come_back(take, scene_of, tmp_path):
    _, files = _written(scene_of, tmp_path)
    for data, params in zip(files, (take.body[1], take.calibrated[2].params), strict=True):
        back = axis_angle_to_matrix(torch.from_numpy(data["poses"].reshape(-1, 24, 3))).numpy()
        rotations = np.concatenate([params.global_orient[:, None], params.body_pose], 1)
        np.testing.assert_allclose(back, rotations, atol=2e-6)
        np.testing.assert_array_equal(np.hstack([data["root_orient"], data["pose_body"]]), data["poses"][:, :66])
        np.testing.assert_array_equal(data["trans"], params.transl_c)
        np.testing.assert_array_equal(data["betas"], params.betas)
        assert (str(data["gender"]), str(data["model_id"])) == ("neutral", params.model)
        assert str(data["coordinate_frame"]) == COORDINATE_FRAME


def test_times_camera_and_what_was_measured(take, scene_of, tmp_path):
    _, (first, second) = _written(scene_of, tmp_path, first_frame=1001)
    assert abs(float(first["mocap_framerate"]) - 30000 / 1001) < 1e-9
    assert float(first["mocap_framerate"]) == float(first["mocap_frame_rate"])
    np.testing.assert_array_equal(first["frame_indices"], [10, 11, 12, 14, 15])
    np.testing.assert_array_equal(first["frames"], first["frame_indices"] + 1001)
    np.testing.assert_allclose(first["frame_times"], first["frame_indices"] * 1001 / 30000)
    np.testing.assert_allclose(second["joints_c"], take.calibrated[2].joints_c, atol=1e-6)
    np.testing.assert_array_equal(first["keypoints_2d"], take.keypoints[1].keypoints_2d)
    np.testing.assert_array_equal(second["refit_residual_mm"], take.calibrated[2].refit_residual_mm)
    assert "refit_residual_mm" not in first
    assert (bool(first["calibrated"]), bool(second["calibrated"])) == (False, True)
    np.testing.assert_array_equal(first["camera_focal_px"], [700, 710])
    np.testing.assert_array_equal(first["image_size"], [640, 480])
    assert all(data[key].dtype.kind != "O" for data in (first, second) for key in data.files)
    assert json.loads(str(first["metadata"]))["options"]["first_frame"] == 1001


def test_another_program_gets_the_scene_from_a_world_file(models, scene_of, tmp_path):
    """Parameters of the world, put into the body model, are the scene's own skeleton, whichever way is up."""
    for up in ("y", "z"):
        scene, files = _written(scene_of, tmp_path, space="world", up=up, unit="cm", scale=2.0)
        for character, data in zip(scene.characters, files, strict=True):
            joints = _mesh(models, data).joints.numpy()
            np.testing.assert_allclose(joints * 200, character.posed_joints()[character.visible], atol=0.01)
            in_world = data["joints_w"] * 200
            np.testing.assert_allclose(in_world, character.joints[character.visible], atol=0.01)
            assert str(data["coordinate_frame"]).startswith(f"world: {up} up")


def test_resampled_files_say_when_their_frames_were(scene_of, tmp_path):
    from fractions import Fraction

    _, (first, _) = _written(scene_of, tmp_path, fps=Fraction(60))
    assert float(first["mocap_framerate"]) == 60
    np.testing.assert_allclose(first["frame_times"], first["frames"] / 60, atol=1e-6)
    np.testing.assert_allclose(first["frame_indices"], first["frames"] / 60 * 30000 / 1001, atol=1e-4)
    assert "keypoints_2d" not in first


def test_a_reader_is_told_whether_the_rate_says_when_rows_are(scene_of, tmp_path):
    _, (gap, whole) = _written(scene_of, tmp_path)
    assert (bool(gap["contiguous"]), bool(whole["contiguous"])) == (False, True)
    _, (filled, _) = _written(scene_of, tmp_path, gaps="interpolate")
    assert bool(filled["contiguous"])
    assert float(filled["mocap_framerate"]) == 30000 / 1001
    np.testing.assert_allclose(np.diff(filled["frame_times"]), 1001 / 30000, atol=1e-6)


def test_amass_layout_is_indexed_as_smpls_readers_do(models, scene_of, tmp_path, caplog):
    """Body and root come back, z up, from the slices that the add-ons and human_body_prior take."""
    scene, files = _written(scene_of, tmp_path, space="world", up="z", npz="amass")
    assert "convert-body --to smpl" in caplog.text
    for character, data in zip(scene.characters, files, strict=True):
        count = len(character)  # gaps are bridged: rows are at the rate
        shapes = {name: data[name].shape for name in ("poses", "trans", "betas", "dmpls")}
        assert shapes == {"poses": (count, 156), "trans": (count, 3), "betas": (16,), "dmpls": (count, 8)}
        assert str(data["surface_model_type"]) == "smplh"
        assert np.all(data["poses"][:, 66:] == 0)
        root, body = data["poses"][:, :3], data["poses"][:, 3:66]
        rotations = axis_angle_to_matrix(torch.from_numpy(np.hstack([root, body])).reshape(-1, 22, 3))
        hands = torch.eye(3).expand(count, 2, 3, 3)
        rotations = torch.cat([rotations, hands], 1)
        joints = models.body(rotations[:, 0], rotations[:, 1:], data["betas"][:10], data["trans"]).joints.numpy()
        np.testing.assert_allclose(joints[:, :22], character.posed_joints()[:, :22], atol=1e-5)


def test_a_person_on_smplx_has_smplx_numbers(scene_of):
    scene, _ = scene_of()
    fingers = np.tile(np.eye(3, dtype=np.float32), (len(scene.characters[1]), 30, 1, 1))
    params = replace(scene.characters[1].params_c, model="smplx-neutral", fingers=fingers)
    arrays = amass_arrays(scene, replace(scene.characters[1], params_c=params))
    assert arrays["poses"].shape == (len(scene.characters[1]), 165)
    assert str(arrays["surface_model_type"]) == "smplx"
