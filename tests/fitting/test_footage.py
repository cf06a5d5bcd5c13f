"""A refined fit of a man in a room who turns and walks off: twenty frames of the clip that ships."""

import numpy as np
import pytest
from conftest import DATA
from synthetic_person import BODY, LIMBS, knee_flexion_deg, pose_body, track_of

from hmrkit.camera import assume_camera, project
from hmrkit.fitting.observations import clean_track
from hmrkit.fitting.smplify import refine_tracks
from hmrkit.fitting.stream import fit_track
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.types import Keypoints

CAMERA = assume_camera(768, 432)


@pytest.fixture(scope="module")
def observed():
    """What detection and BlazePose make of the frames."""
    stored = np.load(DATA / "one_by_one_keypoints.npz")
    track = track_of(stored["keypoints_2d"][..., :2], stored["boxes_xyxy"])
    return track, Keypoints(stored["keypoints_2d"], stored["joints_3d"], BLAZEPOSE_33.name)


@pytest.fixture(scope="module")
def bodies(observed):
    """Fitted, and refined."""
    clean = clean_track(*observed, CAMERA, np.arange(20) / 10)
    fitted = fit_track(clean, CAMERA, BODY)
    return fitted, refine_tracks({1: (fitted, clean)}, CAMERA, BODY)[1]


def test_the_body_meets_the_keypoints(observed, bodies):
    """In percent of the person's height."""
    track, points = observed
    height = track.boxes_xyxy[:, 3] - track.boxes_xyxy[:, 1]
    apart = [project(CAMERA, pose_body(body)[0]) - points.keypoints_2d[..., :2] for body in bodies]
    fitted, refined = (100 * np.linalg.norm(a[:, LIMBS], axis=-1) / height[:, None] for a in apart)
    assert np.median(refined) < 0.9 * np.median(fitted)
    assert np.median(refined) < 1.1
    assert refined.mean() < 2.2


def test_the_body_moves_smoothly(bodies):
    fitted, refined = (np.linalg.norm(np.diff(pose_body(body)[1], 2, axis=0), axis=-1).mean() for body in bodies)
    assert 0.3 * fitted < refined < 0.75 * fitted


def test_the_man_stands_upright_then_walks(bodies):
    joints = pose_body(bodies[1])[1]
    neck, pelvis, ankles = (
        joints[:, list(SMPL_24.indices(*names))].mean(1)
        for names in (("neck",), ("pelvis",), ("left_ankle", "right_ankle"))
    )
    trunk, legs = neck - pelvis, pelvis - ankles
    assert (trunk[:, 1] < 0).all()  # y is down
    cosine = (trunk * legs).sum(1) / np.linalg.norm(trunk, axis=1) / np.linalg.norm(legs, axis=1)
    assert np.degrees(np.arccos(cosine)).max() < 18
    bend = knee_flexion_deg(joints)
    assert bend[:8].min() > 5
    assert bend[:8].max() < 30
    assert 50 < bend.max() < 90
