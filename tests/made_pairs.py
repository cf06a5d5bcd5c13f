"""Two takes of one clip that differ by known amounts."""

from dataclasses import replace

import numpy as np
import pytest

from hmrkit.skeletons import SMPL_24

BOXES = {1: (10, 10, 60, 200), 2: (300, 10, 380, 220)}


@pytest.fixture(scope="module")
def pair(take):
    """A take whose people have boxes, and another: people renumbered, 50 mm farther off, one wrist moved by 30 mm."""
    tracks = [
        replace(t, boxes_xyxy=np.tile(np.array(BOXES[t.track_id], np.float32), (len(t.scores), 1))) for t in take.tracks
    ]
    first = replace(take, tracks=tuple(tracks))
    number = {1: 5, 2: 3}
    away = np.array([0, 0, 0.05], np.float32)
    body = {number[i]: replace(p, transl_c=p.transl_c + away) for i, p in take.body.items()}
    joints = take.calibrated[2].joints_c + away
    joints[:, SMPL_24.index["left_wrist"], 0] += 0.03
    second = replace(
        first,
        tracks=tuple(replace(t, track_id=number[t.track_id]) for t in tracks[::-1]),
        body=body,
        calibrated={3: replace(take.calibrated[2], joints_c=joints)},
        keypoints={number[i]: k for i, k in take.keypoints.items()},
    )
    return first, second
