"""Synthetic samples as a person wants to see them: image, joints, body parts, side by side on one sheet."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from hmrkit.files import atomic_path
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.images import Samples

VISIBLE, SELF_HIDDEN, HIDDEN, BONE = (80, 230, 90), (250, 210, 60), (240, 60, 60), (230, 230, 230)
COLUMNS, PIECE = 4, 200
_AT_ONCE = 16


def write_preview(path: str | Path, split: str = "train", seed: int = 0, count: int = 32, device: str = "cpu") -> None:
    """A contact sheet (PNG) of `count` samples, see `sample_tile`. InputError where it cannot be written."""
    from hmrkit.synthetic.images import SyntheticImages

    images = SyntheticImages(split, device)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    tiles: list[Image.Image] = []
    while len(tiles) < count:
        samples = images(min(_AT_ONCE, count - len(tiles)), generator)
        tiles += [sample_tile(samples, n) for n in range(len(samples.images))]
    width, height = tiles[0].size
    sheet = Image.new("RGB", (COLUMNS * (width + 6), -(-count // COLUMNS) * (height + 6)), (24, 25, 28))
    for k, tile in enumerate(tiles):
        sheet.paste(tile, (k % COLUMNS * (width + 6), k // COLUMNS * (height + 6)))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def sample_tile(samples: Samples, n: int) -> Image.Image:
    """Sample n three times: as it is; with its bones and joints (green visible, yellow behind the person's own body,
    red behind something else or outside); its visible parts by colour, striped along V and darker along U."""
    image = (samples.images[n].permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
    drawn = Image.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    at = [(float(x), float(y)) for x, y in samples.joints_2d[n].cpu()]
    for parent, child in SMPL_24.bones:
        draw.line([at[parent], at[child]], BONE)
    for (x, y), visible, behind in zip(at, samples.joints_visible[n], samples.joints_self_hidden[n], strict=True):
        colour = HIDDEN if not visible else SELF_HIDDEN if behind else VISIBLE
        draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
    part, u, v = samples.iuv[n].cpu().numpy()
    palette = np.array([(0, 0, 0)] + [colorsys.hsv_to_rgb(k * 0.618 % 1, 0.7, 1) for k in range(24)])
    parts = palette[part.astype(int)] * (0.45 + 0.55 * u * (0.75 + 0.25 * (v * 8 % 2 < 1)))[..., None]
    parts = np.where(samples.mask[n].cpu().numpy()[..., None], 255 * parts, image * 0.3).astype(np.uint8)
    tile = Image.new("RGB", (3 * PIECE, PIECE))
    for k, piece in enumerate((Image.fromarray(image), drawn, Image.fromarray(parts))):
        tile.paste(piece.resize((PIECE, PIECE), Image.Resampling.LANCZOS), (k * PIECE, 0))
    return tile
