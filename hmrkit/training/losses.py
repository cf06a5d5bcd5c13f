"""How far regressed bodies are from the true ones: the loss to train by, the errors to watch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from hmrkit import metrics
from hmrkit.body import Body
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.crop_camera import CROP, crop_camera, project
from hmrkit.training.examples import Truth


@dataclass(frozen=True)
class LossWeights:
    """Of the terms of `body_loss`."""

    rotations: float = 8.0
    betas: float = 0.02
    joints: float = 5.0
    vertices: float = 5.0
    projection: float = 4.0
    camera: float = 1.0


def body_loss(estimate: BodyEstimate, truth: Truth, body: Body, weights: LossWeights | None = None) -> Tensor:
    """HMR's and SPIN's supervised terms: rotations, shape, joints and vertices about the pelvis (m), joints in the
    image, the crop's camera. Distances count linearly, so that a few outliers do not dominate a batch. Only the
    last estimate enters the loss: earlier ones that enter it overshoot (Kanazawa et al. 2018, section 3.2)."""
    w = weights or LossWeights()
    pose = body if w.vertices else body.joints_only
    wanted = pose(truth.global_orient, truth.body_pose, truth.betas)
    made = pose(estimate.global_orient, estimate.body_pose, estimate.betas)
    root, wanted_root = made.joints[:, :1], wanted.joints[:, :1]
    rotations = torch.cat([estimate.global_orient[:, None], estimate.body_pose], 1)
    wanted_rotations = torch.cat([truth.global_orient[:, None], truth.body_pose], 1)
    projected = project(made.joints, estimate.crop_camera, truth.focal_px)
    off = (projected - truth.joints_2d) / (CROP / 2)
    wanted_camera = crop_camera(truth.transl_c, truth.focal_px)
    total = w.rotations * (rotations - wanted_rotations).square().mean()
    total = total + w.betas * (estimate.betas - truth.betas).square().mean()
    total = total + w.joints * mean_length((made.joints - root) - (wanted.joints - wanted_root))
    total = total + w.projection * mean_length(off.clamp(-2, 2))
    total = total + w.camera * (estimate.crop_camera - wanted_camera).abs().clamp_max(2).mean()
    if w.vertices:
        total = total + w.vertices * mean_length((made.vertices - root) - (wanted.vertices - wanted_root))
    return total


class EstimateLoss(Protocol):
    """A loss of estimates whose truth is known. `body_loss` is one."""

    def __call__(
        self, estimate: BodyEstimate, truth: Truth, body: Body, weights: LossWeights | None = None
    ) -> Tensor: ...


def mean_length(vectors: Tensor) -> Tensor:
    """Of vectors (...,D), with a gradient at zero, too."""
    return (vectors.square().sum(-1) + 1e-8).sqrt().mean()


@torch.no_grad()
def errors(estimate: BodyEstimate, truth: Truth, body: Body) -> dict[str, float]:
    """MPJPE, PA-MPJPE (24 joints) and PVE in mm about the pelvis, and the joints' median distance in px."""
    truth = Truth(**{f.name: getattr(truth, f.name).to(body.device).float() for f in fields(Truth)})
    found = body(estimate.global_orient, estimate.body_pose, estimate.betas)
    wanted = body(truth.global_orient, truth.body_pose, truth.betas)
    pixels = (project(found.joints, estimate.crop_camera, truth.focal_px) - truth.joints_2d).norm(dim=-1)
    return {
        "MPJPE": metrics.mpjpe_mm(found.joints, wanted.joints),
        "PA": metrics.pa_mpjpe_mm(found.joints, wanted.joints),
        "PVE": metrics.pve_mm(found.vertices, wanted.vertices, found.joints[:, 0], wanted.joints[:, 0]),
        "px": float(pixels.median()),
    }
