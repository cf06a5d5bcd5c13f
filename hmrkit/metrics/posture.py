"""How people hold themselves while they stand: joint flexion against the body's own T-pose. One person at a time.

No truth is needed: whoever stands still and upright has nearly straight knees.
"""

from __future__ import annotations

import numpy as np

from hmrkit.skeletons import SMPL_24

STILL_M_S = 0.25  # of ankles, toes and hips across the line of sight
STILL_ALONG_M_S = 1.5  # depth from one camera is too restless to judge by
UPRIGHT_DEG = 25.0  # of the trunk against gravity
TALL = 0.85  # hips above the ankles, in leg lengths: legs flexed by up to about 60 degrees
SHORTEST_S = 0.15

LIMBS = {
    "left_knee": ("left_hip", "left_knee", "left_ankle"),
    "right_knee": ("right_hip", "right_knee", "right_ankle"),
    "left_elbow": ("left_shoulder", "left_elbow", "left_wrist"),
    "right_elbow": ("right_shoulder", "right_elbow", "right_wrist"),
}
_FEET = SMPL_24.indices("left_ankle", "right_ankle", "left_foot", "right_foot")
_ANKLES, _HIPS = _FEET[:2], SMPL_24.indices("left_hip", "right_hip")


def flexion_deg(joints: np.ndarray, rest: np.ndarray, joint: str) -> np.ndarray:
    """Flexion (T) in degrees of a knee or an elbow (`LIMBS`) of joints (T,24,3) m, beyond that of `rest` (24,3) m.

    `rest` are the joints of the same body in its T-pose, whose limbs are not quite straight: 0 is the T-pose, a
    limb straighter than that is a few degrees below 0.
    """
    return _bend(joints, joint) - _bend(rest[None], joint)[0]


def standing_mask(joints: np.ndarray, rest: np.ndarray, fps: float, up: np.ndarray) -> np.ndarray:
    """Mask (T): frames in which a person stands still and upright, by joints (T,24,3) m in the camera frame.

    Both feet and the hips rest for `SHORTEST_S` or longer, the trunk is upright, and the hips are high above the
    ankles, measured in legs of `rest` (24,3) m. `fps` is the frames' rate, `up` (3,) the unit direction against
    gravity. Whoever squats or sits does not stand. Missing frames are NaN and do not count.
    """
    count = len(joints)
    if count < 2:
        return np.zeros(count, bool)
    hips, ankles = joints[:, _HIPS].mean(1), joints[:, _ANKLES].mean(1)
    points = np.concatenate([joints[:, _FEET], hips[:, None]], 1)
    step = np.diff(points, axis=0) * fps
    ray = points[:-1] / np.linalg.norm(points[:-1], axis=-1, keepdims=True).clip(1e-6)
    along = (step * ray).sum(-1)
    across = np.linalg.norm(step - along[..., None] * ray, axis=-1)
    still = ((across < STILL_M_S) & (np.abs(along) < STILL_ALONG_M_S)).all(1)
    trunk = joints[:, SMPL_24.index["neck"]] - hips
    upright = trunk @ up > np.cos(np.radians(UPRIGHT_DEG)) * np.linalg.norm(trunk, axis=1)
    tall = (hips - ankles) @ up > TALL * _leg_length(rest)
    mask = (np.append(still, False) | np.insert(still, 0, False)) & upright & tall
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))).reshape(-1, 2)
    for begin, end in edges[np.diff(edges, axis=1)[:, 0] < max(2, round(SHORTEST_S * fps))]:
        mask[begin:end] = False
    return mask


def flexion_while_standing_deg(joints: np.ndarray, rest: np.ndarray, fps: float, up: np.ndarray) -> dict[str, float]:
    """Median flexion in degrees of each of `LIMBS` over `standing_mask`; NaN where the person never stands."""
    stands = standing_mask(joints, rest, fps, up)
    return {
        name: float(np.median(flexion_deg(joints, rest, name)[stands])) if stands.any() else float("nan")
        for name in LIMBS
    }


def _bend(joints: np.ndarray, joint: str) -> np.ndarray:
    """Angle (T) in degrees between the two bones of a limb, 0 where they are in line."""
    start, middle, end = SMPL_24.indices(*LIMBS[joint])
    near, far = joints[:, middle] - joints[:, start], joints[:, end] - joints[:, middle]
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(near, far), axis=-1), (near * far).sum(-1)))


def _leg_length(rest: np.ndarray) -> float:
    """Mean length of thigh and shin together, m."""
    chain = [SMPL_24.indices(*LIMBS[f"{side}_knee"]) for side in ("left", "right")]
    return float(np.linalg.norm(np.diff(rest[chain], axis=1), axis=-1).sum(1).mean())
