"""How far the lifted and the direct pose err, joint by joint, on people whose joints are known.

Both poses are those of the chain by the true boxes, about the pelvis and brought to the true size, which one camera
cannot measure. Left and right are taken together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hmrkit.calibration.bone_rotations import PIECES, assemble, no_rotations
from hmrkit.calibration.lifted_bones import both_ends, lifted_on_body, piece_rotations, pieces_known, trusted_angles
from hmrkit.calibration.pose_streams import direct_pose, pose_size
from hmrkit.calibration.target import TargetOptions, follow_rays, viewing_rays
from hmrkit.calibration.time_filter import UNSMOOTHED
from hmrkit.calibration.track import mesh_joints
from hmrkit.datasets import Dataset, GroundTruth
from hmrkit.errors import InputError
from hmrkit.evaluation.predicting import takes_with_true_boxes
from hmrkit.evaluation.subsets import limited
from hmrkit.models import Models
from hmrkit.pipeline import Progress, run_stages, stages_of
from hmrkit.skeletons import H36M_17, SMPL_24, common_joints, get_skeleton
from hmrkit.types import LiftedPose, Take

# Joints that the truth calls otherwise, where they are the same place of the body.
_TRUE_NAMES = {"thorax": "neck", "spine": "spine2"}
_HIPS = H36M_17.indices("left_hip", "right_hip")
MIN_FRAMES = 50  # of a bone, fewer say nothing
_AXES = (slice(0, 2), slice(2, 3))  # the image plane, depth


def measure(
    dataset: Dataset, models: Models, limit: int | None = None, progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Errors in mm as `hmrkit.calibration.pose_uncertainty` keeps them, of the first `limit` images (None: all).

    InputError where the dataset gives no joints in 3D that both poses have.
    """
    dataset.check()
    parts: list[np.ndarray] = []
    for sequence in limited(dataset.sequences(), limit):
        for take, owners in takes_with_true_boxes(sequence, models, ("pose", "lift"), progress):
            for track_id, (person, rows) in owners.items():
                truth = true_pose(sequence.people[person], rows)
                poses = (take.lifted[track_id], direct_pose(take.keypoints[track_id], models.body))
                parts.append(np.stack([_error(pose, truth) for pose in poses]))
    errors = np.concatenate(parts, 1) if parts else np.zeros((2, 0, len(H36M_17), 3))
    errors = errors[:, np.isfinite(errors).any((0, 2, 3))]
    joints = {name: facts for name, facts in zip(H36M_17.joints, _facts(errors), strict=True) if facts}
    if not joints:
        raise InputError(f"dataset {dataset.name}: wanted people with true 3D joints and keypoints, found none")
    weights = {name: getattr(models, name).weights_sha256 for name in ("keypoints", "lifter")}
    return {"frames": errors.shape[1], "people": len(parts), "weights": weights, "joints": joints}


def true_pose(truth: GroundTruth, rows: np.ndarray) -> LiftedPose:
    """True joints of some rows in Human3.6M's order, m about the middle of the hips; NaN where they are not known."""
    pose = np.full((len(rows), len(H36M_17), 3), np.nan)
    if truth.joints_c is not None and truth.skeleton is not None:
        known = np.where(truth.valid[rows, None, None], truth.joints_c[rows].astype(np.float64), np.nan)
        source, target = common_joints(truth.skeleton, H36M_17)
        pose[:, target] = known[:, source]
        for name, other in _TRUE_NAMES.items():
            if other in truth.skeleton.index:
                pose[:, H36M_17.index[name]] = known[:, truth.skeleton.index[other]]
    pose[:, 0] = pose[:, _HIPS].mean(1)
    return LiftedPose((pose - pose[:, :1]).astype(np.float32), H36M_17.name)


def _error(pose: LiftedPose, truth: LiftedPose) -> np.ndarray:
    """Steps (T,17,3) in mm from the true joints to those of a pose brought to the true size."""
    found = np.full_like(truth.joints_c, np.nan)
    source, target = common_joints(get_skeleton(pose.skeleton), H36M_17)
    found[:, target] = pose.joints_c[:, source] * (pose_size(truth) / pose_size(pose))
    return 1000 * (found - truth.joints_c)


def _facts(errors: np.ndarray) -> list[dict[str, list[float]] | None]:
    """Of each joint what is kept of errors (2,N,17,3) of the lifted and the direct pose; None where one is missing."""
    known = np.asarray(np.isfinite(errors).all((0, 3)))
    lifted, direct = np.where(known[..., None], errors, 0)
    count = known.sum(0)[:, None]

    def mean(values: np.ndarray) -> np.ndarray:
        """(N,17,3) -> (17,2): means over frames, axes of the image plane, and sides."""
        both = np.stack([values[..., axes].mean(-1) for axes in _AXES], -1).sum(0) / count.clip(1)
        return (both + both[list(H36M_17.mirror)]) / 2

    a, b, c = mean(lifted**2), mean(direct**2), mean(lifted * direct)
    same = c / np.sqrt(a * b).clip(1e-9)
    rows = (np.sqrt(a).round(1), np.sqrt(b).round(1), same.round(3))
    return [
        dict(zip(("lifted_mm", "direct_mm", "correlation"), (row[j].tolist() for row in rows), strict=True))
        if count[j] and a[j].all() and b[j].all()
        else None
        for j in range(len(H36M_17))
    ]


# ------------------------------------------------------------------------------------------------- beside a mesh stream


def measure_beside_meshes(
    dataset: Dataset, several: Sequence[Models], limit: int | None = None, progress: Progress = lambda *_: None
) -> list[dict[str, Any]]:
    """How each of some mesh streams, its pose stream and the keypoints' rays err, as `hmrkit.calibration.shares` keeps
    it. Stages that they have in common run once.

    InputError where the dataset's true joints are not the body's own, or nobody was found."""
    dataset.check()
    parts: list[list[tuple[Tensor, Tensor]]] = [[] for _ in several]
    for sequence in limited(dataset.sequences(), limit):
        for posed, owners in takes_with_true_boxes(sequence, several[0], ("pose",), progress):
            for models, found in zip(several, parts, strict=True):
                stages = [name for name in stages_of(models.options) if name not in ("detect", "track", "calibrate")]
                take = run_stages(posed, stages, models, progress)
                for track_id, (person, rows) in owners.items():
                    truth = sequence.people[person]
                    if track_id in take.body and truth.joints_c is not None and truth.skeleton is SMPL_24:
                        keep = torch.from_numpy(truth.valid[rows])
                        true = torch.from_numpy(truth.joints_c[rows].astype(np.float64))
                        errors, sure = bone_errors(take, track_id, true, models)
                        found.append((errors[keep], sure[keep]))
    if not all(parts):
        raise InputError(f"dataset {dataset.name}: wanted people whose true joints are the body's 24, found none")
    return [_entry(found) for found in parts]


def _entry(parts: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """What is kept of the `bone_errors` of some people."""
    errors, sure = (torch.cat(each) for each in zip(*parts, strict=True))
    names = [name.removeprefix("left_") for name in PIECES]
    bones: dict[str, Any] = {}
    for name in dict.fromkeys(n for n in names if not n.startswith("right_")):
        sides = [i for i, n in enumerate(names) if n.removeprefix("right_") == name]
        of, seen = errors[:, sides].flatten(0, 1), sure[:, sides].flatten() > 0.5
        known = of.isfinite().all(-1).all(-1)
        hidden = of[known & (sure[:, sides].flatten() == 0)]
        if (known & seen).sum() < MIN_FRAMES:
            continue
        bones[name] = _products(of[known & seen])
        bones[name]["hidden"] = {"frames": len(hidden)}
        if len(hidden):
            mesh, pose = hidden[:, :2].square().sum(-1).mean(0).sqrt().tolist()
            bones[name]["hidden"] |= {"mesh_deg": round(mesh, 1), "pose_deg": round(pose, 1)}
    return {"frames": len(errors), "people": len(parts), "bones": bones}


def bone_errors(take: Take, track_id: int, true: Tensor, models: Models) -> tuple[Tensor, Tensor]:
    """Errors (T,10,3,3) in degrees of `PIECES`, of mesh, pose and rays, about each axis of the camera, NaN where the
    pose is missing or not followed; and how surely each is seen (T,10). `true` (T,24,3) m."""
    joints, offsets = mesh_joints(models.body, take.body[track_id])
    mesh = torch.from_numpy(joints.astype(np.float64))
    lifted = take.lifted[track_id]
    pose, known = lifted_on_body(torch.from_numpy(lifted.joints_c).to(mesh), lifted.skeleton, mesh, TargetOptions.align)
    rays = viewing_rays(take.keypoints[track_id], take.camera, mesh, offsets)
    assert rays is not None
    still, everything = no_rotations(mesh), torch.ones(len(PIECES), 3, dtype=mesh.dtype)
    rotations, root = follow_rays(mesh, still, mesh.new_ones(23), rays, everything, UNSMOOTHED)
    everywhere = torch.ones_like(known)
    to_truth, to_pose, to_rays = (
        piece_rotations(mesh, other, where)
        for other, where in (
            (true, everywhere), (pose, known), (assemble(mesh, rotations, mesh.new_ones(23), root), everywhere)
        )
    )  # fmt: skip
    followed = pieces_known(known) & trusted_angles(to_pose)
    errors = torch.stack([-to_truth, to_pose - to_truth, to_rays - to_truth], 2).rad2deg()
    return torch.where(followed[..., None, None], errors, torch.nan), both_ends(rays.sure)


def _products(errors: Tensor) -> dict[str, Any]:
    """What is kept of errors (N,3,3) of mesh, pose and rays about the axes: mean products (3,3) in each direction."""
    about = {"image": errors[..., 2:], "depth": errors[..., :2]}
    means = {axis: torch.einsum("nad,nbd->ab", e, e) / e[:, 0].numel() for axis, e in about.items()}
    return {"frames": len(errors)} | {axis: mean.numpy().round(1).tolist() for axis, mean in means.items()}
