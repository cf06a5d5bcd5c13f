"""Boxes made elsewhere, read from COCO's result format.

A JSON list (or ``{"annotations": [...]}``) of objects with ``bbox`` (x, y, width, height in px), a frame number from
0 as ``frame`` or ``image_id``, and optionally ``score`` (1 where absent) and ``category_id`` (only 1, COCO's person,
is read; absent means person). A frame without entries is a frame without people.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hmrkit.errors import InputError
from hmrkit.files import sha256_of
from hmrkit.types import Detections
from hmrkit.untrusted.json_files import read_json
from hmrkit.untrusted.limits import check_people

PERSON_CATEGORY = 1


class FileDetector:
    """See `hmrkit.detectors.Detector`; looks only at the frames' numbers."""

    def __init__(self, path: Path, score_threshold: float) -> None:
        self.name = f"file:{path.name}"
        self.boxes = read_boxes(path, score_threshold)
        self.weights_sha256 = sha256_of(path)

    def __call__(self, frames: torch.Tensor, frame_indices: Sequence[int]) -> list[Detections]:
        rows = [self.boxes.get(index, np.zeros((0, 5), np.float32)) for index in frame_indices]
        return [Detections(row[:, :4].copy(), row[:, 4].copy()) for row in rows]


def read_boxes(path: Path, score_threshold: float = 0.0) -> dict[int, np.ndarray]:
    """Frame number -> (N,5) float32: x0, y0, x1, y1, score. InputError says which entry is wrong."""
    entries = read_json(path, "a JSON file of boxes")
    if isinstance(entries, dict):
        entries = entries.get("annotations")
    if not isinstance(entries, list):
        raise InputError(f"{path}: expected a list of boxes or an object with 'annotations'")
    frames: dict[int, list[list[float]]] = defaultdict(list)
    for position, entry in enumerate(entries):
        try:
            frame = int(entry["frame"] if "frame" in entry else entry["image_id"])
            x, y, width, height = (float(value) for value in entry["bbox"])
            score = float(entry.get("score", 1.0))
            category = int(entry.get("category_id", PERSON_CATEGORY))
            if not (math.isfinite(x + y + width + height + score) and width > 0 and height > 0):
                raise ValueError(f"a box {entry['bbox']} of score {score}, which has no place or no size")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(
                f"{path}: entry {position} needs a whole number 'frame' or 'image_id', and 'bbox' [x,y,w,h]: {error!r}"
            ) from error
        if category == PERSON_CATEGORY and score >= score_threshold:
            frames[frame].append([x, y, x + width, y + height, score])
            check_people(path, frame, len(frames[frame]))
    return {frame: np.array(rows, np.float32) for frame, rows in frames.items()}


def load(
    argument: str, *, device: torch.device, dtype: torch.dtype, size: int | None, score_threshold: float
) -> FileDetector:
    """`argument` is the JSON file."""
    return FileDetector(Path(argument), score_threshold)
