"""Figures of disturbed predictions against the formulas of each paper's code, written out here one by one."""

import numpy as np
import pytest
import torch
from made_datasets import motion, moving_camera, posed, rotations
from made_smpl import make_smpl, regressor

from hmrkit.body import load_body
from hmrkit.datasets import BodyTruth, GroundTruth
from hmrkit.evaluation.bodies import Bodies
from hmrkit.evaluation.predicting import Prediction
from hmrkit.evaluation.protocols import PROTOCOLS
from hmrkit.evaluation.scoring import score
from hmrkit.skeletons import Skeleton

H36M_TO_J14 = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]
FRAMES = 8


@pytest.fixture(scope="module")
def smpl(tmp_path_factory):
    return make_smpl(tmp_path_factory.mktemp("smpl"))


@pytest.fixture(scope="module")
def person():
    """A female truth in the world, seen by a moving camera; frame 3 has four visible keypoints, frame 5 none."""
    pose, transl, betas = motion(FRAMES, 1)
    extrinsics = moving_camera(posed(pose, transl, betas), 1)
    local = rotations(pose.reshape(FRAMES, 24, 3)).astype(np.float32)
    keypoints = np.full((FRAMES, 18, 3), 2.0, np.float32)
    keypoints[3, 4:, 2] = 0
    keypoints[5, :, 2] = 0
    return GroundTruth(
        person="0",
        frame_indices=np.arange(FRAMES),
        valid=np.arange(FRAMES) != 1,
        boxes_xyxy=np.full((FRAMES, 4), np.nan, np.float32),
        keypoints_2d=keypoints,
        keypoint_skeleton=Skeleton("k", tuple("abcdefghijklmnopqr")),
        body=BodyTruth(local[:, 0], local[:, 1:], betas.astype(np.float32), transl.astype(np.float32), "female"),
        camera_from_world=extrinsics.astype(np.float32),
    )


@pytest.fixture(scope="module")
def prediction(person):
    rng = np.random.default_rng(5)
    noise = rotations(rng.normal(0, 0.2, (FRAMES, 24, 3)))
    local = np.concatenate([person.body.global_orient[:, None], person.body.body_pose], 1)
    local = local @ noise
    local[:, 0] = person.camera_from_world[:, :3, :3] @ local[:, 0]
    betas = np.tile(rng.normal(0, 1, 10), (FRAMES, 1))
    transl = rng.normal(0, 1, (FRAMES, 3)) + np.array([0, 0, 5])
    return Prediction(np.ones(FRAMES, bool), *(x.astype(np.float32) for x in (local, betas, transl)))


def meshes(smpl, prediction, person, gender):
    """Vertices of both bodies without any translation, in the camera's axes, in double precision."""
    predicted = load_body(smpl / "SMPL_NEUTRAL.npz", dtype=torch.float64)
    true = load_body(smpl / f"SMPL_{gender.upper()}.npz", dtype=torch.float64)
    r, b = prediction.rotations.astype(np.float64), person.body
    orient = person.camera_from_world[:, :3, :3].astype(np.float64) @ b.global_orient
    return (
        predicted(r[:, 0], r[:, 1:], prediction.betas).vertices.numpy(),
        true(orient, b.body_pose, b.betas).vertices.numpy(),
    )


def distance(a, b):
    return 1000 * np.linalg.norm(a - b, axis=-1)


def scored(smpl, prediction, person, protocol):
    bodies = Bodies(load_body(smpl / "SMPL_NEUTRAL.npz"), smpl)
    return score(prediction, person, PROTOCOLS[protocol], bodies, 30.0).values


def test_spin(smpl, prediction, person):
    """Pelvis is the regressed one; vertices as they are; annotated gender; frames with any keypoint."""
    p, t = meshes(smpl, prediction, person, "female")
    h36m_p, h36m_t = regressor() @ p, regressor() @ t
    values = scored(smpl, prediction, person, "spin")
    joints = distance(h36m_p[:, H36M_TO_J14] - h36m_p[:, :1], h36m_t[:, H36M_TO_J14] - h36m_t[:, :1]).mean(1)
    counted = [0, 2, 3, 4, 6, 7]
    np.testing.assert_allclose(values["mpjpe_mm"][counted], joints[counted], atol=0.01)
    np.testing.assert_allclose(values["pve_mm"][counted], distance(p, t).mean(1)[counted], atol=0.01)
    assert np.isnan(values["mpjpe_mm"][[1, 5]]).all()


def test_vibe(smpl, prediction, person):
    """Pelvis is the middle of the hips; the true body is neutral; more than 6 keypoints; accelerations per frame^2."""
    p, t = meshes(smpl, prediction, person, "neutral")
    j_p, j_t = (regressor()[H36M_TO_J14] @ v for v in (p, t))
    j_p, j_t = (j - (j[:, 2:3] + j[:, 3:4]) / 2 for j in (j_p, j_t))
    values = scored(smpl, prediction, person, "vibe")
    counted = [0, 2, 4, 6, 7]
    np.testing.assert_allclose(values["mpjpe_mm"][counted], distance(j_p, j_t).mean(1)[counted], atol=0.01)
    np.testing.assert_allclose(values["pve_mm"][counted], distance(p, t).mean(1)[counted], atol=0.01)
    assert np.isnan(values["mpjpe_mm"][[1, 3, 5]]).all()
    assert np.isnan(values["accel_mm_per_frame2"]).all()  # no three frames in a row count


def test_wham(smpl, prediction, person):
    """Vertices are moved by the joints' pelvis; accelerations in m/s^2 without the outermost values."""
    p, t = meshes(smpl, prediction, person, "female")
    j_p, j_t = (regressor()[H36M_TO_J14] @ v for v in (p, t))
    o_p, o_t = ((j[:, 2:3] + j[:, 3:4]) / 2 for j in (j_p, j_t))
    whole = GroundTruth(
        "0", person.frame_indices, np.ones(FRAMES, bool), person.boxes_xyxy, body=person.body,
        camera_from_world=person.camera_from_world,
    )  # fmt: skip
    values = scored(smpl, prediction, whole, "wham")
    np.testing.assert_allclose(values["mpjpe_mm"], distance(j_p - o_p, j_t - o_t).mean(1), atol=0.01)
    np.testing.assert_allclose(values["pve_mm"], distance(p - o_p, t - o_t).mean(1), atol=0.01)
    second = [(j - o)[2:] - 2 * (j - o)[1:-1] + (j - o)[:-2] for j, o in ((j_p, o_p), (j_t, o_t))]
    accel = np.linalg.norm(second[0] - second[1], axis=-1).mean(1) * 900
    assert np.nanmean(values["accel_m_per_s2"]) == pytest.approx(accel[1:-1].mean(), rel=1e-4)


def test_emdb_moves_vertices_as_procrustes_moves_the_joints(smpl, prediction, person):
    values = scored(smpl, prediction, person, "emdb-official")
    assert np.nanmean(values["pve_pa_mm"]) < np.nanmean(values["pve_mm"])
    bodies = [load_body(smpl / f"SMPL_{g}.npz", dtype=torch.float64) for g in ("NEUTRAL", "FEMALE")]
    p, t = meshes(smpl, prediction, person, "female")
    r, b = prediction.rotations.astype(np.float64), person.body
    orient = person.camera_from_world[:, :3, :3].astype(np.float64) @ b.global_orient
    j_p = bodies[0].joints_only(r[:, 0], r[:, 1:], prediction.betas).joints.numpy()
    j_t = bodies[1].joints_only(orient, b.body_pose, b.betas).joints.numpy()
    for f in (0, 4):
        x, y = j_p[f] - j_p[f].mean(0), j_t[f] - j_t[f].mean(0)
        u, s, vt = np.linalg.svd(x.T @ y)
        flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
        rotation, scale = vt.T @ flip @ u.T, np.trace(np.diag(s) @ flip) / (x**2).sum()
        moved = scale * (p[f] - j_p[f].mean(0)) @ rotation.T + j_t[f].mean(0)
        assert values["pve_pa_mm"][f] == pytest.approx(distance(moved, t[f]).mean(), abs=0.01)


def test_world_metrics_use_the_true_camera(smpl, person):
    """The truth in the moving camera's frame, carried back into the world, is where it was."""
    bodies = Bodies(load_body(smpl / "SMPL_FEMALE.npz"), smpl)
    local = np.concatenate([person.body.global_orient[:, None], person.body.body_pose], 1).copy()
    rigid = person.camera_from_world[:, :3, :3].astype(np.float64)
    pelvis = bodies.predicted.joints_only(betas=person.body.betas).joints[0, 0].numpy()
    placed = (rigid @ (person.body.transl + pelvis)[..., None])[..., 0] + person.camera_from_world[:, :3, 3] - pelvis
    local[:, 0] = rigid @ local[:, 0]
    same = Prediction(
        np.ones(FRAMES, bool), local.astype(np.float32), np.tile(person.body.betas, (FRAMES, 1)),
        placed.astype(np.float32),
    )  # fmt: skip
    values = score(same, person, PROTOCOLS["wham-world"], bodies, 30.0).values
    for name in ("w_mpjpe_mm", "wa_mpjpe_mm"):
        assert np.nanmax(values[name]) < 0.05
    assert np.nanmax(values["rte_percent"]) < 0.05
    assert "true motion" in bodies.notes[0]


def test_surfaces_of_other_vertex_orders_are_compared(smpl, prediction, person):
    """The free body's surface against SMPL's, whose vertices here are the same in another order."""
    free, bodies = Bodies(load_body(), smpl), Bodies(load_body(smpl / "SMPL_NEUTRAL.npz"), smpl)
    values = score(prediction, person, PROTOCOLS["surface"], free, 30.0).values
    ordered = score(prediction, person, PROTOCOLS["surface"], bodies, 30.0).values
    assert list(values) == ["surface_mm", "mpjpe_mm", "pa_mpjpe_mm"]
    np.testing.assert_allclose(values["surface_mm"], ordered["surface_mm"], atol=0.01)
    vertices = score(prediction, person, PROTOCOLS["body"], bodies, 30.0).values["pve_mm"]
    counted = np.isfinite(vertices)
    assert (ordered["surface_mm"][counted] < vertices[counted]).all()
    assert (ordered["surface_mm"][counted] > 5).all()
    left_out = score(prediction, person, PROTOCOLS["body"], free, 30.0).values
    assert "pve_mm" not in left_out
    assert any("--protocol surface" in note for note in free.notes)
    assert "surface" in PROTOCOLS["surface"].describe()
