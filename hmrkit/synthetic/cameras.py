"""Where a synthetic person is seen from: a camera in a world with y up, and the square that the chain would cut.

Every number is drawn from the caller's CPU generator and moved to the device of the points, so a seed gives the same
views wherever the images are rendered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.body import Body
from hmrkit.crops import REGION_POINTS
from hmrkit.geometry import rotation_between

# The full image's longer side in px, and its shapes (width / height) with how often.
LONGER_SIDE = 1280
ASPECTS, ASPECT_WEIGHTS = (16 / 9, 9 / 16, 4 / 3, 1.0), (0.55, 0.2, 0.15, 0.1)
PERSON_M = 1.7


@dataclass(frozen=True)
class Difficulty:
    """How hard the images are; shares of the samples between 0 and 1, angles in degrees.

    `truncated`: cut by the image's border; `wrong_angle`: cropped at a wrong angle; `crowded`: with another body;
    `occluded`: with objects in front; `jitter`: scales all errors of the crop (0: the crop's rule exactly);
    `degraded`: scales how often the camera blurs, compresses and is of low resolution (0: a perfect camera);
    `near`: a wide lens near by, often high, as webcams, telephones and cameras on walls see people.
    """

    truncated: float = 0.12
    wrong_angle: float = 0.02
    crowded: float = 0.1
    occluded: float = 0.2
    jitter: float = 0.8
    degraded: float = 0.6
    near: float = 0.0


# Left to chance, one camera in thirteen is nearer than 3 m. Seen from so near and from above, legs look much shorter
# than the trunk, and what had learned from few such images took people who stand for people who crouch.
TRAINING = Difficulty(near=0.3)


@dataclass(frozen=True)
class Views:
    """One camera a sample: ``x_c = rotation @ x_w + transl`` for a world point, in the crop's own camera.

    `rotation` (B,3,3), `transl` (B,3) m, `focal_px` (B,) of the crop; `full_from_crop` (B,3,3) turns its rays into the
    full image's camera, whose image ends at `half_view` (B,2) (tangents); `resolution` (B,) source pixels along the
    crop's side.
    """

    rotation: Tensor
    transl: Tensor
    focal_px: Tensor
    full_from_crop: Tensor
    half_view: Tensor
    resolution: Tensor

    def __getitem__(self, rows: Tensor) -> Views:
        return Views(*(value[rows] for value in vars(self).values()))

    @property
    def eye(self) -> Tensor:
        """Where the cameras are in the world (B,3) m."""
        return -(self.rotation.mT @ self.transl[..., None])[..., 0]

    def apply(self, points_w: Tensor) -> Tensor:
        """World points (B,P,3) m -> the crop's camera (B,P,3) m."""
        return points_w @ self.rotation.mT + self.transl[:, None]

    def project(self, points_c: Tensor, size: int) -> Tensor:
        """Points (B,P,3) of the crop's camera -> crop pixels (B,P,2)."""
        return points_c[..., :2] / points_c[..., 2:] * self.focal_px[:, None, None] + size / 2

    def inside_image(self, size: int) -> Tensor:
        """Which pixels of the crops the full image shows (B,S,S) bool."""
        middles = (torch.arange(size, device=self.focal_px.device) + 0.5 - size / 2) / self.focal_px[:, None]
        x, y, rotation = middles[:, None, :], middles[:, :, None], self.full_from_crop[..., None, None]
        full_x, full_y, full_z = ((rotation[:, k, 0] * x + rotation[:, k, 2]) + rotation[:, k, 1] * y for k in range(3))
        half_x, half_y = self.half_view[..., None, None].unbind(1)
        return (full_z > 0) & (full_x.abs() < half_x * full_z) & (full_y.abs() < half_y * full_z)


def uniform(low: float, high: float, shape: tuple[int, ...], g: torch.Generator, device: torch.device) -> Tensor:
    """Uniform numbers drawn on the CPU, on `device`."""
    return (low + (high - low) * torch.rand(shape, generator=g)).to(device)


def chance(probability: float, shape: tuple[int, ...], g: torch.Generator, device: torch.device) -> Tensor:
    """True with that probability, drawn on the CPU, on `device`."""
    return (torch.rand(shape, generator=g) < probability).to(device)


def region_points(body: Body, keypoints: Tensor) -> Tensor:
    """Of a body's keypoints (B,K,3) the 13 (B,13,3) that decide the crop, in the order of `REGION_POINTS`."""
    return keypoints[:, [body.keypoint_names.index(name) for name in REGION_POINTS]]


def draw_views(
    points_w: Tensor, pelvis_w: Tensor, difficulty: Difficulty, size: int, generator: torch.Generator
) -> Views:
    """A camera and a crop for each person, given by points (B,13,3) (`REGION_POINTS`) and pelvis (B,3), m."""
    g, device, count = generator, points_w.device, len(points_w)
    near = torch.zeros(count, dtype=torch.bool, device=device)
    if difficulty.near:  # Not drawn otherwise: the benchmark's images come from the same generator.
        near = chance(difficulty.near, (count,), g, device)
    facing = _facing_rotation(near, g)
    share = uniform(0, 1, (count,), g, device)
    fov = torch.deg2rad(torch.where(near, 55 * (90 / 55) ** share, 20 * (90 / 20) ** share))
    focal = LONGER_SIDE / 2 / (fov / 2).tan()
    shape = torch.multinomial(torch.tensor(ASPECT_WEIGHTS), count, replacement=True, generator=g)
    aspect = torch.tensor(ASPECTS)[shape].to(device)
    width, height = LONGER_SIDE * aspect.clamp(max=1), LONGER_SIDE / aspect.clamp(min=1)
    half_view = torch.stack([width, height], -1) / 2 / focal[:, None]
    cut = chance(difficulty.truncated, (count,), g, device)

    # First a camera that looks straight at the pelvis, from where the person is as tall as wanted.
    tallest = torch.where(cut, torch.full_like(height, 1000.0), (0.95 * height).clamp(max=1000))
    share = uniform(0, 1, (count,), g, device)
    tall = torch.where(near, tallest * 0.5**share, 80 * (tallest / 80) ** share)
    points = (points_w - pelvis_w[:, None]) @ facing.mT
    distance = torch.maximum(PERSON_M * focal / tall, 0.6 - points[..., 2].amin(1))
    points = torch.cat([points[..., :2], points[..., 2:] + distance[:, None, None]], -1)
    plane = points[..., :2] / points[..., 2:]
    low, high = plane.amin(1), plane.amax(1)
    extent = high - low
    low, high = low - 0.08 * extent, high + 0.08 * extent

    # Then it rotates away until the person stands somewhere in the image, or the image's border cuts the person.
    where = uniform(0, 1, (2, count, 2), g, device).mean(0)
    first, last = high - half_view, low + half_view
    axis = torch.where(first < last, first + (last - first) * where, (first + last) / 2)
    axis = axis.clamp(-1, 1)
    share = 0.08 + 0.5 * uniform(0, 1, (count,), g, device) ** 1.5
    side = torch.multinomial(torch.tensor([0.55, 0.1, 0.175, 0.175]), count, replacement=True, generator=g).to(device)
    lost = share[:, None] * extent
    borders = torch.stack(
        [high - lost - half_view, low + lost + half_view, high - lost - half_view, low + lost + half_view], 1
    )
    wanted = borders.gather(1, side[:, None, None].expand(-1, 1, 2))[:, 0]
    vertical = side < 2
    axis_x = torch.where(cut & ~vertical, wanted[:, 0], axis[:, 0])
    axis_y = torch.where(cut & vertical, wanted[:, 1], axis[:, 1])
    forward = points.new_tensor([0.0, 0.0, 1.0]).expand(count, 3)
    full_from_facing = rotation_between(torch.stack([axis_x, axis_y, torch.ones_like(axis_x)], -1), forward)

    # The crop that the chain would cut out of that image, with errors; its own camera looks along its middle.
    points = points @ full_from_facing.mT
    image = points[..., :2] / points[..., 2:].clamp_min(0.1) * focal[:, None, None]
    center, side_px, angle = region_of_points(image)
    center, side_px, angle = _jittered(center, side_px, angle, difficulty, g)
    ray = torch.cat([center / focal[:, None], torch.ones_like(center[:, :1])], -1)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    roll = torch.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, zero + 1], -1).view(-1, 3, 3)
    crop_from_full = roll @ rotation_between(ray, forward)
    rotation = crop_from_full @ full_from_facing @ facing
    place = (crop_from_full @ full_from_facing)[:, :, 2] * distance[:, None]
    transl = place - (rotation @ pelvis_w[..., None]).squeeze(-1)
    focal_crop = focal * ray.norm(dim=-1) * size / side_px
    return Views(rotation, transl, focal_crop, crop_from_full.mT, half_view, side_px)


def region_of_points(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre (B,2) px, side (B,) px and angle (B,) rad: `hmrkit.crops.person_region` of (B,13,2) px on any device."""
    hips, shoulders = image[:, 7:9].mean(1), image[:, 1:3].mean(1)
    radius = 1.15 * (image - hips[:, None]).norm(dim=-1).amax(-1)
    trunk = shoulders - hips
    trust = ((trunk.norm(dim=-1) / radius.clamp_min(1e-6) - 0.1) / 0.2).clamp(0, 1)
    return hips, 2.5 * radius, trust * torch.atan2(trunk[:, 0], -trunk[:, 1])


def _jittered(
    center: Tensor, side: Tensor, angle: Tensor, difficulty: Difficulty, g: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    count, device, jitter = len(side), side.device, difficulty.jitter
    center = center + side[:, None] * uniform(-0.06 * jitter, 0.06 * jitter, (count, 2), g, device)
    side = side * 1.25 ** (jitter * uniform(-1, 1, (count,), g, device))
    error = uniform(-12, 12, (count,), g, device)
    wild = chance(difficulty.wrong_angle, (count,), g, device)
    error = torch.where(wild, error * 40 / 12, error)
    return center, side, angle + torch.deg2rad(error) * jitter


def _facing_rotation(near: Tensor, g: torch.Generator) -> Tensor:
    """World (y up) to a camera (x right, y down, z forward) that looks at the person: (B,3,3).

    Any azimuth; mostly between 10 degrees from below and 30 from above, tails to -30 and 75, those that are `near`
    (B,) bool from -10 to 50; little roll.
    """
    count, device = len(near), near.device
    azimuth = uniform(-math.pi, math.pi, (count,), g, device)
    kind = torch.rand(count, generator=g).to(device)
    share = uniform(0, 1, (count,), g, device)
    elevation = torch.where(kind < 0.75, -10 + 40 * share, torch.where(kind < 0.95, 30 + 45 * share, -10 - 20 * share))
    elevation = torch.deg2rad(torch.where(near, -10 + 60 * share, elevation))
    roll = torch.deg2rad((4 * torch.randn(count, generator=g)).clamp(-12, 12)).to(device)
    ca, sa, ce, se, zero = azimuth.cos(), azimuth.sin(), elevation.cos(), elevation.sin(), torch.zeros_like(azimuth)
    forward = torch.stack([sa * ce, -se, ca * ce], -1)
    right = torch.stack([-ca, zero, sa], -1)
    down = torch.linalg.cross(forward, right)
    spin = torch.stack([roll.cos(), -roll.sin(), roll.sin(), roll.cos()], -1).view(-1, 2, 2)
    upright = spin @ torch.stack([normalize(right, dim=-1), normalize(down, dim=-1)], 1)
    return torch.cat([upright, forward[:, None]], 1)
