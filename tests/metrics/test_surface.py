"""Distance of surfaces: known solids, any vertex order, every face searched, unknown vertices."""

import numpy as np
import pytest
import trimesh

from hmrkit import metrics
from hmrkit.body import load_body


def surfaces(a, b):
    return metrics.surface_mm(a.vertices, a.faces, b.vertices, b.faces)


def test_known_solids():
    small, large = (trimesh.creation.icosphere(subdivisions=4, radius=r) for r in (0.5, 0.6))
    assert surfaces(small, large) == pytest.approx(100, abs=0.5)
    assert surfaces(small, small) == pytest.approx(0, abs=1e-9)
    moved = small.copy().apply_translation([0.01, 0, 0])
    assert 4 < surfaces(small, moved) < 6  # |cos| over a sphere is a half, by the half of it 5 of 10 mm


def test_a_surface_that_slides_along_itself_has_no_distance():
    """The same box with other vertices and faces, in another order."""
    box = trimesh.creation.box((1, 2, 0.5))
    fine = box.subdivide().subdivide()
    order = np.random.default_rng(0).permutation(len(fine.vertices))
    shuffled = trimesh.Trimesh(fine.vertices[order], np.argsort(order)[fine.faces], process=False)
    assert surfaces(box, shuffled) == pytest.approx(0, abs=1e-9)


def test_vertices_count_by_their_area():
    """A sheet over a sheet of two halves, 10 and 30 mm below: a finely meshed half counts no more."""
    sheet = trimesh.Trimesh([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    near = trimesh.Trimesh([[0, 0, -0.01], [1, 0, -0.01], [1, 1, -0.01], [0, 1, -0.01]], sheet.faces, process=False)
    far = near.copy().apply_translation([1, 0, -0.02]).subdivide().subdivide().subdivide()
    assert len(far.vertices) > 10 * len(near.vertices)
    both = trimesh.util.concatenate([near, far])
    there = metrics.surface._one_way(both.vertices, both.faces, sheet.vertices, sheet.faces)
    assert there == pytest.approx(0.02, abs=1e-9)


def test_every_face_of_a_body_is_as_good_as_searched():
    """Against the nearest point over all faces, for some vertices of two unlike people."""
    body = load_body()
    betas = np.zeros((2, 10), np.float32)
    betas[:, 0] = (-1.5, 1.5)
    a, b = body(betas=betas).vertices.double().numpy()
    some = np.random.default_rng(0).choice(len(a), 60, replace=False)
    triangles = b[body.faces]
    nearest = [
        np.linalg.norm(
            trimesh.triangles.closest_point(triangles, np.tile(a[i], (len(triangles), 1))) - a[i], axis=1
        ).min()
        for i in some
    ]
    found = metrics.surface._distances(a[some], triangles)
    np.testing.assert_allclose(1000 * found, 1000 * np.array(nearest), atol=0.1)
    assert found.mean() == pytest.approx(np.mean(nearest), abs=1e-6)


def test_frames_and_what_is_not_known():
    box = trimesh.creation.box()
    frames = np.stack([box.vertices, box.vertices, box.vertices * 1.1])
    frames[1, 0] = np.nan
    values = metrics.surface_mm_per_frame(frames, box.faces, np.stack([box.vertices] * 3), box.faces)
    assert values.shape == (3,)
    assert values[0] == pytest.approx(0, abs=1e-9)
    assert np.isnan(values[1])
    assert values[2] > 40
    with pytest.raises(ValueError, match="leading dimensions"):
        metrics.surface_mm_per_frame(frames, box.faces, frames[:2], box.faces)
