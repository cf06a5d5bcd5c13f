"""One prediction against one truth under one protocol: a value per frame for each of the protocol's metrics.

Everything is in the camera's axes. Meshes are posed in short stretches, so that memory does not depend on the clip;
what needs the person's whole way (acceleration, world metrics) is computed from joints afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hmrkit import metrics
from hmrkit.datasets import BodyTruth, GroundTruth
from hmrkit.errors import InputError
from hmrkit.evaluation.bodies import Bodies
from hmrkit.evaluation.motion import motion_values
from hmrkit.evaluation.poses import Case, Poses, column_of, pose
from hmrkit.evaluation.predicting import Prediction
from hmrkit.evaluation.protocols import EvalProtocol


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


def score(prediction: Prediction, truth: GroundTruth, protocol: EvalProtocol, bodies: Bodies, fps: float) -> Scores:
    """The protocol's 3D metrics of one person. InputError or WeightsError where truth or bodies lack its joints."""
    case = _case(prediction, truth, protocol, bodies)
    counted = case.counted
    poses = pose(case)
    found = np.isfinite(poses.predicted).any((1, 2)) & prediction.found
    p, t = poses.predicted - poses.predicted_pelvis[:, None], poses.true - poses.true_pelvis[:, None]
    if protocol.name == "3dpw-official":  # the challenge scores people who were not found as a point, rotated nowhere
        p[~found] = 0
        poses.parts[~found] = np.eye(3)
    p[~counted] = np.nan
    values = _pose_values(p, t, poses, case.names, protocol) | poses.vertices
    values |= motion_values(p, t, poses.joints_c, poses.feet, truth, case.body, protocol, bodies, fps, counted)
    if prediction.track_ids is not None and "id_switches_per_1000" in protocol.metrics:
        values["id_switches_per_1000"] = 1000 * metrics.identity_switches_per_frame(prediction.track_ids)
    ordered = {m: np.where(counted, values[m], np.nan) for m in protocol.metrics if m in values}
    params = {
        name: value
        for name in ("rotations", "betas", "transl_c")
        if (value := getattr(prediction, name)) is not None and prediction.rotations is not None
    }
    return Scores(counted, found, ordered, poses.joints_c.astype(np.float32), poses.parts.astype(np.float32), params)


def check_bodies(people: Sequence[GroundTruth], protocol: EvalProtocol, bodies: Bodies) -> None:
    """ONE WeightsError that names all files of the user's that scoring these people would miss."""
    truths = [_body_truth(truth, protocol, bodies) for truth in people]
    genders = {body.gender for body in truths if body is not None and body.model == "smpl"}
    smpl = (bool(genders) and protocol.truth == "mesh") or bodies.predicted.is_smpl
    bodies.check(genders, regressed=protocol.joint_source == "regressed" and smpl)


def counted_frames(truth: GroundTruth, protocol: EvalProtocol, bodies: Bodies) -> np.ndarray:
    """(T,) bool: the frames that the protocol counts."""
    counted = truth.valid.copy()
    if protocol.min_keypoints:
        if truth.keypoints_2d is None:
            bodies.note("the truth has no 2D keypoints: no frame was left out for having too few")
        else:
            counted &= (truth.keypoints_2d[..., 2] > 0).sum(1) >= protocol.min_keypoints
    return counted


# ------------------------------------------------------------------------------------------- what is compared


def _case(prediction: Prediction, truth: GroundTruth, protocol: EvalProtocol, bodies: Bodies) -> Case:
    body = _body_truth(truth, protocol, bodies)
    names, from_mesh = _joint_names(truth, body, protocol, bodies, prediction)
    surfaces = () if body is None else protocol.on_surfaces
    if surfaces and prediction.rotations is None:
        surfaces = ()
        if prediction.found.any():
            bodies.note("metrics of surfaces are left out: the predictions are joints only")
    corresponding = tuple(name for name in surfaces if name != "surface_mm")
    if corresponding and body is not None and body.model != bodies.predicted.family:
        surfaces = tuple(name for name in surfaces if name == "surface_mm")
        bodies.note(
            f"metrics of vertices are left out: the truth is a {body.model} body, predictions are meshes of "
            f"{bodies.predicted.model_id}, whose vertices stand in another order (--body gives them SMPL's; "
            "--protocol surface needs no common order)"
        )
    counted = counted_frames(truth, protocol, bodies)
    return Case(prediction, truth, protocol, bodies, counted, names, body, from_mesh, surfaces)


def _body_truth(truth: GroundTruth, protocol: EvalProtocol, bodies: Bodies) -> BodyTruth | None:
    """The true body where it is needed and can be posed; its gender as the protocol has it."""
    body = truth.body
    if body is None:
        return None
    if protocol.truth == "measured" and not protocol.on_surfaces:
        return None
    if protocol.truth_gender == "neutral":
        body = replace(body, gender="neutral")
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
    if protocol.truth == "mesh" and body is not None:
        return protocol.joints, True
    if truth.joints_c is None or truth.skeleton is None:
        raise InputError(
            f"protocol {protocol.name} wants {'a true body' if protocol.truth == 'mesh' else 'measured joints'}, the "
            f"truth of {truth.person} has none; choose another --protocol"
        )
    wanted = protocol.joints or truth.skeleton.joints
    missing = [name for name in wanted if column_of(truth.skeleton, name) is None]
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


# -------------------------------------------------------------------------------------------------- metrics


def _pose_values(
    p: np.ndarray, t: np.ndarray, poses: Poses, names: tuple[str, ...], protocol: EvalProtocol
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
