"""Results -> a take: people in a camera, on a body that can be posed here, with tracks and boxes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hmrkit.body import Body, load_body
from hmrkit.body.posing import skeleton_joints, take_rows
from hmrkit.camera import assume_camera, camera_from_ray, mean_focal, project
from hmrkit.errors import InputError, UsageError
from hmrkit.files import sha256_of
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.results.linking import linked_rows
from hmrkit.results.people import Person, Results
from hmrkit.results.rest_pose import PELVIS
from hmrkit.skeletons import SMPL_24
from hmrkit.smoothing import smooth_body
from hmrkit.take import provenance_record, with_stage
from hmrkit.types import BodyParams, Camera, Take, Track, VideoInfo

log = logging.getLogger(__name__)

NEAREST = 0.1  # m from the camera; whoever is nearer, or behind it, is not seen
BOX_MARGIN = 0.12  # of the joints' extent, for flesh around them
REACH = 1.2  # m about the pelvis: what of a person the made-up camera of a world has to see
SAME_FOCAL = 1e-3  # relative


def camera_of(results: Results, video: VideoInfo, focal: float | None = None, fov: float | None = None) -> Camera:
    """The camera that the results were made with; where they say nothing of its focal length, the one that is given
    or assumed. UsageError where both say and they differ."""
    camera = assume_camera(video.width, video.height, focal, fov)
    if results.space == "world" or results.focal_px is None:
        return camera
    known = results.focal_px
    if (focal or fov) and abs(float(camera.focal_px[0]) / known - 1) > SAME_FOCAL:
        raise UsageError(
            f"the results were made with a focal length of {known:.3f} px, not {float(camera.focal_px[0]):.3f}; "
            "leave out --focal and --fov"
        )
    center = camera.center_px if results.center_px is None else np.array(results.center_px, np.float32)
    return Camera(np.array([known, known], np.float32), center, video.width, video.height, "given")


def import_take(
    path: str,
    results: Results,
    video: VideoInfo,
    body: Body,
    smooth: float = 0.0,
    focal: float | None = None,
    fov: float | None = None,
) -> Take:
    """`results_take` before the results' own camera, smoothed, with the provenance of its one stage, ``regress``."""
    take = results_take(results, video, camera_of(results, video, focal, fov), body, path)
    bodies = {
        track.track_id: smooth_body(
            take.body[track.track_id],
            np.ones(len(track.frame_indices), bool),
            video.seconds(track.frame_indices),
            smooth,
        )
        for track in take.tracks
    }
    options = {"mesh": f"file:{path}", "smooth": smooth, "refine": False, "gender": body.gender}
    options["space"] = results.space
    hashes = {"body": body.weights_sha256, "mesh_stream": results_sha256(path)}
    return with_stage(take, "regress", provenance_record(options, hashes, video.sha256), body=bodies)


def results_take(results: Results, video: VideoInfo, camera: Camera, body: Body, path: str) -> Take:
    """The people of `path` as a take with tracks and bodies, without provenance.

    On a body of another shape space than the results' people get its mean shape, with a warning; their pelvis stays
    where it is. Frames that the clip does not have, or in which somebody is not before the camera, are left out with a
    warning. InputError where nobody is left, or where body and results are of the same kind and another sex.
    """
    same = results.body == body.family
    if same and (results.gender != body.gender or (results.model and results.model != body.model_id)):
        raise InputError(
            f"{path}: wanted bodies of {body.model_id} ({body.gender}), found those of "
            f"{results.model or results.body} ({results.gender}); give the --body or --gender that they were made with"
        )
    if not same:
        log.warning("%s was made with another body than %s: people get its mean shape", path, body.model_id)
    people = [_inside(person, video, path) for person in _with_hands(results, body, path)]
    bodies = [(person, _params(person, results, body, same, camera)) for person in people if len(person.frame_indices)]
    if results.space == "world":
        bodies = _before_a_camera(bodies, results, camera, body)
    tracks: list[tuple[Track, BodyParams]] = []
    for person, params in bodies:
        seen = params.transl_c[:, 2] + _rest_joints(body, params.betas)[0, 2] > NEAREST
        if not seen.all():
            log.warning("%s: person %d is behind the camera in %d frames", path, person.number, int((~seen).sum()))
        if seen.any():
            track = _track(person.number, person.frame_indices[seen], take_rows(params, seen), camera, body)
            tracks.append((track, take_rows(params, seen)))
    if not tracks:
        raise InputError(f"{path}: wanted people in the {video.frame_count} frames of {video.path}, found none")
    if not results.linked:
        tracks = linked_rows(tracks, video.seconds(np.array([track.frame_indices[0] for track, _ in tracks])))
    tracks.sort(key=lambda item: (int(item[0].frame_indices[0]), item[0].track_id))
    numbered = [(replace(track, track_id=k), params) for k, (track, params) in enumerate(tracks, 1)]
    return Take(
        video, camera, tracks=tuple(track for track, _ in numbered),
        body={track.track_id: params for track, params in numbered}, faces=np.asarray(body.faces, np.int32),
    )  # fmt: skip


def results_sha256(path: str | Path) -> str:
    """Hash of a file of results; of a folder, of its files' hashes."""
    path = Path(path)
    if not path.is_dir():
        return sha256_of(path)
    import hashlib

    names = sorted(file for file in path.rglob("*") if file.is_file())
    listed = "".join(f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n" for file in names)
    return hashlib.sha256(listed.encode()).hexdigest()


def _with_hands(results: Results, body: Body, path: str) -> tuple[Person, ...]:
    """The people with fingers relative to flat hands: smplx adds the mean hand's axis-angle to theirs. Without fingers,
    and with a warning, where the body's file has no mean hand."""
    if not results.mean_hands or all(person.fingers is None for person in results.people):
        return results.people
    if body.mean_hands is None:
        log.warning("%s: hands are left out, being about the mean hand of SMPL-X's file; give that as --body", path)
        return tuple(replace(person, fingers=None) for person in results.people)
    mean = torch.from_numpy(body.mean_hands).double()

    def flat(fingers: np.ndarray) -> np.ndarray:
        return axis_angle_to_matrix(matrix_to_axis_angle(torch.from_numpy(fingers)) + mean).numpy()

    return tuple(p if p.fingers is None else replace(p, fingers=flat(p.fingers)) for p in results.people)


def _inside(person: Person, video: VideoInfo, path: str) -> Person:
    """The frames of a person that the clip has."""
    inside = np.isin(person.frame_indices, video.frame_indices)
    beyond = int(((person.frame_indices < 0) | (person.frame_indices >= video.frame_count)).sum())
    if beyond:
        log.warning(
            "%s: person %d has %d frames outside of the clip's %d: is it of another clip?",
            path, person.number, beyond, video.frame_count,
        )  # fmt: skip
    return person.at_rows(inside, person.frame_indices[inside])


def _rest_joints(body: Body, betas: np.ndarray) -> np.ndarray:
    """Joints (24,3) m of the body at rest."""
    with torch.inference_mode():
        return body.joints_only(betas=betas).joints[0].double().cpu().numpy()


def _params(person: Person, results: Results, body: Body, same: bool, camera: Camera) -> BodyParams:
    """A person on `body`, in the results' own space, with the pelvis where it is in the results."""
    betas = person.betas if same else np.zeros_like(person.betas)
    rest = _rest_joints(body, betas)
    orient, place = person.rotations[:, 0], person.place
    if results.at == "origin":
        place = place + (rest[0] if same else _rest_pelvis(results, person.betas))
    if results.is_weak:
        orient, place = _in_perspective(orient, np.concatenate([place[:, :2], person.place[:, 2:]], 1), camera)
    if results.at == "hips":
        hips = rest[list(SMPL_24.indices("left_hip", "right_hip"))].mean(0) - rest[0]
        place = place - orient @ hips
    pose, transl = person.rotations[:, 1:].astype(np.float32), (place - rest[0]).astype(np.float32)
    fingers = None if person.fingers is None else person.fingers.astype(np.float32)
    return BodyParams(orient.astype(np.float32), pose, betas, transl, body.gender, body.model_id, fingers)


def _rest_pelvis(results: Results, betas: np.ndarray) -> np.ndarray:
    """The pelvis (3,) m of the body that the results are of, at rest."""
    known = PELVIS.get(results.body)
    return _rest_joints(load_body(gender=results.gender), betas)[0] if known is None else known


def _in_perspective(orient: np.ndarray, place: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Weak-perspective root rotations (T,3,3) and places (T,3) (see `Results`) -> those in `camera`, m.

    A tool with such a camera sees, and draws, everybody as from straight ahead, wherever in the image they are: its
    rotation is relative to the ray to the person (Li et al., CLIFF, 2022, section 3). In a camera with perspective the
    person is rotated with that ray, and so looks as in the tool's own rendering.
    """
    place = place * [1.0, 1.0, mean_focal(camera)]
    return camera_from_ray(camera, project(camera, place)) @ orient, place


Bodies = list[tuple[Person, BodyParams]]


def _before_a_camera(bodies: Bodies, results: Results, camera: Camera, body: Body) -> Bodies:
    """People in a world before a camera that stands still and level, far enough away to see them all."""
    down = -np.array(results.up)
    # x stays as it is; down is the camera's y; it looks along x cross y.
    axes = np.stack([np.array([1.0, 0, 0]), down, np.cross([1.0, 0, 0], down)])
    rests = [_rest_joints(body, params.betas)[0] for _, params in bodies]
    pelves = [
        (params.transl_c + rest) @ axes.T for (_, params), rest in zip(bodies, rests, strict=True)
    ]  # fmt: skip
    points = np.concatenate(pelves)
    middle = (points.min(0) + points.max(0)) / 2
    half_image = np.array([camera.width, camera.height]) / 2 / camera.focal_px
    needed = ((np.abs(points[:, :2] - middle[:2]) + REACH) / half_image).max(1)
    away = np.array([middle[0], middle[1], -(needed - points[:, 2]).max()])
    moved = []
    for (person, params), rest, pelvis in zip(bodies, rests, pelves, strict=True):
        orient = (axes @ params.global_orient).astype(np.float32)
        transl = (pelvis - away - rest).astype(np.float32)
        moved.append((person, replace(params, global_orient=orient, transl_c=transl)))
    return moved


def _track(number: int, frame_indices: np.ndarray, params: BodyParams, camera: Camera, body: Body) -> Track:
    """A track with boxes about the projected joints, inside the image where they reach it."""
    pixels = project(camera, skeleton_joints(body, params))
    low, high = np.nanmin(pixels, 1), np.nanmax(pixels, 1)
    margin = BOX_MARGIN * (high - low).max(1, keepdims=True)
    boxes = np.concatenate([low - margin, high + margin], 1).astype(np.float32)
    count = len(frame_indices)
    return Track(number, frame_indices, boxes, np.ones(count, np.float32), np.zeros(count, bool))
