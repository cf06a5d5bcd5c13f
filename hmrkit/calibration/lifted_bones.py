"""Bones rotated part of the way to where a lifted pose sees them: the step of the calibration target that follows the
pose stream. Tensors in, tensors out, on their device, differentiable in the lifted joints."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hmrkit.calibration.bone_rotations import (
    LIMBS,
    PIECES,
    SEEN_JOINTS,
    bone,
    no_rotations,
    with_hands,
    with_trunk,
)
from hmrkit.calibration.time_filter import TimeFilter
from hmrkit.geometry import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    project_to_rotation,
    rigid_align,
    rotation_between,
)
from hmrkit.skeletons import SMPL_24, get_skeleton

# What lifters call the body's joints.
_BODY_NAMES = {"neck": "thorax"}
# Where the lifter and the mesh stream disagree by more than this, one of them is lost, and the mesh has seen the image.
_AGREE, _DISAGREE = math.radians(45), math.radians(75)


def follow_lifted(
    mesh: Tensor,
    lifted: Tensor,
    skeleton: str,
    sure: Tensor,
    share: float | Tensor,
    filtered: TimeFilter,
    align: float = 1.0,
    keep_lengths: bool = True,
) -> tuple[Tensor, Tensor]:
    """How the bones of `mesh` (T,24,3) m follow the pose `lifted` (T,J,3) m of `skeleton`: rotations (T,23,3,3) in
    camera axes and ratios of lengths (23,), for `hmrkit.calibration.bone_rotations.assemble`.

    `sure` (T,12) in [0, 1] of `SEEN_JOINTS`: 0 for a joint that must not pull; `share` in [0, 1] of the lifted
    direction where it is trusted fully, one or (10,3): of `PIECES`, about each axis of the camera; `filtered`: how
    corrections are smoothed over time; `align`, `keep_lengths`: see `TargetOptions`. Joints that the lifted pose lacks
    (NaN, or not in its skeleton) leave the mesh alone. The gradient holds `align`'s rotation of the track constant."""
    pose, known = lifted_on_body(lifted.to(mesh), skeleton, mesh, align)
    rotations = _rotations(mesh, pose, known, sure, share, filtered)
    lengths = torch.ones(23, dtype=mesh.dtype, device=mesh.device)
    return rotations, lengths if keep_lengths else _length_ratios(mesh, pose, known)


def lifted_on_body(lifted: Tensor, skeleton: str, mesh: Tensor, align: float) -> tuple[Tensor, Tensor]:
    """The lifted pose in the body's order (T,24,3) m about its pelvis, and which joints it has (T,24)."""
    index = get_skeleton(skeleton).index
    names = [_BODY_NAMES.get(name, name) for name in SMPL_24.joints]
    wanted = [
        j for j, name in enumerate(names) if name in index and (name in SEEN_JOINTS or name in ("pelvis", "thorax"))
    ]
    pose = torch.full_like(mesh, torch.nan)
    pose[:, wanted] = lifted[:, [index[names[j]] for j in wanted]]
    known = pose.isfinite().all(-1)
    known = known & known[:, :1]  # nothing is known without its root
    pose = torch.where(known[..., None], pose - torch.nan_to_num(pose[:, :1]), 0.0)
    if align > 0:
        pose = pose @ _common_rotation(pose.detach(), known, mesh.detach(), align).mT
    return pose, known


def _common_rotation(pose: Tensor, known: Tensor, mesh: Tensor, align: float) -> Tensor:
    """`align` of the rotation (3,3) that takes the poses of a whole track to the mesh's."""
    usable = known.sum(-1) >= 4
    local = torch.where(known[..., None], mesh - mesh[:, :1], 0.0)
    each = rigid_align(pose, local, known.to(mesh.dtype))[0]
    common = project_to_rotation((usable[:, None, None] * each).sum(0))
    # A second mean of those near the first: a few frames with an upside-down pose must not bend the whole track.
    near = usable & ((each @ common.mT).diagonal(dim1=-2, dim2=-1).sum(-1) > 1 + 2 * math.cos(math.radians(40)))
    again = project_to_rotation((near[:, None, None] * each).sum(0))
    rotation = torch.where(near.any(), again, common)
    return axis_angle_to_matrix(align * usable.any() * matrix_to_axis_angle(rotation))


def _trust(angle: Tensor) -> Tensor:
    """1 where two directions agree, 0 where they disagree wildly, linear between."""
    return ((_DISAGREE - angle) / (_DISAGREE - _AGREE)).clamp(0, 1)


def trusted_angles(vectors: Tensor) -> Tensor:
    """(...) bool: rotation vectors (...,3) so small that the lifted pose has a say."""
    return _trust(vectors.norm(dim=-1)) > 0


def _rotations(
    mesh: Tensor, pose: Tensor, known: Tensor, sure: Tensor, share: float | Tensor, filtered: TimeFilter
) -> Tensor:
    """Rotations (T,23,3,3) from the mesh part of the way to the lifted pose."""
    vectors = piece_rotations(mesh, pose, known)
    weight = both_ends(sure) * pieces_known(known) * _trust(vectors.norm(dim=-1))
    corrections = axis_angle_to_matrix(filtered.correct(weight[..., None] * share * vectors, weight > 0))
    of = dict(zip(PIECES, corrections.unbind(1), strict=True))
    bones = list(with_trunk(no_rotations(mesh), of["pelvis"], of["chest"]).unbind(1))
    for _, end in LIMBS:
        bones[bone(end)] = of[end]
    return with_hands(torch.stack(bones, 1))


def piece_rotations(source: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Rotation vectors (T,10,3) in camera axes that take the `PIECES` of joints `source` (T,24,3) to those of `target`.

    The trunk's pieces by the line across the sides and the line up to the neck, limbs by the shortest way; zero where
    a joint is not `known` (T,24)."""
    joint = SMPL_24.index
    there = pieces_known(known)
    # Stands for what is not known, so that no gradient passes through the directions of nothing.
    nothing = torch.diag(source.new_tensor([3.0, 2.0, 1.0]))
    rotations = []
    for side in ("hip", "shoulder"):
        lines = []
        for joints in (target, source):
            across = joints[:, joint[f"left_{side}"]] - joints[:, joint[f"right_{side}"]]
            lines.append(torch.stack([_unit(across), _unit(joints[:, joint["neck"]] - joints[:, 0])], -1))
        product = torch.where(there[:, len(rotations), None, None], lines[0] @ lines[1].mT, nothing)
        rotations.append(project_to_rotation(product))
    starts, ends = SMPL_24.indices(*(a for a, _ in LIMBS)), SMPL_24.indices(*(b for _, b in LIMBS))
    limbs = rotation_between(source[:, ends] - source[:, starts], target[:, ends] - target[:, starts])
    vectors = matrix_to_axis_angle(torch.cat([torch.stack(rotations, 1), limbs], 1))
    return torch.where(there[..., None], vectors, 0.0)


def both_ends(values: Tensor) -> Tensor:
    """The less (T,10) of the values (T,12) of the two `SEEN_JOINTS` that each of `PIECES` is seen by."""
    of = dict(zip(SEEN_JOINTS, values.unbind(1), strict=True))
    pairs = [("left_hip", "right_hip"), ("left_shoulder", "right_shoulder"), *LIMBS]
    return torch.stack([torch.minimum(of[a], of[b]) for a, b in pairs], 1)


def pieces_known(known: Tensor) -> Tensor:
    """Of which `PIECES` (T,10) all joints are known (T,24)."""
    trunk = both_ends(known[:, SMPL_24.indices(*SEEN_JOINTS)].float()) > 0
    trunk[:, :2] &= known[:, SMPL_24.index["neck"], None]
    return trunk


def _unit(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _length_ratios(mesh: Tensor, pose: Tensor, known: Tensor) -> Tensor:
    """(23,) how much longer the lifted limbs are than the mesh's, medians over the track, equal on both sides.

    Relative to the whole pose's ratio: a lifter guesses stature, it measures proportions. At most a quarter.
    """
    mirror, joint = SMPL_24.mirror, SMPL_24.index
    ratios = torch.full((23,), torch.nan, dtype=mesh.dtype, device=mesh.device)
    for start, end in LIMBS:
        a, b = joint[start], joint[end]
        rows = known[:, a] & known[:, b]
        if rows.any():
            ratios[b - 1] = ((pose[:, b] - pose[:, a]).norm(dim=-1) / (mesh[:, b] - mesh[:, a]).norm(dim=-1))[
                rows
            ].median()
    both = torch.stack([ratios, ratios[[mirror[child] - 1 for child in range(1, 24)]]]).nanmean(0)
    return torch.nan_to_num((both / both.nanmedian()).clamp(0.8, 1.25), nan=1.0)
