"""What regressors that see one crop at a time share: the layout of their codes, and averaging over a flip.

How to write one: derive from `FrameRegressor`, and write `regress`, which goes from the backbone's features to bodies.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hmrkit.backbones import Features
from hmrkit.geometry import mirrored_pose, project_to_rotation
from hmrkit.regressors import BodyEstimate, CropContext, Framing
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24

# Columns of a body as one row: 24 rotation matrices (the root's first), 10 betas, s, tx, ty of the crop camera.
ROTATIONS, BETAS, CROP_CAMERA = slice(0, 216), slice(216, 226), slice(226, 229)
CODE_SIZE = CROP_CAMERA.stop


def flatten(estimate: BodyEstimate) -> Tensor:
    """B bodies -> (B,229)."""
    parts = (estimate.global_orient, estimate.body_pose, estimate.betas, estimate.crop_camera)
    return torch.cat([part.flatten(1) for part in parts], 1)


def unflatten(codes: Tensor) -> BodyEstimate:
    """The inverse of `flatten`."""
    rotations = codes[:, ROTATIONS].reshape(-1, 24, 3, 3)
    return BodyEstimate(rotations[:, 0], rotations[:, 1:], codes[:, BETAS], codes[:, CROP_CAMERA])


class FrameRegressor(nn.Module):
    """See `hmrkit.regressors.Regressor`. Its code of a crop is the whole body; nothing is left to do over time.

    `flip`: every crop is regressed as it is and mirrored, and both are averaged (`average_flipped`): it doubles the
    cost. Training calls `regress` on features that come from `backbone`, as inference does. `standardise`: the network
    reads `standardised` features, whose `feature_mean` and `feature_scale` (C) are measured once in training; files of
    other networks do not have them."""

    feature_mean: Tensor
    feature_scale: Tensor
    backbone: Any  # `hmrkit.backbones.Backbone`: a protocol, which a module's attribute cannot be

    def __init__(
        self,
        name: str,
        backbone: Any,
        framing: Framing = "upright",
        shape_space: Literal["hmrkit", "smpl"] = "hmrkit",
        flip: bool = False,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.weights_sha256 = name, ""
        self.framing: Framing = framing
        self.shape_space: Literal["hmrkit", "smpl"] = shape_space
        self.flip = flip
        self.backbone = backbone
        self.input_size: tuple[int, int] = backbone.input_size
        self.register_buffer("feature_mean", torch.zeros(backbone.global_channels), persistent=standardise)
        self.register_buffer("feature_scale", torch.ones(backbone.global_channels), persistent=standardise)

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        """Features of B crops -> bodies. `context` is what is known of the crops besides; networks may need parts."""
        raise NotImplementedError

    def standardised(self, feature: Tensor) -> Tensor:
        """Global features (B,C) as networks read them; clamped, because what lies far outside of training must not run
        away."""
        return ((feature - self.feature_mean) * self.feature_scale).clamp(-8, 8)

    def estimate(self, crops: Tensor, context: CropContext | None = None) -> BodyEstimate:
        """Crops (B,3,H,W) RGB in [0, 1] -> bodies, averaged over the flip where `flip` says so."""
        features = self.backbone(crops)
        straight = self.regress(features, context)
        if not self.flip:
            return straight
        flipped = self.backbone(crops.flip(-1))
        mirrored = self.regress(flipped, context and mirrored_context(context, crops.shape[-1]))
        return average_flipped(straight, mirrored, features, flipped)

    def encode(self, crops: Tensor, context: CropContext | None = None) -> Tensor:
        """See `hmrkit.regressors.Regressor.encode`: (B,229)."""
        return flatten(self.estimate(crops, context))

    def decode(self, codes: Tensor, times: Tensor) -> BodyEstimate:
        """See `hmrkit.regressors.Regressor.decode`."""
        return unflatten(codes)

    def forward(self, crops: Tensor, **context: Tensor) -> BodyEstimate:
        return self.estimate(crops, CropContext(**context) if context else None)


def average_flipped(
    straight: BodyEstimate, mirrored: BodyEstimate, features: Features, flipped: Features
) -> BodyEstimate:
    """The mean of the estimates for crops and for their mirror images, with the features that each was made from."""
    return average_by_hips(straight, mirrored, hips_of(features), hips_of(flipped))


def average_by_hips(straight: BodyEstimate, mirrored: BodyEstimate, hips: Tensor, flipped: Tensor) -> BodyEstimate:
    """The mean of the estimates for crops and for their mirror images, with the hips (B,3) seen in each (`hips_of`).

    Where the two face opposite ways, their mean would face sideways. The one is taken there whose left agrees better
    with the hips of its own body points; without body points, the one of the crop as it is.
    """
    one, other = (torch.cat([e.global_orient[:, None], e.body_pose], 1) for e in (straight, mirrored))
    other = mirrored_pose(other, SMPL_24.mirror)
    opposite = (one[:, 0] * other[:, 0]).sum((1, 2)) < 1  # The trace of the rotation between: more than 90 degrees.
    # Cosine between the body's left and the way from the right hip to the left; 0 where points are unknown.
    agree, agree_flipped = (
        torch.cosine_similarity(e.global_orient[:, :, 0], way) for e, way in ((straight, hips), (mirrored, flipped))
    )
    share = torch.where(opposite, (agree < agree_flipped).to(one.dtype), 0.5)[:, None]
    camera = mirrored.crop_camera * mirrored.crop_camera.new_tensor([1.0, -1.0, 1.0])
    pose = project_to_rotation(torch.lerp(one, other, share[..., None, None]))
    betas, camera = torch.lerp(straight.betas, mirrored.betas, share), torch.lerp(straight.crop_camera, camera, share)
    return BodyEstimate(pose[:, 0], pose[:, 1:], betas, camera)


def hips_of(features: Features) -> Tensor:
    """The way (B,3) m from the right hip to the left among the body points of crops; 0 where points are unknown."""
    left, right = SMPL_24.indices("left_hip", "right_hip")
    if features.points is None:
        return features.global_feature.new_zeros(len(features.global_feature), 3)
    return features.points.world[:, left] - features.points.world[:, right]


def mirrored_context(context: CropContext, width: int) -> CropContext:
    """The context of crops `width` px wide that are flipped left to right, of images flipped likewise."""
    joints, boxes = context.joints_2d, context.boxes_xyxy
    if joints is not None:
        joints = joints[:, list(BLAZEPOSE_33.mirror)] * joints.new_tensor([-1.0, 1.0, 1.0])
        joints = joints + joints.new_tensor([float(width), 0.0, 0.0])
    if boxes is not None:
        assert context.image_size is not None, "boxes come with the size of their image"
        across = context.image_size[:, :1]
        boxes = torch.cat([across - boxes[:, 2:3], boxes[:, 1:2], across - boxes[:, :1], boxes[:, 3:]], 1)
    return replace(context, joints_2d=joints, boxes_xyxy=boxes)
