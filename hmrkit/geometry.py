"""Rotations and rigid alignment, in PyTorch, batched over any leading dimensions and differentiable.

Two 6D layouts exist in this field: ``columns`` keeps the matrix's first two columns one after the other
(``R[:, 0], R[:, 1]``); ``interleaved`` reads the six numbers as a (3, 2) matrix row by row (SPIN, VIBE, CLIFF).
Both name the same rotation by other number orders; always say which one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

Layout6D = Literal["columns", "interleaved"]


def skew(vectors: Tensor) -> Tensor:
    """Cross-product matrices (...,3,3) of vectors (...,3): ``skew(a) @ b == a x b``."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vectors.shape[:-1], 3, 3)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula: (...,3) radians -> (...,3,3). Smooth and differentiable at zero."""
    angle_sq = (axis_angle * axis_angle).sum(-1)[..., None, None]
    small = angle_sq < 1e-6
    safe = torch.where(small, torch.ones_like(angle_sq), angle_sq)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - angle_sq / 6, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - angle_sq / 24, (1 - angle.cos()) / safe)
    k = skew(axis_angle)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + sine * k + cosine * (k @ k)


def axis_angle_rates(axis_angle: Tensor) -> Tensor:
    """(...,3) radians -> (...,3,3): column c is the angular velocity, radians in the frame that the rotation maps to,
    with which it rotates as component c grows (the left Jacobian of SO(3)). Smooth at zero."""
    angle_sq = (axis_angle * axis_angle).sum(-1)[..., None, None]
    small = angle_sq < 1e-4
    safe = torch.where(small, torch.ones_like(angle_sq), angle_sq)
    angle = safe.sqrt()
    first = torch.where(small, 0.5 - angle_sq / 24, (1 - angle.cos()) / safe)
    second = torch.where(small, 1 / 6 - angle_sq / 120, (angle - angle.sin()) / (safe * angle))
    k = skew(axis_angle)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + first * k + second * (k @ k)


def matrix_to_quaternion(matrices: Tensor) -> Tensor:
    """(...,3,3) -> unit quaternions (...,4) as w, x, y, z with w >= 0; stable for every rotation."""
    m = matrices
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Four ways to write the quaternion, each scaled by 4 * one component; the one with the largest scale is stable.
    w = torch.stack(
        [1 + m00 + m11 + m22, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1
    )
    x = torch.stack([w[..., 1], 1 + m00 - m11 - m22, m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0]], -1)
    y = torch.stack([w[..., 2], x[..., 2], 1 - m00 + m11 - m22, m[..., 1, 2] + m[..., 2, 1]], -1)
    z = torch.stack([w[..., 3], x[..., 3], y[..., 3], 1 - m00 - m11 + m22], -1)
    candidates = torch.stack([w, x, y, z], -2)
    best = torch.stack([w[..., 0], x[..., 1], y[..., 2], z[..., 3]], -1).argmax(-1)
    chosen = candidates.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    quaternion = normalize(chosen, dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_to_matrix(quaternions: Tensor) -> Tensor:
    """Quaternions (...,4) as w, x, y, z (normalised here) -> (...,3,3)."""
    w, x, y, z = normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*quaternions.shape[:-1], 3, 3)


def matrix_to_axis_angle(matrices: Tensor) -> Tensor:
    """(...,3,3) -> (...,3) radians, angle in [0, pi]."""
    quaternion = matrix_to_quaternion(matrices)
    vector = quaternion[..., 1:]
    sine = vector.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    return vector * torch.where(sine > 1e-7, angle / sine.clamp_min(1e-7), torch.full_like(sine, 2.0))


def rotation_from_6d(values: Tensor, layout: Layout6D) -> Tensor:
    """(...,6) -> (...,3,3) by Gram-Schmidt (Zhou et al. 2019)."""
    pairs = (
        values.reshape(*values.shape[:-1], 2, 3) if layout == "columns" else values.reshape(*values.shape[:-1], 3, 2).mT
    )
    return orthonormal_frame(pairs[..., 0, :], pairs[..., 1, :])


def rotation_to_6d(matrices: Tensor, layout: Layout6D) -> Tensor:
    """(...,3,3) -> (...,6), the inverse of `rotation_from_6d`."""
    columns = matrices[..., :2]
    return (columns.mT if layout == "columns" else columns).flatten(-2)


def rotation_between(source: Tensor, target: Tensor) -> Tensor:
    """Shortest rotation (...,3,3) that rotates direction `source` (...,3) onto `target`; lengths do not matter.

    PC-HMR's equations 6 and 7 written without arccos or a division by the cross product's length, so parallel
    directions give exactly the identity. Opposite directions rotate half round about an axis normal to both.
    """
    a, b = normalize(source, dim=-1), normalize(target, dim=-1)
    cosine = (a * b).sum(-1)[..., None, None]
    k = skew(torch.linalg.cross(a, b))
    eye = torch.eye(3, dtype=a.dtype, device=a.device)
    general = eye + k + k @ k / (1 + cosine).clamp_min(1e-6)
    # Half rotation: 2 n n^T - 1 about the normal nearest to the coordinate axis that `a` is least aligned with.
    helper = eye[a.abs().argmin(-1)]
    n = normalize(helper - (helper * a).sum(-1, keepdim=True) * a, dim=-1)
    half_rotation = 2 * n[..., :, None] * n[..., None, :] - eye
    return torch.where(cosine < -1 + 1e-5, half_rotation, general)


def twist_about(matrices: Tensor, axis: Tensor) -> Tensor:
    """The part (...,3,3) of rotations (...,3,3) that is about a unit `axis` (3,): the twist of the swing-twist
    decomposition. It jumps only near rotations that reverse the axis."""
    quaternion = matrix_to_quaternion(matrices)
    angle = 2 * torch.atan2(quaternion[..., 1:] @ axis.to(quaternion), quaternion[..., 0])
    return axis_angle_to_matrix(angle[..., None] * axis.to(quaternion))


def orthonormal_frame(first: Tensor, second: Tensor) -> Tensor:
    """Rotations (...,3,3) with columns along `first` (...,3), what of `second` is normal to it, and both's normal."""
    x = normalize(first, dim=-1)
    y = normalize(second - (second * x).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def project_to_rotation(matrices: Tensor) -> Tensor:
    """Nearest rotation (...,3,3) in the Frobenius norm (orthogonal Procrustes with determinant +1)."""
    # Under a caller's autocast the products would be bfloat16, which is no rotation and which `det` cannot read.
    with torch.autocast(matrices.device.type, enabled=False):
        u, _, vh = torch.linalg.svd(matrices)
        sign = torch.linalg.det(u @ vh)
        fix = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
        return (u * fix[..., None, :]) @ vh


def mirrored_pose(local: Tensor, mirror: Sequence[int]) -> Tensor:
    """Rotations (B,J,3,3) relative to the parent (the root's in a camera) of bodies seen in a mirror (x reversed).

    `mirror` (J) is each joint's counterpart, as skeletons have it.
    """
    sign = local.new_tensor([1.0, -1.0, -1.0])
    return local[:, list(mirror)] * sign[:, None] * sign


def rigid_align(
    source: Tensor, target: Tensor, weights: Tensor | None = None, scale: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Least-squares similarity from points `source` (...,P,3) to `target` (Kabsch 1976, Umeyama 1991).

    `weights` (...,P) >= 0. Returns rotation (...,3,3), scale (...) (1 unless `scale`), translation (...,3) with
    ``target ~ scale * source @ rotation.mT + translation``.
    """
    w = torch.ones_like(source[..., 0]) if weights is None else weights
    w = (w / w.sum(-1, keepdim=True).clamp_min(1e-12))[..., None]
    mean_s, mean_t = (w * source).sum(-2, keepdim=True), (w * target).sum(-2, keepdim=True)
    s, t = source - mean_s, target - mean_t
    covariance = (w * t).mT @ s
    u, singular, vh = torch.linalg.svd(covariance)
    sign = torch.linalg.det(u @ vh)
    fix = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], -1)
    rotation = (u * fix[..., None, :]) @ vh
    size = torch.ones_like(sign)
    if scale:
        size = (singular * fix).sum(-1) / (w * s * s).sum((-1, -2)).clamp_min(1e-12)
    translation = (mean_t - size[..., None, None] * mean_s @ rotation.mT).squeeze(-2)
    return rotation, size, translation
