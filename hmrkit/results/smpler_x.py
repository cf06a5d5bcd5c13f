"""SMPLer-X's folder (Cai et al. 2023): ``smplx/00001_0.npz`` (frame from 1, number in the frame): ``global_orient``
(3,), ``body_pose`` (21,3), ``left_hand_pose`` and ``right_hand_pose`` (15,3), ``betas`` (10,), ``transl`` (3,) of
SMPL-X; ``meta/00001_0.json``: ``focal`` and ``princpt``, a camera of each box's own. Numbers do not follow people
through the clip. Its hands are meant about SMPL-X's mean hand, which is in SMPL-X's file.

Checked in MotrixLab/SMPLer-X, commit 5f0df54: ``main/inference.py`` draws SMPL-X with ``transl`` under that camera
(``main/SMPLer_X.py``, ``get_coord``). ``main/slurm_inference.sh`` takes frames at a rate that the user gives: the clip
has to have that rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.results.people import Person, Results, Space, make_person
from hmrkit.types import VideoInfo

SPACES = ("camera",)
_FOLDER = "smplx/"
_BODY, _HANDS = ("global_orient", "body_pose"), ("left_hand_pose", "right_hand_pose")


def recognise(data: Any) -> bool:
    """Whether there are bodies with their cameras."""
    names = [name for name in data if str(name).startswith(_FOLDER)] if isinstance(data, dict) else []
    return bool(names) and all(_camera_name(name) in data for name in names)


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """Every detection as a person of its own, still to be linked."""
    names = sorted(name for name in data if name.startswith(_FOLDER))
    frames = np.array([int(name.removeprefix(_FOLDER).partition("_")[0]) for name in names])
    frames = frames - (0 if 0 in frames else 1)
    people: list[Person] = []
    for k, name in enumerate(names):
        body, camera = data[name], data[_camera_name(name)]
        focal, center = (np.asarray(camera[key], float).reshape(-1) for key in ("focal", "princpt"))
        x, y, depth = np.asarray(body["transl"], float).reshape(3)
        per_pixel = depth / focal.mean()
        place = [x + (center[0] - video.width / 2) * per_pixel, y + (center[1] - video.height / 2) * per_pixel]
        keys = (*_BODY, *_HANDS) if set(_HANDS) <= set(body) else _BODY
        pose = np.concatenate([np.asarray(body[key], float).reshape(-1) for key in keys])
        people.append(make_person(k + 1, [frames[k]], pose[None], body["betas"], [[*place, per_pixel]]))
    return Results(tuple(people), body="smplx", linked=False, mean_hands=True)


def _camera_name(name: str) -> str:
    return "meta/" + name.removeprefix(_FOLDER).removesuffix(".npz") + ".json"
