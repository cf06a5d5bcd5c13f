"""Keypoint estimators find the joints of tracked people: 2D always, 3D where they can.

How to add one: write a module with a function ``load(argument, *, device, dtype, camera, max_crops)`` that returns a
`KeypointEstimator`, and add its line to `KEYPOINTS`. `argument` is what follows the colon in ``name:argument``. If the
joints are in a new order, name it in `hmrkit.skeletons`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from hmrkit.members import Member, choose

if TYPE_CHECKING:
    import numpy as np
    import torch

    from hmrkit.skeletons import Skeleton
    from hmrkit.types import Camera

    # Of one frame: track id -> (K,3) x px, y px, confidence, and (K,3) m or None.
    People = dict[int, tuple[np.ndarray, np.ndarray | None]]


@dataclass(frozen=True, kw_only=True)
class KeypointMember(Member):
    """`has_depth`: its keypoints come with 3D joints; `has_masks`: its network tells people from their surroundings,
    too (`hmrkit.fitting.masks`). `frames_at_once`: how many frames it gets in one call, where its estimates depend on
    that; 0: as many as --batch-size says."""

    has_depth: bool = False
    has_masks: bool = False
    frames_at_once: int = 0


KEYPOINTS: dict[str, KeypointMember] = {
    "blazepose-heavy": KeypointMember(
        module="hmrkit.keypoints.blazepose",
        summary="BlazePose GHUM heavy: 33 landmarks in 2D and 3D (default); blazepose-heavy:alone without body points",
        argument="[alone]",
        has_depth=True,
        has_masks=True,
        frames_at_once=8,
        paper="Grishchenko et al. 2022, BlazePose GHUM Holistic",
        weights=(
            "keypoints/blazepose_heavy-1of2.safetensors",
            "keypoints/blazepose_heavy-2of2.safetensors",
            "backbones/embedded.safetensors",
        ),
    ),
    "movenet-thunder": KeypointMember(
        module="hmrkit.keypoints.movenet_tracks",
        summary="MoveNet thunder: COCO's 17 keypoints in 2D",
        paper="https://blog.tensorflow.org/2021/05/next-generation-pose-detection-with-movenet-and-tensorflowjs.html",
        weights=("keypoints/movenet_thunder.safetensors",),
    ),
    "yolo-pose": KeypointMember(
        module="hmrkit.keypoints.yolo_pose",
        summary="any pose weights of ultralytics, yolo-pose:yolo11n-pose.pt (needs hmrkit[yolo])",
        argument="[weights]",
        paper="https://docs.ultralytics.com/tasks/pose",
        licence="AGPL-3.0 (ultralytics and its weights)",
    ),
    "hrnet": KeypointMember(
        module="hmrkit.keypoints.hrnet",
        summary="HRNet for COCO by its published checkpoints, hrnet:pose_hrnet_w32_256x192.pth; hrnet:flip:FILE with "
        "the flip test",
        argument="checkpoint",
        paper="Sun et al. 2019, Deep high-resolution representation learning for human pose estimation",
        licence="Apache-2.0 (published checkpoints: their own)",
    ),
    "vitpose": KeypointMember(
        module="hmrkit.keypoints.vitpose",
        summary="ViTPose for COCO by its published checkpoints, vitpose:vitpose-b.pth; vitpose:flip:FILE with the flip "
        "test",
        argument="checkpoint",
        paper="Xu et al. 2022, ViTPose: Simple vision transformer baselines for human pose estimation",
        licence="Apache-2.0",
    ),
    "file": KeypointMember(
        module="hmrkit.keypoints.keypoints_file",
        summary="keypoints made elsewhere, file:keypoints.json (COCO) or file:keypoints.npz (VideoPose3D)",
        argument="path",
        paper="https://cocodataset.org/#format-results",
        licence="",
    ),
    "toy": KeypointMember(
        module="hmrkit.keypoints.toy",
        summary="a standing mannequin drawn into each box; for tests",
        has_depth=True,
        for_tests=True,
    ),
}


@runtime_checkable
class Stateful(Protocol):
    """What lets a stopped stage go on within a clip."""

    def state(self) -> dict[str, Any]:
        """What is kept of tracks between calls, as plain JSON values."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be as after the call that `state` was taken after."""
        ...


class KeypointEstimator(Protocol):
    """`has_depth` says whether the 3D joints are there; `weights_sha256` names what the keypoints came from.

    One that keeps something of its tracks from call to call is also `Stateful`.
    """

    name: str
    skeleton: Skeleton
    has_depth: bool
    weights_sha256: str

    def reset(self, camera: Camera | None = None) -> None:
        """Forget every track, before another clip; `camera` is the clip's (None: assumed from the frames' size)."""
        ...

    def __call__(
        self, frames: torch.Tensor, frame_indices: Sequence[int], boxes: Sequence[Mapping[int, np.ndarray]]
    ) -> list[People]:
        """Keypoints of every box of consecutive frames of a clip, one entry a frame, every id of its boxes in it.

        `frames` (B,H,W,3) uint8 RGB on the estimator's device; `frame_indices` their numbers in the clip; `boxes` for
        each frame track id -> box (4,) xyxy px. 3D joints are metres about the middle of the hips along the axes of the
        camera frame ``_c``. What an estimator did not find is NaN with confidence 0.
        """
        ...


def load_keypoints(
    spec: str = "blazepose-heavy",
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    camera: Camera | None = None,
    max_crops: int = 16,
) -> KeypointEstimator:
    """The estimator that `spec` (``name`` or ``name:argument``) names.

    `max_crops` go through a network at once, which bounds its memory. Raises UsageError where there is no such
    estimator, WeightsError where its weights are missing, InputError for a keypoint file that cannot be read.
    """
    import torch

    member, argument = choose(KEYPOINTS, spec, "keypoint estimator")
    return member.load_module().load(
        argument, device=torch.device(device), dtype=dtype or torch.float32, camera=camera, max_crops=max_crops
    )
