"""What a take must say for the rest of hmrkit to make sense of it: an edited manifest can say anything."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from hmrkit.skeletons import get_skeleton
from hmrkit.types import GENDERS, Take
from hmrkit.untrusted.limits import FRAME_PIXELS


def what_is_wrong(take: Take) -> str:
    """The first thing in a take that cannot be, "" where there is none."""
    return next(_faults(take), "")


def _faults(take: Take) -> Iterator[str]:
    video, camera = take.video, take.camera
    if not isinstance(video.path, str) or not video.path:
        yield "its clip has no path"
    for name, size in (("clip", video), ("camera", camera)):
        sides = (size.width, size.height)
        if not all(_is_count(side) and side for side in sides) or sides[0] * sides[1] > FRAME_PIXELS:
            yield f"a {name} of {sides[0]!r:.30} x {sides[1]!r:.30} pixels"
    if not (_is_real(video.slowdown) and video.slowdown > 0):
        yield f"a slowdown of {video.slowdown!r:.30}"
    if not 0 < video.fps < 10**7:
        yield f"{video.fps} frames per second"
    if not (_is_count(video.frame_count) and _is_count(video.first_number)):
        yield f"{video.frame_count!r:.30} frames from {video.first_number!r:.30} on"
    if not len(video.frame_indices) or (np.diff(video.frame_indices) <= 0).any() or video.frame_indices[0] < 0:
        yield "frames that do not follow one another"
    if not np.isfinite(video.frame_times).all() or (np.diff(video.frame_times) < 0).any():
        yield "times that do not follow one another"
    if video.background_px is not None and not np.isfinite(video.background_px).all():
        yield "a background that is nowhere"
    for track in take.tracks:
        if not _is_count(track.track_id) or not len(track.frame_indices):
            yield f"a person {track.track_id!r:.30} without frames"
        elif not np.isin(track.frame_indices, video.frame_indices).all() or (np.diff(track.frame_indices) <= 0).any():
            yield f"frames of person {track.track_id} that the clip does not have"
    bodies = [*take.body.values(), *(done.params for done in take.calibrated.values())]
    for gender in {body.gender for body in bodies} - set(GENDERS):
        yield f"a body of gender {gender!r:.30}"
    for part in ("keypoints", "lifted"):
        for points in getattr(take, part).values():
            try:
                get_skeleton(points.skeleton)
            except Exception:
                yield f"{part} of a skeleton {points.skeleton!r:.30}"
    if not isinstance(take.provenance, dict) or not all(map(_is_record, take.provenance.values())):
        yield "a provenance that is no record of stages"


def _is_record(record: Any) -> bool:
    return isinstance(record, dict) and isinstance(record.get("options"), dict)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_real(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
