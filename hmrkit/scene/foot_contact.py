"""Where the soles of a posed body are, and when they stand: what the ground and foot locking are found from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from hmrkit.skeletons import SMPL_24
from hmrkit.types import BodyParams

if TYPE_CHECKING:
    from hmrkit.body import Body
from hmrkit.body.posing import body_for, posed_skeleton, skeleton_joints

ANKLES = SMPL_24.indices("left_ankle", "right_ankle")
TOES = SMPL_24.indices("left_foot", "right_foot")
STILL_M_S = 0.3  # across the line of sight; depth from one camera is too restless to judge a foot by
STILL_ALONG_M_S = 1.5
SHORTEST_S = 0.1
LOW_M = 0.12  # a foot this much above the other one is in the air


def sole_points(body: Body, params: BodyParams) -> np.ndarray:
    """Heel and ball (T,2 feet,2,3) m on the soles of the posed body, left foot first, in the parameters' frame."""
    with torch.inference_mode():
        rest = body_for(params, body)(betas=params.betas)
        posed = posed_skeleton(body, params)
    vertices, joints = rest.vertices[0].cpu().numpy(), rest.joints[0].cpu().numpy()
    skin = body.weights.cpu().numpy()
    points = []
    for ankle, toe in zip(ANKLES, TOES, strict=True):
        of_foot = vertices[skin[:, [ankle, toe]].sum(1) > 0.5]
        floor = float(of_foot[:, 1].min())
        heel = np.array([joints[ankle, 0], floor, of_foot[:, 2].min() + 0.02])
        ball = np.array([joints[toe, 0], floor, joints[toe, 2]])
        points += [(ankle, heel - joints[ankle]), (toe, ball - joints[toe])]
    carriers = [joint for joint, _ in points]
    offsets = np.stack([offset for _, offset in points])
    rotations, places = (x[:, carriers].cpu().numpy() for x in (posed.joint_rotations, posed.joints))
    return (places + (rotations @ offsets[..., None])[..., 0]).reshape(-1, 2, 2, 3)


def standing(points: np.ndarray, fps: float, up: np.ndarray) -> np.ndarray:
    """Mask (T,2): frames in which each foot stands, by its sole points (T,2,2,3) m in the camera frame.

    A foot stands while its heel or its ball rests across the line of sight and it is not much above the other foot.
    `up` (3,) is the direction against gravity. Stands shorter than `SHORTEST_S` do not count.
    """
    count = len(points)
    if count < 2:
        return np.zeros((count, 2), bool)
    step = np.diff(points, axis=0)
    ray = points[:-1] / np.linalg.norm(points[:-1], axis=-1, keepdims=True).clip(1e-6)
    along = (step * ray).sum(-1)
    across = np.linalg.norm(step - along[..., None] * ray, axis=-1)
    still = (across * fps < STILL_M_S) & (np.abs(along) * fps < STILL_ALONG_M_S)
    still = still.any(-1)  # heel or ball: a foot rolls from one to the other
    height = (points @ up).min(-1)
    low = height < height.min(1, keepdims=True) + LOW_M
    stands = np.zeros((count, 2), bool)
    stands[:-1] |= still
    stands[1:] |= still
    stands &= low
    shortest = max(2, round(SHORTEST_S * fps))
    for foot in range(2):
        for begin, end in stretches(stands[:, foot]):
            if end - begin < shortest:
                stands[begin:end, foot] = False
    return stands


def stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end (exclusive) of each run of True in a mask (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def body_up(body: Body, params: BodyParams) -> np.ndarray:
    """Directions (T,3) from the ankles to the neck, as long as that distance over the longest: short when bent."""
    joints = skeleton_joints(body, params)
    reach = joints[:, SMPL_24.index["neck"]] - joints[:, ANKLES].mean(1)
    return reach / np.linalg.norm(reach, axis=1).max().clip(1e-6)
