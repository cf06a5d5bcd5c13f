"""What ``--refine`` asks of a body's motion, and how that changes with it: an energy for the frames of many tracks.

The energy is a sum of negative log likelihoods, so its weights are noise levels in pixels, metres and seconds and need
no tuning against one another: keypoints in the image and in 3D (Geman-McClure, Bogo et al. 2016), a pose prior learned
from motion capture (`hmrkit.body.pose_prior`), knees and elbows that do not bend backwards, accelerations of joints
that are small unless the motion asks for more, feet that stand still where the image shows them still.

Every term is a squared residual, some with a robust penalty. Gauss-Newton's matrix has the penalty's slope as weight
(iteratively reweighted least squares), so the gradient is exact and the matrix is positive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from hmrkit.body.landmark_motion import LandmarkMotion, point_derivatives
from hmrkit.body.landmarks import BodyLandmarks, world_from_local
from hmrkit.body.pose_prior import PosePrior
from hmrkit.fitting.banded import Knots, spline_basis
from hmrkit.fitting.observations import CleanTrack, hips_middle
from hmrkit.fitting.penalties import Limits, RefineOptions, Residuals, landmark_weights, residuals, robust
from hmrkit.fitting.time_terms import FEET, TimeTerms
from hmrkit.geometry import axis_angle_rates, axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.types import Camera

_LEFT_HIP, _RIGHT_HIP = BLAZEPOSE_33.indices("left_hip", "right_hip")
_LANDMARKS = len(BLAZEPOSE_33)
_TIMED = 3 * (len(FEET) + 24)
_NEAREST = 0.1  # m: nothing is taken to be nearer to the camera


@dataclass(frozen=True)
class Piece:
    """Consecutive frames of a track: observations, and the body there before refinement: local `rotations`
    (T,24,3,3), `transl` (T,3) m, `betas` (T,10)."""

    clean: CleanTrack
    rotations: np.ndarray
    transl: np.ndarray
    betas: np.ndarray


@dataclass(frozen=True)
class Bodies:
    """Of all frames: `angles` (F,24,3) of the joints, the root's relative to its rotation before refinement, `local`
    and `world` rotations (F,24,3,3), `transl` (F,3) m; 33 landmarks and 24 joints, `points` (F,3,57) m about the
    pelvis, and their `levers` (F,24,3,57) (`hmrkit.body.landmark_motion`)."""

    angles: Tensor
    local: Tensor
    transl: Tensor
    world: Tensor
    points: Tensor
    levers: Tensor

    def where(self, chosen: Tensor, others: Bodies) -> Bodies:
        """These in the `chosen` frames (F,), the `others` elsewhere."""
        pairs = ((getattr(self, name), getattr(others, name)) for name in self.__dataclass_fields__)
        return Bodies(*(torch.where(chosen.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


class Energy:
    """The energy of some pieces, whose F frames and M `knots` stand in one row each."""

    def __init__(
        self, pieces: Sequence[Piece], camera: Camera, points: BodyLandmarks, prior: PosePrior, options: RefineOptions
    ) -> None:
        device = points.share.device

        def tensor(arrays: Sequence[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.concatenate(arrays).astype(np.float32, copy=False)).to(device)

        clean = [piece.clean for piece in pieces]
        lengths = [len(c.times) for c in clean]
        self.prior, self.options, self.count = prior, options, len(pieces)
        self.owner = torch.from_numpy(np.repeat(np.arange(len(pieces)), lengths)).to(device)
        self.focal, self.center = (tensor([a])[:, None] for a in (camera.focal_px, camera.center_px))
        self.pixels = tensor([c.pixels for c in clean]).mT
        self.height_sq = tensor([c.height for c in clean])[:, None].square()
        weights = tensor([c.weights for c in clean])
        self.known = tensor([np.tile(c.known, (len(c.times), 1)) for c in clean])
        self.weights_2d = weights**2 * landmark_weights(device)
        self.weights_3d = weights.clamp_min(0.1) * self.known * landmark_weights(device)
        self.knots = Knots([spline_basis(c.times, options.knot_s) for c in clean], device)

        rotations, self.transl = tensor([p.rotations for p in pieces]), tensor([p.transl for p in pieces])
        betas = tensor([p.betas for p in pieces])
        self.first, self.pose = rotations[:, :1], matrix_to_axis_angle(rotations[:, 1:])
        self.limits = Limits(self.pose, options)
        self.motion = LandmarkMotion(points, betas)
        placed = self.motion(world_from_local(rotations))[0][..., :_LANDMARKS].mT
        self.landmarks = self._scaled(tensor([c.landmarks for c in clean]), placed, lengths)
        self.over_time = TimeTerms(clean, placed + self.transl[:, None], self.transl[:, 2], options)

    def bodies(self, knots: Tensor) -> Bodies:
        """Bodies corrected by `knots` (M,75): axis-angles of 24 joints, the root's in the camera frame, and metres."""
        change = self.knots.to_frames(knots).view(-1, 25, 3)
        angles = torch.cat([change[:, :1], self.pose + change[:, 1:24]], 1)
        local = axis_angle_to_matrix(angles)
        local = torch.cat([local[:, :1] @ self.first, local[:, 1:]], 1)
        world = world_from_local(local)
        return Bodies(angles, local, self.transl + change[:, 24], world, *self.motion(world))

    def value(self, bodies: Bodies) -> Tensor:
        """Energy (P,) of each piece, float64: sums over its frames."""
        pose = bodies.angles[:, 1:]
        energies = [term.energy for term in self._terms(bodies)]
        energies += [self.options.prior * self.prior(pose), self.limits(pose)[0]]
        total = torch.zeros(self.count, dtype=torch.float64, device=self.owner.device)
        return total.index_add_(0, self.owner, torch.stack(energies).sum(0).double())

    def expanded(self, bodies: Bodies) -> tuple[Tensor, Tensor]:
        """The energy about `bodies` to second order in the knots: gradient (M,75) and Gauss-Newton's matrix as blocks
        (M,width+1,75,75) between knots m + d and m."""
        pose, prior = bodies.angles[:, 1:], self.options.prior
        _, likely_slope, same = self.prior.expanded(pose)
        _, limit_slope, limit_curvature = self.limits(pose)
        same = same.mul_(prior)
        same.diagonal(dim1=1, dim2=2).add_(limit_curvature)
        own = pad(prior * likely_slope + limit_slope, (3, 3))

        rows, terms = self._derivatives(bodies), self._terms(bodies)  # (F,75,249): by the frame's 75 numbers
        weight, slope = (torch.cat([getattr(term, name) for term in terms], 1) for name in ("weight", "slope"))
        blocks = rows.new_empty(3, len(rows), 75, 75)
        torch.baddbmm(pad(same, (3, 3, 3, 3)), rows * weight[:, None], rows.mT, out=blocks[0])
        feet, joints = terms[2:]
        timed = rows[..., -_TIMED:]
        if len(rows) > 1:
            ahead = torch.cat([feet.ahead[0], joints.ahead[0]], 1)
            torch.bmm(timed[:-1] * ahead[:, None], timed[1:].mT, out=blocks[1, :-1])
        if len(rows) > 2:
            timed = rows[..., -3 * 24 :]
            torch.bmm(timed[:-2] * joints.ahead[1][:, None], timed[2:].mT, out=blocks[2, :-2])
        gradient = own + (rows @ slope[..., None])[..., 0]
        return self.knots.from_frames(gradient), self.knots.blocks(blocks)

    def _terms(self, bodies: Bodies) -> tuple[Residuals, ...]:
        """In the image, in space, of feet that stand and of the joints' accelerations."""
        placed = bodies.points + bodies.transl[..., None]
        feet, joints = placed[..., self.over_time.feet], placed[..., _LANDMARKS:]
        return self._image(bodies), self._space(bodies), *self.over_time(feet.flatten(1), joints.flatten(1))

    def _image(self, bodies: Bodies) -> Residuals:
        placed = bodies.points[..., :_LANDMARKS] + bodies.transl[..., None]
        off = placed[:, :2] / placed[:, 2:].clamp_min(_NEAREST) * self.focal + self.center - self.pixels
        square = (off.square().sum(1) + 1e-6) / self.height_sq
        energy, weight = robust(square, self.options.noise_2d, self.options.outlier_2d)
        return residuals(off, self.weights_2d * energy, self.weights_2d * weight / self.height_sq)

    def _space(self, bodies: Bodies) -> Residuals:
        landmarks = bodies.points[..., :_LANDMARKS]
        off = _about_hips(landmarks) - self.landmarks
        energy, weight = robust(off.square().sum(1) + 1e-8, self.options.noise_3d_m, self.options.outlier_3d_m)
        return residuals(off, self.weights_3d * energy, self.weights_3d * weight)

    def _derivatives(self, bodies: Bodies) -> Tensor:
        """Derivatives (F,75,249) of the residuals in the image and in space, and of the places of feet and joints."""
        axes = axis_angle_rates(bodies.angles)
        axes = torch.cat([axes[:, :1], bodies.world[:, self.motion.above] @ axes[:, 1:]], 1)
        moved = point_derivatives(bodies.levers, axes)
        carried = torch.eye(3, dtype=moved.dtype, device=moved.device)[..., None]
        moved = torch.cat([moved, carried.expand(len(moved), 3, 3, moved.shape[-1])], 1)  # (F,75,3,57)
        landmarks = moved[..., :_LANDMARKS]
        placed = bodies.points[..., :_LANDMARKS] + bodies.transl[..., None]
        depth = placed[:, 2:].clamp_min(_NEAREST)
        onto = self.focal / depth
        smaller = onto * placed[:, :2] / depth * (placed[:, 2:] > _NEAREST)  # by a metre of depth, if it counts
        image = onto[:, None] * landmarks[:, :, :2] - smaller[:, None] * landmarks[:, :, 2:]
        space = _about_hips(landmarks)
        parts = (image, space, landmarks[..., self.over_time.feet], moved[..., _LANDMARKS:])
        return torch.cat([part.flatten(2) for part in parts], 2)

    def _scaled(self, landmarks: Tensor, placed: Tensor, lengths: list[int]) -> Tensor:
        """The network's landmarks in the body's metres: one factor a piece, by the spread of the landmarks."""
        mine, theirs = (
            (p * self.known[..., None]).norm(dim=-1).mean(1) for p in (placed - hips_middle(placed), landmarks)
        )
        ratios = (mine / theirs.clamp_min(1e-3)).split(lengths)
        return (landmarks * torch.cat([r.median().expand(len(r)) for r in ratios])[:, None, None]).mT


def _about_hips(landmarks: Tensor) -> Tensor:
    """Landmarks (...,33), or their derivatives, from the middle of the hips."""
    return landmarks - (landmarks[..., _LEFT_HIP, None] + landmarks[..., _RIGHT_HIP, None]) / 2
