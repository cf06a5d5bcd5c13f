"""Frames to an H.264 file that every player opens or to a PNG sequence, under their names only when complete."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from PIL import Image

from hmrkit.errors import InputError, UsageError
from hmrkit.files import atomic_path

log = logging.getLogger(__name__)
# Fast: a sequence for compositing is read more often than kept.
PNG_COMPRESSION = 3
_TICK = Fraction(1, 90000)  # s: clock of a video whose frames have times of their own
FRAMES_AHEAD = 8  # frames that wait for the encoder
BT709 = 1  # in FFmpeg's numbers, for matrix, primaries and transfer alike


class VideoWriter:
    """Writes frames of `width` x `height` at `fps` (a Fraction stays exact), or at their `times`, to an mp4 at `path`.

    `times` maps numbers of frames to seconds.

    H.264 (yuv420p, so an odd side is widened by its last row or column), or MPEG-4 part 2 where this FFmpeg has no
    libx264. The file grows under a temporary name beside `path`; `close` renames it, an exception in the ``with``
    block removes it. InputError where the path cannot be written. A thread encodes while the next frames are made: it
    reads a frame after `write`, so its memory must not be used again.
    """

    def __init__(
        self, path: str | Path, width: int, height: int, fps: Fraction | float, times: Mapping[int, float] | None = None
    ) -> None:
        self.path = Path(path)
        self._times = times
        self._size = (height, width)
        self._frames = 0
        rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)
        with contextlib.ExitStack() as stack:
            # Leaving this block by an error undoes what was entered; pop_all() keeps it for close().
            temporary = stack.enter_context(atomic_path(self.path))
            options = {"movflags": "+faststart"}
            container = stack.enter_context(av.open(f"file:{temporary.absolute()}", "w", format="mp4", options=options))
            h264 = "libx264" in av.codecs_available
            if not h264:
                log.warning("this FFmpeg has no libx264: %s becomes MPEG-4 part 2", self.path)
            stream = container.add_stream("libx264" if h264 else "mpeg4", rate=rate)
            stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            stream.options = {"preset": "superfast", "crf": "21"} if h264 else {"qscale": "3"}
            context = stream.codec_context
            context.time_base = 1 / rate if times is None else _TICK
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = 1  # limited
            self._encoder = stack.enter_context(ThreadPoolExecutor(1, "hmrkit-encode"))
            self._container, self._stream, self._stack = container, stream, stack.pop_all()
        self._waiting: deque[Future[None]] = deque()
        self._open = True

    def write(self, frame: np.ndarray, frame_index: int = 0) -> None:
        """Append one RGB uint8 frame (H,W,3); its number matters only where there are times."""
        if frame.shape != (*self._size, 3) or frame.dtype != np.uint8:
            raise ValueError(f"wanted a uint8 frame {(*self._size, 3)}, got {frame.dtype} {frame.shape}")
        self._waiting.append(self._encoder.submit(self._encode, frame, self._frames, frame_index))
        self._frames += 1
        if len(self._waiting) > FRAMES_AHEAD:
            self._waiting.popleft().result()

    def _encode(self, frame: np.ndarray, number: int, frame_index: int) -> None:
        height, width = self._size
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        image = image.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        base = self._stream.codec_context.time_base
        image.time_base = base
        image.pts = number if self._times is None else round(self._times[frame_index] / base)
        self._container.mux(self._stream.encode(image))

    def close(self) -> None:
        """Finish the file and give it its name. Closing again does nothing."""
        if self._open:
            self._open = False
            with self._stack:
                while self._waiting:
                    self._waiting.popleft().result()
                if not self._frames:
                    raise InputError(f"{self.path}: not one frame to write; is the clip readable?")
                self._container.mux(self._stream.encode(None))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._open:
            self._open = False
            self._encoder.shutdown(cancel_futures=True)
            self._stack.__exit__(kind, error, trace)


class SequenceWriter:
    """Writes frames as ``frame_000123.png`` into `folder`, numbered by their source frame plus `first_frame`.

    Frames are (H,W,3) RGB, or (H,W,4) with straight alpha. Each file gets its name when it is complete. InputError
    where the folder cannot be written, or is a video's name.
    """

    def __init__(self, folder: str | Path, first_frame: int = 0) -> None:
        self.folder = Path(folder)
        if self.folder.suffix:
            raise InputError(f"{self.folder}: wanted a name that ends in .mp4, or a folder for a PNG sequence")
        self._first = first_frame

    def write(self, frame: np.ndarray, frame_index: int) -> None:
        """Write one uint8 frame."""
        with atomic_path(self.folder / f"frame_{self._first + frame_index:06d}.png") as temporary:
            Image.fromarray(frame).save(temporary, format="PNG", compress_level=PNG_COMPRESSION)

    def close(self) -> None:
        """Nothing is left to do."""

    def __enter__(self) -> SequenceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What was written before an error stays: it is complete."""


def open_writer(
    path: str | Path,
    width: int,
    height: int,
    fps: Fraction | float,
    alpha: bool = False,
    first_frame: int = 0,
    times: Mapping[int, float] | None = None,
) -> VideoWriter | SequenceWriter:
    """A video where `path` ends in ``.mp4``, else a PNG sequence in that folder. UsageError for a video with alpha."""
    if Path(path).suffix.lower() != ".mp4":
        return SequenceWriter(path, first_frame)
    if alpha:
        raise UsageError(f"{path}: an .mp4 has no alpha; give a folder for a PNG sequence")
    return VideoWriter(path, width, height, fps, times)
