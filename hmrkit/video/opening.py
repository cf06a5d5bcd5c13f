"""Opening a video file: a regular file by that very name, one that holds its own frames, no larger than allowed.

A playlist, which names other files, is opened only where `allow` permits it (`hmrkit.video.playlists`).
"""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from hmrkit.errors import InputError
from hmrkit.untrusted.limits import FRAME_PIXELS, check_pixels
from hmrkit.video.decoders import prefer_decoder
from hmrkit.video.playlists import FORMATS, allow_playlists, is_playlist, playlist_parts
from hmrkit.video.watch import set_timeout

if TYPE_CHECKING:
    from hmrkit.options import Options

# Formats whose files name others, which FFmpeg then opens or even runs, and those that are devices or networks.
REFUSED = {
    "concat", "hls", "applehttp", "dash", "hds", "imf", "webm_dash_manifest", "image2", "image2pipe", "avisynth",
    "vapoursynth", "vobsub", "sdp", "rtp", "rtsp", "sap", "lavfi", "alsa", "oss", "fbdev", "kmsgrab", "v4l2",
    "video4linux2", "video4linux2,v4l2", "x11grab",
}  # fmt: skip


def allow(options: Options) -> None:
    """What this process does with clips from now on: `decoder`, its `timeout` without progress, `allow_playlists`."""
    prefer_decoder(options.decoder)
    allow_playlists(options.allow_playlists)
    set_timeout(options.timeout)


def media_url(path: str | Path) -> str:
    """A path as FFmpeg takes it for a file, whatever its name: no colon makes it a protocol, no dash an option."""
    return f"file:{os.path.abspath(path)}"


@functools.lru_cache(maxsize=2)
def _formats(refused: frozenset[str]) -> str:
    """The formats that may be opened, for FFmpeg's ``format_whitelist``: some of PyAV's names stand for several."""
    return ",".join(sorted({part for name in av.formats_available - refused for part in (name, *name.split(","))}))


def open_media(path: str | Path) -> InputContainer:
    """Open a media file. InputError where it is not a regular file, names other files, or is none."""
    parts = list[Path]()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(
                f"{path}: expected a video, found no regular file; save what the pipe gives as a file first"
            )
        parts = playlist_parts(Path(path))
        formats = _formats(frozenset(REFUSED - FORMATS if parts else REFUSED))
        limits = {"format_whitelist": formats, "protocol_whitelist": "file", "max_pixels": str(FRAME_PIXELS)}
        return av.open(media_url(path), options=limits)
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if parts:
            raise InputError(
                f"{path}: expected a playlist of videos, cannot open it ({reason}); each part must be a video, and "
                "ffconcat takes names of letters, digits, '_', '-' and '.' only: rename others"
            ) from error
        if is_playlist(path):
            raise InputError(
                f"{path}: expected a video, found a playlist, which opens other files; join them first "
                "(ffmpeg -i PLAYLIST -c copy clip.mp4), or allow it (ffconcat and HLS): --allow-playlists"
            ) from error
        raise InputError(f"{path}: expected a video, cannot open it ({reason}); is it damaged or cut short?") from error


def open_container(path: str | Path) -> tuple[InputContainer, av.VideoStream]:
    """Open a file and pick its video stream. InputError where it has none, or one of larger frames than allowed.

    The largest of those that are marked as default, else of all; cover art, thumbnails and text are no video.
    """
    container = open_media(path)
    try:
        streams = films(container)
        if container.format.name == "tty" or not container.streams:
            raise InputError(
                f"{path}: expected a video, found a file of another kind; give a video or a folder of images"
            )
        if not streams:
            raise InputError(f"{path}: expected a video, found only sound or data; give a file with a video stream")
        streams = [s for s in streams if s.codec_context is not None]
        if not streams:
            raise InputError(
                f"{path}: expected a video, found one whose coding is not known; if the file is not cut short, "
                "convert it: ffmpeg -i IN OUT.mp4"
            )
        default = [s for s in streams if s.disposition & Disposition.default]
        stream = max(default or streams, key=lambda s: s.width * s.height)
        check_pixels(path, stream.width, stream.height)
    except InputError:
        container.close()
        raise
    stream.thread_type = "AUTO"
    stream.codec_context.options = {"max_pixels": str(FRAME_PIXELS)}  # frames may be larger than the header says
    return container, stream


def films(container: InputContainer) -> list[av.VideoStream]:
    """Its video streams, without cover art and thumbnails."""
    stills = Disposition.attached_pic | Disposition.timed_thumbnails
    return [s for s in container.streams.video if not s.disposition & stills]
