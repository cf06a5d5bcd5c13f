"""Video in: `probe` says what a clip is, `read_frames` gives its chosen frames in batches without ever holding it.

Inputs are video files and folders of images. decord decodes where it can, PyAV where decord is missing or fails (VP9,
damaged files), would show other colours or would hold too much; both number frames alike, by presentation order, and
their pixels are the same. Frames come as players show them (`display`, `colour`, `filtering`): upright, square pixels.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.error import FFmpegError

from hmrkit.errors import InputError, UsageError
from hmrkit.limits import frames_in_flight
from hmrkit.types import VideoInfo
from hmrkit.video.filtering import ShownFrames, deinterlaced
from hmrkit.video.images import read_image
from hmrkit.video.index import (
    DEFAULT_FOLDER_FPS,
    ClipIndex,
    clip_sha256,
    index_video,
)
from hmrkit.video.opening import open_container
from hmrkit.video.sequences import common_size, find_sequence
from hmrkit.video.watch import HangError, beat, next_result

log = logging.getLogger(__name__)

Backend = Literal["auto", "decord", "pyav"]
# Containers round times to their clock (Matroska: 1 ms): a frame this much before "2.5s" still counts as at 2.5 s.
_CLOCK_SLACK_S = 5.1e-4
# A camera's note of its rate counts as slow motion from here on; ordinary clips note 30 for 29.97.
_SLOW_MOTION = 1.2
# In others (MPEG-TS was seen to) decord passes off neighbours as the frames that it did not find.
_DECORD_CONTAINERS = ("mov", "matroska")
# decord decodes ahead of its reader without a bound (measured: a thousand frames of a slowly read clip), so it gets the
# clips whose decoded frames fit into this; PyAV, nearly as fast, decodes the others frame by frame.
_DECORD_BYTES = 128 * 2**20
# Jumping to a keyframe restarts the decoder; decoding fewer frames than this and throwing them away is cheaper.
_SEEK_GAIN_FRAMES = 32


@dataclass(frozen=True)
class FrameBatch:
    """`frames` (B,H,W,3) RGB uint8, C-contiguous and writable (``torch.from_numpy`` shares them), of the source frames
    `frame_indices` (B,). `failed` are frames chosen for this batch that could not be decoded; they are not in it.
    """

    frame_indices: np.ndarray
    frames: np.ndarray
    failed: tuple[int, ...] = ()


def probe(
    path: str | Path,
    start: int | str | None = None,
    end: int | str | None = None,
    every: int = 1,
    fps: float | Fraction | None = None,
    capture_fps: float | None = None,
    keep_numbers: bool = True,
) -> VideoInfo:
    """What a video file or a folder of images is, and which of its frames are chosen.

    `start` (inclusive) and `end` (exclusive) are frame numbers (``120``) or times (``"2.5s"``, ``"01:02.5"``,
    ``"00:01:02.5"``) since the first frame; a time means the first frame shown at or after it. An `end` beyond the last
    frame means the last. Of these, every `every`-th frame is chosen. `fps` is the rate of a folder of images (default
    30); for a file it replaces the rate that the file states, and the times with it. `capture_fps` is the rate at which
    slow motion was captured (default: what the camera noted in the file, else the clip's own).

    Of a folder the longest sequence is taken (`hmrkit.video.sequences`), and its frames have the numbers of their
    names: plates 1001 to 1100 are those frames, with the times that their numbers say. Without `keep_numbers` they
    count from 0, and gaps are closed.

    `frame_times` are real presentation times in seconds since the file's first frame (variable rates too);
    `rotation_deg` is the anticlockwise rotation that the metadata asks for and that `read_frames` applies.

    Raises InputError where the input is missing, empty, no video, or ends before `start`; UsageError for bad options.
    """
    path = Path(path)
    if every < 1:
        raise UsageError(f"--every must be 1 or more, got {every}")
    for flag, given in (("--fps", fps), ("--capture-fps", capture_fps)):
        if given is not None and not 0 < given < float("inf"):
            raise UsageError(f"{flag} must be positive, got {given}")
    given_rate = None if fps is None else Fraction(fps).limit_denominator(100000)
    marked = None
    try:
        if path.is_dir():
            sequence = find_sequence(path)
            files, notes = list(sequence.files), sequence.notes
            numbers = sequence.numbers if keep_numbers else sequence.positions
            rate = given_rate or Fraction(DEFAULT_FOLDER_FPS)
            height, width = common_size(files)
            times, rotation = (numbers - numbers[0]) / float(rate), 0
        else:
            if not path.exists():
                raise InputError(f"{path}: no such file or folder; check the path")
            if path.is_file() and path.stat().st_size == 0:
                raise InputError(f"{path}: expected a video, found an empty file; copy it again")
            files = [path]
            index = index_video(path)
            rate, notes, marked = given_rate or index.fps, index.notes, index.capture_fps
            numbers = np.arange(len(index.pts))
            times = numbers / float(rate) if given_rate else index.times
            (width, height), rotation = index.display.size, index.display.rotation_deg
        digest = clip_sha256(files)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    for note in notes:
        log.warning("%s: %s", path, note)
    slowdown = (capture_fps or marked or float(rate)) / float(rate)
    if capture_fps is None and slowdown < _SLOW_MOTION:
        slowdown = 1.0
    if slowdown != 1:
        note = f"captured at {capture_fps or marked:g} frames per second, played at {float(rate):g}"
        notes = (*notes, note)
        if capture_fps is None:
            log.warning(
                "%s: slow motion, %s: motion is taken to be %.3g times as fast, exports keep the clip's own time; "
                "--capture-fps %g undoes that", path, note, slowdown, float(rate),
            )  # fmt: skip
    first, last = _position(start, "--start", numbers, times, 0), _position(end, "--end", numbers, times, len(times))
    if first >= len(times):
        whole = f"{len(times)} frames, {numbers[0]} to {numbers[-1]}, {times[-1]:.2f} s"
        raise InputError(f"{path}: --start {start} lies beyond its end ({whole})")
    if last <= first:
        raise UsageError(f"--end {end} must lie after --start {0 if start is None else start}; end is exclusive")
    chosen = np.arange(first, min(last, len(times)), dtype=np.int64)
    chosen = chosen[(numbers[chosen] - numbers[first]) % every == 0]
    return VideoInfo(
        path=str(path),
        sha256=digest,
        width=width,
        height=height,
        fps=rate,
        frame_count=len(times),
        frame_indices=numbers[chosen].astype(np.int64),
        frame_times=times[chosen].astype(np.float64),
        rotation_deg=rotation,
        first_number=int(numbers[0]),
        slowdown=float(slowdown),
        notes=notes,
    )


def read_frames(
    info: VideoInfo, batch_size: int = 8, prefetch: int = 2, backend: Backend = "auto"
) -> Iterator[FrameBatch]:
    """The frames that `info` chooses, in order, `batch_size` at a time, decoded ahead by a background thread.

    At most ``prefetch + 2`` batches exist at once; of very large frames they have fewer (`hmrkit.limits`). A frame that
    cannot be decoded is named in its batch's `failed` and the rest go on (frames that build upon it are as the decoder
    mends them, until the next keyframe). `backend` ``decord`` raises InputError where decord cannot, ``auto`` goes on
    with PyAV instead.
    Stop early by closing the iterator or dropping it: the thread ends with it. InputError where decoding hangs.
    """
    if batch_size < 1 or prefetch < 1:
        raise UsageError(f"batch size and prefetch must be 1 or more, got {batch_size} and {prefetch}")
    batch_size = frames_in_flight(batch_size, info.width, info.height)
    done = threading.Event()
    ready: queue.Queue[FrameBatch | BaseException | None] = queue.Queue(prefetch)

    def put(item: FrameBatch | BaseException | None) -> None:
        while not done.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in _decode_batches(info, batch_size, backend):
                put(batch)
                if done.is_set():
                    return
            put(None)
        except OSError as error:
            reason = error.strerror or error
            put(InputError(f"{info.path}: cannot be read any more ({reason}); if it was moved, --video names it anew"))
        except BaseException as error:  # handed to the consumer, who raises it
            put(error)

    thread = threading.Thread(target=work, name="hmrkit-decode", daemon=True)
    thread.start()
    try:
        while (item := next_result(ready, thread, info.path)) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
        thread.join()
    except HangError:  # nothing ends it; it goes with the process
        raise
    except BaseException:
        done.set()
        thread.join()
        raise
    finally:
        done.set()


def _decode_batches(info: VideoInfo, batch_size: int, backend: Backend) -> Iterator[FrameBatch]:
    path = Path(info.path)
    chosen = info.frame_indices
    groups = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
    if path.is_dir():
        sequence = find_sequence(path)
        # A take that counts its frames from 0 was made without the plates' numbers.
        numbers = sequence.numbers if sequence.numbers[0] == info.first_number else sequence.positions
        files = dict(zip(numbers.tolist(), sequence.files, strict=True))
        yield from _read_images(files, groups, (info.height, info.width))
        return
    index = index_video(path)
    if len(index.pts) != info.frame_count:
        raise InputError(f"{path}: expected {info.frame_count} frames, found {len(index.pts)}; it changed, start anew")
    rest = 0
    decoded = len(index.pts) * info.height * info.width * 3
    if backend == "decord" or (backend == "auto" and decoded <= _DECORD_BYTES):
        try:
            for batch in _read_decord(path, index, groups):
                yield batch
                rest += 1
        except Exception as error:  # DECORDError has no closer base, and a broken install fails in its own ways
            reason = str(error).splitlines()[-1] if str(error) else type(error).__name__
            if backend == "decord":
                raise InputError(f"{path}: decord cannot decode it ({reason}); use another backend") from error
            log.debug("%s: decord gives up at batch %d, PyAV goes on: %s", path, rest, reason)
    yield from _read_pyav(path, index, groups[rest:])


def _read_decord(path: Path, index: ClipIndex, groups: Sequence[np.ndarray]) -> Iterator[FrameBatch]:
    """Batches through decord; raises RuntimeError where its numbering of frames is not the file's, or it fails."""
    import decord

    if index.container.split(",")[0] not in _DECORD_CONTAINERS:
        raise RuntimeError(f"{index.container} is left to PyAV: decord may give wrong frames after a seek in it")
    if index.by_count or index.missing or index.streams > 1 or not index.plain:
        # Without stamps its numbers cannot be checked, files cut short can hang it, it has its own rules for which
        # stream, and it shows frames as they are stored.
        raise RuntimeError("left to PyAV: no time stamps, cut short, several streams, or not shown as stored")
    decord.logging.set_level(decord.logging.QUIET)
    reader = decord.VideoReader(os.path.abspath(path))
    if len(reader) != len(index.pts):
        raise RuntimeError(f"decord counts {len(reader)} frames where the file has {len(index.pts)}")
    starts = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
    if np.abs(starts - starts[0] - index.times).max() > 1e-3:
        raise RuntimeError("decord orders frames in another way")
    for group in groups:
        yield FrameBatch(group, reader.get_batch(group.tolist()).asnumpy())


def _read_pyav(path: Path, index: ClipIndex, groups: Sequence[np.ndarray]) -> Iterator[FrameBatch]:
    """Batches through PyAV: frames are known by their stamps, so a lost one does not renumber the others."""
    if not groups:
        return
    source = _PyavSource(path, index)
    width, height = index.display.size
    try:
        for group in groups:
            frames = np.empty((len(group), height, width, 3), np.uint8)
            got: list[int] = []
            for number in group.tolist():
                image = source.read(number)
                if image is not None and image.shape == frames.shape[1:]:
                    frames[len(got)] = image
                    got.append(number)
            failed = tuple(sorted(set(group.tolist()) - set(got)))
            yield FrameBatch(np.array(got, np.int64), frames[: len(got)], failed)
    finally:
        source.close()


class _PyavSource:
    """One open file; `read` gives frames by rising numbers, decoding on or jumping to a keyframe."""

    def __init__(self, path: Path, index: ClipIndex) -> None:
        self.index = index
        self.container, self.stream = open_container(path)
        self.shown = ShownFrames(index.display, index.colour)
        self.held: tuple[int, av.VideoFrame] | None = None  # decoded, but beyond the number last asked for
        self.next_number = 0  # of the frame that the decoder is about to give, as far as known
        self.frames = self._frames()

    def close(self) -> None:
        self.container.close()

    def read(self, number: int) -> np.ndarray | None:
        """RGB uint8 (H,W,3) of that frame, None where it cannot be decoded."""
        if self.held is not None and self.held[0] > number:
            return None
        if self.held is None or self.held[0] < number:
            self.held = None
            self._jump(number)
            self.held = next(((n, frame) for n, frame in self.frames if n >= number), None)
            if self.held is None or self.held[0] != number:
                return None
        frame = self.held[1]
        if frame.is_corrupt:
            return None
        return self.shown(frame)

    def _jump(self, number: int) -> None:
        """Seek to the last keyframe at or before `number` where that saves decoding many frames."""
        if self.index.by_count:
            return
        if self.index.interlaced:  # its frames are made with the one before
            number = max(number - 1, 0)
        keys = self.index.keyframe_pts
        position = int(np.searchsorted(keys, self.index.pts[number], "right")) - 1
        if position < 0 or np.searchsorted(self.index.pts, keys[position]) - self.next_number < _SEEK_GAIN_FRAMES:
            return
        self._seek(int(keys[position]))
        first = next(self.frames, None)
        if first is None or first[0] > number:  # a file whose seek table lies: from the start, then
            log.debug("seeking to frame %d overshoots; decoding from the start", number)
            self._seek(int(self.index.pts[0]))
        else:
            self.frames = _chain(first, self.frames)

    def _seek(self, pts: int) -> None:
        self.container.seek(pts, stream=self.stream)
        self.frames = self._frames()

    def _frames(self) -> Iterator[tuple[int, av.VideoFrame]]:
        return deinterlaced(self._decode()) if self.index.interlaced else self._decode()

    def _decode(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """(number, frame) in presentation order; a packet that cannot be decoded is passed over."""
        numbers = {int(pts): i for i, pts in enumerate(self.index.pts)}
        count = 0
        try:
            for packet in self.container.demux(self.stream):
                beat()
                try:
                    decoded = packet.decode()
                except FFmpegError as error:
                    log.debug("packet at %s cannot be decoded (%s)", packet.pts, error.strerror)
                    continue
                for frame in decoded:
                    number = count if self.index.by_count else numbers.get(-1 if frame.pts is None else frame.pts)
                    count += 1
                    if number is not None and isinstance(frame, av.VideoFrame):
                        self.next_number = number + 1
                        yield number, frame
        except FFmpegError as error:
            log.debug("the file breaks off (%s)", error.strerror)


def _chain(first: tuple[int, av.VideoFrame], rest: Iterator) -> Iterator[tuple[int, av.VideoFrame]]:
    yield first
    yield from rest


def _read_images(
    files: Mapping[int, Path], groups: Sequence[np.ndarray], size: tuple[int, int]
) -> Iterator[FrameBatch]:
    for group in groups:
        frames = np.empty((len(group), *size, 3), np.uint8)
        got: list[int] = []
        for number in group.tolist():
            beat()
            try:
                image = read_image(files[number])
            except (OSError, ValueError, SyntaxError, KeyError) as error:
                log.warning("%s: not readable (%s)", files.get(number, f"frame {number}"), error)
                continue
            if image.shape[:2] != size:
                log.warning("%s: %s pixels where most images have %s", files[number], image.shape[:2], size)
                continue
            frames[len(got)] = image
            got.append(number)
        yield FrameBatch(np.array(got, np.int64), frames[: len(got)], tuple(sorted(set(group.tolist()) - set(got))))


def _position(when: int | str | None, option: str, numbers: np.ndarray, times: np.ndarray, default: int) -> int:
    """Where in the clip's frames a frame number or time (see `probe`) is; may lie beyond the last."""
    if when is None:
        return default
    number, seconds = _parse_when(when, option)
    if number is not None:
        return int(np.searchsorted(numbers, number))
    return int(np.searchsorted(times, seconds - _CLOCK_SLACK_S))


def frame_number(when: int | str | None, option: str, video: VideoInfo) -> int | None:
    """The source's frame number of a frame number or time (see `probe`), of the frames that `video` has.

    A time after the last of them is the number after it.
    """
    if when is None:
        return None
    number, seconds = _parse_when(when, option)
    if number is not None:
        return number
    row = int(np.searchsorted(video.frame_times, seconds - _CLOCK_SLACK_S))
    return int(video.frame_indices[row]) if row < len(video.frame_indices) else int(video.frame_indices[-1]) + 1


def _parse_when(when: int | str, option: str) -> tuple[int | None, float]:
    """A frame number, or None and seconds."""
    text = str(when).strip()
    if re.fullmatch("[0-9]{1,18}", text):
        return int(text), 0.0
    number = r"(\d+(?:\.\d*)?|\.\d+)"
    if match := re.fullmatch(number + r"\s*s", text, re.ASCII):
        return None, float(match.group(1))
    if match := re.fullmatch(r"(?:(\d+):)?(\d+):" + number, text, re.ASCII):
        return None, int(match.group(1) or 0) * 3600 + int(match.group(2)) * 60 + float(match.group(3))
    raise UsageError(f'{option} must be a frame number (120) or a time ("2.5s", "00:01:02.5"), got {when!r}')
