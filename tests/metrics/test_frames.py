"""Per-frame values, their means, degenerate poses and missing points."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hmrkit import metrics
from hmrkit.metrics import frames

RNG = np.random.default_rng(1)
TRUTH = RNG.normal(size=(4, 6, 24, 3))
NOISY = TRUTH + RNG.normal(size=TRUTH.shape) * 0.1
ROTATIONS = Rotation.random(4 * 6 * 24, random_state=0).as_matrix().reshape(4, 6, 24, 3, 3)
OTHERS = Rotation.random(4 * 6 * 24, random_state=1).as_matrix().reshape(4, 6, 24, 3, 3)
ROOTS = NOISY[..., 0, :], TRUTH[..., 0, :]

PAIRS = {
    "mpjpe": (metrics.mpjpe_mm, metrics.mpjpe_mm_per_frame, (NOISY, TRUTH)),
    "pa_mpjpe": (metrics.pa_mpjpe_mm, metrics.pa_mpjpe_mm_per_frame, (NOISY, TRUTH)),
    "n_mpjpe": (metrics.n_mpjpe_mm, metrics.n_mpjpe_mm_per_frame, (NOISY, TRUTH)),
    "pve": (metrics.pve_mm, metrics.pve_mm_per_frame, (NOISY, TRUTH)),
    "pve rooted": (metrics.pve_mm, metrics.pve_mm_per_frame, (NOISY, TRUTH, *ROOTS)),
    "pa_pve": (metrics.pa_pve_mm, metrics.pa_pve_mm_per_frame, (NOISY[..., :9, :], TRUTH[..., :9, :], NOISY, TRUTH)),
    "pck": (metrics.pck, metrics.pck_per_frame, (NOISY, TRUTH)),
    "auc": (metrics.auc, metrics.auc_per_frame, (NOISY, TRUTH)),
    "mpjae": (metrics.mpjae_deg, metrics.mpjae_deg_per_frame, (OTHERS, ROTATIONS)),
    "mpjae_pa": (metrics.mpjae_pa_deg, metrics.mpjae_pa_deg_per_frame, (OTHERS, ROTATIONS, NOISY, TRUTH)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_figure_is_the_mean_of_its_frames_which_do_not_know_of_one_another(name, monkeypatch):
    figure, per_frame, arrays = PAIRS[name]
    values = per_frame(*arrays)
    assert values.shape == (4, 6)
    assert values.dtype == np.float64
    assert figure(*arrays) == pytest.approx(values.mean(), rel=1e-12)
    assert values[2, 3] == pytest.approx(figure(*(a[2, 3] for a in arrays)), rel=1e-9)
    monkeypatch.setitem(frames._POINTS, "cpu", 50)  # a few frames at a time
    np.testing.assert_allclose(per_frame(*arrays), values, rtol=1e-12)
    np.testing.assert_allclose(per_frame(*(torch.from_numpy(a) for a in arrays)), values, rtol=1e-12)
    np.testing.assert_allclose(per_frame(*(a[::-1] for a in arrays)), values[::-1], rtol=1e-9)
    assert per_frame(*(a[:0] for a in arrays)).shape == (0, 6)


@pytest.mark.parametrize("name", PAIRS)
def test_a_frame_that_the_truth_lacks_has_no_value_and_leaves_the_mean_alone(name):
    figure, per_frame, arrays = PAIRS[name]
    arrays = [a.copy() for a in arrays]
    for truth in arrays[1::2]:
        truth[1, 1] = np.nan
    values = per_frame(*arrays)
    assert np.isnan(values[1, 1])
    assert np.isnan(values).sum() == 1
    assert figure(*arrays) == pytest.approx(np.nanmean(values))
    assert np.isnan(figure(*(np.full_like(a, np.nan) for a in arrays)))


def plain_procrustes(source, target):
    """Umeyama's least squares similarity without reflection, by SciPy's Kabsch solver."""
    s, t = source - source.mean(0), target - target.mean(0)
    rotation = Rotation.align_vectors(t, s)[0].as_matrix()
    scale = np.trace(rotation @ s.T @ t) / (s**2).sum()
    return scale * s @ rotation.T + target.mean(0)


FLAT = np.array([1.0, 1.0, 0.0])
SHAPES = {
    "general": (NOISY[0, 0], TRUTH[0, 0]),
    "far from the origin": (NOISY[0, 1] + 1000, TRUTH[0, 1]),
    "mirrored": (TRUTH[0, 2] * [-1, 1, 1], TRUTH[0, 2]),
    "upside down": (TRUTH[0, 3] * [-1, -1, 1], TRUTH[0, 3]),
    "coplanar": (NOISY[1, 0] * FLAT, TRUTH[1, 0] * FLAT),
    "coplanar against general": (NOISY[1, 1] * FLAT, TRUTH[1, 1]),
    "three joints": (NOISY[1, 2, :3], TRUTH[1, 2, :3]),
    "tiny": (NOISY[1, 3] * 1e-3, TRUTH[1, 3]),
}


@pytest.mark.filterwarnings("ignore:Optimal rotation is not uniquely")
@pytest.mark.parametrize("name", SHAPES)
def test_procrustes_of_all_sorts_of_poses(name):
    source, target = SHAPES[name]
    expected = plain_procrustes(source, target)
    np.testing.assert_allclose(metrics.procrustes_aligned(source, target), expected, atol=1e-9)
    error = 1000 * np.linalg.norm(expected - target, axis=-1).mean()
    assert metrics.pa_mpjpe_mm(source, target) == pytest.approx(error, rel=1e-9)


def test_similar_coplanar_and_collinear_poses_are_perfect():
    line = RNG.normal(size=(24, 1)) * np.array([0.3, -0.5, 0.8])
    for pose in (TRUTH[0, 0], TRUTH[0, 0] * FLAT, line):
        similar = 0.3 * pose @ ROTATIONS[0, 0, 0].T + [5, 6, 7]
        assert metrics.pa_mpjpe_mm(similar, pose) == pytest.approx(0, abs=1e-6)
        assert metrics.pa_mpjpe_mm(pose, pose) == pytest.approx(0, abs=1e-9)


def test_poses_that_are_one_point_or_known_in_two_joints():
    dot = np.zeros((24, 3))
    spread = 1000 * np.linalg.norm(TRUTH[0, 0] - TRUTH[0, 0].mean(0), axis=-1).mean()
    assert metrics.pa_mpjpe_mm(dot, TRUTH[0, 0]) == pytest.approx(spread)  # the middle of the truth, as 3DPW's code
    assert metrics.pa_mpjpe_mm(TRUTH[0, 0], dot) == pytest.approx(0, abs=1e-9)
    two = TRUTH[0, 0].copy()
    two[2:] = np.nan
    assert np.isnan(metrics.pa_mpjpe_mm(NOISY[0, 0], two))
    assert metrics.mpjpe_mm(NOISY[0, 0], two, root=None) > 0


def test_points_that_were_not_predicted_are_left_out_of_means_but_missed_in_shares():
    predicted = NOISY.copy()
    predicted[..., 5:11, :] = np.nan
    rest = [*range(5), *range(11, 24)]
    some = predicted[..., rest, :], TRUTH[..., rest, :]
    assert metrics.mpjpe_mm(predicted, TRUTH) == pytest.approx(metrics.mpjpe_mm(*some))
    assert metrics.pa_mpjpe_mm(predicted, TRUTH) == pytest.approx(metrics.pa_mpjpe_mm(*some))
    assert metrics.pck(predicted, TRUTH) == pytest.approx(metrics.pck(*some) * 18 / 24)
    assert metrics.auc(predicted, TRUTH) == pytest.approx(metrics.auc(*some) * 18 / 24)
    assert metrics.coverage(predicted, TRUTH) == 18 / 24
    assert metrics.coverage(predicted, np.where(np.isnan(predicted), np.nan, TRUTH)) == 1


def test_pck_and_auc_by_counting():
    errors = 1000 * np.linalg.norm(NOISY - TRUTH, axis=-1)
    assert metrics.pck(NOISY, TRUTH, 120, root=None) == pytest.approx(np.mean(errors <= 120))
    for thresholds in (np.linspace(0, 150, 31), np.arange(200), np.array([10.0, 100, 500])):
        curve = [np.mean(errors <= limit) for limit in thresholds]
        assert metrics.auc(NOISY, TRUTH, None, thresholds) == pytest.approx(np.mean(curve))
        area = sum((a + b) / 2 * step for a, b, step in zip(curve[:-1], curve[1:], np.diff(thresholds), strict=True))
        span = thresholds[-1] - thresholds[0]
        assert metrics.auc(NOISY, TRUTH, None, thresholds, trapezoid=True) == pytest.approx(area / span)


def test_the_middle_of_the_hips_as_root():
    moved = NOISY + TRUTH.mean((0, 1, 2)) * 10
    assert metrics.mpjpe_mm(moved, TRUTH, root=(1, 2)) == pytest.approx(metrics.mpjpe_mm(NOISY, TRUTH, root=(1, 2)))
    hips = NOISY[..., 1, :] / 2 + NOISY[..., 2, :] / 2
    np.testing.assert_allclose(metrics.root_point(NOISY, (1, 2)), hips)
    by_points = metrics.pve_mm(NOISY, TRUTH, *(metrics.root_point(x, (1, 2)) for x in (NOISY, TRUTH)))
    assert by_points == pytest.approx(metrics.mpjpe_mm(NOISY, TRUTH, root=(1, 2)))
    assert metrics.root_point(torch.from_numpy(NOISY), 0).shape == (4, 6, 3)


def test_angles_of_rotations_against_scipy():
    expected = np.rad2deg((Rotation.from_matrix(ROTATIONS.reshape(-1, 3, 3)).inv()
                           * Rotation.from_matrix(OTHERS.reshape(-1, 3, 3))).magnitude())  # fmt: skip
    assert metrics.mpjae_deg(OTHERS, ROTATIONS) == pytest.approx(expected.mean(), rel=1e-9)
    assert metrics.mpjae_pa_deg(
        ROTATIONS[0, 0, 0].T @ ROTATIONS, ROTATIONS, TRUTH @ ROTATIONS[0, 0, 0], TRUTH
    ) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("degrees", [0, 1e-6, 1, 179.999, 180])
def test_small_and_large_angles_are_exact(degrees):
    rotation = Rotation.from_rotvec(np.deg2rad(degrees) * np.array([0.6, 0.0, 0.8])).as_matrix()
    assert metrics.mpjae_deg(ROTATIONS @ rotation, ROTATIONS) == pytest.approx(
        degrees, rel=1e-6, abs=1e-9 if degrees < 1 else 1e-5
    )


def test_shapes_must_agree():
    for metric in (metrics.pa_mpjpe_mm, metrics.n_mpjpe_mm, metrics.pve_mm, metrics.pck, metrics.mpjae_deg):
        with pytest.raises(ValueError, match="one shape"):
            metric(ROTATIONS[:2], ROTATIONS)
    with pytest.raises(ValueError, match="leading"):
        metrics.pa_pve_mm(NOISY, TRUTH, NOISY[:2], TRUTH[:2])


class Sticks:
    """A body of two vertices: one shows the shape, one the first rotation."""

    num_vertices = 2

    def __call__(self, global_orient=None, body_pose=None, betas=None):
        batch = len(global_orient if betas is None else betas)
        shape = torch.zeros(batch, 3) if betas is None else betas[:, :3]
        rotated = torch.tensor([1.0, 0, 0]).expand(batch, 3) if global_orient is None else global_orient[..., 0]
        self.vertices = torch.stack([shape, rotated], 1)
        return self


def test_shape_and_pose_apart():
    betas = np.zeros((5, 10))
    betas[:, 0] = 0.3
    assert metrics.pve_s_mm(Sticks(), betas, np.zeros((5, 10))) == pytest.approx(150, rel=1e-6)
    assert metrics.pve_s_mm_per_frame(Sticks(), betas, betas).tolist() == [0] * 5
    rotated = np.tile(np.eye(3), (5, 24, 1, 1))
    rotated[:, 0] = Rotation.from_rotvec([0, np.pi, 0]).as_matrix()
    still = np.tile(np.eye(3), (5, 24, 1, 1))
    assert metrics.pve_p_mm(Sticks(), rotated, still) == pytest.approx(1000, rel=1e-6)
