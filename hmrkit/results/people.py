"""What a file of results is once it is read: people with rotations, shape and place, whatever tool wrote it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from hmrkit.errors import InputError
from hmrkit.geometry import axis_angle_to_matrix, project_to_rotation

Space = Literal["camera", "world"]
JOINTS = 24
BODY_JOINTS = 22  # the first joints of SMPL, SMPL-H and SMPL-X are the same; then come SMPL's two hands, or fingers
_FINGERS_FROM = {52: 22, 55: 25}  # of SMPL-H; of SMPL-X, after jaw and eyes
SHAPES = 10
# How many numbers a frame has where they are rotation matrices in one row: 22, 24, 52 and 55 joints.
_MATRIX_ROWS = {198, 216, 468, 495}
_NOT_ROTATION = 0.05  # largest entry of R^T R - 1; float16 and printed numbers stay well below


@dataclass(frozen=True)
class Person:
    """`frame_indices` (T,) in the clip, rising; `rotations` (T,24,3,3) relative to the parent, root first;
    `betas` (10,); `place` (T,3): see `Results`; `fingers` (T,30,3,3) or None: see `BodyParams`."""

    number: int
    frame_indices: np.ndarray
    rotations: np.ndarray
    betas: np.ndarray
    place: np.ndarray
    fingers: np.ndarray | None = None

    def at_rows(self, rows: np.ndarray, frame_indices: np.ndarray) -> Person:
        """Some rows, as those of other frames."""
        fingers = None if self.fingers is None else self.fingers[rows]
        return replace(
            self, frame_indices=frame_indices, rotations=self.rotations[rows], place=self.place[rows], fingers=fingers
        )  # fmt: skip


@dataclass(frozen=True)
class Results:
    """People of a clip, as a tool gave them.

    `body`: whose shape space and rest pose they mean, ``smpl``, ``smplx`` or ``hmrkit`` (the free body), of `gender`.
    `at` is what `place` moves: the body's ``origin`` (it is SMPL's ``transl``), its ``pelvis``, or the middle of its
    ``hips``. In `space` ``camera`` (x right, y down, z forward) it is metres, seen with `focal_px` and `center_px`
    (2,) (None: the image's middle). Without `focal_px` the tool has a weak-perspective camera (`is_weak`): the third
    number is the pelvis's depth divided by the focal length, metres per pixel, and the root's rotation is relative to
    the ray to the person. In ``world`` it is metres with `up` (3,) against gravity.
    `linked`: the same number in two frames is the same person. `mean_hands`: axis-angle of fingers is meant as what is
    added to that of the mean hand in SMPL-X's file (smplx's ``flat_hand_mean=False``).
    """

    people: tuple[Person, ...]
    body: str = "smpl"
    gender: str = "neutral"
    model: str = ""
    at: Literal["origin", "pelvis", "hips"] = "origin"
    space: Space = "camera"
    up: tuple[float, float, float] = (0.0, 1.0, 0.0)
    focal_px: float | None = None
    center_px: tuple[float, float] | None = None
    linked: bool = True
    mean_hands: bool = False

    @property
    def is_weak(self) -> bool:
        """Whether the tool's camera is a weak-perspective one."""
        return self.space == "camera" and self.focal_px is None


def make_person(number: Any, frames: Any, pose: Any, betas: Any, place: Any, fingers: Any = None) -> Person:
    """One person of T frames, in order of time, each frame once.

    `pose`: axis-angle (T,3 J) or (T,J,3), or matrices (T,J,3,3) or (T,9 J), of SMPL's 24 joints or of SMPL-H's or
    SMPL-X's; `betas` (S,) or (T,S), of which the mean and the first 10 count; `place` (T,3); `fingers` (T,30,3,3) where
    `pose` does not have them.
    InputError where sizes do not fit, or where what should be rotations is none.
    """
    frames = np.asarray(frames).reshape(-1).astype(np.int64)
    count = len(frames)
    rotations, place = to_rotations(pose), np.asarray(place, np.float64).reshape(-1, 3)
    fingers = to_fingers(pose) if fingers is None else fingers
    shape = np.asarray(betas, np.float64)
    shape = shape.reshape(-1, shape.shape[-1]).mean(0)[:SHAPES] if shape.size else np.zeros(0)
    if not count or len(rotations) != count or len(place) != count:
        raise InputError(
            f"wanted as many poses and places as frames for person {number}, found {len(rotations)} poses, "
            f"{len(place)} places and {count} frames"
        )
    if not (np.isfinite(place).all() and np.isfinite(shape).all()):
        raise InputError(f"wanted numbers for person {number}, found NaN or infinity among places or shapes")
    _, rows = np.unique(frames, return_index=True)
    betas = np.concatenate([shape, np.zeros(SHAPES - len(shape))]).astype(np.float32)
    return Person(int(number), frames, rotations, betas, place, fingers).at_rows(rows, frames[rows])


def at_rate(person: Person, rate: float, seconds: np.ndarray, frame_indices: np.ndarray) -> Person:
    """A recording's rows at `rate` Hz -> the rows nearest in time to a clip's frames, as far as the recording goes.

    `seconds` (N,) since the clip's first frame and numbers (N,) of the clip's frames. InputError where `rate` is none.
    """
    if not 0 < rate < math.inf:
        raise InputError(f"wanted a recording's frame rate above 0 Hz, found {rate:g}; the file is damaged")
    rows = np.round((seconds - seconds[0]) * rate).astype(np.int64)
    inside = rows < len(person.frame_indices)
    return person.at_rows(rows[inside], frame_indices[inside])


def to_rotations(pose: Any) -> np.ndarray:
    """Rotations (T,24,3,3) of the pose that `make_person` takes."""
    matrices = _matrices(pose)
    rotations = np.broadcast_to(np.eye(3), (len(matrices), JOINTS, 3, 3)).copy()
    kept = JOINTS if matrices.shape[1] == JOINTS else BODY_JOINTS
    rotations[:, :kept] = matrices[:, :kept]
    return rotations


def to_fingers(pose: Any) -> np.ndarray | None:
    """Fingers (T,30,3,3) of the pose that `make_person` takes; None where it has none, or they are at rest."""
    matrices = _matrices(pose)
    first = _FINGERS_FROM.get(matrices.shape[1])
    if first is None or np.allclose(matrices[:, first:], np.eye(3), atol=1e-6):
        return None
    return matrices[:, first:]


def _matrices(pose: Any) -> np.ndarray:
    """All joints' rotations (T,J,3,3). InputError where they are none."""
    pose = np.array(pose, np.float64)
    flat = pose.reshape(len(pose), -1)
    if pose.shape[-2:] == (3, 3) or flat.shape[1] in _MATRIX_ROWS:
        matrices = torch.from_numpy(np.ascontiguousarray(flat.reshape(len(pose), -1, 3, 3)))
        error = (matrices.mT @ matrices - torch.eye(3, dtype=torch.float64)).abs().amax() if len(pose) else 0
        if not (error < _NOT_ROTATION and (torch.linalg.det(matrices) > 0).all()):
            raise InputError("wanted rotation matrices, found numbers that are none; the file is damaged")
        matrices = project_to_rotation(matrices)
    elif flat.shape[1] % 3 == 0 and flat.shape[1] >= 3 * BODY_JOINTS:
        if not np.isfinite(flat).all():
            raise InputError("wanted rotations, found NaN or infinity; the file is damaged")
        matrices = axis_angle_to_matrix(torch.from_numpy(flat.reshape(len(pose), -1, 3)))
    else:
        raise InputError(f"wanted poses of 22 or more joints, found arrays of shape {pose.shape}")
    if matrices.shape[1] < BODY_JOINTS:
        raise InputError(f"wanted poses of 22 or more joints, found {matrices.shape[1]}")
    return matrices.numpy()


def weak_place(pixels_per_metre: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Places (T,3) of a weak-perspective camera ``u = centre + pixels_per_metre (X + x)``: see `Results`."""
    return np.stack([x, y, 1 / np.maximum(pixels_per_metre, 1e-6)], -1)


def file_number(name: str) -> int | None:
    """The last number in a file's name without its folder and suffix (``img/000012.jpg`` -> 12), or None."""
    stem = name.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    digits = ""
    for character in reversed(stem):
        if character.isdigit():
            digits = character + digits
        elif digits:
            break
    return int(digits) if digits else None


def frames_of_names(names: Sequence[str], frame_count: int, first: int) -> np.ndarray:
    """Numbers (N,) from 0 of frames that are named (`file_number`), where tools count from `first`, 0 or 1.

    Names that count up to the clip's `frame_count` count from one. Where names say nothing, frames follow one another.
    """
    numbers = [number for name in names if (number := file_number(name)) is not None]
    if not numbers or len(set(numbers)) < len(names):
        return np.arange(len(names))
    from_one = 0 not in numbers and (first == 1 or max(numbers) == frame_count)
    return np.array(numbers) - int(from_one)
