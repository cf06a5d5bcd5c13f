"""A take on disk: one ``.npz`` that plain NumPy reads, with a JSON manifest inside and no pickles.

Layout, version 1. The entry ``manifest`` is a 0-d unicode array holding JSON::

    {"format": "hmrkit-take", "version": 1, "video": {...}, "camera": {...},
     "tracks": [ids], "dropped_tracks": [...], "keypoints": {id: {"skeleton"}},
     "body": {id: {"gender", "model"}}, "lifted": {id: {"skeleton"}}, "calibrated": {id: {"gender", "model"}},
     "provenance": {stage: record}, "checksums": {member: first 32 hex digits of its sha256}}

Arrays beside it (shapes and units as in `hmrkit.types`; ``{id}`` is the track id)::

    video/frame_indices  video/frame_times  camera/focal_px  camera/center_px  faces
    video/background_px (frames,2), since `detect`
    camera/zoom (frames,), factors on the focal length (of --fov-track, where the lens zooms)
    detections/counts (frames,)  detections/boxes_xyxy (sum,4)  detections/scores (sum,)  detections/appearance (sum,D)
    track/{id}/frame_indices  boxes_xyxy  scores  interpolated
    keypoints/{id}/keypoints_2d  joints_3d
    body/{id}/global_orient  body_pose  betas  transl_c  fingers (of some imported results)  seen (T,24)
    overlap/{id}/iou  genders (3,), neutral, male and female (of --gender auto)
    lifted/{id}/joints_c
    calibrated/{id}/joints_c  refit_residual_mm  global_orient  body_pose  betas  transl_c  fingers  seen

``video`` has the clip's absolute ``path`` and its size in ``bytes``; the comment of the zip is its path as seen from
the take's folder, so that both can be moved together. But for that, equal takes give equal bytes: nothing in the file
depends on when or where it was written.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sys
import zipfile
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hmrkit.errors import InputError
from hmrkit.files import atomic_path
from hmrkit.take.checks import what_is_wrong
from hmrkit.take.footage import describe_place, find_clip, with_clip, write_relative_path
from hmrkit.types import (
    BodyParams,
    Calibration,
    Camera,
    Detections,
    DroppedTrack,
    Keypoints,
    LiftedPose,
    MaskOverlap,
    Take,
    Track,
    VideoInfo,
    Zoom,
)
from hmrkit.untrusted.arrays import load_arrays

log = logging.getLogger(__name__)
FORMAT, VERSION = "hmrkit-take", 1
_BODY_ARRAYS = ("global_orient", "body_pose", "betas", "transl_c")
_OPTIONAL_ARRAYS = ("fingers", "seen")
_TRACK_ARRAYS = ("frame_indices", "boxes_xyxy", "scores", "interpolated")


# ------------------------------------------------------------------------------------------------ save and load


def save_take(take: Take, target: str | Path | BinaryIO) -> None:
    """Write a take to a path (atomically: a temporary name beside it, then renamed) or to an open binary file."""
    arrays = _to_arrays(take)
    if not isinstance(target, (str, Path)):
        buffer = io.BytesIO()  # zip needs to seek; a pipe cannot
        np.savez_compressed(buffer, **arrays)
        target.write(buffer.getvalue())
        target.flush()
        return
    with atomic_path(target) as temporary:
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        write_relative_path(take.video, temporary, Path(target))


def load_take(source: str | Path | BinaryIO) -> Take:
    """Read a take from a path or an open binary file. InputError says what the file is if it is not a take, or which
    member of it is damaged."""
    place = Path(source) if isinstance(source, (str, Path)) else None
    name = str(source) if place else "standard input"
    if place and place.exists() and not (place.is_file() or place.is_dir()):
        raise InputError(f"{name}: wanted a take, found a pipe or a device; - is standard input")
    try:
        arrays = load_arrays(source)
        manifest = json.loads(str(arrays["manifest"]))
        if manifest["format"] != FORMAT:
            raise KeyError("format")
        version = manifest["version"]
    except FileNotFoundError:
        raise InputError(
            f"{name}: no such take; `hmrkit run VIDEO` makes one, or `hmrkit detect VIDEO -o {name}`"
        ) from None
    except IsADirectoryError:
        raise InputError(f"{name}: wanted a take, found a folder; a run's is FOLDER/take.npz") from None
    except OSError as error:
        raise InputError(f"{name}: wanted a take, cannot read it ({error.strerror or error})") from None
    except Exception as error:  # a flipped bit can make a zip fail in any way
        log.debug("%s: %s: %s", name, type(error).__name__, error)
        raise InputError(
            f"{name}: wanted a take (.npz made by hmrkit), found something else or a damaged or cut-off file; "
            "make it anew"
        ) from None
    if version != VERSION:
        advice = "update hmrkit" if isinstance(version, int) and version > VERSION else "make it anew"
        raise InputError(f"{name}: take of version {version}, this hmrkit reads version {VERSION}; {advice}")
    try:
        _check_members(arrays, manifest)
        take = _from_arrays(arrays, manifest, place)
        if wrong := what_is_wrong(take):
            raise _DamagedError(wrong)
        return take
    except Exception as error:  # whatever the checksums of an old take, which has none, cannot tell
        found = error.args[0] if isinstance(error, _DamagedError) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"{name}: the take is damaged ({found}); make it anew: `hmrkit run` starts its clip again by itself"
        ) from None


class _DamagedError(Exception):
    """A member of a take is not what was saved."""


def _checksums(arrays: dict[str, Any], manifest: dict[str, Any]) -> dict[str, str]:
    """Of every array, with its kind and shape, and of the manifest itself without this."""
    rest = {key: value for key, value in manifest.items() if key != "checksums"}
    found = {"manifest": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()[:32]}
    for name in sorted(arrays.keys() - {"manifest"}):
        array = np.ascontiguousarray(arrays[name])
        digest = hashlib.sha256(f"{array.dtype.str}{arrays[name].shape}".encode())
        digest.update(array.data if array.size else b"")
        found[name] = digest.hexdigest()[:32]
    return found


def _check_members(arrays: dict[str, Any], manifest: dict[str, Any]) -> None:
    """_DamagedError where a member is missing, added or changed. Takes from before there were checksums pass."""
    if (wanted := manifest.get("checksums")) is None:
        return
    found = _checksums(arrays, manifest)
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            raise _DamagedError(f"{name} is missing")
        if wanted.get(name) != found[name]:
            raise _DamagedError(f"{name} is not what was saved")


def is_take(path: str | Path) -> bool:
    """Whether a file looks like a take: a zip with a manifest, or no file at all, which `load_take` then says."""
    if not Path(path).exists():
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return "manifest.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _to_arrays(take: Take) -> dict[str, Any]:
    video, camera = take.video, take.camera
    arrays: dict[str, Any] = {
        "video/frame_indices": video.frame_indices,
        "video/frame_times": video.frame_times,
        "camera/focal_px": camera.focal_px,
        "camera/center_px": camera.center_px,
    }
    if video.background_px is not None:
        arrays["video/background_px"] = video.background_px
    if camera.zoom is not None:
        arrays["camera/zoom"] = camera.zoom.at(video.frame_indices)
    if take.faces is not None:
        arrays["faces"] = take.faces
    if take.detections:
        arrays["detections/counts"] = np.array([len(d.scores) for d in take.detections], np.int32)
        arrays["detections/boxes_xyxy"] = np.concatenate([d.boxes_xyxy for d in take.detections])
        arrays["detections/scores"] = np.concatenate([d.scores for d in take.detections])
        appearance = [d.appearance for d in take.detections if d.appearance is not None]
        if len(appearance) == len(take.detections):
            arrays["detections/appearance"] = np.concatenate(appearance)
    for track in take.tracks:
        arrays |= {f"track/{track.track_id}/{name}": getattr(track, name) for name in _TRACK_ARRAYS}
    for i, points in take.keypoints.items():
        arrays[f"keypoints/{i}/keypoints_2d"] = points.keypoints_2d
        if points.joints_3d is not None:
            arrays[f"keypoints/{i}/joints_3d"] = points.joints_3d
    for i, params in take.body.items():
        arrays |= _body_arrays(f"body/{i}", params)
    for i, overlap in take.overlap.items():
        arrays[f"overlap/{i}/iou"] = overlap.iou
        if overlap.genders is not None:
            arrays[f"overlap/{i}/genders"] = overlap.genders
    for i, lifted in take.lifted.items():
        arrays[f"lifted/{i}/joints_c"] = lifted.joints_c
    for i, item in take.calibrated.items():
        arrays[f"calibrated/{i}/joints_c"] = item.joints_c
        arrays[f"calibrated/{i}/refit_residual_mm"] = item.refit_residual_mm
        arrays |= _body_arrays(f"calibrated/{i}", item.params)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "video": {
            **describe_place(video),
            "sha256": video.sha256,
            "width": video.width,
            "height": video.height,
            "fps": str(video.fps),
            "frame_count": video.frame_count,
            "rotation_deg": video.rotation_deg,
            "failed_frames": list(video.failed_frames),
            "first_number": video.first_number,
            "slowdown": video.slowdown,
            "notes": list(video.notes),
            "cuts": list(video.cuts),
        },
        "camera": {"width": camera.width, "height": camera.height, "source": camera.source},
        "tracks": [track.track_id for track in take.tracks],
        "dropped_tracks": [dropped.as_record() for dropped in take.dropped_tracks],
        "keypoints": {str(i): {"skeleton": k.skeleton} for i, k in take.keypoints.items()},
        "body": {str(i): {"gender": b.gender, "model": b.model} for i, b in take.body.items()},
        "lifted": {str(i): {"skeleton": p.skeleton} for i, p in take.lifted.items()},
        "calibrated": {
            str(i): {"gender": c.params.gender, "model": c.params.model} for i, c in take.calibrated.items()
        },
        "provenance": take.provenance,
    }
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    manifest = json.loads(json.dumps(manifest))  # keys are text, as they are read back
    manifest["checksums"] = _checksums(arrays, manifest)
    return {"manifest": np.array(json.dumps(manifest, sort_keys=True)), **arrays}


def free_body_id(topology_id: str, gender: str) -> str:
    """The id of a free body: its vertices' order with its version, and its sex (``hmrkit-body-0-female``)."""
    return f"{topology_id}-{gender}"


def _body_arrays(prefix: str, params: BodyParams) -> dict[str, np.ndarray]:
    given = [name for name in _OPTIONAL_ARRAYS if getattr(params, name) is not None]
    return {f"{prefix}/{name}": getattr(params, name) for name in (*_BODY_ARRAYS, *given)}


def _from_arrays(arrays: dict[str, np.ndarray], manifest: dict[str, Any], path: Path | None) -> Take:
    def body(prefix: str, meta: dict[str, str]) -> BodyParams:
        orient, pose, betas, transl = (arrays[f"{prefix}/{name}"] for name in _BODY_ARRAYS)
        model = meta["model"]
        if model == "hmrkit-body-0":  # takes made before ids named the sex
            model = free_body_id(model, meta["gender"])
        optional = (arrays.get(f"{prefix}/{name}") for name in _OPTIONAL_ARRAYS)
        return BodyParams(orient, pose, betas, transl, meta["gender"], model, *optional)

    meta = manifest["video"] | {"fps": Fraction(manifest["video"]["fps"])}
    place = {key: meta.pop(key) for key in ("path", "bytes") if key in meta}
    meta["path"] = find_clip(place, meta["sha256"], path)
    meta |= {key: tuple(meta.get(key, ())) for key in ("failed_frames", "notes", "cuts")}  # old takes lack some
    times = {key: arrays.get(f"video/{key}") for key in ("frame_indices", "frame_times", "background_px")}
    video = VideoInfo(**times, **meta)
    zoom = Zoom(video.frame_indices, arrays["camera/zoom"]) if "camera/zoom" in arrays else None
    camera = Camera(arrays["camera/focal_px"], arrays["camera/center_px"], **manifest["camera"], zoom=zoom)
    detections: tuple[Detections, ...] = ()
    if "detections/counts" in arrays:
        cuts = np.cumsum(arrays["detections/counts"])[:-1]
        columns = [np.split(arrays[f"detections/{name}"], cuts) for name in ("boxes_xyxy", "scores")]
        if "detections/appearance" in arrays:
            columns.append(np.split(arrays["detections/appearance"], cuts))
        detections = tuple(Detections(*row) for row in zip(*columns, strict=True))
    return Take(
        video=video,
        camera=camera,
        detections=detections,
        tracks=tuple(Track(i, *(arrays[f"track/{i}/{n}"] for n in _TRACK_ARRAYS)) for i in manifest["tracks"]),
        dropped_tracks=tuple(map(DroppedTrack.from_record, manifest["dropped_tracks"])),
        keypoints={
            int(i): Keypoints(
                arrays[f"keypoints/{i}/keypoints_2d"], arrays.get(f"keypoints/{i}/joints_3d"), m["skeleton"]
            )
            for i, m in manifest["keypoints"].items()
        },
        body={int(i): body(f"body/{i}", m) for i, m in manifest["body"].items()},
        overlap={
            i: MaskOverlap(arrays[f"overlap/{i}/iou"], arrays.get(f"overlap/{i}/genders"))
            for i in manifest["tracks"]
            if f"overlap/{i}/iou" in arrays
        },
        lifted={
            int(i): LiftedPose(arrays[f"lifted/{i}/joints_c"], m["skeleton"]) for i, m in manifest["lifted"].items()
        },
        calibrated={
            int(i): Calibration(
                arrays[f"calibrated/{i}/joints_c"],
                body(f"calibrated/{i}", m),
                arrays[f"calibrated/{i}/refit_residual_mm"],
            )
            for i, m in manifest["calibrated"].items()
        },
        faces=arrays.get("faces"),
        provenance=manifest["provenance"],
    )


def open_take(source: str, video: str | None = None) -> Take:
    """`load_take`, where ``-`` means standard input; `video` names its clip anew (``--video``)."""
    take = load_take(sys.stdin.buffer) if source == "-" else load_take(source)
    return take if video is None else with_clip(take, video)


# --------------------------------------------------------------------------------------------------- provenance


@lru_cache(maxsize=1)
def code_version(*parts: str) -> str:
    """sha256 (16 digits) over this package's sources: a stage made by other code is made again.

    `parts`, files and folders relative to the package, limit it to what a result hangs on.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    chosen = [root / part for part in parts] or [root]
    for path in sorted(path for part in chosen for path in ([part] if part.is_file() else part.rglob("*.py"))):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def provenance_record(
    options: dict[str, Any], weights: dict[str, str], previous: dict[str, Any] | str
) -> dict[str, Any]:
    """What decides a stage's result: its options, its weights' hashes, the record it builds on, and the code."""
    chained = previous if isinstance(previous, str) else _digest(previous)
    return {"options": options, "weights": weights, "input": chained, "code": code_version()}


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:32]


def with_stage(take: Take, stage: str, record: dict[str, Any], **parts: Any) -> Take:
    """The take with `parts` filled in and `record` as that stage's provenance."""
    return replace(take, provenance=take.provenance | {stage: record}, **parts)
