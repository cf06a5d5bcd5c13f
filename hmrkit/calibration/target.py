"""The pose that a mesh is calibrated to: the mesh stream's joints, corrected by a lifted pose and by 2D keypoints.

PC-HMR (Luan et al. 2021) takes the lifter's pose as it is. On footage neither source is right alone, and a lifter's
skeleton is not the body's, so here the target keeps the mesh stream's skeleton and root, and every bone is *rotated*
part of the way to where the lifter and the keypoints see it. All steps work on one value, the rotations (T,23,3,3): how
far each bone (named by its child joint, as in `hmrkit.calibration`) is rotated from the mesh stream's in camera axes.
Rotations are small and smooth where the streams agree, so smoothing them over time never blurs the motion itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hmrkit.camera import pixel_rays, solve_translation
from hmrkit.geometry import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    project_to_rotation,
    rigid_align,
    rotation_between,
)
from hmrkit.skeletons import SMPL_24, get_skeleton
from hmrkit.types import Camera, Keypoints, LiftedPose

# Bones that a lifter sees from end to end, parents first.
LIMBS = tuple(
    (f"{side}_{start}", f"{side}_{end}")
    for start, end in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
    for side in ("left", "right")
)
SEEN_JOINTS = tuple(dict.fromkeys(name for limb in LIMBS for name in limb))
# What lifters call the body's joints.
_BODY_NAMES = {"neck": "thorax"}
_PELVIS_BONES = ("left_hip", "right_hip", "spine1")
_CHEST_BONES = ("neck", "left_collar", "right_collar", "left_shoulder", "right_shoulder")
_SPINE_BONES = (("spine2", 1 / 3), ("spine3", 2 / 3))
# Where the lifter and the mesh stream disagree by more than this, one of them is lost, and the mesh has seen the image.
_AGREE, _DISAGREE = math.radians(45), math.radians(75)
# A joint this far from its keypoint's ray has its say halved twice: the keypoint sits on something else.
_RAY_REACH_M = 0.15
# Few passes on purpose: each brings the joints nearer to rays that are a little wrong themselves.
_SNAPS = 2


@dataclass(frozen=True)
class TargetOptions:
    """How the target is made.

    `lift_weight` in [0, 1]: share of the lifted direction in a bone's, where it is trusted fully. On four views of a
    real man a half was too much for mesh streams that have seen the image. `ray_weight` in [0, 1]: how far joints are
    moved towards the rays of their keypoints. `align` in [0, 1]: a lifted pose that is rotated against the mesh by the
    same rotation in the whole track is first rotated back by this share of it (1 trusts the mesh's orientation alone, 0
    both alike). `keep_lengths`: bones keep the mesh's lengths; else they take the lifted pose's proportions.
    `smooth_s`: standard deviation of the smoothing of corrections, seconds.
    """

    lift_weight: float = 0.3
    ray_weight: float = 0.5
    align: float = 1.0
    keep_lengths: bool = True
    smooth_s: float = 0.07


def build_target(
    joints_mesh_c: np.ndarray,
    lifted: LiftedPose | None,
    keypoints: Keypoints | None,
    camera: Camera,
    fps: float,
    options: TargetOptions | None = None,
    keypoint_offsets_c: np.ndarray | None = None,
) -> np.ndarray:
    """Target joints (T,24,3) m in the camera frame, of the mesh stream's joints (T,24,3) m of the same frames.

    `lifted` is matched by joint name; frames that it lacks (NaN) are left to the mesh. `keypoints` give its confidence
    and the rays. `keypoint_offsets_c` (T,12,3) m: from each of `SEEN_JOINTS` to the point of the body that its keypoint
    marks (a hip's keypoint is not the hip joint), zero where not given. ValueError where the numbers of frames differ.
    """
    options = options or TargetOptions()
    mesh = torch.from_numpy(np.asarray(joints_mesh_c, np.float64))
    counts = {len(mesh)} | ({len(lifted.joints_c)} if lifted else set())
    counts |= {len(keypoints.keypoints_2d)} if keypoints else set()
    if len(counts) > 1:
        raise ValueError(f"expected mesh, lifted pose and keypoints of the same frames, got {sorted(counts)} frames")
    pixels, confidence = _seen_keypoints(keypoints, len(mesh))
    sigma = options.smooth_s * fps
    rotations = torch.eye(3, dtype=mesh.dtype).expand(len(mesh), 23, 3, 3).contiguous()
    lengths = torch.ones(23, dtype=mesh.dtype)
    if lifted is not None and options.lift_weight > 0:
        pose, known = _lifted_on_body(lifted, mesh, options.align)
        rotations = _rotations_to_lifted(mesh, pose, known, confidence, options.lift_weight, sigma)
        if not options.keep_lengths:
            lengths = _length_ratios(mesh, pose, known)
    root = mesh[:, 0]
    if keypoints is not None and options.ray_weight > 0:
        offsets = np.zeros((len(mesh), len(SEEN_JOINTS), 3)) if keypoint_offsets_c is None else keypoint_offsets_c
        rays = _Rays(camera, pixels, confidence, torch.from_numpy(np.asarray(offsets, np.float64)))
        root = rays.depth_of_root(_assemble(mesh, rotations, lengths, root), 5 * sigma)
        for _ in range(_SNAPS):
            root = root + rays.shift(_assemble(mesh, rotations, lengths, root), sigma)
            rotations = _rotations_to_rays(mesh, rotations, lengths, root, rays, options.ray_weight)
        rotations = _smooth_rotations(rotations, sigma)
        root = root + rays.shift(_assemble(mesh, rotations, lengths, root), sigma)
    return _assemble(mesh, rotations, lengths, root).numpy().astype(np.float32)


# ------------------------------------------------------------------------------------------------- bones and rotations


def _bone(name: str) -> int:
    return SMPL_24.index[name] - 1


def _bones_of(joints: Tensor) -> Tensor:
    """(T,24,3) -> (T,23,3) m, from parent to child."""
    return joints[:, 1:] - joints[:, list(SMPL_24.parents[1:])]


def _rotated(rotation: Tensor, vector: Tensor) -> Tensor:
    return (rotation @ vector[..., None]).squeeze(-1)


def _assemble(mesh: Tensor, rotations: Tensor, lengths: Tensor, root: Tensor) -> Tensor:
    """Joints (T,24,3) of the mesh's bones, rotated and scaled, hung on `root` (T,3)."""
    bones = _rotated(rotations, _bones_of(mesh)) * lengths[:, None]
    joints = [root]
    for child in range(1, 24):
        joints.append(joints[SMPL_24.parents[child]] + bones[:, child - 1])
    return torch.stack(joints, 1)


def _with_trunk(rotations: Tensor, pelvis: Tensor, chest: Tensor) -> Tensor:
    """`rotations` (T,23,3,3) with pelvis and chest rotated further (T,3,3) and the spine bent from one to the other."""
    rotations = rotations.clone()
    between = matrix_to_axis_angle(pelvis.mT @ chest)
    parts = [(name, pelvis) for name in _PELVIS_BONES] + [(name, chest) for name in _CHEST_BONES]
    parts += [(name, pelvis @ axis_angle_to_matrix(share * between)) for name, share in _SPINE_BONES]
    for name, rotation in parts:
        rotations[:, _bone(name)] = rotation @ rotations[:, _bone(name)]
    return rotations


def _with_hands(rotations: Tensor) -> Tensor:
    """Hands rotate with their forearms. Head and feet keep the direction in which the mesh stream saw them."""
    for side in ("left", "right"):
        rotations[:, _bone(f"{side}_hand")] = rotations[:, _bone(f"{side}_wrist")]
    return rotations


def _smooth_rotations(rotations: Tensor, sigma: float) -> Tensor:
    return axis_angle_to_matrix(_gaussian(matrix_to_axis_angle(rotations), sigma))


def _gaussian(values: Tensor, sigma: float) -> Tensor:
    """`values` (T,...) smoothed along T by a Gaussian of `sigma` frames, ends held."""
    reach = min(math.ceil(3 * sigma), len(values) - 1)
    if reach < 1 or sigma < 0.2:
        return values
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=values.dtype) / sigma) ** 2)
    flat = torch.cat(
        [values[:1].expand(reach, *values.shape[1:]), values, values[-1:].expand(reach, *values.shape[1:])]
    )
    return torch.einsum("t...k,k->t...", flat.unfold(0, 2 * reach + 1, 1), kernel / kernel.sum())


# ------------------------------------------------------------------------------------------------- the lifted pose


def _seen_keypoints(keypoints: Keypoints | None, count: int) -> tuple[np.ndarray, Tensor]:
    """Pixels (T,12,2) and confidence (T,12) of `SEEN_JOINTS`; without keypoints nothing but full confidence."""
    pixels = np.full((count, len(SEEN_JOINTS), 2), np.nan, np.float32)
    if keypoints is None:
        return pixels, torch.ones(count, len(SEEN_JOINTS), dtype=torch.float64)
    confidence = np.zeros((count, len(SEEN_JOINTS)))
    index = get_skeleton(keypoints.skeleton).index
    for i, name in enumerate(SEEN_JOINTS):
        if name in index:
            pixels[:, i] = keypoints.keypoints_2d[:, index[name], :2]
            confidence[:, i] = keypoints.keypoints_2d[:, index[name], 2]
    confidence = np.where(np.isfinite(pixels).all(-1), np.nan_to_num(confidence).clip(0, 1), 0)
    return pixels, torch.from_numpy(confidence)


def _lifted_on_body(lifted: LiftedPose, mesh: Tensor, align: float) -> tuple[Tensor, Tensor]:
    """The lifted pose in the body's order (T,24,3) m about its pelvis, and which joints it has (T,24)."""
    index = get_skeleton(lifted.skeleton).index
    names = [_BODY_NAMES.get(name, name) for name in SMPL_24.joints]
    wanted = [name in index and (name in SEEN_JOINTS or name in ("pelvis", "thorax")) for name in names]
    pose = torch.full_like(mesh, torch.nan)
    columns = [index[name] for name, use in zip(names, wanted, strict=True) if use]
    pose[:, torch.tensor(wanted)] = torch.from_numpy(lifted.joints_c[:, columns].astype(np.float64))
    known = pose.isfinite().all(-1)
    known = known & known[:, :1]  # nothing is known without its root
    pose = torch.where(known[..., None], pose - torch.nan_to_num(pose[:, :1]), 0.0)
    usable = known.sum(-1) >= 4
    if align > 0 and usable.any():
        local = torch.where(known[..., None], mesh - mesh[:, :1], 0.0)
        each = rigid_align(pose[usable], local[usable], known[usable].to(mesh.dtype))[0]
        common = project_to_rotation(each.sum(0))
        # A second mean of those near the first: a few frames with an upside-down pose must not bend the whole track.
        near = (each @ common.mT).diagonal(dim1=-2, dim2=-1).sum(-1) > 1 + 2 * math.cos(math.radians(40))
        common = project_to_rotation(each[near].sum(0)) if near.any() else common
        pose = pose @ axis_angle_to_matrix(align * matrix_to_axis_angle(common)).mT
    return pose, known


def _trust(angle: Tensor) -> Tensor:
    """1 where two directions agree, 0 where they disagree wildly, linear between."""
    return ((_DISAGREE - angle) / (_DISAGREE - _AGREE)).clamp(0, 1)


def _part_way(rotation: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """`weight` (T,) of `rotation` (T,3,3), less where it is large, smoothed over time."""
    vector = matrix_to_axis_angle(rotation)
    share = weight * _trust(vector.norm(dim=-1))
    return axis_angle_to_matrix(_gaussian(share[:, None] * vector, sigma))


def _rotations_to_lifted(
    mesh: Tensor, pose: Tensor, known: Tensor, confidence: Tensor, lift_weight: float, sigma: float
) -> Tensor:
    """Rotations (T,23,3,3) from the mesh part of the way to the lifted pose: trunk as two rigid pieces, limbs by
    bones."""
    joint = SMPL_24.index
    sure = (2 * confidence).clamp(max=1)  # half confidence is a keypoint in sight
    certain = dict(zip(SEEN_JOINTS, sure.unbind(1), strict=True))

    def trunk(side: str) -> Tensor:
        """Rotation of pelvis ("hip") or chest ("shoulder") from mesh to lifted: across the sides and up the trunk."""
        pair = [joint[f"left_{side}"], joint[f"right_{side}"]]
        vectors = []
        for joints in (pose, mesh):
            up = joints[:, joint["neck"]] - joints[:, joint["pelvis"]]
            vectors.append(torch.stack([_unit(joints[:, pair[0]] - joints[:, pair[1]]), _unit(up)], -1))
        rotation = project_to_rotation(vectors[0] @ vectors[1].mT)
        there = known[:, [*pair, joint["neck"]]].all(-1)
        weight = lift_weight * there * torch.minimum(certain[f"left_{side}"], certain[f"right_{side}"])
        return _part_way(rotation, weight, sigma)

    identity = torch.eye(3, dtype=mesh.dtype).expand(len(mesh), 23, 3, 3)
    rotations = _with_trunk(identity, trunk("hip"), trunk("shoulder"))
    for start, end in LIMBS:
        a, b = joint[start], joint[end]
        rotation = rotation_between(mesh[:, b] - mesh[:, a], pose[:, b] - pose[:, a])
        weight = lift_weight * (known[:, a] & known[:, b]) * torch.minimum(certain[start], certain[end])
        rotations[:, b - 1] = _part_way(torch.where(weight[:, None, None] > 0, rotation, identity[:, 0]), weight, sigma)
    return _with_hands(rotations)


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _length_ratios(mesh: Tensor, pose: Tensor, known: Tensor) -> Tensor:
    """(23,) how much longer the lifted limbs are than the mesh's, medians over the track, equal on both sides.

    Relative to the whole pose's ratio: a lifter guesses stature, it measures proportions. At most a quarter.
    """
    mirror, joint = SMPL_24.mirror, SMPL_24.index
    ratios = torch.full((23,), torch.nan, dtype=mesh.dtype)
    for start, end in LIMBS:
        a, b = joint[start], joint[end]
        rows = known[:, a] & known[:, b]
        if rows.any():
            ratios[b - 1] = ((pose[:, b] - pose[:, a]).norm(dim=-1) / (mesh[:, b] - mesh[:, a]).norm(dim=-1))[
                rows
            ].median()
    both = torch.stack([ratios, ratios[[mirror[child] - 1 for child in range(1, 24)]]]).nanmean(0)
    return torch.nan_to_num((both / both.nanmedian()).clamp(0.8, 1.25), nan=1.0)


# ------------------------------------------------------------------------------------------------- the viewing rays


@dataclass(frozen=True)
class _Rays:
    """Keypoints of `SEEN_JOINTS`: pixels (T,12,2), confidence (T,12), offsets (T,12,3) m from joint to marked point."""

    camera: Camera
    pixels: np.ndarray
    confidence: Tensor
    offsets: Tensor

    def aims(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Where the rays would have the seen joints, at their present depth: moves (T,12,3) m and weights (T,12)."""
        points = joints[:, SMPL_24.indices(*SEEN_JOINTS)] + self.offsets
        rays = torch.from_numpy(pixel_rays(self.camera, np.nan_to_num(self.pixels)).astype(np.float64))
        moves = rays * points[..., 2:] - points
        weight = self.confidence / (1 + (moves.norm(dim=-1) / _RAY_REACH_M) ** 2) ** 2
        return moves, torch.where(points[..., 2] > 0, weight, 0.0)

    def depth_of_root(self, joints: Tensor, sigma: float) -> Tensor:
        """Root (T,3) at the depth that fits the keypoints' spread, changed smoothly and by a tenth at most."""
        points = joints[:, SMPL_24.indices(*SEEN_JOINTS)] + self.offsets
        root = joints[:, 0]
        _, weight = self.aims(joints)
        solved = solve_translation(
            self.camera, (points - root[:, None]).numpy(), self.pixels, weight.numpy(), root.numpy(), prior_weight=1e-3
        )
        ratio = (torch.from_numpy(solved[:, 2].astype(np.float64)) / root[:, 2]).clamp(0.9, 1.1)
        return root * torch.exp(_gaussian(ratio.log(), sigma))[:, None]

    def shift(self, joints: Tensor, sigma: float) -> Tensor:
        """How far the whole body (T,3) must move across the view to lie on the rays on average."""
        moves, weight = self.aims(joints)
        total = weight.sum(1, keepdim=True)
        return _gaussian((weight[..., None] * moves).sum(1) / (total + 0.1), sigma)


def _rotations_to_rays(
    mesh: Tensor, rotations: Tensor, lengths: Tensor, root: Tensor, rays: _Rays, ray_weight: float
) -> Tensor:
    """Rotations after one pass down the body that points every bone at its end's ray, at its present depth.

    Lengths stay, so a bone that looks too short is rotated further out of the image; passes converge on the ray.
    """
    joint = SMPL_24.index
    slot = {name: i for i, name in enumerate(SEEN_JOINTS)}
    joints = _assemble(mesh, rotations, lengths, root)
    moves, weight = rays.aims(joints)
    aim = joints[:, SMPL_24.indices(*SEEN_JOINTS)] + ray_weight * weight[..., None] * moves

    def across(side: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        left, right = aim[:, slot[f"left_{side}"]], aim[:, slot[f"right_{side}"]]
        old_left, old_right = joints[:, joint[f"left_{side}"]], joints[:, joint[f"right_{side}"]]
        return old_left - old_right, left - right, (old_left + old_right) / 2, (left + right) / 2

    hips_now, hips_aim, middle_now, middle_aim = across("hip")
    pelvis = rotation_between(hips_now, hips_aim)
    girdle_now, girdle_aim, top_now, top_aim = across("shoulder")
    bend = rotation_between(top_now - middle_now, top_aim - middle_aim)
    chest = rotation_between(_rotated(bend, girdle_now), girdle_aim) @ bend
    rotations = _with_trunk(rotations, pelvis, chest)
    for start, end in LIMBS:
        joints = _assemble(mesh, rotations, lengths, root)
        now = joints[:, joint[end]] - joints[:, joint[start]]
        swing = rotation_between(now, aim[:, slot[end]] - joints[:, joint[start]])
        rotations[:, _bone(end)] = swing @ rotations[:, _bone(end)]
    return _with_hands(rotations)
