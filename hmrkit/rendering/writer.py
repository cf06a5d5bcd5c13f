"""RGB frames to an H.264 file that every player opens, under its name only when it is complete."""

from __future__ import annotations

import contextlib
import logging
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from hmrkit.errors import InputError
from hmrkit.take import atomic_path

log = logging.getLogger(__name__)
BT709 = 1  # in FFmpeg's numbers, for matrix, primaries and transfer alike


class VideoWriter:
    """Writes frames of `width` x `height` at a constant `fps` (a Fraction stays exact) to an mp4 at `path`.

    H.264 (yuv420p, so an odd side is widened by its last row or column), or MPEG-4 part 2 where this FFmpeg has no
    libx264. The file grows under a temporary name beside `path`; `close` renames it, an exception in the ``with``
    block removes it. InputError where the path cannot be written.
    """

    def __init__(self, path: str | Path, width: int, height: int, fps: Fraction | float) -> None:
        self.path = Path(path)
        self._size = (height, width)
        self._frames = 0
        rate = fps if isinstance(fps, Fraction) else Fraction(fps).limit_denominator(1001)
        with contextlib.ExitStack() as stack:
            # Leaving this block by an error undoes what was entered; pop_all() keeps it for close().
            temporary = stack.enter_context(atomic_path(self.path))
            options = {"movflags": "+faststart"}
            container = stack.enter_context(av.open(str(temporary), "w", format="mp4", options=options))
            h264 = "libx264" in av.codecs_available
            if not h264:
                log.warning("this FFmpeg has no libx264: %s becomes MPEG-4 part 2", self.path)
            stream = container.add_stream("libx264" if h264 else "mpeg4", rate=rate)
            stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            stream.options = {"preset": "veryfast", "crf": "18"} if h264 else {"qscale": "3"}
            context = stream.codec_context
            context.time_base = 1 / rate
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = 1  # limited
            self._container, self._stream, self._stack = container, stream, stack.pop_all()
        self._open = True

    def write(self, frame: np.ndarray) -> None:
        """Append one RGB uint8 frame (H,W,3)."""
        if frame.shape != (*self._size, 3) or frame.dtype != np.uint8:
            raise ValueError(f"wanted a uint8 frame {(*self._size, 3)}, got {frame.dtype} {frame.shape}")
        height, width = self._size
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        picture.pts, picture.time_base = self._frames, self._stream.codec_context.time_base
        self._frames += 1
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the file and give it its name. Closing again does nothing."""
        if self._open:
            self._open = False
            with self._stack:
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
            self._stack.__exit__(kind, error, trace)
