from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic_person import (
    BODY,
    CAMERA,
    LANDMARKS,
    LIMBS,
    arrays_of,
    corrupted,
    keypoints_of,
    make_person,
    pose_body,
    reprojection_percent,
    root_relative_mm,
    track_of,
)  # fmt: skip

from hmrkit.body.landmarks import world_from_local
from hmrkit.camera import project
from hmrkit.errors import UsageError
from hmrkit.fitting.inverse_kinematics import solve_pose
from hmrkit.fitting.observations import FitOptions, clean_track
from hmrkit.fitting.resting_feet import hold_still
from hmrkit.fitting.stream import fit_track
from hmrkit.skeletons import BLAZEPOSE_33, COCO_17, SMPL_24
from hmrkit.smoothing import smooth_series
from hmrkit.types import Keypoints

RAW = FitOptions(smooth=False)


def fit(person, options=None, keypoints=None):
    clean = clean_track(person.track, keypoints or person.keypoints, person.camera, person.times, options)
    return fit_track(clean, person.camera, BODY, options)


def test_landmarks_without_vertices_equal_those_of_the_mesh():
    person = make_person(2)
    mesh = BODY(person.world[:, 0], local_of(person.world)[:, 1:], torch.from_numpy(person.betas), pose_blend=False)
    expected = BODY.keypoints(mesh.vertices)[:, [BODY.keypoint_names.index(n) for n in COCO_17.joints]]
    points, joints = LANDMARKS(person.world, torch.from_numpy(person.betas))
    torch.testing.assert_close(joints, mesh.joints, atol=1e-5, rtol=0)
    torch.testing.assert_close(points[:, BLAZEPOSE_33.indices(*COCO_17.joints)], expected, atol=2e-5, rtol=0)


def local_of(world):
    above = torch.tensor(SMPL_24.parents[1:])
    return torch.cat([world[:, :1], world[:, above].mT @ world[:, 1:]], 1)


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_limbs_are_found_exactly_without_noise(clip):
    # Shape known: what remains is how the spine bends between hips and shoulders, which no landmark shows, and that the
    # pelvis's tip allows for the bias of BlazePose's landmarks, which these do not have.
    person = make_person(clip)
    times = np.arange(len(person.landmarks)) / 30
    seen = torch.from_numpy(person.landmarks)
    local = solve_pose(seen, torch.ones(seen.shape[:2]), times, LANDMARKS, torch.from_numpy(person.betas))
    points, _ = LANDMARKS(world_from_local(local), torch.from_numpy(person.betas))
    assert root_relative_mm(points.numpy(), person.landmarks) < 13
    orthonormal = local @ local.mT - torch.eye(3)
    assert orthonormal.abs().max() < 1e-4
    assert torch.linalg.det(local).min() > 0.99


@pytest.mark.parametrize("clip", [0, 1, 2])
def test_upper_arms_rotate_about_their_length_and_faces_stand_as_captured(clip):
    person = make_person(clip)
    times, betas = np.arange(len(person.landmarks)) / 30, torch.from_numpy(person.betas)
    seen = torch.from_numpy(person.landmarks)
    world = world_from_local(solve_pose(seen, torch.ones(seen.shape[:2]), times, LANDMARKS, betas))
    arms = SMPL_24.indices("left_shoulder", "right_shoulder")
    trace = (world[:, arms] * person.world[:, arms]).sum((-1, -2))
    assert torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos()).median() < 8
    nose, hips = BLAZEPOSE_33.index["nose"], BLAZEPOSE_33.indices("left_hip", "right_hip")
    off = [points[:, nose] - points[:, hips].mean(1) for points in (LANDMARKS(world, betas)[0], seen)]
    assert (off[0] - off[1]).norm(dim=-1).mean() < 0.01


@pytest.mark.parametrize("yaw", [0.0, 1.5, 3.1])
def test_fit_without_noise_is_near_truth_from_every_side(yaw):
    person = make_person(1, yaw=yaw)
    params = fit(person, RAW)
    points, _ = pose_body(params)
    assert reprojection_percent(params, person) < 1
    assert root_relative_mm(points, person.landmarks) < 25
    assert np.linalg.norm(params.transl_c - person.joints[:, 0], axis=-1).mean() < 0.1


def test_shape_and_distance_follow_a_tall_thin_person():
    short, tall = (fit(make_person(0, betas=[b] + [0] * 9), RAW) for b in (-1.5, 1.5))
    stature = [np.ptp(BODY(betas=p.betas).vertices[0, :, 1].numpy()) for p in (short, tall)]
    assert stature[1] - stature[0] > 0.02  # most of it is scale, which an image does not show


def test_noise_is_reduced_and_keypoints_are_met():
    gained = []
    for seed, clip in enumerate((0, 1, 2)):
        person = corrupted(make_person(clip, yaw=seed * 1.2), seed)
        params = fit(person)
        gained.append(
            root_relative_mm(pose_body(params)[0], person.landmarks)
            / root_relative_mm(person.keypoints.joints_3d, person.landmarks)
        )
        assert reprojection_percent(params, person) < 3
    assert np.mean(gained) < 0.95


def test_dropped_frames_and_landmarks_are_bridged():
    person = make_person(1)
    flat, deep = arrays_of(person.keypoints)
    flat[20:24], deep[20:24] = np.nan, np.nan
    flat[20:24, :, 2] = 0
    wrist = BLAZEPOSE_33.index["left_wrist"]
    flat[30:34, wrist, :2], deep[30:34, wrist], flat[30:34, wrist, 2] = np.nan, np.nan, 0
    whole, holed = fit(person), fit(person, keypoints=Keypoints(flat, deep, BLAZEPOSE_33.name))
    apart = np.linalg.norm(pose_body(whole)[0] - pose_body(holed)[0], axis=-1)[:, LIMBS]
    assert np.isfinite(apart).all()
    assert apart.max() < 0.12
    assert apart.mean() < 0.025


def test_sides_exchanged_for_a_few_frames_are_put_right():
    person = make_person(0)
    flat, deep = arrays_of(person.keypoints)
    mirror = list(BLAZEPOSE_33.mirror)
    flat[25:30], deep[25:30] = flat[25:30][:, mirror], deep[25:30][:, mirror]
    legs = [i for i, n in enumerate(BLAZEPOSE_33.joints) if any(w in n for w in ("knee", "ankle", "heel", "foot"))]
    flat[40:43, legs], deep[40:43, legs] = (a[40:43][:, [mirror[i] for i in legs]] for a in (flat, deep))
    exchanged = fit(person, keypoints=Keypoints(flat, deep, BLAZEPOSE_33.name))
    apart = np.linalg.norm(pose_body(fit(person))[0] - pose_body(exchanged)[0], axis=-1)
    assert apart.max() < 0.01


def test_a_depth_that_rotates_over_is_no_exchange_of_sides():
    person = make_person(0)
    flat, deep = arrays_of(person.keypoints)
    deep[25:30] = deep[25:30][:, list(BLAZEPOSE_33.mirror)]
    rotated = Keypoints(flat, deep, BLAZEPOSE_33.name)
    clean, kept = (
        clean_track(person.track, keypoints, CAMERA, person.times, FitOptions()).pixels
        for keypoints in (rotated, person.keypoints)
    )
    np.testing.assert_allclose(clean, kept, atol=1e-3)


def test_a_spike_leaves_no_trace():
    person = make_person(1)
    flat, deep = arrays_of(person.keypoints)
    ankle = BLAZEPOSE_33.index["right_ankle"]
    flat[25, ankle, :2] += 300
    deep[25, ankle] += 0.8
    spiked = fit(person, keypoints=Keypoints(flat, deep, BLAZEPOSE_33.name))
    assert np.linalg.norm(pose_body(fit(person))[0] - pose_body(spiked)[0], axis=-1).max() < 0.03


def test_a_still_person_stays_still_under_jitter():
    one = make_person(0, slice(10, 11))
    still = np.repeat(one.landmarks, 90, 0)
    rng = np.random.default_rng(0)
    height = one.track.boxes_xyxy[0, 3] - one.track.boxes_xyxy[0, 1]
    flat = np.repeat(project(CAMERA, one.landmarks), 90, 0)
    pixels = (flat + rng.normal(0, 0.005 * height, flat.shape)).astype(np.float32)
    noisy = (still + rng.normal(0, 0.012, still.shape)).astype(np.float32)
    person = replace(one, track=track_of(np.repeat(flat[:1], 90, 0)), keypoints=keypoints_of(pixels, noisy))
    _, joints = pose_body(fit(person))
    jitter = np.linalg.norm(np.diff(joints, axis=0), axis=-1)
    assert np.median(jitter) < 0.004  # the landmarks themselves step by 25 mm
    assert np.linalg.norm(joints - joints.mean(0), axis=-1).max() < 0.1


def test_knees_bend_forwards_only():
    person = corrupted(make_person(2), 5)
    pose = fit(person).body_pose[:, [SMPL_24.index["left_knee"] - 1, SMPL_24.index["right_knee"] - 1]]
    shin = pose @ np.array([0.0, -1, 0])  # rest shin in the thigh's frame, rotated
    assert shin[..., 2].max() < 0.09  # in front of the thigh's line by at most five degrees


def test_single_frame_and_pair_of_frames_work():
    person = make_person(0)
    for count in (1, 2, 3):
        part = make_person(0, slice(0, count))
        params = fit(part)
        assert params.transl_c.shape == (count, 3)
        assert reprojection_percent(params, part) < 1.5
    assert fit(person).betas.shape == (10,)


def test_frame_rate_changes_little():
    fast, slow = fit(make_person(1, slice(0, 60))), fit(make_person(1, slice(0, 60, 3)))
    apart = pose_body(fast)[0][::3] - pose_body(slow)[0]
    assert np.linalg.norm(apart - apart.mean(1, keepdims=True), axis=-1).mean() < 0.02


def test_landmarks_that_are_never_seen_do_no_harm():
    person = make_person(0)
    flat, deep = arrays_of(person.keypoints)
    gone = [i for i in range(33) if i not in LIMBS]
    flat[:, gone, 2], deep[:, gone] = 0, np.nan
    params = fit(person, keypoints=Keypoints(flat, deep, BLAZEPOSE_33.name))
    assert np.isfinite(params.body_pose).all()
    assert reprojection_percent(params, person) < 1.5


def test_other_skeletons_and_empty_tracks_are_refused():
    person = make_person(0, slice(0, 3))
    with pytest.raises(UsageError, match="blazepose-33"):
        fit(person, keypoints=Keypoints(person.keypoints.keypoints_2d[:, :17], None, "coco-17"))
    nothing = np.full((3, 33, 3), np.nan, np.float32)
    with pytest.raises(UsageError, match="no keypoints"):
        fit(person, keypoints=Keypoints(nothing, nothing, BLAZEPOSE_33.name))


def test_a_foot_that_stands_keeps_its_depth():
    times = np.arange(40) / 20
    depth = 4 + 0.05 * np.sin(9 * times)
    contact = np.zeros(39)
    contact[5:15] = contact[25:35] = 1
    held = hold_still(depth, contact, times)
    for stand in (slice(5, 16), slice(25, 36)):  # a stand of ten steps has eleven frames
        assert np.ptp(held[stand]) < 1e-9
        assert held[stand].mean() == pytest.approx(depth[stand].mean())
    assert np.abs(np.diff(held)).max() < 2 * np.abs(np.diff(depth)).max()
    np.testing.assert_array_equal(hold_still(depth, np.zeros(39), times), depth)


def test_smoothing_is_without_delay_and_the_same_in_one_window_or_many():
    times = np.arange(200) / 30
    wave = np.sin(2 * np.pi * times)[:, None, None]
    smooth = smooth_series(wave, np.ones((200, 1)), times, 0.01, 3.0)
    assert np.abs(smooth - wave)[6:-6].max() < 0.01
    part = smooth_series(wave[20:110], np.ones((90, 1)), times[20:110], 0.01, 3.0)
    assert np.abs(part - smooth[20:110])[15:-15].max() < 2e-3


@pytest.mark.parametrize("rate", [15, 60, 240, "variable"])
def test_a_motion_is_smoothed_alike_at_any_rate(rate):
    """A swing with jitter, seen at another rate than 30 Hz; counted in frames, a variable rate errs by 0.08."""

    def smoothed(times):
        jitter = 0.01 * np.sin(2 * np.pi * 6.3 * times + 1)
        return smooth_series((np.sin(3 * times) + jitter)[:, None, None], np.ones((len(times), 1)), times, 0.04, 12.0)

    steps = np.random.default_rng(0).choice([1 / 60, 1 / 30, 1 / 15], 120)
    times = np.cumsum(steps) if rate == "variable" else np.arange(4 * rate) / rate
    usual = np.arange(0, 6, 1 / 30)
    wanted = np.interp(times, usual, smoothed(usual)[:, 0, 0])
    found = smoothed(times)[:, 0, 0]
    inside = slice(len(times) // 10, -len(times) // 10)
    assert np.abs(found - wanted)[inside].max() < 0.01
    # Windows meet without a step.
    assert np.abs(np.diff(found - np.sin(3 * times)) / np.diff(times))[inside].max() < 0.3
