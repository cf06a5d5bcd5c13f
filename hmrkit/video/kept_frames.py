"""The first frames of the clip in work, kept decoded: every stage after the first that reads them has them at once.

Stages go through a clip from its start, so the first frames are worth more than the last ones. How many are kept is
bounded, whatever the clip's length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from hmrkit.types import VideoInfo
from hmrkit.untrusted.limits import free_memory

KEPT_BYTES = 2**28  # at most: 269 frames of 768x432, 43 of 1080p, 10 of 4K
FREE_SHARE = 8  # and at most this part of the memory that is free


class KeptFrames:
    """Frames of one clip at a time; those of another are forgotten when its first frame is put in, and those of a stage
    that went on in the middle of a clip when an earlier frame comes.

    `put` takes frames (H,W,3) of a clip in the order of its time, None for those that cannot be decoded, and keeps
    copies until `limit` bytes are full."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0
        self._clip: tuple[str, str] | None = None
        self._frames: dict[int, np.ndarray | None] = {}

    def put(self, info: VideoInfo, number: int, frame: np.ndarray | None) -> None:
        clip = (info.path, info.sha256)
        if self._clip != clip or number < min(self._frames, default=number):
            self._clip, self._frames, self.held = clip, {}, 0
        size = 0 if frame is None else frame.nbytes
        if number in self._frames or self.held + size > self.limit:
            return
        self._frames[number] = None if frame is None else frame.copy()
        self.held += size

    def leading(self, info: VideoInfo) -> int:
        """How many of the first frames that `info` chooses are kept."""
        if self._clip != (info.path, info.sha256):
            return 0
        missing = (k for k, number in enumerate(info.frame_indices.tolist()) if number not in self._frames)
        return next(missing, len(info.frame_indices))

    def take(self, numbers: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
        """Of kept `numbers` (n,) those that could be decoded (m,), their frames (m,H,W,3), and the failed ones."""
        found = {number: frame for number in numbers.tolist() if (frame := self._frames[number]) is not None}
        frames = np.stack(list(found.values())) if found else np.empty((0, *size, 3), np.uint8)
        failed = tuple(sorted(set(numbers.tolist()) - found.keys()))
        return np.array(list(found), np.int64), frames, failed


_in_work: ContextVar[KeptFrames | None] = ContextVar("frames kept", default=None)


def kept_frames() -> KeptFrames | None:
    """Those of the run that this code is part of; None outside of `keeping_frames`."""
    return _in_work.get()


@contextmanager
def keeping_frames() -> Iterator[KeptFrames]:
    """Within it, `read_frames` keeps the first frames that it decodes and takes them from there when they are wanted
    again."""
    free = free_memory()
    kept = KeptFrames(KEPT_BYTES if free is None else int(min(KEPT_BYTES, free / FREE_SHARE)))
    token = _in_work.set(kept)
    try:
        yield kept
    finally:
        _in_work.reset(token)
