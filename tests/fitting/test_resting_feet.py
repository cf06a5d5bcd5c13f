"""A foot that rests keeps its depth in the world: before a camera that stands and one that zooms."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_person import BODY, CAMERA, keypoints_of, knee_flexion_deg, make_person, track_of

from hmrkit.body.posing import skeleton_joints
from hmrkit.camera import project
from hmrkit.fitting.observations import clean_track
from hmrkit.fitting.resting_feet import hold_still, shared_drift, slow_course
from hmrkit.fitting.smplify import refine_tracks
from hmrkit.fitting.stream import fit_track

TIMES = np.arange(120) / 30
RESTING = np.ones(119)


def test_a_course_keeps_lines_and_loses_noise():
    line = 3 - 0.3 * TIMES
    np.testing.assert_allclose(slow_course(line, TIMES), line, atol=1e-9)  # to its ends
    noisy = line + np.random.default_rng(0).normal(0, 0.03, 120)
    assert np.abs(slow_course(noisy, TIMES) - line).max() < 0.03


def test_only_a_drift_of_foot_and_person_together_is_the_cameras():
    zoom, squat = 4 - 0.3 * TIMES, 0.2 * np.cos(2 * TIMES)
    noise = 0.1 * np.sin(3 * TIMES + 1)
    with_camera = hold_still(zoom + 0.02 * np.sin(9 * TIMES), RESTING, TIMES, zoom + squat / 4)
    assert np.ptp(with_camera - zoom) < 0.15
    for foot, own in ((4 + noise, 4 + squat), (4 + noise, zoom), (zoom, 4 + 0 * zoom)):
        assert np.ptp(hold_still(foot, RESTING, TIMES, own)) < 0.05
    assert not shared_drift(zoom, zoom, 0 * RESTING, TIMES).any()
    step = slice(0, 20)  # walking towards the camera, the body passes over the foot
    assert not shared_drift(zoom[step], zoom[step], RESTING[:19], TIMES[step]).any()


@pytest.mark.parametrize("refined", [False, True])
def test_a_slow_zoom_makes_nobody_kneel(refined):
    """The image of a standing person, scaled by 1 to 1.46 about its middle over four seconds."""
    one, times = make_person(0, slice(10, 11)), np.arange(21) / 5
    scale = 1 + 0.46 * times / times[-1]
    points = np.repeat(one.landmarks, 21, 0)
    pixels = (project(CAMERA, points) - CAMERA.center_px) * scale[:, None, None] + CAMERA.center_px
    pixels = pixels.astype(np.float32)
    person = replace(one, track=track_of(pixels), keypoints=keypoints_of(pixels, points), fps=5.0)
    clean = clean_track(person.track, person.keypoints, CAMERA, times)
    fitted = fit_track(clean, CAMERA, BODY)
    if refined:
        fitted = refine_tracks({1: (fitted, clean)}, CAMERA, BODY)[1]
    found = knee_flexion_deg(skeleton_joints(BODY, fitted))
    assert fitted.transl_c[0, 2] / fitted.transl_c[-1, 2] == pytest.approx(1.46, abs=0.1)
    assert np.abs(found - knee_flexion_deg(one.joints)).max() < 12
