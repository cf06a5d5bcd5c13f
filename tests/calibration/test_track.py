"""A track's calibration: meshes in stretches, parameters refitted, models that do not belong together refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hmrkit.body import load_body
from hmrkit.body.posing import body_meshes
from hmrkit.calibration import load_calibration
from hmrkit.calibration.joint_limits import within_limits
from hmrkit.calibration.target import TargetOptions
from hmrkit.calibration.track import calibrate_track, calibrated_vertices, refit
from hmrkit.camera import assume_camera, project
from hmrkit.errors import ModelMismatchError
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.skeletons import H36M_17, SMPL_24
from hmrkit.types import BodyParams, Keypoints, LiftedPose, Track

BODY = load_body()
WEIGHTS = load_calibration(BODY)
CAMERA = assume_camera(1280, 720)
T = 12


def make_params(seed: int, degrees: float, base: BodyParams | None = None) -> BodyParams:
    """Random pose in front of the camera, or `base` with every joint rotated by up to `degrees`."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(T, 24, 3, generator=generator)
    vectors *= np.radians(degrees) * torch.rand(T, 24, 1, generator=generator) / vectors.norm(dim=-1, keepdim=True)
    rotations = axis_angle_to_matrix(vectors).numpy()
    if base is None:  # limbs bend as limbs do, so that no limit is met
        bends = torch.tensor([[0.9, 0, 0], [0.9, 0, 0], [0, -0.9, 0], [0, 0.9, 0]])
        limbs = SMPL_24.indices("left_knee", "right_knee", "left_elbow", "right_elbow")
        rotations[:, limbs] = axis_angle_to_matrix(bends).numpy() @ rotations[:, limbs]
    betas = np.linspace(-0.5, 0.5, 10, dtype=np.float32)
    if base is None:
        flip = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
        place = np.tile(np.array([0.3, 0.1, 5.0], np.float32), (T, 1))
        return BodyParams(flip @ rotations[:, 0], rotations[:, 1:], betas, place, "neutral", BODY.model_id)
    return replace(
        base, global_orient=base.global_orient @ rotations[:, 0], body_pose=base.body_pose @ rotations[:, 1:]
    )


def vertices_and_joints(params: BodyParams) -> tuple[np.ndarray, np.ndarray]:
    out = BODY(params.global_orient, params.body_pose, params.betas, params.transl_c)
    return out.vertices.numpy(), out.joints.numpy()


MESH = make_params(0, 25)
TARGET = make_params(1, 15, MESH)


def test_refitted_joints_are_the_target_and_the_residual_is_the_distance_of_the_meshes():
    _, joints = vertices_and_joints(TARGET)
    fitted, residual = refit(BODY, MESH, joints, WEIGHTS, batch=5)
    vertices, fitted_joints = vertices_and_joints(fitted)
    np.testing.assert_allclose(fitted_joints, joints, atol=5e-5)
    moved = calibrated_vertices(BODY, MESH, joints, WEIGHTS)
    np.testing.assert_allclose(residual, 1000 * np.linalg.norm(moved - vertices, axis=-1).mean(-1), rtol=1e-3)
    assert residual.shape == (T,)
    assert residual.max() < 3
    assert fitted.betas is MESH.betas
    assert fitted.model == MESH.model


def test_a_mesh_on_its_own_joints_keeps_its_parameters():
    vertices, joints = vertices_and_joints(MESH)
    fitted, residual = refit(BODY, MESH, joints, WEIGHTS)
    for name in ("global_orient", "body_pose", "transl_c"):
        np.testing.assert_allclose(getattr(fitted, name), getattr(MESH, name), atol=1e-5)
    assert residual.max() < 0.01
    np.testing.assert_allclose(calibrated_vertices(BODY, MESH, joints, WEIGHTS), vertices, atol=1e-6)


def test_refitted_knees_do_not_bend_backwards_and_what_bends_as_it_should_is_not_touched():
    local = torch.eye(3).repeat(40, 23, 1, 1)
    knee = SMPL_24.index["left_knee"] - 1
    degrees = torch.linspace(-60, 150, 40)
    local[:, knee] = axis_angle_to_matrix(torch.stack([degrees.deg2rad(), 0 * degrees, 0 * degrees], -1))
    held = matrix_to_axis_angle(within_limits(local, torch.eye(3).repeat(40, 23, 1, 1)))[:, knee, 0].rad2deg()
    assert held.min() > -15.1
    assert (held.diff() >= 0).all()
    np.testing.assert_array_equal(within_limits(local, local), local)
    fine = degrees > -10
    np.testing.assert_allclose(held[fine], degrees[fine], atol=1e-3)


def test_longer_bones_leave_a_residual():
    _, joints = vertices_and_joints(MESH)
    longer = joints[:, :1] + 1.1 * (joints - joints[:, :1])
    _, residual = refit(BODY, MESH, longer, WEIGHTS)
    assert residual.min() > 10


def test_rows_are_the_whole_tracks_rows():
    _, joints = vertices_and_joints(TARGET)
    whole = calibrated_vertices(BODY, MESH, joints, WEIGHTS)
    for rows in (slice(4, 9), np.array([11, 2])):
        np.testing.assert_allclose(calibrated_vertices(BODY, MESH, joints, WEIGHTS, rows), whole[rows], atol=2e-6)


def seen_by_camera() -> tuple[LiftedPose, Keypoints]:
    """True keypoints and true lifted pose of TARGET."""
    vertices, joints = vertices_and_joints(TARGET)
    names = {"thorax": "neck", "spine": "spine2", "nose": "head", "head_top": "head"}
    pose = joints[:, [SMPL_24.index[names.get(name, name)] for name in H36M_17.joints]]
    points = BODY.keypoints(torch.from_numpy(vertices))[:, :17].numpy()
    pixels = np.concatenate([project(CAMERA, points), np.full((T, 17, 1), 0.9, np.float32)], -1)
    return LiftedPose(pose - pose[:, :1], "h36m-17"), Keypoints(pixels, None, "coco-17")


def test_a_track_is_brought_nearer_to_what_the_camera_saw():
    truth, _joints = vertices_and_joints(TARGET)
    mesh, _ = vertices_and_joints(MESH)
    track = Track(1, np.arange(T), np.zeros((T, 4), np.float32), np.ones(T, np.float32), np.zeros(T, bool))
    lifted, keypoints = seen_by_camera()
    # One frame a second: frames of this track are strangers to one another, nothing may be smoothed over them.
    trusting = TargetOptions(lift_weight=0.5, ray_weight=0.5)
    result = calibrate_track(track, MESH, lifted, keypoints, CAMERA, BODY, WEIGHTS, np.arange(T), trusting, batch=5)
    moved = calibrated_vertices(BODY, MESH, result.joints_c, WEIGHTS)
    assert np.linalg.norm(moved - truth, axis=-1).mean() < 0.6 * np.linalg.norm(mesh - truth, axis=-1).mean()
    assert result.refit_residual_mm.max() < 5
    np.testing.assert_allclose(vertices_and_joints(result.params)[1], result.joints_c, atol=1e-4)


def test_models_that_do_not_belong_together_are_refused():
    track = Track(1, np.arange(T), np.zeros((T, 4), np.float32), np.ones(T, np.float32), np.zeros(T, bool))
    _, joints = vertices_and_joints(MESH)
    with pytest.raises(ModelMismatchError, match="parameters for body"):
        calibrate_track(track, replace(MESH, model="smpl-1"), None, None, CAMERA, BODY, WEIGHTS, np.arange(T) / 30)
    with pytest.raises(ModelMismatchError, match="calibration weights for body"):
        calibrated_vertices(BODY, MESH, joints, replace(WEIGHTS, model_id="smpl-1"))
    short = Track(1, np.arange(3), np.zeros((3, 4), np.float32), np.ones(3, np.float32), np.zeros(3, bool))
    with pytest.raises(ValueError, match="frames"):
        calibrate_track(short, MESH, None, None, CAMERA, BODY, WEIGHTS, np.arange(T) / 30)


def test_body_meshes_are_the_bodys_own():
    vertices, joints = vertices_and_joints(MESH)
    some, some_joints = body_meshes(BODY, MESH, slice(3, 7))
    np.testing.assert_allclose(some, vertices[3:7], atol=2e-6)
    np.testing.assert_allclose(some_joints, joints[3:7], atol=2e-6)
