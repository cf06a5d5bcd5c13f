"""``python -m hmrkit.training.make_skin --out skin.jpg``: paint the neutral skin of the free body's charts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from hmrkit.body import load_body
from hmrkit.errors import HmrkitError
from hmrkit.files import atomic_path
from hmrkit.training.make_skin.paint import paint
from hmrkit.training.make_skin.surface import body_surface


def main() -> int:
    """Run the recipe; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hmrkit.training.make_skin", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the JPEG to write")
    parser.add_argument("--size", type=int, default=2048, help="rows and columns (default: %(default)s)")
    options = parser.parse_args()
    try:
        surface = body_surface(load_body(), options.size)
        image = Image.fromarray(surface.image(paint(surface)))
        with atomic_path(options.out) as temporary:
            image.save(temporary, format="JPEG", quality=88, subsampling=0, optimize=True)
    except HmrkitError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
