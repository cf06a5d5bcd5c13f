"""Where a take's clip is: its absolute path, where it lay as seen from the take, and its content to know it again."""

from __future__ import annotations

import contextlib
import logging
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hmrkit.errors import HmrkitError, InputError
from hmrkit.types import Take, VideoInfo
from hmrkit.video.index import clip_files, clip_sha256
from hmrkit.video.probing import probe

log = logging.getLogger(__name__)


def describe_place(video: VideoInfo) -> dict[str, Any]:
    """What a take's manifest keeps of where its clip is, as JSON values."""
    path = Path(os.path.abspath(video.path))
    size = clip_bytes(path)
    return {"path": video.path} if size is None else {"path": str(path), "bytes": size}


def write_relative_path(video: VideoInfo, written: Path, take_path: Path) -> None:
    """Note in a take's file `written` where its clip lies as seen from the folder of `take_path`.

    The zip's comment has it: the same take in another folder, or in a pipe, has the same entries.
    """
    with contextlib.suppress(ValueError):  # another drive
        relative = os.fsencode(os.path.relpath(os.path.abspath(video.path), os.path.abspath(take_path.parent)))
        if clip_bytes(Path(video.path)) is not None and len(relative) < 2**16:
            with zipfile.ZipFile(written, "a") as archive:
                archive.comment = relative


def read_relative_path(take_path: Path) -> str:
    """What `write_relative_path` noted, "" where nothing was."""
    with zipfile.ZipFile(take_path) as archive:
        return os.fsdecode(archive.comment)


def find_clip(place: dict[str, Any], sha256: str, take_path: Path | None) -> str:
    """The clip's path: where it was, else where it lies as seen from the take, else beside the take, known by its hash.

    Where it is nowhere its old path is given back: a take is of use without its clip.
    """
    path = Path(place["path"])
    if take_path is None or clip_bytes(path) is not None:
        return place["path"]
    beside = Path(os.path.abspath(take_path)).parent
    likely = [beside / read_relative_path(take_path), beside / path.name]
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
    """Size of the files of a clip together; None where there is none."""
    try:
        return sum(p.stat().st_size for p in clip_files(path))
    except (OSError, HmrkitError):
        return None


def _hash(path: Path) -> str | None:
    try:
        return clip_sha256(clip_files(path))
    except (OSError, HmrkitError):
        return None
