"""Arms and legs of people who stand about, which captured sports and games hardly show, drawn from ranges of angles.

Angles are about the body's axes at rest (T-pose: the left arm along +x, y up, z forward).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle, mirrored_pose
from hmrkit.skeletons import SMPL_24

_ARM = ("collar", "shoulder", "elbow", "wrist", "hand")
LEFT_ARM, RIGHT_ARM = (SMPL_24.indices(*(f"{side}_{name}" for name in _ARM)) for side in ("left", "right"))
LEFT_LEG = SMPL_24.indices("left_hip", "left_knee", "left_ankle")
LEGS = [*LEFT_LEG, *SMPL_24.indices("right_hip", "right_knee", "right_ankle")]
NECK = SMPL_24.indices("neck", "head")


@dataclass(frozen=True)
class ArmRange:
    """How an arm is held, in degrees, uniformly between two values: `spread` from hanging (0) to the side (90) and up
    (180), `forward` of the plane of the shoulders, `twist` about its length, `bend` of the elbow."""

    weight: float
    spread: tuple[float, float]
    forward: tuple[float, float]
    twist: tuple[float, float]
    bend: tuple[float, float]


ARMS: dict[str, ArmRange] = {
    "hanging": ArmRange(0.40, (5, 20), (-12, 12), (-25, 25), (3, 22)),
    "carrying": ArmRange(0.12, (2, 20), (-5, 30), (-30, 30), (55, 110)),
    "pocket": ArmRange(0.08, (10, 28), (-25, -5), (-20, 20), (35, 65)),
    "pointing": ArmRange(0.12, (40, 110), (10, 90), (-45, 45), (0, 12)),
    "reaching up": ArmRange(0.08, (120, 175), (-10, 60), (-45, 45), (0, 25)),
    "gesturing": ArmRange(0.10, (15, 60), (0, 50), (-40, 40), (40, 110)),
    "A-pose": ArmRange(0.05, (35, 55), (-8, 8), (-15, 15), (0, 10)),
    "T-pose": ArmRange(0.05, (80, 97), (-8, 8), (-15, 15), (0, 10)),
}
_SAME_FOR_BOTH = 0.65  # how often both arms are held in one way


def set_arms(local: Tensor, who: Tensor, generator: torch.Generator) -> Tensor:
    """Local rotations (B,24,3,3) in which the people `who` (B,) hold their arms in one of the ways of `ARMS`."""
    batch = len(local)
    weights = torch.tensor([arm.weight for arm in ARMS.values()])
    left = torch.multinomial(weights, batch, True, generator=generator)
    other = torch.multinomial(weights, batch, True, generator=generator)
    right = torch.where(torch.rand(batch, generator=generator) < _SAME_FOR_BOTH, left, other)
    made = local.clone()
    made[:, LEFT_ARM] = _arm(left, generator)
    # The right arm is a left one in a mirror.
    mirror = torch.zeros_like(local)
    mirror[:, LEFT_ARM] = _arm(right, generator)
    made[:, RIGHT_ARM] = mirrored_pose(mirror, SMPL_24.mirror)[:, RIGHT_ARM]
    return torch.where(who[:, None, None, None], made, local)


def bend_one_leg(local: Tensor, who: Tensor, generator: torch.Generator) -> Tensor:
    """Local rotations (B,24,3,3) in which the people `who` (B,) stand on the right leg, the left knee bent by 8 to 35
    degrees, its foot on the ground."""
    knee = _uniform((8, 35), len(local), generator)
    angles = torch.stack([-0.55 * knee, knee, -0.45 * knee], 1)
    bent = axis_angle_to_matrix(angles[..., None] * torch.tensor([1.0, 0.0, 0.0]))
    made = local.clone()
    made[:, LEFT_LEG] = local[:, LEFT_LEG] @ bent
    return torch.where(who[:, None, None, None], made, local)


def towards_rest(local: Tensor, who: Tensor, joints: list[int], least: float, generator: torch.Generator) -> Tensor:
    """Local rotations (B,24,3,3) in which `joints` of the people `who` (B,) are nearer to rest, by a share drawn
    between `least` and 1: legs of T-pose are straight, its neck is level."""
    share = least + (1 - least) * torch.rand(len(local), 1, 1, generator=generator)
    made = local.clone()
    made[:, joints] = axis_angle_to_matrix((1 - share) * matrix_to_axis_angle(local[:, joints]))
    return torch.where(who[:, None, None, None], made, local)


def _arm(kind: Tensor, generator: torch.Generator) -> Tensor:
    """Rotations (B,5,3,3) of a left arm's joints; `kind` (B,) counts the lines of `ARMS`."""
    count = len(kind)

    def drawn(name: str) -> Tensor:
        low, high = torch.tensor([getattr(arm, name) for arm in ARMS.values()]).deg2rad()[kind].T
        return low + (high - low) * torch.rand(count, generator=generator)

    def about(axis: tuple[float, float, float], angle: Tensor) -> Tensor:
        return axis_angle_to_matrix(angle[:, None] * torch.tensor(axis))

    spread, forward, twist, bend = (drawn(name) for name in ("spread", "forward", "twist", "bend"))
    # Hanging first, then forward about x and out to the side about z.
    hang = about((0.0, 0.0, 1.0), spread - math.pi / 2)
    shoulder = about((1.0, 0.0, 0.0), -forward) @ hang @ about((1.0, 0.0, 0.0), twist)
    small = 0.07 * torch.randn(count, 3, 3, generator=generator).clamp(-2, 2)
    collar, wrist, hand = axis_angle_to_matrix(small * torch.tensor([1.0, 2.0, 1.0])[:, None]).unbind(1)
    # The left elbow bends towards the front of a T-pose, about -y.
    return torch.stack([collar, shoulder, about((0.0, -1.0, 0.0), bend), wrist, hand], 1)


def _uniform(degrees: tuple[float, float], count: int, generator: torch.Generator) -> Tensor:
    low, high = (math.radians(value) for value in degrees)
    return low + (high - low) * torch.rand(count, generator=generator)
