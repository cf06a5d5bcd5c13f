"""AMASS (Mahmood et al. 2019): ``poses`` (T,156) of SMPL-H, or (T,165) of SMPL-X, ``trans`` (T,3) m in a world with z
up, ``betas`` (16,), ``gender``, ``mocap_framerate`` or ``mocap_frame_rate`` in Hz; ``surface_model_type`` in newer
files. A recording has no clip: it begins with the clip's first frame, and each frame gets the pose nearest in time."""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.results.people import Results, Space, at_rate, make_person
from hmrkit.types import VideoInfo

SPACES = ("world",)
_RATES = ("mocap_framerate", "mocap_frame_rate")
_SMPLX_NUMBERS = 165


def recognise(data: Any) -> bool:
    """Whether it has poses and places of one body."""
    return isinstance(data, dict) and {"poses", "trans", "betas"} <= set(data) and np.ndim(data["poses"]) == 2


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """The recording at the clip's frames; a file without a rate has one row a frame."""
    poses = np.asarray(data["poses"])
    person = make_person(1, np.arange(len(poses)), poses, data["betas"], data["trans"])
    rate = next((float(np.asarray(data[key]).item()) for key in _RATES if key in data), float(video.fps))
    gender = data.get("gender", "neutral")
    gender = gender.item() if isinstance(gender, np.ndarray) else gender
    gender = gender.decode() if isinstance(gender, bytes) else str(gender)
    is_smplx = str(data.get("surface_model_type", "")) == "smplx" or poses.shape[1] == _SMPLX_NUMBERS
    return Results(
        people=(at_rate(person, rate, video.frame_times, video.frame_indices),),
        body="smplx" if is_smplx else "smpl",
        gender=gender,
        space="world",
        up=(0.0, 0.0, 1.0),
    )
