"""Frames of one open file through PyAV: by their time stamps, so that a lost one does not renumber the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from hmrkit.video.filtering import ShownFrames, deinterlaced
from hmrkit.video.index import ClipIndex
from hmrkit.video.opening import open_container
from hmrkit.video.watch import beat

log = logging.getLogger(__name__)

# Jumping to a keyframe restarts the decoder; decoding fewer frames than this and throwing them away is cheaper.
_SEEK_GAIN_FRAMES = 32


class PyavFrames:
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
