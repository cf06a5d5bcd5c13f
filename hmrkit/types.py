"""The values that cross a stage, and the legend of letters used in every shape.

Letters: ``T`` frames of a track, ``N`` people in a frame, ``B`` batch, ``K`` 2D keypoints, ``J`` 3D joints,
``V`` vertices, ``F`` faces, ``H W`` image.

Units: metres, radians, pixels, seconds; millimetres only in names that end in ``_mm``.
Frames: camera ``_c`` is x right, y down, z forward (OpenCV). Pixel (0, 0) is the top-left corner of the image, so
the middle of the first pixel is (0.5, 0.5). Boxes are ``x0, y0, x1, y1``. Missing is NaN, never 0.

Every value is a frozen dataclass of NumPy arrays that checks its shapes when it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from hmrkit.errors import UsageError

GENDERS = ("neutral", "male", "female")  # of bodies

CameraSource = Literal["given", "metadata", "assumed"]


def _check(owner: str, name: str, array: Any, shape: tuple[int | str, ...], letters: dict[str, int], kind: str) -> None:
    """Raise ValueError unless `array` is a NumPy array of that shape; letters must mean the same size throughout."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{owner}.{name}: expected a NumPy array, got {type(array).__name__}")
    if array.dtype.kind not in kind:
        raise ValueError(f"{owner}.{name}: expected dtype kind {kind!r}, got {array.dtype}")
    fits = len(shape) == array.ndim
    for want, got in zip(shape, array.shape, strict=False):
        fits = fits and (letters.setdefault(want, got) if isinstance(want, str) else want) == got
    if not fits:
        raise ValueError(f"{owner}.{name}: expected shape {shape} with {letters}, got {array.shape}")


@dataclass(frozen=True)
class VideoInfo:
    """A clip as a player shows it: size and times after its display metadata was applied.

    `frame_indices` are the source's frame numbers that were chosen (``--start --end --every``), rising: of a video they
    count from 0, of a folder of plates they are the plates' own, of which the first has `first_number`. `frame_times`
    are their presentation times in seconds since the source's first frame; `failed_frames` those among them that could
    not be decoded. `slowdown` is how many seconds of the clip show one second of the world (8: captured at 240 Hz,
    played at 30). `notes` say in words what was found odd, chosen or done to the frames when the clip was opened.
    `cuts` are numbers of frames that begin a new shot (`hmrkit.video.cuts`), rising; nothing joins frames across one.
    `background_px` (T,2): where the background has gone since the first chosen frame, px right and down, where that was
    measured (`hmrkit.video.camera_motion`).
    """

    path: str
    sha256: str
    width: int
    height: int
    fps: Fraction
    frame_count: int
    frame_indices: np.ndarray
    frame_times: np.ndarray
    rotation_deg: int = 0
    failed_frames: tuple[int, ...] = ()
    first_number: int = 0
    slowdown: float = 1.0
    notes: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()
    background_px: np.ndarray | None = None

    def __post_init__(self) -> None:
        letters: dict[str, int] = {}
        _check("VideoInfo", "frame_indices", self.frame_indices, ("T",), letters, "i")
        _check("VideoInfo", "frame_times", self.frame_times, ("T",), letters, "f")
        if self.background_px is not None:
            _check("VideoInfo", "background_px", self.background_px, ("T", 2), letters, "f")

    def at(self, rows: np.ndarray) -> VideoInfo:
        """The clip with some of its chosen frames: their rows, rising, or a mask (T,)."""
        background = self.background_px
        return replace(
            self,
            frame_indices=self.frame_indices[rows],
            frame_times=self.frame_times[rows],
            background_px=None if background is None else background[rows],
        )

    @property
    def step(self) -> int:
        """Source frames from one chosen frame to the next (``--every``); plates may lack some between."""
        return max(int(np.gcd.reduce(np.diff(self.frame_indices))), 1) if len(self.frame_indices) > 1 else 1

    @property
    def sampled_fps(self) -> float:
        """Mean rate in Hz at which the chosen frames are shown, from their times where there are two or more."""
        times, numbers = self.frame_times, self.frame_indices
        span = float(times[-1] - times[0]) if len(times) > 1 else 0.0
        return int(numbers[-1] - numbers[0]) / self.step / span if span > 0 else float(self.fps)

    @property
    def motion_fps(self) -> float:
        """Mean rate in Hz at which the chosen frames were captured: what filters and lifters count in."""
        return self.sampled_fps * self.slowdown

    @property
    def variable(self) -> bool:
        """Whether some chosen frame is shown more than half a frame off a clock of the constant rate `fps`."""
        by_rate = (self.frame_indices - self.first_number) / float(self.fps)
        return bool(np.abs(self.frame_times - by_rate).max(initial=0) * float(self.fps) > 0.5)

    def seconds(self, frame_indices: np.ndarray) -> np.ndarray:
        """Times (T,) s, of the world, of some of the chosen frames from the first of them on.

        The one rule for the time between frames of a track: frames that the track lacks take their time, too.
        """
        times = np.interp(frame_indices, self.frame_indices, self.frame_times)
        return ((times - times[0]) / self.slowdown).astype(np.float64)


@dataclass(frozen=True)
class Zoom:
    """What a lens zooms: in its frames `frame_indices` (N,), rising, the focal length is `factors` (N,) times the
    camera's."""

    frame_indices: np.ndarray
    factors: np.ndarray

    def __post_init__(self) -> None:
        letters: dict[str, int] = {}
        _check("Zoom", "frame_indices", self.frame_indices, ("N",), letters, "i")
        _check("Zoom", "factors", self.factors, ("N",), letters, "f")
        if not (len(self.factors) and np.isfinite(self.factors).all() and (self.factors > 0).all()):
            raise ValueError("Zoom: expected factors above 0")

    def at(self, frame_indices: np.ndarray) -> np.ndarray:
        """Factors (T,) of frames, also fractions of such, between those that it has."""
        return np.interp(frame_indices, self.frame_indices, self.factors)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera of the full image, no distortion: ``u = fx x / z + cx`` with pixels as in the module's legend.

    Of a lens that zooms, `focal_px` is the focal length in the first frame of each shot; `zoom` says how it changes.
    """

    focal_px: np.ndarray
    center_px: np.ndarray
    width: int
    height: int
    source: CameraSource = "assumed"
    zoom: Zoom | None = None

    def zoom_at(self, frame_indices: np.ndarray) -> np.ndarray | None:
        """Factors (T,) on `focal_px` in frames; None where the lens does not zoom."""
        return None if self.zoom is None else self.zoom.at(frame_indices)

    def __post_init__(self) -> None:
        _check("Camera", "focal_px", self.focal_px, (2,), {}, "f")
        _check("Camera", "center_px", self.center_px, (2,), {}, "f")
        if not (np.isfinite(self.focal_px).all() and np.isfinite(self.center_px).all() and (self.focal_px > 0).all()):
            raise ValueError(
                f"Camera: expected a focal length above 0 and a centre in px, got {self.focal_px} and {self.center_px}"
            )


@dataclass(frozen=True)
class Detections:
    """People found in one frame: `boxes_xyxy` (N,4) px, `scores` (N,) in [0, 1].

    `appearance` (N,D), or None, describes each person's colours: the tracker tells people apart by it without having
    to decode the clip again.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    appearance: np.ndarray | None = None

    def __post_init__(self) -> None:
        letters: dict[str, int] = {}
        _check("Detections", "boxes_xyxy", self.boxes_xyxy, ("N", 4), letters, "f")
        _check("Detections", "scores", self.scores, ("N",), letters, "f")
        if self.appearance is not None:
            _check("Detections", "appearance", self.appearance, ("N", "D"), letters, "f")


@dataclass(frozen=True)
class Track:
    """One person through the clip.

    `frame_indices` (T,) are source frame numbers, strictly rising; `boxes_xyxy` (T,4) px; `scores` (T,) detection
    scores, NaN where the box was filled in; `interpolated` (T,) marks those boxes.
    """

    track_id: int
    frame_indices: np.ndarray
    boxes_xyxy: np.ndarray
    scores: np.ndarray
    interpolated: np.ndarray

    def __post_init__(self) -> None:
        letters: dict[str, int] = {}
        _check("Track", "frame_indices", self.frame_indices, ("T",), letters, "i")
        _check("Track", "boxes_xyxy", self.boxes_xyxy, ("T", 4), letters, "f")
        _check("Track", "scores", self.scores, ("T",), letters, "f")
        _check("Track", "interpolated", self.interpolated, ("T",), letters, "b")
        if len(self.frame_indices) == 0 or np.any(np.diff(self.frame_indices) <= 0):
            raise ValueError(f"Track {self.track_id}: frame_indices must be present and strictly rising")


@dataclass(frozen=True)
class Keypoints:
    """2D (and 3D) joints of one track, in the order of the skeleton named `skeleton` (`hmrkit.skeletons`).

    `keypoints_2d` (T,K,3): x px, y px, confidence in [0, 1]. `joints_3d` (T,J,3) m about the middle of the hips, axes
    parallel to the camera frame ``_c``, or None where the estimator has no depth. A frame that could not be read
    is NaN with confidence 0.
    """

    keypoints_2d: np.ndarray
    joints_3d: np.ndarray | None
    skeleton: str

    def __post_init__(self) -> None:
        letters: dict[str, int] = {}
        _check("Keypoints", "keypoints_2d", self.keypoints_2d, ("T", "K", 3), letters, "f")
        if self.joints_3d is not None:
            _check("Keypoints", "joints_3d", self.joints_3d, ("T", "K", 3), letters, "f")


@dataclass(frozen=True)
class BodyParams:
    """Pose and shape of one track for the body model whose id is `model`.

    `global_orient` (T,3,3) and `body_pose` (T,23,3,3) are rotation matrices relative to the parent joint, root first
    in the camera frame; `betas` (10,) shape coefficients; `transl_c` (T,3) m moves the posed body into that frame.
    `fingers` (T,30,3,3), SMPL-H's and SMPL-X's, left hand first, are those of imported results that have them: no body
    here moves them, the exports npz and smpl write them. `seen` (T,24) says which joints the image shows; without it
    all are taken as seen.
    """

    global_orient: np.ndarray
    body_pose: np.ndarray
    betas: np.ndarray
    transl_c: np.ndarray
    gender: str
    model: str
    fingers: np.ndarray | None = None
    seen: np.ndarray | None = None

    def __post_init__(self) -> None:
        letters: dict[str, int] = {}
        _check("BodyParams", "global_orient", self.global_orient, ("T", 3, 3), letters, "f")
        _check("BodyParams", "body_pose", self.body_pose, ("T", 23, 3, 3), letters, "f")
        _check("BodyParams", "betas", self.betas, ("S",), letters, "f")
        _check("BodyParams", "transl_c", self.transl_c, ("T", 3), letters, "f")
        if self.fingers is not None:
            _check("BodyParams", "fingers", self.fingers, ("T", 30, 3, 3), letters, "f")
        if self.seen is not None:
            _check("BodyParams", "seen", self.seen, ("T", 24), letters, "b")


@dataclass(frozen=True)
class MaskOverlap:
    """How well a mesh fills a person's mask: `iou` (T,) in [0, 1] of both silhouettes, NaN in frames without a mask.

    `genders` (3,): probability of the neutral, the male and the female body by the masks; None where nobody asked."""

    iou: np.ndarray
    genders: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check("MaskOverlap", "iou", self.iou, ("T",), {}, "f")
        if self.genders is not None:
            _check("MaskOverlap", "genders", self.genders, (3,), {}, "f")


@dataclass(frozen=True)
class LiftedPose:
    """3D joints of a whole track by the pose stream, as a rule lifted from 2D keypoints: `joints_c` (T,J,3) m about the
    root joint."""

    joints_c: np.ndarray
    skeleton: str

    def __post_init__(self) -> None:
        _check("LiftedPose", "joints_c", self.joints_c, ("T", "J", 3), {}, "f")


@dataclass(frozen=True)
class Calibration:
    """What PC-HMR adds to a track; with `BodyParams` it is all that is needed to make the calibrated mesh again.

    `joints_c` (T,24,3) m, the target joints in the camera frame; `params` the body refitted to the calibrated mesh;
    `refit_residual_mm` (T,) mean distance between the calibrated vertices and the refitted body's; where only
    parameters were wanted (``--params-only``), between `joints_c` and the refitted body's joints.
    """

    joints_c: np.ndarray
    params: BodyParams
    refit_residual_mm: np.ndarray

    def __post_init__(self) -> None:
        letters: dict[str, int] = {}
        _check("Calibration", "joints_c", self.joints_c, ("T", 24, 3), letters, "f")
        _check("Calibration", "refit_residual_mm", self.refit_residual_mm, ("T",), letters, "f")


@dataclass(frozen=True)
class MeshTrack:
    """A stretch of one person's final meshes: `vertices_c` (T,V,3) and `joints_c` (T,24,3), m, in the camera frame."""

    track_id: int
    frame_indices: np.ndarray
    vertices_c: np.ndarray
    joints_c: np.ndarray

    def __post_init__(self) -> None:
        letters: dict[str, int] = {}
        _check("MeshTrack", "frame_indices", self.frame_indices, ("T",), letters, "i")
        _check("MeshTrack", "vertices_c", self.vertices_c, ("T", "V", 3), letters, "f")
        _check("MeshTrack", "joints_c", self.joints_c, ("T", 24, 3), letters, "f")


@dataclass(frozen=True)
class DroppedTrack:
    """A tracklet or track that got no mesh: its first and last frame, how many boxes were detected, the best of their
    scores, why, and which stage left it out; `track_id` of those that became tracks."""

    first_frame: int
    last_frame: int
    boxes: int
    best_score: float
    reason: str
    stage: str = "track"
    track_id: int | None = None

    @staticmethod
    def of(person: Track, reason: str, stage: str) -> DroppedTrack:
        """A whole track."""
        first, last = int(person.frame_indices[0]), int(person.frame_indices[-1])
        best = round(float(np.nanmax(person.scores)), 3)
        return DroppedTrack(first, last, int((~person.interpolated).sum()), best, reason, stage, person.track_id)

    @staticmethod
    def from_record(record: Any) -> DroppedTrack:
        """The inverse of `as_record`; ValueError for anything else."""
        kinds = {"first_frame": int, "last_frame": int, "boxes": int, "best_score": (int, float), "reason": str}
        kinds |= {"stage": str, "track_id": int}
        fits = isinstance(record, dict) and all(isinstance(v, kinds.get(k, ())) for k, v in record.items())
        needed = {part.name for part in fields(DroppedTrack) if part.default is MISSING}
        if not fits or not record.keys() >= needed:
            raise ValueError("dropped tracks that are no records of tracks")
        return DroppedTrack(**record)

    def as_record(self) -> dict[str, Any]:
        """As JSON values; what is None is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Take:
    """All that is known of a clip. Stages take one and return one with their part filled in (`dataclasses.replace`).

    `detections` has one entry a chosen frame; the dicts are keyed by track id. `provenance` maps a stage's name to the
    record of how its part was made (options, hashes of weights, input and code), which decides whether it is skipped.
    """

    video: VideoInfo
    camera: Camera
    detections: tuple[Detections, ...] = ()
    tracks: tuple[Track, ...] = ()
    dropped_tracks: tuple[DroppedTrack, ...] = ()
    keypoints: dict[int, Keypoints] = field(default_factory=dict)
    body: dict[int, BodyParams] = field(default_factory=dict)
    lifted: dict[int, LiftedPose] = field(default_factory=dict)
    calibrated: dict[int, Calibration] = field(default_factory=dict)
    faces: np.ndarray | None = None
    provenance: dict[str, dict[str, Any]] = field(default_factory=dict)
    overlap: dict[int, MaskOverlap] = field(default_factory=dict)

    def people_with_mesh(self, chosen: Sequence[int] | None = None) -> tuple[Track, ...]:
        """The tracks that have body parameters: all but those without a believable body. Of them those of `chosen`
        track ids; UsageError for one that is not there."""
        there = {track.track_id: track for track in self.tracks if track.track_id in self.body}
        if missing := [i for i in chosen or () if i not in there]:
            raise UsageError(f"no person {missing[0]} with a mesh; the take has {', '.join(map(str, there)) or 'none'}")
        return tuple(track for i, track in there.items() if chosen is None or i in chosen)

    def track(self, track_id: int) -> Track:
        """The track of that id; KeyError where there is none."""
        for track in self.tracks:
            if track.track_id == track_id:
                return track
        raise KeyError(track_id)
