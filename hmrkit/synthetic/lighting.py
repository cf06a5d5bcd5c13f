"""Light of a panorama on a body: irradiance as spherical harmonics, one sun, and shadows that the body casts on itself.

Irradiance follows Ramamoorthi and Hanrahan 2001 (nine coefficients reproduce it to 1 %). What is far brighter than
the rest of a panorama is taken out of it and becomes a directional light. Shadows and ambient occlusion come from
spheres in the limbs (after Ren et al. 2006): soft, and no second rendering is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import normalize

from hmrkit.body import Body
from hmrkit.skeletons import SMPL_24

# Radiance above this many times the panorama's mean belongs to the sun (or the lamps).
SUN_RATIO = 8.0
WAVES = 5
# Spheres that stand for the body: (joint, other joint, how far towards it, radius in m).
SPHERES: tuple[tuple[str, str, float, float], ...] = (
    ("head", "neck", -0.75, 0.10), ("neck", "head", 0.3, 0.055), ("spine3", "neck", 0.15, 0.12),
    ("spine2", "spine1", 0.0, 0.12), ("pelvis", "spine1", 0.0, 0.13),
    *(
        sphere
        for side in ("left_", "right_")
        for sphere in (
            (side + "shoulder", side + "collar", 0.3, 0.065), (side + "shoulder", side + "elbow", 0.35, 0.05),
            (side + "elbow", side + "shoulder", 0.2, 0.045), (side + "elbow", side + "wrist", 0.3, 0.042),
            (side + "wrist", side + "elbow", 0.25, 0.036), (side + "hand", side + "wrist", 0.0, 0.045),
            (side + "hip", side + "knee", 0.1, 0.085), (side + "hip", side + "knee", 0.42, 0.075),
            (side + "knee", side + "hip", 0.2, 0.065), (side + "knee", side + "ankle", 0.25, 0.058),
            (side + "ankle", side + "knee", 0.35, 0.05), (side + "ankle", side + "foot", 0.6, 0.045),
        )
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Light:
    """Light of one scene each, in the world's axes: `harmonics` (B,9,3) of the radiance; a sun towards `sun` (B,3) unit
    with irradiance `sun_colour` (B,3); `softness` (B,) of its shadows (tangent of its radius)."""

    harmonics: Tensor
    sun: Tensor
    sun_colour: Tensor
    softness: Tensor


def irradiance(harmonics: Tensor, normals: Tensor) -> Tensor:
    """Irradiance over pi (P,3) on unit `normals` (P,3) under `harmonics` (P,9,3) or (9,3): a white wall's radiance."""
    kernel = normals.new_tensor([1.0] + [2 / 3] * 3 + [0.25] * 5)
    return ((harmonic_basis(normals) * kernel)[..., None] * harmonics).sum(-2).clamp_min(0)


def harmonic_basis(directions: Tensor) -> Tensor:
    """The nine real spherical harmonics up to order 2 of unit directions (...,3) -> (...,9)."""
    x, y, z = directions.unbind(-1)
    c0, c1, c2, c3, c4 = 0.282095, 0.488603, 1.092548, 0.315392, 0.546274
    return torch.stack(
        [torch.full_like(x, c0), c1 * y, c1 * z, c1 * x, c2 * x * y, c2 * y * z, c3 * (3 * z * z - 1), c2 * x * z,
         c4 * (x * x - y * y)], -1
    )  # fmt: skip


def panorama_directions(height: int, width: int) -> Tensor:
    """World direction (H,W,3) of each pixel of an equirectangular panorama; its top is +y, its middle +z."""
    v = (torch.arange(height) + 0.5) / height * math.pi
    u = ((torch.arange(width) + 0.5) / width - 0.5) * 2 * math.pi
    ring = v.sin()[:, None]
    return torch.stack([ring * u.sin(), v.cos()[:, None].expand(height, width), ring * u.cos()], -1)


def panorama_uv(directions: Tensor) -> Tensor:
    """Where unit directions (...,3) lie in a panorama (...,2): u, v in [0, 1]."""
    x, y, z = directions.unbind(-1)
    return torch.stack([torch.atan2(x, z) / (2 * math.pi) + 0.5, y.clamp(-1, 1).acos() / math.pi], -1)


def panorama_light(panoramas: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Panoramas (N,H,W,3), linear -> harmonics (N,9,3), sun (N,3), sun_colour (N,3), mean radiance (N,)."""
    small = functional.avg_pool2d(panoramas.permute(0, 3, 1, 2), panoramas.shape[1] // 64).permute(0, 2, 3, 1)
    directions = panorama_directions(*small.shape[1:3]).to(small.device)
    area = (1 - directions[..., 1] ** 2).clamp_min(0).sqrt()
    area = (area / area.sum() * 4 * math.pi)[..., None]
    brightness = small.mean(-1, keepdim=True)
    mean = (brightness * area).sum((1, 2, 3)) / (4 * math.pi)
    share = (SUN_RATIO * mean[:, None, None, None] / brightness.clamp_min(1e-9)).clamp(max=1)
    excess = small * (1 - share) * area
    sun = normalize((directions * excess.mean(-1, keepdim=True)).sum((1, 2)) + 1e-9, dim=-1)
    harmonics = torch.einsum("hwk,nhwc->nkc", harmonic_basis(directions) * area, small * share)
    return harmonics, sun, excess.sum((1, 2)), mean


def rotate_about_up(directions: Tensor, yaw: Tensor) -> Tensor:
    """Directions (B,...,3) rotated by `yaw` (B,) about +y."""
    shape = (-1,) + (1,) * (directions.ndim - 2)
    cosine, sine = yaw.cos().view(shape), yaw.sin().view(shape)
    x, y, z = directions.unbind(-1)
    return torch.stack([cosine * x + sine * z, y, cosine * z - sine * x], -1)


def rotate_harmonics(harmonics: Tensor, yaw: Tensor) -> Tensor:
    """Harmonics (B,9,3) of light that was rotated by `yaw` (B,) about +y."""
    # Fitted from nine directions that determine all nine functions: exact, and no tables of rotation coefficients.
    directions = normalize(_PROBES.to(harmonics), dim=-1)
    back = rotate_about_up(directions.expand(len(yaw), -1, 3), -yaw)
    values = harmonic_basis(back) @ harmonics
    return torch.linalg.pinv(harmonic_basis(directions)) @ values


_PROBES = torch.tensor(
    [[0, 1, 0], [0, -1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, -1, 1],
     [-1, 1, 1.0]]
)  # fmt: skip


def body_spheres(joints: Tensor) -> Tensor:
    """Spheres (B,S,4) (centre and radius, m) that fill a body with joints (B,24,3)."""
    at = SMPL_24.index
    near = [at[a] for a, _, _, _ in SPHERES]
    far = [at[b] for _, b, _, _ in SPHERES]
    share = joints.new_tensor([t for _, _, t, _ in SPHERES])[:, None]
    centers = joints[:, near] + share * (joints[:, far] - joints[:, near])
    radii = joints.new_tensor([r for _, _, _, r in SPHERES])[:, None].expand(len(joints), -1, 1)
    return torch.cat([centers, radii], -1)


def sphere_shadows(
    points: Tensor, normals: Tensor, spheres: Tensor, sun: Tensor, softness: Tensor
) -> tuple[Tensor, Tensor]:
    """Ambient light and sun, (M,P) each in [0, 1], that reach points (M,P,3) with unit `normals` past spheres (M,S,4).

    `sun` (M,3) unit, `softness` (M,).
    """
    px, py, pz = points.permute(2, 0, 1).contiguous().unbind(0)
    nx, ny, nz = normals.expand_as(points).permute(2, 0, 1).contiguous().unbind(0)
    sx, sy, sz = sun.T[..., None].unbind(0)
    soft = softness[:, None]
    ambient, direct = torch.ones_like(px), torch.ones_like(px)
    # Over the 29 spheres one by one: arrays of (M,P) stay in a CPU's cache.
    for sphere in spheres.permute(1, 2, 0)[..., None].unbind(0):
        cx, cy, cz, radius = sphere.unbind(0)
        x, y, z = cx - px, cy - py, cz - pz
        square = (x * x + y * y + z * z).clamp_min_(1e-6)
        facing = (x * nx + y * ny + z * nz) * square.rsqrt()
        # Seen by a cosine-weighted hemisphere; fades in where the sphere comes out of the surface that it fills.
        seen = (facing - 0.1).clamp_min_(0) * (radius * radius / square).clamp_(max=1)
        ambient *= 1 - 0.9 * seen
        along = x * sx + y * sy + z * sz
        aside = (square - along * along).clamp_min_(0).sqrt_()
        width = (along * soft).clamp_min_(0.015)
        blocked = ((radius + width - aside) / (2 * width)).clamp_(0, 1)
        direct *= 1 - blocked * ((along - 0.6 * radius) * 20).clamp_(0, 1)
    return ambient, direct


class BodyShadows:
    """`sphere_shadows` on the skin: computed at a few points spread over a body, smooth between them."""

    def __init__(self, body: Body, points: int = 1500) -> None:
        rest = body.v_template.cpu()
        inside = body.weights.argmax(-1).cpu()
        chosen = torch.randperm(len(rest), generator=torch.Generator().manual_seed(0))[:points]
        # Only points of the same limb lend their shadows: an arm's do not belong on the chest.
        distance = torch.cdist(rest, rest[chosen]) + 10.0 * (inside[:, None] != inside[chosen])
        near, which = distance.topk(3, largest=False)
        share = 1 / (near + 0.005)
        self.chosen = chosen.to(body.device)
        self._which = which.to(body.device)
        self._share = (share / share.sum(-1, keepdim=True)).to(body.device)

    def __call__(self, vertices: Tensor, normals: Tensor, spheres: Tensor, sun: Tensor, softness: Tensor) -> Tensor:
        """Ambient light and sun (M,V,2) that reach vertices (M,V,3)."""
        both = sphere_shadows(vertices[:, self.chosen], normals[:, self.chosen], spheres, sun, softness)
        values = torch.stack(both, -1)
        total = torch.zeros_like(vertices[..., :2])
        for k in range(3):
            total += values.index_select(1, self._which[:, k]) * self._share[:, k, None]
        return total


def shade(
    albedo: Tensor, normals: Tensor, to_eye: Tensor, light: Light, scene: Tensor, ambient: Tensor, direct: Tensor,
    gloss: Tensor,
) -> Tensor:  # fmt: skip
    """Radiance (P,3) of surface points: `albedo` (P,3) linear, unit `normals` and `to_eye` (P,3) in the world, `scene`
    (P,) their row of `light`, `ambient` and `direct` (P,) of `sphere_shadows`, `gloss` (P,) >= 0."""
    sun = light.sun[scene]
    colour = light.sun_colour[scene]
    base = irradiance(light.harmonics[scene], normals) * ambient[:, None]
    lit = (normals * sun).sum(-1).clamp_min(0) * direct
    half = normalize(sun + to_eye, dim=-1)
    # Blinn-Phong with exponent 24, normalised; the sun's part only.
    shine = gloss * direct * (normals * half).sum(-1).clamp_min(0) ** 24 * (32 / 8)
    facing = (normals * to_eye).sum(-1).clamp(0, 1)
    rim = 0.6 * gloss * (1 - facing) ** 4
    diffuse = albedo * (base + colour * (lit / math.pi)[:, None])
    return diffuse + colour * (shine / math.pi)[:, None] + base * rim[:, None]


class Wrinkles:
    """Folds that B people's clothes have in their shading only: waves across the body of 4 to 20 cm, bent by longer
    ones."""

    def __init__(self, count: int, generator: torch.Generator, device: torch.device) -> None:
        direction = normalize(torch.randn(count, WAVES, 3, generator=generator), dim=-1)
        length = 0.04 * 5 ** torch.rand(count, WAVES, 1, generator=generator)
        phase = 2 * math.pi * torch.rand(count, WAVES, 1, generator=generator)
        deep = 0.3 * torch.rand(count, generator=generator)
        self._waves = torch.cat([direction * (2 * math.pi / length), phase, direction], -1).to(device)
        self._deep = deep.to(device)

    def bend(self, normals: Tensor, rest: Tensor, owner: Tensor, cloth: Tensor) -> Tensor:
        """Unit normals (P,3) at points `rest` (P,3) m of the T-pose of bodies `owner` (P,), where `cloth` (P,) is 1."""
        waves = self._waves[owner]
        along = (waves[..., :3] * rest[:, None]).sum(-1) + waves[..., 3]
        along = along + 1.5 * along.roll(1, 1).mul(0.37).sin()
        push = (along.cos()[..., None] * waves[..., 4:]).sum(1)
        return normalize(normals + (self._deep[owner] * cloth)[:, None] * push, dim=-1)
