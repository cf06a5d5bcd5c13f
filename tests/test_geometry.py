import pytest
import torch

from hmrkit import geometry as g


def random_axis_angle(n, rng):
    axis = torch.nn.functional.normalize(torch.randn(n, 3, generator=rng, dtype=torch.float64), dim=-1)
    return axis * torch.rand(n, 1, generator=rng, dtype=torch.float64) * torch.pi


def test_axis_angle_round_trip_including_tiny_and_half_rotations(rng):
    vectors = random_axis_angle(500, rng)
    special = torch.tensor([[0, 0, 0], [1e-9, 0, 0], [0, 3.14159, 0], [0, 0, 3.1415]], dtype=torch.float64)
    vectors = torch.cat([vectors, special])
    matrices = g.axis_angle_to_matrix(vectors)
    assert torch.allclose(matrices @ matrices.mT, torch.eye(3, dtype=torch.float64).expand_as(matrices), atol=1e-9)
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(len(vectors), dtype=torch.float64))
    assert torch.allclose(g.matrix_to_axis_angle(matrices), vectors, atol=1e-6)


def test_axis_angle_matches_the_matrix_exponential(rng):
    vectors = random_axis_angle(50, rng)
    assert torch.allclose(g.axis_angle_to_matrix(vectors), torch.linalg.matrix_exp(g.skew(vectors)), atol=1e-9)


def test_axis_angle_has_a_gradient_at_zero():
    vectors = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    g.axis_angle_to_matrix(vectors)[:, 2, 1].sum().backward()
    assert torch.allclose(vectors.grad[:, 0], torch.ones(2, dtype=torch.float64))


def test_quaternion_round_trip_at_half_rotations(rng):
    half = g.axis_angle_to_matrix(torch.eye(3, dtype=torch.float64) * torch.pi)
    matrices = torch.cat([g.axis_angle_to_matrix(random_axis_angle(200, rng)), half])
    assert torch.allclose(g.quaternion_to_matrix(g.matrix_to_quaternion(matrices)), matrices, atol=1e-9)


@pytest.mark.parametrize("layout", ["columns", "interleaved"])
def test_6d_round_trip(layout, rng):
    matrices = g.axis_angle_to_matrix(random_axis_angle(100, rng))
    assert torch.allclose(g.rotation_from_6d(g.rotation_to_6d(matrices, layout), layout), matrices, atol=1e-9)


def test_6d_layouts_differ_in_order_only(rng):
    matrix = g.axis_angle_to_matrix(random_axis_angle(1, rng))[0]
    columns, interleaved = g.rotation_to_6d(matrix, "columns"), g.rotation_to_6d(matrix, "interleaved")
    assert torch.equal(columns[:3], matrix[:, 0])
    assert torch.equal(interleaved, columns.reshape(2, 3).T.flatten())


def test_rotation_between_general_parallel_and_opposite(rng):
    a = torch.randn(300, 3, generator=rng, dtype=torch.float64)
    b = torch.randn(300, 3, generator=rng, dtype=torch.float64)
    for target in (b, a * 2, -a, -a + 1e-9 * b, a + 1e-9 * b):
        rotation = g.rotation_between(a, target)
        assert torch.allclose(torch.linalg.det(rotation), torch.ones(300, dtype=torch.float64), atol=1e-6)
        rotated = (rotation @ torch.nn.functional.normalize(a, dim=-1)[..., None])[..., 0]
        assert torch.allclose(rotated, torch.nn.functional.normalize(target, dim=-1), atol=1e-4)
    assert torch.allclose(g.rotation_between(a, 3 * a), torch.eye(3, dtype=torch.float64).expand(300, 3, 3), atol=1e-12)


def test_rigid_align_recovers_a_similarity_and_never_mirrors(rng):
    points = torch.randn(7, 20, 3, generator=rng, dtype=torch.float64)
    rotation = g.axis_angle_to_matrix(random_axis_angle(7, rng))
    scale = torch.rand(7, generator=rng, dtype=torch.float64) + 0.5
    shift = torch.randn(7, 3, generator=rng, dtype=torch.float64)
    moved = scale[:, None, None] * points @ rotation.mT + shift[:, None]
    r, s, t = g.rigid_align(points, moved, scale=True)
    assert torch.allclose(r, rotation)
    assert torch.allclose(s, scale)
    assert torch.allclose(t, shift)
    r, _, _ = g.rigid_align(points, points * torch.tensor([-1.0, 1, 1], dtype=torch.float64), scale=True)
    assert torch.allclose(torch.linalg.det(r), torch.ones(7, dtype=torch.float64))


def test_project_to_rotation_leaves_rotations_alone(rng):
    matrices = g.axis_angle_to_matrix(random_axis_angle(20, rng))
    assert torch.allclose(g.project_to_rotation(matrices * 3), matrices)


def test_project_to_rotation_is_as_exact_under_autocast(rng):
    matrices = g.axis_angle_to_matrix(random_axis_angle(20, rng)).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = g.project_to_rotation(matrices * 3)
    assert found.dtype == torch.float32
    assert torch.allclose(found, matrices, atol=1e-5)
