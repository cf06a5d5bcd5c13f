"""Your own recordings: calibrated cameras, a video of each, and the joints in 3D as TRC files.

A project of Pose2Sim is read as it stands; any other needs the same three things::

    <data>/ calibration/  one calibration file of all cameras, or one a camera (hmrkit.datasets.camera_files)
            videos/       one video, or folder of images, a camera, named like the camera: cam01.mp4
            pose-3d/      one .trc a person: ..._P1_....trc, ..._P2_....trc (hmrkit.datasets.trc)

Several trials lie in folders of their own below <data> (the folder that holds ``pose-3d/`` and ``videos/``, or TRC and
videos side by side); calibration is searched for in the trial, then upwards. Of several TRC files of one person a
filtered one counts before a raw one, and one from Pose2Sim's marker augmentation (LSTM) last.

World axes are the calibration's. TRC files have their own: Pose2Sim writes (y, z, x) of its z-up world, so that y is
up (axes ``pose2sim``); capture systems write their world as it is (``same``) or rotated about x (``opensim``). ``auto``
takes ``pose2sim`` or ``same``, whichever puts the joints into the images, and upright; the log says which.

Time: a TRC rate within 1 % of the video's counts as the video's own (60 for 59.94), so time * rate is a frame number
from 0. Else seconds count from the first frame, and joints are interpolated between the two rows about a frame. A
frame between the rows of a slower TRC has no truth.

Ground truth: `joints_c` in each camera's frame; `keypoints_2d` where those joints are in the image AS FILMED, with
the lens's distortion (flag 2 inside the image, 1 outside); boxes about them, 12 cm of flesh around each joint.

Settings (``--dataset-option key=value``): ``time_offset`` seconds by which the video shows a TRC time later
(``0.12`` or ``cam01=0.12,cam02=-0.04``), ``axes``, ``trc`` (a pattern for file names), ``calibration`` (a file),
``calibration_unit`` (m, cm, mm), ``markers`` (``LKNE=left_knee,...``), ``fps`` (of image folders).
``--subset cam01,cam03`` takes only these cameras.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hmrkit.datasets import DatasetOptions, EvalSequence, GroundTruth, missing_files
from hmrkit.datasets.camera_files import UNITS, read_cameras
from hmrkit.datasets.recording import calibration_files, choose_tracks, find_trials, find_videos, match_videos
from hmrkit.datasets.trc import MarkerTracks, at_frames, joints_from_markers, read_trc
from hmrkit.datasets.view_camera import ViewCamera
from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import Skeleton
from hmrkit.video import probe

log = logging.getLogger(__name__)

# world_from_trc: what the file's (X, Y, Z) are in the calibration's world.
AXES = {
    "same": np.eye(3),
    "pose2sim": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "opensim": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
}
_SETTINGS = ("time_offset", "axes", "trc", "calibration", "calibration_unit", "markers", "fps")
_FLESH_M = 0.12
_MIN_JOINTS = 4
# Codecs work in blocks of 16 px: a sensor of 1088 lines is calibrated, its video shows 1080 of them.
_MACROBLOCK = 16


@dataclass(frozen=True)
class Trial:
    """One recording: its cameras with their videos, and the joints of its people."""

    name: str
    views: tuple[tuple[ViewCamera, Path], ...]
    people: dict[str, MarkerTracks]


class MultiView:
    """See `hmrkit.datasets.Dataset`."""

    default_protocol = "landmarks"

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        self.name, self.root = name, root
        self.settings = dict(options.settings)
        if options.split or options.frame_list:
            raise UsageError("multiview has no splits and no frame lists; choose cameras with --subset cam01,cam02")
        unknown = [key for key in self.settings if key not in _SETTINGS]
        if unknown:
            raise UsageError(f"multiview knows no setting {unknown[0]!r}; it has {', '.join(_SETTINGS)}")
        self.axes = self._choice("axes", ("auto", *AXES), "auto")
        self.unit = self._choice("calibration_unit", tuple(UNITS), None)
        self.markers = _pairs("markers", self.settings.get("markers", ""))
        self.offsets = _offsets(self.settings.get("time_offset", "0"))
        self.cameras = tuple(part.strip() for part in options.subset.split(",") if part.strip())
        self.fps = _number("fps", self.settings["fps"]) if "fps" in self.settings else None

    def check(self) -> None:
        """Every trial's files are there and fit together; images are not opened yet."""
        trials = [self._read(folder, files) for folder, files in self._trials().items()]
        for trial in trials:
            self._world_from_trc(trial)
        known = {name for trial in trials for camera, video in trial.views for name in (camera.name, video.stem)}
        for key, names in (("--subset", self.cameras), ("time_offset", self.offsets)):
            unknown = [name for name in names if name and name not in known]
            if unknown:
                raise UsageError(f"{key}: no camera is called {unknown[0]!r}; there are {', '.join(sorted(known))}")

    def sequences(self) -> Iterator[EvalSequence]:
        """One a camera and trial, in the order of the folders and of the calibration file."""
        for folder, files in self._trials().items():
            trial = self._read(folder, files)
            rotation = self._world_from_trc(trial)
            for camera, video in trial.views:
                if not self.cameras or camera.name in self.cameras or video.stem in self.cameras:
                    yield self._sequence(trial, camera, video, rotation)

    def _trials(self) -> dict[Path, list[Path]]:
        pattern = self.settings.get("trc", "*.trc")
        found = find_trials(self.root, pattern)
        if not found:
            raise self._missing([f"pose-3d/{pattern}"])
        return found

    def _read(self, folder: Path, files: list[Path]) -> Trial:
        videos = find_videos(folder)
        if not videos:
            raise self._missing([folder / "videos" / "*.mp4"])
        cameras = self._calibration(folder)
        chosen = {person: read_trc(path) for person, path in choose_tracks(files).items()}
        name = folder.name if folder != self.root else folder.resolve().name
        return Trial(name, match_videos(cameras, videos, folder), chosen)

    def _calibration(self, folder: Path) -> tuple[ViewCamera, ...]:
        if "calibration" in self.settings:
            return read_cameras(self.root / self.settings["calibration"], self.unit)
        for place in (folder, *folder.parents):
            files = calibration_files(place)
            if files:
                return tuple(camera for path in files for camera in read_cameras(path, self.unit))
            if place == self.root:
                break
        raise self._missing([self.root / "calibration" / "*.toml (or .qca.txt, .yml, .json)"])

    def _missing(self, looked_for: list[str | Path]) -> InputError:
        layout = "calibration/ (a file), videos/ (one a camera, named like it) and pose-3d/ (a .trc a person)"
        return missing_files(self.name, "it is your own recording", self.root, layout, looked_for)

    def _world_from_trc(self, trial: Trial) -> np.ndarray:
        if self.axes != "auto":
            return AXES[self.axes]
        scores = {name: self._fit_of(trial, AXES[name]) for name in ("pose2sim", "same")}
        inside = {name: score[0] for name, score in scores.items()}
        best = max(scores, key=lambda name: (round(inside[name] / 0.1), scores[name][1]))
        if not inside[best] > 0.25:
            raise InputError(
                f"{trial.name}: only {100 * inside[best]:.0f} % of the joints fall into the images with either axes; "
                "check that calibration and TRC belong together, or say axes= and calibration_unit="
            )
        log.info("%s: axes %s put %.0f %% of the joints into the images", trial.name, best, 100 * inside[best])
        return AXES[best]

    def _fit_of(self, trial: Trial, rotation: np.ndarray) -> tuple[float, float]:
        """(share of joints inside the images, cosine between the people's and the cameras' upright)."""
        up = -np.mean([camera.camera_from_world[1, :3] for camera, _ in trial.views], 0)
        inside, upright = [], []
        for tracks in trial.people.values():
            names, joints = self._joints(tracks)
            joints_w = joints @ rotation.T
            seen = np.isfinite(joints_w[..., 0])
            for camera, _ in trial.views if seen.any() else ():
                inside.append(_inside(camera, camera.project(camera.to_camera(joints_w)))[seen].mean())
            high = [i for i, name in enumerate(names) if re.search("shoulder|head|nose|ear", name)]
            low = [i for i, name in enumerate(names) if re.search("hip|knee|ankle|heel|toe", name)]
            if seen[:, high].any() and seen[:, low].any():
                spine = np.nanmean(joints_w[:, high], (0, 1)) - np.nanmean(joints_w[:, low], (0, 1))
                upright.append(float(spine @ up / max(np.linalg.norm(spine) * np.linalg.norm(up), 1e-9)))
        return float(np.mean(inside)) if inside else 0.0, float(np.mean(upright)) if upright else 0.0

    def _joints(self, tracks: MarkerTracks) -> tuple[tuple[str, ...], np.ndarray]:
        names, joints = joints_from_markers(tracks, self.markers)
        if len(names) < _MIN_JOINTS:
            raise InputError(
                f"TRC markers {', '.join(tracks.names[:8])} ...: {len(names)} of {len(tracks.names)} stand for joints; "
                "name them with --dataset-option markers=MARKER=joint,..."
            )
        return names, joints

    def _sequence(self, trial: Trial, camera: ViewCamera, video: Path, rotation: np.ndarray) -> EvalSequence:
        rates = [tracks.rate for tracks in trial.people.values()]
        info = probe(video, fps=(self.fps or rates[0]) if video.is_dir() else None, keep_numbers=False)
        camera = _fitted(camera, info.width, info.height, video)
        offset = self.offsets.get(camera.name, self.offsets.get(video.stem, self.offsets.get("", 0.0)))
        people = []
        for person, tracks in trial.people.items():
            names, joints = self._joints(tracks)
            frames, joints = at_frames(tracks, joints, info.frame_times, float(info.fps), offset)
            if len(frames):
                people.append(_truth(person, names, info.frame_indices[frames], joints @ rotation.T, camera))
        if not people:
            raise InputError(f"{video}: no TRC row falls into its {info.frame_times[-1]:.2f} s; check time_offset=")
        return EvalSequence(
            name=re.sub(r"[^A-Za-z0-9_.-]", "_", f"{trial.name}-{camera.name}"),
            frames=video,
            frame_count=info.frame_count,
            people=tuple(people),
            camera=camera.pinhole(),
            fps=float(info.fps),
            group=camera.name,
        )

    def _choice(self, key: str, allowed: tuple[str, ...], default: str | None) -> str:
        value = self.settings.get(key, default)
        if value is not None and value not in allowed:
            raise UsageError(f"{key} must be one of {', '.join(allowed)}, got {value!r}")
        return value  # type: ignore[return-value]


def load(name: str, root: Path | None, options: DatasetOptions) -> MultiView:
    """See `hmrkit.datasets.load_dataset`."""
    if root is None:
        raise UsageError(f"dataset {name}: say with --data where its files are")
    return MultiView(name, root, options)


def _truth(
    person: str, names: tuple[str, ...], frames: np.ndarray, joints_w: np.ndarray, camera: ViewCamera
) -> GroundTruth:
    """What the camera sees of one person; joints_w (T,J,3) m in the calibration's world."""
    joints_c = camera.to_camera(joints_w)
    pixels = camera.project(joints_c)
    inside = _inside(camera, pixels)
    known = np.isfinite(pixels[..., 0])
    flags = np.where(known, np.where(inside, 2.0, 1.0), 0.0)
    skeleton = Skeleton("trc", names)
    box = _boxes(camera, joints_c)
    valid = np.asarray(inside.any(1) & np.isfinite(box).all(1))
    return GroundTruth(
        person=person,
        frame_indices=frames,
        valid=valid,
        boxes_xyxy=box,
        joints_c=joints_c.astype(np.float32),
        skeleton=skeleton,
        keypoints_2d=np.concatenate([pixels, flags[..., None]], -1).astype(np.float32),
        keypoint_skeleton=skeleton,
        camera_from_world=np.broadcast_to(camera.camera_from_world, (len(frames), 4, 4)).astype(np.float32),
    )


def _boxes(camera: ViewCamera, joints_c: np.ndarray) -> np.ndarray:
    """Boxes (T,4) px about spheres of flesh around the joints, cut off at the image; NaN where nobody is in it."""
    around = _FLESH_M * np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    pixels = camera.project((joints_c[:, :, None] + around).reshape(len(joints_c), -1, 3))
    seen = np.isfinite(pixels)
    low = np.where(seen, pixels, np.inf).min(1)
    high = np.where(seen, pixels, -np.inf).max(1)
    size = [camera.width, camera.height]
    boxes = np.concatenate([np.clip(low, 0, size), np.clip(high, 0, size)], 1)
    empty = np.any(boxes[:, 2:] - boxes[:, :2] < 1, axis=1, keepdims=True)
    return np.where(empty, np.nan, boxes).astype(np.float32)


def _inside(camera: ViewCamera, pixels: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.all((pixels >= 0) & (pixels < [camera.width, camera.height]), axis=-1)


def _fitted(camera: ViewCamera, width: int, height: int, video: Path) -> ViewCamera:
    """The camera for the video's size: the same, cut off by a codec, or scaled by one factor."""
    if (width, height) == (camera.width, camera.height):
        return camera
    sx, sy = width / camera.width, height / camera.height
    if 0 <= camera.width - width < _MACROBLOCK and 0 <= camera.height - height < _MACROBLOCK:
        log.info("%s is %dx%d, cut off right and below from its calibration's size", video, width, height)
        return replace(camera, width=width, height=height)
    if abs(sx - sy) > 0.005 * sx:
        raise InputError(
            f"{video}: is {width}x{height}, but its camera {camera.name} was calibrated at "
            f"{camera.width}x{camera.height}; give the video as filmed (not rotated, not cropped)"
        )
    log.info("%s is %dx%d, its calibration scaled by %.4g", video, width, height, sx)
    return camera.resized(width, height)


def _pairs(key: str, text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(equals and value.strip() for _, equals, value in parts):
        raise UsageError(f"{key} must be written NAME=VALUE,NAME=VALUE, got {text!r}")
    return {name.strip(): value.strip() for name, _, value in parts}


def _offsets(text: str) -> dict[str, float]:
    """Camera -> seconds; "" for all."""
    if "=" not in text:
        return {"": _number("time_offset", text)}
    return {name: _number("time_offset", value) for name, value in _pairs("time_offset", text).items()}


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{key} must be a number, got {text!r}") from None
