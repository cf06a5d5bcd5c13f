"""GLNet's dynamic matching (Xiao et al., section 3.4): which cells of the grid learn to be a person's, and the loss.

The paper matches all N cells with T copies of the one truth and N - T empty ones, at the lowest cost in sum. Copies
cost the same in every cell and empties cost nothing, so the optimal assignment (Hungarian) gives the copies the T cells
of the lowest cost. That is one `topk` on the device for the whole batch, exact, without a loop over people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hmrkit.backbones import Features
from hmrkit.body import Body
from hmrkit.regressors import CropContext
from hmrkit.regressors.crop_camera import CROP
from hmrkit.regressors.glnet_cells import Cells, take
from hmrkit.training.examples import Truth, select_rows
from hmrkit.training.losses import LossWeights, body_loss

# Of the focal terms: alpha and beta of eq. 1 (Lin et al. 2017).
ALPHA, BETA = 0.25, 2.0
# The costs that need bodies are computed for so many times T cells, those of the lowest 2D cost.
CANDIDATES = 2
FAR = 2.0  # what is farther off (a crop is 2 x 2) counts no more: points behind the camera project anywhere


@dataclass(frozen=True)
class Matching:
    """`positives`: T. `cost`: what cells are matched by; the paper's own is ``2d`` (eq. 1), ``centre`` is no matching:
    the cells nearest to the body's middle. `bodies`: of so many matched cells, drawn anew each step, a body is posed;
    all T of them would cost five times as much and teach the same on average. `classification` and `keypoints` are the
    weights of eq. 2 beside the body's loss, which is 1."""

    positives: int = 20
    cost: Literal["2d", "2d+depth", "2d+depth+rotations", "centre"] = "2d"
    bodies: int = 4
    classification: float = 0.5
    keypoints: float = 10.0


@dataclass(frozen=True)
class MatchedLoss:
    """Eq. 2 on B crops (`hmrkit.training.regressors.BatchLoss`). People without images have no cells: the body's loss
    of their global estimate counts."""

    matching: Matching

    def __call__(
        self, model: Any, features: Features, context: CropContext, truth: Truth, body: Body, weights: LossWeights
    ) -> Tensor:
        base = model.base(features)
        if not model.refines(features):
            return body_loss(model.bodies(base), truth, body, weights)
        cells: Cells = model.cells(features.maps)
        target = keypoints_of(truth)
        matched = match(self.matching, model, base.detach(), cells, truth, body)
        classification = focal_loss(cells.scores, matched)
        keypoints = distance(take(cells.keypoints, matched), target).mean()
        # A mesh costs ten times what joints do: the cell of the lowest cost alone has one.
        count = 1 if weights.vertices else min(self.matching.bodies, matched.shape[1])
        chosen = matched[:, torch.randperm(matched.shape[1])[:count].sort().values] if count > 1 else matched[:, :1]
        estimate = model.bodies(model.refined(base, cells, chosen).flatten(0, 1))
        loss = body_loss(estimate, repeated(truth, count), body, weights)
        return loss + self.matching.classification * classification + self.matching.keypoints * keypoints


@torch.no_grad()
def match(matching: Matching, model: Any, base: Tensor, cells: Cells, truth: Truth, body: Body) -> Tensor:
    """The T cells (B,T) that learn to be a person's, the lowest cost first. `base`: global estimates (B,P)."""
    target, count = keypoints_of(truth), min(matching.positives, cells.scores.shape[1])
    if matching.cost == "centre":
        middle = target.clamp(-1, 1).mean(1, keepdim=True)
        return lowest((cells.centres - middle).norm(dim=-1), count)
    cost = matching_cost(cells, target)
    if matching.cost == "2d":
        return lowest(cost, count)
    candidates = lowest(cost, min(CANDIDATES * count, cost.shape[1]))
    estimate = model.bodies(model.refined(base, cells, candidates).flatten(0, 1))
    wanted = repeated(truth, candidates.shape[1])
    found_joints, wanted_joints = (
        body.joints_only(one.global_orient, one.body_pose, one.betas).joints for one in (estimate, wanted)
    )
    off = (found_joints - found_joints[:, :1]) - (wanted_joints - wanted_joints[:, :1])
    more = off[..., 2].abs().sum(1)
    if matching.cost == "2d+depth+rotations":
        found, right = (torch.cat([one.global_orient[:, None], one.body_pose], 1) for one in (estimate, wanted))
        more = more + (found - right).square().mean((2, 3)).sum(1)
    return take(candidates, lowest(take(cost, candidates) + more.view_as(candidates), count))


def matching_cost(cells: Cells, target: Tensor) -> Tensor:
    """Eq. 1 of every cell (B,N), for keypoints `target` (B,24,2): the focal classification cost and the L1 norm of the
    keypoints' distances, in half crops."""
    return focal_positive(cells.scores) + 2 * 24 * distance(cells.keypoints, target)


def lowest(cost: Tensor, count: int) -> Tensor:
    """The `count` columns (B,count) of the lowest cost (B,N), the lowest first."""
    return cost.topk(count, dim=1, largest=False).indices


def focal_positive(logits: Tensor) -> Tensor:
    """-alpha (1 - P)^beta log P of each logit."""
    return ALPHA * torch.sigmoid(-logits) ** BETA * softplus(-logits)


def focal_loss(logits: Tensor, matched: Tensor) -> Tensor:
    """The focal loss of scores (B,N) of which `matched` (B,T) are positive, in sum over the cells, for each positive
    (Lin et al. 2017)."""
    negative = (1 - ALPHA) * torch.sigmoid(logits) ** BETA * softplus(logits)
    total = negative.sum() + (focal_positive(take(logits, matched)) - take(negative, matched)).sum()
    return total / matched.numel()


def distance(keypoints: Tensor, target: Tensor) -> Tensor:
    """Mean L1 distance (B,K) of keypoints (B,K,24,2) from `target` (B,24,2), in half crops, for each coordinate."""
    return (keypoints - target[:, None]).abs().clamp_max(FAR).mean((2, 3))


def keypoints_of(truth: Truth) -> Tensor:
    """True joints (B,24,2) in a crop of 2 x 2."""
    return truth.joints_2d / (CROP / 2) - 1


def repeated(truth: Truth, count: int) -> Truth:
    """Each of B people `count` times in a row."""
    rows = torch.arange(len(truth.betas), device=truth.betas.device)
    return select_rows(truth, rows.repeat_interleave(count))
