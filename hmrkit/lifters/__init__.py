"""Lifters estimate 3D joints from a track's 2D keypoints, from the clip as a whole.

How to add one: write a module with a function ``load(checkpoint, *, device)`` that returns a `Lifter`, and add its
line to `LIFTERS`. A network that reads ray features needs no more than itself: `hmrkit.lifters.ray_lifter` does the
rest, and `hmrkit.training.recipes.videopose3d` is the pattern of its recipe. `hmrkit.lifters.rays` explains the
features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hmrkit.errors import UsageError
from hmrkit.members import Member, choose
from hmrkit.skeletons import COCO_17, H36M_17, Skeleton

if TYPE_CHECKING:
    import numpy as np
    import torch


# Orders of 2D joints that published checkpoints come in, by what users write.
INPUT_SKELETONS: dict[str, Skeleton] = {"coco17": COCO_17, "h36m17": H36M_17}


@dataclass(frozen=True, kw_only=True)
class LifterMember(Member):
    """`input_skeletons`: names of `INPUT_SKELETONS` of which a user has to say which one a checkpoint reads, because
    its tensors do not show it. Its `load` then takes ``input_skeleton`` as well."""

    input_skeletons: tuple[str, ...] = ()


LIFTERS: dict[str, LifterMember] = {
    "videopose3d": LifterMember(
        module="hmrkit.lifters.videopose3d",
        summary="temporal convolution; own weights, or a published VideoPose3D checkpoint (default)",
        paper="Pavllo et al. 2019, 3D human pose estimation in video with temporal convolutions",
        licence="Apache-2.0 (published checkpoints: CC BY-NC 4.0)",
        weights=("lifter/videopose3d.safetensors",),
        recipe="hmrkit.training.recipes.videopose3d",
        input_skeletons=("coco17", "h36m17"),
    ),
    "semgcn": LifterMember(
        module="hmrkit.lifters.semgcn",
        summary="graph convolution on each frame; own weights, or a published SemGCN checkpoint",
        paper="Zhao et al. 2019, Semantic graph convolutional networks for 3D human pose regression",
        weights=("lifter/semgcn.safetensors",),
        recipe="hmrkit.training.recipes.semgcn",
    ),
    "toy": LifterMember(
        module="hmrkit.lifters.toy",
        summary="a flat pose as tall as a person; for tests",
        for_tests=True,
    ),
}


class Lifter(Protocol):
    """2D keypoints of one track through time -> 3D joints.

    `receptive_field` is the number of frames that one output depends on, `weights_sha256` names the weights ("" where
    there are none), the skeletons give the order of joints in and out.
    """

    receptive_field: int
    weights_sha256: str
    input_skeleton: Skeleton
    output_skeleton: Skeleton

    def __call__(
        self,
        keypoints_2d: np.ndarray,
        *,
        width: int,
        height: int,
        fps: float,
        flip: bool = True,
        focal_px: float | np.ndarray | None = None,
        center_px: np.ndarray | None = None,
        times: np.ndarray | None = None,
    ) -> np.ndarray:
        """Keypoints (T,K,2|3) px (NaN or confidence 0 = missing) -> joints (T,J,3) m about the root, camera axes.

        `flip` averages with the prediction for the flipped clip, flipped back.
        `focal_px` and `center_px` are the camera's where it is known, `times` (T,) s those of the frames, rising, where
        they do not simply follow one another at `fps`.
        """
        ...


def load_lifter(
    name: str = "videopose3d",
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    input_skeleton: str | None = None,
) -> Lifter:
    """Load a lifter by name, with its shipped weights or `checkpoint`; UsageError lists the known names.

    `input_skeleton`, a name of `INPUT_SKELETONS`, is the order of 2D joints that the checkpoint reads, where its lifter
    knows several (COCO's unless given); UsageError where it does not.
    """
    member, _ = choose(LIFTERS, name, "lifter")
    if input_skeleton is None:
        return member.load_module().load(checkpoint, device=device)
    orders = member.input_skeletons
    if input_skeleton not in orders:
        wanted = f"takes {' or '.join(orders)}" if orders else "reads one order of joints, leave --lifter-skeleton out"
        raise UsageError(f"--lifter-skeleton {input_skeleton}: lifter {name} {wanted}")
    return member.load_module().load(checkpoint, device=device, input_skeleton=INPUT_SKELETONS[input_skeleton])
