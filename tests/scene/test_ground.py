"""The ground and gravity, found again where they are known."""

import numpy as np
import pytest
import torch
from synthetic_person import BODY, make_motion_of, make_person

from hmrkit.errors import UsageError
from hmrkit.scene.foot_contact import sole_points, standing, stretches
from hmrkit.scene.ground import estimate_world, find_levels, fit_ground, from_plane
from hmrkit.scene.resampling import Motion
from hmrkit.types import BodyParams

PITCH = 0.15  # of the camera, as `make_person` tilts it


@pytest.fixture(scope="module")
def walker():
    return make_person(clip=0, frames=slice(0, 200))


def test_people_stand_on_the_ground_and_gravity_points_down(walker):
    motion = make_motion_of(walker)
    world = estimate_world([motion], BODY, walker.fps)
    true_up = np.array([0, -np.cos(PITCH), -np.sin(PITCH)])
    assert np.degrees(np.arccos(world.up_c @ true_up)) < 4
    soles = sole_points(BODY, motion.params)
    stands = standing(soles, walker.fps, world.up_c)
    heights = world.height(soles).min(-1)[stands]
    assert abs(np.median(heights)) < 0.02
    assert np.abs(heights).max() < 0.12
    assert np.allclose(world.world_from_camera[:3, :3] @ world.up_c, [0, 1, 0], atol=1e-9)
    assert world.stands > 2


def test_everybody_shares_one_ground(walker):
    """A second person, two metres aside on the same ground, changes where it is found by little."""
    right = np.array([2.0, 0, 0])
    one = estimate_world([make_motion_of(walker)], BODY, walker.fps)
    two = estimate_world([make_motion_of(walker), make_motion_of(walker, 2, right)], BODY, walker.fps)
    assert two.stands == 2 * one.stands
    assert np.degrees(np.arccos(min(one.up_c @ two.up_c, 1))) < 2
    np.testing.assert_allclose(two.world_from_camera[1, 3], one.world_from_camera[1, 3], atol=0.1)


def test_a_plane_is_found_through_wrong_points():
    random = np.random.default_rng(0)
    up = np.array([0.1, -0.95, -0.2])
    up /= np.linalg.norm(up)
    places = random.uniform([-3, 0, 2], [3, 0, 12], (60, 3))
    points = places - ((places @ up) + 1.4)[:, None] * up + random.normal(0, 0.01, (60, 3))
    points[:12] += random.uniform(0.3, 1.0, (12, 1)) * up  # on stairs
    lean = up + np.array([0.08, 0, 0.05])
    normal, offset, residual = fit_ground(points, lean / np.linalg.norm(lean))
    assert np.degrees(np.arccos(normal @ up)) < 0.5
    assert offset == pytest.approx(-1.4, abs=0.02)
    assert residual < 0.02


def test_steps_show_the_tilt_where_places_are_wrong():
    """Four people of wrong sizes stand half a metre off one another's ground; the steps of each are right."""
    random = np.random.default_rng(2)
    up = np.array([0.05, -0.98, -0.19])
    up /= np.linalg.norm(up)
    places = random.uniform([-1, 0, 4], [1, 0, 8], (4, 6, 3))
    flat = places - ((places @ up) + 1.4)[..., None] * up
    points = flat + np.array([0, 0.12, -0.14, 0.6])[:, None, None] * up
    prior = up + np.array([0.12, 0, 0.1])
    given = points.reshape(-1, 3), prior / np.linalg.norm(prior)
    alone, _, _ = fit_ground(*given)
    normal, _, _ = fit_ground(*given, (np.arange(24).reshape(4, 6)[:, :-1, None] + [0, 1]).reshape(-1, 2))
    found, worse = (np.degrees(np.arccos(min(n @ up, 1))) for n in (normal, alone))
    assert found < min(1, worse / 2)


def test_who_stands_on_something_has_a_level():
    assert find_levels(np.array([-0.05, 0.02, 0.1]), np.full(3, 0.05)) == (0.0,)
    levels = find_levels(np.array([0.01, 0.48, 0.5, 0.53, 1.1, -0.3]), np.full(6, 0.05))
    assert levels == pytest.approx((-0.3, 0.0, 0.5, 1.1))


@pytest.mark.parametrize("box_m", [0.4, 0.5])
def test_one_of_three_on_a_box_has_a_level_and_does_not_tilt_the_ground(box_m):
    rotations = torch.eye(3).repeat(30, 24, 1, 1).numpy()
    motions = []
    for place, height in ((-1.0, 0.0), (0.0, 0.0), (1.0, box_m)):
        transl = np.tile(np.array([place, 1.0 - height, 5.0], np.float32), (30, 1))
        upright = rotations[:, 0] * np.array([1, -1, -1], np.float32)[:, None]
        params = BodyParams(upright, rotations[:, 1:], np.zeros(10, np.float32), transl, "neutral", BODY.model_id)
        rows = np.arange(30)
        motions.append(Motion(1, rows, rows * 1.0, rows >= 0, params, params, transl[:, None], params, False, "p"))
    world = estimate_world(motions, BODY, 30.0)
    assert np.degrees(np.arccos(-world.up_c[1])) < 1
    assert world.levels == pytest.approx((0.0, box_m), abs=0.03)
    assert world.level(0.33) == world.levels[1]
    assert world.as_json()["levels_m"][0] == 0
    for motion, level in zip(motions, (0.0, 0.0, world.levels[1]), strict=True):
        soles = sole_points(BODY, motion.params)
        np.testing.assert_allclose(world.height(soles), level, atol=0.03)
        stands = standing(soles, 30.0, world.up_c)
        assert stands.all()
        assert np.abs(world.above_level(soles, stands)).max() < 0.03


def test_the_camera_is_held_level_unless_people_lie_far_from_it():
    """People lean aside by 5 degrees, all alike: that is their error. By 40: the camera is held askew."""
    points = np.array([[0.0, 1.2, 4.0], [0.1, 1.2, 4.0]])
    for askew, most in ((5, 2), (40, 41)):
        lean = np.array([np.sin(np.radians(askew)), -np.cos(np.radians(askew)), 0])
        normal, _, _ = fit_ground(points, lean)
        roll = np.degrees(np.arctan2(normal[0], -normal[1]))
        assert most - 3 < roll < most


def test_one_step_leaves_the_tilt_to_the_people():
    prior = np.array([0.0, -np.cos(0.3), -np.sin(0.3)])
    normal, offset, _ = fit_ground(np.array([[0.2, 1.0, 5.0]]), prior)
    np.testing.assert_allclose(normal, prior, atol=1e-6)
    assert offset == pytest.approx(prior @ [0.2, 1.0, 5.0], abs=1e-6)


def test_given_ground_and_given_camera_say_the_same():
    up = np.array([0.0, -np.cos(0.2), -np.sin(0.2)])
    by_ground = estimate_world([], BODY, 30, ground=[*(1.5 * -up), *(-3 * up)])  # a normal may point either way
    np.testing.assert_allclose(by_ground.world_from_camera, from_plane(up, -1.5), atol=1e-9)
    assert by_ground.world_from_camera[:3, 3].tolist() == pytest.approx([0, 1.5, 0])
    by_pose = estimate_world([], BODY, 30, camera_pose=by_ground.world_from_camera.ravel())
    np.testing.assert_allclose(by_pose.up_c, up, atol=1e-9)
    for wrong in ([1.0, 2.0], np.diag([2.0, 2, 2, 1]).ravel(), np.diag([-1.0, 1, 1, 1]).ravel()):
        with pytest.raises(UsageError, match="--camera-pose"):
            estimate_world([], BODY, 30, camera_pose=wrong)
    with pytest.raises(UsageError, match="--ground"):
        estimate_world([], BODY, 30, ground=[1, 2, 3, 0, 0, 0])


def test_feet_in_the_air_do_not_stand():
    rotations = torch.eye(3).repeat(30, 24, 1, 1).numpy()
    transl = np.tile(np.array([0, 0, 4.0], np.float32), (30, 1))
    transl[10:20, 1] -= 0.1 * np.arange(10)  # rises at 3 m/s
    params = BodyParams(rotations[:, 0], rotations[:, 1:], np.zeros(10, np.float32), transl, "neutral", BODY.model_id)
    stands = standing(sole_points(BODY, params), 30.0, np.array([0.0, -1, 0]))
    assert stretches(stands[:, 0]) == stretches(stands[:, 1]) == [(0, 11), (20, 30)]


def test_the_ground_is_below_the_wall_on_which_more_people_stand():
    up = np.array([0.0, -1.0, 0.0])
    random = np.random.default_rng(1)
    places = random.uniform([-3, 0, 5], [3, 0, 9], (30, 3))
    places[:, 1] = np.where(np.arange(30) < 20, -0.4, 1.6) + random.normal(0, 0.02, 30)  # 20 stand 2 m above 10
    normal, offset, residual = fit_ground(places, up)
    assert np.abs(places[20:] @ normal - offset).max() < 0.06
    assert np.degrees(np.arccos(min(normal @ up, 1))) < 1
    assert residual < 0.03
