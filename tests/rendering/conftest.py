"""A closed test mesh, a unit sphere with outward, counter-clockwise faces, made without any file; and OpenGL."""

import pytest
import torch

from hmrkit.errors import DeviceError, UsageError
from hmrkit.rendering.gl import open_gl

# A regular octahedron, counter-clockwise from outside.
CORNERS = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
SIDES = [(0, 2, 4), (2, 1, 4), (1, 3, 4), (3, 0, 4), (2, 0, 5), (1, 2, 5), (3, 1, 5), (0, 3, 5)]


@pytest.fixture(scope="session")
def gl():
    """A painter by OpenGL, software's if need be; tests that want it are skipped where no context can be made."""
    opened = open_gl()
    try:
        painter = opened.__enter__()
    except (UsageError, DeviceError) as error:
        pytest.skip(str(error))
    yield painter
    opened.__exit__(None, None, None)


@pytest.fixture(scope="session")
def sphere():
    """Returns a function: number of subdivisions -> vertices (V,3) float32 and faces (F,3) int64."""

    def make(rounds=3):
        vertices = [torch.tensor(c, dtype=torch.float64) for c in CORNERS]
        faces = list(SIDES)
        for _ in range(rounds):
            middles = {}

            def middle(i, j, middles=middles):
                key = (min(i, j), max(i, j))
                if key not in middles:
                    middles[key] = len(vertices)
                    vertices.append(torch.nn.functional.normalize(vertices[i] + vertices[j], dim=0))
                return middles[key]

            split = []
            for i, j, k in faces:
                a, b, c = middle(i, j), middle(j, k), middle(k, i)
                split += [(i, a, c), (a, j, b), (c, b, k), (a, b, c)]
            faces = split
        return torch.stack(vertices).float(), torch.tensor(faces)

    return make
