"""What `detect` has found in a clip so far."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from hmrkit.trackers.appearance import SIZE as APPEARANCE_SIZE
from hmrkit.trackers.appearance import describe
from hmrkit.types import Detections, VideoInfo
from hmrkit.video.camera_motion import BackgroundPath
from hmrkit.video.cuts import CutFinder

_ARRAYS = ("found", "failed", "boxes", "colours", "places")


class DetectionRecord:
    """People of the frames of a clip that were seen, in order, with a description of their colours; the frames' own
    colours, and where the background has gone. `kept`: the `snapshot` of an earlier run after which this one goes on.

    Small arrays that stay, made between large ones that go, leave the heap in pieces (170 KB a frame). So everything is
    appended to blocks, which are cut into frames at the end.
    """

    def __init__(self, kept: Mapping[str, np.ndarray]) -> None:
        found, failed, *blocks = (kept.get(name, np.zeros(0, np.int64)) for name in _ARRAYS)
        self._counts = {int(number): int(count) for number, count in found.reshape(-1, 2)}
        self.failed: list[int] = failed.tolist()
        self._boxes, self._colours, self._places = (bytearray(block.tobytes()) for block in blocks)
        self._background = BackgroundPath(kept)
        self.mark(np.inf)

    @property
    def done(self) -> int:
        """How many of the clip's frames were seen, or cannot be."""
        return self.seen + len(self.failed)

    @property
    def seen(self) -> int:
        """How many were seen."""
        return len(self._counts)

    def add(self, number: int, frame: np.ndarray, colours: np.ndarray, people: Detections) -> None:
        """The next frame (H,W,3), its `frame_colours`, and who is in it."""
        self._counts[number] = len(people.scores)
        appearance = describe(frame, people.boxes_xyxy)
        self._boxes += np.column_stack([people.boxes_xyxy, people.scores, appearance]).astype(np.float32).tobytes()
        self._colours += colours.tobytes()
        self._places += self._background(frame, people.boxes_xyxy).astype(np.float32).tobytes()

    def mark(self, number: float) -> None:
        """A snapshot reaches up to here, before frame `number`: what comes later does not depend on what is before."""
        failed = bisect_left(self.failed, number)
        self._whole = self.seen, failed, len(self._boxes), len(self._colours), len(self._places)
        self._path = self._background.state()

    def snapshot(self) -> dict[str, np.ndarray]:
        """All up to the last mark, as arrays."""
        seen, failed, *sizes = self._whole
        blocks = zip(_ARRAYS[2:], (self._boxes, self._colours, self._places), sizes, strict=True)
        return {
            "found": np.array(list(self._counts.items())[:seen], np.int64).reshape(-1, 2),
            "failed": np.array(self.failed[:failed], np.int64),
            **{name: np.frombuffer(bytes(block[:size]), np.uint8) for name, block, size in blocks},
            **self._path,
        }

    def finish(self, video: VideoInfo, cuts: CutFinder) -> tuple[tuple[Detections, ...], VideoInfo]:
        """The people of all frames of `video`, none where a frame failed; and the video with what was seen of it:
        where shots begin, by `cuts`, and where the background has gone."""
        rows = np.frombuffer(self._boxes, np.float32).reshape(-1, 5 + APPEARANCE_SIZE)
        counts = [self._counts.get(int(number), 0) for number in video.frame_indices]
        each = np.split(rows, np.cumsum(counts)[:-1])
        detections = tuple(Detections(part[:, :4].copy(), part[:, 4].copy(), part[:, 5:].copy()) for part in each)
        colours = np.frombuffer(self._colours, np.float16).reshape(self.seen, -1 if self.seen else 0)
        numbers = np.array(list(self._counts), np.int64)
        moved = np.frombuffer(self._places, np.float32).reshape(-1, 2).T
        at_all = [np.interp(video.frame_indices, numbers, along) for along in moved] if self.seen else None
        return detections, replace(
            video,
            failed_frames=tuple(sorted(self.failed)),
            cuts=cuts(numbers, colours),
            background_px=None if at_all is None else np.stack(at_all, 1).astype(np.float32),
        )
