"""People's keypoints by any pose weights that ultralytics runs, which it also downloads when it knows their name.

`ultralytics` is AGPL-3.0 and so are its weights: it is imported only here, only when ``yolo-pose`` is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hmrkit.errors import UsageError, WeightsError
from hmrkit.files import sha256_of
from hmrkit.keypoints.matching import match_people
from hmrkit.skeletons import COCO_17
from hmrkit.types import Camera

if TYPE_CHECKING:
    from hmrkit.keypoints import People

DEFAULT_WEIGHTS = "yolo11n-pose.pt"
LEAST_SCORE = 0.1
MOST_PEOPLE = 3000  # ultralytics must be given a limit; its default of 300 would drop people of a crowd


class YoloPoseEstimator:
    """See `hmrkit.keypoints.KeypointEstimator`. It looks at whole frames; people are matched to the boxes."""

    skeleton = COCO_17
    has_depth = False

    def __init__(self, weights: str, device: torch.device, dtype: torch.dtype) -> None:
        try:
            from ultralytics import YOLO  # type: ignore[import-not-found]
        except ImportError:
            raise UsageError("keypoints yolo-pose needs ultralytics (AGPL-3.0); pip install 'hmrkit[yolo]'") from None
        try:
            self.model = YOLO(weights)
        except Exception as error:  # ultralytics raises many kinds: no file, no network, not a model
            raise WeightsError(f"ultralytics could not load {weights!r}: {error}") from error
        if self.model.task != "pose":
            raise WeightsError(f"{weights}: expected pose weights such as {DEFAULT_WEIGHTS}, found {self.model.task}")
        checkpoint = Path(getattr(self.model, "ckpt_path", None) or weights)
        self.name = f"yolo-pose:{checkpoint.name}"
        self.weights_sha256 = sha256_of(checkpoint) if checkpoint.is_file() else ""
        self.options = {
            "conf": LEAST_SCORE,
            "device": str(device),
            "half": dtype == torch.float16,
            "max_det": MOST_PEOPLE,
            "verbose": False,
        }

    def reset(self, camera: Camera | None = None) -> None:
        """Nothing is kept between frames."""

    def __call__(
        self, frames: torch.Tensor, frame_indices: Sequence[int], boxes: Sequence[Mapping[int, np.ndarray]]
    ) -> list[People]:
        images = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames.cpu().numpy()]  # it takes BGR
        people: list[People] = []
        for result, here in zip(self.model.predict(images, **self.options), boxes, strict=True):
            found = result.boxes.xyxy.float().cpu().numpy().reshape(-1, 4)
            points = result.keypoints.data.float().cpu().numpy().reshape(len(found), -1, 3)
            if len(found) and points.shape[1] != len(COCO_17):
                raise WeightsError(f"{self.name}: expected COCO's 17 keypoints, found {points.shape[1]}")
            people.append(match_people(points.reshape(-1, len(COCO_17), 3), found, here))
        return people


def load(argument: str, *, device: torch.device, dtype: torch.dtype, camera: Camera | None, max_crops: int):
    """`argument` is a weights file or a name that ultralytics downloads; `DEFAULT_WEIGHTS` where it is left out."""
    return YoloPoseEstimator(argument or DEFAULT_WEIGHTS, device, dtype)
