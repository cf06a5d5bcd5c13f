"""Refinement of a fitted track (``--refine``): all its frames at once, by descent on what SMPLify asks for.

The energy is a sum of negative log likelihoods, so its weights are noise levels in pixels, metres and seconds and need
no tuning against one another: keypoints in the image and in 3D (Geman-McClure, Bogo et al. 2016), a pose prior learned
from motion capture (`hmrkit.body.pose_prior`), knees and elbows that do not bend backwards, accelerations of joints
that are small unless the motion asks for more, feet that stand still where the image shows them still. Shape stays as
fitted: it was measured over the whole track."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hmrkit.body import Body
from hmrkit.body.landmarks import BodyLandmarks, body_landmarks, world_from_local
from hmrkit.body.pose_prior import PosePrior, load_pose_prior
from hmrkit.body.posing import body_for
from hmrkit.device import one_thread
from hmrkit.fitting.observations import CleanTrack
from hmrkit.fitting.resting_feet import shared_drift
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle, project_to_rotation
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.types import BodyParams, Camera

_HELD = [
    SMPL_24.index[n] - 1 for n in ("left_collar", "right_collar", "left_foot", "right_foot", "left_hand", "right_hand")
]
# Hinges: joint, component of its axis-angle, and the sign that it has when bent.
_HINGES = (("left_knee", 0, 1.0), ("right_knee", 0, 1.0), ("left_elbow", 1, -1.0), ("right_elbow", 1, 1.0))
_FEET = BLAZEPOSE_33.indices("left_heel", "left_foot_index", "right_heel", "right_foot_index")


@dataclass(frozen=True)
class RefineOptions:
    """Noise levels of the energy's terms; `chunk` and `overlap` in frames bound the memory."""

    iterations: int = 60
    rate: float = 0.04  # radians and metres of the first steps
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
    hinge_rad: float = 0.05
    held_rad: float = 0.15


def refine_track(
    params: BodyParams,
    clean: CleanTrack,
    camera: Camera,
    body: Body,
    device: str | torch.device | None = None,
    options: RefineOptions | None = None,
) -> BodyParams:
    """Refine what a mesh stream found by a track's cleaned keypoints; shapes and frame stay those of `params`.

    `device` defaults to the body's. Memory is bounded by the chunk, time grows with T.
    """
    options = options or RefineOptions()
    device = torch.device(device) if device is not None else body.device
    points, prior = body_landmarks(body_for(params, body)).to(device), load_pose_prior(device)
    betas = torch.from_numpy(params.betas).to(device)
    start = np.concatenate([params.global_orient[:, None], params.body_pose], 1)
    rotations, moved = start.copy(), params.transl_c.copy()
    count, done = len(start), 0
    while done < count:
        low = max(0, done - options.overlap)
        stop = min(count, low + options.chunk)
        stop = count if count - stop < options.overlap else stop
        piece = slice(low, stop)
        with one_thread():
            energy = _Energy(_cut(clean, piece), camera, points, prior, betas, device, options)
            rotated, shifted = energy.descend(torch.from_numpy(start[piece]), torch.from_numpy(params.transl_c[piece]))
        # Over the overlap the earlier chunk fades into the later one.
        fade = np.clip((np.arange(low, stop) - low + 1) / (done - low + 1), 0, 1).astype(np.float32)
        fade = np.ones_like(fade) if low == done else fade
        blend = fade[:, None, None, None] * rotated.numpy() + (1 - fade)[:, None, None, None] * rotations[piece]
        rotations[piece] = project_to_rotation(torch.from_numpy(blend)).numpy() if low < done else rotated.numpy()
        moved[piece] = fade[:, None] * shifted.numpy() + (1 - fade)[:, None] * moved[piece]
        done = stop
    return replace(params, global_orient=rotations[:, 0], body_pose=rotations[:, 1:], transl_c=moved)


class _Energy:
    """The energy of one chunk of frames, and its descent."""

    def __init__(
        self,
        clean: CleanTrack,
        camera: Camera,
        points: BodyLandmarks,
        prior: PosePrior,
        betas: Tensor,
        device: torch.device,
        options: RefineOptions,
    ) -> None:
        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

        self.points, self.prior, self.betas, self.options, self.device = points, prior, betas, options, device
        self.focal, self.center = tensor(camera.focal_px), tensor(camera.center_px)
        self.pixels, self.height = tensor(clean.pixels), tensor(clean.height)[:, None]
        weights = tensor(clean.weights)
        self.weights_2d = weights**2 * landmark_weights(device)
        self.known = tensor(clean.known)
        self.weights_3d = weights.clamp_min(0.1) * self.known * landmark_weights(device)
        self.landmarks = tensor(clean.landmarks)
        self.times = clean.times - clean.times[0]
        self.steps = tensor(np.diff(clean.times))
        self.contact = tensor(clean.still_feet(_FEET))
        self.drift = torch.zeros_like(self.contact)
        self.held: Tensor | None = None

    def descend(self, rotations: Tensor, transl: Tensor) -> tuple[Tensor, Tensor]:
        """Adam from rotations (T,24,3,3) and translation (T,3) -> the same, refined, on the CPU."""
        rotations, transl = rotations.to(self.device), transl.to(self.device)
        first = rotations[:, 0]
        pose = matrix_to_axis_angle(rotations[:, 1:])
        self.held = pose[:, _HELD].clone()
        self._scale_landmarks(rotations, transl)
        self._find_drift(rotations, transl)
        basis = spline_basis(self.times, self.options.knot_s).to(self.device)
        knots = basis.new_zeros(basis.shape[1], 25, 3).requires_grad_()

        def moved() -> tuple[Tensor, Tensor, Tensor]:
            change = torch.einsum("tm,mjk->tjk", basis, knots)
            return axis_angle_to_matrix(change[:, 0]) @ first, pose + change[:, 1:24], transl + change[:, 24]

        # Adam reaches in 60 steps what L-BFGS does not in 80: the terms' curvatures differ by orders of magnitude.
        steps, rate = self.options.iterations, self.options.rate
        solver = torch.optim.Adam([knots], lr=rate, betas=(0.9, 0.95))
        with torch.enable_grad():
            for step in range(steps):
                solver.param_groups[0]["lr"] = rate * (1 - step / steps) ** 0.7
                solver.zero_grad()
                self.value(*moved()).backward()
                solver.step()
        with torch.no_grad():
            orient, body_pose, offset = moved()
            return torch.cat([orient[:, None], axis_angle_to_matrix(body_pose)], 1).cpu(), offset.cpu()

    def value(self, orient: Tensor, pose: Tensor, transl: Tensor) -> Tensor:
        """Energy of global orientation (T,3,3), body pose (T,23,3) axis-angles, translation (T,3): mean over frames."""
        o = self.options
        local = torch.cat([orient[:, None], axis_angle_to_matrix(pose)], 1)
        points, joints = self.points(world_from_local(local), self.betas)
        placed = points + transl[:, None]
        total = self._image(placed).sum() + self._space(points).sum() + o.prior * self.prior(pose).sum()
        total = total + self._limits(pose).sum()
        if len(transl) > 1:
            moved = placed[1:, _FEET] - placed[:-1, _FEET]
            moved = torch.cat([moved[..., :2], moved[..., 2:] - self.drift[..., None]], -1)
            speed = moved.norm(dim=-1) / self.steps[:, None]
            slip = geman_mcclure(speed, o.contact_speed, 0.5)
            total = total + (self.contact * slip).sum()
        if len(transl) > 2:
            total = total + self._smoothness(joints + transl[:, None]).sum()
        return total / len(transl)

    def _image(self, placed: Tensor) -> Tensor:
        pixels = placed[..., :2] / placed[..., 2:].clamp_min(0.1) * self.focal + self.center
        off = (pixels - self.pixels).square().sum(-1).add(1e-6).sqrt() / self.height
        return self.weights_2d * geman_mcclure(off, self.options.noise_2d, self.options.outlier_2d)

    def _space(self, points: Tensor) -> Tensor:
        off = (_about_hips(points) - self.landmarks).square().sum(-1).add(1e-8).sqrt()
        return self.weights_3d * geman_mcclure(off, self.options.noise_3d_m, self.options.outlier_3d_m)

    def _limits(self, pose: Tensor) -> Tensor:
        assert self.held is not None
        return bent_backwards(pose, self.options.hinge_rad) + 0.5 * (
            (pose[:, _HELD] - self.held) / self.options.held_rad
        ).square().sum((1, 2))

    def _smoothness(self, joints: Tensor) -> Tensor:
        before, after = self.steps[:-1, None, None], self.steps[1:, None, None]
        speed = (joints[1:] - joints[:-1]) / self.steps[:, None, None]
        acceleration = (speed[1:] - speed[:-1]) * 2 / (before + after)
        usual = acceleration.new_tensor([self.options.acceleration] * 2 + [self.options.depth_acceleration])
        # Heavy tails (Student's): a jump may accelerate, a standing person may not tremble.
        return 0.5 * torch.log1p((acceleration / usual).square().sum(-1))

    def _scale_landmarks(self, rotations: Tensor, transl: Tensor) -> None:
        """Bring the network's metres to the body's: one factor for the chunk, by the spread of the landmarks."""
        with torch.no_grad():
            points, _ = self.points(world_from_local(rotations), self.betas)
            mine, theirs = ((p * self.known[:, None]).norm(dim=-1) for p in (_about_hips(points), self.landmarks))
            ratio = mine.mean(1) / theirs.mean(1).clamp_min(1e-3)
            self.landmarks = self.landmarks * ratio.median()

    def _find_drift(self, rotations: Tensor, transl: Tensor) -> None:
        """What a resting foot moves in depth with its person, m a step (T-1,4): a camera that zooms or comes nearer."""
        if len(transl) < 2:
            return
        with torch.no_grad():
            points, _ = self.points(world_from_local(rotations), self.betas)
        depth = (points[:, _FEET, 2] + transl[:, None, 2]).double().cpu().numpy()
        own, contact = transl[:, 2].double().cpu().numpy(), self.contact.cpu().numpy()
        drift = [shared_drift(depth[:, k], own, contact[:, k], self.times) for k in range(len(_FEET))]
        self.drift = torch.from_numpy(np.diff(np.stack(drift, 1), axis=0)).to(self.contact)


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


def _about_hips(points: Tensor) -> Tensor:
    left, right = BLAZEPOSE_33.indices("left_hip", "right_hip")
    return points - (points[:, left] + points[:, right])[:, None] / 2


def _cut(clean: CleanTrack, piece: slice) -> CleanTrack:
    return CleanTrack(*(getattr(clean, name)[piece] for name in CleanTrack.__dataclass_fields__))
