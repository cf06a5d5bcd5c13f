"""A and W on the body: bright where they are 1, grey where they are 0, around the bone that is named."""

import numpy as np
import torch

from hmrkit.rendering.calibration_weights import CELL, GAP, LEFT, TOP, weights_image
from hmrkit.skeletons import SMPL_24

KNEE = SMPL_24.index["left_knee"] - 1


def test_a_cell_is_bright_where_its_weights_are(sphere):
    """Of a ball around the bone, the left half follows the bone, and its lower half takes the change of length."""
    vertices, faces = sphere(4)
    vertices = vertices * 0.3
    joints = torch.zeros(24, 3)
    joints[SMPL_24.index["left_hip"], 1], joints[SMPL_24.index["left_knee"], 1] = 0.05, -0.05
    attachment, place = torch.zeros(len(vertices), 23), torch.zeros(len(vertices), 23)
    attachment[vertices[:, 0] > 0, KNEE] = 1  # the body faces the camera: its left is at the image's right
    place[vertices[:, 1] < 0, KNEE] = 1
    image = np.asarray(weights_image(vertices, joints, faces.numpy(), attachment, place, [KNEE], "ball")).astype(int)

    def warmth(row, x, y):
        """Red above blue, at a place in [-1, 1] of a row's ball."""
        reach = 0.6 * 0.3 / 0.7 * CELL
        column = int(LEFT + CELL / 2 + x * reach)
        pixel = image[int(TOP + (CELL + GAP) * row + CELL / 2 + y * reach), column]
        return pixel[0] - pixel[2] > 40

    corners = [(1, -1), (1, 1), (-1, -1), (-1, 1)]
    found = [[warmth(row, 0.7 * x, 0.7 * y) for x, y in corners] for row in range(3)]
    assert found[0] == [True, True, False, False]
    # W shows nothing where the vertex does not follow the bone.
    assert found[1] == found[2] == [False, True, False, False]


def test_a_column_a_bone(sphere):
    vertices, faces = sphere(1)
    empty, joints = torch.zeros(len(vertices), 23), torch.arange(72.0).view(24, 3) / 40
    widths = [
        weights_image(0.1 * vertices, joints, faces.numpy(), empty, empty, range(n), "ball").width for n in (2, 4)
    ]
    assert widths[1] - widths[0] == 2 * (CELL + GAP)
