"""What a lifter checks of the keypoints that it is given, before any network's own convention."""

from __future__ import annotations

import numpy as np

from hmrkit.errors import InputError
from hmrkit.skeletons import COCO_17


def check_keypoints(keypoints_2d: np.ndarray, fps: float) -> np.ndarray:
    """COCO-17 keypoints (T,17,2|3) px -> (T,17,3) float32: x, y, confidence; all three NaN where confidence is not
    above 0.

    Without confidences a joint has confidence 1. InputError where the shape or the frame rate is not usable.
    """
    keypoints = np.asarray(keypoints_2d, np.float32)
    if keypoints.ndim != 3 or keypoints.shape[1] != len(COCO_17) or keypoints.shape[2] not in (2, 3):
        raise InputError(f"lifter: wanted COCO-17 keypoints (T,17,2) or (T,17,3), got {keypoints.shape}")
    if not fps > 0:
        raise InputError(f"lifter: wanted a positive frame rate, got {fps}")
    if keypoints.shape[2] == 2:
        keypoints = np.concatenate([keypoints, np.ones_like(keypoints[..., :1])], -1)
    return np.where(keypoints[..., 2:] > 0, keypoints, np.float32(np.nan))
