"""Keypoints of people under a random camera, with a detector's errors: the second half of a lifter's training sample.

The noise model decides how well a lifter works on real footage: detectors' errors are mostly constant offsets of a
joint, then gaps and outliers, and only then jitter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hmrkit.camera import ASSUMED_FOV_DEG
from hmrkit.skeletons import COCO_17

# What goes missing together, with how often.
_DROPS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (4, ("one",)),
    (1, ("nose", "left_eye", "right_eye")),
    (1, ("nose", "left_eye", "right_eye", "left_ear", "right_ear")),
    (1, ("left_wrist", "left_elbow")),
    (1, ("right_wrist", "right_elbow")),
    (1, ("left_ankle", "right_ankle")),
    (2, ("left_knee", "right_knee", "left_ankle", "right_ankle")),
    (0.5, ("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle")),
    (1, ("left_knee", "left_ankle")),
    (1, ("right_knee", "right_ankle")),
    (0.5, COCO_17.joints),
)


@dataclass(frozen=True)
class Noise:
    """Detector errors.

    `jitter` (each frame), `offset` (constant over the clip) and `drift` (slow) are standard deviations of a coordinate
    in parts of the person's box height; each is drawn per clip between 0 and the figure (the figure where `exact`).
    The others are probabilities: of a clip without these three (`clean`), of joints that are wrong for a while
    (`outliers`) or missing (`drops`), of left and right exchanged (`swaps`), of joints outside the image left out
    (`cut`), and of a lower frame rate (`low_rate`).
    """

    clean: float = 0.5
    jitter: float = 0.02
    offset: float = 0.04
    drift: float = 0.02
    outliers: float = 0.3
    drops: float = 0.35
    swaps: float = 0.1
    cut: float = 0.7
    low_rate: float = 0.25
    exact: bool = False


CLEAN = Noise(clean=1.0, outliers=0, drops=0, swaps=0, cut=0, low_rate=0)


@dataclass(frozen=True)
class Samples:
    """`keypoints` (B,T,17,3): ray x, y at z = 1 under the true or the assumed focal length, and confidence;
    `focal_known` (B,) 1 where it is the true one; `joints_c` (B,T,17,3) m about the pelvis, real camera's axes;
    `camera_from_world` (B,3,3), the rotation into those axes."""

    keypoints: Tensor
    focal_known: Tensor
    joints_c: Tensor
    camera_from_world: Tensor


def _uniform(low: float, high: float, shape: tuple[int, ...], g: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=g)


def observe(keypoints_w: Tensor, joints_w: Tensor, noise: Noise, g: torch.Generator, known: float = 0.5) -> Samples:
    """Samples of people: keypoints and joints (B,T,17,3) m in a world with y up, one random static camera each.

    `known` is the probability that the focal length is known.
    """
    b, t = keypoints_w.shape[:2]
    fov = torch.deg2rad(_uniform(30, 90, (b,), g))
    aspect = torch.tensor([16 / 9, 9 / 16, 4 / 3, 1.0])[torch.randint(4, (b,), generator=g)]
    longer = torch.tan(fov / 2)
    half = torch.stack([longer * aspect.clamp(max=1), longer / aspect.clamp(min=1)], -1)
    rotation = camera_rotation(b, g)
    # How much of the image's height a standing person fills, and where in the image the middle of the path is.
    fill = 0.15 * (1.1 / 0.15) ** torch.rand(b, generator=g)
    distance = 1.7 / (2 * half[:, 1] * fill)
    aim = _uniform(-1, 1, (b, 2), g) * (1 - 0.6 * fill[:, None]).clamp_min(0.15) * half
    center = joints_w[:, :, :1].mean(1, keepdim=True)
    keypoints = (keypoints_w - center) @ rotation.mT[:, None]
    joints = (joints_w - center) @ rotation.mT[:, None]
    nearest = torch.minimum(keypoints[..., 2].amin((1, 2)), joints[..., 2].amin((1, 2)))
    distance = torch.maximum(distance, 0.4 - nearest)
    keypoints = keypoints + (torch.cat([aim, torch.ones(b, 1)], -1) * distance[:, None])[:, None, None]
    plane = keypoints[..., :2] / keypoints[..., 2:]

    seen = torch.ones(b, t, 17)
    cut = (torch.rand(b, 1, 1, generator=g) < noise.cut) & (plane.abs() > half[:, None, None]).any(-1)
    seen = torch.where(cut, 0.0, seen)
    observed = _detect(plane, seen, noise, g)
    focal_known = (torch.rand(b, generator=g) < known).float()
    scale = torch.where(focal_known > 0, 1.0, math.tan(math.radians(ASSUMED_FOV_DEG) / 2) / longer)
    observed = torch.cat([observed[..., :2] * scale[:, None, None, None], observed[..., 2:]], -1)
    return Samples(observed, focal_known, joints - joints[:, :, :1], rotation)


def camera_rotation(batch: int, g: torch.Generator) -> Tensor:
    """World (y up) to camera (x right, y down, z forward) rotations (B,3,3): any azimuth, 20 degrees from below to 60
    from above, mostly little roll."""
    azimuth = _uniform(-math.pi, math.pi, (batch,), g)
    elevation = torch.deg2rad(_uniform(-20, 60, (batch,), g))
    roll = torch.deg2rad((torch.randn(batch, generator=g) * 12).clamp(-30, 30))
    zero = torch.zeros(batch)
    ca, sa, ce, se, cr, sr = azimuth.cos(), azimuth.sin(), elevation.cos(), elevation.sin(), roll.cos(), roll.sin()
    forward = torch.stack([sa * ce, -se, ca * ce], -1)
    right = torch.stack([-ca, zero, sa], -1)
    down = torch.linalg.cross(forward, right)
    spin = torch.stack([cr, -sr, sr, cr], -1).view(batch, 2, 2)
    return torch.cat([spin @ torch.stack([right, down], 1), forward[:, None]], 1)


def box_height(plane: Tensor) -> Tensor:
    """Mean height (B,) over the clip of the box about image points (B,T,17,2)."""
    return (plane[..., 1].amax(-1) - plane[..., 1].amin(-1)).mean(-1)


def _detect(plane: Tensor, seen: Tensor, noise: Noise, g: torch.Generator) -> Tensor:
    """Image points (B,T,17,2) and which are visible (B,T,17) -> keypoints (B,T,17,3) with a detector's errors."""
    b, t = plane.shape[:2]
    clean = torch.rand(b, 1, 1, 1, generator=g) < noise.clean
    unit = torch.where(clean, 0.0, box_height(plane)[:, None, None, None])

    def amount(most: float) -> Tensor:
        return unit * most * (1.0 if noise.exact else torch.rand(b, 1, 1, 1, generator=g))

    found = plane + amount(noise.jitter) * torch.randn(plane.shape, generator=g)
    found = found + amount(noise.offset) * torch.randn(b, 1, 17, 2, generator=g)
    if noise.drift:
        found = found + amount(noise.drift) * _slow_noise(b, t, g)
    confidence = seen * _uniform(0.5, 1, (b, 1, 17), g)
    if noise.outliers:
        # For a while a joint is somewhere near: wrong, and mostly with a low confidence.
        outlier = _intervals(b, t, 2, noise.outliers, g)
        wild = 0.12 * box_height(plane)[:, None, None, None] * _slow_noise(b, t, g)
        found = torch.where(outlier[..., None], found + wild, found)
        confidence = torch.where(outlier, confidence * _uniform(0.05, 0.9, (b, 1, 17), g), confidence)
    if noise.swaps:
        window = _windows(b, t, g, 0.0) & (torch.rand(b, 1, generator=g) < noise.swaps)
        side = torch.randint(3, (b, 1), generator=g)  # 0 legs, 1 arms, 2 all
        legs = torch.zeros(17, dtype=torch.bool)
        legs[COCO_17.indices("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle")] = True
        part = torch.where(side == 2, True, legs == (side == 0))
        found = torch.where((window[..., None] & part[:, None])[..., None], found[:, :, list(COCO_17.mirror)], found)
    if noise.drops:
        kinds = torch.tensor([float(w) for w, _ in _DROPS])
        for _ in range(2):
            kind = torch.multinomial(kinds, b, True, generator=g)
            lost = torch.nn.functional.one_hot(torch.randint(17, (b,), generator=g), 17).bool()
            masks = torch.stack([torch.tensor([j in names for j in COCO_17.joints]) for _, names in _DROPS])
            lost = torch.where(kind[:, None] == 0, lost, masks[kind])
            whole = torch.where(masks[kind].all(-1), 0.0, 0.4)
            window = _windows(b, t, g, whole[:, None]) & (torch.rand(b, 1, generator=g) < noise.drops)
            confidence = torch.where(window[..., None] & lost[:, None], 0.0, confidence)
    if noise.low_rate:
        found, confidence = _low_rate(found, confidence, noise.low_rate, g)
    return torch.cat([found, confidence[..., None]], -1)


def _slow_noise(b: int, t: int, g: torch.Generator) -> Tensor:
    """Noise (B,T,17,2) of about unit deviation that wanders within half a second."""
    knots = torch.randn(b, 34, t // 8 + 3, generator=g)
    return torch.nn.functional.interpolate(knots, size=t, mode="linear").view(b, 17, 2, t).permute(0, 3, 1, 2)


def _windows(b: int, t: int, g: torch.Generator, whole: Tensor | float) -> Tensor:
    """Random stretches (B,T) of 2 to 20 frames; the whole clip as often as `whole` says."""
    start = torch.rand(b, 1, generator=g) * t
    length = 2 + 18 * torch.rand(b, 1, generator=g)
    time = torch.arange(t)
    return ((time >= start) & (time < start + length)) | (torch.rand(b, 1, generator=g) < whole)


def _intervals(b: int, t: int, count: int, often: float, g: torch.Generator) -> Tensor:
    """Stretches (B,T,17) during which one or two random joints are affected, in `often` of the clips."""
    marked = torch.zeros(b, t, 17, dtype=torch.bool)
    some = torch.rand(b, 1, generator=g) < often
    for _ in range(count):
        joint = torch.nn.functional.one_hot(torch.randint(17, (b,), generator=g), 17).bool()
        marked |= (_windows(b, t, g, 0.1) & some)[..., None] & joint[:, None]
    return marked


def _low_rate(found: Tensor, confidence: Tensor, often: float, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some clips as if filmed at 30 / 2 to 30 / 6 Hz and brought back to 30 Hz by straight lines."""
    b, t = confidence.shape[:2]
    some = torch.rand(b, generator=g) < often
    step = torch.where(some, torch.randint(2, 7, (b,), generator=g), 1)[:, None]
    time = torch.arange(t)
    low = time - time % step
    high = torch.minimum(low + step, torch.full_like(low, t - 1))
    part = ((time - low) / (high - low).clamp_min(1))[..., None]
    rows = torch.arange(b)[:, None]
    confident = torch.minimum(confidence[rows, low], torch.where(part > 0, confidence[rows, high], 1.0))
    return torch.lerp(found[rows, low], found[rows, high], part[..., None]), confident
