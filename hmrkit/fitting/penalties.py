"""What a fit pays for: noise levels, robust residuals, joints that bend the wrong way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24

# Hinges: joint, component of its axis-angle, and the sign that it has when bent.
_HINGES = (("left_knee", 0, 1.0), ("right_knee", 0, 1.0), ("left_elbow", 1, -1.0), ("right_elbow", 1, 1.0))
# Joints that no landmark shows.
_HIDDEN = ("left_collar", "right_collar", "left_foot", "right_foot", "left_hand", "right_hand")


@dataclass(frozen=True)
class RefineOptions:
    """Noise levels of the energy's terms; `chunk` and `overlap` in frames bound the memory."""

    steps: int = 3  # lower energies than this no longer mean better poses
    damping: float = 1e-3  # share of the matrix's diagonal that the first step adds to it
    ridge: float = 1e-3  # for knots that no frame sees
    knot_s: float = 0.15  # spacing of the correction's knots
    chunk: int = 300
    overlap: int = 30
    noise_2d: float = 0.008  # of the person's height in the image
    outlier_2d: float = 0.05
    noise_3d_m: float = 0.07
    outlier_3d_m: float = 0.2
    prior: float = 0.5
    acceleration: float = 3.0  # m/s^2
    depth_acceleration: float = 1.0
    contact_speed: float = 0.03  # m/s of a foot that stands
    outlier_speed: float = 0.5
    hinge_rad: float = 0.05
    held_rad: float = 0.15


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


class Limits:
    """Energy of poses whose hinges bend the wrong way, or whose hidden joints leave those of the pose `first`
    (T,23,3)."""

    def __init__(self, first: Tensor, options: RefineOptions) -> None:
        self._first, self._slack = first.flatten(1), options.hinge_rad
        self._hinges = hinge_signs(first.device)
        hidden = torch.zeros(23, 3)
        hidden[[SMPL_24.index[name] - 1 for name in _HIDDEN]] = 1 / options.held_rad**2
        self._held = hidden.flatten().to(first.device)

    def __call__(self, pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energy (T,), gradient and curvature's diagonal (T,69) at poses (T,23,3)."""
        off, beyond = pose.flatten(1) - self._first, beyond_straight(pose, self._hinges, self._slack)
        energy = beyond.square().sum(1) + 0.5 * (self._held * off.square()).sum(1)
        gradient = self._held * off - 2 / self._slack * beyond @ self._hinges.T
        bent = (beyond > 0).to(pose) @ self._hinges.square().T
        return energy, gradient, self._held + 2 / self._slack**2 * bent


def bent_backwards(pose: Tensor, hinges: Tensor, slack_rad: float) -> Tensor:
    """Energy (T,) of knees and elbows that bend the wrong way by more than `slack_rad`; `pose` (T,23,3) axis-angles,
    `hinges` from `hinge_signs`."""
    return beyond_straight(pose, hinges, slack_rad).square().sum(1)


def beyond_straight(pose: Tensor, hinges: Tensor, slack_rad: float) -> Tensor:
    """(T,4) >= 0: by how much each hinge bends the wrong way, beyond the slack and in units of it."""
    return (-pose.flatten(1) @ hinges - slack_rad).clamp_min(0) / slack_rad


def hinge_signs(device: torch.device) -> Tensor:
    """(69,4): which number of a flat body pose bends each hinge, and with what sign."""
    table = torch.zeros(23, 3, len(_HINGES))
    for k, (name, axis, sign) in enumerate(_HINGES):
        table[SMPL_24.index[name] - 1, axis, k] = sign
    return table.flatten(0, 1).to(device)


def landmark_weights(device: torch.device) -> Tensor:
    """(33,): eleven landmarks on one rigid head and four on each hand must not outvote the limbs."""
    groups = {"eye": 0.25, "mouth": 0.2, "nose": 0.6, "ear": 0.6, "pinky": 0.35, "index": 0.35, "thumb": 0.35}
    weights = [next((w for key, w in groups.items() if key in n and "foot" not in n), 1.0) for n in BLAZEPOSE_33.joints]
    return torch.tensor(weights, device=device)
