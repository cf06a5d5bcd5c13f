"""The backbone that ships: BlazePose-heavy, which has seen real people where the synthetic images have not.

BlazePose stays as it was published. What is trained is an integral head on its maps, with a copy of its last blocks,
which says where the body's own points lie. The global feature is what the two say: BlazePose's landmarks, the body's
points, both in the crop and in metres, and how the limbs point between them, which a regressor would otherwise have to
learn to measure. Nothing else: a body of which only these numbers are known, from motion capture without a picture, has
a feature, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features, Landmarks
from hmrkit.blazepose_net import CROP_SIZE, FEATURE_CHANNELS, FEATURE_STRIDES, BlazePose, load_network
from hmrkit.body_points import POINTS, BodyPoints, IntegralHead
from hmrkit.geometry import orthonormal_frame
from hmrkit.skeletons import BLAZEPOSE_33

BODY = len(BLAZEPOSE_33)
# Limbs as steps from one landmark (or the middle of two) to the next, arms first, left before right.
_LIMBS = (
    ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "index pinky"),
    ("hip", "knee"), ("knee", "ankle"), ("heel", "foot_index"),
)  # fmt: skip
_ARM_LIMBS = 6
_LIMB_FEATURES = 12 * (3 + 3 + 1) + 3 * 9 + 2 * 9 + 4


@dataclass(frozen=True)
class Looked:
    """What the frozen network says about crops: all that the trained part needs.

    `branch` (B,192,16,16), `first32` (B,272,8,8), `landmarks`.
    """

    branch: Tensor
    first32: Tensor
    landmarks: Landmarks


@dataclass(frozen=True)
class Told:
    """What is known of B bodies, from pictures or without."""

    landmarks: Landmarks
    points: BodyPoints


class EmbeddedBackbone(nn.Module):
    """See `hmrkit.backbones.Backbone`. `integral` is trainable; the rest never gets a gradient."""

    _network: BlazePose
    input_size = (CROP_SIZE, CROP_SIZE)
    global_channels = (BODY + POINTS) * 6 + 2 * _LIMB_FEATURES
    map_channels = FEATURE_CHANNELS
    map_strides = FEATURE_STRIDES

    def __init__(self, network: BlazePose) -> None:
        super().__init__()
        # Kept out of the module's own tensors: its weights ship once, with the keypoints.
        object.__setattr__(self, "_network", network)
        self.integral = IntegralHead()

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Moves and casts reach the published network too."""
        self._network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, crops: Tensor) -> Features:
        looked, maps = self._look(crops)
        return replace(self.together(self.told(looked)), maps=maps)

    def look(self, crops: Tensor) -> Looked:
        """The frozen part for crops (B,3,256,256) RGB in [0, 1]."""
        return self._look(crops)[0]

    @torch.no_grad()
    def _look(self, crops: Tensor) -> tuple[Looked, tuple[Tensor, ...]]:
        """And the trunk's maps, finest first."""
        lower = self._network.lower(crops)
        said = self._network.upper(lower)
        points = said.landmarks[:, :BODY]
        points = torch.cat([points[..., :2], points[..., 3:4].sigmoid()], -1)
        landmarks = Landmarks(points, said.world[:, :BODY])
        return Looked(lower.branch, lower.first32, landmarks), lower.trunk[1:]

    def begin(self, looked: Looked) -> None:
        """Prepare the integral head for training, by what was found in many crops."""
        self.integral.begin_from(self._network, looked.branch, looked.first32)

    def told(self, looked: Looked) -> Told:
        """The trained part: from what `look` found, or what was kept of it."""
        return Told(looked.landmarks, self.integral(looked.branch, looked.first32))

    def together(self, told: Told) -> Features:
        """The features of what is told, without maps."""
        said, points = told.landmarks, told.points
        parts = (
            said.points_2d[..., :2] / (CROP_SIZE / 2) - 1, said.points_2d[..., 2:], said.world,
            points.points_2d, points.spread[..., None], points.world,
        )  # fmt: skip
        limbs = limb_features(said.world), limb_features(points.world[:, -BODY:])
        return Features(torch.cat([part.flatten(1) for part in (*parts, *limbs)], 1), (), said)


def limb_features(world: Tensor) -> Tensor:
    """How the body is held, from world landmarks (B,33,3) -> (B,133).

    Each limb's direction in the camera and in the frame of the part that it hangs on, its length; the frames of pelvis,
    chest and head, the chest in the pelvis's, the head in the chest's; the cosines of elbows and knees.
    """

    def at(side: str, names: str) -> Tensor:
        return world[:, BLAZEPOSE_33.indices(*(f"{side}_{name}" for name in names.split()))].mean(1)

    left, right = (lambda name: at("left", name)), (lambda name: at("right", name))
    hips, neck = (left("hip") + right("hip")) / 2, (left("shoulder") + right("shoulder")) / 2
    pelvis = orthonormal_frame(left("hip") - right("hip"), neck - hips)
    chest = orthonormal_frame(left("shoulder") - right("shoulder"), neck - hips)
    head = head_frame(world)
    steps = torch.stack([at(side, b) - at(side, a) for a, b in _LIMBS for side in ("left", "right")], 1)
    length = steps.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    direction = steps / length
    hung = torch.cat([direction[:, :_ARM_LIMBS] @ chest, direction[:, _ARM_LIMBS:] @ pelvis], 1)
    bends = torch.cat([(direction[:, i : i + 2] * direction[:, i + 2 : i + 4]).sum(-1) for i in (0, _ARM_LIMBS)], 1)
    frames = torch.stack([pelvis, chest, head, pelvis.mT @ chest, chest.mT @ head], 1)
    return torch.cat([part.flatten(1) for part in (direction, hung, length, frames, bends)], 1)


def head_frame(world: Tensor) -> Tensor:
    """Axes (B,3,3) of the heads of world landmarks (B,33,3): towards the left ear, from the ears' middle to the nose,
    the third."""
    left, right, nose = (world[:, BLAZEPOSE_33.index[name]] for name in ("left_ear", "right_ear", "nose"))
    return orthonormal_frame(left - right, nose - (left + right) / 2)


def load(name: str, checkpoint: str | Path | None, *, device: str | torch.device) -> EmbeddedBackbone:
    """See `hmrkit.backbones.load_backbone`. The published weights always; a regressor's own file has the head."""
    if checkpoint is not None:
        from hmrkit.errors import UsageError

        raise UsageError("backbone embedded carries its weights; give the checkpoint to the regressor instead")
    return EmbeddedBackbone(load_network("cpu")).eval().to(device)
