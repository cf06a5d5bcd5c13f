"""Regressors estimate body parameters from crops of people.

How to add one: write a module with a function ``load(name, checkpoint, *, device, weights, backbone)`` that returns a
`Regressor`, and add its line to `REGRESSORS`. A network that sees one crop at a time derives from
`hmrkit.regressors.frame.FrameRegressor`. To make it trainable, see `hmrkit.training.recipes`; the recipe may stand in
the same module. ``tests/new_members`` has an example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from hmrkit.errors import UsageError
from hmrkit.members import Member, choose, refuse_without_checkpoint

if TYPE_CHECKING:
    import torch
    from torch import Tensor


REGRESSORS: dict[str, Member] = {
    "hmr": Member(
        module="hmrkit.regressors.hmr",
        summary="global feature and iterative error feedback; own weights, trained on synthetic images",
        paper="Kanazawa et al. 2018, End-to-end recovery of human shape and pose",
        weights=("regressors/hmr.safetensors",),
        recipe="hmrkit.training.recipes.hmr",
    ),
    "spin": Member(
        module="hmrkit.regressors.hmr",
        summary="HMR's network trained with fitting in the loop; own weights, or the published checkpoint",
        paper="Kolotouros et al. 2019, Learning to reconstruct 3D human pose and shape via model-fitting in the loop",
        licence="Apache-2.0 (published checkpoint: non-commercial)",
        weights=("regressors/spin.safetensors",),
        recipe="hmrkit.training.recipes.spin",
    ),
    "hkmr": Member(
        module="hmrkit.regressors.hkmr",
        summary="kinematic chains, each refined along its joints, all after the trunk's; own weights",
        paper="Georgakis et al. 2020, Hierarchical kinematic human mesh recovery",
        weights=("regressors/hkmr.safetensors",),
        recipe="hmrkit.training.recipes.hkmr",
    ),
    "sgre": Member(
        module="hmrkit.regressors.sgre",
        summary="global rotations along the kinematic tree; own weights, or the published checkpoint",
        paper="Wang and Zhang 2023, 3D human mesh recovery with sequentially global rotation estimation",
        weights=("regressors/sgre.safetensors",),
        recipe="hmrkit.training.recipes.sgre",
    ),
    "danet": Member(
        module="hmrkit.regressors.danet",
        summary="IUV maps of body parts, a global stream and one for each joint, refined over a graph; own weights",
        paper="Zhang et al. 2020, Learning 3D human shape and pose from dense body parts",
        weights=("regressors/danet.safetensors",),
        recipe="hmrkit.training.recipes.danet",
    ),
    "glnet": Member(
        module="hmrkit.regressors.glnet",
        summary="global estimate, rotations corrected by the cell of a grid that sees the body best; own weights",
        paper="Xiao et al., Global-to-Pixel Regression for Human Mesh Recovery",
        weights=("regressors/glnet.safetensors",),
        recipe="hmrkit.training.recipes.glnet",
    ),
    "hmmr": Member(
        module="hmrkit.regressors.hmmr",
        summary="HMR's network with a temporal encoder over 13 instants of a track; own weights",
        paper="Kanazawa et al. 2019, Learning 3D human dynamics from video",
        weights=("regressors/hmmr.safetensors",),
        recipe="hmrkit.training.recipes.hmmr",
    ),
    "cliff": Member(
        module="hmrkit.regressors.cliff",
        summary="HMR's network that reads where the box lies in the image; by its published checkpoint",
        paper="Li et al. 2022, CLIFF: Carrying location information in full frames into human pose and shape "
        "estimation",
        licence="Apache-2.0 (published checkpoint: its own)",
        published="hr48-PA43.0_MJE69.0_MVE81.2_3dpw.pt or res50-PA45.7_MJE72.0_MVE85.3_3dpw.pt, as linked from "
        "https://github.com/huawei-noah/noah-research, folder CLIFF",
        backbones=("resnet50", "hrnet-w48"),
    ),
    "pare": Member(
        module="hmrkit.regressors.pare",
        summary="each joint reads its features where attention to its body part lies; by its published checkpoint",
        paper="Kocabas et al. 2021, PARE: Part attention regressor for 3D human body estimation",
        licence="Apache-2.0 (published checkpoint: non-commercial)",
        published="pare_w_3dpw_checkpoint.ckpt or pare_checkpoint.ckpt; register at https://pare.is.tue.mpg.de",
        backbones=("hrnet-w32",),
    ),
    "hmr2": Member(
        module="hmrkit.regressors.hmr2",
        summary="HMR 2.0: a ViT-H and a transformer decoder; by its published checkpoint",
        paper="Goel et al. 2023, Humans in 4D: reconstructing and tracking humans with transformers",
        licence="Apache-2.0 (published checkpoint: MIT)",
        published="epoch=35-step=1000000.ckpt in hmr2_data.tar.gz, as linked from "
        "https://github.com/shubham-goel/4D-Humans",
        backbones=("vit-h",),
    ),
    "vibe": Member(
        module="hmrkit.regressors.vibe",
        summary="SPIN's features through a recurrent network over the track; by its published checkpoint and SPIN's",
        paper="Kocabas et al. 2020, VIBE: Video inference for human body pose and shape estimation",
        licence="Apache-2.0 (published checkpoints: non-commercial)",
        published="vibe_model_w_3dpw.pth.tar or vibe_model_wo_3dpw.pth.tar with spin_model_checkpoint.pth.tar beside "
        "it, both in vibe_data.zip, as linked from https://github.com/mkocabas/VIBE",
        backbones=("resnet50",),
    ),
    "crowdnet": Member(
        module="hmrkit.regressors.crowdnet",
        summary="3DCrowdNet: an image network guided by 2D joints, for crowds; by its published checkpoint",
        paper="Choi et al. 2022, Learning to estimate robust 3D human mesh from in-the-wild crowded scenes",
        licence="Apache-2.0 (published checkpoint: MIT; VPoser in it: non-commercial)",
        published="demo_checkpoint.pth.tar or snapshot_*.pth.tar, as linked from "
        "https://github.com/hongsukchoi/3DCrowdNet_RELEASE",
        backbones=("resnet50",),
    ),
    "toy": Member(
        module="hmrkit.regressors.toy",
        summary="a standing body whose arms hang lower the darker the crop is; for tests",
        for_tests=True,
    ),
}


Framing = Literal["upright", "box", "plain"]  # how crops are cut: see `Regressor`


@dataclass(frozen=True)
class BodyEstimate:
    """Bodies in B crops, in the crop's own camera: x right, y down, z forward, looking at the crop's middle; of
    ``plain`` crops (`Regressor`) the axes are the full camera's.

    `global_orient` (B,3,3), `body_pose` (B,23,3,3), `betas` (B,10), and `crop_camera` (B,3) = s, tx, ty: HMR's weak
    perspective, ``x = s (X + tx)`` in coordinates that run from -1 to 1 over the crop.
    """

    global_orient: Tensor
    body_pose: Tensor
    betas: Tensor
    crop_camera: Tensor


@dataclass(frozen=True)
class CropContext:
    """What is known of B crops besides their pixels; networks that need none of it ignore it.

    `joints_2d` (B,33,3): x, y px of the crop and confidence, 0 for joints that the keypoints lack; order:
    `hmrkit.skeletons.BLAZEPOSE_33`. `boxes_xyxy` (B,4) px, the square of the full image about the person that the crop
    was cut from; `image_size` (B,2), the full image's width and height px; `focal_px` (B,), its focal length.
    """

    joints_2d: Tensor | None = None
    boxes_xyxy: Tensor | None = None
    image_size: Tensor | None = None
    focal_px: Tensor | None = None

    def rows(self, rows: Tensor) -> CropContext:
        """That of some of the crops, by index."""
        return self._of_each(lambda value: value[rows])

    def to(self, device: torch.device) -> CropContext:
        """The same on `device`."""
        return self._of_each(lambda value: value.to(device))

    def _of_each(self, change: Callable[[Tensor], Tensor]) -> CropContext:
        values = (getattr(self, field.name) for field in fields(self))
        return CropContext(*(None if value is None else change(value) for value in values))


class Regressor(Protocol):
    """A ``torch.nn.Module`` in two steps: `encode` sees each crop by itself, `decode` one person's track as a whole.

    A network that sees one frame at a time does everything in `encode`; a temporal one keeps features of the crops and
    works over time in `decode`. `input_size` (H, W) px of its crops, W at most H. `framing` says how they are cut:
    ``upright`` about the hips and rotated (`hmrkit.crops.person_region`), ``box`` as 1.2 times the box, not rotated.
    Both are seen by a camera that looks at the crop's middle. ``plain`` is the same box as a plain piece of the image,
    for networks that read where it lies. `shape_space` says on whose body it was trained: betas of one mean nothing to
    the other. `weights_sha256` names its weights, "" where it has none. `flip`, which may be set: every crop is
    also seen mirrored, and both are averaged."""

    name: str
    input_size: tuple[int, int]
    framing: Framing
    shape_space: Literal["hmrkit", "smpl"]
    weights_sha256: str
    flip: bool

    def encode(self, crops: Tensor, context: CropContext | None = None) -> Tensor:
        """Crops (B,3,H,W) RGB in [0, 1] -> codes (B,D), all that is kept of a crop.

        What normalisation the network wants is done inside.
        """
        ...

    def decode(self, codes: Tensor, times: Tensor) -> BodyEstimate:
        """Codes (T,D) of one person in the order of time, at `times` (T,) s -> T bodies."""
        ...

    def __call__(self, crops: Tensor, **context: Tensor) -> BodyEstimate:
        """Crops (B,3,H,W) -> bodies; each crop is a still of its own (T = 1). `context`: fields of `CropContext`."""
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
    weights. `weights` None leaves it untrained, on `backbone`. UsageError lists the known names, and the
    backbones of a network that cannot stand on all; WeightsError where a network has no weights of its own.
    """
    member, _ = choose(REGRESSORS, name, "regressor")
    if checkpoint is None and weights is not None:
        refuse_without_checkpoint(member, name)
    if backbone and member.backbones and backbone not in member.backbones:
        raise UsageError(f"{name} stands on {' or '.join(member.backbones)}, not on {backbone}; leave backbone out")
    return member.load_module().load(name, checkpoint, device=device, weights=weights, backbone=backbone)
