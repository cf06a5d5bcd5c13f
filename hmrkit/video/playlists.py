"""Playlists (`ffconcat`, HLS): texts that name other files, which the decoder then opens.

Only where the user allows them; even then their parts lie in the playlist's own folder, are plain files, and are no
playlists themselves.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from hmrkit.errors import InputError
from hmrkit.untrusted.limits import PLAYLIST_BYTES

FORMATS = {"concat", "hls", "applehttp"}  # as FFmpeg names those that can be allowed
_CONCAT, _HLS = b"ffconcat version", b"#EXTM3U"
_OTHERS = (b"<?xml", b"<MPD", b"v=0", b"file ")  # refused in any case
_allowed = False
_URI = re.compile(r'URI="([^"]*)"')


def allow_playlists(allowed: bool) -> None:
    """Whether this process may open playlists from now on."""
    global _allowed
    _allowed = allowed


def is_playlist(path: str | Path, kinds: tuple[bytes, ...] = (_CONCAT, _HLS, *_OTHERS)) -> bool:
    """Whether a file begins as a playlist does, whatever its name."""
    try:
        with open(path, "rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(kinds)
    except OSError:
        return False


def playlist_parts(path: Path) -> list[Path]:
    """The files that an `ffconcat` or HLS playlist names, in order, each once.

    Empty where it is another file, or where playlists are not allowed. InputError where a part is not a plain file in
    the playlist's folder, or is a playlist.
    """
    if not _allowed or not path.is_file() or not is_playlist(path, (_CONCAT, _HLS)):
        return []
    if path.stat().st_size > PLAYLIST_BYTES:
        raise InputError(f"{path}: wanted a playlist of at most {PLAYLIST_BYTES} bytes, found a larger file; split it")
    text = path.read_text("utf-8-sig", errors="replace")
    named = _named_by_hls(text) if is_playlist(path, (_HLS,)) else _named_by_concat(path, text)
    parts = [_part(path, name) for name in dict.fromkeys(named)]
    if not parts:
        raise InputError(f"{path}: expected a playlist that names files, found none in it; check it")
    return parts


def _named_by_hls(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return [name for line in lines if line for name in (_URI.findall(line) if line.startswith("#") else [line])]


def _named_by_concat(path: Path, text: str) -> list[str]:
    names = []
    for line in text.splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise InputError(
                f"{path}: expected an ffconcat playlist, cannot read {line.strip()!r} ({error})"
            ) from error
        if words and words[0] == "file":
            names.append(words[1] if len(words) == 2 else "")
    return names


def _part(playlist: Path, name: str) -> Path:
    folder = playlist.resolve().parent
    part = (folder / name).resolve()
    if not name or ":" in name or not part.is_relative_to(folder) or not part.is_file():
        raise InputError(
            f"{playlist}: expected names of files in its own folder, found {name!r}; copy the parts beside the playlist"
        )
    if is_playlist(part):
        raise InputError(f"{playlist}: its part {name!r} is a playlist, too; give that one as the clip")
    return part
