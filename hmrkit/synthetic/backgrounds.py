"""What is around a synthetic person: panoramas, rooms papered with pieces of them, plain walls, things in front.

All of it is one lookup: every pixel says where in which panorama it gets its colour from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hmrkit.synthetic.cameras import Difficulty, Views, chance, uniform
from hmrkit.synthetic.lighting import (
    Light,
    irradiance,
    panorama_light,
    rotate_about_up,
    rotate_harmonics,
    sphere_shadows,
)

# Shares of panorama, room and plain backgrounds.
KINDS = (0.6, 0.28, 0.12)
FLOOR_PIXELS = 48
_BLUR = 8


@dataclass(frozen=True)
class Occluders:
    """Two shapes an image, in crop pixels: `center`, `half` (B,2,2), `angle` (B,2), `round` (B,2) bool (an ellipse),
    `there` (B,2) bool."""

    center: Tensor
    half: Tensor
    angle: Tensor
    round: Tensor
    there: Tensor

    def cover(self, rows: Tensor, k: int, x: Tensor, y: Tensor) -> Tensor:
        """Which pixels (R,H,W) at x, y lie behind shape k of the images `rows` (R,)."""
        cx, cy, hx, hy, angle, disc = (
            v[rows, k].view(-1, 1, 1)
            for v in (
                self.center[..., 0],
                self.center[..., 1],
                self.half[..., 0],
                self.half[..., 1],
                self.angle,
                self.round,
            )
        )
        cosine, sine = angle.cos(), angle.sin()
        along = ((cosine * (x - cx) + sine * (y - cy)) / hx).abs()
        aside = ((cosine * (y - cy) - sine * (x - cx)) / hy).abs()
        return torch.where(disc, along * along + aside * aside, torch.maximum(along, aside)) < 1


class Backdrops:
    """Panoramas (N,H,W,3), linear RGB, on one device: they light the people and fill the images behind them."""

    def __init__(self, panoramas: Tensor, device: torch.device) -> None:
        panoramas = panoramas.to(device, torch.float32)
        mean = panorama_light(panoramas)[3]
        panoramas = panoramas / mean[:, None, None, None]  # one exposure for all
        self.harmonics, self.sun, self.sun_colour, _ = panorama_light(panoramas)
        self.count, self.height, self.width = panoramas.shape[:3]
        planes = panoramas.clamp(max=30).permute(0, 3, 1, 2)
        small = functional.avg_pool2d(planes, _BLUR)
        blurred = functional.interpolate(small, size=planes.shape[2:], mode="bilinear", align_corners=False)
        # One tall image, because a lookup of its own for every sample would copy a whole panorama each.
        self._atlas = torch.cat([planes, blurred]).permute(1, 0, 2, 3).reshape(1, 3, -1, self.width).contiguous()

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Light]:
        """Panorama (B,), its rotation (B,) about up, and its light, with a lamp added to some scenes."""
        g, device = generator, self.sun.device
        which = torch.randint(self.count, (count,), generator=g).to(device)
        yaw = uniform(-math.pi, math.pi, (count,), g, device)
        harmonics = rotate_harmonics(self.harmonics[which], yaw)
        sun, colour = rotate_about_up(self.sun[which], yaw), self.sun_colour[which]
        # A lamp from anywhere above instead of the panorama's own sun: a third of the scenes.
        around, up = uniform(-math.pi, math.pi, (count,), g, device), uniform(0.1, 0.95, (count,), g, device)
        ring = (1 - up * up).sqrt()
        lamp = torch.stack([ring * around.cos(), up, ring * around.sin()], -1)
        warmth = uniform(0.75, 1.25, (count, 3), g, device)
        own_lamp = chance(0.35, (count,), g, device)[:, None]
        strength = 1.5 * uniform(0.2, 2.0, (count, 1), g, device)
        sun = torch.where(own_lamp, lamp, sun)
        # A sun many times as bright as all the rest leaves only black and white: as much as a camera still shows.
        colour = torch.where(own_lamp, warmth * strength, colour * (6 / colour.mean(-1, keepdim=True).clamp_min(6)))
        return which, yaw, Light(harmonics, sun, colour, uniform(0.02, 0.25, (count,), g, device))

    def lookup(self, u: Tensor, v: Tensor, which: Tensor) -> Tensor:
        """Radiance (3,B,H,W) at u, v (B,H,W) in [0, 1] of panorama `which` (B,) (+ `count`: its blurred copy)."""
        u, v = torch.broadcast_tensors(u, v)
        half = 0.5 / self.height
        v = (v.clamp(half, 1 - half) + which.view(-1, 1, 1)) * (1 / self.count) - 1
        grid = torch.stack([2 * u - 1, v], -1).view(1, -1, u.shape[2], 2)
        found = functional.grid_sample(self._atlas, grid, padding_mode="border", align_corners=False)
        return found.view(3, *u.shape)

    def paint(
        self, views: Views, which: Tensor, yaw: Tensor, light: Light, floor_y: Tensor, size: int,
        occluders: Occluders, generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Everything but the people: radiance (3,B,S,S), and whether it is in front of the people (B,S,S).

        `floor_y` (B,) m in the world.
        """
        g, device, count = generator, self.sun.device, len(floor_y)
        kind = torch.multinomial(torch.tensor(KINDS), count, True, generator=g)
        patches = _Patches(count, g, device)
        up = light.sun.new_tensor([0.0, 1.0, 0.0]).expand(count, 3)
        level = irradiance(light.harmonics, up) + light.sun_colour * (light.sun[:, 1:2].clamp_min(0.2) / math.pi)
        level = level.T[:, :, None, None]
        colours = self._colours(count, 4, g) * level[:, None]
        gradient = _gradient(count, size, g, device)
        zoom, rotation, away, blurred = (uniform(0, 1, (count,), g, device) for _ in range(4))
        tinted = uniform(0, 1, (count, 1, 1), g, device)

        # Plain walls everywhere first; then each kind on its own rows only.
        out = (0.6 * colours[:, 0] * gradient).contiguous()
        rows = (kind == 0).nonzero()[:, 0].to(device)
        if len(rows):
            out[:, rows] = self._place(views[rows], which[rows], yaw[rows], zoom[rows], blurred[rows], size)
        rows = (kind == 1).nonzero()[:, 0].to(device)
        if len(rows):
            uv, on_floor = _room(views[rows], floor_y[rows], rotation[rows], away[rows], patches, rows, size)
            paper = self.lookup(uv[0], uv[1], which[rows])
            paper = paper / (paper + 0.6) * gradient[rows] * level[:, rows]
            paper = paper * torch.where(on_floor, 1.0, 0.6)
            out[:, rows] = torch.lerp(paper, paper * 2 * colours[:, 1, rows] / level[:, rows], tinted[rows])

        covered = torch.zeros(count, size, size, dtype=torch.bool, device=device)
        for k in range(2):
            rows = occluders.there[:, k].nonzero()[:, 0].to(device)
            if not len(rows):
                continue
            x, y = _crop_grid(size, device)
            cover = occluders.cover(rows, k, x, y)
            paper = self.lookup(*patches.at(x * (4 / size), y * (4 / size), 2 + k, rows), which[rows])
            paper = paper / (paper + 0.6) * level[:, rows] * 0.6
            plain = 0.6 * colours[:, 2 + k, rows]
            surface = torch.where(patches.plain[k, rows], plain, paper) * gradient[rows].flip(-1)
            out[:, rows] = torch.where(cover, surface, out[:, rows])
            covered[rows] |= cover
        return out, covered

    def _place(self, views: Views, which: Tensor, yaw: Tensor, zoom: Tensor, blurred: Tensor, size: int) -> Tensor:
        """What the panorama shows behind people, (3,B,S,S)."""
        # Panoramas have few pixels a degree: through a wider lens than the person they are as sharp as a photograph.
        tangent = size / 2 / views.focal_px
        wide = (0.2 + 0.7 * zoom).clamp_min(tangent) / tangent
        rays = pixel_rays(views.focal_px / wide, size, size)
        x, y, z = rotated(rays, rotate_rows(views.rotation, yaw))
        u = torch.atan2(x, z) / (2 * math.pi) + 0.5
        v = torch.atan2((x * x + z * z).sqrt_(), y) / math.pi
        return self.lookup(u, v, which + (blurred < 0.25).long() * self.count)

    def _colours(self, count: int, number: int, g: torch.Generator) -> Tensor:
        """Plain colours (3,number,B,1,1): mostly dull, any brightness."""
        grey = uniform(0.03, 0.85, (1, number, count, 1, 1), g, self.sun.device) ** 1.5
        hue = uniform(-1, 1, (3, number, count, 1, 1), g, self.sun.device)
        vivid = uniform(0, 1, (1, number, count, 1, 1), g, self.sun.device) ** 2
        return (grey * (1 + hue * vivid)).clamp(0.01, 0.95)

    def floor_shadow(self, views: Views, light: Light, floor_y: Tensor, spheres: Tensor, size: int) -> Tensor:
        """What is left of the light (B,S,S) on the floor about a body with `spheres` (B,S,4) in the world."""
        count, small = len(floor_y), FLOOR_PIXELS
        rays = rotated(pixel_rays(views.focal_px, size, small), views.rotation)
        eye = views.eye
        reach = (floor_y - eye[:, 1]).view(-1, 1, 1) / rays[1]
        seen = (reach > 0) & (rays[1] < -0.02)
        reach = torch.where(seen, reach, 1e3).flatten(1)
        points = torch.stack([e[:, None] + reach * r.flatten(1) for e, r in zip(eye.unbind(-1), rays, strict=True)], -1)
        up = points.new_tensor([0.0, 1.0, 0.0])
        ambient, direct = sphere_shadows(points, up, spheres, light.sun, light.softness)
        base = irradiance(light.harmonics, up.expand(count, 3)).mean(-1)
        sun = light.sun_colour.mean(-1) * light.sun[:, 1].clamp_min(0) / math.pi
        share = (sun / (base + sun).clamp_min(1e-6))[:, None]
        left = (ambient * (1 - share) + direct * share).view(-1, 1, small, small)
        left = torch.where(seen[:, None], left, 1.0)
        return functional.interpolate(left, size=(size, size), mode="bilinear", align_corners=False)[:, 0]


class _Patches:
    """Pieces of panoramas as wallpaper for the four surfaces of B samples (floor, wall, two occluders), mirrored where
    they end; `plain` (2,B,1,1): occluders without."""

    def __init__(self, count: int, g: torch.Generator, device: torch.device) -> None:
        self.scale = 0.15 * 12 ** uniform(0, 1, (4, count, 1, 1), g, device)
        self.shift = uniform(0, 2, (2, 4, count, 1, 1), g, device)
        self.left = uniform(0, 0.8, (4, count, 1, 1), g, device)
        self.top = uniform(0.25, 0.75, (4, count, 1, 1), g, device)
        self.plain = chance(0.5, (2, count, 1, 1), g, device)

    def at(self, x: Tensor, y: Tensor, k: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """u and v (R,H,W) of coordinates x, y (R,H,W) on surface k of samples `rows` (R,)."""
        scale, shift = self.scale[k, rows], self.shift[:, k, rows]
        u = self.left[k, rows] + 0.2 * ((x * scale + shift[0]) % 2 - 1).abs()
        return u, self.top[k, rows] + 0.25 * ((y * scale + shift[1]) % 2 - 1).abs()


def _room(
    views: Views, floor_y: Tensor, rotation: Tensor, away: Tensor, patches: _Patches, rows: Tensor, size: int
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """A papered floor and wall behind the people: u and v (R,S,S), and which pixels are floor."""
    x, y, z = rotated(pixel_rays(views.focal_px, size, size), views.rotation)
    eye_x, eye_y, eye_z = views.eye.T[..., None, None].unbind(0)
    drop = floor_y.view(-1, 1, 1) - eye_y
    to_floor = drop / y
    to_floor = torch.where((to_floor > 0) & (drop < 0), to_floor, 1e4)
    # The wall's normal: level, about opposite to the view. `rotation` and `away` (R,) in [0, 1].
    look = views.rotation[:, 2]
    angle = (torch.atan2(look[:, 0], look[:, 2]) + 1.4 * rotation - 0.7).view(-1, 1, 1)
    sine, cosine = angle.sin(), angle.cos()
    depth = (-(eye_x * sine + eye_z * cosine) + 0.7 + 5 * away.view(-1, 1, 1) ** 2).clamp_min(1.0)
    to_wall = depth / (x * sine + z * cosine)
    to_wall = torch.where(to_wall > 0, to_wall, 2e4)
    on_floor = to_floor < to_wall
    distance = torch.minimum(to_floor, to_wall).clamp_(max=100)
    x, y, z = eye_x + distance * x, eye_y + distance * y, eye_z + distance * z
    floor, wall = patches.at(x, z, 0, rows), patches.at(x * cosine - z * sine, y, 1, rows)
    return (torch.where(on_floor, floor[0], wall[0]), torch.where(on_floor, floor[1], wall[1])), on_floor


def _gradient(count: int, size: int, g: torch.Generator, device: torch.device) -> Tensor:
    """Light that falls off across the images (B,S,S)."""
    slope = uniform(-0.35, 0.35, (2, count, 1, 1), g, device)
    x, y = _crop_grid(size, device)
    return 1 + slope[0] * (2 * x / size - 1) + slope[1] * (2 * y / size - 1)


def _crop_grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x (1,1,S) and y (1,S,1) of the pixels' middles."""
    middles = torch.arange(size, device=device) + 0.5
    return middles.view(1, 1, -1), middles.view(1, -1, 1)


def pixel_rays(focal_px: Tensor, size: int, samples: int) -> tuple[Tensor, Tensor]:
    """x (B,1,samples) and y (B,samples,1) of rays with z = 1 through an even grid of pixels of crops of side `size`."""
    middles = (torch.arange(samples, device=focal_px.device) + 0.5) * (size / samples) - size / 2
    plane = middles / focal_px[:, None]
    return plane[:, None, :], plane[:, :, None]


def rotated(rays: tuple[Tensor, Tensor], rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rays of `pixel_rays` by the transposed `rotation` (B,3,3): x, y and z (B,H,W)."""
    x, y = rays
    r = rotation[..., None, None]
    # Each is one addition per pixel: a plane is the sum of a row and a column.
    a, b, c = ((r[:, 0, k] * x + r[:, 2, k]) + r[:, 1, k] * y for k in range(3))
    return a, b, c


def rotate_rows(rotation: Tensor, yaw: Tensor) -> Tensor:
    """`rotation` (B,3,3) whose rows are rotated by minus `yaw` (B,) about +y: from the world to the panorama's axes."""
    return rotate_about_up(rotation, -yaw)


def draw_occluders(
    count: int, difficulty: Difficulty, size: int, g: torch.Generator, device: torch.device
) -> Occluders:
    """Bars, boxes and discs over a part of the images."""
    there = chance(difficulty.occluded, (count, 1), g, device) & torch.cat(
        [torch.ones(count, 1, dtype=torch.bool, device=device), chance(0.3, (count, 1), g, device)], 1
    )
    center = size * uniform(0.15, 0.85, (count, 2, 2), g, device)
    half = size * (0.04 + 0.2 * uniform(0, 1, (count, 2, 2), g, device) ** 1.5)
    bar = chance(0.3, (count, 2), g, device)
    half_x = torch.where(bar, 2.0 * size, half[..., 0])
    half_y = torch.where(bar, 0.4 * half[..., 1], half[..., 1])
    # Furniture hides the lower part of people.
    low = chance(0.25, (count, 2), g, device) & ~bar
    center_y = torch.where(low, size * (0.75 + 0.25 * uniform(0, 1, (count, 2), g, device)) + half_y, center[..., 1])
    half_x = torch.where(low, half_x * 2.5, half_x)
    tilt = torch.randn(count, 2, generator=g).to(device) * 0.15
    quarter = chance(0.5, (count, 2), g, device) & ~low
    angle = torch.where(low, 0.3 * tilt, tilt + quarter * (math.pi / 2))
    angle = torch.where(chance(0.25, (count, 2), g, device) & ~low, uniform(0, math.pi, (count, 2), g, device), angle)
    disc = chance(0.3, (count, 2), g, device) & ~bar & ~low
    return Occluders(torch.stack([center[..., 0], center_y], -1), torch.stack([half_x, half_y], -1), angle, disc, there)


def _rotated(rays: Tensor, rotation: Tensor) -> Tensor:
    """`rotation` (B,3,3) applied to rays (B,H,W,3)."""
    return (rays.flatten(1, 2) @ rotation.mT).view_as(rays)
