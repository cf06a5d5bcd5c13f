"""Backbones turn crops of people into features: a global feature, maps, and landmarks where they know any.

A backbone works in two steps, so that training need not run its frozen part again and again. `encode` runs what is
never trained and returns an `Observation`, which may be kept on disk; `features` runs the rest. Calling it does both.

How to add one: write a module with a function ``load(name, checkpoint, *, device, weights)`` that returns a `Backbone`,
and add its line to `BACKBONES`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from hmrkit.members import Member, choose

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hmrkit.blazepose.integral_head import BodyPoints


BACKBONES: dict[str, Member] = {
    "embedded": Member(
        module="hmrkit.backbones.embedded",
        summary="BlazePose-heavy's trunk and landmark branch, trained on real photographs (default)",
        paper="Bazarevsky et al. 2020, BlazePose",
        weights=(
            "keypoints/blazepose_heavy-1of2.safetensors",
            "keypoints/blazepose_heavy-2of2.safetensors",
            "backbones/embedded.safetensors",
        ),
    ),
    "resnet50": Member(
        module="hmrkit.backbones.resnet",
        summary="ResNet-50; key names of the published checkpoints",
        paper="He et al. 2016, Deep residual learning for image recognition",
    ),
    "hrnet-w32": Member(
        module="hmrkit.backbones.hrnet",
        summary="HRNet-W32; key names of the published checkpoints",
        paper="Sun et al. 2019, Deep high-resolution representation learning for human pose estimation",
    ),
    "hrnet-w48": Member(
        module="hmrkit.backbones.hrnet",
        summary="HRNet-W48; key names of the published checkpoints",
        paper="Sun et al. 2019, Deep high-resolution representation learning for human pose estimation",
    ),
}


@dataclass(frozen=True)
class Landmarks:
    """`points_2d` (B,33,3): crop px and visibility in [0, 1]; `world` (B,33,3): m about the middle of the hips, axes of
    a camera that looks at the crop's middle. Order: `hmrkit.skeletons.BLAZEPOSE_33`."""

    points_2d: Tensor
    world: Tensor


@dataclass(frozen=True)
class CropImages:
    """The observation of a backbone without a frozen part: the crops themselves, `images` (B,3,H,W) RGB in [0, 1]."""

    images: Tensor


@dataclass(frozen=True)
class Features:
    """`global_feature` (B,C); `maps`: (B,c,h,w) each, finest first; `landmarks` and `points`, None where the backbone
    knows none."""

    global_feature: Tensor
    maps: tuple[Tensor, ...]
    landmarks: Landmarks | None = None
    points: BodyPoints | None = None


# What `Backbone.encode` returns: a frozen dataclass of tensors with B rows each, and of such dataclasses. Each backbone
# has its own; only the backbone itself and training's files look inside.
Observation: TypeAlias = Any


class Backbone(Protocol):
    """A ``torch.nn.Module``. `input_size` (H, W) px of its crops, `global_channels` C of the global feature,
    `map_channels` and `map_strides` of the maps, finest first; `observation` is the class of its observations."""

    input_size: tuple[int, int]
    global_channels: int
    map_channels: tuple[int, ...]
    map_strides: tuple[int, ...]
    observation: type

    def encode(self, crops: Tensor) -> Observation:
        """Crops (B,3,H,W) RGB in [0, 1] -> what the part that is never trained makes of them.

        What normalisation the network wants is done inside. A backbone that is trained as a whole returns `CropImages`.
        """
        ...

    def features(self, observation: Observation) -> Features:
        """What `encode` returned, or what was kept of it -> features."""
        ...

    def use_engine(self) -> None:
        """It will not be trained any more: where it has a graph, the chosen engine runs it (`hmrkit.engines`)."""
        ...

    def __call__(self, crops: Tensor) -> Features:
        """``features(encode(crops))``."""
        ...


def load_backbone(
    name: str,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    weights: str | None = "default",
) -> Backbone:
    """Load a backbone by name with `checkpoint` or its shipped weights; one that ships none then has random ones.

    `weights` None leaves untrained what training starts from nothing: all of ResNet and HRNet, the integral head of
    ``embedded``, whose BlazePose is always the published one.

    UsageError lists the known names; WeightsError where a checkpoint does not fit.
    """
    member, _ = choose(BACKBONES, name, "backbone")
    return member.load_module().load(name, checkpoint, device=device, weights=weights)
