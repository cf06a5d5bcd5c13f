"""The rasteriser against rays cut with triangles one by one, and the promises its docstring makes."""

import pytest
import torch

from hmrkit.rendering import rasteriser
from hmrkit.rendering.rasteriser import interpolate, rasterise

FOCAL, CENTER, SIZE = torch.tensor([60.0, 55.0]), torch.tensor([31.3, 23.9]), (48, 64)


def _cast_rays(vertices, faces, focal, center, size):
    """Every pixel's ray against every triangle (Moeller-Trumbore): depths (H,W,F) and barycentrics (H,W,F,3)."""
    height, width = size
    v = vertices.double()
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    xy = (torch.stack([x, y], -1).double() - center) / focal
    ray = torch.cat([xy, torch.ones_like(xy[..., :1])], -1)[:, :, None]
    a, ab, ac = v[faces[:, 0]], v[faces[:, 1]] - v[faces[:, 0]], v[faces[:, 2]] - v[faces[:, 0]]
    p = torch.linalg.cross(ray, ac.expand(height, width, -1, 3))
    determinant = (ab * p).sum(-1)
    u = (-a * p).sum(-1) / determinant
    q = torch.linalg.cross(-a, ab).expand(height, width, -1, 3)
    w = (ray * q).sum(-1) / determinant
    return (ac * q).sum(-1) / determinant, torch.stack([1 - u - w, u, w], -1)


def test_random_triangles_equal_ray_casting():
    rng = torch.Generator().manual_seed(1)
    middle = torch.rand(60, 1, 3, generator=rng) * torch.tensor([6.0, 5.0, 5.0]) + torch.tensor([-3.0, -2.5, 2.0])
    vertices = (middle + torch.randn(60, 3, 3, generator=rng) * 0.7).reshape(-1, 3)
    vertices[:, 2].clamp_(min=0.3)
    faces = torch.arange(180).reshape(-1, 3)
    raster = rasterise(vertices[None], faces, FOCAL, CENTER, SIZE)

    depth, weights = _cast_rays(vertices, faces, FOCAL.double(), CENTER.double(), SIZE)
    hit = (weights >= 0).all(-1) & (depth > 0)
    nearest = torch.where(hit, depth, torch.inf).sort(-1)
    # Pixels whose centre lies within a snap of an outline, or that see two faces at one depth, may go either way.
    clear = ((weights.abs() > 0.02).all(-1) | ~hit & (weights < -0.02).any(-1)).all(-1)
    clear &= ~(nearest.values[..., 1] - nearest.values[..., 0] < 2e-3)
    covered = hit.any(-1)
    assert clear.float().mean() > 0.4
    assert covered[clear].float().mean() > 0.2

    expected = torch.where(covered, nearest.indices[..., 0], -1)
    assert torch.equal(raster.face_index[0][clear], expected[clear])
    both = clear & covered
    best = nearest.indices[..., :1]
    torch.testing.assert_close(raster.depth[0][both].double(), nearest.values[..., 0][both], rtol=2e-5, atol=2e-5)
    seen = weights.gather(2, best[..., None].expand(*best.shape, 3)).squeeze(2)
    torch.testing.assert_close(raster.barycentrics[0][both].double(), seen[both], rtol=0, atol=2e-4)
    assert raster.depth[0][clear & ~covered].isnan().all()


def test_outline_pixels_miss_the_true_outline_by_less_than_a_snap():
    rng = torch.Generator().manual_seed(2)
    vertices = torch.rand(200, 3, 3, generator=rng) * torch.tensor([1.6, 1.3, 0.8]) + torch.tensor([-0.8, -0.65, 1.5])
    faces = torch.arange(3)[None]
    raster = rasterise(vertices, faces, FOCAL, CENTER, SIZE)
    for triangle, got in zip(vertices, raster.face_index >= 0, strict=True):
        _, weights = _cast_rays(triangle, faces, FOCAL.double(), CENTER.double(), SIZE)
        true = (weights[..., 0, :] >= 0).all(-1)
        xy = triangle[:, :2].double() / triangle[:, 2:] * FOCAL + CENTER
        y, x = (true != got).nonzero().double().add(0.5).unbind(-1)
        edge = xy.roll(-1, 0) - xy
        distance = edge[:, 0] * (y[:, None] - xy[:, 1]) - edge[:, 1] * (x[:, None] - xy[:, 0])
        assert ((distance.abs() / edge.norm(dim=-1)).amin(-1) < 1 / 256).all()


def test_closed_mesh_has_no_cracks(sphere):
    ball, faces = sphere()
    rng = torch.Generator().manual_seed(3)
    shift = torch.rand(24, 1, 3, generator=rng) * torch.tensor([0.4, 0.4, 8.0]) + torch.tensor([-0.2, -0.2, 3.5])
    focal = torch.tensor([90.0, 90.0])
    for cull in (False, True):
        covered = rasterise(ball + shift, faces, focal, CENTER, SIZE, cull_back=cull).face_index >= 0
        # A convex outline without a hole: in every row the covered pixels are one run.
        assert (covered.int().diff(dim=2).clamp_min(0).sum(2) + covered[:, :, 0].int() <= 1).all()
        assert covered.sum((1, 2)).min() > 100


def test_pixel_centres_on_shared_edges_and_corners_are_covered():
    """A fan whose corners and edges run exactly through pixel centres."""
    x, y = torch.meshgrid(torch.arange(0, 17, 4) + 0.5, torch.arange(0, 17, 4) + 0.5, indexing="ij")
    vertices = torch.stack([x, y, torch.ones_like(x)], -1).reshape(1, -1, 3)
    a = (torch.arange(4)[:, None] * 5 + torch.arange(4)).reshape(-1)
    faces = torch.cat([torch.stack([a, a + 5, a + 6], -1), torch.stack([a, a + 6, a + 1], -1)])
    raster = rasterise(vertices, faces, torch.ones(2), torch.zeros(2), (20, 20))
    assert (raster.face_index[0, :17, :17] >= 0).all()
    assert (raster.face_index[0, 17:] < 0).all()
    # Equal depths: the lower face wins, so the order of the faces decides and nothing else.
    assert raster.face_index[0, 0, 0] == 0
    assert raster.face_index[0, 4, 4] == min(f for f, corners in enumerate(faces.tolist()) if 6 in corners)


def test_culling_back_faces_changes_no_pixel_of_a_closed_mesh(sphere):
    ball, faces = sphere()
    vertices = torch.stack([ball + torch.tensor([0.1, 0.0, 3.0]), ball * 0.7 + torch.tensor([-0.4, 0.2, 2.5])])
    full, culled = (rasterise(vertices, faces, FOCAL, CENTER, SIZE, cull_back=cull) for cull in (False, True))
    same = (full.face_index == culled.face_index).float().mean()
    assert same > 0.998  # on the outline a sliver of a back face may show
    inside_out = rasterise(vertices, faces.flip(1), FOCAL, CENTER, SIZE, cull_back=True)
    both = (inside_out.face_index >= 0) & (culled.face_index >= 0)
    assert (inside_out.depth[both] >= culled.depth[both]).all()


def test_people_in_one_image_hide_one_another_by_depth(sphere):
    ball, faces = sphere(2)
    vertices = torch.stack([ball * 0.5 + torch.tensor([0.0, 0, 4]), ball * 0.5 + torch.tensor([0.3, 0, 3])])
    alone = rasterise(vertices, faces, FOCAL, CENTER, SIZE)
    together = rasterise(vertices, faces, FOCAL, CENTER, SIZE, torch.tensor([0, 0]), images=1)
    depth = alone.depth.nan_to_num(torch.inf)
    assert torch.equal(together.depth[0].nan_to_num(torch.inf), depth.amin(0))
    seen = depth.amin(0).isfinite()
    assert torch.equal(together.mesh_index[0][seen], depth.argmin(0)[seen])
    # An image without a mesh is empty.
    spread = rasterise(vertices, faces, FOCAL, CENTER, SIZE, torch.tensor([0, 2]), images=3)
    assert spread.face_index[1].max() == -1
    assert torch.equal(spread.face_index[2], alone.face_index[1])


def test_a_region_of_the_image_is_the_same_pixels(sphere):
    ball, faces = sphere()
    vertices = (ball + torch.tensor([0.2, 0.1, 2.5]))[None]
    full = rasterise(vertices, faces, FOCAL, CENTER, SIZE)
    part = rasterise(vertices, faces, FOCAL, CENTER - torch.tensor([20.0, 11.0]), (25, 30))
    assert torch.equal(full.face_index[:, 11:36, 20:50], part.face_index)


def test_small_passes_and_batches_change_nothing(sphere, monkeypatch):
    ball, faces = sphere(1)
    vertices = ball + torch.tensor([[[0.2, 0.1, 2.5]], [[0.0, 0.3, 1.6]], [[0.1, 0.0, 9.0]]])
    whole = rasterise(vertices, faces, FOCAL, CENTER, SIZE)
    monkeypatch.setattr(rasteriser, "CANDIDATES_PER_PASS", 97)
    monkeypatch.setitem(rasteriser.FACES_PER_PASS, "cpu", 1)
    assert torch.equal(whole.face_index, rasterise(vertices, faces, FOCAL, CENTER, SIZE).face_index)
    single = rasterise(vertices[1:2], faces, FOCAL, CENTER, SIZE)
    torch.testing.assert_close(single.depth[0], whole.depth[1], rtol=0, atol=0, equal_nan=True)


def test_faces_at_or_behind_the_camera_and_missing_vertices_are_dropped():
    triangle = torch.tensor([[-1.0, -1, 2], [1, -1, 2], [0, 1, 2]])
    bad = triangle.repeat(3, 1, 1)
    bad[0, 0, 2], bad[1, 1, 2], bad[2, 2, 0] = -1.0, 0.01, torch.nan
    assert rasterise(bad, torch.arange(3)[None], FOCAL, CENTER, SIZE).face_index.max() == -1
    assert rasterise(triangle[None], torch.arange(3)[None], FOCAL, CENTER, SIZE).face_index.max() == 0


def test_triangles_far_larger_than_the_image_fill_it():
    vertices = torch.tensor([[[-900.0, -900, 1], [900, -900, 1], [0, 1800, 1]]])
    raster = rasterise(vertices, torch.arange(3)[None], FOCAL, CENTER, SIZE)
    assert (raster.face_index == 0).all()
    torch.testing.assert_close(raster.depth, torch.ones_like(raster.depth), rtol=1e-5, atol=0)


def test_interpolated_positions_are_the_points_that_pixels_see(sphere):
    """Perspective-correct: interpolating the camera-frame vertices gives depth times the pixel's ray."""
    ball, faces = sphere(1)
    vertices = (ball + torch.tensor([0.2, 0.1, 1.8]))[None]
    raster = rasterise(vertices, faces, FOCAL, CENTER, SIZE)
    points = interpolate(vertices, faces, raster)
    seen = raster.face_index >= 0
    assert points[~seen].isnan().all()
    _, y, x = seen.nonzero().unbind(-1)
    pixels = points[seen][:, :2] / points[seen][:, 2:] * FOCAL + CENTER
    # The outline may stand half a snap inside the pixel's centre.
    torch.testing.assert_close(pixels, torch.stack([x, y], -1) + 0.5, rtol=0, atol=1 / 256)
    torch.testing.assert_close(points[seen][:, 2], raster.depth[seen])


def test_depth_is_differentiable():
    vertices = torch.tensor([[[-1.0, -1, 2], [1, -1, 2.5], [0, 1, 3]]], dtype=torch.float64, requires_grad=True)
    raster = rasterise(vertices, torch.arange(3)[None], FOCAL.double(), CENTER.double(), SIZE)
    raster.depth.nan_to_num(0).sum().backward()
    assert vertices.grad is not None
    assert (vertices.grad[0, :, 2] > 0).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="wanted vertices"):
        rasterise(torch.zeros(4, 3), torch.zeros(2, 3, dtype=torch.int64), FOCAL, CENTER, SIZE)


@pytest.mark.gpu
def test_cuda_equals_cpu(sphere):
    ball, faces = sphere()
    vertices = ball + torch.tensor([[[0.2, 0.1, 2.5]], [[0.0, 0.3, 1.6]]])
    cpu = rasterise(vertices, faces, FOCAL, CENTER, SIZE)
    gpu = rasterise(vertices.cuda(), faces.cuda(), FOCAL.cuda(), CENTER.cuda(), SIZE)
    assert (cpu.face_index == gpu.face_index.cpu()).float().mean() > 0.998
    same = (cpu.face_index == gpu.face_index.cpu()) & (cpu.face_index >= 0)
    torch.testing.assert_close(gpu.depth.cpu()[same], cpu.depth[same], rtol=0, atol=1e-4)
    torch.testing.assert_close(gpu.barycentrics.cpu()[same], cpu.barycentrics[same], rtol=0, atol=1e-2)
