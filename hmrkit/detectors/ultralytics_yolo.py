"""People by any detection or pose weights that ultralytics runs, which it also downloads when it knows their name.

`ultralytics` is AGPL-3.0 and so are its weights: it is imported only here, only when ``yolo:`` is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hmrkit.errors import UsageError, WeightsError
from hmrkit.files import sha256_of
from hmrkit.types import Detections

MOST_PEOPLE = 3000  # ultralytics must be given a limit; its default of 300 would drop people of a crowd


class UltralyticsDetector:
    """See `hmrkit.detectors.Detector`."""

    def __init__(
        self, weights: str, device: torch.device, dtype: torch.dtype, size: int | None, score_threshold: float
    ) -> None:
        try:
            from ultralytics import YOLO  # type: ignore[import-not-found]
        except ImportError:
            raise UsageError("detector yolo: needs ultralytics (AGPL-3.0); pip install 'hmrkit[yolo]'") from None
        try:
            self.model = YOLO(weights)
        except Exception as error:  # ultralytics raises many kinds: no file, no network, not a model
            raise WeightsError(f"ultralytics could not load {weights!r}: {error}") from error
        person = [number for number, name in self.model.names.items() if name == "person"]
        if not person:
            raise WeightsError(f"{weights}: expected a model with the class 'person', found {self.model.names}")
        checkpoint = Path(getattr(self.model, "ckpt_path", None) or weights)
        self.name = f"yolo:{checkpoint.name}"
        self.weights_sha256 = sha256_of(checkpoint) if checkpoint.is_file() else ""
        self.options = {
            "classes": person,
            "conf": score_threshold,
            "device": str(device),
            "half": dtype == torch.float16,
            "max_det": MOST_PEOPLE,
            "verbose": False,
            **({"imgsz": size} if size else {}),
        }

    def __call__(self, frames: torch.Tensor, frame_indices: Sequence[int]) -> list[Detections]:
        images = [np.ascontiguousarray(frame[..., ::-1]) for frame in frames.cpu().numpy()]  # it takes BGR
        results = [result.boxes for result in self.model.predict(images, **self.options)]
        return [
            Detections(boxes.xyxy.float().cpu().numpy().reshape(-1, 4), boxes.conf.float().cpu().numpy().reshape(-1))
            for boxes in results
        ]


def load(
    argument: str, *, device: torch.device, dtype: torch.dtype, size: int | None, score_threshold: float
) -> UltralyticsDetector:
    """`argument` is a weights file, or a name that ultralytics downloads."""
    return UltralyticsDetector(argument, device, dtype, size, score_threshold)
