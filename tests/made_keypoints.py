"""Keypoints of a person who moves, made without a detector."""

from __future__ import annotations

import numpy as np

# A standing person in COCO's order, in parts of its height from the pelvis: x right, y down, left joints to the right.
_STANDING = np.array(
    [0, -0.42, 0.02, -0.44, -0.02, -0.44, 0.04, -0.43, -0.04, -0.43, 0.11, -0.3, -0.11, -0.3, 0.17, -0.13, -0.17, -0.13,
     0.19, 0.02, -0.19, 0.02, 0.06, 0, -0.06, 0, 0.07, 0.24, -0.07, 0.24, 0.08, 0.47, -0.08, 0.47]
).reshape(17, 2)  # fmt: skip


def waving(frames: int = 60, height_px: float = 350.0) -> np.ndarray:
    """COCO-17 keypoints (T,17,3) px of a person in an image of 1280 x 720 whose joints move smoothly."""
    rng = np.random.default_rng(0)
    way, phase = rng.uniform(-0.06, 0.06, (17, 2)), rng.uniform(0, 3, (17, 2))
    joints = _STANDING + way * np.sin(np.arange(frames)[:, None, None] / 20 + phase)
    points = (500.0, 350.0) + height_px * joints
    return np.concatenate([points, np.ones((frames, 17, 1))], -1).astype(np.float32)
