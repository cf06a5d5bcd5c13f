"""The image that exported people wear on their body's charts: the neutral skin that ships, or a file of the user's."""

from __future__ import annotations

import io
import os
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
_SUFFIXES = {"PNG": "png", "JPEG": "jpg"}  # what glTF takes


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


def read_texture(choice: str, body: Body, scene: str) -> Texture:
    """The texture that ``--texture`` names, ``skin`` or a file, for people of `body`; its name begins with `scene`.

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
        return Texture(f"{scene}_{SKIN}.jpg", find_weights(_SHIPPED).read_bytes())
    wanted = f"{choice}: wanted {SKIN}, or a texture as a PNG or JPEG file"
    try:
        with open_regular(choice) as file:
            content = file.read(limits.TEXTURE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{wanted}; found {error.strerror}; check the path") from error
    if len(content) > limits.TEXTURE_BYTES:
        raise InputError(f"{wanted} of at most {limits.TEXTURE_BYTES >> 20} MB; make it smaller")
    own = safe_name(Path(choice).stem)[:NAME_LENGTH]
    return Texture(f"{scene}_{own}.{_suffix(content, choice, wanted)}", content)


def _suffix(content: bytes, choice: str, wanted: str) -> str:
    """``png`` or ``jpg``, as the file begins. InputError for another kind, a damaged one, or colours of print."""
    try:
        with Image.open(io.BytesIO(content), formats=list(_SUFFIXES)) as image:
            limits.check_pixels(choice, *image.size)
            image.load()
            if image.mode == "CMYK":
                raise InputError(f"{wanted}; found colours for print (CMYK); save it in RGB")
            return _SUFFIXES[str(image.format)]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{wanted}; found another or a damaged file; save it again") from error


def check_apart(choice: str | None, folder: Path) -> None:
    """UsageError for a texture of the user's in the export's own folder, where later exports replace and remove."""
    if choice in (None, SKIN) or not Path(choice).is_file():
        return
    if Path(os.path.realpath(choice)).is_relative_to(os.path.realpath(folder)):
        raise UsageError(f"--texture {choice} lies in --out {folder}, where exports replace files; keep it elsewhere")
