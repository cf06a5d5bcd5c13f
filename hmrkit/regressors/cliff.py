"""CLIFF: HMR's network that also reads where its crop lies in the full image (Li et al. 2022).

A person at the image's edge is seen from the side of where it faces the camera; a crop alone does not show that. CLIFF
reads the crop's place and size beside the image feature, and predicts rotations in the axes of the full camera
(sections 3.2 and 3.3). Its crops were plain pieces of images in training. Here they are, too (framing ``plain``): a
crop seen by a camera of its own, as other regressors have it, is stretched and sheared against that by up to ``1 /
cos`` of the angle off the axis, and its person is seen from straight ahead, so that CLIFF would correct once more what
that camera has corrected already. With plain crops nothing has to be rotated back, and the translation is CLIFF's own
(`hmrkit.regressors.crop_camera`). The published checkpoints are recognised by their keys: HRNet-W48 (its form for
classification) or ResNet-50 below ``encoder.``, beside it SPIN's head, which has no ReLUs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hmrkit.backbones import Features, load_backbone
from hmrkit.errors import UsageError, WeightsError
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.files import refuse_other_backbone
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.regressors.ief import IefHead
from hmrkit.weights import load_into, load_state, verify

INPUT_SIZE = (256, 192)
BOX_NUMBERS = 3
_ENCODER, _HEAD_KEY = "encoder.", "fc1.weight"
# A key that only one of the two backbones has.
_BACKBONES = {"hrnet-w48": "encoder.stage4.0.branches.0.0.conv1.weight", "resnet50": "encoder.layer4.2.conv3.weight"}


def box_numbers(context: CropContext) -> Tensor:
    """What CLIFF reads of crops: where they lie and how large they are, against the focal length (B,3); eq. 5.

    With the middle (cx, cy) and the height b of the square that a crop is cut from, in an image of W by H px with focal
    length f: ``(cx - W / 2) / f * 2.8, (cy - H / 2) / f * 2.8, (b - 0.24 f) / (0.06 f)``. The constants are the
    published network's: they bring the numbers of its training into [-1, 1].
    UsageError where `context` lacks one of ``boxes_xyxy``, ``image_size``, ``focal_px``.
    """
    boxes, size, focal = context.boxes_xyxy, context.image_size, context.focal_px
    if boxes is None or size is None or focal is None:
        raise UsageError("cliff reads where a crop lies; wanted boxes_xyxy, image_size and focal_px with the crops")
    beside = (boxes[:, :2] + boxes[:, 2:] - size) / 2
    height = boxes[:, 3] - boxes[:, 1]
    return torch.cat([beside / focal[:, None] * 2.8, ((height - 0.24 * focal) / (0.06 * focal))[:, None]], 1)


class CliffRegressor(FrameRegressor):
    """See `hmrkit.regressors.frame.FrameRegressor`. Crops are the middle columns of squares, 256 x 192 px."""

    def __init__(self, name: str, backbone: Any) -> None:
        super().__init__(name, backbone, framing="plain", shape_space="smpl")
        self.input_size = INPUT_SIZE
        self.head = IefHead(backbone.global_channels + BOX_NUMBERS, activate=False)

    def regress(self, features: Features, context: CropContext | None = None) -> BodyEstimate:
        numbers = box_numbers(context or CropContext())
        return self.head(torch.cat([features.global_feature, numbers.to(features.global_feature.dtype)], 1))


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> CliffRegressor:
    """See `hmrkit.regressors.load_regressor`; without a checkpoint an untrained one."""
    if checkpoint is None:
        regressor = CliffRegressor(name, load_backbone(backbone or "hrnet-w48", weights=None))
    else:
        regressor = _published(name, checkpoint, backbone, device)
    return regressor.eval().requires_grad_(False).to(device)


def _published(name: str, path: str | Path, backbone: str | None, device: str | torch.device) -> CliffRegressor:
    """The network of a published checkpoint. SMPL's own arrays, which descendants carry, are passed over: the body
    comes from elsewhere."""
    state = {key: value for key, value in load_state(path).items() if not key.startswith("smpl.")}
    found = next((known for known, key in _BACKBONES.items() if key in state), None)
    if found is None or _HEAD_KEY not in state:
        raise WeightsError(
            f"{path}: wanted CLIFF's published checkpoint (keys {_ENCODER}* and {_HEAD_KEY}), "
            f"found {len(state)} others ({', '.join(list(state)[:3])}, ...)"
        )
    refuse_other_backbone(path, found, backbone)
    regressor = CliffRegressor(name, load_backbone(found, weights=None, device=device)).to(device)
    encoder = {key.removeprefix(_ENCODER): value for key, value in state.items() if key.startswith(_ENCODER)}
    load_into(regressor.backbone, encoder, path)
    load_into(regressor.head, {key: value for key, value in state.items() if not key.startswith(_ENCODER)}, path)
    regressor.weights_sha256 = verify(path)
    return regressor
