"""A track's calibration: the mesh stream's body, moved onto the target pose, and body parameters refitted to it.

Meshes are made in stretches of frames, so that nobody ever holds a whole track's vertices.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.body.posing import MOVING, body_for, posed_mesh, posed_skeleton
from hmrkit.calibration import CalibrationWeights, bone_transforms, calibrate
from hmrkit.calibration.bone_rotations import SEEN_JOINTS
from hmrkit.calibration.joint_limits import within_limits
from hmrkit.calibration.target import TargetOptions, build_target
from hmrkit.calibration.variants import start_of
from hmrkit.errors import ModelMismatchError
from hmrkit.skeletons import SMPL_24
from hmrkit.types import BodyParams, Calibration, Camera, Keypoints, LiftedPose, Track


def calibrate_track(
    track: Track,
    params: BodyParams,
    lifted: LiftedPose | None,
    keypoints: Keypoints | None,
    camera: Camera,
    body: Body,
    weights: CalibrationWeights,
    times: np.ndarray,
    options: TargetOptions | None = None,
    batch: int = 64,
    params_only: bool = False,
    straight: np.ndarray | None = None,
) -> Calibration:
    """PC-HMR for one person: target joints from the pose stream (`lifted`) and the 2D keypoints, and a refit.

    `params`, `lifted` and `keypoints` hold the track's T frames, taken at `times` (T,) s of the world; without
    `keypoints` nothing draws the mesh to the image (serial mode). `params_only`: see `refit`; `straight`: see
    `build_target`. ModelMismatchError where parameters, body and weights are not of the same body model; ValueError
    where the numbers of frames differ.
    """
    body = _checked_body(body, params, weights)
    if len(params.transl_c) != len(track.frame_indices):
        raise ValueError(f"expected parameters of {len(track.frame_indices)} frames, got {len(params.transl_c)}")
    joints, offsets = mesh_joints(body, params)
    joints_c = build_target(joints, lifted, keypoints, camera, times, options, offsets, straight)
    refitted, residual = refit(body, params, joints_c, weights, batch, params_only)
    return Calibration(joints_c, refitted, residual)


def without_rows(moved: Calibration, rows: np.ndarray) -> Calibration:
    """A calibration that has nothing (NaN) in some rows (T,) bool, where the mesh stream has no mesh."""
    gone = {key: np.array(getattr(moved.params, key)) for key in MOVING}
    joints, residual = np.array(moved.joints_c), np.array(moved.refit_residual_mm)
    for values in (*gone.values(), joints, residual):
        values[rows] = np.nan
    return Calibration(joints, replace(moved.params, **gone), residual)


def calibrated_vertices(
    body: Body,
    params: BodyParams,
    joints_c: np.ndarray,
    weights: CalibrationWeights,
    rows: slice | np.ndarray = slice(None),
) -> np.ndarray:
    """Vertices (t,V,3) m of some `rows` of a track: the mesh stream's moved onto the target `joints_c` (T,24,3)."""
    body = _checked_body(body, params, weights)
    params = start_of(body, params, joints_c, weights)
    with torch.inference_mode():
        return _moved(body, params, joints_c, weights, rows).cpu().numpy()


@torch.inference_mode()
def refit(
    body: Body,
    params: BodyParams,
    joints_c: np.ndarray,
    weights: CalibrationWeights,
    batch: int = 64,
    params_only: bool = False,
) -> tuple[BodyParams, np.ndarray]:
    """Body parameters of the meshes `params` calibrated to `joints_c` (T,24,3) m, and what they miss (T,) mm.

    Analytic: every joint's rotation is rotated as the bone that starts there was (Psi), held within anatomical limits
    (`joint_limits`); shape stays, one for the whole track; the root goes to its target. The residual is the mean
    distance between calibrated and refitted vertices; with `params_only` no vertices are made, and it is that between
    `joints_c` and the refitted joints.
    """
    body = _checked_body(body, params, weights)
    params = start_of(body, params, joints_c, weights)
    target = torch.as_tensor(joints_c, dtype=body.dtype, device=body.device)
    posed = posed_skeleton(body, params)
    psi, _, _ = bone_transforms(posed.joints, target, SMPL_24.parents, "chain")
    parents = list(SMPL_24.parents)
    # A joint's own bone is the first that starts there (all of them rotate alike), else the one that ends there.
    own = [parents.index(joint) - 1 if joint in parents else joint - 1 for joint in range(24)]
    world = psi[:, own] @ posed.joint_rotations
    own_pose = torch.as_tensor(params.body_pose, dtype=body.dtype, device=body.device)
    local = within_limits(world[:, parents[1:]].mT @ world[:, 1:], own_pose)
    shift = (target[:, 0] - posed.joints[:, 0]).cpu().numpy()
    refitted = replace(
        params,
        global_orient=world[:, 0].cpu().numpy().astype(np.float32),
        body_pose=local.cpu().numpy().astype(np.float32),
        transl_c=(params.transl_c + shift).astype(np.float32),
    )
    if params_only:
        gap = target - posed_skeleton(body, refitted).joints
        return refitted, (gap.norm(dim=-1).mean(-1) * 1000).cpu().numpy().astype(np.float32)
    residual = []
    for start in range(0, len(target), batch):
        rows = slice(start, start + batch)
        gap = _moved(body, params, joints_c, weights, rows) - posed_mesh(body, refitted, rows).vertices
        residual.append(gap.norm(dim=-1).mean(-1) * 1000)
    return refitted, torch.cat(residual).cpu().numpy().astype(np.float32)


def _moved(
    body: Body, params: BodyParams, joints_c: np.ndarray, weights: CalibrationWeights, rows: slice | np.ndarray
) -> Tensor:
    mesh = posed_mesh(body, params, rows)
    target = torch.as_tensor(joints_c[rows], dtype=body.dtype, device=body.device)
    if weights.network is not None:
        pose = torch.as_tensor(params.body_pose[rows], dtype=body.dtype, device=body.device)
        betas = torch.as_tensor(params.betas, dtype=body.dtype, device=body.device)
        return weights.network(mesh, pose, betas.expand(len(pose), -1), target, weights)
    return calibrate(mesh.vertices, mesh.joints, target, weights)


@torch.inference_mode()
def mesh_joints(body: Body, params: BodyParams) -> tuple[np.ndarray, np.ndarray | None]:
    """The mesh stream's joints (T,24,3) m and what points from `SEEN_JOINTS` to the marks of their keypoints (T,12,3).

    The body says where an annotator puts a hip on its surface; that mark is taken to move with the joint. None for a
    body without a keypoint regressor.
    """
    body = body_for(params, body)
    posed = posed_skeleton(body, params)
    if body.keypoint_regressor is None:
        return posed.joints.cpu().numpy(), None
    rest = body(betas=params.betas)
    marks = body.keypoints(rest.vertices)[0, [body.keypoint_names.index(name) for name in SEEN_JOINTS]]
    at = SMPL_24.indices(*SEEN_JOINTS)
    # Hips are marked on the pelvis and shoulders on the girdle: they stay where they are when the limb rotates.
    carriers = [SMPL_24.parents[j] if "hip" in SMPL_24.joints[j] or "shoulder" in SMPL_24.joints[j] else j for j in at]
    offsets = posed.joint_rotations[:, carriers] @ (marks - rest.joints[0, at])[..., None]
    return posed.joints.cpu().numpy(), offsets.squeeze(-1).cpu().numpy()


def _checked_body(body: Body, params: BodyParams, weights: CalibrationWeights) -> Body:
    """The person's body. ModelMismatchError where `weights` are for another vertex order."""
    body = body_for(params, body)
    if weights.model_id != body.topology_id:
        raise ModelMismatchError(
            f"expected calibration weights for body {body.topology_id}, got them for {weights.model_id}; use that body"
        )
    return body
