"""GLNet's pixel refinement sub-network: every cell of a grid proposes keypoints, and has features of the body's parts.

Source: Xiao et al., Global-to-Pixel Regression for Human Mesh Recovery, section 3.3: the body's parts are adaptive
points (AdaptivePose, Xiao et al. 2022). From a cell's middle one hop leads to a point for each part, predicted by the
cell's feature; from there another hop leads to each keypoint of the part, predicted by the feature at the point. Only
where both hops end is supervised, so the points go where a part's local context can be seen.

The grid here is the map at stride 16 (the paper: stride 4), which is kept with every training example."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from hmrkit.blazepose.integral_head import SeparableBlock
from hmrkit.skeletons import SMPL_24

# Parts of four joints each; each has one adaptive point.
PARTS = tuple(
    SMPL_24.indices(*names)
    for names in (
        ("pelvis", "spine1", "spine2", "spine3"),
        ("neck", "head", "left_collar", "right_collar"),
        *((f"{s}_shoulder", f"{s}_elbow", f"{s}_wrist", f"{s}_hand") for s in ("left", "right")),
        *((f"{s}_hip", f"{s}_knee", f"{s}_ankle", f"{s}_foot") for s in ("left", "right")),
    )
)
_IN_PARTS = [joint for part in PARTS for joint in part]
_IN_ORDER = [_IN_PARTS.index(joint) for joint in range(24)]
GRID_STRIDE, CONTEXT_STRIDE = 16, 32
# Part of the cells that are a person's at the start: keeps the many others from drowning them in the first steps.
_PRIOR = 0.08


@dataclass(frozen=True)
class Cells:
    """What the N = h w cells of B crops propose. Places are in crops of 2 x 2 (middle 0, right and lower edges 1).

    `features` (B,C,h,w); `scores` (B,N), logits that a cell is a good place to look from; `centres` (N,2); `points`
    (B,N,6,2), the adaptive points of `PARTS`; `keypoints` (B,N,24,2).
    """

    features: Tensor
    scores: Tensor
    centres: Tensor
    points: Tensor
    keypoints: Tensor

    def best(self) -> Tensor:
        """The cell (B,1) of the highest score."""
        return self.scores.argmax(1, keepdim=True)

    def gathered(self, cells: Tensor) -> Tensor:
        """Features (B,K,7C) of `cells` (B,K): a cell's own, and at its parts' points."""
        at = torch.cat([self.centres[cells][:, :, None], take(self.points, cells)], 2)
        return sample(self.features, at.flatten(1, 2)).unflatten(1, at.shape[1:3]).flatten(2)


class LocalEncoding(nn.Module):
    """A backbone's maps -> `Cells`: the 2D keypoint-guided local encoding module.

    `strides` and `channels` are those of the backbone. The maps at strides 16 and 32 are read, standardised by their
    running statistics. Without `two_hops` there is one hop from the cell itself, and a cell has no other features.
    """

    def __init__(self, strides: tuple[int, ...], channels: tuple[int, ...], width: int, two_hops: bool = True) -> None:
        super().__init__()
        # Counted from the coarsest: the finest map may be left out.
        self.grid, self.context = (strides.index(s) - len(strides) for s in (GRID_STRIDE, CONTEXT_STRIDE))
        self.from_grid, self.from_context = (
            nn.Sequential(nn.BatchNorm2d(channels[at], affine=False), nn.Conv2d(channels[at], width, 1))
            for at in (self.grid, self.context)
        )
        self.block = SeparableBlock(width)
        self.two_hops = two_hops
        self.score = nn.Conv2d(width, 1, 1)
        self.first_hop = nn.Conv2d(width, 2 * len(PARTS), 1) if two_hops else None
        self.second_hop = nn.Conv2d(width, 2 * 24, 1)
        nn.init.constant_(self.score.bias, torch.logit(torch.tensor(_PRIOR)).item())  # type: ignore[arg-type]

    def forward(self, maps: tuple[Tensor, ...]) -> Cells:
        fine, coarse = self.from_grid(maps[self.grid]), self.from_context(maps[self.context])
        height, width = fine.shape[-2:]
        joined = fine.float() + functional.interpolate(
            coarse.float(), (height, width), mode="bilinear", align_corners=False
        )
        features = functional.relu(self.block(joined)).float()
        centres = cell_centres(height, width, features)
        points = centres[:, None].expand(len(features), -1, len(PARTS), -1)
        if self.first_hop is not None:
            hops = self.first_hop(features).float().flatten(2).mT
            points = points + hops.unflatten(2, (len(PARTS), 2))
        scores = self.score(features).float().flatten(1)
        return Cells(features, scores, centres, points, self._keypoints(features, points))

    def _keypoints(self, features: Tensor, points: Tensor) -> Tensor:
        """Points (B,N,6,2) -> keypoints (B,N,24,2): where the second hop from each point ends.

        The hop is linear in the feature at the point, and a sample's weights add up to one. So the map is brought to
        hops first and they are sampled, which costs a tenth of sampling features first.
        """
        batch, parts = len(points), len(PARTS)
        hops = self.second_hop(features).float().unflatten(1, (parts, 8)).flatten(0, 1)
        found = sample(hops, points.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, parts))
        found = found.unflatten(3, (4, 2)).permute(0, 2, 1, 3, 4) + points[:, :, :, None]
        return found.flatten(2, 3)[:, :, _IN_ORDER]


def cell_centres(height: int, width: int, like: Tensor) -> Tensor:
    """The middles (h w, 2) of a grid's cells in a crop of 2 x 2, on the device of `like`."""
    across, down = ((torch.arange(n, device=like.device) + 0.5) * (2 / n) - 1 for n in (width, height))
    return torch.stack(torch.meshgrid(across, down, indexing="xy"), -1).flatten(0, 1)


def sample(maps: Tensor, points: Tensor) -> Tensor:
    """Maps (B,C,h,w) at points (B,K,2) of a crop of 2 x 2 -> (B,K,C), bilinear; outside, what the edge has."""
    with torch.autocast(maps.device.type, enabled=False):
        found = functional.grid_sample(
            maps.float(), points.float()[:, :, None], padding_mode="border", align_corners=False
        )
    return found[..., 0].mT


def take(values: Tensor, cells: Tensor) -> Tensor:
    """Of values (B,N,...) those of `cells` (B,K) -> (B,K,...)."""
    rows = torch.arange(len(values), device=values.device)[:, None]
    return values[rows, cells]
