"""A contact sheet: images spread evenly over the clip in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hmrkit.errors import InputError
from hmrkit.files import atomic_path

PNG_COMPRESSION = 3  # half the time of the default 6, for files a tenth larger
BACKGROUND, TEXT = (24, 25, 28), (235, 235, 235)


class ContactSheet:
    """Keeps `tiles` of the `frames` images that will be added, evenly spaced, and writes them as one PNG on `close`.

    Tiles stand in rows of `columns`, each `tile_width` px wide or its own width if that is less, with its frame's
    number above it, above them the lines of `legend`. Inside a ``with`` block an exception leaves no file.
    """

    def __init__(
        self,
        path: str | Path,
        frames: int,
        tiles: int = 12,
        columns: int = 3,
        tile_width: int = 800,
        legend: Sequence[str] = (),
    ) -> None:
        self.path = Path(path)
        self.legend = tuple(legend)
        self._columns, self._tile_width = columns, tile_width
        self._wanted = set(np.linspace(0, max(frames - 1, 0), tiles).round().astype(int).tolist())
        self._seen = 0
        self._tiles: list[tuple[int, Image.Image]] = []

    def add(self, image: np.ndarray, frame_index: int) -> None:
        """The next image (H,W,3) uint8 RGB of the clip."""
        self.add_batch(image[None], [frame_index])

    def add_batch(self, images: np.ndarray, frame_indices: Sequence[int]) -> None:
        """The next images (B,H,W,3) uint8 RGB of the clip, as `Overlay.draw` returns them."""
        for image, index in zip(images, frame_indices, strict=True):
            if self._seen in self._wanted:
                tile = Image.fromarray(image)
                if tile.width > self._tile_width:
                    size = (self._tile_width, round(tile.height * self._tile_width / tile.width))
                    tile = tile.resize(size, Image.Resampling.LANCZOS)
                self._tiles.append((int(index), tile))
            self._seen += 1

    def close(self) -> None:
        """Write the sheet. InputError where the path cannot be written, or no image was added."""
        if not self._tiles:
            raise InputError(f"{self.path}: not one frame for a contact sheet; is the clip readable?")
        gap, caption = 8, 26
        width, height = self._tiles[0][1].size
        columns = min(self._columns, len(self._tiles))
        rows = -(-len(self._tiles) // columns)
        head = len(self.legend) * caption
        font = ImageFont.load_default(18)
        written = int(max((font.getlength(line) for line in self.legend), default=0)) + 2 * gap
        sheet_size = (max(columns * (width + gap) + gap, written), head + rows * (height + caption + gap) + gap)
        sheet = Image.new("RGB", sheet_size, BACKGROUND)
        draw = ImageDraw.Draw(sheet)
        for k, line in enumerate(self.legend):
            draw.text((gap, gap + k * caption), line, TEXT, font)
        for k, (index, tile) in enumerate(self._tiles):
            x, y = gap + k % columns * (width + gap), head + gap + k // columns * (height + caption + gap)
            draw.text((x, y), f"frame {index}", TEXT, font)
            sheet.paste(tile, (x, y + caption))
        with atomic_path(self.path) as temporary:
            sheet.save(temporary, format="PNG", compress_level=PNG_COMPRESSION)

    def __enter__(self) -> ContactSheet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
