"""The energy of ``--refine``: its derivatives, its banded matrix, and what a device has to wait for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from claimed_cuda import CUDA, ClaimedCuda
from synthetic_person import BODY, CAMERA, corrupted, make_person, pose_body

from hmrkit.body.landmarks import body_landmarks
from hmrkit.body.pose_prior import load_pose_prior
from hmrkit.fitting.banded import Knots, spline_basis
from hmrkit.fitting.observations import clean_track
from hmrkit.fitting.penalties import RefineOptions
from hmrkit.fitting.refine_energy import Energy, Piece
from hmrkit.fitting.smplify import _descend, refine_tracks
from hmrkit.fitting.stream import fit_track


def fitted(clip, frames):
    person = corrupted(make_person(clip, frames, yaw=clip * 1.2), clip)
    clean = clean_track(person.track, person.keypoints, CAMERA, person.times)
    return fit_track(clean, CAMERA, BODY), clean


@pytest.fixture(scope="module")
def people():
    """Two short tracks, 30 Hz and 6 Hz (a knot a frame), and one of a single frame."""
    return [fitted(0, slice(0, 14)), fitted(1, slice(0, 40, 5)), fitted(2, slice(3, 4))]


def piece(params, clean):
    rotations = np.concatenate([params.global_orient[:, None], params.body_pose], 1)
    return Piece(clean, rotations, params.transl_c, np.tile(params.betas, (len(rotations), 1)))


def energy_of(pieces):
    return Energy(pieces, CAMERA, body_landmarks(BODY), load_pose_prior(), RefineOptions())


@pytest.fixture(scope="module")
def energy(people):
    return energy_of([piece(*person) for person in people])


def assert_gradient(energy):
    """The gradient is the value's own, about knots that have some values."""
    generator = torch.Generator().manual_seed(0)
    knots = 0.05 * torch.randn(len(energy.knots), 75, generator=generator)
    knots.requires_grad_()
    (gradient,) = torch.autograd.grad(energy.value(energy.bodies(knots)).sum(), knots)
    with torch.no_grad():
        found, _ = energy.expanded(energy.bodies(knots))
    assert (found - gradient).norm() < 1e-5 * gradient.norm()


def test_the_gradient_is_that_of_the_value(energy):
    assert_gradient(energy)


def test_the_gradient_is_that_of_the_value_at_the_camera(people):
    """Landmarks nearer than 0.1 m are seen as if they were that far; those here are seen near their keypoints."""
    params, clean = people[1]
    params = replace(params, transl_c=params.transl_c * np.float32([1, 1, 0.05]))
    landmarks = pose_body(params)[0]
    near = landmarks[..., 2:] < 0.1
    assert 0.2 < near.mean() < 0.8
    pixels = landmarks[..., :2] / np.maximum(landmarks[..., 2:], 0.1) * CAMERA.focal_px + CAMERA.center_px
    noise = np.random.default_rng(0).normal(0, 10, pixels.shape)
    clean = replace(clean, pixels=(pixels + noise).astype(np.float32), height=np.full_like(clean.height, 3000.0))
    assert_gradient(energy_of([piece(params, clean)]))


def test_few_steps_come_near_to_where_many_end(energy):
    with torch.no_grad():
        start, few, many = (_descend(energy, RefineOptions(steps=steps))[1] for steps in (0, 3, 12))
    assert (few < 0.6 * start).all()
    assert (few < 1.2 * many).all()


def test_the_matrix_is_the_bases_product_with_the_frames_blocks():
    generator = torch.Generator().manual_seed(1)
    times = [np.arange(9) / 12, np.arange(3) / 2]
    bases = [spline_basis(t, 0.15) for t in times]
    basis = torch.block_diag(*bases)
    count, size = basis.shape[1], 2
    blocks = torch.randn(3, 12, size, size, generator=generator)
    blocks[0] = blocks[0] @ blocks[0].mT + 30 * torch.eye(size)
    frames = torch.zeros(12, size, 12, size)
    for offset in range(3):
        for t in range(12 - offset):
            if (t < 9) == (t + offset < 9):
                frames[t, :, t + offset] = blocks[offset, t]
                frames[t + offset, :, t] = blocks[offset, t].T
    wanted = torch.einsum("tm,tiuj,un->minj", basis, frames, basis)
    knots = Knots(bases, torch.device("cpu"))
    lower = knots.blocks(blocks)
    for d in range(count):
        own = torch.stack([wanted[m + d, :, m] for m in range(count - d)])
        found = lower[: count - d, d] if d <= knots.width else torch.zeros_like(own)
        torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-5)
    right = torch.randn(count, size, generator=generator)
    dense = wanted.reshape(count * size, -1) + torch.eye(count * size)
    lower[:, 0] += torch.eye(size)
    expected = torch.linalg.solve(dense, right.flatten()).view(count, size)
    torch.testing.assert_close(knots.solve(lower, right), expected, atol=1e-5, rtol=1e-4)


def test_the_prior_is_quadratic_about_a_pose():
    prior, generator = load_pose_prior(), torch.Generator().manual_seed(2)
    pose = (0.3 * torch.randn(4, 23, 3, generator=generator)).requires_grad_()
    value, gradient, curvature = prior.expanded(pose.detach())
    torch.testing.assert_close(value, prior(pose.detach()))
    (wanted,) = torch.autograd.grad(prior(pose).sum(), pose)
    torch.testing.assert_close(gradient, wanted.flatten(1), atol=1e-3, rtol=1e-4)
    step = 1e-3 * torch.randn(4, 69, generator=generator)
    moved = prior.expanded(pose.detach() + step.view(4, 23, 3))[1]
    torch.testing.assert_close(moved - gradient, (curvature @ step[..., None])[..., 0], atol=2e-3, rtol=1e-3)


def test_a_track_is_refined_as_if_it_were_alone(people):
    together = refine_tracks(dict(enumerate(people)), CAMERA, BODY)
    for i, refined in together.items():
        assert_same(refined, alone(*people[i]))


def test_frames_without_a_body_stay_without_and_harm_nobody(people, caplog):
    (params, clean), (second, seen) = people[:2]
    pose = params.body_pose.copy()
    pose[4] = np.nan
    empty = replace(second, transl_c=np.full_like(second.transl_c, np.nan))
    refined = refine_tracks(
        {1: (replace(params, body_pose=pose), clean), 2: (empty, seen), 3: (second, seen)}, CAMERA, BODY
    )
    assert np.isnan(refined[1].body_pose[4]).all()
    assert np.isfinite(np.delete(refined[1].body_pose, 4, 0)).all()
    assert np.isnan(refined[2].transl_c).all()
    assert_same(refined[3], alone(second, seen))
    assert refine_tracks({}, CAMERA, BODY) == {}
    assert not caplog.messages


@pytest.mark.parametrize(
    ("what", "value"),
    [("pixels", np.nan), ("height", np.inf), ("times", np.nan), ("transl_c", 1e38)],
)
def test_a_track_that_is_not_finite_stays_and_harms_nobody(people, caplog, what, value):
    """The last one is finite, and overflows once it is squared."""
    (params, clean), other = people[:2]
    if what == "transl_c":
        params = replace(params, transl_c=np.full_like(params.transl_c, value))
    else:
        clean = replace(clean, **{what: np.full_like(getattr(clean, what), value)})
    refined = refine_tracks({4: other, 7: (params, clean), 9: other}, CAMERA, BODY)
    wanted = alone(*other)
    assert not np.array_equal(wanted.body_pose, other[0].body_pose)
    for i in (4, 9):
        assert_same(refined[i], wanted)
    np.testing.assert_array_equal(refined[7].body_pose, params.body_pose)
    np.testing.assert_array_equal(refined[7].transl_c, params.transl_c)
    (warning,) = caplog.messages
    assert warning.startswith("track 7 stays unrefined")


def test_a_step_that_fails_in_one_track_is_left_out_there_alone(people, monkeypatch):
    """A matrix whose solution is NaN."""
    wanted = [alone(*person) for person in people[:2]]
    expanded = Energy.expanded

    def broken(energy, bodies):
        gradient, blocks = expanded(energy, bodies)
        blocks[(energy.knots.owner == 0).nonzero()[1, 0], 0] = torch.nan
        return gradient, blocks

    monkeypatch.setattr(Energy, "expanded", broken)
    first, second = refine_tracks(dict(enumerate(people[:2])), CAMERA, BODY).values()
    np.testing.assert_allclose(first.body_pose, people[0][0].body_pose, atol=1e-5)
    assert np.abs(first.body_pose - wanted[0].body_pose).max() > 1e-3
    assert_same(second, wanted[1])


def test_on_cuda_no_step_waits_for_the_device_or_copies_to_it(people):
    params, clean = people[1]
    waits, uploads = [], []
    for steps in (1, 2):
        with ClaimedCuda() as mode:
            refined = refine_tracks({1: (params, clean)}, CAMERA, BODY, CUDA, RefineOptions(steps=steps))[1]
        waits.append(sum(mode.waits.values()))
        uploads.append(mode.uploads)
    assert waits[0] == waits[1]
    assert uploads[0] == uploads[1]
    wanted = refine_tracks({1: (params, clean)}, CAMERA, BODY, options=RefineOptions(steps=2))[1]
    np.testing.assert_allclose(refined.body_pose, wanted.body_pose, atol=1e-4)


def alone(params, clean):
    """Refined by itself."""
    return refine_tracks({1: (params, clean)}, CAMERA, BODY)[1]


def assert_same(refined, wanted):
    np.testing.assert_allclose(refined.body_pose, wanted.body_pose, atol=1e-5)
    np.testing.assert_allclose(refined.transl_c, wanted.transl_c, atol=1e-5)
