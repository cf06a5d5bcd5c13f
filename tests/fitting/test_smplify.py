from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_person import (
    BODY,
    CAMERA,
    arrays_of,
    corrupted,
    keypoints_of,
    make_person,
    pose_body,
    reprojection_percent,
    root_relative_mm,
)  # fmt: skip

from hmrkit.body.pose_prior import load_pose_prior
from hmrkit.camera import project
from hmrkit.fitting.banded import spline_basis
from hmrkit.fitting.observations import FitOptions, clean_track
from hmrkit.fitting.penalties import RefineOptions, geman_mcclure
from hmrkit.fitting.smplify import refine_tracks
from hmrkit.fitting.stream import fit_track
from hmrkit.geometry import matrix_to_axis_angle
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24


def fit_and_refine(person, **options):
    clean = clean_track(person.track, person.keypoints, person.camera, person.times)
    fitted = fit_track(clean, person.camera, BODY)
    refined = refine_tracks({1: (fitted, clean)}, person.camera, BODY, options=RefineOptions(**options))[1]
    return fitted, refined


@pytest.fixture(scope="module")
def noisy():
    """Three noisy people, each fitted and refined."""
    people = [corrupted(make_person(clip, yaw=clip * 1.2), clip) for clip in range(3)]
    return [(person, *fit_and_refine(person)) for person in people]


def test_refinement_meets_the_keypoints_better(noisy):
    percent = [[reprojection_percent(p, person) for p in (fitted, refined)] for person, fitted, refined in noisy]
    assert np.mean(percent, 0)[1] < np.mean(percent, 0)[0]
    assert np.max(percent, 0)[1] < 1.3


def test_refinement_comes_nearer_to_the_truth_than_fit_and_landmarks(noisy):
    errors = [
        [root_relative_mm(p, person.landmarks) for p in (person.keypoints.joints_3d, pose_body(f)[0], pose_body(r)[0])]
        for person, f, r in noisy
    ]
    landmarks, fitted, refined = np.mean(errors, 0)
    assert refined < 0.92 * fitted
    assert refined < 0.85 * landmarks


def test_refinement_makes_poses_likelier(noisy):
    prior = load_pose_prior()
    for _, fitted, refined in noisy:
        energy = [prior(matrix_to_axis_angle(torch.from_numpy(p.body_pose))).mean() for p in (fitted, refined)]
        assert energy[1] < energy[0]


def test_rotations_stay_rotations_and_shape_is_kept(noisy):
    for _, fitted, refined in noisy:
        pose = refined.body_pose
        assert np.abs(pose @ pose.swapaxes(-1, -2) - np.eye(3)).max() < 1e-4
        np.testing.assert_array_equal(fitted.betas, refined.betas)


def test_knees_and_elbows_do_not_bend_backwards(noisy):
    for _, _, refined in noisy:
        axis = matrix_to_axis_angle(torch.from_numpy(refined.body_pose)).numpy()
        for name, component, sign in (("left_knee", 0, 1), ("right_knee", 0, 1), ("left_elbow", 1, -1)):
            assert (sign * axis[:, SMPL_24.index[name] - 1, component]).min() > -0.3


def test_chunks_join_without_a_seam():
    person = make_person(1, slice(0, 90))
    _, whole = fit_and_refine(person)
    _, pieces = fit_and_refine(person, chunk=50, overlap=15)
    a, b = pose_body(whole)[0], pose_body(pieces)[0]
    assert np.linalg.norm(a - b, axis=-1).mean() < 0.02
    bend = [np.linalg.norm(np.diff(p, 2, axis=0), axis=-1).max() for p in (a, b)]
    assert bend[1] < 1.3 * bend[0]


def test_single_frames_and_missing_frames_work():
    one = make_person(0, slice(0, 1))
    _, refined = fit_and_refine(one, steps=2)
    assert reprojection_percent(refined, one) < 1
    person = make_person(0, slice(0, 20))
    flat, deep = arrays_of(person.keypoints)
    flat[5:8], deep[5:8], flat[5:8, :, 2] = np.nan, np.nan, 0
    holed = replace(person, keypoints=type(person.keypoints)(flat, deep, BLAZEPOSE_33.name))
    _, refined = fit_and_refine(holed, steps=1)
    assert np.isfinite(refined.body_pose).all()
    assert np.isfinite(refined.transl_c).all()


def test_standing_feet_are_recognised_and_held():
    # One pose; the left foot's landmarks rest, the body sways about it: what sways is not a foot in contact.
    one = make_person(0, slice(10, 11))
    times = np.arange(60) / 30
    points = np.repeat(one.landmarks, 60, 0)
    left = BLAZEPOSE_33.indices("left_heel", "left_foot_index")
    feet = left + BLAZEPOSE_33.indices("right_heel", "right_foot_index")
    other = [i for i in range(33) if i not in left]
    points[:, other, 0] += 0.15 * np.sin(4 * times)[:, None].astype(np.float32)
    pixels = project(CAMERA, points)
    person = replace(one, keypoints=keypoints_of(pixels, points), track=repeated(one.track, 60))
    clean = clean_track(person.track, person.keypoints, CAMERA, person.times, FitOptions())
    contact = clean.still_feet(feet)
    assert contact[:, :2].min() > 0.9
    assert contact[:, 2:].mean() < 0.7
    fitted, refined = fit_and_refine(person)
    slip = [np.linalg.norm(np.diff(pose_body(p)[0][:, left], axis=0), axis=-1).mean() * 30 for p in (fitted, refined)]
    assert slip[1] < slip[0]


def repeated(track, count):
    boxes = np.repeat(track.boxes_xyxy, count, 0)
    return replace(
        track, frame_indices=np.arange(count), boxes_xyxy=boxes, scores=np.ones(count, np.float32),
        interpolated=np.zeros(count, bool),
    )  # fmt: skip


def test_spline_basis_reproduces_constants_and_slow_curves():
    times = np.arange(90) / 30
    basis = spline_basis(times, 0.15).double()
    torch.testing.assert_close(basis.sum(1), torch.ones(90, dtype=torch.float64), atol=1e-6, rtol=0)
    curve = torch.from_numpy(np.sin(2 * np.pi * times))
    fitted = basis @ torch.linalg.lstsq(basis, curve[:, None]).solution
    assert (fitted[:, 0] - curve).abs().max() < 5e-3
    assert spline_basis(np.arange(10) / 5, 0.15).equal(torch.eye(10))


def test_outliers_level_off():
    far = geman_mcclure(torch.tensor([1.0, 10.0]), 0.01, 0.05)
    assert far[1] / far[0] < 1.01
    assert geman_mcclure(torch.tensor(0.001), 0.01, 0.05) == pytest.approx(0.005, rel=1e-2)
