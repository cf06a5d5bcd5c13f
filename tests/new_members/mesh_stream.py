"""A mesh stream that stands everybody three metres in front of the camera."""

from __future__ import annotations

import numpy as np

from hmrkit.types import BodyParams


class StandingStream:
    def __init__(self, body):
        self.body = body

    def __call__(self, take, tracks, progress):
        found = {}
        for track in tracks:
            count = len(track.frame_indices)
            upright = np.tile(np.diag([1.0, -1.0, -1.0]).astype(np.float32), (count, 1, 1))
            pose = np.tile(np.eye(3, dtype=np.float32), (count, 23, 1, 1))
            away = np.tile(np.array([0, 0, 3], np.float32), (count, 1))
            shape = np.zeros(10, np.float32)
            found[track.track_id] = BodyParams(upright, pose, shape, away, self.body.gender, self.body.model_id)
        progress(1, 1)
        return found


def load(name, models):
    return StandingStream(models.body)
