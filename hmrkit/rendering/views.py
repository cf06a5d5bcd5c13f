"""Views from where no camera stood: from the side, from above, going around. They follow the people smoothly.

All of them look at the level frame: the camera frame rotated so that gravity points down the image (y down).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from hmrkit.geometry import rotation_between

PANEL, GRID = (42, 44, 50), (66, 69, 77)
# Axes of the view's camera (rows: right, down, forward) in the level frame. From the right: its right is away from the
# real camera, it looks along -x. From above: it looks along +y, and away from the real camera is up.
AXES = {
    "side": np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]),
    "top": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
}
CAPTIONS = {"side": "from the right", "top": "from above", "turntable": "turntable"}
# The views follow the people with this time constant, and show at least so many metres.
FOLLOW_S, MIN_SPAN_M = 0.5, 2.4
# Nearly parallel projection: distances can be read off the grid. The turntable is seen in perspective instead.
FAR_M, TURNTABLE_SPANS = 60.0, 2.6
TURN_S, TURNTABLE_TILT = 8.0, np.radians(14)
FLOOR_CELLS = 6


@dataclass(frozen=True)
class Look:
    """A view's camera for one frame: a point p of the level frame is at ``rotation @ (p - middle) + (0, 0, distance)``.

    `scale` is px / m at the middle, which is seen in the centre of the image; the focal length is their product.
    """

    rotation: np.ndarray
    middle: np.ndarray
    distance: float
    scale: float


class FollowingView:
    """Where a view looks, frame by frame, and its backdrop: a grid in metres."""

    def __init__(self, name: str, width: int, height: int, fps: float) -> None:
        self.name, self.width, self.height = name, width, height
        self._fps = max(fps, 1e-3)
        self._share = 1 - float(np.exp(-1 / (FOLLOW_S * self._fps)))
        self._state: np.ndarray | None = None  # middle (3), log of the span, the floor's y
        self._frames = 0

    def look(self, image: np.ndarray, points: np.ndarray) -> Look:
        """Paint one frame's backdrop into `image` (H,W,3) uint8, and look at `points` (P,3) m of the level frame."""
        rotation = self._rotation()
        self._frames += 1
        points = points[np.isfinite(points).all(1)]
        if len(points):
            wanted = self._wanted(points, rotation)
            self._state = wanted if self._state is None else self._state + self._share * (wanted - self._state)
        state = np.array([0, 0, 0, np.log(MIN_SPAN_M), 1.0]) if self._state is None else self._state
        span = float(np.exp(state[3]))
        distance = span * TURNTABLE_SPANS if self.name == "turntable" else FAR_M
        look = Look(rotation, state[:3], distance, self.height / span)
        image[:] = np.full((self.width, 3), PANEL, np.uint8)  # rows are copied faster than three bytes at a time
        (self._paint_floor if self.name == "turntable" else self._paint_grid)(image, look, float(state[4]))
        return look

    def caption(self, look: Look) -> str:
        """What the view shows, in a few words."""
        return f"{CAPTIONS[self.name]}, grid {grid_step(look.scale, self.height):g} m"

    def _rotation(self) -> np.ndarray:
        if self.name in AXES:
            return AXES[self.name]
        angle = 2 * np.pi * self._frames / (TURN_S * self._fps)
        rotation = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        cos, sin = np.cos(TURNTABLE_TILT), np.sin(TURNTABLE_TILT)
        return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ rotation

    def _wanted(self, points: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        low, high = points.min(0), points.max(0)
        if self.name == "turntable":  # the same from all sides
            size, room = (float(np.hypot(*(high - low)[[0, 2]])), float(high[1] - low[1])), 1.3
        else:
            seen = np.abs(rotation @ np.diag(high - low)).sum(1)
            size, room = (float(seen[0]), float(seen[1])), 1.2
        across = max(size[0] / self.width * self.height, size[1]) * room
        return np.array([*(low + high) / 2, np.log(max(across, MIN_SPAN_M)), high[1]])

    def _paint_grid(self, image: np.ndarray, look: Look, _floor: float) -> None:
        grid = grid_step(look.scale, self.height)
        right, down, _ = look.rotation @ look.middle
        for middle, size, axis in ((right, self.width, 1), (down, self.height, 0)):
            first, last = np.ceil((middle - size / 2 / look.scale) / grid), (middle + size / 2 / look.scale) / grid
            lines = ((np.arange(first, last) * grid - middle) * look.scale + size / 2).astype(int)
            lines = lines[(lines >= 0) & (lines < size)]
            image[(slice(None), lines) if axis else lines] = GRID

    def _paint_floor(self, image: np.ndarray, look: Look, floor: float) -> None:
        grid = grid_step(look.scale, self.height)
        reach = np.arange(-FLOOR_CELLS, FLOOR_CELLS + 1) * grid
        x, z = (np.round(look.middle[k] / grid) * grid + reach for k in (0, 2))
        ends = [[(a, floor, z[0]), (a, floor, z[-1])] for a in x] + [[(x[0], floor, b), (x[-1], floor, b)] for b in z]
        rotated = (np.array(ends) - look.middle) @ look.rotation.T + (0, 0, look.distance)
        pixels = rotated[..., :2] / rotated[..., 2:].clip(0.1) * look.scale * look.distance
        pixels += np.array([self.width / 2, self.height / 2])
        page = Image.fromarray(image)
        draw = ImageDraw.Draw(page)
        for line in pixels:
            draw.line([tuple(end) for end in line], GRID, max(1, self.height // 400))
        image[:] = np.asarray(page)


def level_rotation(up_c: np.ndarray | None) -> np.ndarray:
    """Smallest rotation (3,3) that brings `up_c` onto the image's up, (0, -1, 0); the identity where it is None."""
    if up_c is None:
        return np.eye(3)
    source = torch.as_tensor(np.asarray(up_c, np.float64))
    return rotation_between(source, torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)).numpy()


def grid_step(scale: float, height: int) -> float:
    """Metres between the backdrop's lines at `scale` px / m in a panel of that height: neither crowded nor rare."""
    return next((m for m in (0.5, 1.0, 2.0, 5.0) if m * scale >= height / 14), 10.0)
