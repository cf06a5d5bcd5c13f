"""What nobody saw: boxes without a believable body, and limbs that the image does not show.

An estimator gives all its joints for every box, also for a face alone: then it lays a tiny body onto the head. How
sure it is of the trunk, and how much of the box the body fills, tell such boxes apart. Each limb by itself may be
outside the image or behind something.
"""

from __future__ import annotations

import numpy as np

from hmrkit.skeletons import SMPL_24, get_skeleton
from hmrkit.types import Keypoints

# Trunks that can be seen have 0.6 or more, also cut off below the chest; tiny bodies on heads as a rule below 0.25.
BELIEVABLE = 0.3
FILLED = 0.5  # of the box's diagonal: whole bodies fill 0.8 and more, bodies cut off reach beyond it, tiny ones 0.4
BELIEVABLE_SHARE = 0.1  # of a track's frames; the others are bridged from these
SEEN = 0.1  # confidence of a limb's joint
TRUNK = tuple(f"{side}_{name}" for name in ("shoulder", "hip") for side in ("left", "right"))
# Joint of the body -> the keypoint that shows it. The trunk's own are not here: they count as seen.
_SHOWN_BY = {
    f"{side}_{joint}": f"{side}_{point}"
    for side in ("left", "right")
    for joint, point in (
        ("knee", "knee"), ("ankle", "ankle"), ("foot", "ankle"), ("elbow", "elbow"), ("wrist", "wrist"),
        ("hand", "wrist"),
    )
}  # fmt: skip
LIMBS = {
    f"{side}_{limb}": SMPL_24.indices(*(f"{side}_{joint}" for joint in joints))
    for side in ("left", "right")
    for limb, joints in (("arm", ("elbow", "wrist")), ("leg", ("knee", "ankle")))
}


def believable_frames(keypoints: Keypoints, boxes_xyxy: np.ndarray) -> np.ndarray:
    """Mask (T): frames whose mean confidence over shoulders and hips is that of a body, as large as its box (T,4) px.

    A skeleton without those joints counts wherever it has any confident joint.
    """
    points, index = keypoints.keypoints_2d, get_skeleton(keypoints.skeleton).index
    sure = np.nan_to_num(points[..., 2])
    has_trunk = all(name in index for name in TRUNK)
    certain = sure[:, [index[name] for name in TRUNK]].mean(1) if has_trunk else sure.max(1)
    known = np.isfinite(points[..., :2]).all(-1, keepdims=True)
    low, high = (f(np.where(known, points[..., :2], far), axis=1) for f, far in ((np.min, np.inf), (np.max, -np.inf)))
    reach = np.linalg.norm(np.where(np.isfinite(high), high - low, 0.0), axis=-1)
    box = np.linalg.norm(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=-1)
    return (certain >= BELIEVABLE) & (reach >= FILLED * box)


def why_no_body(keypoints: Keypoints, boxes_xyxy: np.ndarray, given: bool = False) -> str | None:
    """Why a track shows no believable body in its boxes (T,4) px; None where it shows one.

    Where the boxes are `given` (by a dataset) and not found, there is somebody, however badly seen.
    """
    if not (keypoints.keypoints_2d[..., 2] > 0).any():
        return "shows no keypoint"
    if given:
        return None
    share = believable_frames(keypoints, boxes_xyxy).mean()
    if share < BELIEVABLE_SHARE:
        return f"no believable body: sure of shoulders and hips and as large as its box in {share:.0%} of its frames"
    return None


def seen_joints(keypoints: Keypoints, width: int, height: int) -> np.ndarray:
    """Which of the body's joints the image shows: mask (T,24) in the order of `BodyParams`.

    A limb's joint is seen where its keypoint lies in the image of `width` x `height` px with some confidence.
    """
    points, index = keypoints.keypoints_2d, get_skeleton(keypoints.skeleton).index
    with np.errstate(invalid="ignore"):
        inside = ((points[..., :2] >= 0) & (points[..., :2] < [width, height])).all(-1)
    visible = inside & (np.nan_to_num(points[..., 2]) >= SEEN)
    seen = np.ones((len(points), len(SMPL_24)), bool)
    for joint, point in _SHOWN_BY.items():
        if point in index:
            seen[:, SMPL_24.index[joint]] = visible[:, index[point]]
    return seen


def seen_rotations(seen: np.ndarray) -> np.ndarray:
    """Which joints' rotations the image shows, mask (T,24) of `seen_joints`: those whose bone's far end is seen."""
    parents = list(SMPL_24.parents)
    ends = [parents.index(joint) if joint in parents else joint for joint in range(len(parents))]
    return seen[:, ends]


def unseen_shares(seen: np.ndarray) -> dict[str, float]:
    """Limb -> share of the frames (T,24) in which neither of its joints is seen; only limbs that ever are unseen."""
    shares = {limb: float((~seen[:, joints]).all(1).mean()) for limb, joints in LIMBS.items()}
    return {limb: share for limb, share in shares.items() if share > 0}
