"""What BlazePose adds to one side of the body: its table, and predictions without it or flipped back."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from hmrkit.blazepose.network import CROP_SIZE, BlazePoseOutput
from hmrkit.skeletons import BLAZEPOSE_33

# The network's constant error between the body's sides: what it adds to left landmarks, x, y px of the crop, then world
# x, y, z mm; to right ones the same in x, the opposite in y and z of the world (`OTHER_SIDE`). Measured on synthetic
# images by `python -m hmrkit.training.blazepose_bias`; real clips show a similar error.
_SIDE_BIAS = {
    "nose": (0.1, 0.0, -7, 0, 0),
    "left_eye_inner": (0.5, -0.1, 0, 5, 6),
    "left_eye": (0.5, -0.1, 2, 5, 18),
    "left_eye_outer": (0.4, -0.1, 4, -2, 6),
    "left_ear": (0.4, -0.1, 7, -22, -5),
    "left_mouth": (0.0, -0.1, 11, -16, 13),
    "left_shoulder": (0.2, 0.3, 17, 31, -27),
    "left_elbow": (0.3, 0.6, 22, -11, -9),
    "left_wrist": (0.3, 1.3, 9, 2, 37),
    "left_pinky": (0.2, 1.6, 16, 4, 63),
    "left_index": (0.3, 1.2, 21, 19, 60),
    "left_thumb": (0.4, 1.2, 13, 16, 41),
    "left_hip": (-1.2, 0.4, 1, 5, 22),
    "left_knee": (0.5, 1.8, 16, 37, 10),
    "left_ankle": (-0.7, 0.7, 7, 14, -1),
    "left_heel": (-0.3, 0.5, -5, 15, 21),
    "left_foot_index": (-2.8, 0.4, -15, 22, 27),
}  # fmt: skip
OTHER_SIDE = (1.0, -1.0, 1.0, -1.0, -1.0)  # a row's signs for the landmark of the other side


def without_side_bias(output: BlazePoseOutput) -> BlazePoseOutput:
    """The prediction with the network's constant side bias subtracted (see `side_bias`)."""
    px, metres = side_bias(output.world.device)
    landmarks, world = output.landmarks.clone(), output.world.clone()
    landmarks[:, : len(px), :2] -= px
    world[:, : len(px)] -= metres
    return replace(output, landmarks=landmarks, world=world)


def flipped_back(output: BlazePoseOutput) -> BlazePoseOutput:
    """The prediction for a mirrored crop, flipped back: as if made for the crop itself."""
    order = [*BLAZEPOSE_33.mirror, *range(len(BLAZEPOSE_33), output.landmarks.shape[1])]
    landmarks, world = output.landmarks[:, order].clone(), output.world[:, order].clone()
    landmarks[..., 0] = CROP_SIZE - landmarks[..., 0]
    world[..., 0] *= -1
    heatmaps = None if output.heatmaps is None else output.heatmaps[:, order].flip(-1)
    return BlazePoseOutput(landmarks, world, output.presence, heatmaps)


@cache
def side_bias(device: torch.device) -> tuple[Tensor, Tensor]:
    """The network's constant error between left and right, of 33 landmarks: (33,2) px of the crop, (33,3) m.

    The shoulders of somebody who holds them level, for example, come out 6 cm apart in height.
    """
    rows = torch.zeros(len(BLAZEPOSE_33), 5)
    for name, row in _SIDE_BIAS.items():
        left = BLAZEPOSE_33.index[name]
        right = BLAZEPOSE_33.mirror[left]
        rows[right] = torch.tensor(row) * torch.tensor(OTHER_SIDE)
        rows[left] = torch.tensor(row)
    return rows[:, :2].to(device), rows[:, 2:].to(device) / 1000
