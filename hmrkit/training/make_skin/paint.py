"""What is painted where: tones of skin, the face, nails, a shirt and shorts, as rules on the rest surface.

Lengths are metres on the free body's neutral template, whose pelvis is at 0; both sides are painted alike. Every rule
is a mask (T,) from 0 to 1 with a soft edge, and a colour (sRGB) that is laid over what is there.
"""

from __future__ import annotations

import numpy as np

from hmrkit.skeletons import SMPL_24
from hmrkit.training.make_skin.surface import Surface, noise

SKIN, FLUSHED, PALM, LIPS, NAIL = (198, 156, 132), (186, 120, 102), (216, 172, 152), (170, 108, 98), (222, 182, 166)
BROW, LASHES, SCLERA, IRIS, PUPIL = (84, 62, 50), (70, 50, 42), (214, 206, 198), (104, 82, 60), (26, 22, 20)
HOLE, STUBBLE = (96, 58, 48), (112, 90, 78)
SHIRT, SHORTS = (190, 180, 166), (142, 131, 119)
EDGE_M = 0.0012  # half a soft edge's width: a bit more than a texel (0.89 mm) of the trunk

# Where blood shows: middle (side, up, front), radius, strength.
_FLUSHED = (
    ((0.043, 0.645, 0.105), 0.030, 0.45),  # cheek
    ((0.000, 0.648, 0.155), 0.020, 0.30),  # tip of the nose
    ((0.000, 0.590, 0.135), 0.020, 0.20),  # chin
    ((0.136, -0.408, 0.070), 0.060, 0.40),  # knee
    ((0.441, 0.488, -0.045), 0.045, 0.50),  # elbow
    ((0.148, -0.827, -0.050), 0.035, 0.35),  # heel's tendon
    ((0.200, 0.520, 0.000), 0.070, 0.15),  # shoulder
)
# Tips of the fingers and toes (side, up, front), and towards where their nails lie.
_TIPS = {
    (0.7689, 0.4298, 0.0909): (0.2, 0.8, 0.5), (0.8462, 0.4516, 0.0592): (0.3, 1.0, 0.1),
    (0.8617, 0.4546, 0.0168): (0.3, 1.0, 0.0), (0.8504, 0.4567, -0.0172): (0.3, 1.0, 0.0),
    (0.8173, 0.4581, -0.0386): (0.3, 1.0, -0.1),
    (0.1589, -0.8892, 0.1932): (0.0, 1.0, 0.5), (0.1820, -0.8900, 0.1880): (0.0, 1.0, 0.5),
    (0.1970, -0.8900, 0.1770): (0.0, 1.0, 0.5), (0.2100, -0.8900, 0.1600): (0.0, 1.0, 0.5),
    (0.2187, -0.8921, 0.1436): (0.0, 1.0, 0.5),
}  # fmt: skip


def paint(surface: Surface) -> np.ndarray:
    """Colours (T,3) sRGB 0..1 of the texels of the free body's rest surface."""
    canvas = _Canvas(surface)
    _tones(canvas)
    _hands_and_feet(canvas)
    _hair(canvas)
    _eyes(canvas)
    _mouth_and_nose(canvas)
    _shade(canvas)
    _clothes(canvas)
    return canvas.colours


class _Canvas:
    """Colours in the making, and what rules ask of the texels: `x` to the side, `y` up, `z` to the front."""

    def __init__(self, surface: Surface) -> None:
        self.surface = surface
        side = np.where(surface.place[:, :1] < 0, [-1, 1, 1], 1)
        self.place, self.normal = surface.place * side, surface.normal * side
        self.x, self.y, self.z = self.place.T
        self.colours = np.tile(np.array(SKIN) / 255, (len(self.place), 1))

    def lay(self, colour: tuple[int, int, int], mask: np.ndarray) -> None:
        """Lay a colour over the texels, as far as the mask (T,) says."""
        self.colours += mask[:, None] * (np.array(colour) / 255 - self.colours)

    def part(self, *joints: str) -> np.ndarray:
        """Mask of the parts that move with some joints of both sides, or of the middle."""
        names = [name for name in SMPL_24.joints if name.removeprefix("left_").removeprefix("right_") in joints]
        return self.surface.weights[:, SMPL_24.indices(*names)].sum(1)

    def near(self, middle: tuple[float, float, float], radius: float) -> np.ndarray:
        """Mask that falls off from 1 at a point, on both sides, to 0.1 at `radius`."""
        return np.exp(-2.3 * ((self.place - middle) ** 2).sum(1) / radius**2)

    def noise(self, wavelength_m: float, seed: int) -> np.ndarray:
        """Noise (T,) over the surface, of both sides its own."""
        return noise(self.surface.place, wavelength_m, seed)


def inside(distance: np.ndarray, edge: float = EDGE_M) -> np.ndarray:
    """Mask of where a signed distance is below 0, with a soft edge."""
    return 1 - step(distance, -edge, edge)


def step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smoothly rising between."""
    share = ((values - low) / (high - low)).clip(0, 1)
    return share * share * (3 - 2 * share)


def ellipse(x: np.ndarray, y: np.ndarray, middle: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """About the signed distance to an ellipse's edge, below 0 inside."""
    x, y = (x - middle[0]) / radii[0], (y - middle[1]) / radii[1]
    return (np.hypot(x, y) - 1) * min(radii)


def ear(canvas: _Canvas) -> np.ndarray:
    """Mask of what stands off the head's sides."""
    outline = inside(ellipse(canvas.z, canvas.y, (0.038, 0.663), (0.024, 0.034)), 0.006)
    return canvas.part("head") * outline * step(canvas.x, 0.069, 0.076)


def _tones(canvas: _Canvas) -> None:
    """What skin is like all over: redder where blood is near, mottled, with pores."""
    for middle, radius, strength in _FLUSHED:
        canvas.lay(FLUSHED, strength * canvas.near(middle, radius))
    canvas.lay(FLUSHED, 0.4 * ear(canvas))
    canvas.lay(FLUSHED, 0.10 * step(canvas.noise(0.05, 1) + canvas.noise(0.02, 2), -0.6, 1.2))
    light = 0.020 * canvas.noise(0.09, 3) + 0.014 * canvas.noise(0.011, 4) + 0.020 * canvas.noise(0.0035, 5)
    canvas.colours *= 1 + light[:, None]


def _hands_and_feet(canvas: _Canvas) -> None:
    """Light palms and soles, reddened knuckles and fingertips, nails."""
    down = step(-canvas.normal[:, 1], 0.0, 0.6)
    palm = step(canvas.x, 0.668, 0.70) * canvas.part("wrist", "hand") * down
    sole = step(-canvas.y, 0.862, 0.885) * canvas.part("ankle", "foot") * step(-canvas.normal[:, 1], 0.1, 0.6)
    canvas.lay(PALM, 0.85 * np.maximum(palm, sole))
    back = canvas.part("wrist", "hand") * step(canvas.normal[:, 1], 0.2, 0.7)
    for along in (0.772, 0.812):  # knuckles, and the fingers' middle joints
        canvas.lay(FLUSHED, 0.35 * back * np.exp(-(((canvas.x - along) / 0.009) ** 2)))
    for tip, up in _TIPS.items():
        canvas.lay(FLUSHED, 0.35 * canvas.near(tip, 0.022))
        away = canvas.place - tip
        up = np.array(up) / np.linalg.norm(up)
        facing = step(canvas.normal @ up, 0.55, 0.8)
        canvas.lay(NAIL, 0.8 * facing * inside(np.linalg.norm(away, axis=1) - 0.011, 0.0015))


def _front(canvas: _Canvas) -> np.ndarray:
    """Mask of the face, without what lies behind it at the same height."""
    return canvas.part("head", "neck") * step(canvas.z, 0.06, 0.08)


def _hair(canvas: _Canvas) -> None:
    """Hair cut short, and brows."""
    x, y, head = canvas.x, canvas.y, canvas.part("head", "neck")
    # Over the forehead, down along the temple to before the ear, from there to the neck.
    temple = 0.060 + 0.5 * (y - 0.665)
    lowest = 0.640 + 0.026 * step(canvas.z, -0.01, 0.04)
    short = np.maximum(y - 0.745, np.minimum(temple - canvas.z, y - lowest))
    grain = 0.75 + 0.25 * canvas.noise(0.003, 6)
    canvas.lay(STUBBLE, 0.5 * head * step(short, -0.006, 0.012) * grain * (1 - ear(canvas)))

    arch = 0.7015 - 6.0 * (x - 0.033) ** 2
    thick = 0.0036 - 0.006 * step(x, 0.034, 0.060) - 0.008 * (1 - step(x, 0.008, 0.018))
    canvas.lay(BROW, 0.7 * _front(canvas) * inside(np.abs(y - arch) - thick, 0.0016))


def _eyes(canvas: _Canvas) -> None:
    """Open eyes, painted on the closed lids that the mesh has."""
    x, y, front = canvas.x, canvas.y, _front(canvas)
    middle, half, iris = (0.0310, 0.6810), 0.0150, (0.0310, 0.6820)
    along = ((x - middle[0]) / half).clip(-1, 1)
    upper, lower = 0.0058 * (1 - along**2), -0.0042 * (1 - along**2)
    up = y - middle[1] - 0.0012 * along
    opening = np.maximum(np.maximum(up - upper, lower - up), np.abs(x - middle[0]) - half)
    canvas.lay(FLUSHED, 0.25 * front * inside(opening - 0.004, 0.003))
    eye = front * inside(opening, 0.0005)
    canvas.lay(SCLERA, eye)
    canvas.lay(IRIS, eye * inside(ellipse(x, y, iris, (0.0056, 0.0056)), 0.0006))
    canvas.lay(PUPIL, eye * inside(ellipse(x, y, iris, (0.0024, 0.0024)), 0.0006))
    canvas.lay(LASHES, 0.85 * front * inside(np.abs(up - upper) - 0.0009, 0.0006) * (np.abs(along) < 1))
    canvas.lay(LASHES, 0.35 * front * inside(np.abs(up - lower) - 0.0004, 0.0006) * (np.abs(along) < 1))


def _mouth_and_nose(canvas: _Canvas) -> None:
    """Lips, the line between them, nostrils."""
    x, y, front = canvas.x, canvas.y, _front(canvas)
    mouth, across = y - 0.6158, (x / 0.0235).clip(0, 1)
    upper = 0.0072 * (1 - across**2) - 0.0014 * np.exp(-((x / 0.004) ** 2))
    lower = -0.0098 * (1 - across**2)
    lips = inside(np.maximum(mouth - upper, lower - mouth), 0.0014) * (1 - step(across, 0.9, 1))
    canvas.lay(LIPS, 0.7 * front * lips)
    canvas.lay(HOLE, 0.55 * front * inside(np.abs(mouth) - 0.0003, 0.0009) * (1 - step(across, 0.85, 1)))
    nostril = canvas.near((0.008, 0.6375, 0.143), 0.006) * step(-canvas.normal[:, 1], 0.2, 0.6)
    canvas.lay(HOLE, 0.8 * nostril)


def _shade(canvas: _Canvas) -> None:
    """Darken what little light from around reaches, and more so its green and blue: light that skin has passed on."""
    closed = 1 - canvas.surface.openness[:, None]
    canvas.colours *= 1 - closed * [0.30, 0.38, 0.42]


def _clothes(canvas: _Canvas) -> None:
    """A sleeveless shirt and shorts, plain, with hems and the shadow of their edges."""
    x, y, trunk = canvas.x, canvas.y, step(-canvas.x, -0.27, -0.26)
    armhole = ellipse(x, y, (0.240, 0.480), (0.100, 0.090))
    low = 0.060 + 0.050 * step(canvas.z, -0.03, 0.05)  # the neckline's depth, less at the back
    neck = (np.hypot(x / 0.085, (y - 0.560) / low) - 1) * 0.07
    shirt = np.maximum.reduce([-armhole, -neck, y - 0.56, 0.060 - y])
    shorts = np.maximum(y - 0.075, -0.215 - y)
    shade = 1 - 0.15 * (1 - canvas.surface.openness)
    weave = 1 + 0.018 * canvas.noise(0.0035, 7)
    for colour, distance in ((SHIRT, shirt), (SHORTS, shorts)):
        distance = np.where(trunk > 0, distance, 1.0)
        canvas.colours *= 1 - 0.18 * (1 - step(distance, 0.0, 0.006))[:, None]
        hem = 1 - 0.10 * inside(np.abs(distance + 0.014) - 0.0012) - 0.05 * step(distance, -0.014, -0.012)
        cloth = np.array(colour) / 255 * (shade * weave * hem)[:, None]
        canvas.colours += (trunk * inside(distance))[:, None] * (cloth - canvas.colours)
