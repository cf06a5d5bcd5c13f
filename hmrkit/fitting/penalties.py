"""What a fit pays for: residuals in the image and in space, joints that bend the wrong way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24

# Hinges: joint, component of its axis-angle, and the sign that it has when bent.
_HINGES = (("left_knee", 0, 1.0), ("right_knee", 0, 1.0), ("left_elbow", 1, -1.0), ("right_elbow", 1, 1.0))
HINGE_COLUMNS = [3 * (SMPL_24.index[name] - 1) + axis for name, axis, _ in _HINGES]  # in a flat body pose
HINGE_SIGNS = [sign for _, _, sign in _HINGES]


@dataclass(frozen=True)
class Residuals:
    """R residuals a frame: penalties' sum `energy` (F,), `weight` (F,R) and `slope` (F,R), what the penalty gains with
    each residual. Over time: `ahead` weights that couple a frame's with those of the next (F-1,R) and the one after."""

    energy: Tensor
    weight: Tensor
    slope: Tensor
    ahead: tuple[Tensor, ...] = ()


def residuals(off: Tensor, energy: Tensor, weight: Tensor) -> Residuals:
    """Of `off` (F,n,L), whose n numbers have a penalty together: `energy` and `weight` (F,L)."""
    weight = weight[:, None].expand_as(off)
    return Residuals(energy.sum(1), weight.flatten(1), (weight * off).flatten(1))


def geman_mcclure(residual: Tensor, noise: float, outlier: float) -> Tensor:
    """Half the squared residual in units of `noise`, which levels off where the residual nears `outlier`."""
    return robust(residual.square(), noise, outlier)[0]


def robust(square: Tensor, noise: float, outlier: float) -> tuple[Tensor, Tensor]:
    """`geman_mcclure` of squared residuals, and the weight of least squares with the same slope: weight x residual."""
    level = 1 / (1 + square / outlier**2)
    return 0.5 * square * level / noise**2, level.square() / noise**2


def bent_backwards(pose: Tensor, slack_rad: float) -> Tensor:
    """Energy (T,) of knees and elbows that bend the wrong way by more than `slack_rad`; `pose` (T,23,3) axis-angles."""
    return beyond_straight(pose, slack_rad).square().sum(1)


def beyond_straight(pose: Tensor, slack_rad: float) -> Tensor:
    """(T,4) >= 0: by how much each hinge bends the wrong way, beyond the slack and in units of it."""
    bent = pose.flatten(1)[:, HINGE_COLUMNS] * pose.new_tensor(HINGE_SIGNS)
    return (-bent - slack_rad).clamp_min(0) / slack_rad


def landmark_weights(device: torch.device) -> Tensor:
    """(33,): eleven landmarks on one rigid head and four on each hand must not outvote the limbs."""
    groups = {"eye": 0.25, "mouth": 0.2, "nose": 0.6, "ear": 0.6, "pinky": 0.35, "index": 0.35, "thumb": 0.35}
    weights = [next((w for key, w in groups.items() if key in n and "foot" not in n), 1.0) for n in BLAZEPOSE_33.joints]
    return torch.tensor(weights, device=device)
