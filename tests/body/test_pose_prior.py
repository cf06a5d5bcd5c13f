import pytest
import torch
from conftest import DATA

from hmrkit.body.pose_prior import GROUPS, fit_mixture, group_vectors, load_pose_prior
from hmrkit.geometry import matrix_to_axis_angle
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.mocap import load_motion
from hmrkit.synthetic.poses import PoseSampler
from hmrkit.training.pose_prior import discrimination, mirrored, train_pose_prior


@pytest.fixture(scope="module")
def poses():
    """Poses of three clips that the prior never saw."""
    motion = load_motion(DATA / "motion_excerpt.npz", "all")
    return matrix_to_axis_angle(torch.from_numpy(motion.local_rotations[::3, 1:]).float())


@pytest.fixture(scope="module")
def prior():
    return load_pose_prior()


def test_true_poses_are_likelier_than_disturbed_ones(prior, poses, rng):
    disturbed = poses + 0.15 * torch.randn(poses.shape, generator=rng)
    assert (prior(poses) < prior(disturbed)).float().mean() > 0.97
    assert prior(disturbed).median() > 2 * prior(poses).median()


def test_energy_is_never_negative_and_grows_with_distance(prior, poses):
    away = [prior(poses * factor).mean() for factor in (1.0, 1.5, 2.0, 3.0)]
    assert prior(poses).min() >= 0
    assert away == sorted(away)


def test_a_mirrored_pose_has_mirrored_vectors_and_the_same_arms_energy(prior, poses):
    one, other = (group_vectors(p)["arm"] for p in (poses, mirrored(poses)))
    torch.testing.assert_close(one, other.flip(1))
    energy = [prior.mixtures["arm"].energy(v).sum(1) for v in (one, other)]
    torch.testing.assert_close(energy[0], energy[1])


def test_knee_that_bends_backwards_is_unlikely(prior, poses):
    broken = poses.clone()
    broken[:, SMPL_24.index["left_knee"] - 1, 0] = -0.6
    more = prior(broken) - prior(poses)
    # Straight legs are common, and 34 degrees beyond is not far; fitting forbids the rest (`bent_backwards`).
    assert more.median() > 10
    assert (more > 5).float().mean() > 0.8


def test_mixture_finds_two_clusters_and_their_spread():
    generator = torch.Generator().manual_seed(1)
    spread = torch.tensor([0.3, 0.1], dtype=torch.float64)
    noise = torch.randn(4000, 2, generator=generator, dtype=torch.float64) * spread
    centre = torch.tensor([[2.0, 0.0], [-2.0, 1.0]], dtype=torch.float64)
    mixture, _ = fit_mixture(noise + centre.repeat_interleave(torch.tensor([3000, 1000]), 0), 2, floor=1e-3)
    order = mixture.log_weights.argsort(descending=True)
    torch.testing.assert_close(mixture.means[order], centre, atol=0.05, rtol=0)
    torch.testing.assert_close(mixture.log_weights[order].exp(), torch.tensor([0.75, 0.25]).double(), atol=0.02, rtol=0)
    covariance = torch.linalg.inv(mixture.precisions @ mixture.precisions.mT)
    torch.testing.assert_close(covariance[order[0]].diagonal().sqrt(), spread, atol=0.02, rtol=0)


def test_recipe_writes_what_the_loader_reads(tmp_path, monkeypatch, poses):
    path = train_pose_prior(tmp_path / "pose_prior", 400, dict.fromkeys(GROUPS, 2))
    monkeypatch.setenv("HMRKIT_WEIGHTS", str(tmp_path))
    assert path == tmp_path / "pose_prior" / "gmm.safetensors"
    assert load_pose_prior()(poses).isfinite().all()


def test_people_who_stand_are_likely(prior):
    measured = discrimination(prior, PoseSampler("test", wobble=0.0, everyday=1.0))
    assert measured["true_is_lower"] > 0.99
    assert measured["true"] < 20
    assert float(prior(torch.zeros(1, 23, 3))) < 15  # T-pose
