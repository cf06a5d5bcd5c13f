"""Bones rotated part of the way to where a lifted pose sees them: the step of the calibration target that follows the
pose stream. Tensors in, tensors out, on their device, differentiable in the lifted joints."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hmrkit.calibration.bone_rotations import (
    LIMBS,
    SEEN_JOINTS,
    no_rotations,
    smooth_corrections,
    with_hands,
    with_trunk,
)
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
    share: float,
    sigma: float,
    align: float = 1.0,
    keep_lengths: bool = True,
) -> tuple[Tensor, Tensor]:
    """How the bones of `mesh` (T,24,3) m follow the pose `lifted` (T,J,3) m of `skeleton`: rotations (T,23,3,3) in
    camera axes and ratios of lengths (23,), for `hmrkit.calibration.bone_rotations.assemble`.

    `sure` (T,12) in [0, 1] of `SEEN_JOINTS`: 0 for a joint that must not pull; `share` in [0, 1] of the lifted
    direction where it is trusted fully; `sigma` of the smoothing over time in frames; `align`, `keep_lengths`: see
    `TargetOptions`. Joints that the lifted pose lacks (NaN, or not in its skeleton) leave the mesh alone. The gradient
    holds `align`'s rotation of the whole track constant."""
    pose, known = _on_body(lifted.to(mesh), skeleton, mesh, align)
    rotations = _rotations(mesh, pose, known, sure, share, sigma)
    lengths = torch.ones(23, dtype=mesh.dtype, device=mesh.device)
    return rotations, lengths if keep_lengths else _length_ratios(mesh, pose, known)


def _on_body(lifted: Tensor, skeleton: str, mesh: Tensor, align: float) -> tuple[Tensor, Tensor]:
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


def _part_way(rotation: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """`weight` (T,) of `rotation` (T,3,3), less where it is large, smoothed over time."""
    vector = matrix_to_axis_angle(rotation)
    share = weight * _trust(vector.norm(dim=-1))
    return axis_angle_to_matrix(smooth_corrections(share[:, None] * vector, share > 0, sigma))


def _rotations(mesh: Tensor, pose: Tensor, known: Tensor, sure: Tensor, share: float, sigma: float) -> Tensor:
    """Rotations (T,23,3,3) from the mesh part of the way to the lifted pose: trunk as two rigid pieces, limbs by
    bones."""
    joint = SMPL_24.index
    certain = dict(zip(SEEN_JOINTS, sure.unbind(1), strict=True))
    # Stands for what is not known, so that no gradient passes through the directions of nothing.
    nothing = torch.diag(mesh.new_tensor([3.0, 2.0, 1.0]))

    def trunk(side: str) -> Tensor:
        """Rotation of pelvis ("hip") or chest ("shoulder") from mesh to lifted: across the sides and up the trunk."""
        pair = [joint[f"left_{side}"], joint[f"right_{side}"]]
        vectors = []
        for joints in (pose, mesh):
            up = joints[:, joint["neck"]] - joints[:, joint["pelvis"]]
            vectors.append(torch.stack([_unit(joints[:, pair[0]] - joints[:, pair[1]]), _unit(up)], -1))
        there = known[:, [*pair, joint["neck"]]].all(-1)
        rotation = project_to_rotation(torch.where(there[:, None, None], vectors[0] @ vectors[1].mT, nothing))
        weight = share * there * torch.minimum(certain[f"left_{side}"], certain[f"right_{side}"])
        return _part_way(rotation, weight, sigma)

    identity = no_rotations(mesh)
    bones = list(with_trunk(identity, trunk("hip"), trunk("shoulder")).unbind(1))
    for start, end in LIMBS:
        a, b = joint[start], joint[end]
        rotation = rotation_between(mesh[:, b] - mesh[:, a], pose[:, b] - pose[:, a])
        weight = share * (known[:, a] & known[:, b]) * torch.minimum(certain[start], certain[end])
        bones[b - 1] = _part_way(torch.where(weight[:, None, None] > 0, rotation, identity[:, 0]), weight, sigma)
    return with_hands(torch.stack(bones, 1))


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
