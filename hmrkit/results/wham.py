"""``wham_output.pkl`` (Shin et al., WHAM, 2024; joblib): person -> ``pose`` (T,72) and ``trans`` (T,3) in the camera,
``pose_world`` and ``trans_world`` in a world with y up, ``betas`` (T,10), ``frame_ids`` (T,) from 0.

Checked in yohanshin/WHAM, commit 2b54f77: ``demo.py`` takes the hips' middle off ``trans``, which so is SMPL's
``transl``; ``trans_world`` is the hips' middle itself (``lib/models/smpl.py``, ``get_output``), that of COCO's hips,
for which SMPL's joints stand here. Everybody's world is their own: they all begin near its origin. The focal length is
the image's diagonal (``lib/utils/imutils.py``; ``--calib`` goes to the camera's motion only), the centre in the
middle.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from hmrkit.results.people import Results, Space, make_person
from hmrkit.types import VideoInfo

SPACES = ("camera", "world")
_KEYS = {"camera": ("pose", "trans"), "world": ("pose_world", "trans_world")}


def recognise(data: Any) -> bool:
    """Whether each value is a person with poses in camera and world."""
    wanted = {"pose", "trans", "pose_world", "frame_ids"}
    return (
        isinstance(data, dict) and bool(data) and all(isinstance(v, dict) and wanted <= set(v) for v in data.values())
    )


def read(data: dict[Any, dict[str, Any]], video: VideoInfo, space: Space) -> Results:
    """All people of the clip."""
    pose, place = _KEYS[space]
    people = tuple(
        make_person(number, one["frame_ids"], one[pose], one["betas"], one[place])
        for number, one in enumerate(data.values(), 1)
    )
    at: Literal["origin", "hips"] = "hips" if space == "world" else "origin"
    return Results(people, at=at, space=space, focal_px=float(np.hypot(video.width, video.height)))
