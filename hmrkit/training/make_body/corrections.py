"""Pose blend shapes that make linear blend skinning act like skinning about optimised centres of rotation.

Le & Hodgins 2016 skin without the collapsing joints of linear blending; SMPL's form knows only linear blending and
offsets linear in the rotations' entries. So for each joint, over random poses of it, the rest-space offset is fitted
that brings the one to the other (one joint at a time, so that each moves only the skin near it, as in STAR,
Osman et al. 2020).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
from scipy.spatial.transform import Rotation

from hmrkit.skeletons import SMPL_24, swap_sides

# Plausible ranges of axis-angle x, y, z in degrees, of the left side and the middle.
_RANGES = {
    "left_hip": [(-115, 35), (-45, 45), (-35, 60)], "left_knee": [(-5, 140), (-15, 15), (-10, 10)],
    "left_ankle": [(-45, 40), (-25, 25), (-25, 25)], "left_foot": [(-40, 25), (-5, 5), (-5, 5)],
    "spine1": [(-25, 45), (-25, 25), (-25, 25)], "spine2": [(-20, 35), (-25, 25), (-20, 20)],
    "spine3": [(-20, 30), (-20, 20), (-20, 20)], "neck": [(-35, 40), (-45, 45), (-30, 30)],
    "head": [(-30, 35), (-40, 40), (-25, 25)], "left_collar": [(-12, 12), (-25, 20), (-22, 35)],
    "left_shoulder": [(-70, 70), (-105, 45), (-90, 70)], "left_elbow": [(-60, 60), (-145, 5), (-12, 12)],
    "left_wrist": [(-40, 40), (-25, 35), (-70, 70)], "left_hand": [(-15, 15), (-15, 15), (-60, 60)],
}  # fmt: skip
_STRENGTH = {"left_shoulder": 0.5, "left_collar": 0.5}  # in full the centres of rotation puff up the armpit
_REFLECT = np.array([-1.0, 1.0, 1.0])  # x -> -x


def fit_pose_blend_shapes(
    vertices: np.ndarray,
    faces: np.ndarray,
    weights: np.ndarray,
    joints: np.ndarray,
    mirror: np.ndarray,
    random: np.random.Generator,
    poses: int = 160,
    ridge: float = 1e-3,
) -> np.ndarray:
    """``posedirs`` (V,3,207) of a T-posed body: `vertices` (V,3), `weights` (V,24), `joints` (24,3), `mirror` (V,).

    The left side is fitted, the right side is its reflection.
    """
    centres = rotation_centres(vertices, faces, weights)
    smooth = _smoothing(faces, len(vertices))
    result = np.zeros((len(vertices), 3, 23, 9))
    for joint, other in enumerate(SMPL_24.mirror):
        if joint == 0 or other < joint:
            continue
        name = SMPL_24.joints[joint]
        local = np.broadcast_to(np.eye(3), (poses, 24, 3, 3)).copy()
        local[:, joint] = _random_rotations(name, poses, random)
        rotation, shift = _chain(joints, local)
        shared = np.nonzero((weights[:, joint] > 1e-3) & (weights[:, joint] < 1 - 1e-3))[0]
        linear, blended = _skin_linearly(vertices[shared], weights[shared], rotation, shift)
        wanted = _skin_about_centres(vertices[shared], weights[shared], centres[shared], rotation, shift)
        offset = np.linalg.solve(blended, (wanted - linear)[..., None])[..., 0]
        # Where the blend of rotations is nearly singular, so is the offset: such poses count less.
        trust = np.clip(np.linalg.svd(blended, compute_uv=False)[..., -1], 0, 1) ** 2
        feature = (local[:, joint] - np.eye(3)).reshape(poses, 9)
        normal = np.einsum("na,nf,ng->afg", trust, feature, feature) + ridge * poses * np.eye(9)
        right = np.einsum("na,nf,nac->afc", trust, feature, offset)
        spread = np.zeros((len(vertices), 27))
        spread[shared] = (np.linalg.solve(normal, right) * _STRENGTH.get(name, 1.0)).reshape(-1, 27)
        spread = smooth @ spread
        moved = np.nonzero(np.abs(spread).max(1) > 1e-4)[0]
        offsets = spread[moved].reshape(-1, 9, 3).transpose(0, 2, 1)
        result[moved, :, joint - 1] = offsets
        if other != joint:
            signs = np.outer(_REFLECT, _REFLECT).ravel()  # of a reflected rotation's entries
            result[mirror[moved], :, other - 1] = offsets * _REFLECT[:, None] * signs
    return result.reshape(len(vertices), 3, 207)


def rotation_centres(
    vertices: np.ndarray, faces: np.ndarray, weights: np.ndarray, sigma: float = 0.1, chunk: int = 1000
) -> np.ndarray:
    """Optimised centres of rotation (V,3), equations 1 and 4 of Le & Hodgins 2016."""
    face_weights, face_middles = weights[faces].mean(1), vertices[faces].mean(1)
    corners = [vertices[faces[:, k]] for k in range(3)]
    areas = np.linalg.norm(np.cross(corners[1] - corners[0], corners[2] - corners[0]), axis=1) / 2
    summed, total = np.zeros((len(vertices), 3)), np.zeros(len(vertices))
    for j, k in zip(*np.triu_indices(weights.shape[1], 1), strict=True):
        both = np.nonzero((weights[:, j] > 1e-3) & (weights[:, k] > 1e-3))[0]
        near = np.nonzero((face_weights[:, j] > 1e-3) & (face_weights[:, k] > 1e-3))[0]
        face_j, face_k = face_weights[near, j][None], face_weights[near, k][None]
        for first in range(0, len(both) if len(near) else 0, chunk):
            some = both[first : first + chunk]
            own_j, own_k = weights[some, j][:, None], weights[some, k][:, None]
            difference = own_j * face_k - own_k * face_j
            similarity = own_j * own_k * face_j * face_k * np.exp(-(difference**2) / sigma**2) * areas[near][None]
            summed[some] += similarity @ face_middles[near]
            total[some] += similarity.sum(1)
    centres, found = vertices.copy(), total > 1e-12
    centres[found] = summed[found] / total[found][:, None]
    return centres


def _chain(joints: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations (N,24,3,3) -> world rotations (N,24,3,3) and shifts (N,24,3) of points at rest."""
    rotation, place = np.empty_like(local), np.empty(local.shape[:-1])
    for joint, parent in enumerate(SMPL_24.parents):
        rotation[:, joint] = local[:, joint] if parent < 0 else rotation[:, parent] @ local[:, joint]
        place[:, joint] = joints[joint]
        if parent >= 0:
            place[:, joint] = place[:, parent] + rotation[:, parent] @ (joints[joint] - joints[parent])
    return rotation, place - np.einsum("njab,jb->nja", rotation, joints)


def _skin_linearly(
    points: np.ndarray, weights: np.ndarray, rotation: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Linear blend skinning (N,A,3) of points (A,3), and the blended matrices (N,A,3,3)."""
    blended = np.einsum("vj,njab->nvab", weights, rotation, optimize=True)
    return np.einsum("nvab,vb->nva", blended, points) + weights @ shift, blended


def _skin_about_centres(
    points: np.ndarray, weights: np.ndarray, centres: np.ndarray, rotation: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Skinning (N,A,3) about `centres` (A,3): they move linearly, the rest rotates by the blended quaternion."""
    quaternions = Rotation.from_matrix(rotation.reshape(-1, 3, 3)).as_quat().reshape(*rotation.shape[:2], 4)
    strongest = quaternions[:, np.argmax(weights, 1)]
    # q and -q are one rotation: bring each joint's to the side of the point's strongest joint before they are added.
    signs = np.where(np.einsum("njc,nac->naj", quaternions, strongest) < 0, -1.0, 1.0)
    blended = np.einsum("naj,njc->nac", weights * signs, quaternions)
    about_centre = Rotation.from_quat(blended.reshape(-1, 4)).as_matrix().reshape(*blended.shape[:2], 3, 3)
    moved, _ = _skin_linearly(centres, weights, rotation, shift)
    return moved + np.einsum("nvab,vb->nva", about_centre, points - centres)


def _random_rotations(joint: str, count: int, random: np.random.Generator) -> np.ndarray:
    """Rotations (count,3,3) within the joint's range, denser near rest."""
    limits = np.radians(np.array(_RANGES[joint if joint in _RANGES else swap_sides(joint)], float))
    vectors = random.uniform(limits[:, 0], limits[:, 1], (count, 3)) * random.uniform(0.2, 1, (count, 1))
    return Rotation.from_rotvec(vectors).as_matrix()


def _smoothing(faces: np.ndarray, count: int) -> scipy.sparse.csr_matrix:
    """One step of smoothing over the mesh: half the vertex, half the mean of its neighbours."""
    start, end = faces.ravel(), np.roll(faces, 1, 1).ravel()
    edges = scipy.sparse.coo_matrix((np.ones(2 * len(start)), (np.r_[start, end], np.r_[end, start])), (count, count))
    edges = edges.tocsr()
    edges.data[:] = 1
    degree = np.asarray(edges.sum(1)).ravel()
    return scipy.sparse.csr_matrix(0.5 * scipy.sparse.eye(count) + 0.5 * scipy.sparse.diags(1 / degree) @ edges)
