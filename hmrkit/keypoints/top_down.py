"""Top-down keypoints: a crop about each person's box, a network on all crops of a batch of frames, points of the image.

Networks that answer with heatmaps derive from `HeatmapNetwork`, which reads the peaks to a fraction of a cell. Two
published ways differ in where the centre of a cell lies and in how the fraction is found:

- the first (Xiao et al. 2018, Sun et al. 2019): cell i lies at pixel `stride` * i; the peak moves a quarter of a cell
  towards its higher neighbour;
- unbiased (Huang et al. 2020, UDP; Zhang et al. 2020, DARK): the first and last cells lie at the first and last pixels;
  the peak of the blurred map's logarithm is found by a Newton step.

Their pixel i is the middle of a pixel, which is ``i + 0.5`` here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.crops import crop_batch, image_from_crop, middle_columns, region_from_boxes
from hmrkit.device import half_on_cuda, inference
from hmrkit.errors import WeightsError
from hmrkit.skeletons import COCO_17
from hmrkit.types import Camera
from hmrkit.weights import load_into

if TYPE_CHECKING:
    from hmrkit.keypoints import People

log = logging.getLogger(__name__)

EXPAND = 1.25  # a crop's height in the height of what holds the box
BLUR, BLUR_REACH = 2.0, 5  # cells: deviation of the blur ahead of the logarithm, and its half width
LOWEST = 1e-3  # of a blurred map, ahead of the logarithm
_LAST = "final_layer."
_PASSED_OVER = ("associate_keypoint_heads.", "data_preprocessor.")  # heads of other data sets, constants of mmpose
FARTHEST = 2.0  # cells of a Newton step: a flat map would send it anywhere


class TopDownEstimator:
    """See `hmrkit.keypoints.KeypointEstimator`. Nothing is kept between frames: the boxes say where people are.

    `network` takes crops (N,3,H,W) RGB in [0, 1] of `size` (H, W) px to points (N,17,3): x, y px of the crop and
    confidence, NaN where it found none.
    """

    skeleton = COCO_17
    has_depth = False

    def __init__(
        self,
        name: str,
        network: Callable[[Tensor], Tensor],
        size: tuple[int, int],
        weights_sha256: str,
        device: torch.device,
        dtype: torch.dtype,
        max_crops: int,
    ) -> None:
        self.name, self.network, self.size, self.weights_sha256 = name, network, size, weights_sha256
        self.device, self.dtype, self.max_crops = device, dtype, max_crops

    def reset(self, camera: Camera | None = None) -> None:
        """Nothing is kept between frames."""

    def __call__(
        self, frames: Tensor, frame_indices: Sequence[int], boxes: Sequence[Mapping[int, np.ndarray]]
    ) -> list[People]:
        people: list[People] = [{} for _ in boxes]
        who = [(row, track_id) for row, here in enumerate(boxes) for track_id in here]
        if not who:
            return people
        (height, width), columns = self.size, middle_columns(self.size)
        rows = np.array([row for row, _ in who])
        region = region_from_boxes(
            np.array([boxes[row][i] for row, i in who], np.float64), EXPAND, aspect=width / height
        )
        parts = []
        with inference(self.device, self.dtype):
            for start in range(0, len(who), self.max_crops):
                part = slice(start, start + self.max_crops)
                crops = crop_batch(frames, rows[part], region[part], height)[..., columns]
                parts.append(self.network(crops).float())
            points = torch.cat(parts).cpu().numpy()
        xy = points[..., :2].astype(np.float64) + np.array([columns.start, 0.0])
        points = np.concatenate([image_from_crop(xy, region, height), points[..., 2:]], -1).astype(np.float32)
        for (row, track_id), person in zip(who, points, strict=True):
            people[row][track_id] = (person, None)
        return people


class HeatmapNetwork(nn.Module):
    """A network of heatmaps of COCO's 17 keypoints; calling it gives what `TopDownEstimator` wants.

    `unbiased` says which way heatmaps are read (this module's text). `flip`: the mirrored crop is read too, and both
    heatmaps are averaged: it doubles the cost. On CUDA the heatmaps are made in float16.
    """

    def __init__(self, unbiased: bool, flip: bool = False) -> None:
        super().__init__()
        self.unbiased, self.flip = unbiased, flip

    def heatmaps(self, crops: Tensor) -> Tensor:
        """Crops (N,3,H,W) RGB in [0, 1] -> heatmaps (N,17,h,w), a peak of about 1 where a joint is sure."""
        raise NotImplementedError

    def forward(self, crops: Tensor) -> Tensor:
        """Crops (N,3,H,W) -> points (N,17,3): x, y px of the crop, NaN where no cell is above 0; confidence."""
        with half_on_cuda(crops.device):
            heat = self.heatmaps(crops).float()
            if self.flip:
                heat = (heat + self._flipped_back(self.heatmaps(crops.flip(-1)).float())) / 2
        with torch.autocast(crops.device.type, enabled=False):
            return self._points(heat, crops)

    def _points(self, heat: Tensor, crops: Tensor) -> Tensor:
        cells, best = (newton_peaks if self.unbiased else quarter_peaks)(heat)
        size, grid = (cells.new_tensor([x.shape[-1], x.shape[-2]]) for x in (crops, heat))
        if self.unbiased:
            points = cells * ((size - 1) / (grid - 1)) + 0.5
        else:
            # The flipped map, moved by a cell, is 1 / stride of a cell too far to the right, the mean half of that:
            # half a pixel.
            points = cells * (size / grid) + cells.new_tensor([0.0 if self.flip else 0.5, 0.5])
        points = torch.where(best[..., None] > 0, points, torch.nan)
        return torch.cat([points, best[..., None].clamp(0, 1)], -1)

    def _flipped_back(self, heat: Tensor) -> Tensor:
        """Heatmaps of mirrored crops as those of the crops themselves."""
        heat = heat.flip(-1)[:, list(COCO_17.mirror)]
        return heat if self.unbiased else torch.cat([heat[..., :1], heat[..., :-1]], -1)


def words_of(argument: str, known: Collection[str]) -> tuple[set[str], str]:
    """``word:word:FILE`` -> the words ahead of the file, of those `known`, and the file."""
    words: set[str] = set()
    while (parts := argument.partition(":"))[0] in known:
        words.add(parts[0])
        argument = parts[2]
    return words, argument


def named_parts(
    state: dict[str, Tensor], layouts: Iterable[tuple[str, str]], landmark: str, what: str, source: str | Path
) -> dict[str, Tensor]:
    """A checkpoint's tensors in float32, those of the backbone below ``backbone.``, those of the head at top level.

    `layouts` are the prefixes (backbone, head) that files may have, `landmark` is a tensor of `what`'s backbone. What
    serves training only (`_PASSED_OVER`) is left out and logged. WeightsError where no layout fits, or the joints are
    not COCO's 17.
    """
    fits = (pair for pair in layouts if pair[0] + landmark in state and f"{pair[1]}{_LAST}weight" in state)
    body, head = next(fits, (None, ""))
    if body is None:
        found = ", ".join(list(state)[:3])
        raise WeightsError(f"{source}: wanted {what} for keypoints, found {len(state)} other tensors ({found}, ...)")
    if (joints := len(state[f"{head}{_LAST}weight"])) != len(COCO_17):
        raise WeightsError(f"{source}: wanted {what} for COCO's {len(COCO_17)} keypoints, found one for {joints}")
    unused = [key for key in state if key.startswith(_PASSED_OVER)]
    if unused:
        log.info("%s: passed over %d tensors that inference does not read: %s", source, len(unused), ", ".join(unused))
    parts = {}
    for key, value in state.items():
        if key not in unused:
            of_head = key.startswith(head or _LAST)
            name = key.removeprefix(head) if of_head else f"backbone.{key.removeprefix(body)}"
            parts[name] = value.float() if value.is_floating_point() else value
    return parts


def fill(network: nn.Module, parts: dict[str, Tensor], source: str | Path, assign: bool = False) -> None:
    """`hmrkit.weights.load_into`, where counts that only training reads may be missing: old files lack them."""
    counts = {key: torch.tensor(0) for key in network.state_dict() if key.endswith(".num_batches_tracked")}
    load_into(network, counts | parts, source, assign)


def quarter_peaks(heat: Tensor) -> tuple[Tensor, Tensor]:
    """Peaks x, y (N,K,2) in cells of heatmaps (N,K,h,w), a quarter of a cell off towards the higher neighbour on each
    axis, not at the edges; and their values (N,K)."""
    near = _Neighbours(heat)
    height, width = heat.shape[-2:]
    inside = (near.x > 1) & (near.x < width - 1) & (near.y > 1) & (near.y < height - 1)
    uphill = torch.stack([near(1, 0) - near(-1, 0), near(0, 1) - near(0, -1)], -1).sign()
    return near.cells + 0.25 * uphill * inside[..., None], near.best


def newton_peaks(heat: Tensor) -> tuple[Tensor, Tensor]:
    """Peaks x, y (N,K,2) in cells of heatmaps (N,K,h,w) by DARK, eq. 7 on the blurred maps; and the values (N,K) of the
    maps as they are.

    The mixed derivative is the symmetric one of DARK's paper, so that mirrored maps have mirrored peaks; mmpose takes
    it from two of the four corners, which is the same on a Gaussian. Where the map has no peak the cell stays.
    """
    where = _Neighbours(heat)
    near = _Neighbours(_blurred(heat).clamp(LOWEST).log(), where.index)
    middle = near(0, 0)
    slope_x, slope_y = (near(1, 0) - near(-1, 0)) / 2, (near(0, 1) - near(0, -1)) / 2
    xx, yy = near(1, 0) - 2 * middle + near(-1, 0), near(0, 1) - 2 * middle + near(0, -1)
    xy = (near(1, 1) - near(1, -1) - near(-1, 1) + near(-1, -1)) / 4
    determinant = xx * yy - xy.square()
    is_peak = (determinant > 0) & (xx < 0)
    step = torch.stack([xy * slope_y - yy * slope_x, xy * slope_x - xx * slope_y], -1)
    step = step / torch.where(is_peak, determinant, 1)[..., None]
    return where.cells + torch.where(is_peak[..., None], step.clamp(-FARTHEST, FARTHEST), 0), where.best


class _Neighbours:
    """The highest cells of heatmaps (N,K,h,w), or those of a flat `index` (N,K), and the values around them."""

    def __init__(self, heat: Tensor, index: Tensor | None = None) -> None:
        self.height, self.width = heat.shape[-2:]
        self.flat = heat.flatten(2)
        self.index = self.flat.argmax(-1) if index is None else index
        self.x, self.y = self.index % self.width, self.index // self.width
        self.cells = torch.stack([self.x, self.y], -1).to(heat.dtype)
        self.best = self(0, 0)

    def __call__(self, right: int, down: int) -> Tensor:
        """The values (N,K) so many cells to the right and down; beyond the edge those of the edge."""
        x, y = (self.x + right).clamp(0, self.width - 1), (self.y + down).clamp(0, self.height - 1)
        return self.flat.gather(-1, (y * self.width + x)[..., None])[..., 0]


def _blurred(heat: Tensor) -> Tensor:
    """Heatmaps (N,K,h,w) blurred by a Gaussian, mirrored at the edges."""
    steps = torch.arange(-BLUR_REACH, BLUR_REACH + 1, device=heat.device, dtype=heat.dtype)
    weights = torch.exp(-steps.square() / (2 * BLUR**2))
    weights = (weights / weights.sum())[None, None, None]
    maps = functional.pad(heat.flatten(0, 1)[:, None], (BLUR_REACH,) * 4, mode="reflect")
    maps = functional.conv2d(functional.conv2d(maps, weights), weights.mT)
    return maps.view_as(heat)
