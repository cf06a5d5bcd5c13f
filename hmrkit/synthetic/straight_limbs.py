"""Straight limbs for motion capture that was put on a skeleton whose limbs are too long.

Where feet are held on the captured ground and hands at captured places by inverse kinematics, limbs too long by a few
percent bend: two percent make 25 degrees. In the file, people who stand have their knees bent by 15 to 40 degrees, and
arms that hang or point are bent by 28. What learns from it bends the limbs of people who stretch theirs. How much too
long the limbs are shows in each clip's straightest frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.geometry import axis_angle_to_matrix

# No limb is taken to be bent by more than so much where it should be straight: some clips never show one (martial
# arts).
MOST_BENT = math.radians(30)
# How smoothly a limb comes to rest at straight: so far from it in cosine (3 degrees) where it would just arrive.
_SOFT = 1 - math.cos(math.radians(3))


@dataclass(frozen=True)
class Limb:
    """A thigh and shin, or an upper arm and forearm: indices of the joints that rotate them, the bones (3,) at rest in
    these joints' frames, and the angle (rad) between the bones of a straight limb."""

    first: int
    second: int
    upper: Tensor
    lower: Tensor
    straight: float = 0.0


def straighten(
    world: Tensor, limbs: Sequence[Limb], clips: Iterable[slice], straight_share: float
) -> tuple[Tensor, Tensor]:
    """World rotations (N,J,3,3) with straighter `limbs`, all alike, and how much farther (N,) they reach.

    In each clip the limbs of `straight_share` of the frames are straight. Hands and feet keep their rotations and their
    directions from shoulders and hips; feet stay on the ground where paths are scaled by what is returned.
    """
    a, b = float(limbs[0].upper.norm()), float(limbs[0].lower.norm())
    straight = torch.tensor(limbs[0].straight)
    bends = torch.stack([bend(world[:, limb.first] @ limb.upper, world[:, limb.second] @ limb.lower) for limb in limbs])
    excess = world.new_empty(len(world))
    for clip in clips:
        excess[clip] = bends[:, clip].flatten().quantile(straight_share).clamp_max(MOST_BENT).maximum(straight)
    squares, products = a * a + b * b, 2 * a * b  # Law of cosines: reach^2 = squares + products cos(bend).
    farther = ((squares + products * straight.cos()) / (squares + products * excess.cos())).sqrt()
    world = world.clone()
    for limb, before in zip(limbs, bends, strict=True):
        wanted = (farther.square() * (squares + products * before.cos()) - squares) / products
        over = straight.cos() - wanted
        after = (straight.cos() - (over + (over.square() + 4 * _SOFT**2).sqrt()) / 2).acos().minimum(before)
        axis = normalize(
            torch.linalg.cross(world[:, limb.first] @ limb.upper, world[:, limb.second] @ limb.lower), dim=-1
        )
        swing = _lean(a, b, before) - _lean(a, b, after)
        world[:, limb.first] = axis_angle_to_matrix(axis * swing[:, None]) @ world[:, limb.first]
        unbend = axis_angle_to_matrix(axis * (swing - before + after)[:, None])
        world[:, limb.second] = unbend @ world[:, limb.second]
    return world, farther


def bend(upper: Tensor, lower: Tensor) -> Tensor:
    """Angle between bones (...,3) in radians; 0 where one continues the other."""
    return torch.atan2(torch.linalg.cross(upper, lower).norm(dim=-1), (upper * lower).sum(-1))


def _lean(a: float, b: float, bend: Tensor) -> Tensor:
    """Angle at the limb's root between its first bone and the line to its end."""
    return torch.atan2(b * bend.sin(), a + b * bend.cos())
