"""Takes cut down to some people and frames, and takes of one clip joined into one.

Whatever is kept is kept bit for bit: nothing is computed. Both leave a mark in the provenance of every stage, so that
`hmrkit run` and the stages make again what they are asked for instead of taking a cut take for a whole one.

    merge_takes([cut_take(take, end=50), cut_take(take, start=50)])     # the take again
    merge_takes([cut_take(take, people=[1]), cut_take(take, people=[2])])  # and again, of two people
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import reduce
from typing import Any, TypeVar

import numpy as np

from hmrkit.errors import InputError, ModelMismatchError, UsageError
from hmrkit.types import (
    BodyParams,
    Calibration,
    Camera,
    DroppedTrack,
    Keypoints,
    LiftedPose,
    MaskOverlap,
    Take,
    Track,
    VideoInfo,
    Zoom,
)

log = logging.getLogger(__name__)
Value = TypeVar("Value", Track, Keypoints, BodyParams, MaskOverlap, LiftedPose, Calibration)

# The fields that have one entry a frame; what else there is holds for the whole person.
PER_FRAME: dict[type, tuple[str, ...]] = {
    Track: ("frame_indices", "boxes_xyxy", "scores", "interpolated"),
    Keypoints: ("keypoints_2d", "joints_3d"),
    BodyParams: ("global_orient", "body_pose", "transl_c", "fingers", "seen"),
    MaskOverlap: ("iou",),
    LiftedPose: ("joints_c",),
    Calibration: ("joints_c", "refit_residual_mm", "params"),
}
PARTS = ("keypoints", "body", "overlap", "lifted", "calibrated")


# ---------------------------------------------------------------------------------------------------------- cut


def cut_take(
    take: Take, people: Sequence[int] | None = None, start: int | None = None, end: int | None = None, every: int = 1
) -> Take:
    """Only these `people` (track ids) and the take's frames from `start` up to, not including, `end`.

    `start` and `end` are the source's frame numbers; of the frames between, every `every`-th that the take has is kept.
    A person who is in none of them is left out with a warning. UsageError where nothing of the kind is in the take.
    """
    video = take.video
    known = [track.track_id for track in take.tracks]
    unknown = sorted(set(people or ()) - set(known))
    if unknown:
        raise UsageError(f"--people {','.join(map(str, unknown))}: the take has {_listed(known)}")
    if every < 1:
        raise UsageError(f"--every must be 1 or more, got {every}")
    frames = video.frame_indices
    inside = (frames >= (frames[0] if start is None else start)) & (frames < (frames[-1] + 1 if end is None else end))
    kept = np.flatnonzero(inside)[::every]
    if not len(kept):
        raise UsageError(
            f"no frame lies from --start {start} to --end {end}: the take has frames {frames[0]} to {frames[-1]}"
        )
    numbers = frames[kept]
    tracks, parts = [], {name: {} for name in PARTS}
    for track in take.tracks:
        i = track.track_id
        if people is not None and i not in people:
            continue
        rows = np.flatnonzero(np.isin(track.frame_indices, numbers))
        if not len(rows):
            log.warning("person %d is in none of the frames %d to %d and left out", i, numbers[0], numbers[-1])
            continue
        tracks.append(_at(track, rows))
        for name in PARTS:
            if i in getattr(take, name):
                parts[name][i] = _at(getattr(take, name)[i], rows)
    edit = {"people": sorted(t.track_id for t in tracks), "frames": [int(numbers[0]), int(numbers[-1]), len(numbers)]}
    return replace(
        take,
        video=replace(
            video.at(kept),
            failed_frames=tuple(f for f in video.failed_frames if f in numbers),
            cuts=tuple(f for f in video.cuts if numbers[0] < f <= numbers[-1]),
        ),
        detections=tuple(take.detections[k] for k in kept) if take.detections else (),
        tracks=tuple(tracks),
        dropped_tracks=tuple(d for d in take.dropped_tracks if _touches(d, numbers)),
        provenance={
            stage: record | {"edits": [*record.get("edits", []), {"cut": edit}]}
            for stage, record in _stages(take).items()
        },
        **parts,
    )


def _at(value: Value, rows: np.ndarray) -> Value:
    """The same value in some of its frames."""

    def chosen(item: Any) -> Any:
        if item is None:
            return None
        return item[rows] if isinstance(item, np.ndarray) else _at(item, rows)

    return replace(value, **{name: chosen(getattr(value, name)) for name in PER_FRAME[type(value)]})


def _touches(dropped: DroppedTrack, numbers: np.ndarray) -> bool:
    return bool(dropped.first_frame <= numbers[-1] and dropped.last_frame >= numbers[0])


# -------------------------------------------------------------------------------------------------------- merge


def merge_takes(takes: Sequence[Take], names: Sequence[str] | None = None, renumber: bool = False) -> Take:
    """Takes of one clip as one: other frames, other people, or both.

    A person of the same number in two takes is one person, whose frames are joined; frames that both have must be
    the same in both. With `renumber`, people of later takes always get new numbers. Where two takes saw a frame, the
    first one's detections are kept. `names` name the takes in errors.

    InputError where the takes are not of one clip, or were made with other cameras or by other stages, or where a
    person does not fit together; ModelMismatchError where their bodies are not the same.
    """
    if not takes:
        raise UsageError("no take to merge; name two or more")
    names = list(names or [f"take {k + 1}" for k in range(len(takes))])
    if renumber:
        takes = _renumbered(takes)
    for take, name in zip(takes[1:], names[1:], strict=True):
        _check_fit(takes[0], take, names[0], name)
    named = list(zip(takes, names, strict=True))
    merged, _ = reduce(_two, named[1:], named[0])
    provenance = {}
    for stage, record in _stages(takes[0]).items():
        others = [take.provenance[stage] for take in takes[1:]]
        provenance[stage] = record | {"edits": [*record.get("edits", []), {"merge": others}]} if others else record
    return replace(merged, provenance=provenance)


def _two(first: tuple[Take, str], second: tuple[Take, str]) -> tuple[Take, str]:
    (a, name), (b, other) = first, second
    tracks = {track.track_id: track for track in a.tracks}
    parts: dict[str, dict[int, Any]] = {part: dict(getattr(a, part)) for part in PARTS}
    for track in b.tracks:
        i = track.track_id
        if i not in tracks:
            tracks[i] = track
            for part in PARTS:
                if i in getattr(b, part):
                    parts[part][i] = getattr(b, part)[i]
            continue
        where = f"person {i} of {name} and of {other}"
        rows = _Rows(tracks[i].frame_indices, track.frame_indices)
        tracks[i] = _joined(tracks[i], track, rows, where)
        for part in PARTS:
            mine, theirs = parts[part].get(i), getattr(b, part).get(i)
            if (mine is None) != (theirs is None):
                raise InputError(f"{where}: only one has {part}; make it for both, or --renumber to keep two people")
            if mine is not None:
                parts[part][i] = _joined(mine, theirs, rows, where)
    merged = replace(
        a,
        video=_joined_video(a.video, b.video),
        camera=_joined_camera(a, b),
        detections=_joined_detections(a, b),
        tracks=tuple(tracks[i] for i in sorted(tracks)),
        dropped_tracks=(*a.dropped_tracks, *(d for d in b.dropped_tracks if d not in a.dropped_tracks)),
        faces=b.faces if a.faces is None else a.faces,
        **{part: dict(sorted(values.items())) for part, values in parts.items()},
    )
    return merged, f"{name} and {other}"


class _Rows:
    """How two lists of rising frame numbers become one: rows that both have, rows only the second has, the order."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        _, self.both_first, self.both_second = np.intersect1d(first, second, return_indices=True)
        self.new = np.flatnonzero(~np.isin(second, first))
        self.order = np.argsort(np.concatenate([first, second[self.new]]), kind="stable")


def _joined(a: Value, b: Value, rows: _Rows, where: str) -> Value:
    """One value over both's frames."""
    per_frame = PER_FRAME[type(a)]
    joined: dict[str, Any] = {}
    for field in fields(a):
        mine, theirs = getattr(a, field.name), getattr(b, field.name)
        if field.name not in per_frame or mine is None or theirs is None:
            same = mine is theirs or (mine is not None and theirs is not None and np.array_equal(mine, theirs))
            if not same:
                raise InputError(f"{where} differ in {field.name}; --renumber keeps them as two people")
        elif not isinstance(mine, np.ndarray):
            joined[field.name] = _joined(mine, theirs, rows, where)
        else:
            same = np.array_equal(mine[rows.both_first], theirs[rows.both_second], equal_nan=mine.dtype.kind == "f")
            if not same or mine.shape[1:] != theirs.shape[1:]:
                raise InputError(f"{where} differ in frames that both have; --renumber keeps them as two people")
            joined[field.name] = np.concatenate([mine, theirs[rows.new]])[rows.order]
    return replace(a, **joined)


def _joined_video(a: VideoInfo, b: VideoInfo) -> VideoInfo:
    rows = _Rows(a.frame_indices, b.frame_indices)
    return replace(
        a,
        frame_indices=np.concatenate([a.frame_indices, b.frame_indices[rows.new]])[rows.order],
        frame_times=np.concatenate([a.frame_times, b.frame_times[rows.new]])[rows.order],
        failed_frames=tuple(sorted({*a.failed_frames, *b.failed_frames})),
        cuts=tuple(sorted({*a.cuts, *b.cuts})),
        background_px=a.background_px if not len(rows.new) else None,  # two paths have no common beginning
    )


def _joined_camera(a: Take, b: Take) -> Camera:
    if a.camera.zoom is None or b.camera.zoom is None:
        return a.camera
    rows = _Rows(a.video.frame_indices, b.video.frame_indices)
    joined = [
        np.concatenate([mine, theirs[rows.new]])[rows.order]
        for mine, theirs in (
            (a.video.frame_indices, b.video.frame_indices),
            (a.camera.zoom.at(a.video.frame_indices), b.camera.zoom.at(b.video.frame_indices)),
        )
    ]
    return replace(a.camera, zoom=Zoom(*joined))


def _joined_detections(a: Take, b: Take) -> tuple[Any, ...]:
    rows = _Rows(a.video.frame_indices, b.video.frame_indices)
    found = [*a.detections, *(b.detections[k] for k in rows.new if b.detections)]
    return tuple(found[k] for k in rows.order) if found else ()


def _renumbered(takes: Sequence[Take]) -> list[Take]:
    """People of later takes get the next free numbers, in their order."""
    out, free = [takes[0]], max((t.track_id for t in takes[0].tracks), default=0) + 1
    for take in takes[1:]:
        new = {track.track_id: free + k for k, track in enumerate(take.tracks)}
        free += len(new)
        parts = {part: {new[i]: value for i, value in getattr(take, part).items()} for part in PARTS}
        tracks = tuple(replace(track, track_id=new[track.track_id]) for track in take.tracks)
        out.append(replace(take, tracks=tracks, **parts))
    return out


def _check_fit(a: Take, b: Take, name: str, other: str) -> None:
    """Raise unless both are of one clip, seen by one camera, at the same stage, with one body's vertices."""
    if (a.video.sha256, a.video.width, a.video.height) != (b.video.sha256, b.video.width, b.video.height):
        raise InputError(f"{other} is of {b.video.path}, {name} of {a.video.path}: not the same clip; merge one clip's")
    if a.video.fps != b.video.fps:
        raise InputError(f"{other} has {b.video.fps} frames per second, {name} {a.video.fps}; make both at one rate")
    both = np.intersect1d(a.video.frame_indices, b.video.frame_indices)
    mine, theirs = a.camera.zoom_at(both), b.camera.zoom_at(both)
    if not (mine is theirs or (mine is not None and theirs is not None and np.array_equal(mine, theirs))):
        raise InputError(f"{other} and {name} do not agree on how the lens zooms; make both of one `hmrkit detect`")
    for what in ("focal_px", "center_px"):
        mine, theirs = getattr(a.camera, what), getattr(b.camera, what)
        if not np.array_equal(mine, theirs):
            raise InputError(
                f"{other} has a camera with {what} {theirs.tolist()}, {name} one with {mine.tolist()}; "
                "make both with the same --focal"
            )
    missing = {other: set(_stages(a)) - set(_stages(b)), name: set(_stages(b)) - set(_stages(a))}
    for lacking, stages in missing.items():
        if stages:
            raise InputError(f"{lacking}: lacks {', '.join(sorted(stages))}, which the other take has; run that first")
    # The free bodies of all genders have one vertex order.
    models = {p.model.removesuffix(f"-{p.gender}") for take in (a, b) for p in take.body.values()}
    if len(models) > 1 or (a.faces is not None and b.faces is not None and not np.array_equal(a.faces, b.faces)):
        raise ModelMismatchError(f"{name} and {other} were made with different bodies; make both with one --body")


def _stages(take: Take) -> dict[str, dict[str, Any]]:
    """Provenance of the stages: files that were made of a take are not those of an edited one."""
    return {stage: record for stage, record in take.provenance.items() if stage != "files"}


def _listed(ids: Sequence[int]) -> str:
    return f"people {', '.join(map(str, ids))}" if ids else "no people"
