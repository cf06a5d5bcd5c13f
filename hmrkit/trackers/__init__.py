"""Trackers say which detections of a clip are the same person.

A member only associates boxes frame by frame; what needs the whole clip (joining across gaps, filling, smoothing,
leaving out) is the same for all and lives in `hmrkit.trackers.linking`.

How to add one: write a module with a function ``associate(detections, times, step_s)`` that takes one `Detections` a
frame, the frames' times (T,) s and the usual time between two of them, and returns, for each frame, an integer array
(N,) of tracklet ids (-1: nobody's), and add its line to `TRACKERS`. Ids must be pure rather than complete: two
tracklets of one person are joined later, a tracklet of two people is hard to part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hmrkit.errors import UsageError
from hmrkit.members import Member, choose

if TYPE_CHECKING:
    import numpy as np

    from hmrkit.types import Detections, DroppedTrack, Track

    Associate = Callable[[Sequence[Detections], np.ndarray, float], list[np.ndarray]]

TRACKERS: dict[str, Member] = {
    "bytetrack": Member(
        module="hmrkit.trackers.bytetrack",
        summary="ByteTrack: motion, strong boxes first, then weak ones (default)",
        paper="Zhang et al. 2022, ByteTrack: Multi-Object Tracking by Associating Every Detection Box",
    ),
    "toy": Member(
        module="hmrkit.trackers.toy",
        summary="best overlap with the previous frame, greedily; for tests",
        for_tests=True,
    ),
}


@dataclass(frozen=True)
class TrackingResult:
    """People of a clip, ids 1.. by first appearance, and what was left out."""

    tracks: tuple[Track, ...]
    dropped: tuple[DroppedTrack, ...]


class Tracker:
    """Collects the detections of a clip (`update`, every chosen frame in order) and tracks them in `finish`."""

    def __init__(self, associate: Associate) -> None:
        self._associate = associate
        self._frame_indices: list[int] = []
        self._detections: list[Detections] = []

    def update(self, frame_index: int, detections: Detections) -> None:
        """Add a frame: its number in the source and its people (none is empty arrays, never by leaving out)."""
        if self._frame_indices and frame_index <= self._frame_indices[-1]:
            raise ValueError(f"frames must come in order, got {frame_index} after {self._frame_indices[-1]}")
        self._frame_indices.append(frame_index)
        self._detections.append(detections)

    def finish(self, fps: float, cuts: Sequence[int] = (), times: np.ndarray | None = None) -> TrackingResult:
        """Tracks of all frames given so far; `fps` is the rate of these frames (not of the source), in Hz.

        `times` (T,) s are those of the frames, rising, where they do not simply follow one another at `fps`. `cuts` are
        numbers of frames that begin a shot: each shot is tracked by itself, so that nobody crosses a cut.
        """
        import numpy as np

        from hmrkit.trackers.linking import link_tracks
        from hmrkit.video.cuts import shots

        if not fps > 0:
            raise ValueError(f"expected a positive frame rate, got {fps}")
        numbers = np.array(self._frame_indices, np.int64)
        seconds = np.arange(len(numbers)) / fps if times is None else np.asarray(times, np.float64)
        tracks: list[Track] = []
        dropped: list[DroppedTrack] = []
        for rows in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(shots(numbers, cuts))) + 1):
            detections = [self._detections[row] for row in rows]
            shot = seconds[rows]
            step_s = float(np.median(np.diff(shot))) if len(rows) > 1 else 1 / fps
            found = link_tracks(numbers[rows], detections, self._associate(detections, shot, step_s), shot, step_s)
            tracks += [replace(track, track_id=len(tracks) + k) for k, track in enumerate(found.tracks, 1)]
            dropped += found.dropped
        return TrackingResult(tuple(tracks), tuple(dropped))


def load_tracker(name: str = "bytetrack") -> Tracker:
    """A tracker for one clip. UsageError where there is no such tracker."""
    member, _ = choose(TRACKERS, name, "tracker")
    return Tracker(member.load_module().associate)


def select_people(tracks: Sequence[Track], people: str | int = "all", cuts: Sequence[int] = ()) -> tuple[Track, ...]:
    """`people`: ``"all"``, ``"largest"`` (the same as 1), or how many in each shot; those with most box area summed
    over the shot. Ids stay."""
    import numpy as np

    from hmrkit.video.cuts import shots

    if people == "all":
        return tuple(tracks)
    count = 1 if people == "largest" else people
    if not isinstance(count, int) or count < 1:
        raise UsageError(f"--people must be all, largest or a number from 1, got {people!r}")
    area = [np.prod(t.boxes_xyxy[:, 2:] - t.boxes_xyxy[:, :2], axis=1).sum() for t in tracks]
    shot = shots(np.array([t.frame_indices[0] for t in tracks], np.int64), cuts)
    order = np.argsort([-a for a in area], kind="stable")
    chosen = [i for number in np.unique(shot) for i in order[shot[order] == number][:count]]
    return tuple(tracks[i] for i in sorted(chosen))
