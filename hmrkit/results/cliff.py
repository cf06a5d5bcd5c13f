"""``.npz`` of CLIFF's demos (Li et al. 2022): a row a detection: ``pose`` (N,72) or (N,24,3,3), ``shape`` (N,10),
``global_t`` (N,3) m in the full camera, ``focal_l`` (N,) px, ``detection_all`` (N,8): frame, box, scores, person (the
official demo, which does not track, has 0 there).

Checked in haofanwang/CLIFF, commit f38cad8: ``demo.py``. ``global_t`` is SMPL's ``transl``, the centre is in the
middle; frames count from 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hmrkit.results.people import Results, Space, make_person
from hmrkit.types import VideoInfo

SPACES = ("camera",)


def recognise(data: Any) -> bool:
    """Whether it has the demo's names."""
    return isinstance(data, dict) and {"pose", "shape", "global_t", "focal_l"} <= set(data)


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """All people of the clip."""
    count = len(data["pose"])
    rows = np.asarray(data.get("detection_all", np.stack([np.arange(count), np.zeros(count)], 1)), float)
    frames, people = rows[:, 0].astype(int), rows[:, -1].astype(int)
    pose, shape, place = (np.asarray(data[key], float) for key in ("pose", "shape", "global_t"))
    linked = len(np.unique(np.stack([frames, people], 1), axis=0)) == count
    if not linked:
        people = np.arange(count)
    found = [
        make_person(number + 1, frames[mine], pose[mine], shape[mine], place[mine])
        for number in np.unique(people)
        for mine in [people == number]
    ]
    return Results(tuple(found), focal_px=float(np.mean(data["focal_l"])), linked=linked)
