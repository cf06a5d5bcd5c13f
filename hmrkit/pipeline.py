"""The chain: which stages there are, in which order, and what each reads and fills in. The only file that knows.

    video -> detect -> track -> pose -> regress -> lift -> calibrate -> (hmrkit.output: export, render)

A stage takes a take and gives it back with its part filled in. `run_stages` skips a stage whose provenance in the take
already equals what it would be now, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.errors import InputError, UsageError
from hmrkit.regressors import REGRESSORS
from hmrkit.take import provenance_record, with_stage
from hmrkit.types import BodyParams, Calibration, Detections, Keypoints, LiftedPose, MeshTrack, Take, Track

if TYPE_CHECKING:
    from hmrkit.body import Body

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]  # stage, done, total

METHODS = {
    "fit": "body fitted to 2D and 3D keypoints: analytic inverse kinematics, refined over the whole track",
    **{name: member.summary for name, member in REGRESSORS.items()},
    "pc-hmr": "a mesh stream (--mesh) calibrated by a temporally lifted pose (PC-HMR, parallel)",
}
MESH_STREAMS = ("fit", *REGRESSORS)


@dataclass(frozen=True)
class Options:
    """Everything that a user can choose about a run. Names follow the command line's.

    `mesh` None is the method's own stream, ``fit`` for ``pc-hmr``; `refine` None is on for ``fit`` and off for
    regressors. Both are what was chosen once the options are made. `smooth` is the strength of `smooth_body`,
    0 for none.
    """

    method: str = "pc-hmr"
    mesh: str | None = None
    checkpoint: str | None = None
    detector: str = "yolox-nano"
    tracker: str = "bytetrack"
    people: str = "all"
    keypoints: str = "blazepose-heavy"
    lifter: str = "videopose3d"
    lifter_checkpoint: str | None = None
    flip: bool = True
    smooth: float = 1.0
    refine: bool | None = None
    body: str | None = None
    gender: str = "neutral"
    focal: float | None = None
    fov: float | None = None
    start: str | None = None
    end: str | None = None
    every: int = 1
    fps: float | None = None
    device: str = "auto"
    dtype: str = "float32"
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"--method must be one of {', '.join(METHODS)}, got {self.method!r}")
        own = "fit" if self.method == "pc-hmr" else self.method
        mesh = self.mesh or own
        if mesh not in MESH_STREAMS:
            raise UsageError(f"--mesh must be one of {', '.join(MESH_STREAMS)}, got {mesh!r}")
        if self.method != "pc-hmr" and mesh != own:
            raise UsageError(f"--method {own} is its own mesh stream; for --mesh {mesh} use --method {mesh} or pc-hmr")
        if self.checkpoint and mesh not in REGRESSORS:
            raise UsageError(f"--checkpoint is a regressor's ({', '.join(REGRESSORS)}), but the mesh stream is {mesh}")
        if self.every < 1 or self.batch_size < 1:
            raise UsageError("--every and --batch-size must be 1 or more")
        if not 0 <= self.smooth < math.inf:
            raise UsageError(f"--smooth must be 0 or more, got {self.smooth:g}")
        if self.people not in ("all", "largest") and not (self.people.isdigit() and int(self.people) > 0):
            raise UsageError(f"--people must be all, largest or a number from 1, got {self.people!r}")
        object.__setattr__(self, "mesh", mesh)
        object.__setattr__(self, "refine", mesh == "fit" if self.refine is None else self.refine)


class Models:
    """The networks and the body that a run needs, each loaded when first used and kept for all clips of a batch."""

    def __init__(self, options: Options) -> None:
        from hmrkit.device import resolve_device, resolve_dtype

        self.options = options
        self.device = resolve_device(options.device)
        self.dtype = resolve_dtype(options.dtype)

    @cached_property
    def detector(self):
        from hmrkit.detectors import load_detector

        return load_detector(self.options.detector, device=self.device, dtype=self.dtype)

    @cached_property
    def keypoints(self):
        from hmrkit.keypoints import load_keypoints

        return load_keypoints(self.options.keypoints, device=self.device, dtype=self.dtype)

    @cached_property
    def lifter(self):
        from hmrkit.lifters import load_lifter

        return load_lifter(self.options.lifter, checkpoint=self.options.lifter_checkpoint, device=self.device)

    @cached_property
    def regressor(self):
        from hmrkit.regressors import load_regressor

        return load_regressor(str(self.options.mesh), self.options.checkpoint, device=self.device)

    @cached_property
    def body(self) -> Body:
        from hmrkit.body import load_body

        return load_body(self.options.body, gender=self.options.gender, device=self.device)

    @cached_property
    def calibration(self):
        from hmrkit.calibration import load_calibration

        return load_calibration(self.body)

    def load(self, stages: Sequence[str]) -> None:
        """Load now what these stages use, so that what is missing is said before any work is done."""
        for stage in stages:
            for name in models_of(stage, self.options):
                getattr(self, name)


# ------------------------------------------------------------------------------------------------------- stages


def open_clip(path: str | Path, options: Options) -> Take:
    """An empty take of a video file or a folder of frames, with its camera."""
    from hmrkit.camera import assume_camera
    from hmrkit.video import probe

    video = probe(path, start=options.start, end=options.end, every=options.every, fps=options.fps)
    return Take(video=video, camera=assume_camera(video.width, video.height, options.focal, options.fov))


def detect(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """People in every chosen frame, with a description of their colours for the tracker."""
    import torch

    from hmrkit.trackers.appearance import describe
    from hmrkit.video import read_frames

    found: dict[int, Detections] = {}
    failed: list[int] = []
    total = len(take.video.frame_indices)
    for batch in read_frames(take.video, batch_size=models.options.batch_size):
        failed.extend(batch.failed)
        if len(batch.frame_indices):
            frames = torch.from_numpy(batch.frames).to(models.device, non_blocking=True)
            indices = [int(i) for i in batch.frame_indices]
            for index, frame, people in zip(indices, batch.frames, models.detector(frames, indices), strict=True):
                found[index] = replace(people, appearance=describe(frame, people.boxes_xyxy))
        progress("detect", len(found) + len(failed), total)
    nobody = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), describe(None, np.zeros((0, 4))))
    detections = tuple(found.get(int(i), nobody) for i in take.video.frame_indices)
    return {"detections": detections, "video": replace(take.video, failed_frames=tuple(sorted(failed)))}


def track(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """Detections joined into people through the whole clip; `--people` chooses among them."""
    from hmrkit.trackers import load_tracker, select_people

    tracker = load_tracker(models.options.tracker)
    for frame_index, people in zip(take.video.frame_indices, take.detections, strict=True):
        tracker.update(int(frame_index), people)
    result = tracker.finish(take.video.sampled_fps)
    people = models.options.people
    tracks = select_people(result.tracks, int(people) if people.isdigit() else people)
    progress("track", 1, 1)
    return {"tracks": tracks, "dropped_tracks": tuple(asdict(dropped) for dropped in result.dropped)}


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
    """Body parameters of every track by the mesh stream, refined and smoothed as asked for."""
    seen = []
    for person in take.tracks:
        if (take.keypoints[person.track_id].keypoints_2d[..., 2] > 0).any():
            seen.append(person)
        else:
            log.warning("%s: track %d shows no keypoint and gets no mesh", take.video.path, person.track_id)
    if models.options.mesh == "fit":
        params = _fit(take, seen, models, progress)
    else:
        from hmrkit.regression import regress_tracks

        batch_size = models.options.batch_size
        told = partial(progress, "regress")
        params = regress_tracks(take, seen, models.regressor, models.body, models.device, batch_size, told)
        params = {i: _finished(take, take.track(i), mesh, models) for i, mesh in params.items()}
    return {"body": params, "faces": np.asarray(models.body.faces, np.int32)}


def _fit(take: Take, people: Sequence[Track], models: Models, progress: Progress) -> dict[int, BodyParams]:
    from hmrkit.fitting import fit_track

    params: dict[int, BodyParams] = {}
    for done, person in enumerate(people, 1):
        points = _with_depth(take, person, models)
        fitted = fit_track(person, points, take.camera, models.body, take.video.sampled_fps)
        params[person.track_id] = _finished(take, person, fitted, models, points)
        progress("regress", done, len(people))
    return params


def _finished(
    take: Take, person: Track, params: BodyParams, models: Models, points: Keypoints | None = None
) -> BodyParams:
    """A mesh stream's answer for a track, refined and smoothed as asked for."""
    from hmrkit.fitting import frame_times
    from hmrkit.smoothing import smooth_body
    from hmrkit.smplify import refine_track

    fps, frames = take.video.sampled_fps, person.frame_indices
    if models.options.refine:
        points = points or _with_depth(take, person, models)
        params = refine_track(params, points, take.camera, models.body, fps, models.device, frame_indices=frames)
    # All frames count alike: where the detector lost somebody, in a somersault, landmarks are often still found.
    return smooth_body(params, np.ones(len(frames), bool), frame_times(frames, fps), models.options.smooth)


def _with_depth(take: Take, person: Track, models: Models) -> Keypoints:
    """The person's landmarks with 3D: the estimator's own, or the lifter's where it has none."""
    points = take.keypoints[person.track_id]
    return points if points.joints_3d is not None else _landmarks_by_lifting(points, take, models)


def lift(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """3D pose of every track from its 2D keypoints through time."""
    lifted: dict[int, LiftedPose] = {}
    for done, (i, points) in enumerate(take.keypoints.items(), 1):
        lifted[i] = LiftedPose(_lifted_joints(points, take, models), models.lifter.output_skeleton.name)
        progress("lift", done, len(take.keypoints))
    return {"lifted": lifted}


def calibrate(take: Take, models: Models, progress: Progress) -> dict[str, Any]:
    """PC-HMR, parallel: target joints from the lifted pose, and the body refitted to the calibrated mesh."""
    from hmrkit.refit import calibrate_track

    calibrated: dict[int, Calibration] = {}
    people = take.people_with_mesh()
    for done, person in enumerate(people, 1):
        i = person.track_id
        calibrated[i] = calibrate_track(
            person,
            take.body[i],
            take.lifted[i],
            take.keypoints[i],
            take.camera,
            models.body,
            models.calibration,
            take.video.sampled_fps,
        )
        progress("calibrate", done, len(people))
    return {"calibrated": calibrated}


def _lifted_joints(points: Keypoints, take: Take, models: Models) -> np.ndarray:
    """(T,J,3) m, root-relative, camera axes: the lifter's answer to a track's keypoints, matched by name."""
    from hmrkit.skeletons import get_skeleton

    skeleton = get_skeleton(points.skeleton)
    inputs = points.keypoints_2d[:, skeleton.indices(*models.lifter.input_skeleton.joints)]
    camera = take.camera
    return models.lifter(
        inputs,
        width=camera.width,
        height=camera.height,
        fps=take.video.sampled_fps,
        flip=models.options.flip,
        focal_px=camera.focal_px,
        center_px=camera.center_px,
    )


def _landmarks_by_lifting(points: Keypoints, take: Take, models: Models) -> Keypoints:
    """2D-only keypoints in BlazePose's order with depth from the lifter; landmarks that neither knows are missing."""
    from hmrkit.skeletons import BLAZEPOSE_33, common_joints, get_skeleton

    flat = np.full((len(points.keypoints_2d), len(BLAZEPOSE_33), 3), np.nan, np.float32)
    flat[..., 2] = 0
    deep = np.full_like(flat, np.nan)
    source, target = common_joints(get_skeleton(points.skeleton), BLAZEPOSE_33)
    flat[:, target] = points.keypoints_2d[:, source]
    source, target = common_joints(models.lifter.output_skeleton, BLAZEPOSE_33)
    deep[:, target] = _lifted_joints(points, take, models)[:, source]
    return Keypoints(flat, deep, BLAZEPOSE_33.name)


@dataclass(frozen=True)
class Stage:
    """`run` computes the parts of a take that the stage fills; the rest names what its result hangs on."""

    run: Callable[[Take, Models, Progress], dict[str, Any]]
    fills: tuple[str, ...]
    options: tuple[str, ...]
    models: tuple[str, ...] = ()
    camera: bool = False


STAGES: dict[str, Stage] = {
    "detect": Stage(detect, ("detections",), ("detector", "dtype", "start", "end", "every", "fps"), ("detector",)),
    "track": Stage(track, ("tracks", "dropped_tracks"), ("tracker", "people")),
    "pose": Stage(pose, ("keypoints",), ("keypoints", "dtype"), ("keypoints",), camera=True),
    "regress": Stage(regress, ("body", "faces"), ("mesh", "smooth", "refine", "gender"), ("body",)),
    "lift": Stage(lift, ("lifted",), ("lifter", "flip"), ("lifter",)),
    "calibrate": Stage(calibrate, ("calibrated",), (), ("body", "calibration")),
}


def stages_of(method: str) -> tuple[str, ...]:
    """The stages that a method needs, in order."""
    return ("detect", "track", "pose", "regress") + (("lift", "calibrate") if method == "pc-hmr" else ())


def models_of(stage: str, options: Options) -> tuple[str, ...]:
    """Which of `Models` a stage uses with these options: only they are loaded, and their hashes recorded."""
    regressor = ("regressor",) if stage == "regress" and options.mesh != "fit" else ()
    return STAGES[stage].models + regressor


# ---------------------------------------------------------------------------------------------------- the chain


def run_stages(
    take: Take,
    stages: Sequence[str],
    models: Models,
    progress: Progress = lambda *_: None,
    save: Callable[[Take], None] = lambda _: None,
) -> Take:
    """Bring a take through `stages`; those whose provenance already fits are skipped. `save` is called after each."""
    order = list(STAGES)
    for name in stages:
        stage = STAGES[name]
        before = order[: order.index(name)]
        previous = next((take.provenance[s] for s in reversed(before) if s in take.provenance), None)
        if name != "detect" and previous is None:
            raise InputError(f"{take.video.path}: the take has no detections yet; run `hmrkit detect` first")
        options = {key: value for key, value in asdict(models.options).items() if key in stage.options}
        if stage.camera:
            options["focal_px"] = [round(float(f), 3) for f in take.camera.focal_px]
        hashes = {key: getattr(models, key).weights_sha256 for key in models_of(name, models.options)}
        record = provenance_record(options, hashes, previous or take.video.sha256)
        if take.provenance.get(name) == record:
            log.debug("%s: %s is up to date", take.video.path, name)
            continue
        parts = stage.run(take, models, progress)
        take = with_stage(keep_stages(take, before), name, record, **parts)
        save(take)
    return take


def keep_stages(take: Take, stages: Sequence[str]) -> Take:
    """The take as it was before any other stage: what was built on a stage that is made anew no longer holds."""
    empty = Take(take.video, take.camera)
    gone = {part: getattr(empty, part) for name in STAGES if name not in stages for part in STAGES[name].fills}
    kept = {name: record for name, record in take.provenance.items() if name in stages}
    return replace(take, **gone, provenance=kept)


# ------------------------------------------------------------------------------------------------------- meshes


def mesh_slice(take: Take, track_id: int, rows: slice | np.ndarray, models: Models) -> MeshTrack:
    """Final meshes of some rows of a track: calibrated where the take is, else the mesh stream's own."""
    from hmrkit.refit import body_meshes, calibrated_vertices

    person, params = take.track(track_id), take.body[track_id]
    calibrated = take.calibrated.get(track_id)
    if calibrated is None:
        vertices, joints = body_meshes(models.body, params, rows)
    else:
        joints = calibrated.joints_c[rows]
        vertices = calibrated_vertices(models.body, params, calibrated.joints_c, models.calibration, rows)
    return MeshTrack(track_id, person.frame_indices[rows], vertices, joints)


def iter_meshes(take: Take, track_id: int, models: Models, batch: int = 32) -> Iterator[MeshTrack]:
    """A track's final meshes in stretches of `batch` frames, so that no clip's vertices are ever held at once."""
    for start in range(0, len(take.track(track_id).frame_indices), batch):
        yield mesh_slice(take, track_id, slice(start, start + batch), models)
