"""One image of a folder as RGB uint8: any bit depth, transparency, orientation, plates in linear light (EXR, DPX)."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from PIL import Image, ImageOps, UnidentifiedImageError

from hmrkit.errors import InputError
from hmrkit.untrusted.limits import FRAME_PIXELS, too_large
from hmrkit.video.colour import colour_of, linear_to_display, over_grey
from hmrkit.video.display import Display
from hmrkit.video.filtering import ShownFrames
from hmrkit.video.opening import open_media

PLATE_SUFFIXES = (".exr", ".dpx")
_EXIF_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
# Cineon's printing density in 10 bit codes: black, white, and codes per decade of light (Kodak 1995; SMPTE 268M files).
_BLACK, _WHITE, _DECADE = 95.0, 685.0, 300.0
_LINEAR_GREY = 0.2158605  # linear light of sRGB 128


def read_image(path: Path) -> np.ndarray:
    """An image as a viewer shows it, RGB uint8 (H,W,3): upright by its EXIF orientation, what is transparent over grey.

    Raises OSError or ValueError where it cannot be read or is larger than `hmrkit.untrusted.limits` allows, InputError
    where reading it needs a package that is missing.
    """
    if path.suffix.lower() in PLATE_SUFFIXES:
        return _read_plate(path)
    try:
        with _opened(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16 bit grey; some versions of Pillow open it as 32 bit
                return _grey(np.array(image).astype(np.float32) / 65535)
            if image.mode == "F":
                return linear_to_display(np.array(image)[..., None].repeat(3, -1))
            if image.has_transparency_data if hasattr(image, "has_transparency_data") else "A" in image.getbands():
                return over_grey(np.array(image.convert("RGBA")))
            return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise
        return _read_deep(path)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of `read_image`, from the file's header where that is enough. Raises what `read_image` does."""
    if path.suffix.lower() in PLATE_SUFFIXES:
        height, width = _plate_size(_open_plate(path).spec())
        _refuse_large(width, height)
        return height, width
    try:
        with _opened(path) as image:
            sideways = image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
            if sideways and image.format == "TIFF":  # some versions of Pillow give its size upright, others as stored
                width, height = ImageOps.exif_transpose(image).size
                return height, width
            return image.size if sideways else (image.height, image.width)
    except UnidentifiedImageError:
        height, width = read_image(path).shape[:2]
        return height, width


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image of which only the header was read, no larger than allowed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower
            opened = Image.open(path)
    except Image.DecompressionBombError as error:
        found = str(error).partition(" exceeds")[0]
        raise OSError(f"wanted at most {FRAME_PIXELS / 1e6:.0f} million pixels, found {found}; shrink it") from error
    with opened:
        _refuse_large(*opened.size)
        yield opened


def _refuse_large(width: int, height: int) -> None:
    if reason := too_large(width, height):
        raise OSError(reason)


def _grey(values: np.ndarray) -> np.ndarray:
    return (255 * np.clip(values, 0, 1)).round().astype(np.uint8)[..., None].repeat(3, -1)


def _read_deep(path: Path) -> np.ndarray:
    """TIFF of more than 8 bit a channel, which Pillow refuses, through libavcodec."""
    try:
        with open_media(path) as container:
            frame = next(container.decode(video=0))
    except (InputError, FFmpegError, StopIteration, IndexError) as error:
        raise OSError(f"cannot be decoded ({error})") from error
    return ShownFrames(Display(frame.width, frame.height), colour_of(frame, None, path))(frame)


def _open_plate(path: Path):
    """OpenImageIO's reader of an image."""
    try:
        import OpenImageIO as oiio
    except ImportError:
        raise InputError(f"{path}: EXR and DPX need openimageio; pip install 'hmrkit[plates]'") from None
    if (source := oiio.ImageInput.open(str(path))) is None:
        raise OSError(oiio.geterror())
    return source


def _plate_size(spec) -> tuple[int, int]:
    """Height and width of the display window, its pixels made square."""
    aspect = spec.get_float_attribute("PixelAspectRatio", 1.0)
    odd = 0.25 <= aspect <= 4 and abs(aspect - 1) > 0.005
    return spec.full_height, round(spec.full_width * aspect) if odd else spec.full_width


def _read_plate(path: Path) -> np.ndarray:
    """The display window of an EXR or DPX image; linear light gets the sRGB curve, brighter than 1 is cut off."""
    source = _open_plate(path)
    spec = source.spec()
    _refuse_large(max(spec.width, spec.full_width), max(spec.height, spec.full_height))
    pixels = source.read_image("float")
    source.close()
    if pixels is None:
        raise OSError("its pixels cannot be decoded")
    channels = [name.rpartition(".")[2].upper() for name in spec.channelnames]
    places = [channels.index(c) for c in "RGB"] if set("RGB") <= set(channels) else [0, 0, 0]
    colour = pixels[..., places]
    if path.suffix.lower() == ".exr":
        if "A" in channels:  # EXR's colours are multiplied with alpha already
            colour = colour + (1 - np.clip(pixels[..., [channels.index("A")]], 0, 1)) * _LINEAR_GREY
        shown = linear_to_display(_display_window(colour, spec))
    elif "log" in str(spec.get_string_attribute("oiio:ColorSpace")).lower():
        shown = linear_to_display(_from_cineon(colour))
    elif "lin" in str(spec.get_string_attribute("oiio:ColorSpace")).lower():
        shown = linear_to_display(colour)
    else:
        shown = (255 * np.clip(colour, 0, 1)).round().astype(np.uint8)
    height, width = _plate_size(spec)
    if shown.shape[:2] != (height, width):
        shown = np.array(Image.fromarray(shown).resize((width, height)))
    return np.ascontiguousarray(shown)


def _from_cineon(code: np.ndarray) -> np.ndarray:
    """Linear light, 1 is diffuse white, of printing density in [0,1]."""
    black = 10 ** ((_BLACK - _WHITE) / _DECADE)
    return (10 ** ((code * 1023 - _WHITE) / _DECADE) - black) / (1 - black)


def _display_window(pixels: np.ndarray, spec) -> np.ndarray:
    """What lies in the display window of pixels that may be stored for more of it (overscan) or less."""
    window = np.zeros((spec.full_height, spec.full_width, pixels.shape[-1]), np.float32)
    x, y = spec.x - spec.full_x, spec.y - spec.full_y
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + spec.width, spec.full_width), min(y + spec.height, spec.full_height)
    if right > left and bottom > top:
        window[top:bottom, left:right] = pixels[top - y : bottom - y, left - x : right - x]
    return window
