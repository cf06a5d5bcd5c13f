"""The image that exported people wear on their body's charts: the neutral skin that ships, or a file of the user's."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from hmrkit.body.model import Body
from hmrkit.body.texture import texture_coordinates
from hmrkit.errors import InputError, UsageError
from hmrkit.scene.types import NAME_LENGTH, safe_name
from hmrkit.untrusted import limits
from hmrkit.untrusted.arrays import open_regular
from hmrkit.weights import find_weights, verify

SKIN = "skin"  # what --texture calls the one that ships
_SHIPPED = "body/skin.jpg"


@dataclass(frozen=True)
class Texture:
    """A PNG or JPEG whose colours are sRGB, its first row at v = 1: the whole file's `content`, and the `name` of a
    copy that lies beside exported files."""

    name: str
    content: bytes

    @property
    def mime_type(self) -> str:
        """``image/png`` or ``image/jpeg``."""
        return "image/png" if self.name.endswith(".png") else "image/jpeg"


def read_texture(choice: str, body: Body, clip: str) -> Texture:
    """The texture that ``--texture`` names, ``skin`` or a file, for people of `body`. Its name begins with `clip`, the
    name of the clip's scene; a file's ends in digits of its hash, so that no two clips' textures share one.

    UsageError for a body without charts, InputError for a file that is no PNG or JPEG, WeightsError where the skin is
    missing or damaged.
    """
    if texture_coordinates(body) is None:
        raise UsageError(
            f"--texture {choice} wants a body with texture coordinates, as hmrkit's own has; {body.model_id} has none; "
            "leave it out"
        )
    if choice == SKIN:
        verify(_SHIPPED)
        return Texture(f"{clip}_{SKIN}.jpg", find_weights(_SHIPPED).read_bytes())
    wanted = f"{choice}: wanted {SKIN}, or a texture as a PNG or JPEG file"
    try:
        with open_regular(choice) as file:
            size, most = os.fstat(file.fileno()).st_size, limits.TEXTURE_BYTES
            if size > most:
                raise InputError(f"{wanted} of at most {most >> 20} MiB; found {size / 2**20:.1f} MiB; make it smaller")
            content = file.read()
    except OSError as error:
        raise InputError(f"{wanted}; found {error.strerror}; check the path") from error
    own, digits = safe_name(Path(choice).stem)[:NAME_LENGTH], hashlib.sha256(content).hexdigest()[:6]
    return Texture(f"{clip}_{own}_{digits}.{_suffix(content, wanted)}", content)


def _suffix(content: bytes, wanted: str) -> str:
    """``png`` or ``jpg``, as the file begins. InputError for another kind, a damaged one, one of too many pixels, or
    colours of print."""
    smaller = f"{wanted} of at most {limits.FRAME_PIXELS / 1e6:.0f} million pixels; found {{}}; make it smaller"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower
            opened = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))  # what glTF takes
        with opened as image:
            if image.width * image.height > limits.FRAME_PIXELS:
                raise InputError(smaller.format(f"{image.width}x{image.height}"))
            image.load()
            if image.mode == "CMYK":
                raise InputError(f"{wanted}; found colours for print (CMYK); save it in RGB")
            return "png" if image.format == "PNG" else "jpg"  # a camera's JPEG with a preview has a format of its own
    except Image.DecompressionBombError as error:
        raise InputError(smaller.format(str(error).partition(" exceeds")[0])) from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{wanted}; found another or a damaged file; save it again") from error


def check_apart(choice: str | None, folder: Path, files: Iterable[str]) -> None:
    """UsageError for a texture of the user's that is one of the `files` (paths from `folder`) of an export, which later
    exports replace and remove."""
    if choice in (None, SKIN):
        return
    path, top = Path(os.path.realpath(choice)), os.path.realpath(folder)
    if path.is_relative_to(top) and path.relative_to(top).as_posix() in files:
        raise UsageError(f"--texture {choice} is a file that exports to --out {folder} replace; keep it elsewhere")
