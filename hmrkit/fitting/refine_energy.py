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

from hmrkit.body.landmark_motion import LandmarkMotion
from hmrkit.body.landmarks import BodyLandmarks, world_from_local
from hmrkit.body.pose_prior import PosePrior
from hmrkit.fitting.banded import KnotBlocks
from hmrkit.fitting.observations import CleanTrack, hips_middle
from hmrkit.fitting.resting_feet import shared_drift
from hmrkit.geometry import axis_angle_rates, axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.types import Camera

_HELD = [
    SMPL_24.index[n] - 1 for n in ("left_collar", "right_collar", "left_foot", "right_foot", "left_hand", "right_hand")
]
# Hinges: joint, component of its axis-angle, and the sign that it has when bent.
_HINGES = (("left_knee", 0, 1.0), ("right_knee", 0, 1.0), ("left_elbow", 1, -1.0), ("right_elbow", 1, 1.0))
_HINGE_COLUMNS = [3 * (SMPL_24.index[name] - 1) + axis for name, axis, _ in _HINGES]
_FEET = BLAZEPOSE_33.indices("left_heel", "left_foot_index", "right_heel", "right_foot_index")
_HIPS = BLAZEPOSE_33.indices("left_hip", "right_hip")
_ABOVE = list(SMPL_24.parents[1:])
_LANDMARKS = len(BLAZEPOSE_33)


@dataclass(frozen=True)
class RefineOptions:
    """Noise levels of the energy's terms; `chunk` and `overlap` in frames bound the memory."""

    iterations: int = 12
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
    """Consecutive frames of a track: what was seen, and the body there before refinement: local `rotations`
    (T,24,3,3), `transl` (T,3) m, `betas` (T,10)."""

    clean: CleanTrack
    rotations: np.ndarray
    transl: np.ndarray
    betas: np.ndarray


@dataclass(frozen=True)
class Expansion:
    """The energy about some knots to second order: `value` (P,) of each piece (a mean over its frames), `gradient`
    (M,75) and Gauss-Newton's matrix as lower `blocks` (M,width+1,75,75) between knots m + d and m."""

    value: Tensor
    gradient: Tensor
    blocks: Tensor


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
        self.prior, self.options, self.pieces = prior, options, len(pieces)
        owner = np.repeat(np.arange(len(pieces)), lengths)
        self.owner = torch.from_numpy(owner).to(device)
        self.focal, self.center = (tensor([a])[:, None] for a in (camera.focal_px, camera.center_px))
        self.pixels = tensor([c.pixels for c in clean]).mT
        self.height_sq = tensor([c.height for c in clean])[:, None].square()
        weights = tensor([c.weights for c in clean])
        self.known = tensor([np.tile(c.known, (len(c.times), 1)) for c in clean])
        self.weights_2d = weights**2 * landmark_weights(device)
        self.weights_3d = weights.clamp_min(0.1) * self.known * landmark_weights(device)
        bases = [spline_basis(c.times - c.times[0], options.knot_s) for c in clean]
        self.basis = torch.block_diag(*bases).to(device)
        self.knot_owner = torch.from_numpy(np.repeat(np.arange(len(pieces)), [b.shape[1] for b in bases])).to(device)
        self.joined = owner[1:] == owner[:-1]
        self.blocks = KnotBlocks(self.basis, self.joined)
        steps = np.diff(np.concatenate([c.times for c in clean]))
        self.steps = tensor([np.where(self.joined, steps, 1.0)])
        still = [np.concatenate([c.still_feet(_FEET), np.zeros((1, 4))]) for c in clean]
        self.contact = tensor(still)[:-1]
        before, after = self.steps[:-1], self.steps[1:]
        late, early = 2 / (after * (before + after)), 2 / (before * (before + after))
        self.second = torch.stack([early, -early - late, late])  # weights of three places in an acceleration
        self.smooth = tensor([self.joined[1:] & self.joined[:-1]])
        usual = [options.acceleration] * 2 + [options.depth_acceleration]
        self.usual_sq = torch.tensor(usual, device=device).square()[:, None]

        rotations, self.transl = tensor([p.rotations for p in pieces]), tensor([p.transl for p in pieces])
        betas = tensor([p.betas for p in pieces])
        self.first, self.pose = rotations[:, 0], matrix_to_axis_angle(rotations[:, 1:])
        self.held = self.pose[:, _HELD].clone()
        self.points = LandmarkMotion(points, betas)
        placed = points(world_from_local(rotations), betas)[0]
        self.landmarks = self._scaled(tensor([c.landmarks for c in clean]), placed, lengths)
        self.drift = self._drift((placed + self.transl[:, None]).cpu().numpy(), clean)

    def bodies(self, knots: Tensor) -> tuple[Tensor, Tensor]:
        """Local rotations (F,24,3,3) and translations (F,3) m, corrected by `knots` (M,75): axis-angles of 24 joints
        (the root's in the camera frame) and metres."""
        angles, transl = self._corrected(knots)
        local = axis_angle_to_matrix(angles)
        return torch.cat([(local[:, 0] @ self.first)[:, None], local[:, 1:]], 1), transl

    def at(self, knots: Tensor) -> Expansion:
        """The energy about `knots` (M,75)."""
        angles, transl = self._corrected(knots)
        local, _ = self.bodies(knots)
        world = world_from_local(local)
        axes = axis_angle_rates(angles)
        axes = torch.cat([axes[:, :1], world[:, _ABOVE] @ axes[:, 1:]], 1)
        points, moved = self.points(world, axes)
        carried = torch.eye(3).to(moved)[None, :, :, None].expand(len(moved), 3, 3, moved.shape[-1])
        moved = torch.cat([moved, carried], 1)  # (F,75,3,33+24)
        placed = points + transl[..., None]
        force = torch.zeros_like(points)  # the energy's derivative by each point
        own = torch.zeros_like(placed)

        # Image.
        depth = placed[:, 2:, :_LANDMARKS].clamp_min(0.1)
        ratio, scale = placed[:, :2, :_LANDMARKS] / depth, self.focal / depth
        off = ratio * self.focal + self.center - self.pixels
        o = self.options
        energy, weight = _robust((off.square().sum(1) + 1e-6) / self.height_sq, o.noise_2d, o.outlier_2d)
        total = (self.weights_2d * energy).sum(1)
        weight = (self.weights_2d * weight / self.height_sq)[:, None]
        landmarks = moved[..., :_LANDMARKS]
        seen = scale[:, None] * (landmarks[:, :, :2] - ratio[:, None] * landmarks[:, :, 2:])
        rows, weights, slopes = [seen.flatten(2)], [weight.expand_as(off).flatten(1)], [(weight * off).flatten(1)]

        # Space.
        off = points[..., :_LANDMARKS] - points[..., _HIPS].mean(-1, keepdim=True) - self.landmarks
        energy, weight = _robust(off.square().sum(1) + 1e-8, o.noise_3d_m, o.outlier_3d_m)
        total = total + (self.weights_3d * energy).sum(1)
        weight = (self.weights_3d * weight)[:, None]
        about = landmarks - landmarks[..., _HIPS].mean(-1, keepdim=True)
        rows.append(about.flatten(2))
        weights.append(weight.expand_as(off).flatten(1))
        slopes.append((weight * off).flatten(1))

        # Prior and limits.
        pose = angles[:, 1:]
        energy, slope, curvature = self.prior.expanded(pose)
        limits, limit_slope, limit_curvature = self._limits(pose)
        total = total + o.prior * energy + limits
        gradient = o.prior * slope + limit_slope
        same = o.prior * curvature
        same.diagonal(dim1=1, dim2=2).add_(limit_curvature)
        same, gradient = pad(same, (3, 3, 3, 3)), pad(gradient, (3, 3))

        # Over time.
        feet, joints = moved[..., _FEET], moved[..., _LANDMARKS:]
        step = placed[1:, :, _FEET] - placed[:-1, :, _FEET]
        step[:, 2] -= self.drift
        speed_sq = self.steps[:, None].square()
        energy, weight = _robust(step.square().sum(1) / speed_sq, o.contact_speed, o.outlier_speed)
        total = total + pad((self.contact * energy).sum(1), (0, 1))
        weight = (self.contact * weight / speed_sq)[:, None].expand_as(step)
        foot_slope = _shift(weight * step, 1) - _shift(weight * step, 0, 1)
        foot_same, foot_next = _shift(weight, 1) + _shift(weight, 0, 1), -weight

        places, c = placed[..., _LANDMARKS:], self.second[..., None, None]
        bend = c[0] * places[:-2] + c[1] * places[1:-1] + c[2] * places[2:]
        # Heavy tails (Student's): a jump may accelerate, a standing person may not tremble.
        square = (bend.square() / self.usual_sq).sum(1)
        total = total + pad((self.smooth[:, None] * 0.5 * square.log1p()).sum(1), (1, 1))
        weight = (self.smooth[:, None] / (1 + square))[:, None] / self.usual_sq
        slope = weight * bend
        joint_slope = _shift(c[0] * slope, 0, 2) + _shift(c[1] * slope, 1, 1) + _shift(c[2] * slope, 2)
        joint_same = _shift(c[0] ** 2 * weight, 0, 2) + _shift(c[1] ** 2 * weight, 1, 1) + _shift(c[2] ** 2 * weight, 2)
        joint_next = _shift(c[0] * c[1] * weight, 0, 1) + _shift(c[1] * c[2] * weight, 1)

        timed = torch.cat([feet.flatten(2), joints.flatten(2)], 2)
        rows.append(timed)
        weights.append(torch.cat([foot_same.flatten(1), joint_same.flatten(1)], 1))
        slopes.append(torch.cat([foot_slope.flatten(1), joint_slope.flatten(1)], 1))
        stacked = torch.cat(rows, 2)
        gradient = gradient + (stacked @ torch.cat(slopes, 1)[..., None])[..., 0]
        blocks = stacked.new_zeros(3, len(stacked), 75, 75)
        torch.baddbmm(same, stacked * torch.cat(weights, 1)[:, None], stacked.mT, out=blocks[0])
        weight = torch.cat([foot_next.flatten(1), joint_next.flatten(1)], 1)
        torch.bmm(timed[:-1] * weight[:, None], timed[1:].mT, out=blocks[1, :-1])
        weight = (c[0] * c[2] * slope.new_ones(()) * (self.smooth[:, None] / (1 + square))[:, None] / self.usual_sq)
        joints = joints.flatten(2)
        torch.bmm(joints[:-2] * weight.flatten(1)[:, None], joints[2:].mT, out=blocks[2, :-2])
        value = torch.zeros(self.pieces, dtype=torch.float64, device=total.device)
        value.index_add_(0, self.owner, total.double())
        return Expansion(value, self.basis.T @ gradient, self.blocks(blocks))

    def _corrected(self, knots: Tensor) -> tuple[Tensor, Tensor]:
        change = (self.basis @ knots).view(-1, 25, 3)
        return torch.cat([change[:, :1], self.pose + change[:, 1:24]], 1), self.transl + change[:, 24]

    def _limits(self, pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energy (F,), gradient and diagonal of the curvature (F,69): hinges and the joints that nothing shows."""
        slack, held = self.options.hinge_rad, self.options.held_rad
        gradient, curvature = torch.zeros_like(pose), torch.zeros_like(pose)
        off = (pose[:, _HELD] - self.held) / held
        gradient[:, _HELD], curvature[:, _HELD] = off / held, 1 / held**2
        energy = bent_backwards(pose, slack) + 0.5 * off.square().sum((1, 2))
        gradient, curvature = gradient.flatten(1), curvature.flatten(1)
        sign = pose.new_tensor([sign for _, _, sign in _HINGES])
        beyond = (-sign * pose.flatten(1)[:, _HINGE_COLUMNS] - slack).clamp_min(0) / slack
        gradient[:, _HINGE_COLUMNS] -= 2 * sign * beyond / slack
        curvature[:, _HINGE_COLUMNS] += 2 * (beyond > 0) / slack**2
        return energy, gradient, curvature

    def _scaled(self, landmarks: Tensor, placed: Tensor, lengths: list[int]) -> Tensor:
        """The network's landmarks in the body's metres: one factor a piece, by the spread of the landmarks."""
        mine, theirs = (
            (p * self.known[..., None]).norm(dim=-1).mean(1) for p in (placed - hips_middle(placed), landmarks)
        )
        ratios = (mine / theirs.clamp_min(1e-3)).split(lengths)
        return (landmarks * torch.cat([r.median().expand(len(r)) for r in ratios])[:, None, None]).mT

    def _drift(self, placed: np.ndarray, clean: Sequence[CleanTrack]) -> Tensor:
        """What a resting foot moves in depth with its person, m a step (F-1,4): a camera that zooms or comes nearer."""
        depth, own = placed[:, _FEET, 2].astype(np.float64), self.transl[:, 2].double().cpu().numpy()
        contact, drift, low = self.contact.cpu().numpy(), np.zeros_like(depth), 0
        for track in clean:
            rows = slice(low, low + len(track.times))
            for k in range(len(_FEET)):
                standing = contact[rows.start : rows.stop - 1, k]
                drift[rows, k] = shared_drift(depth[rows, k], own[rows], standing, track.times - track.times[0])
            low = rows.stop
        steps = np.where(self.joined[:, None], np.diff(drift, axis=0), 0.0)
        return torch.from_numpy(steps.astype(np.float32)).to(self.contact.device)


def _shift(values: Tensor, before: int, after: int = 0) -> Tensor:
    """Zeros for `before` and `after` more frames."""
    return pad(values, (0, 0, 0, 0, before, after))


def _robust(square: Tensor, noise: float, outlier: float) -> tuple[Tensor, Tensor]:
    """`geman_mcclure` of squared residuals, and its weight: what the residual is to be multiplied by for the slope."""
    level = 1 / (1 + square / outlier**2)
    return 0.5 * square * level / noise**2, level.square() / noise**2


def spline_basis(times: np.ndarray, spacing: float) -> Tensor:
    """Cubic B-splines (T,M) on knots about `spacing` seconds apart; the unit matrix where frames are as far apart.

    What is refined is a smooth correction of the fit, not each frame by itself: that leaves out what smoothness would
    have to fight, and the descent takes a tenth of the steps.
    """
    count = max(1, round(float(times[-1] - times[0]) / spacing)) if len(times) > 1 else 1
    if count >= len(times) - 1:
        return torch.eye(len(times))
    place = times / times[-1] * count
    off = np.abs(place[:, None] - np.arange(-1, count + 2))
    near = 2 / 3 - off**2 + off**3 / 2
    far = (2 - off).clip(0) ** 3 / 6
    return torch.from_numpy(np.where(off < 1, near, far).astype(np.float32))


def geman_mcclure(residual: Tensor, noise: float, outlier: float) -> Tensor:
    """Half the squared residual in units of `noise`, which levels off where the residual nears `outlier`."""
    square = residual.square()
    return 0.5 * square / (1 + square / outlier**2) / noise**2


def bent_backwards(pose: Tensor, slack_rad: float) -> Tensor:
    """Energy (T,) of knees and elbows that bend the wrong way by more than `slack_rad`; `pose` (T,23,3) axis-angles."""
    bent = torch.stack([sign * pose[:, SMPL_24.index[name] - 1, axis] for name, axis, sign in _HINGES], 1)
    return ((-bent - slack_rad).clamp_min(0) / slack_rad).square().sum(1)


def landmark_weights(device: torch.device) -> Tensor:
    """(33,): eleven landmarks on one rigid head and four on each hand must not outvote the limbs."""
    groups = {"eye": 0.25, "mouth": 0.2, "nose": 0.6, "ear": 0.6, "pinky": 0.35, "index": 0.35, "thumb": 0.35}
    weights = [next((w for key, w in groups.items() if key in n and "foot" not in n), 1.0) for n in BLAZEPOSE_33.joints]
    return torch.tensor(weights, device=device)
