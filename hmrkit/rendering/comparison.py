"""Versions of the same people over the same frames, beside each other and each under its title."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hmrkit.rendering.overlay import Overlay, People
from hmrkit.rendering.sheet import BACKGROUND, TEXT

GAP = 4


class Comparison:
    """One overlay a version: images of `size` (W, H), from left to right, or `stacked` from top to bottom.

    A version whose title is empty has no strip above it, so that a single one is the overlay and nothing else.
    """

    def __init__(self, overlays: Sequence[Overlay], titles: Sequence[str], stacked: bool = False) -> None:
        self._overlays = overlays
        self._axis = 1 if stacked else 2
        self._strips = [title_strip(title, *overlay.size) for title, overlay in zip(titles, overlays, strict=True)]
        self._gap = GAP if len(overlays) > 1 else 0
        widths = [overlay.size[0] for overlay in overlays]
        heights = [overlay.size[1] + len(strip) for overlay, strip in zip(overlays, self._strips, strict=True)]
        gaps = self._gap * (len(overlays) - 1)
        self.size = (max(widths), sum(heights) + gaps) if stacked else (sum(widths) + gaps, max(heights))

    def draw(
        self, frames: np.ndarray | Tensor | None, versions: Sequence[Sequence[People]], frame_indices: Sequence[int]
    ) -> np.ndarray:
        """Draw every version's people of each frame: images (B,H',W',3) uint8, see `Overlay.draw`.

        All versions are seen from the same place, so that what differs is the people.
        """
        followed = [[figure for people in here for figure in people] for here in zip(*versions, strict=True)]
        parts: list[np.ndarray] = []
        for overlay, strip, people in zip(self._overlays, self._strips, versions, strict=True):
            drawn = overlay.draw(frames, people, frame_indices, followed)
            if len(strip):
                drawn = np.concatenate([np.broadcast_to(strip, (len(drawn), *strip.shape)), drawn], 1)
            if parts and self._gap:
                shape = list(drawn.shape)
                shape[self._axis] = self._gap
                parts.append(np.full(shape, BACKGROUND, np.uint8))
            parts.append(drawn)
        return np.concatenate(parts, self._axis) if len(parts) > 1 else parts[0]


def title_strip(title: str, width: int, height: int) -> np.ndarray:
    """A dark strip (h,W,3) uint8 with a title for an image of that size; no rows where the title is empty."""
    if not title:
        return np.zeros((0, width, 3), np.uint8)
    size = max(14, min(width, height) // 20)
    font = ImageFont.load_default(size)
    strip = Image.new("RGB", (width, round(size * 1.7)), BACKGROUND)
    long = font.getlength(title)
    if long > width - size:  # a narrow clip
        font = ImageFont.load_default(size * (width - size) / long)
    ImageDraw.Draw(strip).text((size * 0.6, strip.height / 2), title, TEXT, font, anchor="lm")
    return np.asarray(strip)
