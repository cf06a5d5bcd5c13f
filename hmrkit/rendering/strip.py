"""The README's strip, of square panels: footage, mesh, side view, Blender.

``python -m hmrkit.rendering.strip CLIP FRAME.png BLENDER.png STRIP.jpg``; `hmrkit docs members` has the commands before
it.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from PIL import Image

from hmrkit.errors import InputError
from hmrkit.files import atomic_path
from hmrkit.rendering.stamps import caption_stamp, edge_width, stamp

GAP, STUDIO, UNIT, QUALITY = 6, (214, 218, 223), 18, 88


def make_strip(footage: np.ndarray, rendered: np.ndarray, blender: np.ndarray) -> np.ndarray:
    """Four panels (H,H,3) beside each other: an image (H,W',3) uint8.

    `footage` (H,W,3) is a frame; `rendered` (H,W+H,3) the same by `hmrkit render --view overlay,side`, so that where
    they differ the person is; `blender` (h,w,4) has straight alpha. InputError where the sizes do not fit.
    """
    height, width = footage.shape[:2]
    if rendered.shape[:2] != (height, width + min(width, height)) or height > width:
        raise InputError(
            f"wanted a landscape frame and its `hmrkit render --view overlay,side`, got {footage.shape[1::-1]} and "
            f"{rendered.shape[1::-1]} pixels"
        )
    changed = np.abs(footage.astype(np.int16) - rendered[:, :width]).max(2) > 64
    middle = int(np.median(np.nonzero(changed)[1])) if changed.any() else width // 2
    left = min(max(middle - height // 2, 0), width - height)
    studio = Image.new("RGBA", (height, height), STUDIO)
    studio.alpha_composite(Image.fromarray(blender).resize((height, height), Image.Resampling.LANCZOS))
    panels = {
        "footage": footage[:, left : left + height],
        "mesh": rendered[:, left : left + height],
        "": rendered[:, width:],  # it has a caption of its own
        "in Blender": np.asarray(studio.convert("RGB")),
    }
    strip = np.full((height, len(panels) * (height + GAP) - GAP, 3), 255, np.uint8)
    for place, (caption, panel) in enumerate(panels.items()):
        target = strip[:, place * (height + GAP) :][:, :height]
        target[:] = panel
        if caption:
            edge = edge_width(UNIT)
            stamp(target, caption_stamp(caption, UNIT), UNIT * 0.6 - edge, UNIT * 0.5 - edge)
    return strip


def main() -> None:
    """Read the frame that the PNG's name has from the clip, and write the strip."""
    from hmrkit.video import probe, read_frames

    parser = argparse.ArgumentParser(prog="python -m hmrkit.rendering.strip", description=__doc__)
    for name in ("clip", "frame", "blender", "strip"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    number = re.fullmatch(r"frame_(\d+)", given.frame.stem)
    if number is None:
        parser.error(f"wanted a frame_000044.png of `hmrkit render`, got {given.frame}")
    index = int(number[1])
    [batch] = read_frames(probe(given.clip, start=index, end=index + 1))
    blender = np.asarray(Image.open(given.blender).convert("RGBA"))
    strip = make_strip(batch.frames[0], np.asarray(Image.open(given.frame).convert("RGB")), blender)
    with atomic_path(given.strip) as temporary:
        Image.fromarray(strip).save(temporary, format="JPEG", quality=QUALITY, optimize=True)


if __name__ == "__main__":
    main()
