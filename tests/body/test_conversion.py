"""A body's posed meshes fitted by another body: the same surface, and poses that mean the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_bodies import same_surface
from made_takes import make_params

from hmrkit.body import Body, load_body
from hmrkit.body.conversion import BodyConverter
from hmrkit.body.posing import body_meshes
from hmrkit.geometry import axis_angle_to_matrix


@pytest.fixture(scope="module")
def free():
    return load_body()


@pytest.fixture(scope="module")
def walk(free):
    params = make_params(free, 1, 6)
    return params, body_meshes(free, params)[0]


def degrees(a, b):
    cosine = (np.trace(a @ np.swapaxes(b, -1, -2), axis1=-2, axis2=-1) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_the_same_surface_in_another_shape_space_and_vertex_order(free, walk):
    params, meshes = walk
    seen, fingers = np.arange(6 * 24).reshape(6, 24) % 3 == 0, np.tile(np.eye(3, dtype=np.float32), (6, 30, 1, 1))
    params = replace(params, seen=seen, fingers=fingers)
    other = Body(same_surface(), "neutral")
    found = BodyConverter(free, other).convert(lambda rows: meshes[rows], params)
    assert (found.params.model, found.params.gender) == (other.model_id, "neutral")
    assert other.model_id.startswith("smpl-")
    np.testing.assert_array_equal(found.params.seen, seen)  # no body decides what the image shows
    np.testing.assert_array_equal(found.params.fingers, fingers)
    assert found.residual_mm.shape == (6,)
    assert found.residual_mm.max() < 1.5
    _, joints = body_meshes(free, params)
    vertices, moved = body_meshes(other, found.params)
    assert 1000 * np.linalg.norm(moved - joints, axis=-1).mean() < 3
    assert degrees(found.params.global_orient, params.global_orient).max() < 2.5
    assert degrees(found.params.body_pose, params.body_pose).mean() < 1.5
    # What is reported is what one gets: mean distance of vertices, here by area, from where the surface is.
    order = np.random.default_rng(0).permutation(len(free.v_template))
    apart = 1000 * np.linalg.norm(vertices - meshes[:, order], axis=-1).mean()
    assert 0.3 * apart < found.residual_mm.mean() < 1.5 * apart + 0.5


def test_on_the_same_vertices_nothing_is_lost_but_the_shape(free, walk):
    """The free body onto itself gives its parameters; onto the other sex, what its shapes cannot do is reported."""
    params, meshes = walk
    back = BodyConverter(free, free).convert(lambda rows: meshes[rows], params)
    assert back.residual_mm.max() < 0.2
    np.testing.assert_allclose(back.params.betas, params.betas, atol=0.1)
    np.testing.assert_allclose(back.params.transl_c, params.transl_c, atol=1e-3)
    male = load_body(gender="male")
    found = BodyConverter(free, male).convert(lambda rows: meshes[rows], params)
    vertices = body_meshes(male, found.params)[0]
    unfitted = replace(params, model=male.model_id, gender="male")
    naive = body_meshes(male, unfitted)[0]
    apart, naively = (1000 * np.linalg.norm(v - meshes, axis=-1).mean() for v in (vertices, naive))
    assert apart < 0.2 * naively
    assert 0.5 * apart < found.residual_mm.mean() < 1.5 * apart


def test_gauss_newton_has_the_meshs_own_derivatives(free):
    """J^T J and J^T e in closed form are those of finite differences, without pose blend shapes, which they lack."""
    body = load_body(dtype=torch.float64)
    converter = BodyConverter(body, body)
    rotations = torch.eye(3, dtype=torch.float64).expand(1, 24, 3, 3)
    rest = body(rotations[:, 0], rotations[:, 1:], pose_blend=False)
    small = 1e-6 * torch.eye(72, dtype=torch.float64).reshape(72, 24, 3)
    bent = axis_angle_to_matrix(small)
    moved = body(bent[:, 0], bent[:, 1:], pose_blend=False).vertices
    jacobian = ((moved - rest.vertices) / 1e-6).flatten(1)
    by_area = converter._areas.repeat_interleave(3)
    wanted = (jacobian * by_area) @ jacobian.T
    found = converter._normal(rest.vertices, rest.joints)[0, :72, :72] - converter._prior[:72].diag()
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02 * float(wanted.diagonal().mean()))
    gap = torch.linspace(-1, 1, jacobian.shape[1], dtype=torch.float64)
    force = converter._gradient(rest.vertices, rest.joints, gap.reshape(1, -1, 3))[0, :72]
    torch.testing.assert_close(force, (jacobian * by_area) @ gap, rtol=0, atol=0.02 * float(force.abs().max()))
