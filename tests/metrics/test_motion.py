"""Metrics over time, by values worked out by hand and by invariances."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmrkit import metrics

RNG = np.random.default_rng(2)
JOINTS = RNG.normal(size=(230, 24, 3)) * 0.3 + np.arange(230)[:, None, None] * np.array([0.03, 0, 0.01])
NOISY = JOINTS + RNG.normal(size=JOINTS.shape) * 0.05
ROTATION = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()


def test_acceleration_leaves_out_every_triple_with_a_missing_frame():
    hidden = JOINTS.copy()
    hidden[10] = np.nan
    values, gaps = metrics.accel_error_per_frame(NOISY, JOINTS), metrics.accel_error_per_frame(NOISY, hidden)
    assert values.shape == (228,)
    assert np.flatnonzero(np.isnan(gaps)).tolist() == [8, 9, 10]
    assert metrics.accel_error(NOISY, hidden) == pytest.approx(np.delete(values, [8, 9, 10]).mean())
    assert metrics.accel_error(NOISY, JOINTS, fps=30) == pytest.approx(values.mean() * 0.9)


def test_jitter_is_the_third_derivative():
    t = np.arange(50)[:, None, None] / 25
    cubic = t**3 * np.array([0.0, 2.0, 0.0]) + t**2 * 5 - t * 3 + np.zeros((1, 24, 1))
    assert metrics.jitter(cubic, fps=25) == pytest.approx(12, rel=1e-6)
    assert metrics.jitter(cubic, fps=25, still=range(12)) == pytest.approx(6, rel=1e-6)
    assert cubic[3, 0, 1] != 0  # the caller's joints are as they were
    assert metrics.jitter_per_frame(cubic, 25).shape == (47,)
    assert np.isnan(metrics.jitter(cubic[:3], fps=25))


def test_sliding_feet_are_judged_only_while_the_true_ones_rest():
    truth, predicted = np.zeros((11, 2, 3)), np.zeros((11, 2, 3))
    truth[:, 1, 0] = np.arange(11) * 0.02  # walks
    predicted[:, 0, 0] = np.arange(11) * 0.004
    predicted[:, 1, 0] = np.arange(11) * 0.5
    assert metrics.foot_sliding_mm(predicted, truth) == pytest.approx(4)
    assert np.isnan(metrics.foot_sliding_mm_per_frame(predicted, truth)[:, 1]).all()
    assert metrics.foot_sliding_mm(predicted, truth, contact_m=0.03) == pytest.approx((4 + 500) / 2)


@pytest.mark.parametrize("metric", [metrics.w_mpjpe_mm, metrics.wa_mpjpe_mm])
def test_world_errors_forgive_one_similarity_a_segment(metric):
    assert metric(0.7 * JOINTS @ ROTATION.T + [5, 6, 7], JOINTS) == pytest.approx(0, abs=1e-6)
    pieces = JOINTS.copy()
    pieces[100:200] = 2 * pieces[100:200] @ ROTATION.T
    pieces[200:] += 9
    assert metric(pieces, JOINTS) == pytest.approx(0, abs=1e-6)
    assert metric(pieces, JOINTS, segment=230) > 100
    assert metric(JOINTS * [-1, 1, 1], JOINTS) > 100  # no reflection


def test_world_errors_by_a_plain_loop():
    for per_frame, aligned in ((metrics.w_mpjpe_mm_per_frame, 2), (metrics.wa_mpjpe_mm_per_frame, 100)):
        expected = []
        for start in range(0, 230, 100):
            p, t = NOISY[start : start + 100], JOINTS[start : start + 100]
            s, d = p[:aligned].reshape(-1, 3), t[:aligned].reshape(-1, 3)
            rotation = Rotation.align_vectors(d - d.mean(0), s - s.mean(0))[0].as_matrix()
            scale = np.trace(rotation @ (s - s.mean(0)).T @ (d - d.mean(0))) / ((s - s.mean(0)) ** 2).sum()
            moved = scale * (p - s.mean(0)) @ rotation.T + d.mean(0)
            expected += (1000 * np.linalg.norm(moved - t, axis=-1).mean(-1)).tolist()
        np.testing.assert_allclose(per_frame(NOISY, JOINTS), expected, rtol=1e-9)


def test_world_errors_leave_out_missing_joints():
    hidden = NOISY.copy()
    hidden[:, 3] = np.nan
    hidden[50] = np.nan
    rest = np.delete(np.arange(24), 3)
    values = metrics.wa_mpjpe_mm_per_frame(hidden, JOINTS)
    assert np.flatnonzero(np.isnan(values)).tolist() == [50]
    keep = np.delete(np.arange(100), 50)
    np.testing.assert_allclose(
        values[keep], metrics.wa_mpjpe_mm_per_frame(NOISY[keep][:, rest], JOINTS[keep][:, rest], segment=99)
    )
    hidden[:2] = np.nan
    assert np.isnan(metrics.w_mpjpe_mm_per_frame(hidden, JOINTS)[:100]).all()


def test_the_roots_error_is_relative_to_its_way_and_rotations_are_free_but_scale_is_not():
    way = np.stack([np.arange(101) * 0.1, np.zeros(101), np.zeros(101)], -1)  # 10 m
    way[:, 2] = np.sin(way[:, 0])
    length = np.linalg.norm(np.diff(way, axis=0), axis=-1).sum()
    assert metrics.rte_percent(way @ ROTATION.T + 3, way) == pytest.approx(0, abs=1e-9)
    spread = np.linalg.norm(way - way.mean(0), axis=-1).mean()
    assert metrics.rte_percent(1.1 * way, way) == pytest.approx(100 * 0.1 * spread / length)
    gap = way.copy()
    gap[40] = np.nan
    values = metrics.rte_percent_per_frame(gap, way)
    assert np.flatnonzero(np.isnan(values)).tolist() == [40]
