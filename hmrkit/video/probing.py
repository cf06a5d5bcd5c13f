"""What a clip is and which of its frames are chosen: `probe`."""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from pathlib import Path

import numpy as np

from hmrkit.errors import InputError, UsageError
from hmrkit.members import RATES, check_number
from hmrkit.types import VideoInfo
from hmrkit.video.index import DEFAULT_FOLDER_FPS, clip_files, clip_sha256, index_video
from hmrkit.video.sequences import common_size, find_sequence

log = logging.getLogger(__name__)

# Containers round times to their clock (Matroska: 1 ms): a frame this much before "2.5s" still counts as at 2.5 s.
_CLOCK_SLACK_S = 5.1e-4
# A camera's note of its rate counts as slow motion from here on; ordinary clips note 30 for 29.97.
_SLOW_MOTION = 1.2


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
        check_number(flag, None if given is None else float(given), RATES)
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
            index, files = index_video(path), clip_files(path)
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
        begin = f"the first frame, {numbers[0]}" if first == 0 else f"--start {start}"
        raise UsageError(f"--end {end} must lie after {begin}; end is exclusive")
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
