"""The chain: which stages there are, what each reads and fills in, and so their order, which only this file defines.

    video -> detect -> track -> pose -> regress -> lift -> calibrate -> (hmrkit.output: export, render)

A stage takes a take and gives it back with its part filled in. `run_stages` skips a stage whose provenance in the take
already equals what it would be now, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.errors import InputError
from hmrkit.keypoints import KEYPOINTS
from hmrkit.members import choose
from hmrkit.models import Models
from hmrkit.options import POSE_CHOICES, Options, changing
from hmrkit.take import provenance_record, with_stage
from hmrkit.types import BodyParams, Calibration, Detections, Keypoints, LiftedPose, Take, Track

if TYPE_CHECKING:
    from hmrkit.calibration.target import TargetOptions

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]  # stage, done, total


# ------------------------------------------------------------------------------------------------------- stages


def open_clip(path: str | Path, options: Options, keep_numbers: bool = True) -> Take:
    """An empty take of a video file or a folder of frames, with its camera (`keep_numbers`: see `probe`)."""
    from hmrkit.camera import assume_camera
    from hmrkit.video import probe

    video = probe(
        path, options.start, options.end, options.every, options.fps, options.capture_fps, keep_numbers=keep_numbers
    )
    return Take(video=video, camera=assume_camera(video.width, video.height, options.focal, options.fov))


def detect(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """People in every chosen frame, with a description of their colours for the tracker; where new shots begin."""
    import torch

    from hmrkit.trackers.appearance import describe
    from hmrkit.video import read_frames
    from hmrkit.video.cuts import frame_colours

    found: dict[int, Detections] = {}
    colours: dict[int, np.ndarray] = {}
    failed: list[int] = []
    total = len(take.video.frame_indices)
    for batch in read_frames(take.video, batch_size=models.options.batch_size):
        failed.extend(batch.failed)
        if len(batch.frame_indices):
            frames = torch.from_numpy(batch.frames).to(models.device, non_blocking=True)
            indices = [int(i) for i in batch.frame_indices]
            for index, frame, people in zip(indices, batch.frames, models.detector(frames, indices), strict=True):
                found[index] = replace(people, appearance=describe(frame, people.boxes_xyxy))
                colours[index] = frame_colours(frame)
        progress("detect", len(found) + len(failed), total)
    nobody = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), describe(None, np.zeros((0, 4))))
    detections = tuple(found.get(int(i), nobody) for i in take.video.frame_indices)
    cuts = models.cuts(np.array(list(colours), np.int64), np.array(list(colours.values())))
    return {"detections": detections, "video": replace(take.video, failed_frames=tuple(sorted(failed)), cuts=cuts)}


def track(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """Detections joined into people, each through one shot of the clip; `--people` chooses among them."""
    from hmrkit.trackers import load_tracker, select_people

    tracker = load_tracker(models.options.tracker)
    for frame_index, people in zip(take.video.frame_indices, take.detections, strict=True):
        tracker.update(int(frame_index), people)
    video = take.video
    result = tracker.finish(video.motion_fps, video.cuts, video.seconds(video.frame_indices))
    people = models.options.people
    tracks = select_people(result.tracks, int(people) if people.isdigit() else people, take.video.cuts)
    chosen = {person.track_id for person in tracks}
    dropped = [{**asdict(dropped), "stage": "track"} for dropped in result.dropped]
    dropped += [
        dropped_track(person, f"not chosen by --people {people}", "track")
        for person in result.tracks
        if person.track_id not in chosen
    ]
    progress("track", 1, 1)
    return {"tracks": tracks, "dropped_tracks": tuple(sorted(dropped, key=lambda d: d["first_frame"]))}


def dropped_track(person: Track, reason: str, stage: str) -> dict[str, Any]:
    """A line of `Take.dropped_tracks` for a whole track."""
    return {
        "track_id": person.track_id,
        "first_frame": int(person.frame_indices[0]),
        "last_frame": int(person.frame_indices[-1]),
        "boxes": int((~person.interpolated).sum()),
        "best_score": round(float(np.nanmax(person.scores)), 3),
        "reason": reason,
        "stage": stage,
    }


def pose(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """2D (and 3D) keypoints of every track, batched over people and consecutive frames."""
    import torch

    from hmrkit.video import read_frames

    estimator = models.keypoints
    estimator.reset(take.camera)
    joints = len(estimator.skeleton)
    rows = [{int(f): row for row, f in enumerate(t.frame_indices)} for t in take.tracks]
    flat = {t.track_id: np.full((len(t.frame_indices), joints, 3), np.nan, np.float32) for t in take.tracks}
    deep = {t.track_id: np.full((len(t.frame_indices), joints, 3), np.nan, np.float32) for t in take.tracks}
    for points in flat.values():
        points[..., 2] = 0
    done, total = 0, len(take.video.frame_indices)
    wanted = set().union(*rows) if rows else set()
    for batch in read_frames(take.video, batch_size=models.options.batch_size) if wanted else ():
        done += len(batch.frame_indices) + len(batch.failed)
        keep = [k for k, f in enumerate(batch.frame_indices) if int(f) in wanted]
        if keep:
            indices = [int(batch.frame_indices[k]) for k in keep]
            frames = torch.from_numpy(batch.frames[keep] if len(keep) < len(batch.frames) else batch.frames)
            boxes = [
                {t.track_id: t.boxes_xyxy[row[f]] for t, row in zip(take.tracks, rows, strict=True) if f in row}
                for f in indices
            ]
            results = estimator(frames.to(models.device, non_blocking=True), indices, boxes)
            for f, people in zip(indices, results, strict=True):
                for t, row in zip(take.tracks, rows, strict=True):
                    if t.track_id in people:
                        points_2d, points_3d = people[t.track_id]
                        flat[t.track_id][row[f]] = points_2d
                        if points_3d is not None:
                            deep[t.track_id][row[f]] = points_3d
        progress("pose", done, total)
    has_depth = estimator.has_depth
    name = estimator.skeleton.name
    return {"keypoints": {i: Keypoints(flat[i], deep[i] if has_depth else None, name) for i in flat}}


def regress(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """Body parameters of every track by the mesh stream, refined, smoothed and made to stand as asked for."""
    from hmrkit.fitting.shape import overlaps, shaped
    from hmrkit.keypoints.visibility import why_no_body

    seen, dropped = [], [d for d in take.dropped_tracks if d.get("stage") != "regress"]
    for person in take.tracks:
        if reason := why_no_body(take.keypoints[person.track_id], person.boxes_xyxy, not take.detections):
            log.warning("%s: track %d gets no mesh: %s", take.video.path, person.track_id, reason)
            dropped.append(dropped_track(person, reason, "regress"))
        else:
            seen.append(person)
    params = models.mesh_stream(take, seen, partial(progress, "regress"))
    params, masks = shaped(take, params, models)
    params = {i: _over_time(take, take.track(i), mesh, models) for i, mesh in params.items()}
    faces = np.asarray(models.body.faces, np.int32)
    overlap = overlaps(params, masks, models.body)
    return {"body": params, "faces": faces, "overlap": overlap, "dropped_tracks": tuple(dropped)}


def _over_time(take: Take, person: Track, params: BodyParams, models: Models) -> BodyParams:
    """A mesh stream's bodies of a track, refined, smoothed and made to stand as asked for."""
    from hmrkit.fitting.smplify import refine_track
    from hmrkit.fitting.standing import straighten_stands
    from hmrkit.keypoints.visibility import seen_joints, seen_rotations
    from hmrkit.smoothing import smooth_body

    seen = seen_joints(take.keypoints[person.track_id], take.video.width, take.video.height)
    times = take.video.seconds(person.frame_indices)
    if models.options.refine:
        clean = models.clean_tracks(take)[person.track_id]
        params = refine_track(params, clean, take.camera, models.body, models.device)
    # All frames count alike: where the detector lost somebody, in a somersault, landmarks are often still found.
    params = replace(params, seen=seen)
    strength = float(models.options.smooth or 0)
    params = smooth_body(params, np.ones(len(times), bool), times, strength, seen_rotations(seen))
    return straighten_stands(params, times, take.camera, models.body) if models.options.stand else params


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
    from hmrkit.calibration.target import TargetOptions
    from hmrkit.calibration.track import calibrate_track
    from hmrkit.fitting.standing import standing_knees

    options = models.options
    calibrated: dict[int, Calibration] = {}
    people = take.people_with_mesh()
    for done, person in enumerate(people, 1):
        i = person.track_id
        times = take.video.seconds(person.frame_indices)
        calibrated[i] = calibrate_track(
            person,
            take.body[i],
            take.lifted[i],
            None if options.mode == "serial" else take.keypoints[i],
            take.camera,
            models.body,
            models.calibration,
            times,
            replace(target or TargetOptions(), shares=models.shares),
            params_only=options.params_only,
            straight=standing_knees(take.body[i], times, take.camera, models.body) if options.stand else None,
        )
        progress("calibrate", done, len(people))
    return {"calibrated": calibrated}


def _pose_of_track(i: int, take: Take, models: Models) -> LiftedPose:
    """A track's pose by the pose stream (`hmrkit.options.PoseStream`)."""
    from hmrkit.calibration.pose_streams import direct_pose, fused_pose, projected_landmarks

    options = models.options
    person = take.track(i)
    if options.mode == "serial":
        return _lift_track(person, projected_landmarks(models.body, take.body[i], take.camera), take, models)
    points = take.keypoints[i]
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


@dataclass(frozen=True)
class Stage:
    """`run` computes the parts of a take that the stage fills; the rest names what its result depends on.

    `inputs(options)` are the stages whose results it reads, `models(options)` what it uses of `Models`; `camera`: it
    reads the take's camera; `on_demand`: it needs the take alone, so a subcommand that reads its result runs it first
    where it is missing. Which options change its result stands in `hmrkit.options`."""

    run: Callable[[Take, Models, Progress], dict[str, Any]]
    fills: tuple[str, ...]
    inputs: Callable[[Options], tuple[str, ...]]
    models: Callable[[Options], tuple[str, ...]]
    camera: bool = False
    on_demand: bool = False


def _reads(*names: str) -> Callable[[Options], tuple[str, ...]]:
    return lambda _: names


def _regress_inputs(options: Options) -> tuple[str, ...]:
    """Keypoints; the lifted pose as well where 3D keypoints are needed and the estimator has none."""
    keypoints, _ = choose(KEYPOINTS, options.keypoints, "keypoint estimator")
    return ("pose", "lift") if options.needs_depth and not keypoints.has_depth else ("pose",)


def _regress_models(options: Options) -> tuple[str, ...]:
    masks = ("person_masks",) if options.shape == "silhouette" else ()
    return (*options.stream.models, *masks)


def _calibrate_inputs(options: Options) -> tuple[str, ...]:
    """The mesh and the pose it is moved to; keypoints as well where they come from a stream of their own."""
    return ("regress", "lift") if options.mode == "serial" else ("pose", "regress", "lift")


STAGES: dict[str, Stage] = {
    "detect": Stage(detect, ("detections",), _reads(), _reads("detector", "cuts")),
    "track": Stage(track, ("tracks", "dropped_tracks"), _reads("detect"), _reads()),
    "pose": Stage(pose, ("keypoints",), _reads("track"), _reads("keypoints"), camera=True),
    "regress": Stage(regress, ("body", "faces", "overlap"), _regress_inputs, _regress_models),
    "lift": Stage(
        lift,
        ("lifted",),
        lambda options: (options.pose_stream.reads,),
        lambda options: options.pose_stream.models,
        on_demand=True,
    ),
    "calibrate": Stage(calibrate, ("calibrated",), _calibrate_inputs, _reads("body", "calibration", "shares")),
}


def stages_of(options: Options) -> tuple[str, ...]:
    """The stages that a run needs, each after those that it reads."""
    order: list[str] = []

    def add(name: str) -> None:
        for before in STAGES[name].inputs(options):
            add(before)
        if name not in order:
            order.append(name)

    add("calibrate" if options.calibrated else "regress")
    return tuple(order)


def load_models(models: Models, stages: Sequence[str]) -> None:
    """Load now what these stages use, so that what is missing is reported before any work is done."""
    for stage in stages:
        for name in STAGES[stage].models(models.options):
            getattr(models, name)


def adopted(options: Options, take: Take, stages: Sequence[str]) -> Options:
    """The options for running `stages` on a take: what its other stages were made with is as it was.

    So a stage on its own goes on with the keypoints and the gender that the take has.
    """
    kept: dict[str, Any] = {}
    for name, record in take.provenance.items():
        if name in STAGES and name not in stages:
            kept |= {k: v for k, v in record["options"].items() if k in changing(name)}
    mesh = kept.pop("mesh", options.mesh)
    if not options.calibrated:
        kept = {key: value for key, value in kept.items() if key not in POSE_CHOICES}
    return replace(options, **kept, mesh=mesh if options.calibrated else options.mesh)


def readers_of(stages: Sequence[str], options: Options) -> set[str]:
    """These stages and all that read their results, near or far."""
    found = set(stages)
    while more := {n for n, s in STAGES.items() if found & set(s.inputs(options))} - found:
        found |= more
    return found


# ---------------------------------------------------------------------------------------------------- the chain


def run_stages(
    take: Take,
    stages: Sequence[str],
    models: Models,
    progress: Progress = lambda *_: None,
    save: Callable[[Take], None] = lambda _: None,
) -> Take:
    """Bring a take through `stages`; those whose provenance already fits are skipped. `save` is called after each."""
    chosen = models.options
    for name in stages:
        stage = STAGES[name]
        inputs = stage.inputs(chosen)
        for before in inputs:
            require_stage(take, before, chosen)
        options = {key: getattr(chosen, key) for key in changing(name)}
        if stage.camera:
            options["focal_px"] = [round(float(f), 3) for f in take.camera.focal_px]
        hashes = {key: getattr(models, key).weights_sha256 for key in stage.models(chosen)}
        read = {before: take.provenance[before] for before in inputs}
        record = provenance_record(options, hashes, read or take.video.sha256)
        if take.provenance.get(name) == record:
            log.debug("%s: %s is up to date", take.video.path, name)
            continue
        parts = stage.run(take, models, progress)
        stale = readers_of([name], chosen)
        take = with_stage(keep_stages(take, [s for s in STAGES if s not in stale]), name, record, **parts)
        save(take)
    return take


def require_stage(take: Take, name: str, options: Options) -> None:
    """InputError where the take did not go through a stage: it names the first that has to run and those after it."""
    missing: list[str] = []

    def add(stage: str) -> None:
        if stage not in take.provenance and stage not in missing:
            for before in STAGES[stage].inputs(options):
                add(before)
            missing.append(stage)

    add(name)
    if missing:
        first, then = missing[0], "".join(f", then `hmrkit {stage}`" for stage in missing[1:])
        raise InputError(
            f"{take.video.path}: the take went through no `{first}`; run `hmrkit {first}` on it first{then}"
        )


def keep_stages(take: Take, stages: Sequence[str]) -> Take:
    """The take as it was before any other stage: what was built on a stage that is made anew no longer holds."""
    empty = Take(take.video, take.camera)
    gone = {part: getattr(empty, part) for name in STAGES if name not in stages for part in STAGES[name].fills}
    kept = {name: record for name, record in take.provenance.items() if name in stages}
    dropped = tuple(d for d in take.dropped_tracks if d.get("stage", "track") in stages)
    return replace(take, **{**gone, "dropped_tracks": dropped}, provenance=kept)
