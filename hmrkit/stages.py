"""The stages of the chain: each reads a take and gives back the parts that it fills in.

Their order, what each depends on, and what makes one stale stand in `hmrkit.pipeline`. What a stage needs is imported
when it runs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.members import choose
from hmrkit.models import Models
from hmrkit.take.unfinished import Part
from hmrkit.types import (
    BodyParams,
    Calibration,
    Detections,
    DroppedTrack,
    Keypoints,
    LiftedPose,
    Take,
    Track,
)

if TYPE_CHECKING:
    from hmrkit.calibration.target import TargetOptions

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]  # stage, done, total


def detect(take: Take, models: Models, progress: Progress, part: Part | None = None) -> dict[str, Any]:
    """People in every chosen frame, with a description of their colours for the tracker; where new shots begin; how the
    background moves and, with `--fov-track`, how the lens zooms."""
    from hmrkit.detection_record import DetectionRecord
    from hmrkit.detectors import DETECTORS
    from hmrkit.detectors.thinning import detect_thinned, usual_interval
    from hmrkit.device import upload
    from hmrkit.video import read_frames
    from hmrkit.video.zoom import ZoomFinder

    zoom = ZoomFinder(take.camera) if models.options.fov_track else None
    part = part if part and not zoom else Part()  # a zoom is followed from the first frame on
    record, total = DetectionRecord(part.arrays), len(take.video.frame_indices)

    def batches() -> Iterator[tuple[list[int], np.ndarray]]:
        for batch in read_frames(take.video.at(np.arange(record.done, total)), batch_size=models.batch_size):
            record.failed.extend(batch.failed)
            if len(batch.frame_indices):
                yield [int(i) for i in batch.frame_indices], batch.frames
            progress("detect", record.done, total)

    def people_in(frames: np.ndarray, indices: Sequence[int]) -> list[Detections]:
        return models.detector(upload(frames, models.device), indices)

    reads_file = choose(DETECTORS, models.options.detector, "detector")[0].reads_file
    every = models.options.detect_every or (1 if reads_file else usual_interval(take.video.sampled_fps))
    with part.kept(record.snapshot):
        for index, frame, colours, people in detect_thinned(batches(), people_in, every, take.video.seconds):
            if record.seen % every == 0:
                record.mark(index)  # it is detected itself
            record.add(index, frame, colours, people)
            if zoom:
                zoom.add(index, frame, people.boxes_xyxy)
    progress("detect", total, total)
    detections, video = record.finish(take.video, models.cuts)
    camera = replace(take.camera, zoom=zoom.finish(video) if zoom else None)
    return {"detections": detections, "video": video, "camera": camera}


def track(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """Detections joined into people, each through one shot of the clip; `--people` chooses among them."""
    from hmrkit.trackers import load_tracker, select_people
    from hmrkit.video.zoom import people_disagree

    tracker = load_tracker(models.options.tracker)
    for frame_index, people in zip(take.video.frame_indices, take.detections, strict=True):
        tracker.update(int(frame_index), people)
    video = take.video
    result = tracker.finish(video.motion_fps, video.cuts, video.seconds(video.frame_indices))
    people = models.options.people
    tracks = select_people(result.tracks, int(people) if people.isdigit() else people, take.video.cuts)
    if take.camera.zoom and people_disagree(take.camera.zoom, tracks, (take.camera.width, take.camera.height)):
        log.warning(
            "%s: people keep their size in the image while --fov-track finds a zoom: they walk against it, or the "
            "camera moves and does not zoom; then leave --fov-track out",
            video.path,
        )
    chosen = {person.track_id for person in tracks}
    others = [person for person in result.tracks if person.track_id not in chosen]
    dropped = [*result.dropped, *(DroppedTrack.of(t, f"not chosen by --people {people}", "track") for t in others)]
    dropped.sort(key=lambda left_out: left_out.first_frame)
    progress("track", 1, 1)
    return {"tracks": tracks, "dropped_tracks": tuple(dropped)}


def pose(take: Take, models: Models, progress: Progress, part: Part | None = None) -> dict[str, Any]:
    """2D (and 3D) keypoints of every track, batched over people and consecutive frames."""
    from hmrkit.device import upload
    from hmrkit.keypoints import KEYPOINTS, Stateful
    from hmrkit.video import read_frames

    estimator = models.keypoints
    member, _ = choose(KEYPOINTS, models.options.keypoints, "keypoint estimator")
    frames_at_once = member.frames_at_once or models.batch_size
    estimator.reset(take.camera)
    joints = len(estimator.skeleton)
    rows = [{int(f): row for row, f in enumerate(t.frame_indices)} for t in take.tracks]
    flat = {t.track_id: np.full((len(t.frame_indices), joints, 3), np.nan, np.float32) for t in take.tracks}
    deep = {t.track_id: np.full((len(t.frame_indices), joints, 3), np.nan, np.float32) for t in take.tracks}
    for points in flat.values():
        points[..., 2] = 0
    part = part or Part()
    done, total, state = int(part.arrays.get("done", 0)), len(take.video.frame_indices), "{}"
    if done:
        for i in flat:
            flat[i][:], deep[i][:] = part.arrays[f"flat_{i}"], part.arrays[f"deep_{i}"]
        state = str(part.arrays["state"])
        if isinstance(estimator, Stateful):
            estimator.restore(json.loads(state))

    def snapshot() -> dict[str, np.ndarray]:
        """Of whole batches: rows of the others are made again."""
        points = {f"flat_{i}": flat[i] for i in flat} | {f"deep_{i}": deep[i] for i in deep}
        return points | {"done": np.array(done), "state": np.array(state)}

    wanted = set().union(*rows) if rows else set()
    with part.kept(snapshot):
        rest = take.video.at(np.arange(done, total))
        for batch in read_frames(rest, frames_at_once, fixed=bool(member.frames_at_once)) if wanted else ():
            keep = [k for k, f in enumerate(batch.frame_indices) if int(f) in wanted]
            if keep:
                indices = [int(batch.frame_indices[k]) for k in keep]
                frames = batch.frames[keep] if len(keep) < len(batch.frames) else batch.frames
                boxes = [
                    {t.track_id: t.boxes_xyxy[row[f]] for t, row in zip(take.tracks, rows, strict=True) if f in row}
                    for f in indices
                ]
                results = estimator(upload(frames, models.device), indices, boxes)
                for f, people in zip(indices, results, strict=True):
                    for t, row in zip(take.tracks, rows, strict=True):
                        if t.track_id in people:
                            points_2d, points_3d = people[t.track_id]
                            flat[t.track_id][row[f]] = points_2d
                            if points_3d is not None:
                                deep[t.track_id][row[f]] = points_3d
            state = json.dumps(estimator.state(), default=float) if isinstance(estimator, Stateful) else "{}"
            done += len(batch.frame_indices) + len(batch.failed)
            progress("pose", done, total)
    has_depth = estimator.has_depth
    name = estimator.skeleton.name
    return {"keypoints": {i: Keypoints(flat[i], deep[i] if has_depth else None, name) for i in flat}}


def regress(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """Body parameters of every track by the mesh stream, refined, smoothed and made to stand as asked for."""
    from hmrkit.fitting.people import overlaps, shaped
    from hmrkit.keypoints.visibility import why_no_body

    seen, dropped = [], [d for d in take.dropped_tracks if d.stage != "regress"]
    for person in take.tracks:
        if reason := why_no_body(take.keypoints[person.track_id], person.boxes_xyxy, not take.detections):
            log.warning("%s: track %d gets no mesh: %s", take.video.path, person.track_id, reason)
            dropped.append(DroppedTrack.of(person, reason, "regress"))
        else:
            seen.append(person)
    params = models.mesh_stream(take, seen, partial(progress, "regress"))
    found = shaped(take, params, models)
    refined = _refined(take, found.params, models) if models.options.refine else found.params
    params = {i: _over_time(take, take.track(i), mesh, models) for i, mesh in refined.items()}
    faces = np.asarray(models.body.faces, np.int32)
    overlap = overlaps(params, found, models.body)
    return {"body": params, "faces": faces, "overlap": overlap, "dropped_tracks": tuple(dropped)}


def _refined(take: Take, params: dict[int, BodyParams], models: Models) -> dict[int, BodyParams]:
    """Bodies of all tracks, refined by their keypoints."""
    from hmrkit.fitting.smplify import refine_tracks

    clean = models.clean_tracks(take)
    tracks = {i: (mesh, clean[i]) for i, mesh in params.items()}
    return refine_tracks(tracks, take.camera, models.body, models.device)


def _over_time(take: Take, person: Track, params: BodyParams, models: Models) -> BodyParams:
    """A mesh stream's bodies of a track, smoothed and made to stand as asked for."""
    from hmrkit.fitting.standing import straighten_stands
    from hmrkit.keypoints.visibility import seen_joints, seen_rotations
    from hmrkit.smoothing import smooth_body
    from hmrkit.video.camera_motion import moving_background

    seen = seen_joints(take.keypoints[person.track_id], take.video.width, take.video.height)
    times = take.video.seconds(person.frame_indices)
    # All frames count alike: where the detector lost somebody, in a somersault, landmarks are often still found.
    params = replace(params, seen=seen)
    strength = float(models.options.smooth or 0)
    params = smooth_body(params, np.ones(len(times), bool), times, strength, seen_rotations(seen))
    if not models.options.stand:
        return params
    background = moving_background(take, person.frame_indices)
    return straighten_stands(params, times, take.camera, models.body, background)


def lift(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """3D pose of every track through time, by the pose stream that the options name."""
    people = take.body if models.options.mode == "serial" else take.keypoints
    lifted: dict[int, LiftedPose] = {}
    for done, i in enumerate(people, 1):
        lifted[i] = _pose_of_track(i, take, models)
        progress("lift", done, len(people))
    return {"lifted": lifted}


def calibrate(take: Take, models: Models, progress: Progress, target: TargetOptions | None = None) -> dict[str, Any]:
    """PC-HMR: target joints from the pose stream, and the body refitted to the calibrated mesh. In serial mode nothing
    but the mesh stream has seen the image: the target follows no keypoints."""
    from hmrkit.body.posing import filled_rows
    from hmrkit.calibration.target import TargetOptions
    from hmrkit.calibration.track import calibrate_track, without_rows
    from hmrkit.camera import unzoomed
    from hmrkit.fitting.standing import standing_knees
    from hmrkit.video.camera_motion import moving_background

    options = models.options
    calibrated: dict[int, Calibration] = {}
    people = take.people_with_mesh()
    for done, person in enumerate(people, 1):
        i = person.track_id
        params, whole = filled_rows(take.body[i])
        if not whole.all():
            log.warning("%s: track %d has no mesh in %d frames", take.video.path, i, (~whole).sum())
        if not whole.any():
            progress("calibrate", done, len(people))
            continue
        times = take.video.seconds(person.frame_indices)
        background = moving_background(take, person.frame_indices)
        points = None
        if options.mode != "serial":
            person, points = unzoomed(take.camera, person, take.keypoints[i])
        moved = calibrate_track(
            person,
            params,
            take.lifted[i],
            points,
            take.camera,
            models.body,
            models.calibration,
            times,
            replace(target or TargetOptions(), shares=models.shares),
            params_only=options.params_only,
            straight=standing_knees(params, times, take.camera, models.body, background) if options.stand else None,
        )
        calibrated[i] = moved if whole.all() else without_rows(moved, ~whole)
        progress("calibrate", done, len(people))
    return {"calibrated": calibrated}


def _pose_of_track(i: int, take: Take, models: Models) -> LiftedPose:
    """A track's pose by the pose stream (`hmrkit.options.PoseStream`)."""
    from hmrkit.calibration.pose_streams import direct_pose, fused_pose, projected_landmarks
    from hmrkit.camera import unzoomed

    options = models.options
    person = take.track(i)
    if options.mode == "serial":
        return _lift_track(person, projected_landmarks(models.body, take.body[i], take.camera), take, models)
    person, points = unzoomed(take.camera, person, take.keypoints[i])
    if options.pose3d == "direct":
        return direct_pose(points, models.body)
    lifted = _lift_track(person, points, take, models)
    if options.pose3d != "fused":
        return lifted
    return fused_pose(lifted, direct_pose(points, models.body), models.pose_uncertainty)


def _lift_track(person: Track, points: Keypoints, take: Take, models: Models) -> LiftedPose:
    """The lifter's estimate from a track's keypoints, matched by name."""
    from hmrkit.lifters.inputs import convert_keypoints
    from hmrkit.skeletons import get_skeleton

    inputs = convert_keypoints(points.keypoints_2d, get_skeleton(points.skeleton), models.lifter.input_skeleton)
    camera = take.camera
    joints = models.lifter(
        inputs,
        width=camera.width,
        height=camera.height,
        fps=take.video.motion_fps,
        times=take.video.seconds(person.frame_indices),
        flip=models.options.flip,
        focal_px=camera.focal_px,
        center_px=camera.center_px,
    )
    return LiftedPose(joints, models.lifter.output_skeleton.name)
