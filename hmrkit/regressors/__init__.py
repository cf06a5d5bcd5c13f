"""Regressors read body parameters off crops of people, frame by frame.

How to add one: write a module with a function ``load(name, checkpoint, *, device, weights, backbone)`` that returns a
`Regressor`, and add its line to `REGRESSORS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from hmrkit.members import Member, choose

if TYPE_CHECKING:
    import torch
    from torch import Tensor


REGRESSORS: dict[str, Member] = {
    "hmr": Member(
        module="hmrkit.regressors.hmr",
        summary="global feature and iterative error feedback; own weights, trained on synthetic images",
        paper="Kanazawa et al. 2018, End-to-end recovery of human shape and pose",
        weights=("regressors/hmr.safetensors",),
    ),
    "spin": Member(
        module="hmrkit.regressors.hmr",
        summary="HMR's network trained with fitting in the loop; own weights, or the published checkpoint",
        paper="Kolotouros et al. 2019, Learning to reconstruct 3D human pose and shape via model-fitting in the loop",
        licence="Apache-2.0 (published checkpoint: non-commercial)",
        weights=("regressors/spin.safetensors",),
    ),
    "toy": Member(
        module="hmrkit.regressors.toy",
        summary="a standing body whose arms hang lower the darker the crop is; for tests",
        for_tests=True,
    ),
}


@dataclass(frozen=True)
class BodyEstimate:
    """Bodies in B crops, in the crop's own camera (x right, y down, z forward, looking at the crop's middle).

    `global_orient` (B,3,3), `body_pose` (B,23,3,3), `betas` (B,10), and `crop_camera` (B,3) = s, tx, ty: HMR's weak
    perspective, ``x = s (X + tx)`` in coordinates that run from -1 to 1 over the crop.
    """

    global_orient: Tensor
    body_pose: Tensor
    betas: Tensor
    crop_camera: Tensor


class Regressor(Protocol):
    """A ``torch.nn.Module``. `input_size` (H, W) px of its crops. `framing` says how they are cut: ``upright`` about
    the hips and turned (`hmrkit.crops.person_region`), ``box`` as 1.2 times the box, not turned. `shape_space` says on
    whose body it was trained: betas of one mean nothing to the other."""

    name: str
    input_size: tuple[int, int]
    framing: Literal["upright", "box"]
    shape_space: Literal["hmrkit", "smpl"]
    weights_sha256: str

    def __call__(self, crops: Tensor) -> BodyEstimate:
        """Crops (B,3,H,W) RGB in [0, 1] -> bodies. What normalisation the network wants is done inside."""
        ...


def load_regressor(
    name: str,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    weights: str | None = "default",
    backbone: str | None = None,
) -> Regressor:
    """Load a regressor by name, ready for inference.

    With `checkpoint`, a file of the method's published form or one that `hmrkit train` wrote; without, the shipped
    weights. `weights` None leaves it untrained, on `backbone`. UsageError lists the known names.
    """
    member, _ = choose(REGRESSORS, name, "regressor")
    return member.load_module().load(name, checkpoint, device=device, weights=weights, backbone=backbone)
