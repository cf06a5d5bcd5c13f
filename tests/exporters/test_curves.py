"""Euler angles give the rotation back and do not jump; ticks are exact; left-out keys stay within the tolerance."""

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmrkit.exporters.curves import euler_deg, frame_ticks, keys_to_keep, upright_order

ORDERS = ["".join(letters) for letters in permutations("xyz")]


def rebuilt(degrees, order):
    columns = ["xyz".index(letter) for letter in order]
    return Rotation.from_euler(order, degrees[:, columns], degrees=True).as_matrix()


@pytest.mark.parametrize("order", ORDERS)
def test_angles_give_the_rotation_back_in_every_order_also_at_gimbal_lock(order):
    generator = np.random.default_rng(0)
    anywhere = Rotation.random(200, rng=generator).as_matrix()
    angles = generator.uniform(-180, 180, (60, 3))
    angles[:, 1] = np.repeat([90.0, -90.0, 89.9999, 90.0 + 1e-7, 0.0, 180.0], 10)
    locked = Rotation.from_euler(order, angles, degrees=True).as_matrix()
    for rotations in (anywhere, locked, locked.astype(np.float32)):
        np.testing.assert_allclose(rebuilt(euler_deg(rotations, order), order), rotations, atol=2e-6)


def test_a_smooth_motion_has_smooth_angles_through_several_rotations():
    time = np.linspace(0, 1, 400)
    wanted = np.stack([1500 * time, 60 * np.sin(9 * time) + 55, -900 * time], -1)  # the middle angle passes 90
    found = euler_deg(Rotation.from_euler("xyz", wanted, degrees=True).as_matrix())
    assert np.abs(np.diff(found, axis=0)).max() < 1.01 * np.abs(np.diff(wanted, axis=0)).max()
    np.testing.assert_allclose(found - found[0], wanted - wanted[0], atol=1e-6)


def test_joints_are_independent_of_one_another():
    rotations = Rotation.random(90, rng=np.random.default_rng(1)).as_matrix().reshape(30, 3, 3, 3)
    together = euler_deg(rotations)
    for joint in range(3):
        np.testing.assert_array_equal(together[:, joint], euler_deg(rotations[:, joint]))


def test_a_roots_middle_axis_is_never_the_vertical():
    assert upright_order(np.eye(3), "y") == "xzy"
    assert upright_order(np.eye(3), "z") == "xyz"
    unreal_pelvis = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])  # x up, y back, z to the right
    assert upright_order(unreal_pelvis, "y") == "xyz"
    mixamo_hips_z_up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    assert upright_order(mixamo_hips_z_up, "z") == "xzy"


def test_ticks_are_the_nearest_whole_ones_for_a_day_of_frames():
    fps, second = Fraction(30000, 1001), 46_186_158_000
    frames = np.array([-7, 0, 1, 1001, 86_400 * 30])
    exact = [frame * second / fps for frame in frames.tolist()]
    assert all(
        abs(tick - value) <= Fraction(1, 2)
        for tick, value in zip(frame_ticks(frames, fps, second).tolist(), exact, strict=True)
    )
    assert frame_ticks(np.array([25]), Fraction(25), second).tolist() == [second]


def test_left_out_keys_stay_within_the_tolerance_and_lines_need_two():
    time = np.linspace(0, 8, 500)
    curves = np.stack([np.sin(time), np.cos(2 * time), 0.1 * time], -1)
    for tolerance in (0.3, 0.01):
        kept = keys_to_keep(curves, tolerance)
        lines = np.stack([np.interp(np.arange(500), kept, curves[kept, c]) for c in range(3)], -1)
        assert np.abs(lines - curves).sum(-1).max() <= tolerance
        assert len(kept) < 150
    assert keys_to_keep(np.outer(np.arange(100.0), [1, -2, 3]), 1e-9).tolist() == [0, 99]
    assert keys_to_keep(np.zeros((1, 3)), 0.1).tolist() == [0]
