"""Knees that inverse kinematics bent are straightened; the rest of the person stays."""

import math

import torch

from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.synthetic.straight_limbs import Limb, bend, straighten

THIGH, SHIN = torch.tensor([0.0, -0.4, 0.0]), torch.tensor([0.0, -0.42, -0.02])
STRAIGHT = math.degrees(math.atan2(0.02, 0.42))
LEGS = [Limb(i, j, THIGH, SHIN, float(bend(THIGH, SHIN))) for i, j in ((1, 2), (4, 5))]


def person(knees_deg: torch.Tensor) -> torch.Tensor:
    """World rotations (N,7,3,3): pelvis, then thigh, shin and foot of each leg; knees bent by `knees_deg` (N,) beyond
    rest, thighs raised by half of it, the whole person rotated about."""
    zero = torch.zeros_like(knees_deg)
    half = torch.deg2rad(knees_deg / 2)
    rotations = torch.stack([zero, -half, half, zero, -half, half, zero], 1)
    local = axis_angle_to_matrix(torch.stack([rotations, 0 * rotations, 0 * rotations], -1))
    return axis_angle_to_matrix(torch.tensor([0.3, 1.2, -0.2])) @ local


def feet(world: torch.Tensor) -> torch.Tensor:
    return torch.stack([(world[:, leg.first] @ THIGH) + (world[:, leg.second] @ SHIN) for leg in LEGS], 1)


def bends(world: torch.Tensor) -> torch.Tensor:
    thigh, shin = world[:, 1] @ THIGH, world[:, 2] @ SHIN
    return torch.rad2deg(torch.acos(torch.cosine_similarity(thigh, shin, dim=-1).clamp(-1, 1)))


def test_who_stands_with_bent_knees_stands_straight() -> None:
    # Twenty frames of standing, then a knee bend, in each of two clips; the second one's legs fit.
    squat = torch.cat([torch.full((20,), 20.0), torch.linspace(20, 100, 20)])
    clips = [slice(0, 40), slice(40, 80)]
    world = person(torch.cat([squat, squat - 20]))
    new, farther = straighten(world, LEGS, clips, 0.25)

    before, after = bends(world), bends(new)
    assert before[0] > 20 + 0.9 * STRAIGHT
    assert (after[:20] < STRAIGHT + 3).all()
    assert (after >= STRAIGHT - 0.01).all()
    assert (after <= before + 0.01).all()
    assert (after[:40].diff() >= -1e-3).all()
    assert before[39] - after[39] < 6  # Deep bends hardly change.
    assert (before - after)[40:].max() < 3

    # The ankle stays in its direction from the hip, farther as returned; pelvis and feet keep their rotations.
    old_feet, new_feet = feet(world), feet(new)
    torch.testing.assert_close(
        torch.cosine_similarity(old_feet, new_feet, dim=-1), torch.ones(80, 2), atol=1e-5, rtol=0
    )
    reach = new_feet[:40].norm(dim=-1) / old_feet[:40].norm(dim=-1)
    torch.testing.assert_close(reach, farther[:40, None].expand(40, 2), atol=4e-3, rtol=0)  # Softened where straight.
    assert farther[0] > 1.01
    assert 1 <= farther[40] < 1.001
    assert torch.equal(new[:, [0, 3, 6]], world[:, [0, 3, 6]])


def test_nobody_is_stretched_for_fighting_with_bent_knees() -> None:
    new, farther = straighten(person(torch.full((10,), 80.0)), LEGS, [slice(0, 10)], 0.25)
    assert (bends(new) > 74).all()
    assert (farther < 1.04).all()


def test_arms_that_are_bent_at_rest_are_stretched_to_straight() -> None:
    """Both arms of a rig whose rest pose has bent elbows; the farthest reach of the clip becomes a straight arm."""
    upper, lower = torch.tensor([0.28, 0.0, 0.0]), torch.tensor([0.22, 0.0, 0.07])
    arms = [Limb(1, 2, upper, lower), Limb(4, 5, upper, lower)]
    more = torch.deg2rad(torch.linspace(10, 60, 40))
    local = torch.zeros(40, 7, 3)
    local[:, 2, 1] = local[:, 5, 1] = -more
    world = axis_angle_to_matrix(local)
    new, _ = straighten(world, arms, [slice(0, 40)], 0.01)

    def elbows(rotations: torch.Tensor) -> torch.Tensor:
        return torch.rad2deg(bend(rotations[:, 1] @ upper, rotations[:, 2] @ lower))

    assert elbows(world).min() > 27
    assert elbows(new)[0] < 4
    assert (elbows(new).diff() > 0).all()
    assert elbows(world)[-1] - elbows(new)[-1] < 8
    hand = [r[:, 1] @ upper + r[:, 2] @ lower for r in (world, new)]
    assert torch.cosine_similarity(*hand, dim=-1).min() > 1 - 1e-5
