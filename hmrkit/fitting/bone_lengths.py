"""What bone lengths over a track say of the person's shape.

Every length is measured in each frame by itself, and the weighted median over the track is taken. Networks draw limbs
short, because they shorten what points towards the camera: that part is known and taken out (`SHRINKAGE`). One frame
says little, half a minute says more: the spread of a length goes by how long the track is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hmrkit.body.landmarks import BodyLandmarks
from hmrkit.fitting.observations import CleanTrack, FitOptions
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.types import Take

# Bones whose lengths tell a person's shape.
_LIMB_BONES = tuple(
    pair
    for side in ("left", "right")
    for pair in (
        (f"{side}_hip", f"{side}_knee"),
        (f"{side}_knee", f"{side}_ankle"),
        (f"{side}_shoulder", f"{side}_elbow"),
        (f"{side}_elbow", f"{side}_wrist"),
        (f"{side}_hip", f"{side}_shoulder"),
    )
)
BONES = (*_LIMB_BONES, ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"))
# Logarithm of measured over true length of thigh, shin, upper arm, forearm and trunk, across shoulders and hips:
# medians over 74 synthetic images (seeds 777000 to 777004) of `blazepose-heavy`.
_SIDE_SHRINKAGE = (-0.094, -0.010, -0.160, -0.188, -0.059)
SHRINKAGE = (*_SIDE_SHRINKAGE, *_SIDE_SHRINKAGE, -0.029, -0.018)
_START, _END = (BLAZEPOSE_33.indices(*names) for names in zip(*BONES, strict=True))

UNKNOWNS = 11  # betas, and the logarithm of the scale between the network's metres and the body's


@dataclass(frozen=True)
class Normal:
    """Normal equations of a least squares problem: `matrix` (N,N) and `right` (N,), and `cost` (), the sum of squares
    where they were made. Evidence of several kinds adds."""

    matrix: Tensor
    right: Tensor
    cost: Tensor

    def __add__(self, other: Normal) -> Normal:
        return Normal(self.matrix + other.matrix, self.right + other.right, self.cost + other.cost)

    def solve(self) -> Tensor:
        return torch.linalg.solve(self.matrix, self.right)

    @staticmethod
    def of(design: Tensor, residual: Tensor, weights: Tensor) -> Normal:
        """Of rows `design` (R,N), what they lack `residual` (R,), and `weights` (R,), inverse variances."""
        weighted = design * weights[:, None]
        return Normal(weighted.mT @ design, weighted.mT @ residual, (weights * residual.square()).sum())


@dataclass(frozen=True)
class BoneLengths:
    """A person's bone lengths as measured: `log_length` (B,) of metres, in the order of `BONES`, equal on both sides;
    `spread` (B,) standard deviation of that, very large where a bone was not seen."""

    log_length: Tensor
    spread: Tensor

    @staticmethod
    def measure(clean: CleanTrack, options: FitOptions, device: torch.device) -> BoneLengths:
        """From a track's landmarks. People are symmetric: a limb has the mean length of both sides, or the one that is
        ever seen."""
        landmarks, weights = (torch.from_numpy(part).to(device) for part in (clean.landmarks, clean.weights))
        measured = median_lengths(landmarks, weights).log() - landmarks.new_tensor(options.bone_shrinkage or 0.0)
        seen = weights.amax(0) > 0
        known = (seen[_START] & seen[_END]).float()
        half = len(BONES) // 2 - 1
        sides, shown = (part[: 2 * half].view(2, half) for part in (measured, known))
        both = (sides * shown).sum(0) / shown.sum(0).clamp_min(1)
        measured = torch.cat([both, both, measured[2 * half :]])
        known = torch.cat([shown.amax(0), shown.amax(0), known[2 * half :]])
        frames = min(len(clean.times), 1 + float(clean.times[-1] - clean.times[0]) / options.bone_memory_s)
        spread = math.sqrt(options.bone_sigma**2 + options.bone_frame_sigma**2 / frames)
        return BoneLengths(measured, torch.where(known > 0, spread, 1e3))

    def normal(self, points: BodyLandmarks, betas: Tensor, log_scale: Tensor) -> Normal:
        """Their equations for changes of betas (10,) and scale, about `betas` (10,) and `log_scale` (1,)."""
        step = 1e-2
        lengths = _lengths(points.rest(betas)).log()
        moved = [_lengths(points.rest(betas + step * axis)).log() for axis in torch.eye(10, device=betas.device)]
        slope = torch.stack([(m - lengths) / step for m in moved], 1)
        design = torch.cat([slope, -torch.ones_like(slope[:, :1])], 1)
        return Normal.of(design, self.log_length + log_scale - lengths, self.spread**-2)


def prior(betas: Tensor, log_scale: Tensor, options: FitOptions) -> Normal:
    """Betas have spread 1 about the mean body. A network's metres are uncertain as a whole: their scale has a spread of
    its own, so that proportions shape the body and stature stays near the mean."""
    weights = torch.cat([torch.ones_like(betas), torch.full_like(log_scale, options.stature_sigma**-2)])
    found = torch.cat([betas, log_scale])
    return Normal(torch.diag(weights), -weights * found, (weights * found.square()).sum())


def fit_options(take: Take, track_id: int, keypoints: str) -> FitOptions:
    """The options of a track's fit: limbs are known to be short in the 3D that `blazepose-heavy` sees."""
    seen = keypoints == "blazepose-heavy" and take.keypoints[track_id].joints_3d is not None
    return FitOptions(bone_shrinkage=SHRINKAGE if seen else None)


def fit_shape(bones: BoneLengths, points: BodyLandmarks, options: FitOptions) -> Tensor:
    """Betas (10,) from bone lengths: Gauss-Newton, ridge towards the mean body."""
    found = bones.log_length.new_zeros(UNKNOWNS)
    for _ in range(4):
        betas, scale = found[:10], found[10:]
        found = found + (bones.normal(points, betas, scale) + prior(betas, scale, options)).solve()
    return found[:10].clamp(-3, 3)


def bone_scale(landmarks: Tensor, weights: Tensor, rest: Tensor) -> Tensor:
    """How much larger the body is than the landmarks: median over bones of their length ratios."""
    return (_lengths(rest) / median_lengths(landmarks, weights))[:-2].median()


def median_lengths(landmarks: Tensor, weights: Tensor) -> Tensor:
    """Weighted medians over time (B,) m of the distances between landmarks."""
    lengths = (landmarks[:, _END] - landmarks[:, _START]).norm(dim=-1)
    w = torch.minimum(weights[:, _START], weights[:, _END]).clamp_min(1e-3) ** 2
    ordered, order = lengths.sort(dim=0)
    share = w.gather(0, order).cumsum(0)
    middle = (share < share[-1:] / 2).sum(0).clamp_max(len(lengths) - 1)
    return ordered.gather(0, middle[None])[0].clamp_min(1e-3)


def _lengths(rest: Tensor) -> Tensor:
    return (rest[_END] - rest[_START]).norm(dim=-1)
