"""TRC files: tracks of markers or triangulated joints through time (Motion Analysis; OpenSim, Pose2Sim, QTM, OpenCap).

Layout: line 1 ``PathFileType``; lines 2 and 3 names and values of the header (DataRate, NumFrames, NumMarkers, Units);
line 4 ``Frame#  Time  <marker>...``, a name every third column; line 5 ``X1 Y1 Z1 ...``; perhaps an empty line; then
one row a frame, separated by tabs. What was not seen is empty or ``nan``; exact zeros are read as not seen too.
Time starts with the recording. Older versions of Pose2Sim numbered rows from 1 with the time to match, whatever frame
of the video they came from (``OrigDataStartFrame``, from 0): these are set right.

Marker names become joint names of hmrkit by `joint_of_marker`; `joints_from_markers` lists what is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import SKELETONS

# A rate this near to the video's is the video's own; a row this near to a frame (in rows) is that frame.
_SAME_CLOCK, _SNAP = 0.01, 0.1
_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001, "meters": 1.0, "metres": 1.0, "millimeters": 0.001}

# What stands for a joint, in lower case without separators and sides. The joints of Pose2Sim's skeletons (COCO,
# HALPE-26, BODY-25, BlazePose) and joint centres of marker models (HJC, KJC, ...).
_SIDED = {
    "shoulder": ("shoulder", "sho", "sjc"),
    "elbow": ("elbow", "elb", "ejc"),
    "wrist": ("wrist", "wri", "wjc"),
    "hip": ("hip", "hjc", "hjcstudy"),
    "knee": ("knee", "kjc"),
    "ankle": ("ankle", "ank", "ajc"),
    "eye": ("eye",),
    "ear": ("ear",),
    "heel": ("heel",),
    "big_toe": ("bigtoe",),
    "small_toe": ("smalltoe",),
    "foot_index": ("footindex",),
}
# `mid_hip` and `mid_shoulder` lie half-way between two joints; SMPL's `pelvis` and `neck` lie elsewhere.
_MIDDLE = {
    "nose": ("nose",),
    "head_top": ("head", "headtop", "tophead", "vertex"),
    "mid_shoulder": ("neck",),
    "mid_hip": ("hip", "midhip"),
}
# All names that a joint may have.
JOINTS = (
    {joint for skeleton in SKELETONS.values() for joint in skeleton.joints}
    | {f"{side}_{joint}" for joint in _SIDED for side in ("left", "right")}
    | set(_MIDDLE)
)
# A joint's centre half-way between the markers on its outer and inner side (CAST, IOR, OpenCap's marker set).
_PAIRS = {
    "knee": (("fle", "fme"), ("kneestudy", "mkneestudy")),
    "ankle": (("fal", "tam"), ("anklestudy", "manklestudy")),
    "elbow": (("hle", "hme"), ("lelbowstudy", "melbowstudy")),
    "wrist": (("rsp", "usp"), ("lwriststudy", "mwriststudy")),
}


@dataclass(frozen=True)
class MarkerTracks:
    """`positions` (T,M,3) m in the file's own axes, NaN where not seen; `times` (T,) s; `rate` in Hz as stated."""

    names: tuple[str, ...]
    times: np.ndarray
    rate: float
    positions: np.ndarray


def read_trc(path: Path) -> MarkerTracks:
    """A TRC file; InputError says what of it is not as it should be."""
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    if len(lines) < 6 or not lines[0].startswith("PathFileType"):
        raise InputError(f"{path}: expected a TRC file (first line PathFileType, five header lines); export it again")
    header = dict(zip(lines[1].split(), lines[2].split(), strict=False))
    names = tuple(name.strip() for name in lines[3].split("\t")[2:] if name.strip())
    try:
        rate, count, scale = float(header["DataRate"]), int(header["NumMarkers"]), _METRES[header["Units"].lower()]
    except (KeyError, ValueError):
        raise InputError(
            f"{path}: expected DataRate, NumMarkers and Units (m, cm or mm) in lines 2 and 3, found {lines[2]!r}"
        ) from None
    if len(names) != count or rate <= 0:
        raise InputError(f"{path}: NumMarkers says {count}, line 4 names {len(names)} (DataRate {rate:g})")
    rows = [line.split("\t") for line in lines[5:] if line.strip()]
    width = 2 + 3 * count
    try:
        table = np.array([[float(cell) if cell.strip() else np.nan for cell in _fit(row, width)] for row in rows])
    except ValueError as error:
        raise InputError(f"{path}: expected numbers separated by tabs, found {error}") from None
    if not len(table) or not np.isfinite(table[:, :2]).all() or np.any(np.diff(table[:, 1]) <= 0):
        raise InputError(f"{path}: expected rows with a frame number and a rising time; export it again")
    positions = table[:, 2:].reshape(len(table), count, 3) * scale
    lost = np.isnan(positions).any(-1) | (positions == 0).all(-1)
    positions[lost] = np.nan
    return MarkerTracks(names, _times(table, header, rate), rate, positions)


def joints_from_markers(
    tracks: MarkerTracks, extra: Mapping[str, str] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Joint names (J) and positions (T,J,3) of the markers that stand for joints; the others are left out.

    Known are ``LKnee``, ``left_knee``, ``knee_l``, ``Subject:LKnee`` and the like for shoulder, elbow, wrist, hip,
    knee, ankle, eye, ear, heel, big and small toe; ``LHJC`` ... joint centres; pairs of outer and inner markers
    (``L_FLE`` + ``L_FME`` ...), whose middle is the joint; nose, head (its top), neck, hip (both as middles).
    The first marker of a joint counts.
    `extra` maps further marker names to joints (``LKNE -> left_knee``) and has the last word.
    """
    columns = {name: tracks.positions[:, i] for i, name in enumerate(tracks.names)}
    found: dict[str, np.ndarray] = {}
    for name in tracks.names:
        joint = joint_of_marker(name)
        if joint is not None:
            found.setdefault(joint, columns[name])
    sides = {_sided(name): name for name in tracks.names if _sided(name) is not None}
    for joint, pairs in _PAIRS.items():
        for side in ("left", "right"):
            for outer, inner in pairs:
                if (side, outer) in sides and (side, inner) in sides:
                    two = columns[sides[side, outer]], columns[sides[side, inner]]
                    found.setdefault(f"{side}_{joint}", (two[0] + two[1]) / 2)
    for name, joint in (extra or {}).items():
        if name not in columns:
            raise InputError(f"marker {name!r} is not in the TRC file; it has {', '.join(tracks.names)}")
        if joint not in JOINTS:
            raise UsageError(f"marker {name!r}: there is no joint {joint!r}; known: {', '.join(sorted(JOINTS))}")
        found[joint] = columns[name]
    return tuple(found), np.stack(list(found.values()), 1) if found else np.empty((len(tracks.times), 0, 3))


def at_frames(
    tracks: MarkerTracks, joints: np.ndarray, frame_times: np.ndarray, fps: float, offset: float
) -> tuple[np.ndarray, np.ndarray]:
    """The joints (F,J,3) of a file's rows at a video's frames: positions (T) in `frame_times` and joints (T,J,3) there.

    `frame_times` in seconds from the first frame; `offset` as in `hmrkit.datasets.multiview`, which says when rows are
    taken for frames, when they are interpolated, and when a frame has none.
    """
    same_clock = abs(tracks.rate - fps) <= _SAME_CLOCK * fps
    rate = fps if same_clock else tracks.rate
    times = tracks.times * (tracks.rate / fps if same_clock else 1.0) + offset
    # Rows before each frame, as a fraction: row 12.0 is on the frame, 12.4 between two rows.
    row = np.interp(frame_times, times, np.arange(len(times)), left=np.nan, right=np.nan)
    near = (np.abs(frame_times[:, None] - times[[0, -1]]) * rate <= _SNAP).astype(bool)
    row = np.where(near[:, 0], 0, np.where(near[:, 1], len(times) - 1, row))
    row = np.where(np.abs(row - np.rint(row)) <= _SNAP, np.rint(row), row)
    exact = row == np.rint(row)
    before = np.nan_to_num(np.floor(row)).astype(int)
    after = np.minimum(before + 1, len(times) - 1)
    gap = (times[after] - times[before]) * rate > 1.5
    use = np.isfinite(row) & (exact | ((tracks.rate >= 0.9 * fps) & ~gap))
    frames = np.nonzero(use)[0]
    share = (row - before)[frames, None, None]
    first, second = joints[before[frames]], joints[after[frames]]
    return frames, np.where(share == 0, first, first * (1 - share) + second * share)


def joint_of_marker(marker: str) -> str | None:
    """The joint that this marker's name stands for, or None."""
    plain = _plain(marker)
    for joint, names in _MIDDLE.items():
        if plain in names:
            return joint
    sided = _sided(marker)
    if sided is not None:
        for joint, names in _SIDED.items():
            if sided[1] in names:
                return f"{sided[0]}_{joint}"
    return None


def _times(table: np.ndarray, header: Mapping[str, str], rate: float) -> np.ndarray:
    """The rows' times; from the header's first frame where rows are numbered 1, 2, ... at 1 / rate, 2 / rate, ..."""
    numbers, times = table[:, 0], table[:, 1]
    first = header.get("OrigDataStartFrame", "")
    counted = numbers[0] == 1 and abs(times[0] * rate - 1) < 0.01
    return (numbers - 1 + int(first)) / rate if counted and first.isdigit() else times


def _plain(marker: str) -> str:
    """Lower case without the subject's name (``Ann:LKnee``) and separators."""
    return re.sub(r"[^a-z0-9]", "", marker.rsplit(":", 1)[-1].lower())


def _sided(marker: str) -> tuple[str, str] | None:
    """(side, rest) of a name that says its side first (LKnee, left_knee, L.KNEE) or last (knee_l, KneeLeft)."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", marker.rsplit(":", 1)[-1])
    words = [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
    if len(words) > 1:
        for side, letters in (("left", ("l", "left")), ("right", ("r", "right"))):
            if words[0] in letters:
                return side, "".join(words[1:])
            if words[-1] in letters:
                return side, "".join(words[:-1])
    plain = _plain(marker)
    for side in ("left", "right"):
        if plain.startswith(side):
            return side, plain[len(side) :]
    if plain[:1] in ("l", "r"):
        return ("left" if plain[0] == "l" else "right"), plain[1:]
    return None


def _fit(row: list[str], width: int) -> list[str]:
    """A row cut or filled to `width` cells: writers differ in how they end one."""
    return row[:width] + [""] * (width - len(row))
