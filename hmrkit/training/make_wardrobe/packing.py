"""The assets as they ship: one ``.npz`` a kind, with names, so that `hmrkit.synthetic.wardrobe` can hold some out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from hmrkit.errors import InputError


def pack_skins(folder: Path) -> dict[str, np.ndarray]:
    """Every skin's JPEG as it is: `names` (N), `jpeg` (all bytes), `starts` (N+1) into them."""
    paths = _files(folder, "*_diffuse*.jpg")
    return _joined([path.stem for path in paths], [path.read_bytes() for path in paths])


def pack_materials(folder: Path, size: int = 512) -> dict[str, np.ndarray]:
    """Surface photographs, made smaller and square; fields as for skins."""
    paths = _files(folder, "*.jpg")
    blobs = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        blob = io.BytesIO()
        image.crop((0, 0, side, side)).resize((size, size), Image.Resampling.BOX).save(blob, "JPEG", quality=88)
        blobs.append(blob.getvalue())
    return _joined([path.stem for path in paths], blobs)


def pack_panoramas(folder: Path) -> list[dict[str, np.ndarray]]:
    """Panoramas as shared-exponent bytes: `names` (N), `rgbe` (N,512,1024,4); in two halves for the files' sizes."""
    paths = _files(folder, "*.hdr")
    names, pixels = np.array([path.stem for path in paths]), np.stack([read_rgbe(path) for path in paths])
    half = (len(paths) + 1) // 2
    return [{"names": names[part], "rgbe": pixels[part]} for part in (slice(half), slice(half, None))]


def read_rgbe(path: Path) -> np.ndarray:
    """Bytes (H,W,4) of a Radiance ``.hdr``: three mantissas and an exponent (Ward, "Real Pixels", Graphics Gems II).

    Reads the run-length coded scanlines that every writer of today makes; InputError for anything else.
    """
    data = path.read_bytes()
    header_end = data.find(b"\n\n")
    size_end = data.find(b"\n", header_end + 2)
    words = data[header_end + 2 : size_end].split()
    if not data.startswith(b"#?") or len(words) != 4 or words[0] != b"-Y" or words[2] != b"+X":
        raise InputError(f"{path}: expected a Radiance .hdr with -Y +X scanlines; convert it to that")
    height, width = int(words[1]), int(words[3])
    out = np.empty((height, 4, width), np.uint8)
    at = size_end + 1
    for row in out:
        if data[at : at + 4] != bytes([2, 2, width >> 8, width & 255]):
            raise InputError(f"{path}: expected run-length coded scanlines; convert it to that")
        at += 4
        for channel in row:
            x = 0
            while x < width:
                count = data[at]
                if count > 128:  # a run of one value
                    count -= 128
                    channel[x : x + count] = data[at + 1]
                    at += 2
                else:
                    channel[x : x + count] = np.frombuffer(data, np.uint8, count, at + 1)
                    at += 1 + count
                x += count
    return np.ascontiguousarray(out.transpose(0, 2, 1))


def _files(folder: Path, pattern: str) -> list[Path]:
    paths = sorted(folder.glob(pattern))
    if not paths:
        raise InputError(f"{folder}: expected files {pattern}, found none; give the folder of textures with --data")
    return paths


def _joined(names: list[str], blobs: list[bytes]) -> dict[str, np.ndarray]:
    starts = np.cumsum([0, *(len(blob) for blob in blobs)])
    return {"names": np.array(names), "jpeg": np.frombuffer(b"".join(blobs), np.uint8), "starts": starts}
