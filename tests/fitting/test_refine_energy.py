"""The energy of ``--refine``: its derivatives, its banded matrix, and what a device has to wait for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from claimed_cuda import CUDA, ClaimedCuda
from synthetic_person import BODY, CAMERA, corrupted, make_person

from hmrkit.body.landmarks import body_landmarks
from hmrkit.body.pose_prior import load_pose_prior
from hmrkit.fitting.banded import KnotBlocks, solve_banded, spline_basis
from hmrkit.fitting.observations import clean_track
from hmrkit.fitting.refine_energy import Energy, Piece, RefineOptions
from hmrkit.fitting.smplify import _descend, refine_track, refine_tracks
from hmrkit.fitting.stream import fit_track


def fitted(clip, frames):
    person = corrupted(make_person(clip, frames, yaw=clip * 1.2), clip)
    clean = clean_track(person.track, person.keypoints, CAMERA, person.times)
    return fit_track(clean, CAMERA, BODY), clean


@pytest.fixture(scope="module")
def people():
    """Two short tracks, 30 Hz and 6 Hz (a knot a frame), and one of a single frame."""
    return [fitted(0, slice(0, 14)), fitted(1, slice(0, 40, 5)), fitted(2, slice(3, 4))]


@pytest.fixture(scope="module")
def energy(people):
    pieces = []
    for params, clean in people:
        rotations = np.concatenate([params.global_orient[:, None], params.body_pose], 1)
        pieces.append(Piece(clean, rotations, params.transl_c, np.tile(params.betas, (len(rotations), 1))))
    return Energy(pieces, CAMERA, body_landmarks(BODY), load_pose_prior(), RefineOptions())


def test_the_gradient_is_that_of_the_value(energy):
    generator = torch.Generator().manual_seed(0)
    knots = 0.05 * torch.randn(energy.basis.shape[1], 75, generator=generator)
    knots.requires_grad_()
    (gradient,) = torch.autograd.grad(energy.value(energy.bodies(knots)).sum(), knots)
    with torch.no_grad():
        expansion = energy.expanded(knots)
    assert (expansion.gradient - gradient).norm() < 1e-5 * gradient.norm()


def test_few_steps_come_near_to_where_many_end(energy):
    with torch.no_grad():
        start, few, many = (
            energy.value(energy.bodies(_descend(energy, RefineOptions(steps=steps)))) for steps in (0, 3, 12)
        )
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
    knots = KnotBlocks(bases, torch.device("cpu"))
    lower = knots(blocks)
    for d in range(count):
        own = torch.stack([wanted[m + d, :, m] for m in range(count - d)])
        found = lower[: count - d, d] if d <= knots.width else torch.zeros_like(own)
        torch.testing.assert_close(found, own, atol=1e-4, rtol=1e-5)
    right = torch.randn(count, size, generator=generator)
    dense = wanted.reshape(count * size, -1) + torch.eye(count * size)
    lower[:, 0] += torch.eye(size)
    expected = torch.linalg.solve(dense, right.flatten()).view(count, size)
    torch.testing.assert_close(solve_banded(lower, right), expected, atol=1e-5, rtol=1e-4)


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
    together = refine_tracks(people, CAMERA, BODY)
    for (params, clean), refined in zip(people, together, strict=True):
        alone = refine_track(params, clean, CAMERA, BODY)
        np.testing.assert_allclose(refined.body_pose, alone.body_pose, atol=1e-4)
        np.testing.assert_allclose(refined.transl_c, alone.transl_c, atol=1e-4)


def test_frames_without_a_body_stay_without_and_harm_nobody(people):
    (params, clean), (second, seen) = people[:2]
    pose = params.body_pose.copy()
    pose[4] = np.nan
    empty = replace(second, transl_c=np.full_like(second.transl_c, np.nan))
    holed, missing, whole = refine_tracks(
        [(replace(params, body_pose=pose), clean), (empty, seen), (second, seen)], CAMERA, BODY
    )
    assert np.isnan(holed.body_pose[4]).all()
    assert np.isfinite(np.delete(holed.body_pose, 4, 0)).all()
    assert np.isnan(missing.transl_c).all()
    np.testing.assert_allclose(whole.body_pose, refine_track(second, seen, CAMERA, BODY).body_pose, atol=1e-4)
    assert refine_tracks([], CAMERA, BODY) == []


def test_on_cuda_no_step_waits_for_the_device(people):
    params, clean = people[1]
    waits = []
    for steps in (1, 2):
        with ClaimedCuda() as mode:
            refined = refine_track(params, clean, CAMERA, BODY, CUDA, RefineOptions(steps=steps))
        waits.append(sum(mode.waits.values()))
    assert waits[0] == waits[1]
    wanted = refine_track(params, clean, CAMERA, BODY, options=RefineOptions(steps=2))
    np.testing.assert_allclose(refined.body_pose, wanted.body_pose, atol=1e-4)
