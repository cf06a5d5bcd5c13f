"""One prediction against one truth under one protocol: a value per frame for each of the protocol's metrics.

Everything is in the camera's axes. Meshes are posed in short stretches, so that memory does not depend on the clip;
what needs the person's whole way (acceleration, world metrics) is computed from joints afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hmrkit import metrics
from hmrkit.datasets import BodyTruth, GroundTruth
from hmrkit.errors import InputError
from hmrkit.evaluation.bodies import SMPL_FEET, Bodies, is_smpl, posed_truth
from hmrkit.evaluation.motion import motion_values
from hmrkit.evaluation.predicting import Prediction
from hmrkit.protocols import ALIASES, CHALLENGE_PARTS, EvalProtocol
from hmrkit.skeletons import SMPL_24, Skeleton

STRETCH = 64  # frames whose meshes are held at once
PARTS = SMPL_24.indices(*CHALLENGE_PARTS)


@dataclass(frozen=True)
class Scores:
    """Of one person: T rows as its truth. `values` name -> (T,), NaN where a frame does not count or says nothing.

    `counted` (T,): the frames that the protocol counts; `found` (T,): those of them that were predicted. `joints_c`
    (T,24,3) m and `parts` (T,9,3,3) are what a submission to the 3DPW challenge holds; `params` the predicted body's
    ``rotations``, ``betas``, ``transl_c``, all NaN where there is nothing. `pooled`: what figures over the whole set
    (AP, F1) are computed from.
    """

    counted: np.ndarray
    found: np.ndarray
    values: dict[str, np.ndarray]
    joints_c: np.ndarray
    parts: np.ndarray
    params: dict[str, np.ndarray] = field(default_factory=dict)
    pooled: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class _Poses:
    """What the stretches leave behind, (T,...): the protocol's joints, its pelvis, global rotations of the parts."""

    predicted: np.ndarray
    true: np.ndarray
    predicted_pelvis: np.ndarray
    true_pelvis: np.ndarray
    parts: np.ndarray
    true_parts: np.ndarray
    joints_c: np.ndarray
    feet: np.ndarray
    vertices: dict[str, np.ndarray]


def counted_frames(truth: GroundTruth, protocol: EvalProtocol, bodies: Bodies) -> np.ndarray:
    """(T,) bool: the frames that the protocol counts."""
    counted = truth.valid.copy()
    if protocol.min_keypoints:
        if truth.keypoints_2d is None:
            bodies.note("the truth has no 2D keypoints: no frame was left out for having too few")
        else:
            counted &= (truth.keypoints_2d[..., 2] > 0).sum(1) >= protocol.min_keypoints
    return counted


def score(prediction: Prediction, truth: GroundTruth, protocol: EvalProtocol, bodies: Bodies, fps: float) -> Scores:
    """The protocol's 3D metrics of one person. InputError or WeightsError where truth or bodies lack its joints."""
    counted = counted_frames(truth, protocol, bodies)
    body_truth = _body_truth(truth, protocol, bodies)
    names, from_mesh = _joint_names(truth, body_truth, protocol, bodies, prediction)
    poses = _pose(prediction, truth, protocol, bodies, counted, names, body_truth, from_mesh)
    found = np.isfinite(poses.predicted).any((1, 2)) & prediction.found
    p, t = _rooted(poses.predicted, poses.predicted_pelvis), _rooted(poses.true, poses.true_pelvis)
    if protocol.name == "3dpw-official":  # the challenge scores people who were not found as a point, turned nowhere
        p[~found] = 0
        poses.parts[~found] = np.eye(3)
    p[~counted] = np.nan
    values = _pose_values(p, t, poses, names, protocol) | poses.vertices
    values |= motion_values(p, t, poses.joints_c, poses.feet, truth, body_truth, protocol, bodies, fps, counted)
    for name, value in values.items():
        values[name] = np.where(counted, value, np.nan)
    params = {}
    if prediction.rotations is not None and prediction.betas is not None and prediction.transl_c is not None:
        params = {
            "rotations": prediction.rotations,
            "betas": prediction.betas,
            "transl_c": prediction.transl_c,
        }
    ordered = {name: values[name] for name in protocol.metrics if name in values}
    return Scores(counted, found, ordered, poses.joints_c.astype(np.float32), poses.parts.astype(np.float32), params)


# ------------------------------------------------------------------------------------------- what is compared


def check_bodies(people: Sequence[GroundTruth], protocol: EvalProtocol, bodies: Bodies) -> None:
    """ONE WeightsError that names all files of the user's that scoring these people would miss."""
    truths = [_body_truth(truth, protocol, bodies) for truth in people]
    genders = {body.gender for body in truths if body is not None and body.model == "smpl"}
    smpl = (bool(genders) and protocol.truth == "mesh") or is_smpl(bodies.predicted)
    bodies.check(genders, regressed=protocol.joint_source == "regressed" and smpl)


def _body_truth(truth: GroundTruth, protocol: EvalProtocol, bodies: Bodies) -> BodyTruth | None:
    """The true body where it is needed and can be posed; its gender as the protocol has it."""
    body = truth.body
    if body is None:
        return None
    if protocol.truth == "measured" and not any(name.startswith("pve") for name in protocol.metrics):
        return None
    if protocol.truth_gender == "neutral" and body.gender != "neutral":
        body = BodyTruth(body.global_orient, body.body_pose, body.betas, body.transl, "neutral", body.model)
    measured = truth.skeleton is not None and all(name in truth.skeleton.index for name in protocol.joints)
    if body.model == "smpl" and protocol.joint_source == "model" and measured and not bodies.has_smpl():
        bodies.note(
            "true joints are those that the dataset hands out, because SMPL's files are not there; metrics of surfaces "
            "are left out"
        )
        return None
    return body


def _joint_names(
    truth: GroundTruth, body: BodyTruth | None, protocol: EvalProtocol, bodies: Bodies, prediction: Prediction
) -> tuple[tuple[str, ...], bool]:
    """The joints compared, in order, and whether the true ones are made from the body."""
    from_mesh = protocol.truth == "mesh" and body is not None
    if from_mesh:
        return protocol.joints, True
    if truth.joints_c is None or truth.skeleton is None:
        raise InputError(
            f"protocol {protocol.name} wants {'a true body' if protocol.truth == 'mesh' else 'measured joints'}, the "
            f"truth of {truth.person} has none; choose another --protocol"
        )
    wanted = protocol.joints or truth.skeleton.joints
    missing = [name for name in wanted if _column(truth.skeleton, name) is None]
    if protocol.joint_source == "named" and prediction.rotations is not None:
        missing += [n for n in wanted if n not in missing and not bodies.knows(bodies.predicted, n, "named")]
    names = tuple(name for name in wanted if name not in missing)
    if missing:
        bodies.note(f"joints left out, because truth or prediction lacks them: {', '.join(missing)}")
    if len(names) < 3:
        raise InputError(
            f"protocol {protocol.name} wants joints {', '.join(wanted[:4])}, ...; the truth of {truth.person} has "
            f"{', '.join(truth.skeleton.joints[:6])}, ...: nothing to compare"
        )
    return names, False


def _column(skeleton: Skeleton, name: str) -> int | None:
    """Where a skeleton has a joint, under its name or an alias."""
    return next((skeleton.index[n] for n in (name, *ALIASES.get(name, ())) if n in skeleton.index), None)


def _pelvis_of(skeleton: Skeleton, joints: np.ndarray, pelvis: tuple[str, ...]) -> np.ndarray:
    """Pelvis (T,3) of measured joints; the middle of the hips where the skeleton has no pelvis of its own."""
    names = pelvis if all(_column(skeleton, n) is not None for n in pelvis) else ("left_hip", "right_hip")
    columns = [_column(skeleton, name) for name in names]
    if None in columns:
        raise InputError(f"skeleton {skeleton.name} has neither {' nor '.join(pelvis)} nor hips; nothing to align by")
    return joints[:, columns].mean(1)


def _pose(
    prediction: Prediction,
    truth: GroundTruth,
    protocol: EvalProtocol,
    bodies: Bodies,
    counted: np.ndarray,
    names: tuple[str, ...],
    body_truth: BodyTruth | None,
    from_mesh: bool,
) -> _Poses:
    """Joints of both sides and the metrics of vertices, stretch by stretch."""
    frames, count = len(counted), len(names)
    poses = _Poses(
        *(np.full((frames, count, 3), np.nan) for _ in range(2)),
        *(np.full((frames, 3), np.nan) for _ in range(2)),
        *(np.full((frames, len(PARTS), 3, 3), np.nan) for _ in range(2)),
        np.full((frames, 24, 3), np.nan),
        np.full((frames, len(SMPL_FEET), 3), np.nan),
        {},
    )
    if prediction.joints_c is not None:
        _place_given_joints(poses, prediction, protocol, names)
    if prediction.parts is not None:
        poses.parts[:] = prediction.parts
    if not from_mesh:
        assert truth.joints_c is not None
        assert truth.skeleton is not None
        poses.true[:] = truth.joints_c[:, [_column(truth.skeleton, name) for name in names]]
        poses.true_pelvis[:] = _pelvis_of(truth.skeleton, truth.joints_c, protocol.pelvis)
    surfaces = body_truth is not None and any(name.startswith("pve") for name in protocol.metrics)
    if surfaces and prediction.rotations is None and prediction.meshes is None:
        surfaces = False
        if prediction.found.any():
            bodies.note("metrics of surfaces are left out: the predictions are joints only")
    if surfaces and body_truth is not None and (body_truth.model == "hmrkit") == is_smpl(bodies.predicted):
        surfaces = False
        bodies.note(
            f"metrics of surfaces are left out: the truth is a {body_truth.model} body, predictions are meshes of "
            f"{bodies.predicted.model_id}, whose vertices stand in another order (--body gives them SMPL's)"
        )
    rows = np.nonzero(counted | prediction.found)[0]
    for stretch in np.split(rows, range(STRETCH, len(rows), STRETCH)):
        _pose_stretch(poses, prediction, truth, protocol, bodies, stretch, names, body_truth, from_mesh, surfaces)
    if surfaces and body_truth is not None:
        _shape_and_pose(poses, prediction, body_truth, truth, protocol, bodies)
    return poses


def _place_given_joints(poses: _Poses, prediction: Prediction, protocol: EvalProtocol, names: tuple[str, ...]) -> None:
    """Joints of results made elsewhere, which come in the protocol's order where they bring no skeleton."""
    joints = prediction.joints_c
    assert joints is not None
    skeleton = prediction.skeleton or next(
        (s for s in (Skeleton("protocol", protocol.joints), SMPL_24) if len(s) == joints.shape[1]), None
    )
    if skeleton is None or any(_column(skeleton, name) is None for name in names):
        raise InputError(
            f"protocol {protocol.name} wants {len(protocol.joints)} joints or SMPL parameters, the predictions have "
            f"{joints.shape[1]} joints of another set; choose the protocol that they were made for"
        )
    poses.predicted[:] = joints[:, [_column(skeleton, name) for name in names]]
    # SPIN's files are root-relative and have no pelvis among their 14 joints: then the origin is the pelvis.
    has = all(_column(skeleton, n) is not None for n in protocol.pelvis)
    poses.predicted_pelvis[:] = _pelvis_of(skeleton, joints, protocol.pelvis) if has else 0.0
    if len(skeleton) == 24 and skeleton.joints == SMPL_24.joints:
        poses.joints_c[:] = joints


def _pose_stretch(
    poses: _Poses,
    prediction: Prediction,
    truth: GroundTruth,
    protocol: EvalProtocol,
    bodies: Bodies,
    rows: np.ndarray,
    names: tuple[str, ...],
    body_truth: BodyTruth | None,
    from_mesh: bool,
    surfaces: bool,
) -> None:
    if not len(rows):
        return
    vertices = joints = None
    if prediction.rotations is not None and prediction.betas is not None and prediction.joints_c is None:
        vertices, joints, turned = predicted_meshes(prediction, bodies, rows)
        poses.joints_c[rows] = joints
        poses.parts[rows] = turned[:, PARTS]
        if is_smpl(bodies.predicted):
            poses.feet[rows] = vertices[:, SMPL_FEET]
        transl = None if prediction.transl_c is None else prediction.transl_c[rows]
        wanted = (*names, *protocol.pelvis)
        read = bodies.points(bodies.predicted, vertices, joints, wanted, protocol.joint_source, transl)
        poses.predicted[rows], poses.predicted_pelvis[rows] = read[:, : len(names)], read[:, len(names) :].mean(1)
    if truth.body is not None:
        poses.true_parts[rows] = true_rotations(truth, bodies, rows)[:, PARTS]
    if body_truth is None:
        return
    true_body = bodies.true(body_truth.model, body_truth.gender)
    true_vertices, true_joints, _ = posed_truth(true_body, body_truth, rows, truth.camera_from_world)
    if from_mesh:
        source = protocol.joint_source
        read = bodies.points(true_body, true_vertices, true_joints, (*names, *protocol.pelvis), source)
        poses.true[rows], poses.true_pelvis[rows] = read[:, : len(names)], read[:, len(names) :].mean(1)
    if not surfaces or vertices is None or joints is None:
        return
    if protocol.vertices == "untranslated":
        assert prediction.transl_c is not None
        origin, true_origin = prediction.transl_c[rows].astype(np.float64), np.zeros((len(rows), 3))
    elif protocol.vertices == "root-joint":
        origin, true_origin = joints[:, 0], true_joints[:, 0]
    else:
        origin, true_origin = poses.predicted_pelvis[rows], poses.true_pelvis[rows]
    here = {"pve_mm": metrics.pve_mm_per_frame(vertices, true_vertices, origin, true_origin)}
    if "pve_pa_mm" in protocol.metrics:
        here["pve_pa_mm"] = metrics.pa_pve_mm_per_frame(
            vertices, true_vertices, poses.predicted[rows], poses.true[rows]
        )
    for name, values in here.items():
        poses.vertices.setdefault(name, np.full(len(truth.valid), np.nan))[rows] = values


def true_rotations(truth: GroundTruth, bodies: Bodies, rows: np.ndarray) -> np.ndarray:
    """Global rotations (n,24,3,3) of the true pose in the camera's axes; no SMPL file is needed for them."""
    import torch

    assert truth.body is not None
    orient = truth.body.global_orient[rows]
    if truth.camera_from_world is not None:
        orient = truth.camera_from_world[rows][:, :3, :3] @ orient
    with torch.inference_mode():
        return bodies.predicted.joints_only(orient, truth.body.body_pose[rows]).joint_rotations.cpu().numpy()


def predicted_meshes(
    prediction: Prediction, bodies: Bodies, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (n,V,3), joints (n,24,3) and global rotations (n,24,3,3) of some rows in the camera frame."""
    import torch

    assert prediction.rotations is not None
    assert prediction.betas is not None
    rotations, betas, transl = prediction.rotations[rows], prediction.betas[rows], prediction.transl_c
    body = bodies.predicted
    with torch.inference_mode():
        moved = None if transl is None else transl[rows]
        if prediction.meshes is not None:
            vertices, joints = prediction.meshes(rows)
            turned = body.joints_only(rotations[:, 0], rotations[:, 1:], betas, moved).joint_rotations.cpu().numpy()
            return vertices, joints, turned
        mesh = body(rotations[:, 0], rotations[:, 1:], betas, moved)
    return mesh.vertices.cpu().numpy(), mesh.joints.cpu().numpy(), mesh.joint_rotations.cpu().numpy()


# -------------------------------------------------------------------------------------------------- metrics


def _rooted(joints: np.ndarray, pelvis: np.ndarray) -> np.ndarray:
    return joints - pelvis[:, None]


def _pose_values(
    p: np.ndarray, t: np.ndarray, poses: _Poses, names: tuple[str, ...], protocol: EvalProtocol
) -> dict[str, np.ndarray]:
    """Metrics of single frames from pelvis-relative joints."""
    wanted = set(protocol.metrics)
    values: dict[str, np.ndarray] = {}
    if "mpjpe_mm" in wanted:
        values["mpjpe_mm"] = metrics.mpjpe_mm_per_frame(p, t, root=None)
    if "pa_mpjpe_mm" in wanted:
        values["pa_mpjpe_mm"] = metrics.pa_mpjpe_mm_per_frame(p, t)
    if "n_mpjpe_mm" in wanted:
        # Both are pelvis-relative already; a joint of zeros in front is the root that the metric subtracts, and it
        # must not count as one that was hit.
        zero = np.zeros((len(p), 1, 3))
        scaled = metrics.n_mpjpe_mm_per_frame(np.concatenate([zero, p], 1), np.concatenate([zero, t], 1), root=0)
        known = (np.isfinite(p) & np.isfinite(t)).all(-1).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            values["n_mpjpe_mm"] = np.where(known > 0, scaled * (known + 1) / known, np.nan)
    chosen = [k for k, name in enumerate(names) if not protocol.pck_joints or name in protocol.pck_joints]
    if "pck_percent" in wanted:
        values["pck_percent"] = 100 * metrics.pck_per_frame(p[:, chosen], t[:, chosen], protocol.pck_mm, root=None)
    if "auc_percent" in wanted:
        official = protocol.name == "3dpw-official"
        values["auc_percent"] = 100 * metrics.auc_per_frame(
            p[:, chosen], t[:, chosen], root=None, thresholds_mm=np.array(protocol.auc_mm), trapezoid=official
        )
    if "mpjae_deg" in wanted and np.isfinite(poses.true_parts).any():
        values["mpjae_deg"] = metrics.mpjae_deg_per_frame(poses.parts, poses.true_parts)
    if "mpjae_pa_deg" in wanted and np.isfinite(poses.true_parts).any():
        values["mpjae_pa_deg"] = metrics.mpjae_pa_deg_per_frame(poses.parts, poses.true_parts, p, t)
    return values


def _shape_and_pose(
    poses: _Poses,
    prediction: Prediction,
    body_truth: BodyTruth,
    truth: GroundTruth,
    protocol: EvalProtocol,
    bodies: Bodies,
) -> None:
    """PVE of shape alone and of pose alone, one body a time each."""
    rows = np.nonzero(prediction.found)[0]
    if prediction.rotations is None or prediction.betas is None or not len(rows):
        return
    true_body = bodies.true(body_truth.model, body_truth.gender)
    betas = np.broadcast_to(body_truth.betas, (len(truth.valid), 10))
    orient = body_truth.global_orient
    if truth.camera_from_world is not None:
        orient = truth.camera_from_world[:, :3, :3] @ orient
    local = np.concatenate([orient[:, None], body_truth.body_pose], 1)
    for name, measure in (
        (
            "pve_shape_mm",
            lambda r: metrics.pve_s_mm_per_frame(bodies.predicted, prediction.betas[r], betas[r], true_body),
        ),
        ("pve_pose_mm", lambda r: metrics.pve_p_mm_per_frame(bodies.predicted, prediction.rotations[r], local[r])),
    ):
        if name in protocol.metrics:
            values = poses.vertices.setdefault(name, np.full(len(truth.valid), np.nan))
            for stretch in np.split(rows, range(STRETCH, len(rows), STRETCH)):
                values[stretch] = measure(stretch)
