"""What BlazePose and the integral head on its maps estimate from crops: landmarks in the crop, and in metres.

3D is mostly the integral head's (`hmrkit.blazepose.integral_head`), trained on rendered people whose joints are known
to the millimetre, BlazePose on bodies that were fitted to photographs. In the image BlazePose, which has seen real
people, is left alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from hmrkit.blazepose.integral_head import WEIGHTS as POINTS_WEIGHTS
from hmrkit.blazepose.network import CROP_SIZE, MASK_LAYERS, WEIGHTS, BlazePoseOutput, load_network
from hmrkit.blazepose.side_bias import flipped_back, without_side_bias
from hmrkit.blazepose.with_points import PoseMaps, load_with_points
from hmrkit.engines import frozen
from hmrkit.skeletons import BLAZEPOSE_33, BLAZEPOSE_FACE
from hmrkit.weights import verify

BODY = len(BLAZEPOSE_33)
HIPS = BLAZEPOSE_33.indices("left_hip", "right_hip")
FACE = list(range(BLAZEPOSE_FACE))
# The integral head's part of 3D. On four views of a real man `fit` errs by 108.1 / 72.7 mm (MPJPE / PA-MPJPE) with
# none of it, 101.7 / 66.2 with half, 100.4 / 64.4 with this, 100.7 / 64.4 with all.
POINTS_SHARE = 0.75


class BlazePoseReader:
    """`flip_test` averages with the mirrored crop at twice the cost; without `points` 3D is BlazePose's alone."""

    def __init__(self, device: torch.device, points: bool = True, flip_test: bool = False) -> None:
        self.weights_sha256 = verify(WEIGHTS) + (verify(POINTS_WEIGHTS) if points else "")
        self.alone = None if points else load_network(device, without=MASK_LAYERS)
        self.run = frozen(load_with_points(device)) if points else None
        self.flip_test = flip_test

    def __call__(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Crops (N,3,256,256) in [0, 1] -> x, y px and visibility (N,39,3), world (N,33,3) m, presence (N)."""
        outputs = [self._predict(crops)]
        if self.flip_test:
            outputs.append(flipped_back(self._predict(crops.flip(-1))))
        points = torch.stack([_refined(output) for output in outputs]).mean(0)
        world = torch.stack([output.world[:, :BODY] for output in outputs]).mean(0)
        return points, world, torch.stack([output.presence for output in outputs]).mean(0)

    def _predict(self, crops: Tensor) -> BlazePoseOutput:
        """BlazePose's prediction, bias-corrected, with heatmaps; its 3D is blended from both networks."""
        if self.alone is not None:
            return without_side_bias(self.alone(crops, heatmaps=True))
        assert self.run is not None
        maps = PoseMaps(*self.run(crops))
        output = without_side_bias(maps.output)
        points = maps.points_world[:, -BODY:]
        return replace(
            output, world=torch.cat([blend_world(output.world[:, :BODY], points), output.world[:, BODY:]], 1)
        )


def blend_world(own: Tensor, points: Tensor) -> Tensor:
    """World landmarks (N,33,3) m of BlazePose and of the integral head -> of both, about the middle of the hips.

    Faces stand where both say but look where BlazePose says: from rendered ones the head has learned to see real ones
    look up.
    """
    own, points = (world - world[:, HIPS].mean(1, keepdim=True) for world in (own, points))
    both = torch.lerp(own, points, POINTS_SHARE)
    both[:, FACE] = own[:, FACE] + (both - own)[:, FACE].mean(1, keepdim=True)
    return both


def _refined(output: BlazePoseOutput) -> Tensor:
    """Landmarks as x, y px of the crop and visibility in [0, 1]: (N,39,3)."""
    assert output.heatmaps is not None
    xy = refine_by_heatmaps(output.landmarks[..., :2], output.heatmaps)
    return torch.cat([xy, output.landmarks[..., 3:4].sigmoid()], -1)


def refine_by_heatmaps(xy: Tensor, heatmaps: Tensor, kernel: int = 7, threshold: float = 0.5) -> Tensor:
    """Move landmarks (N,K,2) crop px to the centre of mass of the heatmap (N,K,h,w), logits, about each.

    As MediaPipe's ``RefineLandmarksFromHeatmap``: a window of `kernel` cells about the landmark, and only where the
    heatmap's peak in it reaches `threshold`. Cell i stands for pixel i x stride, not for its own middle: with half a
    cell added all landmarks move right and down by 1 % of a person's height against the regressed ones.
    """
    cells = heatmaps.shape[-1]
    stride = CROP_SIZE / cells
    half = kernel // 2
    offsets = torch.arange(-half, half + 1, device=xy.device)
    cell = (xy / stride).floor().long().clamp(-kernel, cells + kernel)
    across = cell[..., 0, None] + offsets  # (N,K,7)
    down = cell[..., 1, None] + offsets
    inside = ((across >= 0) & (across < cells))[..., None, :] & ((down >= 0) & (down < cells))[..., :, None]
    index = down.clamp(0, cells - 1)[..., :, None] * cells + across.clamp(0, cells - 1)[..., None, :]
    window = heatmaps.flatten(2).gather(2, index.flatten(2)).view(index.shape).sigmoid() * inside
    mass = window.sum((-1, -2)).clamp_min(1e-6)
    x = (window.sum(-2) * across).sum(-1) / mass
    y = (window.sum(-1) * down).sum(-1) / mass
    sure = window.amax((-1, -2)) >= threshold
    return torch.where(sure[..., None], torch.stack([x, y], -1) * stride, xy)
