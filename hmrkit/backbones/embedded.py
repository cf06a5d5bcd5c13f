"""The backbone that ships: BlazePose-heavy as it was published, with a trained integral head on its maps.

BlazePose's part is frozen; its maps and landmarks are the observation. The integral head
(`hmrkit.blazepose.integral_head`), with a tuned copy of BlazePose's last blocks, predicts where the body's own points
lie. The global feature consists of numbers about points only: landmarks and body points, in the crop and in metres, and
the directions of the limbs between them. So a body of which only the points are known, from motion capture without an
image, has a global feature, too (`EmbeddedBackbone.features_of_points`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features, Landmarks
from hmrkit.blazepose.integral_head import POINTS, BodyPoints, IntegralHead, load_body_points
from hmrkit.blazepose.network import CROP_SIZE, MASK_LAYERS, BlazePose, BlazePoseOutput, load_network
from hmrkit.blazepose.with_points import BlazePoseWithPoints, PoseMaps
from hmrkit.engines import Frozen, frozen
from hmrkit.errors import UsageError
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
class TunedMaps:
    """What the integral head makes of B crops: `stride32` (B,272,8,8), the output of its last blocks, and `points`."""

    stride32: Tensor
    points: BodyPoints


@dataclass(frozen=True)
class FrozenMaps:
    """The observation: what the published network finds in B crops, all that the trained part needs.

    `branch` (B,192,16,16), the regression branch at stride 16; `first32` (B,272,8,8), the first block of stride 32;
    `landmarks`; `pyramid` (B,48,64,64), the merged map at stride 4, None where it was not kept; `tuned`, where the
    integral head is not trained any more and has seen the crops.
    """

    branch: Tensor
    first32: Tensor
    landmarks: Landmarks
    pyramid: Tensor | None = None
    tuned: TunedMaps | None = None


@dataclass(frozen=True)
class PointEstimates:
    """Estimated landmarks and points of B bodies, from images or synthetic."""

    landmarks: Landmarks
    points: BodyPoints


class EmbeddedBackbone(nn.Module):
    """See `hmrkit.backbones.Backbone`. `integral` is trainable; the rest never gets a gradient.

    The maps are the pyramid at stride 4, the branch at stride 16 and the tuned last blocks at stride 32. Where an
    observation was kept without its pyramid, the maps are the last two.
    """

    _network: BlazePose
    input_size = (CROP_SIZE, CROP_SIZE)
    global_channels = (BODY + POINTS) * 6 + 2 * _LIMB_FEATURES
    map_channels = (48, 192, 272)
    map_strides = (4, 16, 32)
    observation = FrozenMaps

    def __init__(self, network: BlazePose) -> None:
        super().__init__()
        # Kept out of the module's own tensors: its weights ship once, with the keypoints.
        object.__setattr__(self, "_network", network)
        self.integral = IntegralHead()
        self._run: Frozen | None = None

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Moves and casts reach the published network too."""
        self._network._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, crops: Tensor) -> Features:
        return self.features(self.encode(crops))

    @torch.no_grad()
    def encode(self, crops: Tensor) -> FrozenMaps:
        """The frozen part, for crops (B,3,256,256) RGB in [0, 1]; once `use_engine` was called, all of it."""
        if self._run is not None:
            maps = PoseMaps(*self._run(crops))
            tuned = TunedMaps(maps.stride32, maps.points)
            landmarks = _landmarks(maps.output)
            return FrozenMaps(maps.branch, maps.first32, landmarks, maps.merged, tuned)
        lower = self._network.lower(crops)
        landmarks = _landmarks(self._network.upper(lower))
        return FrozenMaps(lower.branch, lower.first32, landmarks, lower.merged)

    def use_engine(self) -> None:
        """The backbone will not be trained any more: from now on the chosen engine runs it (`hmrkit.engines`)."""
        self._run = frozen(BlazePoseWithPoints(self._network, self.integral).eval())

    def features(self, observation: FrozenMaps) -> Features:
        """The trained part, from what `encode` returned or what was kept of it."""
        tuned = observation.tuned or self.tune(observation)
        features = self.features_of_points(PointEstimates(observation.landmarks, tuned.points))
        pyramid = () if observation.pyramid is None else (observation.pyramid,)
        return replace(features, maps=(*pyramid, observation.branch, tuned.stride32))

    def tune(self, observation: FrozenMaps) -> TunedMaps:
        """The integral head's part of `features`."""
        stride32 = self.integral.last_blocks(observation.first32)
        return TunedMaps(stride32, self.integral.points(observation.branch, stride32))

    def predict_points(self, observation: FrozenMaps) -> PointEstimates:
        """Landmarks of the frozen part and points of the trained one."""
        return PointEstimates(observation.landmarks, (observation.tuned or self.tune(observation)).points)

    def features_of_points(self, estimates: PointEstimates) -> Features:
        """The features without maps, from points alone: also of synthetic ones that have no image."""
        landmarks, points = estimates.landmarks, estimates.points
        parts = (
            landmarks.points_2d[..., :2] / (CROP_SIZE / 2) - 1, landmarks.points_2d[..., 2:], landmarks.world,
            points.points_2d, points.spread[..., None], points.world,
        )  # fmt: skip
        limbs = limb_features(landmarks.world), limb_features(points.world[:, -BODY:])
        return Features(torch.cat([part.flatten(1) for part in (*parts, *limbs)], 1), (), landmarks, points)

    def init_from(self, observation: FrozenMaps) -> None:
        """Prepare the integral head for training: copy BlazePose's last blocks, measure the maps' statistics on the
        observation of many crops."""
        self.integral.init_from(self._network, observation.branch, observation.first32)


def _landmarks(output: BlazePoseOutput) -> Landmarks:
    points = output.landmarks[:, :BODY]
    return Landmarks(torch.cat([points[..., :2], points[..., 3:4].sigmoid()], -1), output.world[:, :BODY])


def limb_features(world: Tensor) -> Tensor:
    """Directions, lengths and bends of the limbs, from world landmarks (B,33,3) -> (B,133).

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


def load(
    name: str, checkpoint: str | Path | None, *, device: str | torch.device, weights: str | None = "default"
) -> EmbeddedBackbone:
    """See `hmrkit.backbones.load_backbone`. BlazePose as published; the integral head is the one that ships."""
    if checkpoint is not None:
        raise UsageError("backbone embedded carries its weights; give the checkpoint to the regressor instead")
    backbone = EmbeddedBackbone(load_network("cpu", without=MASK_LAYERS))
    if weights is not None:
        backbone.integral = load_body_points()
    return backbone.eval().to(device)
