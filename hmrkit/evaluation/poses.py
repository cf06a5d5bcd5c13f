"""Joints, rotations and vertex errors of one person, read off both bodies, a short stretch of meshes at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from hmrkit import metrics
from hmrkit.datasets import BodyTruth, GroundTruth
from hmrkit.errors import InputError
from hmrkit.evaluation.bodies import SMPL_FEET, Bodies, posed_truth
from hmrkit.evaluation.predicting import Prediction
from hmrkit.evaluation.protocols import ALIASES, CHALLENGE_PARTS, EvalProtocol
from hmrkit.skeletons import SMPL_24, Skeleton

STRETCH = 64  # frames whose meshes are held at once
PARTS = SMPL_24.indices(*CHALLENGE_PARTS)


@dataclass(frozen=True)
class Case:
    """What is compared: `names` are the joints, `body` the true body to pose, or None.

    `from_mesh`: the true joints are read off that body, else they are the dataset's. `surfaces` names the metrics of
    meshes that can be worked out.
    """

    prediction: Prediction
    truth: GroundTruth
    protocol: EvalProtocol
    bodies: Bodies
    counted: np.ndarray
    names: tuple[str, ...]
    body: BodyTruth | None
    from_mesh: bool
    surfaces: tuple[str, ...]


@dataclass
class Poses:
    """What the stretches leave behind, T frames: joints (T,J,3) and pelvis (T,3) of both sides, global rotations of the
    nine parts (T,9,3,3) of both, the predicted 24 joints and feet in the camera frame, and errors of vertices by name.
    """

    predicted: np.ndarray
    true: np.ndarray
    predicted_pelvis: np.ndarray
    true_pelvis: np.ndarray
    parts: np.ndarray
    true_parts: np.ndarray
    joints_c: np.ndarray
    feet: np.ndarray
    vertices: dict[str, np.ndarray] = field(default_factory=dict)

    @staticmethod
    def unknown(frames: int, joints: int) -> Poses:
        """All NaN."""

        def nan(*shape: int) -> np.ndarray:
            return np.full((frames, *shape), np.nan)

        parts = len(PARTS)
        return Poses(
            predicted=nan(joints, 3), true=nan(joints, 3), predicted_pelvis=nan(3), true_pelvis=nan(3),
            parts=nan(parts, 3, 3), true_parts=nan(parts, 3, 3), joints_c=nan(24, 3), feet=nan(len(SMPL_FEET), 3),
        )  # fmt: skip


def stretches(rows: np.ndarray) -> list[np.ndarray]:
    """Rows in pieces whose meshes fit into memory."""
    return [piece for piece in np.split(rows, range(STRETCH, len(rows), STRETCH)) if len(piece)]


def pose(case: Case) -> Poses:
    """Pose both bodies in all frames that are counted or were predicted."""
    prediction, truth = case.prediction, case.truth
    poses = Poses.unknown(len(case.counted), len(case.names))
    if prediction.joints_c is not None:
        _place_given_joints(poses, case, prediction.joints_c)
    if prediction.parts is not None:
        poses.parts[:] = prediction.parts
    if not case.from_mesh and truth.joints_c is not None and truth.skeleton is not None:
        poses.true[:] = truth.joints_c[:, columns_of(truth.skeleton, case.names)]
        poses.true_pelvis[:] = _pelvis_of(truth.skeleton, truth.joints_c, case.protocol.pelvis)
    for rows in stretches(np.nonzero(case.counted | prediction.found)[0]):
        meshes = _predicted(poses, case, rows)
        if truth.body is not None:
            poses.true_parts[rows] = true_rotations(truth, case.bodies, rows)[:, PARTS]
        if case.body is not None:
            _true(poses, case, case.body, rows, meshes)
    if case.surfaces and case.body is not None:
        _shape_and_pose(poses, case, case.body)
    return poses


def column_of(skeleton: Skeleton, name: str) -> int | None:
    """Where a skeleton has a joint, under its name or an alias."""
    return next((skeleton.index[n] for n in (name, *ALIASES.get(name, ())) if n in skeleton.index), None)


def columns_of(skeleton: Skeleton, names: tuple[str, ...]) -> list[int]:
    """Where a skeleton has joints; InputError names the one that it has not."""
    columns = []
    for name in names:
        column = column_of(skeleton, name)
        if column is None:
            raise InputError(f"skeleton {skeleton.name} has no {name}; choose a protocol that fits its joints")
        columns.append(column)
    return columns


def predicted_meshes(
    prediction: Prediction, bodies: Bodies, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (n,V,3), joints (n,24,3) and global rotations (n,24,3,3) of some rows in the camera frame."""
    if prediction.rotations is None or prediction.betas is None:
        raise InputError("bodies are wanted, the predictions are joints only")
    rotations, betas = prediction.rotations[rows], prediction.betas[rows]
    moved = None if prediction.transl_c is None else prediction.transl_c[rows]
    with torch.inference_mode():
        if prediction.meshes is not None:
            vertices, joints = prediction.meshes(rows)
            rotated = bodies.predicted.joints_only(rotations[:, 0], rotations[:, 1:], betas, moved).joint_rotations
            return vertices, joints, rotated.cpu().numpy()
        mesh = bodies.predicted(rotations[:, 0], rotations[:, 1:], betas, moved)
    return mesh.vertices.cpu().numpy(), mesh.joints.cpu().numpy(), mesh.joint_rotations.cpu().numpy()


def true_rotations(truth: GroundTruth, bodies: Bodies, rows: np.ndarray) -> np.ndarray:
    """Global rotations (n,24,3,3) of the true pose in the camera's axes; no SMPL file is needed for them."""
    if truth.body is None:
        raise InputError(f"the truth of {truth.person} has no body")
    orient = _in_camera(truth, truth.body.global_orient)[rows]
    with torch.inference_mode():
        return bodies.predicted.joints_only(orient, truth.body.body_pose[rows]).joint_rotations.cpu().numpy()


def _in_camera(truth: GroundTruth, orient: np.ndarray) -> np.ndarray:
    return orient if truth.camera_from_world is None else truth.camera_from_world[:, :3, :3] @ orient


def _pelvis_of(skeleton: Skeleton, joints: np.ndarray, pelvis: tuple[str, ...]) -> np.ndarray:
    """Pelvis (T,3) of measured joints; the middle of the hips where the skeleton has no pelvis of its own."""
    known = all(column_of(skeleton, name) is not None for name in pelvis)
    return joints[:, columns_of(skeleton, pelvis if known else ("left_hip", "right_hip"))].mean(1)


def _place_given_joints(poses: Poses, case: Case, joints: np.ndarray) -> None:
    """Joints of results made elsewhere, which come in the protocol's order where they bring no skeleton."""
    protocol = case.protocol
    sets = (Skeleton("the protocol's", protocol.joints), SMPL_24)
    skeleton = case.prediction.skeleton or next((s for s in sets if len(s) == joints.shape[1]), None)
    if skeleton is None or any(column_of(skeleton, name) is None for name in case.names):
        raise InputError(
            f"protocol {protocol.name} wants {len(protocol.joints)} joints or SMPL parameters, the predictions have "
            f"{joints.shape[1]} joints of another set; choose the protocol that they were made for"
        )
    poses.predicted[:] = joints[:, columns_of(skeleton, case.names)]
    # SPIN's files are root-relative and have no pelvis among their 14 joints: then the origin is the pelvis.
    has = all(column_of(skeleton, n) is not None for n in protocol.pelvis)
    poses.predicted_pelvis[:] = _pelvis_of(skeleton, joints, protocol.pelvis) if has else 0.0
    if skeleton.joints == SMPL_24.joints:
        poses.joints_c[:] = joints


def _predicted(poses: Poses, case: Case, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Fill in the predicted side of some rows; vertices and joints, None where there are only joints."""
    prediction, bodies, protocol = case.prediction, case.bodies, case.protocol
    if prediction.rotations is None or prediction.joints_c is not None:
        return None
    vertices, joints, rotated = predicted_meshes(prediction, bodies, rows)
    poses.joints_c[rows], poses.parts[rows] = joints, rotated[:, PARTS]
    if bodies.predicted.is_smpl:
        poses.feet[rows] = vertices[:, SMPL_FEET]
    transl = None if prediction.transl_c is None else prediction.transl_c[rows]
    wanted = (*case.names, *protocol.pelvis)
    read = bodies.points(bodies.predicted, vertices, joints, wanted, protocol.joint_source, transl)
    poses.predicted[rows], poses.predicted_pelvis[rows] = read[:, : len(case.names)], read[:, len(case.names) :].mean(1)
    return vertices, joints


def _true(
    poses: Poses, case: Case, truth: BodyTruth, rows: np.ndarray, meshes: tuple[np.ndarray, np.ndarray] | None
) -> None:
    """Fill in the true side of some rows, and compare vertices with the predicted `meshes`."""
    bodies, protocol = case.bodies, case.protocol
    body = bodies.true(truth.model, truth.gender)
    true_vertices, true_joints, _ = posed_truth(body, truth, rows, case.truth.camera_from_world)
    if case.from_mesh:
        wanted = (*case.names, *protocol.pelvis)
        read = bodies.points(body, true_vertices, true_joints, wanted, protocol.joint_source)
        poses.true[rows], poses.true_pelvis[rows] = read[:, : len(case.names)], read[:, len(case.names) :].mean(1)
    if not case.surfaces or meshes is None:
        return
    vertices, joints = meshes
    if protocol.vertices == "untranslated":
        transl = case.prediction.transl_c
        origin = np.zeros((len(rows), 3)) if transl is None else transl[rows].astype(np.float64)
        true_origin = np.zeros((len(rows), 3))
    elif protocol.vertices == "root-joint":
        origin, true_origin = joints[:, 0], true_joints[:, 0]
    else:
        origin, true_origin = poses.predicted_pelvis[rows], poses.true_pelvis[rows]
    here = {}
    if "pve_mm" in case.surfaces:
        here["pve_mm"] = metrics.pve_mm_per_frame(vertices, true_vertices, origin, true_origin)
    if "surface_mm" in case.surfaces:
        here["surface_mm"] = metrics.surface_mm_per_frame(
            vertices - origin[:, None], bodies.predicted.faces, true_vertices - true_origin[:, None], body.faces
        )
    if "pve_pa_mm" in case.surfaces:
        here["pve_pa_mm"] = metrics.pa_pve_mm_per_frame(
            vertices, true_vertices, poses.predicted[rows], poses.true[rows]
        )
    for name, values in here.items():
        poses.vertices.setdefault(name, np.full(len(case.counted), np.nan))[rows] = values


def _shape_and_pose(poses: Poses, case: Case, truth: BodyTruth) -> None:
    """PVE of shape alone and of pose alone."""
    prediction, bodies = case.prediction, case.bodies
    if prediction.rotations is None or prediction.betas is None:
        return
    true_body = bodies.true(truth.model, truth.gender)
    betas = np.broadcast_to(truth.betas, (len(case.counted), 10))
    local = np.concatenate([_in_camera(case.truth, truth.global_orient)[:, None], truth.body_pose], 1)
    for rows in stretches(np.nonzero(prediction.found)[0]):
        here = {}
        if "pve_shape_mm" in case.surfaces:
            here["pve_shape_mm"] = metrics.pve_s_mm_per_frame(
                bodies.predicted, prediction.betas[rows], betas[rows], true_body
            )
        if "pve_pose_mm" in case.surfaces:
            here["pve_pose_mm"] = metrics.pve_p_mm_per_frame(bodies.predicted, prediction.rotations[rows], local[rows])
        for name, values in here.items():
            poses.vertices.setdefault(name, np.full(len(case.counted), np.nan))[rows] = values
