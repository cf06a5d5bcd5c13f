"""Poses to calibrate to that are not lifted from the image: the mesh's own in 2D, seen in 3D, and fused ones."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_person import BODY, CAMERA, make_motion_of, make_person

from hmrkit.calibration.bone_rotations import PIECES
from hmrkit.calibration.pose_streams import direct_pose, fused_pose, pose_size, projected_landmarks
from hmrkit.calibration.pose_uncertainty import PoseUncertainty, load_uncertainty, save_entry
from hmrkit.calibration.shares import default_shares, load_shares
from hmrkit.errors import UsageError, WeightsError
from hmrkit.skeletons import H36M_17, SMPL_24
from hmrkit.types import Keypoints, LiftedPose

PERSON = make_person(frames=slice(0, 24), betas=[0.8, -0.5, 0.3, 0, 0, 0, 0, 0, 0, 0])
SMPL_NAMES = {"thorax": "neck", "spine": "spine2"}
KNOWN = [name for name in H36M_17.joints if SMPL_NAMES.get(name, name) in SMPL_24.index and name != "pelvis"]


def true_pose() -> np.ndarray:
    joints = PERSON.joints[:, SMPL_24.indices(*(SMPL_NAMES.get(name, name) for name in KNOWN))]
    return joints - PERSON.joints[:, SMPL_24.indices("left_hip", "right_hip")].mean(1, keepdims=True)


def test_projected_landmarks_are_those_of_the_body():
    params = make_motion_of(PERSON).params
    points = projected_landmarks(BODY, params, CAMERA)
    np.testing.assert_allclose(points.keypoints_2d[..., :2], PERSON.keypoints.keypoints_2d[..., :2], atol=0.02)
    assert (points.keypoints_2d[..., 2] == 1).all()
    behind = projected_landmarks(BODY, replace(params, transl_c=params.transl_c - np.float32([0, 0, 20])), CAMERA)
    assert np.isnan(behind.keypoints_2d[..., :2]).all()
    assert (behind.keypoints_2d[..., 2] == 0).all()


def test_landmarks_seen_in_3d_become_the_joints_below_them():
    deep = PERSON.keypoints.joints_3d.copy()
    deep[3] = np.nan
    pose = direct_pose(replace(PERSON.keypoints, joints_3d=deep), BODY)
    off = np.linalg.norm(pose.joints_c[:, H36M_17.indices(*KNOWN)] - true_pose(), axis=-1) * 1000
    assert np.isnan(off[3]).all()
    seen = np.delete(off, 3, 0)
    # The marks of limbs lie up to 18 mm from their joints, those of hips and shoulders 27 to 31 mm.
    assert seen.mean() < 18
    hips = [KNOWN.index(name) for name in ("left_hip", "right_hip")]
    assert seen[:, hips].max() < 12
    assert np.isfinite(np.delete(pose.joints_c, 3, 0)).all()
    with pytest.raises(UsageError, match="want blazepose-33"):
        direct_pose(Keypoints(PERSON.keypoints.keypoints_2d, None, "blazepose-33"), BODY)


def errors(lifted, direct, correlation=(0.0, 0.0)):
    return {"lifted_mm": lifted, "direct_mm": direct, "correlation": correlation}


def test_shares_are_those_of_the_best_mean():
    share = PoseUncertainty({
        "left_knee": errors((30.0, 40.0), (30.0, 20.0)),
        "left_ankle": errors((30.0, 60.0), (60.0, 30.0), (0.8, 0.25)),
    }).direct_share(H36M_17)  # fmt: skip
    np.testing.assert_allclose(share[H36M_17.index["left_knee"]], [0.5, 0.5, 0.8], atol=1e-6)
    # Much the worse of two that err the same way has no say.
    np.testing.assert_allclose(share[H36M_17.index["left_ankle"]], [0, 0, (3600 - 450) / (4500 - 900)], atol=1e-6)
    assert (share[H36M_17.index["right_knee"]] == 0).all()


def test_a_fused_pose_lies_between_the_two_by_their_weights():
    rng = np.random.default_rng(0)
    lifted = LiftedPose(rng.normal(0, 0.4, (5, 17, 3)).astype(np.float32), "h36m-17")
    other = lifted.joints_c + rng.normal(0, 0.05, (5, 17, 3)).astype(np.float32)
    other[2, H36M_17.index["left_wrist"]] = np.nan
    direct = LiftedPose((1.2 * other).astype(np.float32), "h36m-17")
    names = ("left_knee", "left_wrist")
    fused = fused_pose(lifted, direct, PoseUncertainty({name: errors((30.0, 40.0), (30.0, 20.0)) for name in names}))
    same_size = direct.joints_c * (pose_size(lifted) / pose_size(direct))
    share = (fused.joints_c - lifted.joints_c) / (same_size - lifted.joints_c)
    np.testing.assert_allclose(share[:, H36M_17.index["left_knee"]], np.tile([0.5, 0.5, 0.8], (5, 1)), atol=1e-3)
    assert np.array_equal(fused.joints_c[2, H36M_17.index["left_wrist"]], lifted.joints_c[2, 13])
    rest = [j for j, name in enumerate(H36M_17.joints) if name not in names]
    assert np.array_equal(fused.joints_c[:, rest], lifted.joints_c[:, rest])


def test_measured_errors_are_kept_by_pair(tmp_path):
    path = tmp_path / "errors.json"
    joints = {"left_knee": errors([20.0, 30.0], [25.0, 35.0])}
    save_entry(path, "a, x", {"joints": joints})
    save_entry(path, "b, x", {"joints": {}})
    assert load_uncertainty("a", "x", path).joints["left_knee"]["direct_mm"] == (25.0, 35.0)
    with pytest.raises(WeightsError, match="no errors of --lifter c with --keypoints x, only of a, x; b, x; measure"):
        load_uncertainty("c", "x", path)
    path.write_text('{"a, x": {"joints": {"left_knee": {}}}}')
    with pytest.raises(WeightsError, match="train uncertainty"):
        load_uncertainty("a", "x", path)


def test_shares_follow_the_measured_errors_of_mesh_pose_and_rays(tmp_path):
    path = tmp_path / "errors.json"
    apart, worse = np.diag([4.0, 4.0, 2.0]), np.array([[4.0, 6.0, 4.0], [6.0, 16.0, 6.0], [4.0, 6.0, 16.0]])
    save_entry(path, "hmr with lifted, a, x", {"bones": {"knee": {"image": apart.tolist(), "depth": worse.tolist()}}})
    save_entry(path, "a, x", {"joints": {}})
    made, plain = load_shares("hmr", "lifted, a, x", path), default_shares()
    knee, wrist = PIECES.index("left_knee"), PIECES.index("left_wrist")
    np.testing.assert_allclose(made.lifted[knee], [0.25, 0], atol=0.01)  # what errs the same way and more has no say
    np.testing.assert_allclose(made.rays[knee], [0.5, 0], atol=0.03)
    assert np.array_equal(made.lifted[wrist], plain.lifted[wrist])
    assert load_shares("spin", "lifted, a, x", path).weights_sha256 == plain.weights_sha256
    path.write_text('{"hmr with lifted, a, x": {}}')
    with pytest.raises(WeightsError, match="train uncertainty"):
        load_shares("hmr", "lifted, a, x", path)
