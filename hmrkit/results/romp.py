"""ROMP's ``.npz`` (Sun et al. 2021; simple-romp): ``results`` of one frame, or frame's name -> results in
``video_results.npz``: ``smpl_thetas`` (N,72), ``smpl_betas`` (N,10), ``cam`` (N,3), and ``track_ids`` (N,) if it
tracked.

``cam`` s, tx, ty: a point X about the middle of the hips is seen at ``s X + tx`` in an image that runs from -1 to 1
over the longer side, its centre in the middle.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from hmrkit.results.people import Person, Results, Space, frames_of_names, make_person, weak_place
from hmrkit.types import VideoInfo

SPACES = ("camera",)
_WANTED = {"smpl_thetas", "smpl_betas", "cam"}


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
    numbers = frames_of_names([str(name) for name in frames], video.frame_count, first=0)
    linked = all("track_ids" in frame for frame in frames.values())
    rows: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    half = max(video.width, video.height) / 2
    for number, frame in zip(numbers, frames.values(), strict=True):
        scale, x, y = np.asarray(frame["cam"], float).reshape(-1, 3).T
        place = weak_place(scale * half, x / scale, y / scale)
        for k, who in enumerate(frame["track_ids"] if linked else range(len(place))):
            key = int(who) if linked else len(rows)
            rows[key].append((int(number), frame["smpl_thetas"][k], frame["smpl_betas"][k], place[k]))
    people: list[Person] = []
    for key, found in sorted(rows.items()):
        people.append(make_person(key, *(np.stack(column) for column in zip(*found, strict=True))))
    return Results(tuple(people), at="hips", linked=linked)
