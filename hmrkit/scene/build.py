"""From a take to a `Scene`: clock, gaps, cleaning, space, axes and units are settled here, once, for all formats."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hmrkit import __version__
from hmrkit.body.posing import body_for, body_meshes, skeleton_joints
from hmrkit.body.texture import texture_coordinates
from hmrkit.calibration.track import calibrated_vertices
from hmrkit.errors import InputError, UsageError
from hmrkit.members import Range, check_number, unknown
from hmrkit.scene import (
    Z_UP_FROM_Y_UP,
    Character,
    ExportOptions,
    Rows,
    Scene,
    SceneCamera,
    person_name,
    scene_name,
)
from hmrkit.scene.cleanup import clean, split_at_gaps
from hmrkit.scene.ground import World, estimate_world
from hmrkit.scene.resampling import Clock, Motion, make_clock, make_motion
from hmrkit.scene.retarget import retarget
from hmrkit.scene.rigs import load_rig
from hmrkit.scene.texture import Texture, read_texture
from hmrkit.scene.types import units_per_metre
from hmrkit.skeletons import RIGS
from hmrkit.types import Take, Zoom
from hmrkit.video.camera_motion import camera_moves
from hmrkit.video.cuts import shots

if TYPE_CHECKING:
    from hmrkit.models import Models

log = logging.getLogger(__name__)
GL_FROM_CV = np.diag([1.0, -1.0, -1.0])  # y down, z forward -> y up, z towards the viewer


def build_scene(
    take: Take,
    models: Models,
    options: ExportOptions | None = None,
    own_times: bool = False,
    shot: int | None = None,
    texture: Texture | None = None,
) -> Scene:
    """The people of a take with a mesh as the options want them. Vertices are only computed when asked for.

    A clip of variable rate is resampled to a constant one, unless its frames keep their `own_times`. Of a `shot`,
    counted from 1, the scene has the people, on a ground of its own; the names of scene and people end in the shot's.
    `texture` is that of the options where it has been read; else it is read here.
    UsageError where the options name people that are not there or contradict one another.
    """
    options = options or ExportOptions()
    check_options(options)
    clip = scene_name(Path(take.video.path))
    if texture is None and options.texture is not None:
        texture = read_texture(options.texture, models.body, clip)
    if options.fps is not None and not isinstance(options.fps, Fraction):
        options = replace(options, fps=parse_rate(str(options.fps)))  # from Python, 24 and 23.976 will do
    clock = make_clock(take, options.fps, options.first_frame, own_times)
    motions = _people(take, clock, models, options, shot)
    if options.gaps == "split":
        motions = [part for motion in motions for part in split_at_gaps(motion)]
    elif options.gaps == "interpolate":
        motions = [replace(motion, visible=np.ones(len(motion), bool)) for motion in motions]
    world, cleaned = None, {}
    if options.space == "world" or options.lock_feet:
        moves = options.space == "world" and options.camera_pose is None and camera_moves(take.video)
        if moves:
            log.warning(
                "%s: the camera moves, and people drift in world space; --space camera does not", take.video.path
            )
        world = estimate_world(
            motions, models.body, clock.motion_fps, options.ground, options.camera_pose, doubts_known=moves
        )
    placed = world if options.space == "world" else None
    if options.smooth or options.lock_feet or options.fingers == "rest":
        up = None if world is None else world.up_c
        motions, cleaned = clean(motions, models.body, clock.motion_fps, options, up, placed)
    matrix = scene_from_camera(options, placed)
    characters = tuple(_character(take, motion, clock, models, matrix, options) for motion in motions)
    if options.skeleton != "smpl":
        characters = tuple(retarget(character, options.skeleton) for character in characters)
    metadata = _metadata(take, options, clock, placed, cleaned)
    clip_range = _clip_range(take, clock, shot, characters)
    return Scene(
        name=clip + _shot_suffix(shot), characters=characters,
        camera=_camera(take, matrix, options, clock, clip_range), fps=clock.fps, first_frame=clock.first_frame,
        timecode=read_timecode(take.video.path), up=options.up, unit=options.unit, space=options.space,
        metadata=metadata, take=take, scene_from_camera_cv=matrix, suffix=_shot_suffix(shot),
        clip_range=clip_range, texture=texture,
    )  # fmt: skip


# The numbers among an export's options: their flags and ranges.
_NUMBERS: dict[str, tuple[str, Range]] = {
    "fps": ("--fps", (1e-3, 1000)),
    "first_frame": ("--first-frame", (-1e9, 1e9)),
    "scale": ("--scale", (1e-6, 1e6)),
    "film_width_mm": ("--film-back", (0.01, 1e4)),
    "smooth": ("--smooth", (0, 1000)),
    "keyframe_reduce": ("--keyframe-reduce", (0, 1e6)),
}


def check_options(options: ExportOptions) -> None:
    """UsageError for words and numbers that make no sense, before any work is done."""
    choices = {"up": ("y", "z"), "unit": ("m", "cm"), "space": ("camera", "world"), "fingers": ("keep", "rest")}
    choices |= {"gaps": ("hide", "interpolate", "split"), "skeleton": ("smpl", *RIGS)}
    choices |= {"bvh_start": ("clip", "person"), "npz": ("hmrkit", "amass"), "influences": ("4", "8")}
    for name, words in choices.items():
        if str(getattr(options, name)) not in words:
            flag = "units" if name == "unit" else name.replace("_", "-")
            raise unknown(f"--{flag}", str(getattr(options, name)), words)
    for name, (flag, allowed) in _NUMBERS.items():
        check_number(flag, getattr(options, name), allowed)
    if options.space == "camera" and (options.ground or options.camera_pose):
        raise UsageError("--ground and --camera-pose place people in the world; add --space world")
    if options.root_bone and options.space == "camera":
        raise UsageError("--root-bone stands on the floor, which only the world has; add --space world")
    if options.rig is not None:
        _check_rig(options)
    if options.ground and options.camera_pose:
        raise UsageError("give --ground or --camera-pose, not both")


def _check_rig(options: ExportOptions) -> None:
    if options.skeleton != "smpl":
        raise UsageError(f"--rig {options.rig} has a skeleton of its own; leave out --skeleton {options.skeleton}")
    if load_rig(str(options.rig)).is_character and (options.exact or options.pose_shapes):
        raise UsageError(
            "--exact and --pose-shapes are the person's, a --rig has proportions of its own; leave them out"
        )


def parse_rate(text: str | None) -> Fraction | None:
    """``24``, ``30000/1001``; ``23.976``, ``29.97`` and ``59.94`` are NTSC's exact rates. UsageError else."""
    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--fps wants a rate such as 24, 23.976 or 30000/1001, got {text!r}") from None
    ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    return ntsc if rate.denominator != 1 and abs(rate - ntsc) < Fraction(1, 100) else rate


def parse_numbers(text: str | None, flag: str) -> tuple[float, ...] | None:
    """Numbers with commas or blanks between them, or a text file of such. UsageError where they are none."""
    if text is None:
        return None
    try:
        if re.search("[a-df-zA-DF-Z]", text):
            text = Path(text).read_text()
        numbers = tuple(float(word) for word in re.split(r"[,\s]+", text.strip()))
    except (OSError, ValueError):
        raise UsageError(
            f"{flag} wants numbers with commas between them, or a text file of them, got {text!r}"
        ) from None
    for number in numbers:
        check_number(flag, number, (-1e9, 1e9))
    return numbers


def parse_people(text: str) -> tuple[int, ...] | None:
    """``all`` or ``1,3`` -> track ids. UsageError else."""
    if text == "all":
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", part) for part in parts):
        raise UsageError(f"--people wants all or numbers of people such as 1,3, got {text!r}")
    return tuple(int(part) for part in parts)


def scene_from_camera(options: ExportOptions, world: World | None) -> np.ndarray:
    """(3,4): camera frame (OpenCV axes, metres) -> the scene's axes and unit."""
    upright = np.concatenate([GL_FROM_CV, np.zeros((3, 1))], 1) if world is None else world.world_from_camera[:3]
    rotated = Z_UP_FROM_Y_UP @ upright if options.up == "z" else upright
    return rotated * units_per_metre(options.scale, options.unit)


def _shot_suffix(shot: int | None) -> str:
    """What names in a shot's scene end in: ``_shot_01``; nothing for a whole clip."""
    return "" if shot is None else f"_shot_{shot:02d}"


def chosen_shots(take: Take, options: ExportOptions) -> Sequence[int | None]:
    """Numbers, from 1, of the shots with people to export; None for a clip as a whole.

    UsageError for people who are not there.
    """
    if not (options.per_shot and take.video.cuts):
        return [None]
    return sorted({_shot_of(take, person.track_id) for person in take.people_with_mesh(options.people)})


def _shot_of(take: Take, track_id: int) -> int:
    return 1 + int(shots(take.track(track_id).frame_indices[:1], take.video.cuts)[0])


def _clip_range(
    take: Take, clock: Clock, shot: int | None, characters: tuple[Character, ...]
) -> tuple[int, int] | None:
    """First and last scene frame of the chosen frames of the clip, or of those of the shot."""
    if not characters:
        return None
    chosen = take.video.frame_indices
    if shot is not None:
        chosen = chosen[np.asarray(shots(chosen, take.video.cuts)) == shot - 1]
    first, last = clock.numbers(chosen[[0, -1]]).round().astype(int).tolist()
    return min(first, *(int(c.frames[0]) for c in characters)), max(last, *(int(c.frames[-1]) for c in characters))


def _people(take: Take, clock: Clock, models: Models, options: ExportOptions, shot: int | None) -> list[Motion]:
    motions = []
    for i in [person.track_id for person in take.people_with_mesh(options.people)]:
        if shot is None or _shot_of(take, i) == shot:
            motion = make_motion(take, i, clock, models.body, person_name(i) + _shot_suffix(shot))
            if motion is None:
                log.warning("%s: person %d has no frame with a mesh", take.video.path, i)
            else:
                motions.append(motion)
    return motions


def _character(
    take: Take, motion: Motion, clock: Clock, models: Models, matrix: np.ndarray, options: ExportOptions
) -> Character:
    body, size = body_for(motion.base, models.body), units_per_metre(options.scale, options.unit)
    rotation, shift = matrix[:, :3] / size, matrix[:, 3]
    rest_rotation = Z_UP_FROM_Y_UP if options.up == "z" else np.eye(3)
    with torch.inference_mode():
        rest = body(betas=motion.base.betas)
    cleaned = motion.cleaned
    local = np.concatenate([cleaned.global_orient[:, None], cleaned.body_pose], 1).astype(np.float64)
    weights = (local[:, 1:] - np.eye(3)).reshape(len(local), -1).astype(np.float32)
    local[:, 0] = rotation @ local[:, 0] @ rest_rotation.T
    local[:, 1:] = rest_rotation @ local[:, 1:] @ rest_rotation.T
    joints_c, skeleton_c = motion.joints_c, skeleton_joints(body, cleaned)
    if cleaned is not motion.params:
        joints_c = joints_c + skeleton_c - skeleton_joints(body, motion.params)
    rest_joints = rest.joints[0].cpu().numpy()
    rest_vertices, floor = rest.vertices[0].cpu().numpy(), rest.vertices[0, :, 1].min().item()
    stand = np.array([0.0, -floor, 0.0])

    def pose_shapes() -> tuple[np.ndarray, np.ndarray]:
        shapes = body.pose_shapes().cpu().numpy() @ (size * rest_rotation.T)
        return shapes.astype(np.float32), weights

    track, rows = take.track(motion.track_id), motion.rows
    return Character(
        name=motion.name,
        track_id=motion.track_id,
        frames=motion.frames,
        visible=motion.visible,
        joint_names=body.joint_names,
        parents=body.parents,
        rest_joints=((rest_joints + stand) @ (size * rest_rotation.T)).astype(np.float32),
        rest_vertices=((rest_vertices + stand) @ (size * rest_rotation.T)).astype(np.float32),
        faces=np.asarray(body.faces),
        skin_weights=body.weights.cpu().numpy().astype(np.float32),
        local_rotations=local.astype(np.float32),
        root_positions=(skeleton_c[:, 0] @ (size * rotation.T) + shift).astype(np.float32),
        joints=(joints_c @ (size * rotation.T) + shift).astype(np.float32),
        exact_vertices=partial(_exact_vertices, motion, models, matrix),
        pose_shapes=pose_shapes,
        params_c=cleaned,
        source_rows=rows,
        source_frames=np.interp(rows, np.arange(len(track.frame_indices)), track.frame_indices),
        source_times=np.interp(rows, np.arange(len(track.frame_indices)), clock.times(track.frame_indices)),
        calibrated=motion.calibrated,
        rest_pelvis_m=rest_joints[0].astype(np.float64),
        texture_uv=partial(texture_coordinates, body),
    )


def _exact_vertices(motion: Motion, models: Models, matrix: np.ndarray, rows: Rows) -> np.ndarray:
    """Final vertices (n,V,3) in the scene. Cleaning moves them by what it moves the skeleton's own mesh."""
    if motion.calibrated:
        vertices = calibrated_vertices(models.body, motion.base, motion.joints_c, models.calibration, rows)
    else:
        vertices = body_meshes(models.body, motion.params, rows)[0]
    if motion.cleaned is not motion.params:
        before, after = (body_meshes(models.body, params, rows)[0] for params in (motion.params, motion.cleaned))
        vertices = vertices + (after - before)
    return vertices @ matrix[:, :3].T.astype(np.float32) + matrix[:, 3].astype(np.float32)


def _camera(
    take: Take, matrix: np.ndarray, options: ExportOptions, clock: Clock, clip_range: tuple[int, int] | None
) -> SceneCamera:
    placed = np.eye(4)
    placed[:3, :3] = matrix[:, :3] / units_per_metre(options.scale, options.unit) @ GL_FROM_CV
    placed[:3, 3] = matrix[:, 3]
    camera = take.camera
    zoom = None
    if camera.zoom is not None and clip_range is not None:
        frames = np.arange(clip_range[0], clip_range[1] + 1)
        chosen = take.video.frame_indices
        zoom = Zoom(frames, np.interp(frames, clock.numbers(chosen), camera.zoom.at(chosen)))
    return SceneCamera(
        placed, camera.focal_px, camera.center_px, camera.width, camera.height, options.film_width_mm, zoom=zoom
    )


def _metadata(
    take: Take, options: ExportOptions, clock: Clock, world: World | None, cleaned: dict[str, Any]
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "generator": f"hmrkit {__version__}",
        "source": Path(take.video.path).name,
        "source_sha256": take.video.sha256,
        "fps": str(clock.fps),
        "resampled": clock.resampled,
        "slowdown": take.video.slowdown,
        "camera_source": take.camera.source,
        "options": options_as_json(options),
        "cleaning": cleaned,
        "stages": {name: record.get("options", {}) for name, record in take.provenance.items() if name != "files"},
    }
    facts |= {} if world is None else {"world": world.as_json()}
    return json.loads(json.dumps(facts, sort_keys=True))  # one order, whichever way the take came


def options_as_json(options: ExportOptions) -> dict[str, Any]:
    """The options that are set, as plain JSON values; of files only the names."""
    facts = {key: value for key, value in vars(options).items() if value is not None}
    facts = {key: str(value) if isinstance(value, Fraction) else value for key, value in facts.items()}
    facts |= {key: Path(facts[key]).name for key in ("texture", "rig") if key in facts}
    return json.loads(json.dumps(facts))


def read_timecode(path: str) -> str | None:
    """SMPTE timecode of the clip's first frame, where its container has one and the file is still there."""
    if not Path(path).is_file():
        return None
    from av.error import FFmpegError

    from hmrkit.video.opening import open_media

    try:
        with open_media(path) as container:
            tags = [container.metadata, *(stream.metadata for stream in container.streams)]
    except (InputError, FFmpegError, OSError):
        return None
    return next((tag["timecode"] for tag in tags if "timecode" in tag), None)
