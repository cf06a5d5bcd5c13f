"""The place of a synthetic clip: a ground and, around it, the walls of a room or a panorama. All of it is fixed in the
world, so that nothing swims when the camera moves, and is one lookup in a panorama, as in `backgrounds`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hmrkit.rendering.rasteriser import Fragments, interpolate_at, visible_fragments
from hmrkit.synthetic.backgrounds import Backdrops
from hmrkit.synthetic.lighting import Light, irradiance, sphere_shadows

# How often a place is a room.
ROOMS = 0.5
# The ground's texture fades into its mean colour so far away, where it would flicker.
FADES_M = 9.0
SHADOW_STEP = 8  # pixels between those in which the shadow on the ground is worked out

# A box: its corners in units of its half sides, and two triangles a side, counter-clockwise from outside.
_CORNERS = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
_SIDES = torch.tensor([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
BOX_FACES = torch.cat([_SIDES[:, [0, 1, 2]], _SIDES[:, [0, 2, 3]]])
_NORMALS = torch.tensor([[-1.0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]]).repeat(2, 1)


@dataclass(frozen=True)
class Paper:
    """Pieces of a panorama as texture of S surfaces, mirrored where they end: `scale` (S,) of metres, `shift` (S,2),
    `corner` (S,2) in the panorama, `tint` (S,3), `plain` (S,) without texture."""

    scale: Tensor
    shift: Tensor
    corner: Tensor
    tint: Tensor
    plain: Tensor

    @staticmethod
    def draw(count: int, g: torch.Generator) -> Paper:
        """For `count` surfaces."""
        scale = 0.2 * 6 ** torch.rand(count, generator=g)
        corner = torch.rand(count, 2, generator=g) * torch.tensor([0.8, 0.3]) + torch.tensor([0.0, 0.4])
        tint = (0.25 + 0.7 * torch.rand(count, 1, generator=g)) * (1 + 0.3 * (torch.rand(count, 3, generator=g) - 0.5))
        return Paper(scale, 2 * torch.rand(count, 2, generator=g), corner, tint, torch.rand(count, generator=g) < 0.3)

    def at(self, x: Tensor, y: Tensor, surface: Tensor | int) -> tuple[Tensor, Tensor]:
        """u and v in the panorama of places x, y m on surfaces (indices of the same shape, or one)."""
        scale, shift, corner = self.scale[surface], self.shift[surface], self.corner[surface]
        u = ((x * scale + shift[..., 0]) % 2 - 1).abs()
        v = ((y * scale + shift[..., 1]) % 2 - 1).abs()
        return corner[..., 0] + 0.2 * u, corner[..., 1] + 0.25 * v


class Place:
    """One place with its light. Surfaces of `Paper`: ground, two pairs of walls, ceiling, then the boxes."""

    def __init__(self, backdrops: Backdrops, reach: float, boxes: int, generator: torch.Generator) -> None:
        """`reach` m: how far from the middle the camera gets."""
        g = generator
        self._backdrops = backdrops
        self.which, self.yaw, self.light = backdrops.draw(1, g)
        self.room = bool(torch.rand((), generator=g) < ROOMS)
        self._half = reach * (1.05 + 0.5 * torch.rand(2, generator=g))
        self._rotation = float(2 * math.pi * torch.rand((), generator=g))
        self._height = float(2.6 + 1.6 * torch.rand((), generator=g))
        self._zoom = float(1.6 + 0.8 * torch.rand((), generator=g))
        self._paper = Paper.draw(4 + boxes, g)
        up = torch.tensor([[0.0, 1.0, 0.0]])
        level = irradiance(self.light.harmonics, up) + self.light.sun_colour * (
            self.light.sun[:, 1:2].clamp_min(0.2) / math.pi
        )
        self._level = level[0]

    def paint(self, rays: Tensor, eye: Tensor) -> tuple[Tensor, Tensor]:
        """Radiance (3,F,H,W) along world rays (3,F,H,W) from `eye` (F,3), and which pixels are ground (F,H,W)."""
        x, y, z = rays
        ex, ey, ez = eye.T[..., None, None].unbind(0)
        infinite = torch.full_like(y, 1e4)
        to_ground = torch.where(y < -1e-4, -ey / y, infinite)
        if not self.room:
            ground = to_ground < 60
            px, pz = ex + to_ground * x, ez + to_ground * z
            u, v = self._paper.at(px, pz, 0)
            ring = (x * x + z * z).sqrt()
            # From the horizon up, enlarged; what the panorama has below is hidden by the ground. Enlarged, it does not
            # close around: one half of it is the other in a mirror.
            far_u = torch.atan2(x, z).abs() * (0.5 / math.pi / self._zoom) + float(self.yaw) / (2 * math.pi)
            far_v = 0.5 - torch.atan2(y, ring) * (1 / math.pi / self._zoom)
            # One lookup for both: a pixel is ground or panorama.
            found = self._lookup(torch.where(ground, u, far_u % 1), torch.where(ground, v, far_v))
            first = torch.zeros(1, 1, 1, dtype=torch.int64)
            mean = self._papered(self._lookup(*_middle(self._paper, 0), blurred=True), first)
            near = ((ey.abs() - to_ground).clamp_max_(0) / FADES_M).exp_()
            return torch.where(ground, torch.lerp(mean, self._papered(found, first), near), found), ground
        cosine, sine = math.cos(self._rotation), math.sin(self._rotation)
        ray = (cosine * x + sine * z, y, cosine * z - sine * x)
        at = (cosine * ex + sine * ez, ey, cosine * ez - sine * ex)
        walls = [
            torch.where(d.abs() > 1e-6, (torch.sign(d) * h - e) / d, infinite)
            for d, e, h in ((ray[0], at[0], float(self._half[0])), (ray[2], at[2], float(self._half[1])))
        ]
        to_ceiling = torch.where(y > 1e-4, (self._height - ey) / y, infinite)
        distance, surface = torch.stack([to_ground, walls[0], walls[1], to_ceiling]).min(0)
        px, py, pz = (e + distance * d for e, d in zip(at, ray, strict=True))
        along = torch.where(surface == 1, pz, px)
        aside = torch.where((surface == 0) | (surface == 3), pz, py)
        radiance = self._papered(self._lookup(*self._paper.at(along, aside, surface)), surface)
        return radiance * torch.where(surface == 0, 1.0, 0.65), surface == 0

    def shadow(self, rotation: Tensor, eye: Tensor, focal_px: float, size: tuple[int, int], spheres: Tensor) -> Tensor:
        """What bodies with `spheres` (F,S,4) in the world leave of the light on the ground, (F,H,W)."""
        height, width = size[0] // SHADOW_STEP, size[1] // SHADOW_STEP
        x, y, z = world_rays(rotation, focal_px * height / size[0], (height, width))
        seen = y < -0.02
        reach = torch.where(seen, -eye[:, 1, None, None] / y, 1e3)
        points = torch.stack([(eye[:, k, None, None] + reach * d).flatten(1) for k, d in enumerate((x, y, z))], -1)
        up = points.new_tensor([0.0, 1.0, 0.0])
        light = self.light
        count = len(rotation)
        ambient, direct = sphere_shadows(
            points, up, spheres, light.sun.expand(count, 3), light.softness.expand(count)
        )  # fmt: skip
        base = irradiance(light.harmonics, up[None]).mean()
        sun = light.sun_colour.mean() * light.sun[0, 1].clamp_min(0) / math.pi
        share = sun / (base + sun).clamp_min(1e-6)
        left = (ambient * (1 - share) + direct * share).view(count, 1, height, width)
        left = torch.where(seen[:, None], left, 1.0)
        return functional.interpolate(left, size=size, mode="bilinear", align_corners=False)[:, 0]

    def box_radiance(self, found: Fragments, half: Tensor, yaw: Tensor) -> Tensor:
        """Radiance (P,3) of fragments of boxes (`visible_boxes`): half sides `half` (K,3) m, rotated by `yaw` (K,)."""
        box = found.mesh % len(half)
        normal = _NORMALS[found.face]
        local = interpolate_at(_CORNERS * half[:, None], BOX_FACES, box, found.face, found.barycentrics)
        side = normal.abs().argmax(-1)
        along = torch.where(side == 0, local[:, 2], local[:, 0])
        aside = torch.where(side == 1, local[:, 2], local[:, 1])
        surface = box + 4
        u, v = self._paper.at(along, aside, surface)
        texture = self._lookup(u[None, None], v[None, None])
        albedo = self._papered(texture, surface[None, None])[:, 0, 0].T / self._level
        cosine, sine = yaw[box].cos(), yaw[box].sin()
        world = torch.stack(
            [cosine * normal[:, 0] + sine * normal[:, 2], normal[:, 1], cosine * normal[:, 2] - sine * normal[:, 0]], -1
        )
        light: Light = self.light
        direct = (world * light.sun).sum(-1, keepdim=True).clamp_min(0) * light.sun_colour / math.pi
        return albedo * (irradiance(light.harmonics, world) + direct)

    def _lookup(self, u: Tensor, v: Tensor, blurred: bool = False) -> Tensor:
        return self._backdrops.lookup(u, v, self.which + blurred * self._backdrops.count)

    def _papered(self, found: Tensor, surface: Tensor) -> Tensor:
        """Radiance (3,...) of surfaces (...) whose texture is `found` (3,...)."""
        grey = torch.where(self._paper.plain[surface], 0.6, found / (found + 0.6))
        colour = (self._paper.tint * self._level)[surface]
        return grey * colour.movedim(-1, 0)


def _middle(paper: Paper, surface: int) -> tuple[Tensor, Tensor]:
    u, v = paper.corner[surface] + torch.tensor([0.1, 0.125])
    return u.view(1, 1, 1), v.view(1, 1, 1)


def world_rays(rotation: Tensor, focal_px: float, size: tuple[int, int]) -> Tensor:
    """Rays (3,F,H,W) in the world, of depth 1, through the middles of the pixels of cameras with `rotation` (F,3,3)."""
    height, width = size
    x = ((torch.arange(width) + 0.5 - width / 2) / focal_px).view(1, 1, 1, -1)
    y = ((torch.arange(height) + 0.5 - height / 2) / focal_px).view(1, 1, -1, 1)
    right, down, ahead = (rotation[:, k].T[..., None, None] for k in range(3))
    return right * x + ahead + down * y


def box_corners(half: Tensor, yaw: Tensor) -> Tensor:
    """Corners (K,8,3) m of boxes from their middles, rotated by `yaw` (K,) about +y."""
    points = _CORNERS * half[:, None]
    cosine, sine = yaw.cos()[:, None], yaw.sin()[:, None]
    x, y, z = points.unbind(-1)
    return torch.stack([cosine * x + sine * z, y, cosine * z - sine * x], -1)


def visible_boxes(
    centers: Tensor, corners: Tensor, rotation: Tensor, transl: Tensor, focal_px: float, size: tuple[int, int]
) -> Fragments:
    """Fragments of boxes with their middles at `centers` (F,K,3) in F images; mesh k + K f is box k of image f."""
    frames, boxes = centers.shape[:2]
    points = (centers[:, :, None] + corners).flatten(1, 2) @ rotation.mT + transl[:, None]
    image = torch.arange(frames).repeat_interleave(boxes)
    focal = torch.full((2,), focal_px)
    center = torch.tensor([size[1] / 2, size[0] / 2])
    return visible_fragments(points.view(-1, 8, 3), BOX_FACES, focal, center, size, image, frames)
