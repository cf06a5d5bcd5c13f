"""Joint rotations held within what a body can do: knees and elbows do not bend backwards, no joint rotates too far.

Limits are generous, so that nothing within them is touched: the clinical ranges of motion (American Academy of
Orthopaedic Surgeons: knee 0 to 135 degrees, elbow 0 to 150) and some more, since joints of a fitted body are not those
of a skeleton. A mesh stream that is beyond a limit itself may stay there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.skeletons import SMPL_24

# Hinges: component of the joint's axis-angle and the sign that it has when bent.
_HINGES = {"left_knee": (0, 1.0), "right_knee": (0, 1.0), "left_elbow": (1, -1.0), "right_elbow": (1, 1.0)}
_STRAIGHTER, _BENT = math.radians(-10), math.radians(160)
# Largest rotation of a joint of any kind from rest, in degrees.
_LARGEST_DEG = {
    "hip": 150, "knee": 165, "ankle": 80, "foot": 60, "spine1": 70, "spine2": 60, "spine3": 60, "neck": 70, "head": 80,
    "collar": 60, "shoulder": 180, "elbow": 170, "wrist": 110, "hand": 60,
}  # fmt: skip
# How far beyond a limit a rotation may come at most: the way there is smooth.
_SOFT = math.radians(5)


def within_limits(local: Tensor, own: Tensor) -> Tensor:
    """Rotations `local` (T,23,3,3) relative to the parent, held within the limits or within what `own` (T,23,3,3), the
    mesh stream's, has beyond them. Those within come back as they are."""
    vectors, before = matrix_to_axis_angle(local), matrix_to_axis_angle(own)
    held = vectors.clone()
    for name, (axis, sign) in _HINGES.items():
        bone = SMPL_24.index[name] - 1
        bend, usual = sign * vectors[:, bone, axis], sign * before[:, bone, axis]
        low, high = usual.clamp(max=_STRAIGHTER), usual.clamp(min=_BENT)
        held[:, bone, axis] = sign * (-_below(-_below(bend, high), -low))
    most = torch.tensor([_LARGEST_DEG[name.split("_")[-1]] for name in SMPL_24.joints[1:]]).to(vectors).deg2rad()
    angle = held.norm(dim=-1)
    allowed = torch.maximum(most, before.norm(dim=-1))
    held = held * (_below(angle, allowed) / angle.clamp_min(1e-9))[..., None]
    changed = (held - vectors).norm(dim=-1) > 1e-6
    return torch.where(changed[..., None, None], axis_angle_to_matrix(held), local)


def _below(values: Tensor, most: Tensor) -> Tensor:
    """Values as they are up to `most`, from there on smoothly nearing `most` and `_SOFT`."""
    over = (values - most).clamp_min(0)
    return torch.where(over > 0, most + _SOFT * (1 - torch.exp(-over / _SOFT)), values)
