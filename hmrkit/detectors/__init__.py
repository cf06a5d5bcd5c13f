"""Detectors find the people in each frame.

How to add one: write a module with a function ``load(argument, *, device, dtype, size, score_threshold)`` that returns
a `Detector`, and add its line to `DETECTORS`. `argument` is what follows the colon in ``name:argument``. Boxes with
a score down to `score_threshold` are all returned, however many: the tracker's second stage uses the weak ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hmrkit.members import Member, choose

if TYPE_CHECKING:
    import torch

    from hmrkit.types import Detections


@dataclass(frozen=True, kw_only=True)
class DetectorMember(Member):
    """`reads_file`: its boxes were made elsewhere, so that every frame is asked for: that costs nothing."""

    reads_file: bool = False


DETECTORS: dict[str, DetectorMember] = {
    "yolox-nano": DetectorMember(
        module="hmrkit.detectors.yolox",
        summary="YOLOX-nano, COCO: small, fast on a CPU (default)",
        paper="Ge et al. 2021, YOLOX: Exceeding YOLO Series in 2021",
        weights=("detector/yolox_nano.safetensors",),
    ),
    "yolox": DetectorMember(
        module="hmrkit.detectors.yolox",
        summary="YOLOX of any size from a published checkpoint, yolox:yolox_s.pth",
        argument="checkpoint",
        paper="Ge et al. 2021, YOLOX: Exceeding YOLO Series in 2021",
    ),
    "yolo": DetectorMember(
        module="hmrkit.detectors.ultralytics_yolo",
        summary="any detection or pose weights of ultralytics, yolo:yolo11n.pt (needs hmrkit[yolo])",
        argument="weights",
        paper="https://docs.ultralytics.com",
        licence="AGPL-3.0 (ultralytics and its weights)",
    ),
    "file": DetectorMember(
        module="hmrkit.detectors.boxes_file",
        summary="boxes made elsewhere, file:boxes.json in COCO's result format",
        argument="json",
        paper="https://cocodataset.org/#format-results",
        licence="",
        reads_file=True,
    ),
    "toy": DetectorMember(
        module="hmrkit.detectors.toy",
        summary="one box about what differs from the image's border; for tests",
        for_tests=True,
    ),
}


class Detector(Protocol):
    """`weights_sha256` names what the boxes came from (empty for `toy`)."""

    name: str
    weights_sha256: str

    def __call__(self, frames: torch.Tensor, frame_indices: Sequence[int]) -> list[Detections]:
        """Frames (B,H,W,3) uint8 RGB on any device, and their numbers in the clip -> people, one entry a frame."""
        ...


def load_detector(
    spec: str = "yolox-nano",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    size: int | None = None,
    score_threshold: float = 0.1,
) -> Detector:
    """The detector that `spec` (``name`` or ``name:argument``) names.

    `size` is the longer side in px that frames are shrunk to (None: chosen from the frames' size). Raises
    UsageError where there is no such detector, WeightsError where its weights are missing.
    """
    import torch

    member, argument = choose(DETECTORS, spec, "detector")
    return member.load_module().load(
        argument,
        device=torch.device(device),
        dtype=dtype or torch.float32,
        size=size,
        score_threshold=score_threshold,
    )
