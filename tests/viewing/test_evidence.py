"""Confidence and foot contact of a person, and the strip that shows them."""

from dataclasses import replace

import numpy as np

from hmrkit.viewing.clip import make_clip
from hmrkit.viewing.evidence import FEET, GROUND_COLOUR, LANE_PX, evidence_of, strip

UP = np.array([0.0, -1.0, 0.0])


def still(take, track_id):
    """The person in the first of their poses all the time: both feet rest."""
    params = take.body[track_id]

    def hold(x):
        return np.broadcast_to(x[:1], x.shape).copy()

    held = replace(
        params,
        global_orient=hold(params.global_orient),
        body_pose=hold(params.body_pose),
        transl_c=hold(params.transl_c),
    )
    return replace(take, body=take.body | {track_id: held})


def test_who_keeps_still_stands_and_who_moves_does_not(take, models):
    moving = evidence_of(take, take.track(1), models, UP).contact
    resting = evidence_of(still(take, 1), take.track(1), models, UP).contact
    assert resting[:3].any(1).all()  # the lower foot at least; frame 13 is missing, two more are too short a stand
    assert not resting[3:].any()
    assert not moving.any()


def test_confidence_is_the_keypoints_else_the_detections(take, models):
    track = replace(take.track(1), scores=np.array([0.5, np.nan, 0.5, 0.5, 0.5], np.float32))
    with_points = evidence_of(take, track, models, UP).confidence
    np.testing.assert_allclose(with_points, take.keypoints[1].keypoints_2d[..., 2].mean(1))
    without = evidence_of(replace(take, keypoints={}), track, models, UP).confidence
    np.testing.assert_array_equal(without, track.scores)


def test_the_strip_has_a_lane_a_person(take, models):
    clip = make_clip(still(take, 1), models, space="camera")
    image = strip(clip.people, 100)
    assert image.shape == (2 * LANE_PX, 100, 3)
    ground = (image == GROUND_COLOUR).all(-1)
    seen = ~ground[5]
    np.testing.assert_array_equal(seen.reshape(10, 10).all(1), clip.people[0].rows >= 0)
    assert not ground[FEET[0], 5].all() or not ground[FEET[1], 5].all()
    sure, unsure = clip.people[0].evidence.confidence[[0, 1]]
    assert (image[5, 5].sum() > image[5, 15].sum()) == (sure > unsure)
