"""Our figures against those that the published evaluation codes returned for the same input.

The codes were run once (aymenmir1/3dpw-eval, mkocabas/VIBE, nkolot/SPIN, yohanshin/WHAM, eth-ait/emdb,
facebookresearch/VideoPose3D; newest commit each) on the waves below; the numbers are what they returned. They compute
in float64 and are met to the last digits, except where a tolerance says why.
"""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from hmrkit import metrics


def wave(frames, points, speed, phase):
    t, j, c = np.ogrid[:frames, :points, :3]
    return np.sin(speed * t + phase * j + 2.1 * c + 0.37 * j * c)


def rotations(rotation_vectors):
    return Rotation.from_rotvec(rotation_vectors.reshape(-1, 3)).as_matrix().reshape(-1, 9, 3, 3)


TILT = Rotation.from_rotvec([0.1, 0.2, -0.1]).as_matrix()
TRUTH = 0.4 * wave(1, 24, 0, 1.7) + 0.1 * wave(250, 24, 0.21, 0.9)
PREDICTED = 1.05 * TRUTH @ TILT.T + 0.03 * wave(250, 24, 0.83, 2.9) + 0.02 * wave(250, 24, 0.05, 0.1)
WALK = np.arange(250)[:, None, None] * np.array([0.02, 0.0, 0.01])
WORLD_TRUTH = TRUTH + WALK
WORLD_PREDICTED = PREDICTED + np.arange(250)[:, None, None] * np.array([0.019, 0.001, 0.012])
ROTATIONS = rotations(1.2 * wave(250, 9, 0.11, 0.6))
OTHER_ROTATIONS = rotations(1.1 * wave(250, 9, 0.11, 0.6) + 0.2 * wave(250, 9, 0.4, 1.3))
HIPS = (1, 2)
LSP_HIPS = (2, 3)
MAJOR = [1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21]
EMDB_STILL = [0, 7, 8, 10, 11, 20, 21, 22, 23]
EXACT = {"rel": 1e-9}


def seen_from_pelvis(joints):
    return (joints - joints[:, :1])[:, MAJOR]


def test_3dpw_challenge():
    assert metrics.mpjpe_mm(PREDICTED, TRUTH) == pytest.approx(129.5929733385, **EXACT)
    assert metrics.pa_mpjpe_mm(PREDICTED, TRUTH) == pytest.approx(37.1659980784, **EXACT)
    p, t = seen_from_pelvis(PREDICTED), seen_from_pelvis(TRUTH)
    assert 100 * metrics.pck(p, t, 50, root=None) == pytest.approx(4.0333333333, **EXACT)
    area = metrics.auc(p, t, root=None, thresholds_mm=np.arange(200), trapezoid=True)
    assert area == pytest.approx(0.3059838265, abs=1e-6)  # the code integrates the broken line numerically
    assert metrics.mpjae_deg(OTHER_ROTATIONS, ROTATIONS) == pytest.approx(14.1155988939, **EXACT)
    assert metrics.mpjae_pa_deg(OTHER_ROTATIONS, ROTATIONS, PREDICTED, TRUTH) == pytest.approx(19.5185905618, **EXACT)


def test_3dpw_challenge_with_a_person_who_was_not_found():
    dummy = PREDICTED.copy()
    dummy[5] = 0
    assert metrics.mpjpe_mm(dummy, TRUTH) == pytest.approx(131.8147133506, **EXACT)
    assert metrics.pa_mpjpe_mm(dummy, TRUTH) == pytest.approx(38.9690044189, **EXACT)


def test_vibe_and_spin():
    p, t = PREDICTED[:, :14], TRUTH[:, :14]
    assert metrics.mpjpe_mm(p, t, root=LSP_HIPS) == pytest.approx(129.9272263097, **EXACT)
    assert metrics.pa_mpjpe_mm(p, t) == pytest.approx(36.5552400279, **EXACT)
    assert metrics.pve_mm(p, t) == pytest.approx(108.9976654925, **EXACT)
    assert metrics.accel_error(p, t) == pytest.approx(23.1487041603, **EXACT)
    t = t.copy()
    t[[7, 8, 100]] = np.nan
    assert metrics.accel_error(p, t) == pytest.approx(23.1407279621, **EXACT)  # vis=False there


def test_wham_in_the_camera():
    roots = metrics.root_point(PREDICTED, HIPS), metrics.root_point(TRUTH, HIPS)
    assert metrics.mpjpe_mm(PREDICTED, TRUTH, root=HIPS) == pytest.approx(121.9546486350, **EXACT)
    assert metrics.pve_mm(PREDICTED[:, ::2], TRUTH[:, ::2], *roots) == pytest.approx(121.7587871248, **EXACT)
    p, t = PREDICTED - roots[0][:, None], TRUTH - roots[1][:, None]
    assert metrics.accel_error_per_frame(p, t, fps=30)[1:-1].mean() == pytest.approx(21.1345378873, **EXACT)


def test_wham_in_the_world():
    # The code computes these three in float32.
    assert metrics.w_mpjpe_mm(WORLD_PREDICTED, WORLD_TRUTH) == pytest.approx(345.7744140625, abs=1e-3)
    assert metrics.wa_mpjpe_mm(WORLD_PREDICTED, WORLD_TRUTH) == pytest.approx(113.4887390137, abs=1e-3)
    rte = metrics.rte_percent(WORLD_PREDICTED[:, 0], WORLD_TRUTH[:, 0])
    assert rte == pytest.approx(0.6353858709, abs=1e-5)
    assert metrics.jitter(WORLD_PREDICTED, 30) / 10 == pytest.approx(50.5704191759, **EXACT)
    slow = 0.2 * TRUTH + 0.1 * WALK
    assert metrics.foot_sliding_mm(WORLD_PREDICTED[:, :4], slow[:, :4]) == pytest.approx(41.8726278708, **EXACT)


def test_emdb():
    roots = metrics.root_point(PREDICTED, HIPS), metrics.root_point(TRUTH, HIPS)
    assert metrics.pve_mm(PREDICTED[:, ::2], TRUTH[:, ::2], *roots) == pytest.approx(121.7587871248, **EXACT)
    moved = metrics.pa_pve_mm(PREDICTED[:, ::2], TRUTH[:, ::2], PREDICTED, TRUTH)
    assert moved == pytest.approx(37.2585384110, **EXACT)
    assert metrics.jitter(PREDICTED, 30, still=EMDB_STILL) / 10 == pytest.approx(31.6590270194, **EXACT)
    assert metrics.mpjae_deg(OTHER_ROTATIONS, ROTATIONS) == pytest.approx(14.1155988939, **EXACT)


def test_videopose3d():
    p, t = (x[:, :17] - x[:, :1] for x in (PREDICTED, TRUTH))
    assert metrics.mpjpe_mm(p, t) == pytest.approx(125.5757421318, **EXACT)
    assert metrics.pa_mpjpe_mm(p, t) == pytest.approx(36.9918053652, **EXACT)
    assert metrics.n_mpjpe_mm(p, t) == pytest.approx(115.3095286739, **EXACT)
