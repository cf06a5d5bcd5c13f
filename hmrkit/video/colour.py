"""From a frame's stored colours to the RGB that a player shows: matrix, range, transfer curve, transparency.

Everything is named here instead of left to the library: what PyAV does by itself differs between its versions (BT.709
was read as BT.601 up to 16, which is up to 33 levels off), libavfilter's `scale` with all arguments does not.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np

from hmrkit.errors import InputError

# ITU-T H.273's matrix coefficients (table 4) and swscale's names of them.
_RGB, _UNSPECIFIED = 0, 2
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_PQ, _HLG = 16, 18  # transfer characteristics (table 3)
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_DECORD_FORMATS = ("yuv420p", "yuvj420p")
GREY = 128  # laid under what is transparent
# Absolute levels, cd/m2: BT.2408's reference white, which becomes SDR's white, and the peak that HDR is mastered for.
_WHITE, _PEAK = 203.0, 1000.0
_LUT_SIZE = 33

Transfer = Literal["sdr", "pq", "hlg"]


@dataclass(frozen=True)
class Colour:
    """`matrix` is swscale's name, `full` says that the range is full (0-255), `tagged` that the file names its matrix,
    `alpha` that pixels may be transparent, `pixel_format` is libavutil's name.
    """

    pixel_format: str
    matrix: str
    full: bool
    tagged: bool
    transfer: Transfer = "sdr"
    alpha: bool = False

    @property
    def plain(self) -> bool:
        """Whether decord gives the same pixels: it reads 8 bit 4:2:0 by its tag, and untagged frames as BT.601."""
        common = self.matrix in ("bt601", "bt709", "bt2020") and (self.tagged or self.matrix == "bt601")
        return common and self.transfer == "sdr" and self.pixel_format in _DECORD_FORMATS

    def filters(self) -> list[tuple[str, str]]:
        """Steps to 8 bit RGB or RGBA, as names and arguments of libavfilter's filters."""
        levels = f"in_color_matrix={self.matrix}:in_range={'pc' if self.full else 'tv'}:flags=bilinear"
        if self.transfer == "sdr":
            return [("scale", levels), ("format", f"pix_fmts={'rgba' if self.alpha else 'rgb24'}")]
        return [
            ("scale", levels),
            ("format", "pix_fmts=rgb48"),
            ("lut3d", f"file={_filter_path(_tone_map_file(self.transfer))}:interp=tetrahedral"),
            ("scale", "flags=bilinear"),
            ("format", "pix_fmts=rgb24"),
        ]

    def notes(self) -> tuple[str, ...]:
        """What is done that a reader of the report may not expect."""
        notes = []
        if self.transfer != "sdr":
            notes.append(f"HDR ({self.transfer.upper()}, BT.2020) tone-mapped to SDR")
        if self.alpha:
            notes.append("transparent pixels laid over grey")
        return tuple(notes)


def colour_of(frame: av.VideoFrame, transfer: int | None, path: str | Path = "clip") -> Colour:
    """How the colours of frames like this one are stored; `transfer` is H.273's number of the stream.

    Untagged frames are read as players do (mpv): BT.709 from 1280 columns or 577 rows on, else BT.601; limited range.
    Raises InputError for matrices that swscale has no way back from (ICtCp, Dolby Vision's IPT, YCgCo).
    """
    name, code = frame.format.name, int(frame.colorspace)
    components = frame.format.components
    rgb, grey = frame.format.is_rgb or name == "pal8", len(components) < 3
    if rgb or grey:
        matrix, tagged = "bt601", True
    elif code in (_RGB, _UNSPECIFIED, 3):
        matrix, tagged = ("bt709" if frame.width >= 1280 or frame.height > 576 else "bt601"), False
    elif code in _MATRICES:
        matrix, tagged = _MATRICES[code], True
    else:
        raise InputError(
            f"{path}: expected BT.601, BT.709 or BT.2020 colours, found matrix {code} of H.273 (as Dolby Vision); "
            "convert it with: ffmpeg -i IN -vf libplacebo=colorspace=bt709:color_trc=bt709:"
            "color_primaries=bt709,format=yuv420p OUT.mp4"
        )
    full = rgb or grey or name.startswith("yuvj") or int(frame.color_range) == _FULL_RANGE
    curve: Transfer = "pq" if transfer == _PQ else "hlg" if transfer == _HLG else "sdr"
    alpha = name == "pal8" or any(c.is_alpha for c in components)
    return Colour(name, matrix, full, tagged, curve, alpha)


def over_grey(rgba: np.ndarray) -> np.ndarray:
    """RGB uint8 (...,3) of RGBA uint8 (...,4) with straight alpha, laid over mid grey."""
    opacity = rgba[..., 3:].astype(np.float32) / 255
    return (rgba[..., :3] * opacity + GREY * (1 - opacity)).round().astype(np.uint8)


def tone_map(rgb: np.ndarray, transfer: Transfer) -> np.ndarray:
    """SDR R'G'B' (...,3) in [0,1] (BT.709, BT.1886 gamma 2.4) of R'G'B' in BT.2020 with a PQ or HLG curve.

    Curves of BT.2100; HLG as shown at 1000 cd/m2. The roll-off is BT.2390-10's EETF (5.4.1) on the largest channel,
    from 1000 to 203 cd/m2, so that hues stay; below about 90 cd/m2 nothing changes.
    """
    light = _from_pq(rgb) if transfer == "pq" else _from_hlg(rgb)
    largest = np.maximum(light.max(-1, keepdims=True), 1e-6)
    peak = _to_pq(np.array(_PEAK))
    top = _to_pq(np.array(_WHITE)) / peak
    knee = 1.5 * top - 0.5
    level = np.minimum(_to_pq(largest) / peak, 1)
    t = np.clip((level - knee) / (1 - knee), 0, 1)
    rolled = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * top
    light = light * _from_pq(np.where(level < knee, level, rolled) * peak) / largest
    bt709 = np.clip(light / _WHITE @ _BT709_FROM_BT2020.T, 0, 1)
    return bt709 ** (1 / 2.4)


def linear_to_display(linear: np.ndarray) -> np.ndarray:
    """RGB uint8 of linear light, 1 is white: the sRGB curve (IEC 61966-2-1), brighter light cut off."""
    x = np.clip(np.nan_to_num(linear.astype(np.float32), nan=0.0), 0, 1)
    return (255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)).round().astype(np.uint8)


# BT.2087-0, table 3, inverted: linear light with BT.2020 primaries to BT.709 primaries.
_BT709_FROM_BT2020 = np.linalg.inv(
    np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
)
_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128


def _from_pq(signal: np.ndarray) -> np.ndarray:
    """cd/m2 of a PQ signal (BT.2100 table 4, EOTF)."""
    power = np.clip(signal, 0, 1) ** (1 / _M2)
    return 10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def _to_pq(light: np.ndarray) -> np.ndarray:
    power = (light / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _from_hlg(signal: np.ndarray) -> np.ndarray:
    """cd/m2 on a display of 1000 cd/m2 of an HLG signal (BT.2100 table 5, inverse OETF and OOTF with gamma 1.2)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    x = np.clip(signal, 0, 1)
    scene = np.where(x <= 0.5, x**2 / 3, (np.exp((x - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return _PEAK * scene * np.maximum(luminance, 1e-9)[..., None] ** 0.2


@functools.cache
def _tone_map_file(transfer: Transfer) -> Path:
    """`tone_map` as a table for libavfilter's `lut3d`, which is fast; once a process."""
    grid = np.linspace(0, 1, _LUT_SIZE)
    blue, green, red = np.meshgrid(grid, grid, grid, indexing="ij")  # red runs fastest in the file
    table = tone_map(np.stack([red, green, blue], -1).reshape(-1, 3), transfer)
    folder = tempfile.TemporaryDirectory(prefix="hmrkit-")
    _KEPT.append(folder)
    path = Path(folder.name) / f"{transfer}.cube"
    lines = "\n".join("{:.6f} {:.6f} {:.6f}".format(*row) for row in table)
    path.write_text(f"LUT_3D_SIZE {_LUT_SIZE}\n{lines}\n")
    return path


_KEPT: list[tempfile.TemporaryDirectory] = []  # removed when the process ends


def _filter_path(path: Path) -> str:
    """A path as an argument of a filter, where colons and backslashes have a meaning."""
    return path.as_posix().replace(":", "\\:")
