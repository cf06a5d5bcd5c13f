"""Writing on images: every piece is drawn once, kept, and laid over each image that shows it.

A stamp is (h,w,4) float32: a colour times its alpha, and the alpha; colours from 0 to 255, alpha from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from hmrkit.rendering.shading import track_colour
from hmrkit.rendering.styles import heat_colours

WHITE, BLACK, DARK = (255, 255, 255), (0, 0, 0), (20, 20, 20)
KEPT = 256  # stamps: ids and captions come again in every frame, a frame's number does not


@lru_cache(KEPT)
def caption_stamp(text: str, unit: int) -> np.ndarray:
    """White letters `unit` px high with a dark edge, which lies outside of where they stand: see `stamp`."""
    font, edge = _font(unit), edge_width(unit)
    size = (int(font.getlength(text)) + 2 * edge + 2, round(unit * 1.5) + 2 * edge)
    return _drawn(size, lambda draw: draw.text((edge, edge), text, WHITE, font, stroke_width=edge, stroke_fill=BLACK))


@lru_cache(KEPT)
def label_stamp(track_id: int, unit: int) -> np.ndarray:
    """A person's id in a rounded box of their colour."""
    font, text = _font(unit), str(track_id)
    width, height = round(font.getlength(text) + unit * 0.8) + 1, round(unit * 1.3) + 1

    def paint(draw: ImageDraw.ImageDraw) -> None:
        box = (0, 0, width - 1, height - 1)
        draw.rounded_rectangle(box, unit * 0.35, track_colour(track_id), DARK, max(1, unit // 12))
        draw.text((width / 2, unit * 0.65), text, DARK, font, anchor="mm")

    return _drawn((width, height), paint)


@lru_cache(KEPT)
def scale_stamp(text: str, unit: int) -> np.ndarray:
    """A heat map's colours from left to right, and what they are; with the edge of `caption_stamp`."""
    length, gap, edge, words = unit * 8, round(unit * 0.4), edge_width(unit), caption_stamp(text, unit)
    scale = np.zeros((len(words), length + gap + words.shape[1], 4), np.float32)
    ramp = (heat_colours(torch.linspace(0, 1, length)) * 255).byte().numpy()
    top = edge + round(unit * 0.3)
    scale[top : top + unit * 2 // 3, edge : edge + length] = np.append(ramp, np.ones((length, 1)), 1)
    scale[:, length + gap :] = words
    return scale


def stamp(image: np.ndarray, drawn: np.ndarray, x: float, y: float) -> None:
    """Lay a stamp over `image` (H,W,3) uint8, its corner at the pixel that is next to x, y; what is outside is lost."""
    left, top = round(x), round(y)
    cut_x, cut_y = max(-left, 0), max(-top, 0)
    target = image[top + cut_y : top + len(drawn), left + cut_x : left + drawn.shape[1]]
    drawn = drawn[cut_y : cut_y + target.shape[0], cut_x : cut_x + target.shape[1]]
    target[:] = target * (1 - drawn[..., 3:]) + (drawn[..., :3] + 0.5)


def edge_width(unit: int) -> int:
    """Pixels of the dark edge of letters `unit` px high."""
    return max(1, unit // 9)


@lru_cache(8)
def _font(unit: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(unit)


def _drawn(size: tuple[int, int], paint: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    """What `paint` draws on nothing. Where it covers a pixel in part, PIL mixes all four channels with the nothing."""
    page = Image.new("RGBA", size)
    paint(ImageDraw.Draw(page))
    return np.asarray(page, np.float32) * np.array([1, 1, 1, 1 / 255], np.float32)
