"""What a lifter checks of the keypoints that it is given, before any network's own convention, and how keypoints are
brought into the order of joints that it reads."""

from __future__ import annotations

import numpy as np

from hmrkit.errors import InputError
from hmrkit.skeletons import COCO_17, Skeleton

# Joints of Human3.6M that keypoint detectors lack, as sums of those that they have; weights add up to 1. Human3.6M's
# head joint lies a little above the ears: its thorax is at the shoulders' height and 0.24 m below it, ears are 0.20 m
# above the shoulders.
_SUMS: dict[str, dict[str, float]] = {
    "pelvis": {"left_hip": 0.5, "right_hip": 0.5},
    "spine": {"left_hip": 0.25, "right_hip": 0.25, "left_shoulder": 0.25, "right_shoulder": 0.25},
    "thorax": {"left_shoulder": 0.5, "right_shoulder": 0.5},
    "head_top": {"left_ear": 0.6, "right_ear": 0.6, "left_shoulder": -0.1, "right_shoulder": -0.1},
}


def check_keypoints(keypoints_2d: np.ndarray, fps: float, skeleton: Skeleton = COCO_17) -> np.ndarray:
    """Keypoints (T,J,2|3) px of `skeleton` -> (T,J,3) float32: x, y, confidence; all three NaN where confidence is not
    above 0.

    Without confidences a joint has confidence 1. InputError where the shape or the frame rate is not usable.
    """
    keypoints = np.asarray(keypoints_2d, np.float32)
    if keypoints.ndim != 3 or keypoints.shape[1] != len(skeleton) or keypoints.shape[2] not in (2, 3):
        name, count = skeleton.name.upper(), len(skeleton)
        raise InputError(f"lifter: wanted {name} keypoints (T,{count},2) or (T,{count},3), got {keypoints.shape}")
    if not fps > 0:
        raise InputError(f"lifter: wanted a positive frame rate, got {fps}")
    if keypoints.shape[2] == 2:
        keypoints = np.concatenate([keypoints, np.ones_like(keypoints[..., :1])], -1)
    return np.where(keypoints[..., 2:] > 0, keypoints, np.float32(np.nan))


def convert_keypoints(keypoints_2d: np.ndarray, source: Skeleton, target: Skeleton) -> np.ndarray:
    """Keypoints (T,K,3) px of `source`, x, y, confidence -> those (T,J,3) of `target`, by joint name.

    What `source` lacks of Human3.6M's joints is a sum of others (pelvis, spine, thorax, head); it is missing (NaN,
    confidence 0) where one of them is, and as sure as the least sure of them. InputError where a joint can be had in
    neither way.
    """
    if all(name in source.index for name in target.joints):
        return keypoints_2d[:, source.indices(*target.joints)]
    terms = [{name: 1.0} if name in source.index else _SUMS.get(name, {}) for name in target.joints]
    lacking = [
        j for j, term in zip(target.joints, terms, strict=True) if not term or not source.index.keys() >= term.keys()
    ]
    if lacking:
        raise InputError(f"lifter: wanted {target.name} keypoints, {source.name} gives no {', '.join(lacking)}")
    weights = np.zeros((len(target), len(source)), np.float32)
    for row, term in zip(weights, terms, strict=True):
        row[source.indices(*term)] = list(term.values())
    known = np.isfinite(keypoints_2d).all(-1) & (keypoints_2d[..., 2] > 0)
    points = weights @ np.where(known[..., None], keypoints_2d[..., :2], 0)
    used = weights != 0
    confidence = np.where(used, np.where(known, keypoints_2d[..., 2], 0)[:, None], np.inf).min(-1)
    points = np.where(confidence[..., None] > 0, points, np.nan)
    return np.concatenate([points, confidence[..., None]], -1).astype(np.float32)
