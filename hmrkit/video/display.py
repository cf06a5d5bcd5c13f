"""How a stored frame becomes the one that a player shows: cropped, its pixels made square, rotated and mirrored.

The steps come in this order, the numbers from the file's metadata. The camera of a clip belongs to the shown frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type

# Encoders that scale a clip leave ratios such as 1280:1281. Nobody sees half a percent, and resampling costs sharpness.
_SQUARE_TOLERANCE = 0.005
# What no camera has. Such a ratio is a damaged header, and a frame stretched by it would fill the memory.
_WIDEST = 4
_ROTATIONS_DEG = {
    (False, False, False): 0,
    (True, False, True): 90,
    (False, True, True): 180,
    (True, True, False): 270,
}


@dataclass(frozen=True)
class Display:
    """`crop_ltrb` px are cut off the stored frame of `width` x `height` px; `pixel_aspect` is a pixel's width over its
    height; then rows and columns change places if `transpose`, and the result is mirrored left to right (`flip_x`) and
    top to bottom (`flip_y`).
    """

    width: int
    height: int
    crop_ltrb: tuple[int, int, int, int] = (0, 0, 0, 0)
    pixel_aspect: Fraction = Fraction(1)
    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def _cut(self) -> tuple[int, int]:
        left, top, right, bottom = self.crop_ltrb
        return self.width - left - right, self.height - top - bottom

    @property
    def _square(self) -> tuple[int, int]:
        """Width and height after the pixels were made square. Rows are kept, as ffplay and QuickTime do."""
        width, height = self._cut
        return max(round(width * self.pixel_aspect), 1), height

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the shown frame."""
        width, height = self._square
        return (height, width) if self.transpose else (width, height)

    @property
    def plain(self) -> bool:
        """Whether the stored frame is shown as it is."""
        return self == Display(self.width, self.height)

    @property
    def rotation_deg(self) -> int:
        """The anticlockwise rotation, 0 where the frame is mirrored (`notes` says that)."""
        return _ROTATIONS_DEG.get((self.transpose, self.flip_x, self.flip_y), 0)

    def filters(self) -> list[tuple[str, str]]:
        """Steps on an RGB frame, as names and arguments of libavfilter's filters."""
        steps = []
        if self._cut != (self.width, self.height):
            steps.append(("crop", "{}:{}:{}:{}:exact=1".format(*self._cut, *self.crop_ltrb[:2])))
        if self._square != self._cut:
            steps.append(("scale", "{}:{}:flags=bicubic".format(*self._square)))
        if self.transpose:  # 0: transposed, +1: then mirrored left to right, +2: then top to bottom
            steps.append(("transpose", str(self.flip_x + 2 * self.flip_y)))
        else:
            steps += [("hflip", "")] * self.flip_x + [("vflip", "")] * self.flip_y
        return steps

    def notes(self) -> tuple[str, ...]:
        """What is done that a reader of the report may not expect."""
        notes = []
        if any(self.crop_ltrb):
            notes.append("cropped from {}x{} to {}x{} as its metadata says".format(self.width, self.height, *self._cut))
        if self._square != self._cut:
            aspect = f"{self.pixel_aspect.numerator}:{self.pixel_aspect.denominator}"
            notes.append("pixels of {} made square, {}x{}".format(aspect, *self._square))
        if (self.transpose, self.flip_x, self.flip_y) not in _ROTATIONS_DEG:
            notes.append("mirrored as its display matrix says")
        return tuple(notes)


def display_of(
    frame: av.VideoFrame, pixel_aspect: Fraction | None, crop_ltrb: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> Display:
    """How frames like this one are shown. `crop_ltrb` is the container's; the codec's own is already applied.

    The display matrix is that of ISO 14496-12 (row vectors, y down): ``x' = a x + c y``, ``y' = b x + d y``. Of angles
    between the quarter rotations the nearest is taken.
    """
    left, top, right, bottom = crop_ltrb
    if min(crop_ltrb) < 0 or left + right >= frame.width or top + bottom >= frame.height:
        crop_ltrb = (0, 0, 0, 0)
    aspect = pixel_aspect or Fraction(1)
    if not Fraction(1, _WIDEST) <= aspect <= _WIDEST or abs(aspect - 1) <= _SQUARE_TOLERANCE:
        aspect = Fraction(1)
    a, b, c, d = 1, 0, 0, 1
    if (matrix := frame.side_data.get(Type.DISPLAYMATRIX)) is not None:  # type: ignore[call-overload]
        a, b, _, c, d, *_ = (int(v) for v in np.frombuffer(matrix, np.int32))
    transpose = abs(b) + abs(c) > abs(a) + abs(d)
    flip_x, flip_y = (c < 0, b < 0) if transpose else (a < 0, d < 0)
    return Display(frame.width, frame.height, crop_ltrb, aspect, transpose, flip_x, flip_y)
