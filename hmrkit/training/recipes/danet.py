"""DaNet's recipe: bodies from images and from synthetic landmarks, and from images all that lies between (eq. 1).

The embedded backbone is trained already and stays as it ships. IUV maps that images should show are made from the true
bodies (`hmrkit.synthetic.iuv.SurfacePoints`). People without images teach the global stream alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hmrkit.backbones import Features
from hmrkit.body import Body, load_body
from hmrkit.regressors import CropContext
from hmrkit.regressors.crop_camera import CROP
from hmrkit.regressors.danet import PARTS, DanetNetwork, DanetRegressor, Dense, Streams, build
from hmrkit.regressors.danet_iuv import cell_centres, crop_about
from hmrkit.synthetic.iuv import SurfacePoints
from hmrkit.training.ablation import Variant
from hmrkit.training.example_source import ImageData
from hmrkit.training.examples import Truth
from hmrkit.training.loop import LoopConfig
from hmrkit.training.losses import LossWeights, body_loss, mean_length
from hmrkit.training.recipe import RegressorRecipe
from hmrkit.training.regressors import on_shipped_backbone, train_supervised

EXTRAS = ()

# A joint's heatmap (standard deviation, share of the crop), and how far outside of the crop it may lie to be learned.
HEAT_WIDTH, NEAR = 0.05, 1.2


@dataclass(frozen=True)
class Terms:
    """Weights of DaNet's own terms: L_iuv and L_roi (eq. 3), L_orth (eq. 4), L_refine (section 4.3)."""

    iuv: float = 1.0
    uv: float = 1.0
    joints: float = 4.0
    heat: float = 4.0
    orthogonality: float = 0.5
    rotations: float = 2.0
    positions: float = 2.0


@dataclass(frozen=True, kw_only=True)
class DanetRecipe(RegressorRecipe):
    """`terms`: weights beside those of the body's loss."""

    network: DanetNetwork = field(default_factory=DanetNetwork)
    terms: Terms = field(default_factory=Terms)


PRESETS: dict[str, DanetRecipe] = {
    "cpu": DanetRecipe(
        loop=LoopConfig(steps=3_500, learning_rate=1e-3, weight_decay=0.04, log_every=50),
        data=ImageData(images=81_920),
    ),
    "gpu": DanetRecipe(
        loop=LoopConfig(steps=20_000, learning_rate=1e-3, warmup=500, weight_decay=0.04, log_every=200),
        data=ImageData(batch=256),
    ),
}


class DanetLoss:
    """Eq. 1 on B crops (`hmrkit.training.regressors.BatchLoss`); without maps L_target alone."""

    def __init__(self, body: Body, terms: Terms) -> None:
        self.points, self.terms = SurfacePoints(body), terms

    def __call__(
        self,
        model: DanetRegressor,
        features: Features,
        context: CropContext,
        truth: Truth,
        body: Body,
        weights: LossWeights,
    ) -> Tensor:
        streams, terms = model.streams(features), self.terms
        target = body_loss(streams.estimate, truth, body, weights)
        target = target + terms.orthogonality * orthogonality(streams.columns)
        if streams.dense is None:
            return target
        size = streams.dense.heat.shape[-1]
        image = self.points.images(
            truth.global_orient, truth.body_pose, truth.betas, truth.transl_c, truth.focal_px / CROP, size
        ).permute(0, 3, 1, 2)
        between = self._intermediate(streams, streams.dense, truth, image, model.retained)
        return target + between + self._refine(streams, truth, body, model.network.refinement == "position")

    def _intermediate(self, streams: Streams, dense: Dense, truth: Truth, image: Tensor, retained: Tensor) -> Tensor:
        """L_inter (eq. 3). True partial maps are cut from the true global ones as the estimated ones are."""
        terms = self.terms
        joints = truth.joints_2d / (CROP / 2) - 1
        near = (joints.abs() < NEAR).all(-1, keepdim=True)
        roi = terms.joints * mean_length(torch.where(near, dense.joints - joints, 0.0))
        roi = roi + terms.heat * (dense.heat - heatmaps(joints, dense.heat)).abs().mean()
        total = roi + iuv_loss(dense.raw, image[:, 0].long(), image[:, 1:], terms)
        if streams.partial is None or streams.centre is None or streams.scale is None:
            return total
        side = streams.partial.shape[-1]
        cut = crop_about(image, streams.centre.detach(), streams.scale.detach(), side, mode="nearest")
        channel = channel_of_part(retained, 1 + PARTS)
        part = channel[torch.arange(len(channel), device=image.device)[:, None, None], cut[:, :, 0].long()]
        return total + iuv_loss(streams.partial.flatten(0, 1), part.flatten(0, 1), cut[:, :, 1:].flatten(0, 1), terms)

    def _refine(self, streams: Streams, truth: Truth, body: Body, supervised: bool) -> Tensor:
        """L_refine: rotations from unrefined features, positions from both kinds of position features."""
        if streams.early is None:
            return streams.columns.new_zeros(())
        root = streams.early.global_orient - truth.global_orient
        off = torch.cat([root[:, None], streams.early.body_pose - truth.body_pose], 1)
        total = self.terms.rotations * off.abs().mean()
        if supervised:
            joints = body.joints_only(truth.global_orient, truth.body_pose, truth.betas).joints
            wanted = joints - joints[:, :1]
            total = total + self.terms.positions * sum(mean_length(found - wanted) for found in streams.positions)
        return total


def orthogonality(columns: Tensor) -> Tensor:
    """L_orth: ``||R^T R - 1||`` of columns (B,24,3,2|3), which is zero where they are those of a rotation."""
    products = (columns[..., :, None] * columns[..., None, :]).sum(-3)
    return mean_length((products - torch.eye(columns.shape[-1], device=columns.device)).flatten(-2))


def heatmaps(joints: Tensor, like: Tensor) -> Tensor:
    """A bell about each of `joints` (B,24,2), the crop's edges at -1 and 1, 1 at its top; of the shape of `like`."""
    x, y = (
        (cell_centres(count, joints.device) - at[..., None]).square()
        for count, at in zip(like.shape[:-3:-1], joints.unbind(-1), strict=True)
    )
    return torch.exp(-(x[..., None, :] + y[..., :, None]) / (2 * (2 * HEAT_WIDTH) ** 2))


def iuv_loss(raw: Tensor, part: Tensor, uv: Tensor, terms: Terms) -> Tensor:
    """L_iuv of estimated maps (B,3,1+P,h,w) where `part` (B,h,w) and `uv` (B,2,h,w) are true: cross-entropy of Index,
    and in the foreground the distances of U and V of the true part."""
    u, v, index = raw.unbind(1)
    at = part[:, None]
    found = torch.cat([u.gather(1, at), v.gather(1, at)], 1)
    foreground = (at > 0).to(raw.dtype)
    distance = ((found - uv).abs() * foreground).sum() / foreground.sum().clamp_min(1)
    return terms.iuv * functional.cross_entropy(index, part) + terms.uv * distance


def channel_of_part(retained: Tensor, classes: int) -> Tensor:
    """For each joint the channel (24,classes) of each class among those `retained` (24,kept); 0 of those that are not,
    which are background then."""
    channels = torch.arange(retained.shape[1], device=retained.device).expand_as(retained)
    return torch.zeros_like(retained[:, :1]).repeat(1, classes).scatter_(1, retained, channels)


def train(
    name: str,
    recipe: DanetRecipe,
    out: str | Path,
    *,
    device: str | torch.device = "cpu",
    **rest: Any,
) -> Path:
    """See `hmrkit.training.recipes.Recipe`."""
    regressor = on_shipped_backbone(build, name, recipe)
    loss = DanetLoss(load_body(device=device), recipe.terms)
    return train_supervised(regressor, recipe, out, device=device, loss=loss, **rest)


def _line(group: str, name: str, changes: dict[str, Any], *figures: float) -> Variant:
    """`figures` on Human3.6M, mm: PVE, MPJPE, PA-MPJPE; of table 2 the last alone."""
    names = ("H36M PVE mm", "H36M MPJPE mm", "H36M PA-MPJPE mm")
    return Variant(group, name, changes, dict(zip(names[-len(figures) :], figures, strict=True)) if figures else {})


_ONE_STREAM = {"network.streams": "global", "network.drop": "none"}
_SEGMENTATION, _CONVOLUTIONAL = ({"network.representation": name} for name in ("segmentation", "features"))
_NO_DROP, _FIXED = {"network.drop": "none"}, {"network.learned_edges": False}
_UNREFINED, _DIRECT, _IMPLICIT = ({"network.refinement": name} for name in ("none", "direct", "implicit"))
_D_NET = _UNREFINED | _NO_DROP
_ROTATIONS, _READ, _STREAMS = "rotations (table 2)", "representation (table 7)", "streams (table 8)"
_REFINEMENT, _EDGES, _DROPPING = "refinement (table 9)", "edges, PartDrop (table 10)", "dropping (tables 4, 10)"

ABLATION: tuple[Variant, ...] = (
    _line(_ROTATIONS, "matrices", {"network.rotations": "matrix"}, 42.9),
    _line(_ROTATIONS, "6D numbers", {}, 40.5),
    _line(_READ, "ConvFeat", _ONE_STREAM | _CONVOLUTIONAL, 98.9, 82.5, 60.3),
    _line(_READ, "Segmentation", _ONE_STREAM | _SEGMENTATION, 90.4, 74.6, 57.1),
    _line(_READ, "IUV", _ONE_STREAM, 87.8, 71.6, 55.4),
    _line(_STREAMS, "Baseline, one stream", _ONE_STREAM, 87.8, 71.6, 55.4),
    _line(_STREAMS, "D-Net", _D_NET, 74.3, 61.8, 48.5),
    _line(_STREAMS, "D-Net-ES, equal scales", _D_NET | {"network.scales": "equal"}, 76.1, 63.1, 49.8),
    _line(_STREAMS, "D-Net-AP, all parts", _D_NET | {"network.simplify": False}, 76.8, 63.4, 49.5),
    _line(_REFINEMENT, "w/o Ref.", _UNREFINED, 71.7, 59.1, 46.1),
    _line(_REFINEMENT, "Direct Ref.", _DIRECT, 70.3, 58.1, 45.5),
    _line(_REFINEMENT, "Pos.-implicit Ref.", _IMPLICIT, 69.2, 56.5, 44.7),
    _line(_REFINEMENT, "Pos.-aided Ref.", {}, 66.5, 54.6, 42.9),
    _line(_EDGES, "D-Net", _D_NET, 74.3, 61.8, 48.5),
    _line(_EDGES, "D-Net + PartDrop", _UNREFINED, 71.7, 59.1, 46.1),
    _line(_EDGES, "Direct", _DIRECT | _FIXED | _NO_DROP, 72.1, 59.4, 46.9),
    _line(_EDGES, "Direct + LearntEdge", _DIRECT | _NO_DROP, 72.7, 59.6, 47.0),
    _line(_EDGES, "Direct + LearntEdge + PartDrop", _DIRECT, 70.3, 58.1, 45.5),
    _line(_EDGES, "Pos.-aided", _FIXED | _NO_DROP, 70.8, 57.1, 45.9),
    _line(_EDGES, "Pos.-aided + LearntEdge", _NO_DROP, 68.9, 55.8, 44.9),
    _line(_EDGES, "Pos.-aided + LearntEdge + PartDrop", {}, 66.5, 54.6, 42.9),
    # Of Dropout and DropBlock the paper prints figures on COCO alone, where higher is better: they stand in the names.
    _line(_DROPPING, "none (COCO AP 31.9)", _NO_DROP, 68.9, 55.8, 44.9),
    _line(_DROPPING, "Dropout (COCO AP 30.6)", {"network.drop": "unit"}),
    _line(_DROPPING, "DropBlock (COCO AP 32.0)", {"network.drop": "block"}),
    _line(_DROPPING, "PartDrop (COCO AP 33.8)", {}, 66.5, 54.6, 42.9),
)
