"""Tracks of 4D-Humans and PHALP (Goel et al. 2023; Rajasegaran et al. 2022; joblib): frame's name -> lists with an
entry a person: ``tid``, ``smpl`` (``global_orient`` (1,3,3), ``body_pose`` (23,3,3), ``betas`` (10,)), ``camera``
(3,), ``size`` (height, width), ``tracked_time`` (frames since the person was last seen); and ``time``, the frame's
number.

``camera`` is a translation in front of a camera of focal length 5000 in an image of 256 px, into which the longer side
of the frame fits, its centre in the middle. That is so long a lens that it says scale and place, not depth.

Checked in brjathu/PHALP, commit 96f7e6c (``phalp/trackers/PHALP.py``, ``phalp/models/hmar/hmar.py``,
``phalp/visualize/py_renderer.py``), which shubham-goel/4D-Humans' ``track.py`` (6ec7965) runs: ``camera`` is SMPL's
``transl``. ``time`` counts from 0 at the first frame that it was given, also with ``video.start_frame``.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from hmrkit.results.people import Results, Space, make_person
from hmrkit.types import VideoInfo

SPACES = ("camera",)
FOCAL, IMAGE = 5000.0, 256.0


def recognise(data: Any) -> bool:
    """Whether each value is a frame with people."""
    wanted = {"tid", "smpl", "camera"}
    return (
        isinstance(data, dict) and bool(data) and all(isinstance(v, dict) and wanted <= set(v) for v in data.values())
    )


def read(data: dict[str, dict[str, Any]], video: VideoInfo, space: Space) -> Results:
    """All people of the clip. Frames in which PHALP only predicts somebody, who is not seen, are gaps."""
    rows: dict[int, list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]] = defaultdict(list)
    for order, frame in enumerate(data.values()):
        number = int(frame.get("time", order))
        unseen = frame.get("tracked_time") or [0] * len(frame["tid"])
        for k, track in enumerate(frame["tid"]):
            if unseen[k] == 0:
                height, width = frame["size"][k] if frame.get("size") else (video.height, video.width)
                rows[int(track)].append((number, *_row(frame["smpl"][k], frame["camera"][k], max(height, width))))
    people = []
    for track, found in sorted(rows.items()):
        frames, pose, betas, place = (np.stack(column) for column in zip(*found, strict=True))
        people.append(make_person(track, frames, pose, betas, place))
    return Results(tuple(people))


def _row(smpl: dict[str, Any], camera: Any, side: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    root, rest = (np.asarray(smpl[key], float).reshape(-1, 3, 3) for key in ("global_orient", "body_pose"))
    x, y, depth = np.asarray(camera, float).reshape(3)
    place = np.array([x, y, depth * IMAGE / (FOCAL * side)])
    return np.concatenate([root, rest]), np.asarray(smpl["betas"], float).reshape(-1), place
