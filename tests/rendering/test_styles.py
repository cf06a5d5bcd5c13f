"""What is drawn of a person: closed bones where the joints are, colours that mean what they say, lines on edges."""

import numpy as np
import pytest
import torch

from hmrkit.body import load_body
from hmrkit.camera import assume_camera, project
from hmrkit.rendering.heat import refit_heat_mm, reprojection_heat
from hmrkit.rendering.shading import draw_meshes
from hmrkit.rendering.styles import Figure, Style, heat_colours, part_colours, skeleton_faces, skeleton_mesh
from hmrkit.types import BodyParams, Keypoints, MeshTrack, Track

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def body():
    return load_body()


def test_bones_are_closed_outward_and_touch_their_joints(rng, body):
    joints = body().joints + 0.02 * torch.randn(3, 24, 3, generator=rng)
    mesh, faces = skeleton_mesh(joints), skeleton_faces()
    assert faces.max() + 1 == mesh.shape[1]
    for k, parent in enumerate(body.parents[1:]):
        torch.testing.assert_close(mesh[:, 6 * k], joints[:, parent])
        torch.testing.assert_close(mesh[:, 6 * k + 5], joints[:, k + 1])
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert {tuple(s) for s in sides.tolist()} == {tuple(s) for s in sides.flip(1).tolist()}
    for part in faces.view(47, 8, 3):  # outward: every bone and ball has a positive volume
        a, b, c = (mesh[:, part[:, k]] for k in range(3))
        assert ((a * torch.linalg.cross(b, c)).sum((1, 2)) / 6 > 1e-8).all()


def test_the_skeleton_rotates_with_the_joints(rng, body):
    joints = body().joints
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=rng)).Q
    rotation = rotation * torch.linalg.det(rotation)
    ends = [k for k in range(282) if k % 6 in (0, 5) or k >= 138]
    moved, still = skeleton_mesh(joints @ rotation.T + 1), skeleton_mesh(joints)
    bones = [k for k in ends if k < 138]
    torch.testing.assert_close(moved[:, bones], still[:, bones] @ rotation.T + 1, atol=1e-5, rtol=0)


def test_heat_runs_from_cold_to_hot_and_unknown_is_grey():
    cold, middle, hot, beyond, unknown = heat_colours(torch.tensor([0.0, 0.5, 1.0, 7.0, torch.nan]))
    assert cold[2] > cold[0]
    assert hot[0] > hot[2]
    assert middle[1] == max(middle)
    assert torch.equal(hot, beyond)
    assert len(set(unknown.tolist())) == 1


def test_parts_differ_from_their_parents(body):
    colours = part_colours()
    apart = (colours[1:] - colours[list(body.parents[1:])]).norm(dim=-1)
    assert apart.min() > 0.3
    style = Style("parts", np.asarray(body.faces), CPU, body.weights.argmax(1).numpy())
    vertices = body().vertices[0].numpy()
    _, drawn = style.meshes([Figure(1, vertices)])
    head = int(vertices[:, 1].argmax())
    assert torch.equal(drawn[0, head], colours[body.joint_names.index("head")])


def test_a_wireframe_covers_edges_and_little_between_them():
    corners = torch.tensor([[[-0.5, -0.5, 1.0], [-0.5, 0.5, 1.0], [0.5, 0.5, 1.0], [0.5, -0.5, 1.0]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    focal, center, first = torch.full((1, 2), 64.0), torch.full((1, 2), 40.0), torch.zeros(1, dtype=torch.int64)
    wire, solid = (
        draw_meshes(corners, torch.ones_like(corners), faces, focal, center, (80, 80), first, 1, wire)[0, ..., 3]
        for wire in (True, False)
    )
    assert (solid[8:72, 8:72] == 1).all()
    assert min(wire[8, 10:70].min(), wire[71, 10:70].min(), wire[10:70, 8].min()) > 0.5  # half of the outline's line
    assert wire[range(12, 68), range(12, 68)].min() > 0.5  # the diagonal that parts the two faces
    assert max(wire[20, 50], wire[60, 20]) < 0.2
    assert wire.mean() < 0.3 * solid.mean()


def _made(body, frames=2):
    eye = np.tile(np.eye(3, dtype=np.float32), (frames, 1, 1))
    rotated = eye * np.array([1, -1, -1], np.float32)  # upright in a camera frame, facing it
    shift = np.tile(np.array([0, 0, 4], np.float32), (frames, 1))
    params = BodyParams(
        rotated, np.repeat(eye[:, None], 23, 1), np.zeros(10, np.float32), shift, "neutral", body.model_id
    )
    out = body(params.global_orient, params.body_pose, params.betas, params.transl_c)
    mesh = MeshTrack(1, np.arange(frames), out.vertices.numpy(), out.joints.numpy())
    return params, mesh


def test_the_residual_is_the_distance_to_the_refitted_body(body):
    params, mesh = _made(body)
    away = mesh.vertices_c.copy()
    away[1, 100] += np.array([0.003, 0, 0.004], np.float32)
    heat = refit_heat_mm(MeshTrack(1, mesh.frame_indices, away, mesh.joints_c), params, body, np.arange(2))
    assert heat.shape == (2, body.num_vertices)
    assert heat[1, 100] == pytest.approx(5, abs=1e-3)
    heat[1, 100] = 0
    assert heat.max() < 1e-3


def test_reprojection_shows_a_keypoints_error_where_it_is(body):
    """A wrist seen 10 % of the box away: hot around it, cold at the feet, grey where nothing was seen."""
    _, mesh = _made(body)
    camera = assume_camera(640, 480, 500.0)
    joints = project(camera, mesh.joints_c)
    points = np.concatenate([joints, np.ones((2, 24, 1), np.float32)], -1).astype(np.float32)
    names = list(body.joint_names)
    body = _without_keypoints(body)
    track = Track(
        1, np.arange(2), np.tile(np.float32([0, 0, 200, 300]), (2, 1)), np.ones(2, np.float32), np.zeros(2, bool)
    )
    wrist, ankles = names.index("left_wrist"), [names.index("left_ankle"), names.index("left_foot")]
    points[1, wrist, 0] += 30
    points[1, [names.index(f"right_{k}") for k in ("elbow", "wrist", "hand")], 2] = 0.1
    heat = reprojection_heat(mesh, track, Keypoints(points, None, "smpl-24"), camera, body, np.arange(2))
    assert np.nanmax(heat[0]) < 1e-3

    def at(joint):
        return int(np.linalg.norm(mesh.vertices_c[1] - mesh.joints_c[1, joint], axis=-1).argmin())

    assert 5 < heat[1, at(wrist)] <= 10
    assert all(heat[1, at(k)] < 0.1 for k in ankles)
    assert np.isnan(heat[1, at(names.index("right_hand"))])


def _without_keypoints(body):
    """The same body without a keypoint regressor: its keypoints are its joints."""
    import copy

    plain = copy.copy(body)
    plain.keypoint_regressor = None
    return plain
