"""SPIN's loop (Kolotouros et al. 2019, section 3.3): fit the body to keypoints from the network's own estimate, keep
the better fit of each image, and train the network on it. So images of real people without labels become examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.body.landmarks import body_landmarks, world_from_local
from hmrkit.body.pose_prior import load_pose_prior
from hmrkit.fitting.penalties import bent_backwards, geman_mcclure, hinge_signs, landmark_weights
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.regressors import BodyEstimate
from hmrkit.regressors.crop_camera import crop_camera, project, translation
from hmrkit.training.examples import Examples, Truth


@dataclass(frozen=True)
class LoopFitOptions:
    """`iterations` of Adam a fit. Noise levels in crop pixels and radians; `good_px`: a fit whose landmarks lie
    farther off (weighted mean) teaches nothing."""

    iterations: int = 40
    rate: float = 0.03
    noise_px: float = 2.0
    outlier_px: float = 12.0
    prior: float = 0.3
    shape: float = 1.0
    hinge_rad: float = 0.05
    good_px: float = 6.0


class LoopFit:
    """The best fit so far of each of N unlabelled examples, whose `observation.landmarks.points_2d` are fitted to. The
    first ones are the examples' own `truth`, NaN where there is none.

    ``loop(rows, estimate)`` fits `rows` (B,) from a network's estimate, keeps what got better, and returns the best
    fits as `Truth` with a mask (B,) of those good enough to learn from.
    """

    def __init__(self, examples: Examples, body: Body, options: LoopFitOptions | None = None) -> None:
        self.examples, self.body, self.options = examples, body, options or LoopFitOptions()
        self.points = body_landmarks(body)
        self.prior = load_pose_prior(body.device)
        self.weights, self.hinges = landmark_weights(body.device), hinge_signs(body.device)
        self.best = examples.truth
        self.error_px = self._first_errors()

    def __call__(self, rows: Tensor, estimate: BodyEstimate) -> tuple[Truth, Tensor]:
        device = self.body.device
        part = self.examples[rows].to(device)
        detected = part.observation.landmarks.points_2d
        made, error = self._fit(estimate, detected, part.truth.focal_px)
        better = error.cpu() < self.error_px[rows]
        chosen = rows[better]
        self.error_px[chosen] = error.cpu()[better]
        for name, values in made.items():
            getattr(self.best, name)[chosen] = values.cpu()[better]
        return Examples(self.examples.observation, self.best)[rows].to(device).truth, (
            self.error_px[rows] < self.options.good_px
        ).to(device)

    @torch.no_grad()
    def _first_errors(self) -> Tensor:
        """How far (N,) px the first fits' landmarks lie from the detected ones."""
        errors = []
        for start in range(0, len(self.examples), 128):
            part = self.examples[slice(start, start + 128)].to(self.body.device)
            truth, detected = part.truth, part.observation.landmarks.points_2d
            local = torch.cat([truth.global_orient[:, None], truth.body_pose], 1)
            points, _ = self.points(world_from_local(local), truth.betas)
            camera = crop_camera(truth.transl_c, truth.focal_px)
            off = (project(points, camera, truth.focal_px) - detected[..., :2]).norm(dim=-1)
            errors.append(self._mean_error(off, detected[..., 2] * self.weights).cpu())
        return torch.cat(errors).nan_to_num(nan=torch.inf)

    def _mean_error(self, off: Tensor, weights: Tensor) -> Tensor:
        """Mean (B,) of distances (B,33); infinite where few landmarks are visible: such an
        image cannot judge a fit."""
        error = (weights * off).sum(1) / weights.sum(1).clamp_min(1e-3)
        return torch.where(weights.sum(1) > 0.4 * self.weights.sum(), error, torch.inf)

    def _fit(self, estimate: BodyEstimate, detected: Tensor, focal_px: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Parameters by name, and the mean distance (B,) in px of the landmarks that they leave."""
        o = self.options
        first = estimate.global_orient.detach()
        start = estimate.crop_camera.detach()
        pose = matrix_to_axis_angle(estimate.body_pose.detach()).requires_grad_()
        rotation = torch.zeros_like(pose[:, 0]).requires_grad_()
        betas = estimate.betas.detach().clone().requires_grad_()
        moved = torch.zeros_like(start).requires_grad_()
        solver = torch.optim.Adam([pose, rotation, betas, moved], lr=o.rate, betas=(0.9, 0.95))
        weights = detected[..., 2] * self.weights

        def camera() -> Tensor:
            return torch.cat([start[:, :1].clamp_min(0.1) * moved[:, :1].exp(), start[:, 1:] + moved[:, 1:]], 1)

        def off() -> Tensor:
            local = torch.cat([(axis_angle_to_matrix(rotation) @ first)[:, None], axis_angle_to_matrix(pose)], 1)
            points, _ = self.points(world_from_local(local), betas)
            return (project(points, camera(), focal_px) - detected[..., :2]).square().sum(-1).add(1e-4).sqrt()

        with torch.enable_grad():
            for step in range(o.iterations):
                solver.param_groups[0]["lr"] = o.rate * (1 - step / o.iterations) ** 0.7
                solver.zero_grad()
                energy = (weights * geman_mcclure(off(), o.noise_px, o.outlier_px)).sum(1)
                energy = energy + o.prior * self.prior(pose) + bent_backwards(pose, self.hinges, o.hinge_rad)
                energy = energy + o.shape * betas.square().sum(1)
                energy.sum().backward()
                solver.step()
        with torch.no_grad():
            error = self._mean_error(off(), weights)
            made = {
                "global_orient": axis_angle_to_matrix(rotation) @ first,
                "body_pose": axis_angle_to_matrix(pose),
                "betas": betas.detach(),
                "transl_c": translation(camera(), focal_px),
            }
            joints = self.body.joints_only(made["global_orient"], made["body_pose"], made["betas"]).joints
            made["joints_2d"] = project(joints, camera(), focal_px)
        return made, error
