"""Made clips for tests of tracking: boxes and colours of people of whom it is known who is where."""

from __future__ import annotations

import numpy as np

from hmrkit.trackers import load_tracker
from hmrkit.trackers.appearance import SIZE
from hmrkit.types import Detections

SECONDS = 6.0


def colours(person: int, rng: np.random.Generator) -> np.ndarray:
    """Square-root histograms of one of four kinds of clothes, with some noise."""
    histogram = np.full((2, SIZE // 2), 0.01)
    histogram[0, 3 * person % 12] = histogram[1, (5 * person + 2) % 12] = 1
    histogram *= rng.uniform(0.8, 1.2, histogram.shape)
    return np.sqrt(histogram / histogram.sum(1, keepdims=True)).ravel()


def box(x: float, y: float = 300, height: float = 200) -> np.ndarray:
    return np.array([x - height * 0.2, y - height / 2, x + height * 0.2, y + height / 2])


def make_clip(
    fps: float, people, hidden=lambda person, t: False, noise: float = 2.0, seconds: float = SECONDS, times=None
):
    """Detections (shuffled) of `people`, functions of time that give a box or None, and the true person of each."""
    rng = np.random.default_rng(0)
    clip, truth = [], []
    for t in np.arange(round(seconds * fps)) / fps if times is None else times:
        seen = [(i, p(t)) for i, p in enumerate(people) if not hidden(i, t)]
        seen = [(i, b + rng.normal(0, noise, 4)) for i, b in seen if b is not None]
        seen = [seen[k] for k in rng.permutation(len(seen))]
        boxes = np.array([b for _, b in seen], np.float32).reshape(-1, 4)
        looks = np.array([colours(i, rng) for i, _ in seen], np.float32).reshape(-1, SIZE)
        clip.append(Detections(boxes, np.full(len(seen), 0.9, np.float32), looks))
        truth.append([i for i, _ in seen])
    return clip, truth


def track(clip, fps, name="bytetrack", times=None):
    tracker = load_tracker(name)
    for frame, found in enumerate(clip):
        tracker.update(frame, found)
    return tracker.finish(fps, times=times)


def owners(result, people, fps, times=None) -> list[set[int]]:
    """For each track, the people whose true boxes its boxes lie nearest to, over all its frames."""
    found = []
    for one in result.tracks:
        who = set()
        for frame, b in zip(one.frame_indices, one.boxes_xyxy, strict=True):
            t = frame / fps if times is None else times[frame]
            true = [(np.abs(p(t) - b).max(), i) for i, p in enumerate(people) if p(t) is not None]
            nearest = sorted(true)[:2]
            if len(nearest) < 2 or nearest[1][0] - nearest[0][0] > 40:  # while they cover each other, either will do
                who.add(nearest[0][1])
        found.append(who)
    return found
