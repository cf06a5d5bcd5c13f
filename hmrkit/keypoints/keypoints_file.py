"""Keypoints made elsewhere: COCO's result format (JSON), or VideoPose3D's 2D files (npz).

COCO: a list (or ``{"annotations": [...]}``) of people with ``keypoints`` ``[x, y, confidence] * 17``, a frame number
from 0 as ``frame`` or ``image_id``, and optionally ``bbox`` ``[x, y, w, h]``. VideoPose3D: ``positions_2d``, a dict
subject -> action -> list of cameras' (T,17,2 or 3) arrays, pickled in an object array; each is one person from frame 0.
Both hold COCO's 17 keypoints in image pixels; other counts are refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hmrkit.errors import InputError, reason_of
from hmrkit.files import sha256_of
from hmrkit.keypoints.matching import box_of_points, match_people
from hmrkit.skeletons import COCO_17
from hmrkit.types import Camera
from hmrkit.untrusted.arrays import open_regular, read_npz
from hmrkit.untrusted.json_files import read_json
from hmrkit.untrusted.limits import check_people

if TYPE_CHECKING:
    from hmrkit.keypoints import People

# frame number -> one (17,3) array and one box (4,) for each person
Frames = dict[int, list[tuple[np.ndarray, np.ndarray]]]


class FileEstimator:
    """See `hmrkit.keypoints.KeypointEstimator`; looks only at the frames' numbers and boxes."""

    skeleton = COCO_17
    has_depth = False

    def __init__(self, path: Path) -> None:
        self.name = f"file:{path.name}"
        self.frames = read_videopose3d(path) if path.suffix.lower() == ".npz" else read_coco(path)
        self.weights_sha256 = sha256_of(path)

    def reset(self, camera: Camera | None = None) -> None:
        """Nothing is kept between frames."""

    def __call__(
        self, frames: torch.Tensor, frame_indices: Sequence[int], boxes: Sequence[Mapping[int, np.ndarray]]
    ) -> list[People]:
        people = []
        for index, here in zip(frame_indices, boxes, strict=True):
            found = self.frames.get(int(index), [])
            points = np.array([p for p, _ in found], np.float32).reshape(-1, len(COCO_17), 3)
            people.append(match_people(points, np.array([b for _, b in found], np.float64).reshape(-1, 4), here))
        return people


def read_coco(path: Path) -> Frames:
    """People of every frame; InputError says which entry is wrong."""
    entries = read_json(path, "a JSON file of keypoints")
    if isinstance(entries, dict):
        entries = entries.get("annotations")
    if not isinstance(entries, list):
        raise InputError(f"{path}: expected a list of people or an object with 'annotations'")
    frames: Frames = defaultdict(list)
    for position, entry in enumerate(entries):
        try:
            frame = int(entry["frame"] if "frame" in entry else entry["image_id"])
            points = np.array(entry["keypoints"], np.float32).reshape(len(COCO_17), 3)
            box = [float(value) for value in entry.get("bbox") or ()]
            corners = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]]) if box else None
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise InputError(
                f"{path}: entry {position} needs a whole number 'frame' or 'image_id' and 'keypoints' "
                f"[x, y, confidence] x 17: {error!r}"
            ) from error
        frames[frame].append((_missing_as_nan(points), box_of_points(points[None])[0] if corners is None else corners))
        check_people(path, frame, len(frames[frame]))
    return dict(frames)


def read_videopose3d(path: Path) -> Frames:
    """People of every frame of a ``data_2d_*.npz``; only arrays, dicts and lists are unpickled."""
    try:
        with open_regular(path) as file:
            people = list(_sequences(read_npz(file, ["positions_2d"])["positions_2d"]))
    except Exception as error:  # a damaged file can fail anywhere in the reader, with any exception
        reason = reason_of(error)
        raise InputError(f"{path}: expected VideoPose3D's npz with positions_2d, got {reason}") from error
    frames: Frames = defaultdict(list)
    for person in people:
        if person.ndim != 3 or person.shape[1] != len(COCO_17) or person.shape[2] not in (2, 3):
            raise InputError(f"{path}: expected keypoints of shape (frames, 17, 2 or 3), found {person.shape}")
        if person.shape[2] == 2:
            person = np.concatenate([person, np.isfinite(person).all(-1, keepdims=True)], -1)
        points = person.astype(np.float32)
        for frame, (row, box) in enumerate(zip(points, box_of_points(points), strict=True)):
            frames[frame].append((_missing_as_nan(row), box))
    return dict(frames)


def _sequences(positions: Any) -> Iterator[np.ndarray]:
    """Every numeric array inside dicts, lists and object arrays; a list or an array of cameras is taken apart."""
    if isinstance(positions, dict):
        for value in positions.values():
            yield from _sequences(value)
    elif isinstance(positions, np.ndarray) and positions.dtype != object and positions.ndim <= 3:
        yield positions
    elif isinstance(positions, (list, tuple, np.ndarray)):
        for value in positions:
            yield from _sequences(value)
    else:
        raise ValueError(f"{type(positions).__name__} where keypoints should be")


def _missing_as_nan(points: np.ndarray) -> np.ndarray:
    """COCO writes 0, 0, 0 for a keypoint that nobody saw; here missing is NaN with confidence 0."""
    points = points.copy()
    gone = ~np.isfinite(points).all(-1) | (points[:, 2] <= 0)
    points[gone] = (np.nan, np.nan, 0)
    points[:, 2] = points[:, 2].clip(0, 1)  # COCO's annotations say 2 for "seen"
    return points


def load(argument: str, *, device: torch.device, dtype: torch.dtype, camera: Camera | None, max_crops: int):
    """`argument` is the file."""
    return FileEstimator(Path(argument))
