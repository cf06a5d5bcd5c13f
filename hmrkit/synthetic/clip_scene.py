"""What happens in a synthetic clip: who is where, what passes in front, and how the camera moves.

The world has y up and its ground at 0. Everything is drawn from one generator on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.synthetic.clip_motion import ClipMotion, Walk

PERSON_M = 1.7
# People keep so far apart, pelvis to pelvis.
APART_M = 0.8
# When who leaves crosses the image's border, as a share of the clip.
LEAVES_AT = 0.6
# People are at least so tall, as a share of the image's height, where some of so many draws allows it; nor nearer.
SMALLEST, TRIES, NEAREST_M = 0.33, 12, 2.6


@dataclass(frozen=True)
class Kind:
    """What a clip shows: the number of `people`, whether the camera moves, an object passes, the first one leaves."""

    people: int
    moving: bool
    occluded: bool
    leaves: bool

    @property
    def name(self) -> str:
        """In words, as results are grouped."""
        words = ["one person" if self.people == 1 else "two people", "moving camera" if self.moving else "still camera"]
        return ", ".join(words + ["occluded"] * self.occluded + ["leaving"] * self.leaves)


# Clip k is of kind k modulo 8: each property comes in half of them, or in three eighths.
KINDS = (
    Kind(1, False, False, False),
    Kind(2, True, False, False),
    Kind(1, False, True, False),
    Kind(1, True, False, True),
    Kind(2, False, False, True),
    Kind(1, True, True, False),
    Kind(2, False, True, False),
    Kind(2, True, True, True),
)


@dataclass(frozen=True)
class Scene:
    """T frames of a clip of P people.

    `walks` (P); `rotation` (T,3,3) and `transl` (T,3) m: ``x_c = rotation @ x_w + transl``; `focal_px`. Upright boxes
    stand on the ground or pass: `box_center` (T,K,3), `box_half` (K,3) m, `box_yaw` (K,).
    """

    walks: tuple[Walk, ...]
    rotation: Tensor
    transl: Tensor
    focal_px: float
    box_center: Tensor
    box_half: Tensor
    box_yaw: Tensor


def draw_scene(
    kind: Kind, motion: ClipMotion, frames: int, fps: float, size: tuple[int, int], generator: torch.Generator
) -> Scene:
    """A scene of a kind for images of `size` (H, W) px."""
    g = generator
    azimuth = _between(-math.pi, math.pi, g)
    elevation = math.radians(_between(-4, 22, g))
    focal = size[1] / 2 / math.tan(math.radians(_between(38, 62, g)) / 2)
    half = torch.tensor([size[1], size[0]]) / 2 / focal  # the image's border, tangents

    target = torch.tensor([0.0, 0.55 * PERSON_M, 0.0])
    rotation = _facing(torch.tensor([azimuth]), torch.tensor([elevation]))[0]
    room = _between(1.02, 1.35, g)
    farthest = PERSON_M * focal / (SMALLEST * size[0])
    for _ in range(TRIES):
        drawn = [motion.draw(frames, fps, kind.leaves and k == 0, g) for k in range(kind.people)]
        walks = _apart([_seen(walk, k, kind, azimuth, g) for k, walk in enumerate(drawn)], azimuth, kind.leaves, g)
        framed = [walk.pelvis for walk in walks]
        if kind.leaves:  # framed as if on the spot, and then moved
            framed[0] = framed[0] * torch.tensor([0.0, 1.0, 0.0])
        distance = max(NEAREST_M, room * _distance(torch.cat(framed), target, rotation, half))
        if distance <= farthest:
            break
    if kind.leaves:
        walks[0] = _leaving(walks[0], target, rotation, distance, half)
    path = _camera_path(azimuth, elevation, distance, target, frames, fps, kind.moving, g)
    boxes = _boxes(kind, rotation, elevation, distance, target, half, frames, g)
    return Scene(tuple(walks), *path, focal, *boxes)


def _between(low: float, high: float, g: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=g))


def _seen(walk: Walk, number: int, kind: Kind, azimuth: float, g: torch.Generator) -> Walk:
    """A walk in some direction; who leaves goes across the image."""
    yaw = _between(-math.pi, math.pi, g)
    if kind.leaves and number == 0:
        side = math.copysign(math.pi / 2, yaw)
        yaw = azimuth + side + math.radians(_between(-25, 25, g)) - walk.heading
    return walk.about_up(yaw)


def _apart(walks: list[Walk], azimuth: float, leaves: bool, g: torch.Generator) -> list[Walk]:
    """The second person beside or behind the first, never through them: the nearest of some places that are free."""
    if len(walks) < 2:
        return walks
    right = torch.tensor([-math.cos(azimuth), 0.0, math.sin(azimuth)])
    ahead = torch.tensor([math.sin(azimuth), 0.0, math.cos(azimuth)])
    count = 32
    aside = (2 * torch.rand(count, generator=g) - 1) * torch.linspace(0.9, 2.2, count)
    deep = (2 * torch.rand(count, generator=g) - 1) * torch.linspace(0.5, 2.2, count)
    # Beside somebody who walks out of the image: behind the way.
    deep = deep.abs() + APART_M if leaves else deep
    place = aside[:, None] * right + deep[:, None] * ahead
    between = walks[0].pelvis[None] - walks[1].pelvis[None] - place[:, None]
    far = between[..., [0, 2]].norm(dim=-1).amin(1) > APART_M
    chosen = int(far.nonzero()[0, 0]) if bool(far.any()) else int(between.norm(dim=-1).amin(1).argmax())
    return [walks[0], Walk(walks[1].local, walks[1].pelvis + place[chosen], walks[1].betas)]


def _facing(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """World (y up) to cameras (x right, y down, z forward) (T,3,3) that look to `azimuth` from `elevation` above."""
    sa, ca, se, ce = azimuth.sin(), azimuth.cos(), elevation.sin(), elevation.cos()
    forward = torch.stack([sa * ce, -se, ca * ce], -1)
    right = normalize(torch.stack([-ca, torch.zeros_like(ca), sa], -1), dim=-1)
    return torch.stack([right, torch.linalg.cross(forward, right), forward], 1)


def _distance(pelvis: Tensor, target: Tensor, rotation: Tensor, half: Tensor) -> float:
    """How far from `target` a camera shows people whose pelvises are at (N,3), with room about them."""
    around = torch.tensor([[0.45, 0, 0], [-0.45, 0, 0], [0, 0, 0.45], [0, 0, -0.45]])
    high, low = pelvis + torch.tensor([0, 0.9, 0]), pelvis * torch.tensor([1.0, 0, 1.0])
    points = torch.cat([(part[:, None] + around).flatten(0, 1) for part in (high, low)])
    seen = (points - target) @ rotation.T
    return float((seen[:, :2].abs() / (0.95 * half) - seen[:, 2:]).max())


def _leaving(walk: Walk, target: Tensor, rotation: Tensor, distance: float, half: Tensor) -> Walk:
    """The walk moved across the image so that it crosses the border at `LEAVES_AT`."""
    crossing = min(len(walk.pelvis) - 1, round(LEAVES_AT * len(walk.pelvis)))
    seen = (walk.pelvis - target) @ rotation.T
    side = torch.sign(seen[-1, 0] - seen[0, 0])
    border = side * half[0] * (distance + seen[crossing, 2])
    return Walk(walk.local, walk.pelvis + (border - seen[crossing, 0]) * rotation[0], walk.betas)


def _camera_path(
    azimuth: float, elevation: float, distance: float, target: Tensor, frames: int, fps: float, moving: bool,
    g: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Rotation (T,3,3) and translation (T,3) of a camera that stands still, or goes around and sways as in a hand."""
    seconds = torch.arange(frames) / fps
    orbit, rise, nearer, roll = (_between(-1, 1, g) for _ in range(4))
    drift = torch.randn(3, generator=g) * torch.tensor([0.12, 0.05, 0.12])
    phase, hertz = 2 * math.pi * torch.rand(3, 2, generator=g), 0.3 + 0.7 * torch.rand(3, 2, generator=g)
    share = float(moving) * (seconds - seconds.mean()) / 1.5  # -1 to 1 in three seconds, at an even pace
    angle = azimuth + math.radians(math.copysign(5, orbit) + 7 * orbit) * share
    above = (elevation + math.radians(3 * rise) * share).clamp_min(-math.asin(0.5 / max(distance, 1.0)))
    away = distance * (1 + 0.08 * nearer * share)
    facing = _facing(angle, above)
    eye = target + drift * share[:, None] - away[:, None] * facing[:, 2]
    sway = (2 * math.pi * hertz * seconds[:, None, None] + phase).sin().sum(-1) * math.radians(0.25) * float(moving)
    tilt = torch.tensor([0.0, 0.0, math.radians(2) * roll])
    rotation = axis_angle_to_matrix(sway + tilt) @ facing
    return rotation, -(rotation @ eye[..., None])[..., 0]


def _boxes(
    kind: Kind, rotation: Tensor, elevation: float, distance: float, target: Tensor, half: Tensor, frames: int,
    g: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """A box that passes between camera and people, and for half of the clips a pillar beside its way."""
    right = rotation[0]
    ahead = normalize(rotation[2] * torch.tensor([1.0, 0, 1.0]), dim=0)
    size = torch.rand(2, 3, generator=g)
    pillar = bool(torch.rand((), generator=g) < 0.5)
    near, from_left, yaw = _between(0.45, 0.62, g), _between(-1, 1, g), torch.rand(2, generator=g) - 0.5
    begin, end = _between(-0.2, 0.1, g), _between(0.9, 1.2, g)
    stands = _between(-0.5, 0.5, g)
    low, high = torch.tensor([[0.2, 0, 0.1], [0.08, 0, 0.08]]), torch.tensor([[0.45, 0, 0.4], [0.16, 0, 0.16]])
    hides = torch.tensor([_between(0.9, 2.2, g), 2.3])  # m: up to which height it hides who stands behind it
    if not kind.occluded:
        return torch.zeros(frames, 0, 3), torch.zeros(0, 3), torch.zeros(0)
    halves = low + (high - low) * size
    eye_y = float(target[1]) + distance * math.sin(elevation)
    halves[:, 1] = (eye_y + (hides - eye_y) * torch.tensor([near, 0.75])) / 2
    at = target * torch.tensor([1.0, 0, 1.0]) - ahead * distance * (1 - near)
    reach = float(half[0]) * near * distance + float(halves[0, :2].norm())
    time = (torch.linspace(0, 1, frames) - begin) / (end - begin)
    across = math.copysign(1.0, from_left) * reach * (2 * time - 1)
    passing = at + across[:, None] * right
    # The pillar stands nearer to the people than the way of the box.
    standing = target * torch.tensor([1.0, 0, 1.0]) - ahead * 0.25 * distance + stands * right
    centers = torch.stack([passing, standing.expand(frames, 3)], 1)
    centers[..., 1] = halves[:, 1]
    count = 2 if pillar else 1
    facing_yaw = math.atan2(float(ahead[0]), float(ahead[2]))
    return centers[:, :count], halves[:count], yaw[:count] + facing_yaw
