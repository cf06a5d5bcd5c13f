"""3D poses that a mesh is calibrated to, beside the one lifted from 2D keypoints.

- serial (PC-HMR, equations 2 to 4): the 2D pose to be lifted is the mesh stream's own, posed and projected;
- direct: the 3D landmarks that the keypoint estimator sees in the image, as joints (the paper's PoseNet on 3DPW);
- fused: lifted and direct, joint by joint, each counting by how far it errs (`hmrkit.calibration.pose_uncertainty`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.body.landmarks import body_landmarks, world_from_local
from hmrkit.body.posing import body_for
from hmrkit.calibration.pose_uncertainty import PoseUncertainty
from hmrkit.camera import project
from hmrkit.errors import UsageError
from hmrkit.geometry import orthonormal_frame
from hmrkit.skeletons import BLAZEPOSE_33, H36M_17, SMPL_24, get_skeleton
from hmrkit.types import BodyParams, Camera, Keypoints, LiftedPose

# Rigid parts: their origin is the middle of the first two landmarks, their axes go from the second to the first and
# from the origin towards the middle of the others.
_PARTS = {
    "pelvis": ("left_hip", "right_hip", "left_shoulder", "right_shoulder"),
    "chest": ("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
    "head": ("left_ear", "right_ear", "nose"),
}
# Landmarks mark the skin: joints that lie deep below it are placed by the parts they move with (the mean of several).
_PLACED_BY = {
    "pelvis": ("pelvis",),
    "left_hip": ("pelvis",),
    "right_hip": ("pelvis",),
    "spine": ("pelvis", "chest"),
    "thorax": ("chest",),
    "left_shoulder": ("chest",),
    "right_shoulder": ("chest",),
    "head_top": ("head",),
}
# Limbs whose lengths say how large a pose is.
_SIZE_BONES = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)


@torch.no_grad()
def projected_landmarks(body: Body, params: BodyParams, camera: Camera) -> Keypoints:
    """BlazePose's 33 landmarks (T,33,3) px of a track's bodies, all of confidence 1: equations 2 and 3.

    Landmarks that are not in front of the camera are missing (NaN, confidence 0). ModelMismatchError where the
    parameters are another body's.
    """
    body = body_for(params, body)
    local = torch.from_numpy(np.concatenate([params.global_orient[:, None], params.body_pose], 1)).to(body.device)
    betas = torch.as_tensor(params.betas[:10], dtype=body.dtype, device=body.device)
    points, _ = body_landmarks(body)(world_from_local(local), betas)
    # They are made about the pelvis' place in the unposed body, as the parameters' translation wants it.
    pixels = project(camera, points.cpu().numpy() + params.transl_c[:, None])
    seen = np.isfinite(pixels).all(-1, keepdims=True).astype(np.float32)
    return Keypoints(np.concatenate([pixels, seen], -1), None, BLAZEPOSE_33.name)


def direct_pose(keypoints: Keypoints, body: Body) -> LiftedPose:
    """Human3.6M's 17 joints (T,17,3) m about the pelvis, of a track's 3D landmarks; frames without them are NaN.

    What lies between a landmark and its joint is taken from the resting `body`. UsageError where the keypoints are not
    BlazePose's, or have no 3D.
    """
    if keypoints.joints_3d is None or keypoints.skeleton != BLAZEPOSE_33.name:
        raise UsageError(
            f"--pose3d direct and fused want {BLAZEPOSE_33.name} landmarks with 3D, got {keypoints.skeleton}"
            f"{'' if keypoints.joints_3d is not None else ' without 3D'}; use --keypoints blazepose-heavy"
        )
    seen = torch.from_numpy(keypoints.joints_3d.astype(np.float64))
    rest, joints = _resting(body)
    frames_rest, frames = _part_frames(rest[None]), _part_frames(seen)
    pose = []
    for name, joint in zip(H36M_17.joints, joints, strict=True):
        if name not in _PLACED_BY:
            pose.append(seen[:, BLAZEPOSE_33.index[name]])
            continue
        placed = []
        for part in _PLACED_BY[name]:
            origin, axes = frames[part]
            origin_rest, axes_rest = frames_rest[part]
            placed.append(origin + (axes @ (axes_rest[0].mT @ (joint - origin_rest[0]))[:, None])[..., 0])
        pose.append(torch.stack(placed).mean(0))
    found = torch.stack(pose, 1)
    return LiftedPose((found - found[:, :1]).numpy().astype(np.float32), H36M_17.name)


def fused_pose(lifted: LiftedPose, direct: LiftedPose, uncertainty: PoseUncertainty) -> LiftedPose:
    """Each joint between the `lifted` and the `direct` one, by the shares of `uncertainty`: in the image plane and in
    depth each its own. Joints that only one of them has stay its own; the result has the lifted pose's joints.

    One camera cannot measure size: the direct pose is first scaled to the lifted one's.
    """
    skeleton = get_skeleton(lifted.skeleton)
    common = [name for name in skeleton.joints if name in get_skeleton(direct.skeleton).index]
    at = skeleton.indices(*common)
    other = np.full_like(lifted.joints_c, np.nan)
    other[:, at] = direct.joints_c[:, get_skeleton(direct.skeleton).indices(*common)]
    other = other * (pose_size(lifted) / pose_size(direct))
    share = uncertainty.direct_share(skeleton)
    both = lifted.joints_c + share * (other - lifted.joints_c)
    both = np.where(np.isfinite(other), both, lifted.joints_c)
    return LiftedPose(np.where(np.isfinite(lifted.joints_c), both, other).astype(np.float32), lifted.skeleton)


def pose_size(pose: LiftedPose) -> float:
    """Sum of the limbs' lengths, m: each the median over the track. NaN where no frame has a pose."""
    index = get_skeleton(pose.skeleton).index
    lengths = [np.linalg.norm(pose.joints_c[:, index[b]] - pose.joints_c[:, index[a]], axis=-1) for a, b in _SIZE_BONES]
    return float(sum(np.median(of[np.isfinite(of)]) if np.isfinite(of).any() else np.nan for of in lengths))


@torch.no_grad()
def _resting(body: Body) -> tuple[Tensor, Tensor]:
    """Landmarks (33,3) and Human3.6M's joints (17,3) m of the mean body at rest."""
    betas = torch.zeros(10, dtype=body.dtype, device=body.device)
    points = body_landmarks(body).rest(betas).double().cpu()
    rest = body(betas=betas)
    joints = rest.joints[0].double().cpu()
    vertices = rest.vertices[0].double().cpu()
    named = {name: points[BLAZEPOSE_33.index[name]] for name in H36M_17.joints if name in BLAZEPOSE_33.index}
    named |= {name: joints[SMPL_24.index[name]] for name in H36M_17.joints if name in SMPL_24.index}
    named["pelvis"] = joints[SMPL_24.indices("left_hip", "right_hip")].mean(0)
    named["spine"], named["thorax"] = joints[SMPL_24.indices("spine2", "neck")]
    named["head_top"] = vertices[vertices[:, 1].argmax()]
    return points, torch.stack([named[name] for name in H36M_17.joints])


def _part_frames(landmarks: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Origins (T,3) and axes (T,3,3) of the rigid parts of landmarks (T,33,3)."""
    frames = {}
    for part, names in _PARTS.items():
        points = landmarks[:, BLAZEPOSE_33.indices(*names)]
        origin = points[:, :2].mean(1)
        frames[part] = origin, orthonormal_frame(points[:, 0] - points[:, 1], points[:, 2:].mean(1) - origin)
    return frames
