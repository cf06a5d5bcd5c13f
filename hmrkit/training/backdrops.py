"""What is around a synthetic person: panoramas, rooms papered with pieces of them, plain walls, things in front.

All of it is one lookup: every pixel says where in which panorama it gets its colour from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hmrkit.training.lighting import (
    Light,
    irradiance,
    panorama_light,
    panorama_uv,
    sphere_shadows,
    turn_about_up,
    turn_harmonics,
)
from hmrkit.training.scenes import Difficulty, Views, chance, uniform

# Shares of panorama, room and plain backgrounds.
KINDS = (0.6, 0.28, 0.12)
FLOOR_PIXELS = 64
_BLUR = 8


@dataclass(frozen=True)
class Occluders:
    """Two shapes a picture, in crop pixels: `center`, `half` (B,2,2), `angle` (B,2), `round` (B,2) bool (an ellipse),
    `there` (B,2) bool."""

    center: Tensor
    half: Tensor
    angle: Tensor
    round: Tensor
    there: Tensor

    def cover(self, pixels: Tensor) -> Tensor:
        """Whether crop pixels (B,P,2) lie behind each of the shapes (B,2,P)."""
        offset = pixels[:, None] - self.center[:, :, None]
        cosine, sine = self.angle.cos()[..., None], self.angle.sin()[..., None]
        x = ((cosine * offset[..., 0] + sine * offset[..., 1]) / self.half[..., :1]).abs()
        y = ((cosine * offset[..., 1] - sine * offset[..., 0]) / self.half[..., 1:]).abs()
        inside = torch.where(self.round[..., None], x * x + y * y, torch.maximum(x, y)) < 1
        return inside & self.there[..., None]


class Backdrops:
    """Panoramas (N,H,W,3), linear RGB, on one device: they light the people and fill the pictures behind them."""

    def __init__(self, panoramas: Tensor, device: torch.device) -> None:
        panoramas = panoramas.to(device, torch.float32)
        mean = panorama_light(panoramas)[3]
        panoramas = panoramas / mean[:, None, None, None]  # one exposure for all
        self.harmonics, self.sun, self.sun_colour, _ = panorama_light(panoramas)
        self.count, self.height, self.width = panoramas.shape[:3]
        planes = panoramas.clamp(max=30).permute(0, 3, 1, 2)
        small = functional.avg_pool2d(planes, _BLUR)
        blurred = functional.interpolate(small, size=planes.shape[2:], mode="bilinear", align_corners=False)
        # One tall picture, because a lookup of its own for every sample would copy a whole panorama each.
        self._atlas = torch.cat([planes, blurred]).permute(1, 0, 2, 3).reshape(1, 3, -1, self.width).contiguous()

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Light]:
        """Panorama (B,), its turn (B,) about up, and its light, with a lamp added to some scenes."""
        g, device = generator, self.sun.device
        which = torch.randint(self.count, (count,), generator=g).to(device)
        yaw = uniform(-math.pi, math.pi, (count,), g, device)
        harmonics = turn_harmonics(self.harmonics[which], yaw)
        sun, colour = turn_about_up(self.sun[which], yaw), self.sun_colour[which]
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

    def lookup(self, uv: Tensor, which: Tensor) -> Tensor:
        """Radiance (3,B,H,W) at uv (B,H,W,2) in [0, 1] of panorama `which` (B,) (+ `count`: its blurred copy)."""
        half = 0.5 / self.height
        v = (which.view(-1, 1, 1) + uv[..., 1].clamp(half, 1 - half)) / (2 * self.count)
        grid = torch.stack([uv[..., 0], v], -1).mul_(2).sub_(1).view(1, -1, uv.shape[2], 2)
        found = functional.grid_sample(self._atlas, grid, padding_mode="border", align_corners=False)
        return found.view(3, *uv.shape[:3])

    def paint(
        self, views: Views, which: Tensor, yaw: Tensor, light: Light, floor_y: Tensor, rays_c: Tensor,
        pixels: Tensor, occluders: Occluders, generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Everything but the people: radiance (3,B,H,W), and whether it is in front of the people (B,H,W).

        `rays_c` (B,H,W,3) with z = 1 in the crop's camera, `pixels` (B,H*W,2) of them, `floor_y` (B,) m in the world.
        """
        g, device = generator, self.sun.device
        count, height, width = rays_c.shape[:3]
        kind = torch.multinomial(torch.tensor(KINDS), count, True, generator=g).to(device).view(-1, 1, 1)

        # Panoramas have few pixels a degree; a background seen through a wider lens than the person is sharper.
        zoom = uniform(1.0, 2.5, (count, 1, 1, 1), g, device)
        rays = torch.cat([rays_c[..., :2] * zoom, rays_c[..., 2:]], -1)
        rays = rays / (rays * rays).sum(-1, keepdim=True).sqrt()
        uv = panorama_uv(turn_about_up(_rotated(rays, views.rotation.mT), -yaw))

        patch = _Patches(count, 5, g, device)  # floor, wall, and what the occluders are made of
        room_uv, on_floor = self._room(views, rays_c, floor_y, patch, g)
        uv = torch.where((kind == 1)[..., None], room_uv, uv)
        covers = occluders.cover(pixels).view(count, 2, height, width)
        place = rays_c[..., :2] * 2
        for k in range(2):
            uv = torch.where(covers[:, k, ..., None], patch.at(place, 2 + k), uv)
        covered = covers.any(1)
        blurred = (chance(0.3, (count,), g, device).long() * self.count) * (kind.flatten() == 0)
        radiance = self.lookup(uv, which + blurred)

        # Papered surfaces take the piece's colours as their albedo, plain ones a colour of their own.
        up = light.sun.new_tensor([0.0, 1.0, 0.0]).expand(count, 3)
        level = irradiance(light.harmonics, up) + light.sun_colour * (light.sun[:, 1:2].clamp_min(0.2) / math.pi)
        shine = torch.stack([level, 0.6 * level], 0).permute(0, 2, 1)[..., None, None]  # (2,3,B,1,1): floor, other
        level_here = torch.where(on_floor & ~covered, shine[0], shine[1])
        paper = radiance / (radiance + 0.6) * level_here
        slope = uniform(-0.35, 0.35, (2, count, 1, 1), g, device)
        gradient = 1 + slope[0] * (pixels[..., 0].view(count, height, width) / width - 0.5) * 2
        gradient = gradient + slope[1] * (pixels[..., 1].view(count, height, width) / height - 0.5) * 2
        tint = self._colours(count, 4, g)
        strength = uniform(0, 1, (4, count, 1, 1), g, device)
        paper = paper * (1 + strength[0] * (2 * tint[:, 0] - 1)) * gradient
        plain = tint[:, 1] * shine[1] * gradient
        out = torch.where(kind == 1, paper, torch.where(kind == 2, plain + 0.06 * (radiance.clamp(max=2)), radiance))
        for k in range(2):
            is_plain = strength[2 + k] < 0.5
            colour = tint[:, 2 + k] * shine[1] * gradient
            out = torch.where(covers[:, k] & is_plain, colour, torch.where(covers[:, k], paper, out))
        return out, covered

    def _colours(self, count: int, number: int, g: torch.Generator) -> Tensor:
        """Plain colours (3,number,B,1,1): mostly dull, any brightness."""
        grey = uniform(0.03, 0.85, (1, number, count, 1, 1), g, self.sun.device) ** 1.5
        hue = uniform(-1, 1, (3, number, count, 1, 1), g, self.sun.device)
        vivid = uniform(0, 1, (1, number, count, 1, 1), g, self.sun.device) ** 2
        return (grey * (1 + hue * vivid)).clamp(0.01, 0.95)

    def _room(
        self, views: Views, rays_c: Tensor, floor_y: Tensor, patch: _Patches, g: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """A floor and a wall behind the person: uv (B,H,W,2), and which pixels are floor (B,H,W)."""
        count, device = len(rays_c), rays_c.device
        rays = _rotated(rays_c, views.rotation.mT)
        eye = -(views.rotation.mT @ views.transl[..., None])[..., 0]
        drop = (floor_y - eye[:, 1]).view(-1, 1, 1)
        to_floor = drop / rays[..., 1]
        to_floor = torch.where((to_floor > 0) & (drop < 0), to_floor, 1e4)
        # The wall's normal: level, about opposite to the view.
        look = views.rotation[:, 2]
        turn = torch.atan2(look[:, 0], look[:, 2]) + uniform(-0.7, 0.7, (count,), g, device)
        ahead = torch.stack([turn.sin(), turn.cos()], -1)
        aside = torch.stack([turn.cos(), -turn.sin()], -1)
        level = rays[..., ::2].flatten(1, 2)
        depth = ((-eye[:, ::2] * ahead).sum(-1) + 0.7 + 5 * uniform(0, 1, (count,), g, device) ** 2).clamp_min(1.0)
        to_wall = depth.view(-1, 1, 1) / (level @ ahead[..., None]).view_as(to_floor)
        to_wall = torch.where(to_wall > 0, to_wall, 2e4)
        on_floor = to_floor < to_wall
        distance = torch.minimum(to_floor, to_wall).clamp(max=100)[..., None]
        point = eye.view(-1, 1, 1, 3) + distance * rays
        across = (point[..., ::2].flatten(1, 2) @ aside[..., None]).view_as(to_floor)
        wall = patch.at(torch.stack([across, point[..., 1]], -1), 1)
        return torch.where(on_floor[..., None], patch.at(point[..., ::2], 0), wall), on_floor

    def floor_shadow(self, views: Views, light: Light, floor_y: Tensor, spheres: Tensor, size: int) -> Tensor:
        """What is left of the light (B,size,size) on the floor about a body with `spheres` (B,S,4) in the world."""
        count, small = len(floor_y), FLOOR_PIXELS
        rays = _rotated(pixel_rays(views.focal_px, size, small), views.rotation.mT)
        eye = -(views.rotation.mT @ views.transl[..., None])[..., 0]
        reach = (floor_y - eye[:, 1]).view(-1, 1, 1) / rays[..., 1]
        seen = (reach > 0) & (rays[..., 1] < -0.02)
        points = (eye.view(-1, 1, 1, 3) + torch.where(seen, reach, 1e3)[..., None] * rays).view(-1, 3)
        up = points.new_tensor([0.0, 1.0, 0.0])
        owner = torch.arange(count, device=points.device).repeat_interleave(small * small)
        ambient, direct = sphere_shadows(points, up.expand_as(points), spheres, owner, light.sun, light.softness)
        base = irradiance(light.harmonics, up.expand(count, 3)).mean(-1)
        sun = light.sun_colour.mean(-1) * light.sun[:, 1].clamp_min(0) / math.pi
        share = (sun / (base + sun).clamp_min(1e-6)).view(-1, 1, 1)
        left = ambient.view(-1, small, small) * (1 - share) + direct.view(-1, small, small) * share
        left = torch.where(seen, left, 1.0)[:, None]
        return functional.interpolate(left, size=(size, size), mode="bilinear", align_corners=False)[:, 0]


class _Patches:
    """Pieces of panoramas as wallpaper: `number` a sample, mirrored where they end."""

    def __init__(self, count: int, number: int, g: torch.Generator, device: torch.device) -> None:
        self.scale = 0.15 * 12 ** uniform(0, 1, (number, count, 1, 1, 1), g, device)
        self.shift = uniform(0, 2, (number, count, 1, 1, 2), g, device)
        self.corner = uniform(0, 1, (number, count, 1, 1, 2), g, device) * torch.tensor([0.8, 0.5], device=device)
        self.corner = self.corner + torch.tensor([0.0, 0.25], device=device)
        self.extent = torch.tensor([0.2, 0.25], device=device)

    def at(self, plane: Tensor, k: int) -> Tensor:
        """uv (B,H,W,2) of coordinates (B,H,W,2) m on surface k."""
        folded = ((plane * self.scale[k] + self.shift[k]) % 2 - 1).abs()
        return self.corner[k] + folded * self.extent


def pixel_rays(focal_px: Tensor, size: int, samples: int) -> Tensor:
    """Rays (B,samples,samples,3) with z = 1 through an even grid of pixels of crops of side `size`."""
    middles = (torch.arange(samples, device=focal_px.device) + 0.5) * (size / samples) - size / 2
    x = (middles / focal_px[:, None])[:, None, :].expand(-1, samples, -1)
    y = (middles / focal_px[:, None])[:, :, None].expand(-1, -1, samples)
    return torch.stack([x, y, torch.ones_like(x)], -1)


def draw_occluders(count: int, difficulty: Difficulty, size: int, g: torch.Generator, device: torch.device) -> Occluders:
    """Bars, boxes and discs over a part of the pictures."""
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
