"""What is to be seen of a take: every row on its frame, in the place where the meshes are."""

from dataclasses import replace

import numpy as np
import pytest

from hmrkit.errors import InputError, UsageError
from hmrkit.meshes import mesh_slice
from hmrkit.types import LiftedPose
from hmrkit.viewing.clip import make_clip


def test_every_row_of_a_track_is_on_its_own_frame(take, models):
    clip = make_clip(take, models)
    assert clip.frames.tolist() == list(range(10, 20))
    assert [person.track_id for person in clip.people] == [1, 2]
    assert clip.people[0].rows.tolist() == [0, 1, 2, -1, 3, 4, -1, -1, -1, -1]
    assert clip.people[1].rows.tolist() == [-1, -1, -1, -1, -1, -1, 0, 1, 2, -1]
    for person in clip.people:
        joints = mesh_slice(replace(take, calibrated={}), person.track_id, slice(None), models).joints_c
        np.testing.assert_array_equal(person.posed.places, joints)
    assert clip.people[0].goal is None
    np.testing.assert_array_equal(clip.people[1].goal.places, take.calibrated[2].joints_c)


def test_a_row_that_is_missing_is_not_shown(take, models):
    body = replace(take.body[1], transl_c=take.body[1].transl_c.copy())
    body.transl_c[1] = np.nan
    clip = make_clip(replace(take, body={**take.body, 1: body}), models)
    assert clip.people[0].rows.tolist() == [0, -1, 2, -1, 3, 4, -1, -1, -1, -1]
    assert np.isfinite(clip.world_from_camera).all()


def test_the_world_is_rigid_and_its_ground_is_under_the_people(take, models):
    clip = make_clip(take, models)
    rotation = clip.world_from_camera[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-6)
    assert clip.leveled
    heights = [mesh_slice(take, i, slice(None), models).vertices_c @ rotation[1] for i in (1, 2)]
    lowest = min(float(h.min()) for h in heights) + clip.world_from_camera[1, 3]
    assert abs(lowest) < 0.5
    camera = make_clip(take, models, space="camera")
    np.testing.assert_allclose(camera.world_from_camera, np.diag([1.0, -1, -1, 1]), atol=1e-12)
    assert not camera.leveled


def test_people_are_chosen_and_lifted_poses_come_along(take, models):
    lifted = {2: LiftedPose(np.zeros((3, 17, 3), np.float32), "h36m-17")}
    clip = make_clip(replace(take, lifted=lifted), models, people=[2])
    assert [person.track_id for person in clip.people] == [2]
    assert len(clip.people[0].lifted.bones) == 16


def test_what_is_not_there_is_said(take, models):
    with pytest.raises(UsageError, match="no person 7 with a mesh; the take has 1, 2"):
        make_clip(take, models, people=[7])
    with pytest.raises(UsageError, match="unknown --space"):
        make_clip(take, models, space="moon")
    with pytest.raises(InputError, match="went through no `detect`"):
        make_clip(replace(take, body={}, calibrated={}, provenance={}), models)
    assert make_clip(replace(take, tracks=(), body={}, calibrated={}), models).people == ()


def test_frames_are_shown_for_their_own_times(take, models):
    """Of a variable rate: 0.1 s, 0.4 s, 0.1 s, and the last for a usual frame; then it starts again."""
    clip = replace(make_clip(take, models), times=3 + np.array([0, 0.1, 0.5, 0.6]), fps=5.0)
    shown = [clip.frame_after(0, t)[0] for t in (0.05, 0.1, 0.49, 0.5, 0.65, 0.79, 0.81)]
    assert shown == [0, 1, 1, 2, 3, 3, 0]
    place, kept = clip.frame_after(1, 0.42)
    assert (place, kept) == (2, pytest.approx(0.02))
