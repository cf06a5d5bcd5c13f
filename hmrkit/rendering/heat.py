"""Errors of a mesh as one value a vertex, for heat maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hmrkit.body import Body
from hmrkit.body.posing import body_meshes
from hmrkit.camera import project
from hmrkit.skeletons import SMPL_24, get_skeleton
from hmrkit.types import BodyParams, Camera, Keypoints, MeshTrack, Track

MIN_CONFIDENCE = 0.3
# How far along the skin a keypoint's error is shown, and the least that any keypoint must weigh somewhere to count.
SPREAD_M, LEAST = 0.09, 1e-3


def refit_heat_mm(mesh: MeshTrack, refitted: BodyParams, body: Body, rows: np.ndarray) -> np.ndarray:
    """(T,V) mm from each calibrated vertex of those `rows` to the refitted body's, which skinned formats carry."""
    vertices, _ = body_meshes(body, refitted, rows)
    return np.linalg.norm(mesh.vertices_c - vertices, axis=-1).astype(np.float32) * 1000


def reprojection_heat(
    mesh: MeshTrack, track: Track, points: Keypoints, camera: Camera, body: Body, rows: np.ndarray
) -> np.ndarray:
    """(T,V): how far, in % of the box's height, the mesh's keypoints project from those seen, shown around them.

    NaN where no keypoint is near, and where those near were not seen surely.
    """
    names, places = mesh_keypoints(mesh.vertices_c, mesh.joints_c, body)
    index = get_skeleton(points.skeleton).index
    common = [k for k, name in enumerate(names) if name in index]
    seen = points.keypoints_2d[rows][:, [index[names[k]] for k in common]]
    heights = track.boxes_xyxy[rows, 3] - track.boxes_xyxy[rows, 1]
    gap = np.linalg.norm(project(camera, places[:, common]) - seen[..., :2], axis=-1) / heights[:, None] * 100
    known = np.isfinite(gap) & (seen[..., 2] >= MIN_CONFIDENCE)

    # Near in the rest pose, where no limb touches another.
    rest = body().vertices.cpu().numpy()
    joints = body().joints.cpu().numpy()
    _, marks = mesh_keypoints(rest, joints, body)
    apart = np.linalg.norm(rest[0][:, None] - marks[0][None, common], axis=-1)
    near = np.exp(-0.5 * (apart / SPREAD_M) ** 2)
    near[near < LEAST] = 0
    total = known.astype(np.float64) @ near.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.where(known, gap, 0) @ near.T / np.where(total > 0, total, np.nan)).astype(np.float32)


def mesh_keypoints(vertices: np.ndarray, joints: np.ndarray, body: Body) -> tuple[Sequence[str], np.ndarray]:
    """Names (K) and places (T,K,3) m of a mesh's keypoints: a body without a keypoint regressor has its joints."""
    if body.keypoint_regressor is None:
        return SMPL_24.joints, joints
    return body.keypoint_names, body.keypoints(torch.from_numpy(vertices).to(body.device)).cpu().numpy()
