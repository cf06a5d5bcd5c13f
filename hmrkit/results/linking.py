"""Detections of single frames -> people through the clip, by the overlap of their boxes.

For results of tools that do not follow people. A frame's detections are given to the people of the frames before so
that the sum of overlaps is largest (Kuhn 1955); whoever fits nobody is a new person.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hmrkit.crops import box_iou
from hmrkit.types import BodyParams, Track

MIN_OVERLAP = 0.3
LONGEST_GAP = 0.5  # s


def linked_rows(rows: list[tuple[Track, BodyParams]], times: np.ndarray) -> list[tuple[Track, BodyParams]]:
    """Tracks of one frame each, with their bodies -> tracks of people; a person has one shape, the mean of theirs.

    `times` (N,) s are those of the tracks' frames.
    """
    from scipy.optimize import linear_sum_assignment

    by_frame: dict[int, list[int]] = {}
    for k, (track, _) in enumerate(rows):
        by_frame.setdefault(int(track.frame_indices[0]), []).append(k)
    people: list[list[int]] = []
    for frame in sorted(by_frame):
        found = by_frame[frame]
        recent = [
            person
            for person in people
            if times[found[0]] - times[person[-1]] <= LONGEST_GAP
            or frame - rows[person[-1]][0].frame_indices[0] == 1  # neighbours, however slow the clip
        ]
        boxes = np.concatenate([rows[k][0].boxes_xyxy for k in found])
        unmatched = set(range(len(found)))
        if recent:
            overlaps = box_iou(np.concatenate([rows[p[-1]][0].boxes_xyxy for p in recent]), boxes)
            for i, j in zip(*linear_sum_assignment(-overlaps), strict=True):
                if overlaps[i, j] >= MIN_OVERLAP:
                    recent[i].append(found[j])
                    unmatched.discard(int(j))
        people.extend([found[j]] for j in sorted(unmatched))
    return [_joined([rows[k] for k in person], number) for number, person in enumerate(people, 1)]


def _joined(rows: list[tuple[Track, BodyParams]], number: int) -> tuple[Track, BodyParams]:
    tracks, bodies = [track for track, _ in rows], [params for _, params in rows]
    track_arrays = {
        name: np.concatenate([getattr(track, name) for track in tracks])
        for name in ("frame_indices", "boxes_xyxy", "scores", "interpolated")
    }
    moving = {
        name: np.concatenate([getattr(params, name) for params in bodies])
        for name in ("global_orient", "body_pose", "transl_c")
    }
    if all(params.fingers is not None for params in bodies):
        moving["fingers"] = np.concatenate([params.fingers for params in bodies if params.fingers is not None])
    betas = np.mean([params.betas for params in bodies], 0).astype(np.float32)
    return replace(tracks[0], track_id=number, **track_arrays), replace(bodies[0], betas=betas, **moving)
