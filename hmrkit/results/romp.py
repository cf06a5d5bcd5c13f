"""``.npz`` of ROMP (Sun et al. 2021) and BEV (Sun et al. 2022), as simple-romp writes them: ``results`` of one frame,
or frame's name -> results in ``video_results.npz``: ``smpl_thetas`` (N,72), ``smpl_betas`` (N,10 or 11), ``cam``
(N,3), ``joints`` (N,71,3) m, and ``track_ids`` (N,) if it tracked.

ROMP's ``cam`` s, tx, ty: a point X is seen at ``s X + tx`` in an image that runs from -1 to 1 over the longer side,
its centre in the middle. BEV has perspective, a focal length of 443.4 in an image of 512 px, and moves bodies by
``cam_trans`` (N,3) m. ``joints`` begin with SMPL's and say where the pelvis is; where they are left out
(``--calc_smpl``) it is ROMP's body origin and BEV's middle of the hips that move. BEV's 11th shape number is the age,
which bodies here do not have.

Checked in Arthur151/ROMP, commit a8558ae: ``simple_romp/romp/main.py``, ``post_parser.py``, ``smpl.py``, ``utils.py``,
and ``simple_romp/bev/main.py``, ``post_parser.py``, which names its frames ``00000012__2_0.08.png``.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from typing import Any, Literal

import numpy as np

from hmrkit.results.people import Person, Results, Space, frames_of_names, make_person, weak_place
from hmrkit.types import VideoInfo

log = logging.getLogger(__name__)

SPACES = ("camera",)
_WANTED = {"smpl_thetas", "smpl_betas", "cam"}
_BEV_SHAPES, _BEV_FOCAL = 11, 443.4 / 512  # of the longer side
_CHILD = 0.3  # of BEV's age, 0 for adults; above, the difference is seen
_BEV_SUFFIX = re.compile(r"__\d+_[\d.]+(?=\.\w+$)")


def recognise(data: Any) -> bool:
    """Whether there are results of a frame, or of some."""
    results = data.get("results") if isinstance(data, dict) else None
    if not isinstance(results, dict):
        return False
    frames = [results] if set(results) >= _WANTED else list(results.values())
    return bool(frames) and all(isinstance(frame, dict) and set(frame) >= _WANTED for frame in frames if frame)


def read(data: dict[str, Any], video: VideoInfo, space: Space) -> Results:
    """All people of the clip; without ``track_ids`` each detection is a person of its own, still to be linked."""
    results = data["results"]
    frames = {"0": results} if set(results) >= _WANTED else {name: frame for name, frame in results.items() if frame}
    numbers = frames_of_names([_BEV_SUFFIX.sub("", str(name)) for name in frames], video.frame_count, first=0)
    linked = all("track_ids" in frame for frame in frames.values())
    is_bev = any(np.shape(frame["smpl_betas"])[-1] == _BEV_SHAPES for frame in frames.values())
    has_joints = all("joints" in frame for frame in frames.values())
    rows: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    children = 0
    for number, frame in zip(numbers, frames.values(), strict=True):
        betas = np.asarray(frame["smpl_betas"], float)
        children += int((betas[:, 10:] > _CHILD).sum())
        place = _place(frame, max(video.width, video.height), is_bev)
        for k, who in enumerate(frame["track_ids"] if linked else range(len(place))):
            key = int(who) if linked else len(rows)
            rows[key].append((int(number), frame["smpl_thetas"][k], betas[k], place[k]))
    if children:
        log.warning("BEV saw children in %d detections; they become adults, of the same place and pose", children)
    people: list[Person] = []
    for key, found in sorted(rows.items()):
        people.append(make_person(key, *(np.stack(column) for column in zip(*found, strict=True))))
    at: Literal["origin", "pelvis", "hips"] = "pelvis" if has_joints else "hips" if is_bev else "origin"
    focal = _BEV_FOCAL * max(video.width, video.height) if is_bev else None
    return Results(tuple(people), at=at, focal_px=focal, linked=linked)


def _place(frame: dict[str, Any], side: int, is_bev: bool) -> np.ndarray:
    """Places (N,3) as `Results` has them, of the pelvis where the frame says where that is."""
    pelvis = np.asarray(frame["joints"], float)[:, 0] if "joints" in frame else np.zeros((len(frame["cam"]), 3))
    if is_bev:
        return np.asarray(frame["cam_trans"], float).reshape(-1, 3) + pelvis
    scale, x, y = np.asarray(frame["cam"], float).reshape(-1, 3).T
    return weak_place(scale * side / 2, x / scale + pelvis[:, 0], y / scale + pelvis[:, 1])
