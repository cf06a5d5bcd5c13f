"""``results.pkl`` of PromptHMR's video pipeline (Wang et al. 2025; joblib): ``people`` -> ``frames`` (T,),
``smplx_cam`` and ``smplx_world`` (y up), each SMPL-X's ``pose`` (T,75 or 165) axis-angle, ``shape`` (T,10), ``trans``
(T,3); ``camera`` with ``img_focal`` and ``img_center`` in pixels of the frames that it worked on, which are smaller
than the clip's where those have more than 896 rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.results.people import Results, Space, make_person
from hmrkit.types import VideoInfo

SPACES = ("camera", "world")
_KEYS = {"camera": "smplx_cam", "world": "smplx_world"}


def recognise(data: Any) -> bool:
    """Whether it has people with SMPL-X's parameters, and their camera."""
    if not (isinstance(data, dict) and isinstance(data.get("people"), dict) and "camera" in data):
        return False
    return all(isinstance(one, dict) and {"frames", "smplx_cam"} <= set(one) for one in data["people"].values())


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """All people of the clip."""
    people = []
    for number, one in enumerate(data["people"].values(), 1):
        params = one[_KEYS[space]]
        pose = params["pose"] if "pose" in params else params["rotmat"]
        people.append(make_person(number, one["frames"], pose, params["shape"], params["trans"]))
    focal = float(np.asarray(data["camera"]["img_focal"], float).mean())
    center = np.asarray(data["camera"]["img_center"], float).reshape(-1)[:2]
    enlarged = video.width / (2 * center[0])
    return Results(tuple(people), body="smplx", space=space, focal_px=focal * float(enlarged))
