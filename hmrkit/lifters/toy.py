"""A lifter without weights, for tests of the chain: the flat pose, scaled to a person's height."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hmrkit.lifters.inputs import check_keypoints
from hmrkit.skeletons import COCO_17, H36M_17, Skeleton

_HEIGHT_M = 1.6  # from the eyes to the ankles, and a little more where arms are raised


class ToyLifter:
    """Joints in a plane parallel to the image. Means of keypoints stand for the joints that COCO lacks."""

    receptive_field = 1
    weights_sha256 = ""
    input_skeleton: Skeleton = COCO_17
    output_skeleton: Skeleton = H36M_17

    def __call__(
        self,
        keypoints_2d: np.ndarray,
        *,
        width: int,
        height: int,
        fps: float,
        flip: bool = True,
        focal_px: float | np.ndarray | None = None,
        center_px: np.ndarray | None = None,
        times: np.ndarray | None = None,
    ) -> np.ndarray:
        """Keypoints (T,17,2|3) px -> joints (T,17,3) m about the pelvis; missing keypoints lie in it."""
        keypoints = check_keypoints(keypoints_2d, fps)
        seen = np.isfinite(keypoints).all(-1, keepdims=True)
        points = np.where(seen, keypoints[..., :2], np.float32(np.nan))
        joint = dict(zip(COCO_17.joints, np.moveaxis(points, 1, 0), strict=True))
        joint["pelvis"] = (joint["left_hip"] + joint["right_hip"]) / 2
        joint["thorax"] = (joint["left_shoulder"] + joint["right_shoulder"]) / 2
        joint["spine"] = (joint["pelvis"] + joint["thorax"]) / 2
        joint["head_top"] = 2 * joint["nose"] - joint["thorax"]
        flat = np.stack([joint[name] for name in H36M_17.joints], 1) - joint["pelvis"][:, None]
        flat = np.nan_to_num(flat)
        size = np.median(np.ptp(flat[..., 1], 1)) if len(flat) else 1.0
        flat *= _HEIGHT_M / max(float(size), 1.0)
        return np.concatenate([flat, np.zeros_like(flat[..., :1])], -1).astype(np.float32)


def load(checkpoint: str | Path | None = None, *, device: object = "cpu") -> ToyLifter:
    """The toy; it takes no checkpoint and runs on NumPy."""
    return ToyLifter()
