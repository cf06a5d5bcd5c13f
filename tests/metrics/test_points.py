"""Metrics: their invariances, and values worked out by hand."""

import numpy as np
import pytest
import torch

from hmrkit import metrics
from hmrkit.geometry import axis_angle_to_matrix

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(20, 24, 3))
NOISY = TRUTH + RNG.normal(size=TRUTH.shape) * 0.05
ROTATION = axis_angle_to_matrix(torch.tensor([0.3, -1.1, 0.7], dtype=torch.float64)).numpy()


def test_equal_poses_are_perfect():
    assert metrics.mpjpe_mm(TRUTH, TRUTH) == metrics.pve_mm(TRUTH, TRUTH) == metrics.accel_error(TRUTH, TRUTH) == 0
    assert metrics.pck(TRUTH, TRUTH) == metrics.auc(TRUTH, TRUTH) == 1


def test_one_displaced_joint_gives_its_share():
    moved = TRUTH.copy()
    moved[:, 5] += [0.03, 0.04, 0]
    assert metrics.mpjpe_mm(moved, TRUTH) == pytest.approx(50 / 24)
    assert metrics.pve_mm(moved, TRUTH) == pytest.approx(50 / 24)
    assert metrics.pck(moved, TRUTH, threshold_mm=49.9) == pytest.approx(23 / 24)
    assert metrics.pck(moved, TRUTH, threshold_mm=50.1) == 1


def test_auc_of_a_constant_error_is_the_share_of_thresholds_above_it():
    moved = TRUTH + np.array([0.0, 0.0, 0.0731])
    assert metrics.auc(moved, TRUTH, root=None) == pytest.approx(np.mean(np.linspace(0, 150, 31) >= 73.1))
    assert metrics.auc(moved, TRUTH) >= 30 / 31  # rounding may miss the threshold of exactly 0


def test_mpjpe_ignores_a_translation_only_with_a_root():
    moved = TRUTH + np.array([3.0, 0, 4.0])
    assert metrics.mpjpe_mm(moved, TRUTH) == pytest.approx(0, abs=1e-9)
    assert metrics.mpjpe_mm(moved, TRUTH, root=None) == pytest.approx(5000)


def test_a_similarity_leaves_pa_mpjpe_at_zero_and_its_value_unchanged():
    similar = 1.7 * TRUTH @ ROTATION.T + np.array([1.0, 2.0, 3.0])
    assert metrics.pa_mpjpe_mm(similar, TRUTH) == pytest.approx(0, abs=1e-6)
    rotated = 0.4 * NOISY @ ROTATION.T - 1
    assert metrics.pa_mpjpe_mm(rotated, TRUTH) == pytest.approx(metrics.pa_mpjpe_mm(NOISY, TRUTH), rel=1e-9)


def test_a_mirror_image_is_not_similar():
    assert metrics.pa_mpjpe_mm(TRUTH * np.array([-1, 1, 1]), TRUTH) > 100


def test_protocols_forgive_in_order():
    pa, normalised, plain = (f(NOISY * 1.2, TRUTH) for f in (metrics.pa_mpjpe_mm, metrics.n_mpjpe_mm, metrics.mpjpe_mm))
    assert pa < normalised < plain
    assert metrics.n_mpjpe_mm(1.3 * TRUTH + 5, TRUTH) == pytest.approx(0, abs=1e-9)
    assert metrics.n_mpjpe_mm(TRUTH @ ROTATION.T, TRUTH) > 100


def test_accel_error_ignores_constant_velocity_and_measures_a_parabola():
    t = np.arange(20)[:, None, None]
    drifting = TRUTH + t * np.array([0.1, 0.2, 0.3])
    assert metrics.accel_error(drifting, TRUTH) == pytest.approx(0, abs=1e-6)
    falling = TRUTH + 0.5 * 9.81 * (t / 30) ** 2 * np.array([0, 1.0, 0])
    assert metrics.accel_error(falling, TRUTH, fps=30) == pytest.approx(9.81)
    assert metrics.accel_error(falling, TRUTH) == pytest.approx(9810 / 900)
    assert np.isnan(metrics.accel_error(TRUTH[:2], TRUTH[:2]))


def test_mpjae_is_the_angle_of_the_rotation():
    base = axis_angle_to_matrix(torch.from_numpy(RNG.normal(size=(7, 24, 3))))
    for degrees in (0.0, 25.0, 180.0):
        rotation = axis_angle_to_matrix(torch.tensor([0.0, np.deg2rad(degrees), 0.0], dtype=torch.float64))
        assert metrics.mpjae_deg(rotation @ base, rotation.T @ rotation @ base) == pytest.approx(degrees, abs=1e-4)


def test_reprojection_error_is_a_share_of_the_box_and_skips_doubtful_keypoints():
    keypoints = np.concatenate([RNG.uniform(0, 500, (6, 17, 2)), np.ones((6, 17, 1))], -1)
    heights = np.array([100.0, 200, 300, 400, 500, 600])
    projected = keypoints[..., :2] + 0.05 * heights[:, None, None] * np.array([0.6, 0.8])
    assert metrics.reprojection_error(projected, keypoints, heights) == pytest.approx(0.05)
    projected[:, :9], keypoints[:, :9, 2] = 1e6, 0.1
    assert metrics.reprojection_error(projected, keypoints, heights) == pytest.approx(0.05)
    keypoints[:, 9] = np.nan
    assert metrics.reprojection_error(projected, keypoints, heights) == pytest.approx(0.05)


def test_foot_sliding_counts_standing_feet_only():
    feet = np.zeros((30, 2, 3))
    feet[:, 0, 0] = np.arange(30) * 0.01  # slides 1 cm a frame on the floor
    feet[:, 1, 2] = np.arange(30) * 0.10  # swings fast ...
    feet[1:, 1, 1] = 0.2  # ... in the air
    assert metrics.foot_sliding(feet, fps=30) == pytest.approx(0.3)
    assert metrics.foot_sliding(feet, 30, contact=np.ones((30, 2))) == pytest.approx((0.3 + 3) / 2)
    assert np.isnan(metrics.foot_sliding(feet, 30, contact=np.zeros((30, 2))))


def test_missing_truth_is_left_out():
    truth, noisy = TRUTH.copy(), NOISY.copy()
    truth[:, 3], noisy[:, 3] = np.nan, 77.0
    rest = [i for i in range(24) if i != 3]
    for metric in (metrics.mpjpe_mm, metrics.pa_mpjpe_mm, metrics.n_mpjpe_mm, metrics.pck, metrics.auc, metrics.pve_mm):
        assert metric(noisy, truth) == pytest.approx(metric(NOISY[:, rest], TRUTH[:, rest]), rel=1e-9)


def test_tensors_and_arrays_give_the_same_and_shapes_must_agree():
    assert metrics.mpjpe_mm(torch.from_numpy(NOISY), torch.from_numpy(TRUTH)) == metrics.mpjpe_mm(NOISY, TRUTH)
    with pytest.raises(ValueError, match="one shape"):
        metrics.mpjpe_mm(TRUTH[:5], TRUTH)
    with pytest.raises(ValueError, match="both roots"):
        metrics.pve_mm(NOISY, TRUTH, TRUTH[:, 0])
