"""The chain: which stages there are, what each reads and fills in, and so their order, which only this file defines.

    video -> detect -> track -> pose -> regress -> lift -> calibrate -> export, render

A stage takes a take and gives it back with its part filled in. `run_stages` skips a stage whose provenance in the take
already equals what it would be now, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hmrkit.device import trim_heap
from hmrkit.errors import InputError
from hmrkit.keypoints import KEYPOINTS
from hmrkit.members import choose, refuse_without_checkpoint
from hmrkit.models import Models
from hmrkit.options import OPTIONS, POSE_CHOICES, Options, changing
from hmrkit.stages import Progress, calibrate, detect, lift, pose, regress, track
from hmrkit.take import provenance_record, with_stage
from hmrkit.take.unfinished import Unfinished
from hmrkit.types import Take

log = logging.getLogger(__name__)


def open_clip(path: str | Path, options: Options, keep_numbers: bool = True) -> Take:
    """An empty take of a video file or a folder of frames, with its camera (`keep_numbers`: see `probe`)."""
    from hmrkit.camera import assume_camera
    from hmrkit.video import probe
    from hmrkit.video.opening import allow

    allow(options)
    video = probe(
        path, options.start, options.end, options.every, options.fps, options.capture_fps, keep_numbers=keep_numbers
    )
    return Take(video=video, camera=assume_camera(video.width, video.height, options.focal, options.fov))


@dataclass(frozen=True)
class Stage:
    """`run` computes the parts of a take that the stage fills; the rest names what its result depends on.

    `inputs(options)` are the stages whose results it reads, `models(options)` what it uses of `Models`,
    `camera(options)` whether it reads the take's camera; `on_demand`: it needs the take alone, so a subcommand that
    reads its result runs it first where it is missing; `by_frames`: it works through the clip's frames, so `run` gets a
    `Part` to go on from. Which options change its result stands in `hmrkit.options`."""

    run: Callable[..., dict[str, Any]]  # take, models, progress, and the part where it is `by_frames`
    fills: tuple[str, ...]
    inputs: Callable[[Options], tuple[str, ...]]
    models: Callable[[Options], tuple[str, ...]]
    camera: Callable[[Options], bool] = lambda _: False
    on_demand: bool = False
    by_frames: bool = False


def _reads(*names: str) -> Callable[[Options], tuple[str, ...]]:
    return lambda _: names


def _regress_inputs(options: Options) -> tuple[str, ...]:
    """Keypoints; the lifted pose as well where 3D keypoints are needed and the estimator has none."""
    keypoints, _ = choose(KEYPOINTS, options.keypoints, "keypoint estimator")
    return ("pose", "lift") if options.needs_depth and not keypoints.has_depth else ("pose",)


def _regress_models(options: Options) -> tuple[str, ...]:
    masks = ("person_masks",) if options.shape == "silhouette" else ()
    bodies = ("free_bodies",) if options.gender == "auto" else ()
    return (*options.stream.models, *masks, *bodies)


def _calibrate_inputs(options: Options) -> tuple[str, ...]:
    """The mesh and the pose it is moved to; keypoints as well where they come from a stream of their own."""
    return ("regress", "lift") if options.mode == "serial" else ("pose", "regress", "lift")


STAGES: dict[str, Stage] = {
    "detect": Stage(
        detect,
        ("detections",),
        _reads(),
        _reads("detector", "cuts"),
        camera=lambda options: options.fov_track,
        by_frames=True,
    ),
    "track": Stage(track, ("tracks", "dropped_tracks"), _reads("detect"), _reads()),
    "pose": Stage(pose, ("keypoints",), _reads("track"), _reads("keypoints"), camera=lambda _: True, by_frames=True),
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


def check_checkpoint(options: Options, stages: Sequence[str]) -> None:
    """WeightsError where a regressor that is to run wants a published checkpoint and none is given."""
    if "regress" in stages and not options.checkpoint:
        refuse_without_checkpoint(options.stream, str(options.mesh))


def load_models(models: Models, stages: Sequence[str]) -> None:
    """Load now what these stages use, so that what is missing is reported before any work is done."""
    check_checkpoint(models.options, stages)
    for stage in stages:
        for name in STAGES[stage].models(models.options):
            getattr(models, name)


def check_clip(take: Take, stages: Sequence[str], models: Models) -> None:
    """What a mesh stream that reads a file says of the clip before any stage runs; InputError where it refuses it."""
    reads_file = "regress" in stages and "mesh_stream" in STAGES["regress"].models(models.options)
    if check := getattr(models.mesh_stream, "check", None) if reads_file else None:
        check(take)


def adopted(options: Options, take: Take, stages: Sequence[str], given: Collection[str] | None = None) -> Options:
    """The options for running `stages` on a take: what its other stages were made with is as it was.

    So a stage on its own goes on with the keypoints and the gender that the take has. `given` are the options that the
    user named: where none of a stage's members is among them, a stage that is made again keeps its others as well.
    """
    kept: dict[str, Any] = {}
    for name, record in take.provenance.items():
        if name not in STAGES:
            continue
        own = {k: v for k, v in record["options"].items() if k in changing(name)}
        if name not in stages:
            kept |= own
        elif given is not None and not any(OPTIONS[key].choices and key in given for key in own):
            kept |= {key: value for key, value in own.items() if key not in given}
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
    unfinished: Unfinished | None = None,
) -> Take:
    """Bring a take through `stages`; those whose provenance already fits are skipped. `save` is called after each.
    `unfinished` keeps what a stage has done of a clip when the process is stopped in it."""
    chosen = models.options
    check_checkpoint(chosen, stages)
    check_clip(take, stages, models)
    for name in stages:
        stage = STAGES[name]
        inputs = stage.inputs(chosen)
        for before in inputs:
            require_stage(take, before, chosen)
        options = {key: getattr(chosen, key) for key in changing(name)}
        if stage.camera(chosen):
            options["focal_px"] = [round(float(f), 3) for f in take.camera.focal_px]
        hashes = {key: getattr(models, key).weights_sha256 for key in stage.models(chosen)}
        read = {before: take.provenance[before] for before in inputs}
        record = provenance_record(options, hashes, read or take.video.sha256)
        if take.provenance.get(name) == record:
            log.debug("%s: %s is up to date", take.video.path, name)
            continue
        rest = unfinished or Unfinished()
        part = (rest.part(name, record),) if stage.by_frames else ()
        parts = stage.run(take, models, progress, *part)
        stale = readers_of([name], chosen)
        take = with_stage(keep_stages(take, [s for s in STAGES if s not in stale]), name, record, **parts)
        save(take)
        rest.remove()
        trim_heap()
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
    dropped = tuple(d for d in take.dropped_tracks if d.stage in stages)
    return replace(take, **{**gone, "dropped_tracks": dropped}, provenance=kept)
