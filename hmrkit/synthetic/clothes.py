"""Procedural clothes: layers over the body, each the part of its surface where a field over the vertices is positive.

A field is a distance in metres to the garment's edge, put together per body from a few measures of the T-pose
(height, way along the arm, distance from the neck, ...) by minimum (and), maximum (or) and random cuts. Interpolated
over a face and cut at zero it gives crisp edges at any resolution; its ramp at the edge gives the cloth's thickness.
The last layer that covers a point is what is seen there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hmrkit.body import Body

# Bottom to top.
LAYERS = (
    "eyes", "beard", "hair", "socks", "shoes", "soles", "footwear", "lower", "lower_panel", "upper", "upper_panel",
    "print", "belt", "suit", "jacket", "gloves", "hat", "glasses",
)  # fmt: skip
# What a modelled garment is worn instead of.
UNDER_SUIT = ("lower", "lower_panel", "upper", "upper_panel", "print", "belt")
UNDER_FOOTWEAR = ("shoes", "soles")
INDEX = {name: i for i, name in enumerate(LAYERS)}
NOWHERE = -1.0
RAMP_M = 0.02  # over which a garment reaches its thickness


class Numbers:
    """Random numbers of `count` bodies, (count,1) each, drawn on the CPU so that every device dresses people alike."""

    def __init__(self, count: int, generator: torch.Generator, device: torch.device, columns: int = 480) -> None:
        self._columns = iter(torch.rand(count, columns, generator=generator).to(device).split(1, 1))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Even between the two."""
        return low + (high - low) * next(self._columns)

    def chance(self, probability: float | Tensor) -> Tensor:
        """True that often."""
        return next(self._columns) < probability

    def below(self, count: int) -> Tensor:
        """Whole numbers 0 .. count - 1."""
        return (next(self._columns) * count).long().clamp(max=count - 1)


@dataclass(frozen=True)
class Measures:
    """Where each vertex of the T-pose lies, (V,) each, metres (pelvis at the origin, sizes of the neutral body).

    `height`; `arm` beyond the shoulder (negative on the trunk, wrist 0.49, finger tips 0.68); `across` |x|; `ahead` z;
    `side` round the trunk or leg from its outer line; `below_neck` the slanting plane where the neck leaves the
    shoulders; `eyes` from the nearer eye; `place` (V,3) itself.
    """

    height: Tensor
    arm: Tensor
    across: Tensor
    ahead: Tensor
    side: Tensor
    below_neck: Tensor
    place: Tensor
    eyes: Tensor


def measure(body: Body) -> Measures:
    """Measures of the body's template."""
    place = body.v_template
    across, height, ahead = place[:, 0].abs(), place[:, 1], place[:, 2]
    arm = torch.where(height > 0.36, across - 0.183, torch.full_like(across, -0.1))
    axis = leg_axis(height)
    on_leg = height < -0.08
    from_axis = torch.where(on_leg, across - axis, across)
    radius = torch.where(on_leg, 0.07, 0.14)
    side = radius * torch.atan2(ahead.abs(), from_axis)
    tips = place[torch.tensor([2800, 6260], device=place.device)]  # smplx's indices of the eyes
    eyes = torch.cdist(place, tips).amin(1)
    below_neck = 0.528 - 0.5 * ahead - height  # higher at the nape than at the throat
    below_neck = torch.maximum(below_neck, torch.minimum(across - 0.075, 0.58 - height))  # shoulders rise above it
    return Measures(height, arm, across, ahead, side, below_neck, place, eyes)


def leg_axis(height: Tensor) -> Tensor:
    """|x| of the line through hip, knee and ankle at these heights."""
    return 0.10 + 0.042 * ((-0.06 - height) / 0.35).clamp(0, 1) + 0.01 * ((-0.41 - height) / 0.4).clamp(0, 1)


def cloth_coordinates(body: Body) -> Tensor:
    """Coordinates (F,3,2) of cloth at every face's corners: metres around and along arm, trunk or leg.

    Each limb is unrolled as a cylinder: front opens at the back, legs at their inner side, arms below.
    """
    place = body.v_template[torch.as_tensor(body.faces, dtype=torch.int64, device=body.v_template.device)]
    x, y, z = place.unbind(-1)
    middle = place.mean(1, keepdim=True)
    on_arm = (middle[..., 0].abs() > 0.2) & (middle[..., 1] > 0.36)
    on_leg = middle[..., 1] < -0.08
    across = x.abs() - leg_axis(y)
    angle = torch.where(on_leg, torch.atan2(z, across), torch.atan2(x, z + 0.02))
    angle = torch.where(on_arm, torch.atan2(z - 0.008, y - 0.488), angle)
    angle = angle - ((angle - angle[:, :1]) / (2 * math.pi)).round() * 2 * math.pi  # one side of the cut per face
    radius = torch.where(on_arm, 0.05, torch.where(on_leg, 0.075, 0.14))
    return torch.stack([angle * radius, torch.where(on_arm, x.abs(), y)], -1)


@dataclass(frozen=True)
class Modelled:
    """Garments that were modelled by hand, G of them: `fields` and `offsets` (G,V) m, `shoes` (G,) bool."""

    fields: Tensor
    offsets: Tensor
    shoes: Tensor


@dataclass(frozen=True)
class Clothes:
    """`fields` (B,V,L) m, positive where a layer covers; `offsets` (B,V) m along the normals; `hood` (B,) bool: the hat
    is the upper garment's hood; `suit` and `footwear` (B,): which modelled garments (-1: none)."""

    fields: Tensor
    offsets: Tensor
    hood: Tensor
    suit: Tensor
    footwear: Tensor


def clothe(m: Measures, modelled: Modelled, count: int, n: Numbers) -> Clothes:
    """Random clothes for `count` bodies, a quarter of them in modelled garments."""
    fields: dict[str, Tensor] = {}
    thickness: dict[str, Tensor] = {}
    _head(m, n, fields, thickness)
    hood = _hats(m, n, fields, thickness)
    _lower(m, n, fields, thickness)
    _upper(m, n, fields, thickness)
    _feet_and_hands(m, n, fields, thickness)
    suit = _wear(modelled, ~modelled.shoes, 0.25, "suit", UNDER_SUIT, n, fields, thickness)
    footwear = _wear(modelled, modelled.shoes, 0.25, "footwear", UNDER_FOOTWEAR, n, fields, thickness)
    shape = (count, len(m.height))
    stacked = torch.stack([fields[name].expand(shape) for name in LAYERS], -1)
    wrinkles = _wrinkles(m, n, count)
    offsets = stacked.new_zeros(shape)
    for name, thick in thickness.items():
        cloth = thick * (1 + (0.0 if name in ("hair", "shoes", "footwear") else 0.45) * wrinkles)
        offsets = torch.maximum(offsets, (fields[name] / RAMP_M).clamp(0, 1) * cloth)
    return Clothes(stacked, offsets, hood[:, 0], suit[:, 0], footwear[:, 0])


def _wear(
    modelled: Modelled, among: Tensor, share: float, layer: str, under: tuple[str, ...], n: Numbers,
    fields: dict[str, Tensor], thickness: dict[str, Tensor],
) -> Tensor:  # fmt: skip
    """Give `share` of the bodies one of the modelled garments `among` (G,) in place of others; which one (B,1)."""
    choices = among.nonzero()[:, 0]
    if not len(choices):
        raise ValueError(f"expected at least one modelled garment for the layer {layer}, got none")
    wears = n.chance(share)
    chosen = choices[n.below(len(choices))]
    fields[layer] = torch.where(wears, modelled.fields[chosen[:, 0]], NOWHERE)
    thickness[layer] = modelled.offsets[chosen[:, 0]] * n.uniform(0.6, 1.1)
    for name in under:
        fields[name] = torch.where(wears, NOWHERE, fields[name])
    return torch.where(wears, chosen, -1)


def _head(m: Measures, n: Numbers, fields: dict[str, Tensor], thickness: dict[str, Tensor]) -> None:
    """Eyes, beard, hair and glasses."""
    fields["eyes"] = (0.0075 - m.eyes).expand(1, -1)
    jaw = torch.minimum(0.648 - m.height - 0.9 * (m.across - 0.03).clamp(min=0), m.ahead - 0.045)
    mouth = ((m.across / 0.024) ** 2 + ((m.height - 0.621) / 0.010) ** 2).sqrt() * 0.01 - 0.01
    beard = torch.minimum(torch.minimum(jaw, m.height - 0.555 - n.uniform(0, 0.02)), mouth)
    bearded = n.chance(0.17)
    fields["beard"] = torch.where(bearded, beard, NOWHERE)
    thickness["beard"] = n.uniform(0, 0.012)

    slope = n.uniform(0.75, 1.1)
    hairline = 0.645 + n.uniform(-0.012, 0.03)
    hair = (m.height - hairline - slope * m.ahead) / (1 + slope**2).sqrt()
    length = n.uniform()
    long, bald = length > 0.66, length < 0.10
    lowest = torch.where(long, 0.64 - 0.33 * n.uniform() ** 1.3, 0.7)
    at_neck = ((0.58 - m.height) / 0.1).clamp(0, 1)
    behind = n.uniform(0.03, 0.075) - at_neck * 0.05 - m.ahead
    mane = torch.minimum(torch.minimum(m.height - lowest, behind), 0.125 - m.across)
    hair = torch.where(long, torch.maximum(hair, mane), hair)
    fields["hair"] = torch.where(bald, NOWHERE, hair)
    volume = n.uniform(0.003, 0.025) + torch.where(n.chance(0.12), n.uniform(0.02, 0.06), 0.0) + 0.01 * long
    thickness["hair"] = volume

    glasses = torch.minimum(0.021 - (m.eyes - 0.002), m.ahead - 0.09)
    fields["glasses"] = torch.where(n.chance(0.06), glasses, NOWHERE)


def _hats(m: Measures, n: Numbers, fields: dict[str, Tensor], thickness: dict[str, Tensor]) -> Tensor:
    """Caps, woollen hats and hoods; returns who (B,1) wears a hood."""
    hood = n.chance(0.04)
    tilt = n.uniform(-0.1, 0.35)
    hat = m.height - n.uniform(0.705, 0.74) - tilt * (m.ahead - 0.06)
    face = (m.across**2 + (m.height - 0.67).square()).sqrt() - n.uniform(0.07, 0.085)
    cowl = torch.minimum(torch.maximum(face, 0.03 - m.ahead), m.height - 0.53)
    hat = torch.where(hood, cowl, torch.where(n.chance(0.16), hat, NOWHERE))
    fields["hat"] = hat
    thickness["hat"] = n.uniform(0.008, 0.03)
    return hood


def _lower(m: Measures, n: Numbers, fields: dict[str, Tensor], thickness: dict[str, Tensor]) -> None:
    """Trousers, shorts, leggings; half of them long."""
    waist = n.uniform(0.02, 0.14)
    kind = n.uniform()
    hem = torch.where(kind < 0.66, n.uniform(-0.85, -0.78), n.uniform(-0.72, -0.2))  # long, or anything above
    brief = n.chance(0.03)
    hem = torch.where(brief, -0.06 - 0.5 * m.across.clamp(max=0.1) + 0.9 * (m.across - 0.1).clamp(min=0), hem)
    slant = n.uniform(-0.1, 0.1)
    cover = torch.minimum(waist + 0.1 * m.ahead - m.height, m.height - hem - slant * m.ahead)
    cover = torch.minimum(cover, -0.02 - m.arm)
    fields["lower"] = cover
    loose = n.uniform() ** 2
    flare = torch.where(n.chance(0.3), n.uniform(0, 0.05), 0.0)
    below = (-0.1 - m.height).clamp(0, 0.7)
    # Cloth between the thighs has no room: the legs' inner sides stay thin.
    inner = (m.side / 0.15).clamp(0, 1) * ((m.height + 0.45) / 0.25).clamp(0, 1) * (m.height < -0.05)
    thickness["lower"] = (0.002 + 0.022 * loose + flare * below) * (1 - 0.7 * inner)
    stripe = torch.where(n.chance(0.12), n.uniform(0.012, 0.035) - m.side, NOWHERE)
    knees = torch.where(n.chance(0.06), n.uniform(-0.5, -0.25) - m.height, NOWHERE)
    fields["lower_panel"] = torch.minimum(fields["lower"], torch.maximum(stripe, knees))
    belt = 0.017 + n.uniform(0, 0.008) - (waist - 0.02 + 0.1 * m.ahead - m.height).abs()
    fields["belt"] = torch.where(n.chance(0.2), torch.minimum(belt, -0.02 - m.arm), NOWHERE)
    thickness["belt"] = thickness["lower"] + 0.006
    fields["_waist"] = waist


def _neckline(m: Measures, n: Numbers) -> Tensor:
    """Distance below the collar: a crew, scoop or V neck, or one that stands up the neck."""
    depth = torch.where(n.chance(0.3), n.uniform(0.02, 0.17), 0.0)
    radius = n.uniform(0.078, 0.10) + torch.where(n.chance(0.2), n.uniform(0, 0.05), 0.0)
    along = ((0.5 - m.height) / depth.clamp(min=1e-3)).clamp(0, 1) * (m.ahead > 0) * (depth > 0)
    drop = 0.5 - m.height - along * depth
    distance = (m.across.square() + drop.square() + (m.ahead * (1 - along)).square()).sqrt()
    open_neck = torch.minimum(distance - radius * (1 - 0.85 * along), m.below_neck)
    standing = n.uniform(0.0, 0.05) + m.below_neck
    return torch.where(n.chance(0.15), standing, open_neck)


def _upper(m: Measures, n: Numbers, fields: dict[str, Tensor], thickness: dict[str, Tensor]) -> None:
    """Shirts of all sleeves, dresses, jackets, and what is on them."""
    kind = n.uniform()
    short = n.uniform(0.08, 0.24)
    long = n.uniform(0.42, 0.50)
    none = n.uniform(-0.05, 0.02)
    sleeve = torch.where(kind < 0.48, short, torch.where(kind < 0.88, long, none))
    rolled = n.chance(0.1)
    sleeve = torch.where(rolled, n.uniform(0.25, 0.42), sleeve)
    waist = fields.pop("_waist")
    hem = waist + torch.where(n.chance(0.25), n.uniform(-0.01, 0.06), -n.uniform(0.01, 0.22))
    dress = n.chance(0.07)
    hem = torch.where(dress, n.uniform(-0.62, -0.15), hem)
    neck = _neckline(m, n)
    cover = torch.minimum(torch.minimum(sleeve - m.arm, m.height - hem), neck)
    fields["upper"] = torch.where(n.chance(0.96), cover, NOWHERE)
    loose = n.uniform() ** 2
    hang = ((0.56 - m.height) / 0.12).clamp(0.25, 1)
    on_arm = (m.arm / 0.15).clamp(0, 1)
    flare = torch.where(dress, n.uniform(0.0, 0.06), 0.0) * (0.1 - m.height).clamp(0, 0.7)
    thickness["upper"] = (0.003 + 0.028 * loose) * torch.maximum(hang, 0.7 * on_arm) + flare

    panel_kind = n.uniform()
    sleeves = m.arm - n.uniform(-0.06, 0.05)
    yoke = m.height - n.uniform(0.15, 0.46)
    sides = n.uniform(0.04, 0.09) - m.side
    panel = torch.where(panel_kind < 0.4, sleeves, torch.where(panel_kind < 0.75, yoke, sides))
    fields["upper_panel"] = torch.where(n.chance(0.22), torch.minimum(fields["upper"], panel), NOWHERE)
    half_width, half_height = n.uniform(0.03, 0.11), n.uniform(0.015, 0.10)
    from_middle = (m.place[:, 0] - n.uniform(-0.04, 0.04)).abs()
    front = torch.where(n.chance(0.75), m.ahead, -m.ahead - 0.03)
    patch = torch.minimum(half_width - from_middle, half_height - (m.height - n.uniform(0.2, 0.36)).abs())
    patch = torch.minimum(torch.minimum(patch, front), fields["upper"])
    fields["print"] = torch.where(n.chance(0.25), patch, NOWHERE)

    sleeve = torch.where(n.chance(0.12), n.uniform(-0.03, 0.02), n.uniform(0.43, 0.5))
    hem = waist - n.uniform(-0.08, 0.5) * n.uniform()
    gap = torch.where(n.chance(0.6), n.uniform(0, 0.09), -1.0) + n.uniform(0, 0.15) * (m.height - 0.2)
    opening = torch.where(m.ahead > 0, m.across - gap, 0.2)
    around = (m.across.square() + (m.height - 0.5).square() + m.ahead.square()).sqrt() - n.uniform(0.085, 0.1)
    around = torch.minimum(around, m.below_neck + 0.01)
    cover = torch.minimum(torch.minimum(sleeve - m.arm, m.height - hem), torch.minimum(opening, around))
    fields["jacket"] = torch.where(n.chance(0.28), cover, NOWHERE)
    thickness["jacket"] = thickness["upper"].clamp(max=0.02) + n.uniform(0.004, 0.02) * hang


def _feet_and_hands(m: Measures, n: Numbers, fields: dict[str, Tensor], thickness: dict[str, Tensor]) -> None:
    """Socks, shoes, soles, gloves."""
    off_arm = -0.02 - m.arm
    sock = -0.84 + n.uniform(0, 0.35) * n.uniform() - m.height
    fields["socks"] = torch.where(n.chance(0.6), torch.minimum(sock, off_arm), NOWHERE)
    top = -0.845 + torch.where(n.chance(0.2), n.uniform(0, 0.3), n.uniform(-0.005, 0.02))
    shod = n.chance(0.93)
    shoe = torch.minimum(top - 0.15 * (m.ahead - 0.05).clamp(min=0) - m.height, off_arm)
    fields["shoes"] = torch.where(shod, shoe, NOWHERE)
    thickness["shoes"] = n.uniform(0.004, 0.013)
    sole = torch.where(n.chance(0.7), -0.904 + n.uniform(0.01, 0.028) - m.height, NOWHERE)
    fields["soles"] = torch.where(shod, torch.minimum(sole, off_arm), NOWHERE)
    fields["gloves"] = torch.where(n.chance(0.05), m.arm - n.uniform(0.45, 0.5), NOWHERE)
    thickness["gloves"] = n.uniform(0.002, 0.005)


def _wrinkles(m: Measures, n: Numbers, count: int, waves: int = 6) -> Tensor:
    """Smooth noise (B,V) within about -1 .. 1: waves of 6 to 25 cm in random directions."""
    columns = [torch.cat([n.uniform() for _ in range(waves)], 1) for _ in range(4)]  # (B,waves) each
    lift = 2 * columns[0] - 1
    rotation = 2 * math.pi * columns[1]
    flat = (1 - lift**2).sqrt()
    length = 0.06 * (0.25 / 0.06) ** columns[2]
    direction = (
        torch.stack([flat * rotation.cos(), lift, flat * rotation.sin()], -1) * (2 * math.pi / length)[..., None]
    )
    phase = 2 * math.pi * columns[3]
    total = m.place.new_zeros(count, len(m.place))
    for wave in range(waves):
        total += torch.sin(direction[:, wave] @ m.place.T + phase[:, wave, None])
    return total / math.sqrt(waves) / 1.5
