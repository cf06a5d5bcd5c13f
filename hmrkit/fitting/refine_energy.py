"""What ``--refine`` asks of a body's motion, and how that changes with it: an energy for the frames of many tracks.

The energy is a sum of negative log likelihoods, so its weights are noise levels in pixels, metres and seconds and need
no tuning against one another: keypoints in the image and in 3D (Geman-McClure, Bogo et al. 2016), a pose prior learned
from motion capture (`hmrkit.body.pose_prior`), knees and elbows that do not bend backwards, accelerations of joints
that are small unless the motion asks for more, feet that stand still where the image shows them still.

Every term is a squared residual, some with a robust penalty. Gauss-Newton's matrix has the penalty's slope as weight
(iteratively reweighted least squares), so the gradient is exact (but of points nearer than 0.1 m to the camera) and the
matrix is positive."""

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
from hmrkit.fitting.banded import KnotBlocks, spline_basis
from hmrkit.fitting.observations import CleanTrack, hips_middle
from hmrkit.fitting.penalties import (
    HINGE_COLUMNS,
    HINGE_SIGNS,
    Residuals,
    beyond_straight,
    landmark_weights,
    residuals,
    robust,
)
from hmrkit.fitting.resting_feet import shared_drift
from hmrkit.geometry import axis_angle_rates, axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.types import Camera

_HELD = [
    SMPL_24.index[n] - 1 for n in ("left_collar", "right_collar", "left_foot", "right_foot", "left_hand", "right_hand")
]
_FEET = BLAZEPOSE_33.indices("left_heel", "left_foot_index", "right_heel", "right_foot_index")
_HIPS = BLAZEPOSE_33.indices("left_hip", "right_hip")
_ABOVE = list(SMPL_24.parents[1:])
_LANDMARKS = len(BLAZEPOSE_33)
_TIMED = 3 * (len(_FEET) + 24)
_NEAREST = 0.1  # m: nothing is taken to be nearer to the camera


@dataclass(frozen=True)
class RefineOptions:
    """Noise levels of the energy's terms; `chunk` and `overlap` in frames bound the memory."""

    steps: int = 3  # lower energies than this no longer mean better poses
    damping: float = 1e-3  # share of the matrix's diagonal that the first step adds to it
    ridge: float = 1e-3  # for knots that no frame sees
    knot_s: float = 0.15  # spacing of the correction's knots
    chunk: int = 300
    overlap: int = 30
    noise_2d: float = 0.008  # of the person's height in the image
    outlier_2d: float = 0.05
    noise_3d_m: float = 0.07
    outlier_3d_m: float = 0.2
    prior: float = 0.5
    acceleration: float = 3.0  # m/s^2
    depth_acceleration: float = 1.0
    contact_speed: float = 0.03  # m/s of a foot that stands
    outlier_speed: float = 0.5
    hinge_rad: float = 0.05
    held_rad: float = 0.15


@dataclass(frozen=True)
class Piece:
    """Consecutive frames of a track: observations, and the body there before refinement: local `rotations`
    (T,24,3,3), `transl` (T,3) m, `betas` (T,10)."""

    clean: CleanTrack
    rotations: np.ndarray
    transl: np.ndarray
    betas: np.ndarray


@dataclass(frozen=True)
class Expansion:
    """The energy about some knots: `value` (P,) of each piece, `gradient` (M,75) and Gauss-Newton's matrix as `blocks`
    (M,width+1,75,75) between knots m + d and m."""

    value: Tensor
    gradient: Tensor
    blocks: Tensor


@dataclass(frozen=True)
class Bodies:
    """Of all frames: `angles` (F,24,3) of the joints, the root's from where it was, `local` and `world` rotations
    (F,24,3,3), `transl` (F,3) m; 33 landmarks and 24 joints, `points` (F,3,57) m about the pelvis, and their `levers`
    (F,24,3,57) (`hmrkit.body.landmark_motion`)."""

    angles: Tensor
    local: Tensor
    transl: Tensor
    world: Tensor
    points: Tensor
    levers: Tensor


class Energy:
    """The energy of some pieces, whose F frames and M knots stand in one row each."""

    def __init__(
        self, pieces: Sequence[Piece], camera: Camera, points: BodyLandmarks, prior: PosePrior, options: RefineOptions
    ) -> None:
        device = points.share.device

        def tensor(arrays: Sequence[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.concatenate(arrays).astype(np.float32, copy=False)).to(device)

        clean = [piece.clean for piece in pieces]
        lengths = [len(c.times) for c in clean]
        self.prior, self.options, self.count = prior, options, len(pieces)
        owner = np.repeat(np.arange(len(pieces)), lengths)
        self.owner = torch.from_numpy(owner).to(device)
        self.focal, self.center = (tensor([a])[:, None] for a in (camera.focal_px, camera.center_px))
        self.pixels = tensor([c.pixels for c in clean]).mT
        self.height_sq = tensor([c.height for c in clean])[:, None].square()
        weights = tensor([c.weights for c in clean])
        self.known = tensor([np.tile(c.known, (len(c.times), 1)) for c in clean])
        self.weights_2d = weights**2 * landmark_weights(device)
        self.weights_3d = weights.clamp_min(0.1) * self.known * landmark_weights(device)
        bases = [spline_basis(c.times, options.knot_s) for c in clean]
        self.basis = torch.block_diag(*bases).to(device)
        self.knot_owner = torch.from_numpy(np.repeat(np.arange(len(pieces)), [b.shape[1] for b in bases])).to(device)
        joined = owner[1:] == owner[:-1]
        self.blocks = KnotBlocks(bases, device)
        steps = np.diff(np.concatenate([c.times for c in clean]))
        self.steps = tensor([np.where(joined, steps, 1.0)])[:, None]
        still = [np.concatenate([c.still_feet(_FEET), np.zeros((1, 4))]) for c in clean]
        self.contact = tensor(still)[:-1]
        before, after = self.steps[:-1], self.steps[1:]
        late, early = 2 / (after * (before + after)), 2 / (before * (before + after))
        self.second = early, -early - late, late  # weights (F-2,1) of three places in an acceleration
        self.smooth = tensor([joined[1:] & joined[:-1]])[:, None]
        usual = [options.acceleration] * 2 + [options.depth_acceleration]
        self.usual_sq = torch.tensor(usual, device=device).square()[:, None]

        rotations, self.transl = tensor([p.rotations for p in pieces]), tensor([p.transl for p in pieces])
        betas = tensor([p.betas for p in pieces])
        self.first, self.pose = rotations[:, :1], matrix_to_axis_angle(rotations[:, 1:])
        self.held = self.pose[:, _HELD].clone()
        self.motion = LandmarkMotion(points, betas)
        placed = self.motion(world_from_local(rotations))[0][..., :_LANDMARKS].mT
        self.landmarks = self._scaled(tensor([c.landmarks for c in clean]), placed, lengths)
        self.drift = self._drift((placed + self.transl[:, None]).cpu().numpy(), clean, joined)

    def bodies(self, knots: Tensor) -> Bodies:
        """Bodies corrected by `knots` (M,75): axis-angles of 24 joints, the root's in the camera frame, and metres."""
        change = (self.basis @ knots).view(-1, 25, 3)
        angles = torch.cat([change[:, :1], self.pose + change[:, 1:24]], 1)
        local = axis_angle_to_matrix(angles)
        local = torch.cat([local[:, :1] @ self.first, local[:, 1:]], 1)
        world = world_from_local(local)
        return Bodies(angles, local, self.transl + change[:, 24], world, *self.motion(world))

    def value(self, bodies: Bodies) -> Tensor:
        """Energy (P,) of each piece, float64: sums over its frames."""
        pose = bodies.angles[:, 1:]
        terms = [term.energy for term in (self._image(bodies), self._space(bodies), *self._over_time(bodies))]
        return self._by_piece([*terms, self.options.prior * self.prior(pose), self._limits(pose)[0]])

    def expanded(self, knots: Tensor) -> Expansion:
        """The energy about `knots` (M,75) to second order."""
        bodies, prior = self.bodies(knots), self.options.prior
        pose = bodies.angles[:, 1:]
        image, space, (feet, joints) = self._image(bodies), self._space(bodies), self._over_time(bodies)
        likely, likely_slope, likely_curvature = self.prior.expanded(pose)
        limits, limit_slope, limit_curvature = self._limits(pose)
        value = self._by_piece([image.energy, space.energy, feet.energy, joints.energy, prior * likely, limits])
        same = likely_curvature.mul_(prior)
        same.diagonal(dim1=1, dim2=2).add_(limit_curvature)
        own = pad(prior * likely_slope + limit_slope, (3, 3))

        rows = self._derivatives(bodies)  # (F,75,249): by the 75 numbers of the frame, of all residuals
        weight, slope = (
            torch.cat([getattr(t, n) for t in (image, space, feet, joints)], 1) for n in ("weight", "slope")
        )
        blocks = rows.new_empty(3, len(rows), 75, 75)
        torch.baddbmm(pad(same, (3, 3, 3, 3)), rows * weight[:, None], rows.mT, out=blocks[0])
        timed = rows[..., -_TIMED:]
        if len(rows) > 1:
            ahead = torch.cat([feet.ahead[0], joints.ahead[0]], 1)
            torch.bmm(timed[:-1] * ahead[:, None], timed[1:].mT, out=blocks[1, :-1])
        if len(rows) > 2:
            timed = rows[..., -3 * 24 :]
            torch.bmm(timed[:-2] * joints.ahead[1][:, None], timed[2:].mT, out=blocks[2, :-2])
        gradient = own + (rows @ slope[..., None])[..., 0]
        return Expansion(value, self.basis.T @ gradient, self.blocks(blocks))

    def _by_piece(self, energies: list[Tensor]) -> Tensor:
        total = torch.zeros(self.count, dtype=torch.float64, device=self.owner.device)
        return total.index_add_(0, self.owner, torch.stack(energies).sum(0).double())

    def _image(self, bodies: Bodies) -> Residuals:
        placed = bodies.points[..., :_LANDMARKS] + bodies.transl[..., None]
        off = placed[:, :2] / placed[:, 2:].clamp_min(_NEAREST) * self.focal + self.center - self.pixels
        square = (off.square().sum(1) + 1e-6) / self.height_sq
        energy, weight = robust(square, self.options.noise_2d, self.options.outlier_2d)
        return residuals(off, self.weights_2d * energy, self.weights_2d * weight / self.height_sq)

    def _space(self, bodies: Bodies) -> Residuals:
        landmarks = bodies.points[..., :_LANDMARKS]
        off = landmarks - landmarks[..., _HIPS].mean(-1, keepdim=True) - self.landmarks
        energy, weight = robust(off.square().sum(1) + 1e-8, self.options.noise_3d_m, self.options.outlier_3d_m)
        return residuals(off, self.weights_3d * energy, self.weights_3d * weight)

    def _over_time(self, bodies: Bodies) -> tuple[Residuals, Residuals]:
        """Steps of the feet, which stand or not, and accelerations of the joints."""
        o, placed = self.options, bodies.points + bodies.transl[..., None]
        feet, joints = placed[..., _FEET].flatten(1), placed[..., _LANDMARKS:].flatten(1)
        step = feet[1:] - feet[:-1] - self.drift
        square = step.view(-1, 3, 4).square().sum(1) / self.steps.square()
        energy, weight = robust(square, o.contact_speed, o.outlier_speed)
        weight = (self.contact * weight / self.steps.square()).repeat(1, 3)
        slope = weight * step
        frames = len(placed)
        standing = Residuals(
            _rows((self.contact * energy).sum(1), 0, frames),
            _rows(weight, 0, frames) + _rows(weight, 1, frames),
            _rows(slope, 1, frames) - _rows(slope, 0, frames),
            (-weight,),
        )
        a, b, c = self.second
        bend = a * joints[:-2] + b * joints[1:-1] + c * joints[2:]
        square = (bend.view(-1, 3, 24).square() / self.usual_sq).sum(1)
        # Heavy tails (Student's): a jump may accelerate, a standing person may not tremble.
        energy = 0.5 * (self.smooth * square.log1p()).sum(1)
        weight = ((self.smooth / (1 + square))[:, None] / self.usual_sq).flatten(1)
        slope = weight * bend
        smooth = Residuals(
            _rows(energy, 1, frames),
            _rows(a**2 * weight, 0, frames) + _rows(b**2 * weight, 1, frames) + _rows(c**2 * weight, 2, frames),
            _rows(a * slope, 0, frames) + _rows(b * slope, 1, frames) + _rows(c * slope, 2, frames),
            (_rows(a * b * weight, 0, frames - 1) + _rows(b * c * weight, 1, frames - 1), a * c * weight),
        )
        return standing, smooth

    def _derivatives(self, bodies: Bodies) -> Tensor:
        """Derivatives (F,75,249) of the residuals in the image and in space, and of the places of feet and joints."""
        axes = axis_angle_rates(bodies.angles)
        axes = torch.cat([axes[:, :1], bodies.world[:, _ABOVE] @ axes[:, 1:]], 1)
        moved = point_derivatives(bodies.levers, axes)
        carried = torch.eye(3).to(moved)[None, :, :, None].expand(len(moved), 3, 3, moved.shape[-1])
        moved = torch.cat([moved, carried], 1)  # (F,75,3,57)
        landmarks = moved[..., :_LANDMARKS]
        placed = bodies.points[..., :_LANDMARKS] + bodies.transl[..., None]
        depth = placed[:, 2:].clamp_min(_NEAREST)
        onto = self.focal / depth
        image = onto[:, None] * landmarks[:, :, :2] - (onto * placed[:, :2] / depth)[:, None] * landmarks[:, :, 2:]
        space = landmarks - landmarks[..., _HIPS].mean(-1, keepdim=True)
        parts = (image, space, landmarks[..., _FEET], moved[..., _LANDMARKS:])
        return torch.cat([part.flatten(2) for part in parts], 2)

    def _limits(self, pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energy (F,), gradient and curvature's diagonal (F,69): hinges, and joints that no landmark shows."""
        slack, held = self.options.hinge_rad, self.options.held_rad
        gradient, curvature = torch.zeros_like(pose), torch.zeros_like(pose)
        off = (pose[:, _HELD] - self.held) / held
        gradient[:, _HELD], curvature[:, _HELD] = off / held, 1 / held**2
        gradient, curvature = gradient.flatten(1), curvature.flatten(1)
        beyond, sign = beyond_straight(pose, slack), pose.new_tensor(HINGE_SIGNS)
        gradient[:, HINGE_COLUMNS] -= 2 / slack * sign * beyond
        curvature[:, HINGE_COLUMNS] += 2 / slack**2 * (beyond > 0)
        return beyond.square().sum(1) + 0.5 * off.square().sum((1, 2)), gradient, curvature

    def _scaled(self, landmarks: Tensor, placed: Tensor, lengths: list[int]) -> Tensor:
        """The network's landmarks in the body's metres: one factor a piece, by the spread of the landmarks."""
        mine, theirs = (
            (p * self.known[..., None]).norm(dim=-1).mean(1) for p in (placed - hips_middle(placed), landmarks)
        )
        ratios = (mine / theirs.clamp_min(1e-3)).split(lengths)
        return (landmarks * torch.cat([r.median().expand(len(r)) for r in ratios])[:, None, None]).mT

    def _drift(self, placed: np.ndarray, clean: Sequence[CleanTrack], joined: np.ndarray) -> Tensor:
        """What resting feet move with their person, m a step (F-1,3*4): a camera that zooms or comes nearer."""
        depth, own = placed[:, _FEET, 2].astype(np.float64), self.transl[:, 2].double().cpu().numpy()
        contact, drift, low = self.contact.cpu().numpy(), np.zeros_like(depth), 0
        for track in clean:
            rows = slice(low, low + len(track.times))
            for k in range(len(_FEET)):
                standing = contact[rows.start : rows.stop - 1, k]
                drift[rows, k] = shared_drift(depth[rows, k], own[rows], standing, track.times - track.times[0])
            low = rows.stop
        steps = torch.from_numpy(np.where(joined[:, None], np.diff(drift, axis=0), 0.0)).to(self.contact)
        return pad(steps, (2 * len(_FEET), 0))


def _rows(values: Tensor, start: int, count: int) -> Tensor:
    """`values` as the rows from `start` on of `count` rows; the others are zero."""
    rows = values.new_zeros(count, *values.shape[1:])
    rows[start : start + len(values)] = values
    return rows
