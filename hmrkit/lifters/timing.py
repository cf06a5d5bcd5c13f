"""From the times of a clip's frames to the even rate at which a temporal network was trained, and back."""

from __future__ import annotations

import numpy as np


class NetworkClock:
    """The clock of a network of `rate` Hz that runs from the first to the last of T frames.

    The frames are at rising `times` (T,) s, or follow one another at `fps`. A `rate` of None is that of a network that
    sees each frame by itself: its clock has the frames as they are. `steps` counts the clock's ticks,
    `seconds` (T,) are the frames' times since the first.
    """

    def __init__(self, count: int, fps: float, times: np.ndarray | None, rate: float | None) -> None:
        self.seconds = seconds = np.arange(count) / fps if times is None else np.asarray(times, np.float64) - times[0]
        self.steps = count if rate is None else max(1, round(seconds[-1] * rate) + 1)
        ticks = seconds if rate is None else np.linspace(0, seconds[-1], self.steps)
        self._frame_of_tick = np.interp(ticks, seconds, np.arange(count))
        self._tick_of_frame = np.interp(seconds, ticks, np.arange(self.steps))

    def to_ticks(self, values: np.ndarray) -> np.ndarray:
        """Values (T,...) of the frames -> (`steps`,...) at the ticks."""
        return resample(values, self._frame_of_tick)

    def to_frames(self, values: np.ndarray) -> np.ndarray:
        """Values (`steps`,...) at the ticks -> (T,...) of the frames."""
        return resample(values, self._tick_of_frame)


def resample(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Rows of `values` (T,...) at fractional positions `at`, interpolated linearly.

    Between two rows of which one is NaN the result is NaN; exactly on a row it is that row.
    """
    low = np.clip(np.floor(at + 1e-6).astype(int), 0, len(values) - 1)
    high = np.minimum(low + 1, len(values) - 1)
    part = np.clip(at - low, 0, 1).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    part = np.where(part < 1e-4, 0, part).astype(np.float32)
    # 0 * NaN is NaN: where the other row has no weight, it must not be multiplied in.
    return np.where(part == 0, values[low], values[low] * (1 - part) + values[high] * part)
