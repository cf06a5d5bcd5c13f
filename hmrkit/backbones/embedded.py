"""The backbone that ships: BlazePose-heavy, which has seen real people where the synthetic images have not.

BlazePose is used as two halves. The lower half stays as it was published. Of the upper half, which ends in the 2 x 2
map that landmarks are read from, there are two copies: the published one says the landmarks, the other one makes the
global feature, and only that one is ever trained.

The global feature has two parts. What is seen: the 2 x 2 map (4 x 288), the mean of the widest map (1632), and what the
stride-16 map shows where each landmark lies (33 x 32). What is told: the landmarks in the crop and in metres, and how
the limbs point between them, which a regressor would otherwise have to learn to measure. A body of which only landmarks
are known has a feature, too: what is seen of it is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.backbones import Features, Landmarks
from hmrkit.blazepose_net import (
    CROP_SIZE,
    FEATURE_CHANNELS,
    FEATURE_STRIDES,
    BlazePose,
    landmark_map,
    load_network,
    widest,
)
from hmrkit.geometry import orthonormal_frame
from hmrkit.skeletons import BLAZEPOSE_33

BODY = len(BLAZEPOSE_33)
_UPPER = (
    "widen", "widen_depthwise", "join32", "down32", "blocks32", "down64", "blocks64", "down128", "blocks128",
)  # fmt: skip
_MAP_CHANNELS, _WIDE_CHANNELS = 4 * 288, 1632
# Limbs as steps from one landmark (or the middle of two) to the next, arms first, left before right.
_LIMBS = (
    ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "index pinky"),
    ("hip", "knee"), ("knee", "ankle"), ("heel", "foot_index"),
)  # fmt: skip
_ARM_LIMBS = 6
_LOCAL_CHANNELS = 32
_LIMB_FEATURES = 12 * (3 + 3 + 1) + 3 * 9 + 2 * 9 + 4


@dataclass(frozen=True)
class Looked:
    """What the frozen lower half and the landmarks say about crops: all that the trained part needs.

    `branch` (B,192,16,16), `at32` (B,272,8,8), `landmarks`, and the other `maps` of the trunk, finest first.
    """

    branch: Tensor
    at32: Tensor
    landmarks: Landmarks
    maps: tuple[Tensor, ...] = ()


class UpperHalf(nn.Module):
    """BlazePose's upper half under its published key names, to be fine-tuned."""

    def __init__(self, network: BlazePose) -> None:
        super().__init__()
        fresh = BlazePose()
        for name in _UPPER:
            module = getattr(fresh, name)
            module.load_state_dict(getattr(network, name).state_dict())
            self.add_module(name, module)

    def forward(self, branch: Tensor, at32: Tensor) -> Tensor:
        """-> (B, 4 x 288 + 1632)."""
        wide = widest(self, at32)
        return torch.cat([landmark_map(self, branch, wide).flatten(1), wide.mean((2, 3))], 1)


class AtLandmarks(nn.Module):
    """What the regression branch's map at stride 16 shows at each landmark, read by weights of the landmark's own."""

    def __init__(self, channels: int = 192) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(BODY, channels, _LOCAL_CHANNELS) / channels**0.5)
        self.bias = nn.Parameter(torch.zeros(BODY, _LOCAL_CHANNELS))

    def forward(self, branch: Tensor, points_2d: Tensor) -> Tensor:
        """Maps (B,192,16,16), landmarks (B,33,2) crop px -> (B, 33 x 32)."""
        places = (points_2d / (CROP_SIZE / 2) - 1)[:, :, None]
        found = functional.grid_sample(branch, places.to(branch.dtype), padding_mode="border", align_corners=False)
        return functional.relu(torch.einsum("bcl,lco->blo", found[..., 0], self.weight) + self.bias).flatten(1)


class EmbeddedBackbone(nn.Module):
    """See `hmrkit.backbones.Backbone`. `upper` and `at_landmarks` are trainable; the rest never gets a gradient."""

    _network: BlazePose
    input_size = (CROP_SIZE, CROP_SIZE)
    seen_channels = _MAP_CHANNELS + _WIDE_CHANNELS + BODY * _LOCAL_CHANNELS
    global_channels = seen_channels + BODY * 6 + _LIMB_FEATURES
    map_channels = FEATURE_CHANNELS
    map_strides = FEATURE_STRIDES

    def __init__(self, network: BlazePose) -> None:
        super().__init__()
        # Kept out of the module's own tensors: its weights ship once, with the keypoints.
        object.__setattr__(self, "_network", network)
        self.upper = UpperHalf(network)
        self.at_landmarks = AtLandmarks()

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Moves and casts reach the published network too."""
        self._network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, crops: Tensor) -> Features:
        return self.features(self.look(crops))

    @torch.no_grad()
    def look(self, crops: Tensor) -> Looked:
        """The frozen part for crops (B,3,256,256) RGB in [0, 1]."""
        lower = self._network.lower(crops)
        said = self._network.upper(lower)
        points = said.landmarks[:, :BODY]
        points = torch.cat([points[..., :2], points[..., 3:4].sigmoid()], -1)
        landmarks = Landmarks(points, said.world[:, :BODY])
        return Looked(lower.branch, lower.trunk[-1], landmarks, lower.trunk[1:])

    def features(self, looked: Looked) -> Features:
        """The trained part: what `look` found, or what was kept of it."""
        return self.together(self.seen(looked), looked.landmarks, looked.maps)

    def seen(self, looked: Looked) -> Tensor:
        """The part of the global feature (B, `seen_channels`) that comes from the picture."""
        local = self.at_landmarks(looked.branch, looked.landmarks.points_2d[..., :2])
        return torch.cat([self.upper(looked.branch, looked.at32), local], 1)

    def together(self, seen: Tensor | None, said: Landmarks, maps: tuple[Tensor, ...] = ()) -> Features:
        """Features of what is seen and told; `seen` is None where there are landmarks but no picture."""
        told = torch.cat([said.points_2d[..., :2] / (CROP_SIZE / 2) - 1, said.points_2d[..., 2:], said.world], -1)
        if seen is None:
            seen = told.new_full((len(told), self.seen_channels), torch.nan)
        return Features(torch.cat([seen, told.flatten(1), limb_features(said.world)], 1), maps, said)


def limb_features(world: Tensor) -> Tensor:
    """How the body is held, from world landmarks (B,33,3) -> (B,133).

    Each limb's direction in the camera and in the frame of the part that it hangs on, its length; the frames of pelvis,
    chest and head, the chest in the pelvis's, the head in the chest's; the cosines of elbows and knees.
    """

    def at(side: str, names: str) -> Tensor:
        return world[:, BLAZEPOSE_33.indices(*(f"{side}_{name}" for name in names.split()))].mean(1)

    left, right = (lambda name: at("left", name)), (lambda name: at("right", name))
    hips, neck = (left("hip") + right("hip")) / 2, (left("shoulder") + right("shoulder")) / 2
    ears, nose = (left("ear") + right("ear")) / 2, world[:, BLAZEPOSE_33.index["nose"]]
    pelvis = orthonormal_frame(left("hip") - right("hip"), neck - hips)
    chest = orthonormal_frame(left("shoulder") - right("shoulder"), neck - hips)
    head = orthonormal_frame(left("ear") - right("ear"), nose - ears)
    steps = torch.stack([at(side, b) - at(side, a) for a, b in _LIMBS for side in ("left", "right")], 1)
    length = steps.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    direction = steps / length
    hung = torch.cat([direction[:, :_ARM_LIMBS] @ chest, direction[:, _ARM_LIMBS:] @ pelvis], 1)
    bends = torch.cat([(direction[:, i : i + 2] * direction[:, i + 2 : i + 4]).sum(-1) for i in (0, _ARM_LIMBS)], 1)
    frames = torch.stack([pelvis, chest, head, pelvis.mT @ chest, chest.mT @ head], 1)
    return torch.cat([part.flatten(1) for part in (direction, hung, length, frames, bends)], 1)


def load(name: str, checkpoint: str | Path | None, *, device: str | torch.device) -> EmbeddedBackbone:
    """See `hmrkit.backbones.load_backbone`. The published weights always; a regressor's own file has the tuned half."""
    if checkpoint is not None:
        from hmrkit.errors import UsageError

        raise UsageError("backbone embedded carries its weights; give the checkpoint to the regressor instead")
    return EmbeddedBackbone(load_network("cpu")).eval().to(device)
