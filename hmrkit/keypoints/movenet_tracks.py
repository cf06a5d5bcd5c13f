"""MoveNet thunder on tracks: a square crop about each box, 2D only. No state: the tracker's boxes say where to look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from hmrkit.crops import crop_batch, image_from_crop, region_from_boxes
from hmrkit.device import inference
from hmrkit.keypoints import KEYPOINTS
from hmrkit.keypoints.movenet import load_movenet
from hmrkit.skeletons import COCO_17
from hmrkit.types import Camera
from hmrkit.weights import verify

if TYPE_CHECKING:
    from hmrkit.keypoints import People

CROP_SIZE = 256
EXPAND = 1.25  # side of the crop in the box's longer side


class MoveNetEstimator:
    """See `hmrkit.keypoints.KeypointEstimator`."""

    name = "movenet-thunder"
    skeleton = COCO_17
    has_depth = False

    def __init__(self, device: torch.device, dtype: torch.dtype, max_crops: int) -> None:
        self.weights_sha256 = verify(KEYPOINTS[self.name].weights[0])
        self.network = load_movenet(device, dtype)
        self.device, self.dtype, self.max_crops = device, dtype, max_crops

    def reset(self, camera: Camera | None = None) -> None:
        """Nothing is kept between frames."""

    def __call__(
        self, frames: Tensor, frame_indices: Sequence[int], boxes: Sequence[Mapping[int, np.ndarray]]
    ) -> list[People]:
        people: list[People] = [{} for _ in boxes]
        who = [(row, track_id) for row, here in enumerate(boxes) for track_id in here]
        if not who:
            return people
        rows = np.array([row for row, _ in who])
        region = region_from_boxes(np.array([boxes[row][i] for row, i in who], np.float64), EXPAND)
        parts = []
        with inference(self.device, self.dtype):
            for start in range(0, len(who), self.max_crops):
                part = slice(start, start + self.max_crops)
                parts.append(self.network(crop_batch(frames, rows[part], region[part], CROP_SIZE)).float())
            points = torch.cat(parts).cpu().numpy()  # (N,17,3): x, y px of the crop, score
        xy = image_from_crop(points[..., :2].astype(np.float64), region, CROP_SIZE)
        points = np.concatenate([xy, points[..., 2:]], -1).astype(np.float32)
        for (row, track_id), person in zip(who, points, strict=True):
            people[row][track_id] = (person, None)
        return people


def load(argument: str, *, device: torch.device, dtype: torch.dtype, camera: Camera | None, max_crops: int):
    """Takes no argument."""
    return MoveNetEstimator(device, dtype, max_crops)
