"""Errors of joint rotations: MPJAE, as it is and after Procrustes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hmrkit.geometry import matrix_to_axis_angle
from hmrkit.metrics.frames import Array, mean_known, per_frame, same_shape
from hmrkit.metrics.points import similarity


def mpjae_deg_per_frame(predicted: Array, truth: Array) -> np.ndarray:
    """`mpjae_deg` of every frame: rotation matrices (...,J,3,3) -> (...) degrees."""
    same_shape(predicted, truth)
    return per_frame(_angle_deg, 3, predicted, truth)


def mpjae_deg(predicted: Array, truth: Array) -> float:
    """Mean per joint angular error of rotation matrices (...,J,3,3), degrees in [0, 180]: angle of ``P T^T`` (3DPW).

    3DPW's challenge and EMDB compare global rotations, seen from the camera, of nine joints: pelvis, hips, knees,
    shoulders and elbows. Local rotations can be given as well.
    """
    return mean_known(mpjae_deg_per_frame(predicted, truth))


def mpjae_pa_deg_per_frame(predicted: Array, truth: Array, predicted_joints: Array, truth_joints: Array) -> np.ndarray:
    """`mpjae_pa_deg` of every frame: rotation matrices (...,R,3,3), joints (...,J,3) m -> (...) degrees."""
    same_shape(predicted, truth)
    same_shape(predicted_joints, truth_joints)

    def measure(p: Tensor, t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return _angle_deg(similarity(a, b)[0][:, None] @ p, t)

    return per_frame(measure, 3, predicted, truth, predicted_joints, truth_joints)


def mpjae_pa_deg(predicted: Array, truth: Array, predicted_joints: Array, truth_joints: Array) -> float:
    """`mpjae_deg` of global rotations (...,R,3,3) rotated by the rotation that Procrustes finds for joints
    (...,J,3)."""
    return mean_known(mpjae_pa_deg_per_frame(predicted, truth, predicted_joints, truth_joints))


def rotation_error_deg(predicted: Array, truth: Array) -> np.ndarray:
    """The angle between rotation matrices (...,J,3,3) of every joint -> (...,J), degrees in [0, 180]."""
    same_shape(predicted, truth)
    p, t = (torch.as_tensor(np.asarray(value), dtype=torch.float64) for value in (predicted, truth))
    return _angles_deg(p, t).numpy()


def _angle_deg(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean angle (N) between rotations (N,J,3,3)."""
    return _angles_deg(predicted, truth).nanmean(-1)


def _angles_deg(predicted: Tensor, truth: Tensor) -> Tensor:
    """Angles (...,J) between rotations (...,J,3,3). Sine and cosine of half the angle are exact at 0 and at 180."""
    sine = torch.linalg.matrix_norm(predicted - truth) / 8**0.5
    cosine = (1 + (predicted * truth).sum((-1, -2))).clamp_min(0).sqrt() / 2
    return torch.rad2deg(2 * torch.atan2(sine, cosine))


def signed_error_deg(predicted: Array, truth: Array) -> np.ndarray:
    """How far and which way every joint is rotated too much: rotation matrices (...,J,3,3) -> (...,J,3) degrees.

    The rotation vector of ``T^T P`` about the joint's own axes, which at rest are the body's (x to its left, y up, z
    forward): for rotations relative to the parent, a knee's x is how much more it is bent than in truth.
    """
    same_shape(predicted, truth)
    p, t = (torch.as_tensor(np.asarray(value), dtype=torch.float64) for value in (predicted, truth))
    return torch.rad2deg(matrix_to_axis_angle(t.mT @ p)).numpy()
