"""What a clip is before it is decoded: its frames in presentation order, their times and rate, how they are shown.

A frame's number is its place in presentation order among the frames that the file means to show. Packets give that
without decoding; only a file whose packets carry no usable times (AVI, raw streams) is decoded once to be counted.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import logging
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from hmrkit.errors import InputError
from hmrkit.untrusted.limits import check_pixels
from hmrkit.video.colour import Colour, colour_of
from hmrkit.video.cropping import container_crop
from hmrkit.video.display import Display, display_of
from hmrkit.video.opening import films, open_container
from hmrkit.video.playlists import playlist_parts
from hmrkit.video.sequences import list_images
from hmrkit.video.watch import beat, watched

log = logging.getLogger(__name__)

DEFAULT_FOLDER_FPS = 30
# Mean rates that are measured this close to a rate in common use are that rate (timestamps of a container are rounded).
_COMMON_RATES = [Fraction(n) for n in (5, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240)]
_COMMON_RATES += [rate * Fraction(1000, 1001) for rate in _COMMON_RATES if rate.numerator % 12 == 0 or rate == 30]
_RATE_TOLERANCE = 1e-4
# Interlaced clips may begin with frames that are marked as progressive.
_FRAMES_SEEN = 8
_DRIFT = 0.25
_CAPTURE_TAG = "com.android.capture.fps"


@dataclass(frozen=True)
class ClipIndex:
    """A video file's frames. `pts` (F,) int64 presentation stamps, rising, in units of `time_base` seconds.

    `keyframe_pts` (G,) are those where decoding can begin. `by_count` says that stamps do not tell frames apart: frames
    must then be counted from the start of the file. `missing` of the F frames, at the end, are promised by the header
    of a file that was cut short and are not in it. `display` and `colour` are how players show the stored frames, which
    are in fields if `interlaced`. `capture_fps` is the rate that a slow-motion camera noted. `streams`
    is how many video streams there are; `notes` say which was taken, what was odd, and what is done to
    the frames.
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
    capture_fps: float | None = None
    streams: int = 1
    notes: tuple[str, ...] = ()

    @property
    def times(self) -> np.ndarray:
        """Seconds (F,) float64 since the first frame."""
        return (self.pts - self.pts[0]) * float(self.time_base)

    @property
    def plain(self) -> bool:
        """Whether frames are shown as they are stored, in colours that every decoder reads alike."""
        return self.display.plain and self.colour.plain and not self.interlaced


def index_video(path: Path) -> ClipIndex:
    """Index a video file (remembered while the file does not change). InputError where it is not a video, or hangs."""
    stamps = tuple((stat.st_mtime_ns, stat.st_size) for stat in map(Path.stat, clip_files(path)))
    return watched(lambda: _index_video(str(path), stamps), path)


def clip_files(path: Path) -> list[Path]:
    """The files that a clip is made of: a video, the images of a folder, a playlist with its parts."""
    return list_images(path) if path.is_dir() else [path, *playlist_parts(path)]


def clip_sha256(paths: list[Path]) -> str:
    """Hash of the content of these files in order; of several files their names count as well."""
    digest = hashlib.sha256()
    for path in paths:
        if len(paths) > 1:
            digest.update(os.fsencode(path.name) + b"\0" + str(path.stat().st_size).encode() + b"\0")
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


@functools.lru_cache(maxsize=32)
def _index_video(path: str, _stamps: tuple[tuple[int, int], ...]) -> ClipIndex:
    stamps, keyframes, hidden = _scan_packets(path)
    by_count = not stamps or None in stamps or len(set(stamps)) < len(stamps)
    container, stream = open_container(path)
    with container:
        # AVI dates packets, not frames: where frames change places, their stamps are others'.
        by_count |= container.format.name == "avi" and stream.codec_context.has_b_frames
        frames = _decode(container, stream)
        good = (frame for frame in frames if by_count or not frame.is_corrupt)
        seen = list(itertools.islice(good, _FRAMES_SEEN))
        if not seen:
            what = "no frames in it" if not stamps else f"{len(stamps)} frames in it that cannot be decoded"
            raise InputError(f"{path}: expected a video, found {what}; is it damaged or cut short?")
        time_base = stream.time_base or Fraction(1, 90000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        step = Fraction(1) / rate / time_base
        missing = 0
        notes = []
        if by_count:
            pts = _mended([frame.pts for frame in itertools.chain(seen, frames)], step)
            keyframe_pts = pts[:1]
        else:
            pts = np.array(sorted(stamps), np.int64)  # type: ignore[arg-type]
            keyframe_pts = np.array(sorted(keyframes), np.int64)  # type: ignore[arg-type]
            missing = _frames_cut_off(stream, pts, hidden, rate)
            if lost := _undecodable_start(pts, keyframes, seen[0].pts):
                notes.append(f"begins inside a group of frames: {lost} that cannot be decoded are left out")
                pts = pts[lost:]
            tail = [int(pts[-1]) + max(round(k * step), k) for k in range(1, missing + 1)]
            pts = np.concatenate([pts, np.array(tail, np.int64)])
        size = seen[0].width, seen[0].height
        crop = container_crop(Path(path), container.format.name, stream.index, *size)
        if (count := len(films(container))) > 1:
            notes.append(f"has {count} video streams; stream {stream.index} is taken")
        display = display_of(seen[0], stream.sample_aspect_ratio, crop)
        check_pixels(path, *display.size)
        colour = colour_of(seen[0], stream.codec_context.color_trc, path)
        interlaced = any(frame.interlaced_frame for frame in seen)
        notes += [*display.notes(), *colour.notes(), *["interlaced: deinterlaced (bwdif)"] * interlaced]
        return ClipIndex(
            pts=pts,
            keyframe_pts=keyframe_pts,
            time_base=time_base,
            fps=_exact_rate(rate, pts, time_base),
            display=display,
            colour=colour,
            interlaced=interlaced,
            container=container.format.name,
            missing=missing,
            by_count=by_count,
            capture_fps=_capture_rate(container, stream),
            streams=count,
            notes=tuple(notes),
        )


def _undecodable_start(pts: np.ndarray, keyframes: list[int | None], first_pts: int | None) -> int:
    """How many frames at the start depend on frames that the file does not have; players leave them out.

    A clip cut without encoding begins so: before its first keyframe, or with the frames that lead an open group.
    """
    if first_pts is None or not keyframes or keyframes[0] is None:
        return 0
    return int(np.searchsorted(pts, min(first_pts, keyframes[0])))


def _mended(stamps: list[int | None], step: Fraction) -> np.ndarray:
    """Rising stamps (F,) of frames in order, some of which have none or another's: those lie between their neighbours.

    Where most are missing, frames follow one another by `step`.
    """
    good: list[int] = []
    last = None
    for row, stamp in enumerate(stamps):
        if stamp is not None and (last is None or stamp > last):
            good.append(row)
            last = stamp
    rows = np.arange(len(stamps))
    even = np.array([round(k * step) for k in rows], np.int64)
    if len(good) < max(2, len(stamps) / 2):
        return even
    known = np.array([stamps[row] for row in good], np.int64)
    mended = np.interp(rows, good, known).round().astype(np.int64)
    mended[: good[0]] = known[0] - even[good[0] : 0 : -1]
    mended[good[-1] :] = known[-1] + even[: len(stamps) - good[-1]]
    return mended if (np.diff(mended) > 0).all() else even


def _capture_rate(container: InputContainer, stream: av.VideoStream) -> float | None:
    """Frames per second that the camera captured, where it noted them (Android's slow motion)."""
    for tags in (stream.metadata, container.metadata):
        with contextlib.suppress(ValueError):
            if 0 < (rate := float(tags.get(_CAPTURE_TAG, 0))) < 1e5:
                return rate
    return None


def _scan_packets(path: str) -> tuple[list[int | None], list[int | None], int]:
    """Stamps of all shown frames, those of keyframes, and how many packets the file hides (edit lists)."""
    stamps: list[int | None] = []
    keyframes: list[int | None] = []
    hidden = 0
    container, stream = open_container(path)
    with container:
        try:
            for packet in container.demux(stream):
                beat()
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
            beat()
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


def nearest_common_rate(rate: float, tolerance: float) -> Fraction | None:
    """The rate in common use (24000/1001, 30 ...) that is nearest, None where all are further off than `tolerance`."""
    nearest = min(_COMMON_RATES, key=lambda common: abs(rate / common - 1))
    return nearest if abs(rate / nearest - 1) <= tolerance else None


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
    drift = abs(float(measured / rate) - 1) * len(pts)  # frames, over the whole length
    return rate if even and drift < _DRIFT else measured.limit_denominator(100000)
