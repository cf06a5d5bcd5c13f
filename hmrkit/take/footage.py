"""Where a take's clip is: its absolute path, where it lay as seen from the take, and its content to know it again."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from hmrkit.errors import HmrkitError, InputError
from hmrkit.types import Take, VideoInfo
from hmrkit.video.index import clip_sha256
from hmrkit.video.reading import probe
from hmrkit.video.sequences import list_images

log = logging.getLogger(__name__)


def describe_place(video: VideoInfo, take_path: Path | None) -> dict[str, Any]:
    """What a take's manifest keeps of where its clip is, as JSON values; `take_path` None: written to a pipe."""
    path = Path(os.path.abspath(video.path))
    if (size := clip_bytes(path)) is None:
        return {"path": video.path}
    place: dict[str, Any] = {"path": str(path), "bytes": size}
    if take_path is not None:
        with contextlib.suppress(ValueError):  # another drive
            place["from_take"] = os.path.relpath(path, os.path.abspath(take_path.parent))
    return place


def find_clip(place: dict[str, Any], sha256: str, take_path: Path | None) -> str:
    """The clip's path: where it was, else where it lies as seen from the take, else beside the take, known by its hash.

    Where it is nowhere its old path is given back: a take is of use without its clip.
    """
    path = Path(place["path"])
    if take_path is None or clip_bytes(path) is not None:
        return place["path"]
    beside = Path(os.path.abspath(take_path)).parent
    likely = [beside / place["from_take"]] if "from_take" in place else []
    likely.append(beside / path.name)
    size = place.get("bytes")
    others = [p for p in sorted(beside.iterdir()) if p.suffix == path.suffix] if size is not None else []
    for found in dict.fromkeys([*likely, *others]):
        if size not in (None, clip_bytes(found)) or _hash(found) != sha256:
            continue
        log.info("%s: the clip was moved, found at %s", take_path, found)
        return os.path.normpath(found)
    return place["path"]


def with_clip(take: Take, path: str | Path) -> Take:
    """The take with its clip at another place. InputError where that is a clip of other frames."""
    video = take.video
    found = probe(path, fps=video.fps if Path(path).is_dir() else None)
    mine, theirs = ((v.width, v.height, v.frame_count) for v in (video, found))
    if mine != theirs:
        raise InputError(
            f"{path}: --video wants the take's clip, {mine[0]}x{mine[1]} with {mine[2]} frames (it was {video.path}); "
            f"found {theirs[0]}x{theirs[1]} with {theirs[2]} frames"
        )
    if found.sha256 != video.sha256:
        log.warning("%s: not the very file that the take was made of, but it has the same size and frames", path)
    return replace(take, video=replace(video, path=os.path.abspath(path)))


def clip_bytes(path: Path) -> int | None:
    """Size of a clip's file, of a folder's images together; None where there is none."""
    try:
        return sum(p.stat().st_size for p in (list_images(path) if path.is_dir() else [path]))
    except (OSError, HmrkitError):
        return None


def _hash(path: Path) -> str | None:
    try:
        return clip_sha256(list_images(path) if path.is_dir() else [path])
    except (OSError, HmrkitError):
        return None
