"""Keypoints as this project's lifters read them: in a virtual camera that faces an upright trunk.

A pose's projection depends on its place in the image, so a network that reads image coordinates has to learn every pose
at every place. Here keypoints become viewing rays, rays are rotated so that the virtual camera faces the trunk, the
trunk's roll is removed, and size is normalised. The rotation is smooth over the clip and is undone on the 3D result.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv1d

from hmrkit.skeletons import COCO_17

# Frame rate of the features and of the networks that read them.
NETWORK_FPS = 30.0
# Per joint x, y, confidence; then log size, whether the focal length is known, cosine and sine of the removed roll.
FEATURES = len(COCO_17) * 3 + 4

# Spread in frames (at 30 Hz) of the Gaussians over time: steady against jitter, quick enough for a cartwheel.
_CENTER_FRAMES, _ROLL_FRAMES, _SIZE_FRAMES = 4.0, 6.0, 15.0
_DEVIATIONS = 3  # where the Gaussians are cut off
# Frames before and after that a frame's features depend on.
SMOOTHING_REACH = int(_DEVIATIONS * _SIZE_FRAMES)
# The camera faces the trunk; other joints count only where the trunk is missing.
_TRUNK_WEIGHT, _OTHER_WEIGHT = 1.0, 0.02
# An upright trunk of this many sizes joins the mean: a trunk seen end-on leaves the roll as it is.
_UPRIGHT_PRIOR = 0.15
# Joints farther than this many sizes from the trunk are outliers of the detector; farther out, their place is clamped.
_REACH = 5.0

_HIPS = COCO_17.indices("left_hip", "right_hip")
_SHOULDERS = COCO_17.indices("left_shoulder", "right_shoulder")
_WEIGHTS = torch.full((len(COCO_17),), _OTHER_WEIGHT)
_WEIGHTS[[*_HIPS, *_SHOULDERS]] = _TRUNK_WEIGHT


def encode(keypoints: Tensor, focal_known: Tensor) -> tuple[Tensor, Tensor]:
    """Network input and the way back.

    `keypoints` (B,T,17,3) at 30 Hz: x, y of the viewing ray at z = 1 (pixels without centre and focal length) and
    confidence; NaN or confidence 0 is missing. `focal_known` (B,) 1 or 0. Returns features (B,T,`FEATURES`) and
    rotations (B,T,3,3) from the virtual camera's axes to the real camera's.
    """
    seen = torch.isfinite(keypoints).all(-1) & (keypoints[..., 2] > 0)
    rays = torch.where(seen[..., None], keypoints, torch.zeros_like(keypoints))
    weight = seen * _WEIGHTS.to(rays)
    total = weight.sum(-1, keepdim=True)
    center = _smooth((weight[..., None] * rays[..., :2]).sum(-2), total, _CENTER_FRAMES)
    facing = _facing(center)

    direction = torch.cat([rays[..., :2], torch.ones_like(rays[..., :1])], -1) @ facing
    plane = direction[..., :2] / direction[..., 2:].clamp_min(0.1)
    # Size from all joints about the trunk, as a mean square that is smoothed before its root is taken.
    square = (seen * plane.square().sum(-1)).sum(-1, keepdim=True)
    count = seen.sum(-1, keepdim=True).to(rays)
    size = _smooth(square, count, _SIZE_FRAMES).clamp_min(1e-8).sqrt()

    hips, has_hips = _middle(plane, seen, _HIPS)
    shoulders, has_shoulders = _middle(plane, seen, _SHOULDERS)
    both = (has_hips & has_shoulders)[..., None].to(rays)
    trunk = _smooth(both * (shoulders - hips), both, _ROLL_FRAMES) / size
    up = trunk + torch.tensor([0.0, -_UPRIGHT_PRIOR]).to(rays)
    cosine, sine = (torch.stack([-up[..., 1], up[..., 0]]) / up.norm(dim=-1).clamp_min(1e-6)).unbind(0)
    zero, one = torch.zeros_like(cosine), torch.ones_like(cosine)
    # Columns: the virtual camera's axes after the roll, in those before it; its -y is the trunk's direction.
    roll = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], -1).unflatten(-1, (3, 3))

    place = (plane @ roll[..., :2, :2] / size[..., None]).clamp(-_REACH, _REACH)
    confidence = rays[..., 2:].clamp(0, 1)
    known = focal_known.to(rays)[:, None, None].expand_as(size)
    joints = torch.cat([place * seen[..., None], confidence], -1).flatten(-2)
    # Divisions keep the extra features about as large as the others.
    features = torch.cat([joints, (size.log() + 2) / 2, known, cosine[..., None], sine[..., None]], -1)
    return features, facing @ roll


def _middle(points: Tensor, seen: Tensor, joints: list[int]) -> tuple[Tensor, Tensor]:
    """Mean (B,T,2) of those of `joints` that are not missing, and whether any is."""
    w = seen[..., joints, None].to(points)
    return (w * points[..., joints, :]).sum(-2) / w.sum(-2).clamp_min(1), seen[..., joints].any(-1)


def _facing(center: Tensor) -> Tensor:
    """Smallest rotations (...,3,3) from a camera that faces image-plane points (...,2) to the real axes.

    The torch counterpart of `hmrkit.camera.camera_from_ray`.
    """
    ray = torch.cat([center, torch.ones_like(center[..., :1])], -1)
    x, y, z = (ray / ray.norm(dim=-1, keepdim=True)).unbind(-1)
    c = 1 / (1 + z)
    rows = [1 - c * x * x, -c * x * y, x, -c * x * y, 1 - c * y * y, y, -x, -y, z]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _smooth(weighted: Tensor, weight: Tensor, frames: float) -> Tensor:
    """Gaussian mean over time: `weighted` (B,T,C) are values times `weight` (B,T,1); where no weight is near, the
    mean of the clip."""
    reach = int(_DEVIATIONS * frames)
    offsets = torch.arange(-reach, reach + 1, device=weighted.device, dtype=weighted.dtype)
    kernel = torch.exp(-0.5 * (offsets / frames) ** 2)
    kernel = kernel / kernel.sum()
    both = torch.cat([weighted, weight], -1).transpose(1, 2)
    # The clip's mean counts a little: it decides only where a gap is longer than the kernel.
    near = conv1d(both.flatten(0, 1)[:, None], kernel[None, None], padding=reach)[:, 0].unflatten(0, both.shape[:2])
    near = near + 1e-4 * both.mean(-1, keepdim=True)
    return (near[:, :-1] / near[:, -1:].clamp_min(1e-9)).transpose(1, 2)
