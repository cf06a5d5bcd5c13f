"""Straight legs for motion capture that was put on a skeleton whose legs are too long for its hips' height.

Where feet are held on the captured ground by inverse kinematics, legs too long by two percent bend by 25 degrees: in
the file, people who stand have their knees bent by 15 to 40 degrees, and what learns from it bends the knees of people
who stand straight. How much too long they are, the straightest frames of each clip tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.geometry import axis_angle_to_matrix

# In a quarter of a clip's frames a leg is straight, about as in walking; some clips never show one (martial arts), so
# none is taken to be bent by more than so much.
STRAIGHT_SHARE, MOST_BENT = 0.25, math.radians(30)
# How smoothly a knee comes to rest at straight: so far from it in cosine (6 degrees) where it would just arrive.
_SOFT = 1 - math.cos(math.radians(6))


def straighten_legs(
    world: Tensor, thigh: Tensor, shin: Tensor, legs: tuple[tuple[int, int], ...], clips: Iterable[slice]
) -> tuple[Tensor, Tensor]:
    """World rotations (N,J,3,3) with straighter knees, and how much farther (N,) each frame's legs reach.

    `thigh` and `shin` (3,) are the bones at rest, in the frames of the joints (thigh, shin) of `legs`; at rest they are
    straight. Feet keep their rotations and their directions from the hips; with paths scaled by what is returned they
    stay on the ground.
    """
    a, b, straight = float(thigh.norm()), float(shin.norm()), _bend(thigh, shin)
    bends = torch.stack([_bend(world[:, i] @ thigh, world[:, j] @ shin) for i, j in legs], 1)
    excess = world.new_empty(len(world))
    for clip in clips:
        excess[clip] = bends[clip].flatten().quantile(STRAIGHT_SHARE).clamp_max(MOST_BENT).maximum(straight)
    squares, products = a * a + b * b, 2 * a * b  # Law of cosines: reach^2 = squares + products cos(bend).
    farther = ((squares + products * straight.cos()) / (squares + products * excess.cos())).sqrt()
    world = world.clone()
    for (i, j), before in zip(legs, bends.T, strict=True):
        wanted = (farther.square() * (squares + products * before.cos()) - squares) / products
        over = straight.cos() - wanted
        after = (straight.cos() - (over + (over.square() + 4 * _SOFT**2).sqrt()) / 2).acos().minimum(before)
        axis = normalize(torch.linalg.cross(world[:, i] @ thigh, world[:, j] @ shin), dim=-1)
        rotation = _lean(a, b, before) - _lean(a, b, after)
        world[:, i] = axis_angle_to_matrix(axis * rotation[:, None]) @ world[:, i]
        world[:, j] = axis_angle_to_matrix(axis * (rotation - before + after)[:, None]) @ world[:, j]
    return world, farther


def _bend(thigh: Tensor, shin: Tensor) -> Tensor:
    """Angle between the bones (...,3) in radians; 0 is straight."""
    return torch.atan2(torch.linalg.cross(thigh, shin).norm(dim=-1), (thigh * shin).sum(-1))


def _lean(a: float, b: float, bend: Tensor) -> Tensor:
    """Angle at the hip between the thigh and the line to the ankle."""
    return torch.atan2(b * bend.sin(), a + b * bend.cos())
