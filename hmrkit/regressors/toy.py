"""A regressor without weights, for tests of the chain: a standing body, with arms that tell crops apart."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.regressors import BodyEstimate, CropContext
from hmrkit.regressors.frame import FrameRegressor
from hmrkit.skeletons import SMPL_24

CROP_M = 2.2  # what an upright crop of a standing person spans


class ToyRegressor(FrameRegressor):
    """See `hmrkit.regressors.Regressor`. Both arms hang by a radian and a half less the crop's mean brightness."""

    def __init__(self) -> None:
        super().__init__("toy", NoBackbone())

    def estimate(self, crops: Tensor, context: CropContext | None = None) -> BodyEstimate:
        batch = len(crops)
        facing = torch.diag(crops.new_tensor([1.0, -1.0, -1.0])).expand(batch, 3, 3)
        rotations = crops.new_zeros(batch, 23, 3)
        hang = 1.5 - crops.mean((1, 2, 3))
        for side, sign in (("left", -1.0), ("right", 1.0)):
            rotations[:, SMPL_24.index[f"{side}_shoulder"] - 1, 2] = sign * hang
        camera = crops.new_tensor([2 / CROP_M, 0.0, 0.0]).expand(batch, 3)
        return BodyEstimate(facing, axis_angle_to_matrix(rotations), crops.new_zeros(batch, 10), camera)


class NoBackbone:
    """The crops that a network without a backbone wants."""

    input_size = (64, 64)
    global_channels = 0

    def use_engine(self) -> None:
        """There is nothing to run."""


def load(
    name: str,
    checkpoint: str | Path | None,
    *,
    device: str | torch.device,
    weights: str | None = "default",
    backbone: str | None = None,
) -> ToyRegressor:
    """See `hmrkit.regressors.load_regressor`. Takes no checkpoint and runs where its crops are."""
    return ToyRegressor().eval()
