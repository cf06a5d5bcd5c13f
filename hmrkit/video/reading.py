"""Frames of a clip: `read_frames` gives those that `probe` chose in batches, without ever holding the clip.

Inputs are video files and folders of images. decord decodes where it can, PyAV where decord is missing or fails (VP9,
damaged files), would show other colours or would hold too much; both number frames alike, by presentation order, and
their pixels are the same. torchcodec, where it is chosen, decodes on a GPU (`prefer_decoder`). Frames come as players
show them (`display`, `colour`, `filtering`): upright, square pixels.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hmrkit.errors import InputError, UsageError
from hmrkit.types import VideoInfo
from hmrkit.untrusted.limits import frames_in_flight
from hmrkit.video.decoders import Decoder, preferred_decoder, read_torchcodec
from hmrkit.video.images import read_image
from hmrkit.video.index import ClipIndex, index_video
from hmrkit.video.kept_frames import KeptFrames, kept_frames
from hmrkit.video.pyav_frames import PyavFrames
from hmrkit.video.sequences import find_sequence
from hmrkit.video.watch import HangError, beat, next_result

log = logging.getLogger(__name__)

# In other containers (MPEG-TS was seen to) decord passes off neighbours as the frames that it did not find.
_PLAIN_CONTAINERS = ("mov", "matroska")
# decord decodes ahead of its reader without a bound (measured: a thousand frames of a slowly read clip), so it gets the
# clips whose decoded frames fit into this; PyAV, nearly as fast, decodes the others frame by frame.
_DECORD_BYTES = 128 * 2**20


@dataclass(frozen=True)
class FrameBatch:
    """`frames` (B,H,W,3) RGB uint8, C-contiguous and writable (``torch.from_numpy`` shares them), of the source frames
    `frame_indices` (B,). `failed` are frames chosen for this batch that could not be decoded; they are not in it.
    """

    frame_indices: np.ndarray
    frames: np.ndarray
    failed: tuple[int, ...] = ()


def read_frames(
    info: VideoInfo, batch_size: int = 8, prefetch: int = 1, backend: Decoder | None = None, fixed: bool = False
) -> Iterator[FrameBatch]:
    """The frames that `info` chooses, in order, `batch_size` at a time, decoded ahead by a background thread.

    At most ``prefetch + 1`` batches exist at once, the one that the reader has among them; of large frames they hold
    fewer (`hmrkit.untrusted.limits`), unless `batch_size` is `fixed` because results hang on it. A frame that cannot be
    decoded is named in its batch's `failed` and the rest go on (frames that build upon it are as the decoder mends
    them, until the next keyframe). `backend` ``decord`` raises InputError where decord cannot, ``auto`` and
    ``torchcodec`` go on with PyAV instead; None is the preferred one (`prefer_decoder`).
    Stop early by closing the iterator or dropping it: the thread ends with it. InputError where decoding hangs.
    Within `hmrkit.video.kept_frames.keeping_frames` a clip's first frames are decoded once.
    """
    if batch_size < 1 or prefetch < 1:
        raise UsageError(f"batch size and prefetch must be 1 or more, got {batch_size} and {prefetch}")
    batch_size = frames_in_flight(batch_size, info.width, info.height, fixed)
    kept = kept_frames()  # of this thread's run; the decoding one has none
    done = threading.Event()
    ready: queue.Queue[FrameBatch | BaseException | None] = queue.Queue()
    room = threading.Semaphore(prefetch)  # for batches that are ready, or being made

    def work() -> None:
        try:
            batches = _batches(info, batch_size, backend or preferred_decoder(), kept)
            while room.acquire() and not done.is_set() and (batch := next(batches, None)) is not None:
                ready.put(batch)
            ready.put(None)
        except OSError as error:
            why = f"cannot be read any more ({error.strerror or error}); if it was moved, --video names it anew"
            ready.put(InputError(f"{info.path}: {why}"))
        except BaseException as error:  # handed to the consumer, who raises it
            ready.put(error)

    thread = threading.Thread(target=work, name="hmrkit-decode", daemon=True)
    thread.start()
    hung = False
    try:
        while (item := next_result(ready, thread, info.path)) is not None:
            if isinstance(item, BaseException):
                raise item
            room.release()
            yield item
    except HangError:
        hung = True
        raise
    finally:
        done.set()
        room.release()
        if not hung:  # nothing ends one that is; it goes with the process
            thread.join()


def _batches(info: VideoInfo, batch_size: int, backend: Decoder, kept: KeptFrames | None) -> Iterator[FrameBatch]:
    """Batches out of the kept frames as long as whole ones are there, the others decoded and kept where they fit."""
    chosen = info.frame_indices
    known = 0 if kept is None else kept.leading(info)
    known -= known % batch_size if known < len(chosen) else 0
    for start in range(0, known, batch_size):
        assert kept is not None
        yield FrameBatch(*kept.take(chosen[start : start + batch_size], (info.height, info.width)))
    if known == len(chosen):
        return
    for batch in _decode_batches(info.at(np.arange(known, len(chosen))) if known else info, batch_size, backend):
        if kept is not None:
            whole = dict(zip(batch.frame_indices.tolist(), batch.frames, strict=True)) | dict.fromkeys(batch.failed)
            for number in sorted(whole):
                kept.put(info, number, whole[number])
        yield batch


def _decode_batches(info: VideoInfo, batch_size: int, backend: Decoder) -> Iterator[FrameBatch]:
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
    first = read_torchcodec if backend == "torchcodec" else _read_decord
    if backend in ("decord", "torchcodec") or (backend == "auto" and decoded <= _DECORD_BYTES):
        try:
            check_plain(index)
            for numbers, frames in zip(groups, first(path, index, groups), strict=True):
                yield FrameBatch(numbers, frames)
                rest += 1
        except Exception as error:  # DECORDError has no closer base, and a broken install fails in its own ways
            reason = str(error).splitlines()[-1] if str(error) else type(error).__name__
            if backend == "decord":
                raise InputError(f"{path}: decord cannot decode it ({reason}); use another backend") from error
            log.debug("%s: %s gives up at batch %d, PyAV goes on: %s", path, backend, rest, reason)
    yield from _read_pyav(path, index, groups[rest:])


def check_plain(index: ClipIndex) -> None:
    """RuntimeError for what only PyAV, through which the index was made, reads as the index says."""
    if index.container.split(",")[0] not in _PLAIN_CONTAINERS:
        raise RuntimeError(f"{index.container} is left to PyAV: others may give wrong frames after a seek in it")
    if index.by_count or index.missing or index.streams > 1 or not index.plain:
        # Without stamps numbers cannot be checked, files cut short can hang decord, others have their own rules for
        # which stream, and show frames as they are stored.
        raise RuntimeError("left to PyAV: no time stamps, cut short, several streams, or not shown as stored")


def _read_decord(path: Path, index: ClipIndex, groups: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Images (n,H,W,3) of each group; raises RuntimeError where decord's numbering is not the file's, or it fails."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    reader = decord.VideoReader(os.path.abspath(path))
    if len(reader) != len(index.pts):
        raise RuntimeError(f"decord counts {len(reader)} frames where the file has {len(index.pts)}")
    starts = reader.get_frame_timestamp(np.arange(len(reader)))[:, 0]
    if np.abs(starts - starts[0] - index.times).max() > 1e-3:
        raise RuntimeError("decord orders frames in another way")
    for group in groups:
        yield reader.get_batch(group.tolist()).asnumpy()


def _read_pyav(path: Path, index: ClipIndex, groups: Sequence[np.ndarray]) -> Iterator[FrameBatch]:
    """Batches through PyAV: frames are known by their stamps, so a lost one does not renumber the others."""
    if not groups:
        return
    source = PyavFrames(path, index)
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
