"""Scenes: skinning against the body model's own, the camera's optics, names."""

from dataclasses import replace

import numpy as np
import pytest
from made_scene import made_scene

from hmrkit.body import load_body
from hmrkit.scene import safe_name


def test_skinning_is_the_body_models_own():
    character = made_scene(frames=12).characters[0]
    body = load_body()
    local = character.local_rotations
    betas_free = body(local[:, 0], local[:, 1:], pose_blend=False)
    rest = body()
    plain = replace(character, rest_vertices=rest.vertices[0].numpy(), rest_joints=rest.joints[0].numpy())
    shift = plain.root_positions - rest.joints[0, 0].numpy()
    np.testing.assert_allclose(plain.skinned(), betas_free.vertices.numpy() + shift[:, None], atol=1e-5)
    np.testing.assert_allclose(plain.posed_joints(), betas_free.joints.numpy() + shift[:, None], atol=1e-5)
    rotations, _ = plain.posed()
    np.testing.assert_allclose(rotations, betas_free.joint_rotations.numpy(), atol=1e-5)


def test_rest_rotations_change_the_joints_axes_and_nothing_that_is_seen():
    character = made_scene(frames=6).characters[0]
    rotation = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float32)
    parents = np.array(character.parents)
    local = character.local_rotations @ rotation
    local[:, parents >= 0] = rotation.T @ local[:, parents >= 0]
    rotated = replace(character, local_rotations=local, rest_rotations=np.tile(rotation, (24, 1, 1)))
    np.testing.assert_allclose(rotated.skinned(), character.skinned(), atol=1e-5)
    np.testing.assert_allclose(rotated.posed_joints(), character.posed_joints(), atol=1e-5)


def test_people_far_from_the_origin_lose_no_digits():
    character = made_scene(frames=4).characters[0]
    far = replace(character, root_positions=character.root_positions + np.float32(1024))
    np.testing.assert_allclose(far.skinned() - 1024, character.skinned(), atol=5e-4)


def test_a_pinhole_of_millimetres_sees_what_the_pinhole_of_pixels_sees():
    camera = replace(made_scene(frames=4).camera, focal_px=np.array([900.0, 950.0], np.float32), film_width_mm=24.0)
    point = np.array([0.4, -0.3, 2.0])  # x right, y down, z forward
    pixel = camera.focal_px * point[:2] / point[2] + camera.center_px
    on_film = camera.focal_mm * point[:2] / point[2] * [1, -1]  # y up
    film = np.array([camera.film_width_mm, camera.film_height_mm])
    seen = (on_film - camera.film_offset_mm) / film * [1, -1] + 0.5
    np.testing.assert_allclose(seen * [camera.width, camera.height], pixel, atol=1e-3)
    assert 2 * np.arctan(camera.film_height_mm / 2 / camera.focal_mm) == pytest.approx(camera.fov_y)


def test_parts_are_a_scene_a_person():
    scene = made_scene(frames=20)
    assert [part.name for part in scene.parts(per_person=True)] == ["person_01", "person_07"]
    assert scene.parts(per_person=False) == [scene]
    assert scene.frame_range == (1001, 1020)
    with pytest.raises(ValueError, match="rising by 1"):
        replace(scene.characters[0], frames=np.arange(20) * 2)


def test_names_are_safe_for_every_format():
    assert [safe_name(t) for t in ("a clip.v2", "007", "été", "…")] == ["a_clip_v2", "clip_007", "t", "scene"]
