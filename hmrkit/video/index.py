"""What a clip is before it is decoded: its frames in presentation order, their times and rate, how they are shown.

A frame's number is its place in presentation order among the frames that the file means to show. Packets give that
without decoding; only a file whose packets carry no usable times (AVI, raw streams) is decoded once to be counted.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import logging
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from hmrkit.errors import InputError
from hmrkit.video.colour import Colour, colour_of
from hmrkit.video.cropping import container_crop
from hmrkit.video.display import Display, display_of

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".exr", ".dpx"}
DEFAULT_FOLDER_FPS = 30
# Mean rates that are measured this close to a rate in common use are that rate (timestamps of a container are rounded).
_COMMON_RATES = [Fraction(n) for n in (5, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)]
_COMMON_RATES += [rate * Fraction(1000, 1001) for rate in _COMMON_RATES if rate.numerator % 12 == 0 or rate == 30]
_RATE_TOLERANCE = 1e-4
# Interlaced clips may begin with frames that are marked as progressive.
_FRAMES_SEEN = 8


@dataclass(frozen=True)
class ClipIndex:
    """A video file's frames. `pts` (F,) int64 presentation stamps, rising, in units of `time_base` seconds.

    `keyframe_pts` (G,) are those where decoding can begin. `by_count` says that stamps cannot be trusted: frames must
    then be counted from the start of the file. `missing` of the F frames, at the end, are promised by the header of a
    file that was cut short and are not in it.
    """

    pts: np.ndarray
    keyframe_pts: np.ndarray
    time_base: Fraction
    fps: Fraction
    display: Display
    colour: Colour
    interlaced: bool
    container: str
    missing: int
    by_count: bool

    @property
    def times(self) -> np.ndarray:
        """Seconds (F,) float64 since the first frame."""
        return (self.pts - self.pts[0]) * float(self.time_base)

    @property
    def plain(self) -> bool:
        """Whether frames are shown as they are stored, in colours that every decoder reads alike."""
        return self.display.plain and self.colour.plain and not self.interlaced

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done to the frames that a reader of the report may not expect."""
        fields = ("interlaced: deinterlaced (bwdif)",) if self.interlaced else ()
        return self.display.notes() + self.colour.notes() + fields


def index_video(path: Path) -> ClipIndex:
    """Index a video file (remembered while the file does not change). InputError where it is not a video."""
    stat = path.stat()
    return _index_video(str(path), stat.st_mtime_ns, stat.st_size)


def clip_sha256(paths: list[Path]) -> str:
    """Hash of the content of these files in order; of several files their names count as well."""
    digest = hashlib.sha256()
    for path in paths:
        if len(paths) > 1:
            digest.update(path.name.encode() + b"\0" + str(path.stat().st_size).encode() + b"\0")
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def list_images(folder: Path) -> list[Path]:
    """Images of a folder in natural order (``f2.png`` before ``f10.png``); InputError where it has none."""
    images = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not images:
        raise InputError(f"{folder}: expected a folder of images, found none ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return sorted(images, key=lambda p: [(int(s), "") if s.isdigit() else (-1, s) for s in re.split(r"(\d+)", p.name)])


def open_container(path: str | Path) -> tuple[InputContainer, av.VideoStream]:
    """Open a file and pick its video stream (no cover art, no text "video"). InputError where it has none."""
    try:
        container = av.open(str(path))
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: expected a video, cannot open it ({reason}); is it damaged or cut short?") from error
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if container.format.name == "tty" or not container.streams:
        container.close()
        raise InputError(f"{path}: expected a video, found a file of another kind; give a video or a folder of images")
    if not streams:
        container.close()
        raise InputError(f"{path}: expected a video, found only sound or data; give a file with a video stream")
    streams[0].thread_type = "AUTO"
    return container, streams[0]


@functools.lru_cache(maxsize=32)
def _index_video(path: str, _mtime_ns: int, _size: int) -> ClipIndex:
    stamps, keyframes, hidden = _scan_packets(path)
    by_count = not stamps or None in stamps or len(set(stamps)) < len(stamps)
    container, stream = open_container(path)
    with container:
        frames = _decode(container, stream)
        seen = list(itertools.islice(frames, _FRAMES_SEEN))
        if not seen:
            what = "no frames in it" if not stamps else f"{len(stamps)} frames in it that cannot be decoded"
            raise InputError(f"{path}: expected a video, found {what}; is it damaged or cut short?")
        time_base = stream.time_base or Fraction(1, 90000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        missing = 0
        if by_count:
            count = len(seen) + sum(1 for _ in frames)
            step = Fraction(1) / rate / time_base
            pts = np.array([round(i * step) for i in range(count)], np.int64)
            keyframe_pts = pts[:1]
        else:
            pts = np.array(sorted(stamps), np.int64)  # type: ignore[arg-type]
            keyframe_pts = np.array(sorted(keyframes), np.int64)  # type: ignore[arg-type]
            missing = _frames_cut_off(stream, pts, hidden, rate)
            step = Fraction(1) / rate / time_base
            tail = [int(pts[-1]) + max(round(k * step), k) for k in range(1, missing + 1)]
            pts = np.concatenate([pts, np.array(tail, np.int64)])
        size = seen[0].width, seen[0].height
        crop = container_crop(Path(path), container.format.name, stream.index, *size)
        return ClipIndex(
            pts=pts,
            keyframe_pts=keyframe_pts,
            time_base=time_base,
            fps=_exact_rate(rate, pts, time_base),
            display=display_of(seen[0], stream.sample_aspect_ratio, crop),
            colour=colour_of(seen[0], stream.codec_context.color_trc, path),
            interlaced=any(frame.interlaced_frame for frame in seen),
            container=container.format.name,
            missing=missing,
            by_count=by_count,
        )


def _scan_packets(path: str) -> tuple[list[int | None], list[int | None], int]:
    """Stamps of all shown frames, those of keyframes, and how many packets the file hides (edit lists)."""
    stamps: list[int | None] = []
    keyframes: list[int | None] = []
    hidden = 0
    container, stream = open_container(path)
    with container:
        try:
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                if packet.is_discard:
                    hidden += 1
                    continue
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keyframes.append(packet.pts)
        except FFmpegError as error:
            log.warning("%s: reading stops after %d frames (%s)", path, len(stamps), error.strerror)
    return stamps, keyframes, hidden


def _decode(container, stream):
    """All frames of a file that can be decoded; a packet that cannot is passed over."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except FFmpegError as error:
                log.debug("packet at %s cannot be decoded (%s)", packet.pts, error.strerror)
    except FFmpegError as error:
        log.debug("the file breaks off (%s)", error.strerror)


def _frames_cut_off(stream, pts: np.ndarray, hidden: int, rate: Fraction) -> int:
    """How many frames the header counts and dates after the last one that the file still has."""
    if not stream.frames or not stream.duration or stream.frames <= len(pts) + hidden:
        return 0
    end = (stream.start_time or 0) + stream.duration
    undated = (end - int(pts[-1])) * stream.time_base * rate - 1
    return max(0, min(round(undated), stream.frames - len(pts) - hidden))


def _exact_rate(rate: Fraction, pts: np.ndarray, time_base: Fraction) -> Fraction:
    """The rate in common use (30000/1001 ...) that evenly timed frames show, else the file's own mean rate."""
    if len(pts) < 3:
        return rate
    measured = Fraction(len(pts) - 1, int(pts[-1] - pts[0])) / time_base
    even = np.abs(np.diff(pts) * float(time_base * measured) - 1).max() <= 1.01 * float(time_base * measured) + 0.01
    # Stamps rounded to the container's clock leave the mean uncertain by one tick in the whole length.
    tolerance = max(_RATE_TOLERANCE, 1 / float(pts[-1] - pts[0]))
    near = [common for common in _COMMON_RATES if abs(measured / common - 1) <= min(tolerance, 4e-4)]
    if even and near:
        return min(near, key=lambda common: abs(measured / common - 1))
    return rate if even else measured.limit_denominator(100000)
