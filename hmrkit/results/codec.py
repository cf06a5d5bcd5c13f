"""``.smpl`` of Meshcapade's codec (smplcodec, MIT): a zip of arrays without pickles, y up.

``smplVersion`` 0 SMPL, 1 SMPL-H, 2 SMPL-X; ``gender`` 0 neutral, 1 male, 2 female; ``shapeParameters`` (S,);
``frameCount``, ``frameRate`` Hz; ``bodyTranslation`` (T,3) m; ``bodyPose`` (T,24,3) or (T,22,3) axis-angle;
``leftHandPose`` and ``rightHandPose`` (T,15,3).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.errors import InputError
from hmrkit.results.people import BODY_JOINTS, Results, Space, at_rate, make_person
from hmrkit.types import VideoInfo

SPACES = ("world",)
_BODIES = {0: "smpl", 1: "smpl", 2: "smplx"}
_GENDERS = {0: "neutral", 1: "male", 2: "female"}


def recognise(data: Any) -> bool:
    """Whether it has the codec's own names."""
    return isinstance(data, dict) and {"codecVersion", "smplVersion"} <= set(data)


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """The person at the clip's frames; what the file leaves out is zero, as the codec has it."""
    version = int(data["smplVersion"])
    if version not in _BODIES:
        raise InputError(f"wanted SMPL, SMPL-H or SMPL-X, found the codec's body {version}")
    if "bodyPose" not in data:
        raise InputError("wanted a motion, found a body without poses")
    pose = np.asarray(data["bodyPose"], float)
    pose = pose.reshape(-1, *pose.shape[-2:])
    hands = [data.get(key, np.zeros((len(pose), 15, 3))) for key in ("leftHandPose", "rightHandPose")]
    if version != 0:
        pose = np.concatenate([pose[:, :BODY_JOINTS], *(np.asarray(h, float).reshape(-1, 15, 3) for h in hands)], 1)
    place = data.get("bodyTranslation", np.zeros((len(pose), 3)))
    person = make_person(1, np.arange(len(pose)), pose, data.get("shapeParameters", np.zeros(10)), place)
    rate = float(data.get("frameRate", video.fps))
    return Results(
        people=(at_rate(person, rate, video.frame_times, video.frame_indices),),
        body=_BODIES[version],
        gender=_GENDERS.get(int(data.get("gender", 0)), "neutral"),
        space="world",
    )
