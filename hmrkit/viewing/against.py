"""A second take of the same clip in the view of a first: on its frames, in its world, in colours apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmrkit.errors import InputError
from hmrkit.types import Take
from hmrkit.viewing.clip import Shown, ViewClip, make_clip
from hmrkit.viewing.difference import differences

if TYPE_CHECKING:
    from hmrkit.models import Models

COLOURS = ((235, 150, 60), (90, 160, 245))  # of the people of the first take and of the second


@dataclass(frozen=True)
class Pair:
    """Track ids of a person in the first take and in the second, None where only one of the takes has them.

    `apart_mm`: how far the joints are apart on average, both pelvises in one place; NaN for who is alone.
    """

    first: int | None
    second: int | None
    apart_mm: float = float("nan")

    def title(self) -> str:
        """The person, as a list of people names them."""
        if self.first is None or self.second is None:
            return f"person {self.second if self.first is None else self.first}, in one take only"
        both = f"{self.first}" if self.first == self.second else f"{self.first} / {self.second}"
        return f"person {both}: {self.apart_mm:.0f} mm apart"


@dataclass(frozen=True)
class Against:
    """The second take: its people on the first's timeline (`clip`), what it was made with, and who is who."""

    clip: ViewClip
    models: Models
    names: tuple[str, str]
    pairs: tuple[Pair, ...]


def short_names(first: str, second: str) -> tuple[str, str]:
    """What two files are called beside each other: their names, or else the folders in which their paths differ."""
    paths = [list(Path(name).parts) for name in (first, second)]
    if paths[0][-1:] != paths[1][-1:]:
        return Path(first).name, Path(second).name
    for end in (-1, 0):
        while all(paths) and paths[0][end] == paths[1][end]:
            for parts in paths:
                parts.pop(end)
    return ("/".join(paths[0]), "/".join(paths[1])) if all(paths) else (first, second)


def make_pair(
    takes: tuple[Take, Take],
    models: tuple[Models, Models],
    names: tuple[str, str],
    people: Sequence[int] | None = None,
    space: str = "world",
) -> tuple[ViewClip, Against]:
    """The first take as `make_clip` has it, and the second against it. People are matched by their boxes.

    `people` are track ids of the first take; with them come those they are matched with. InputError where the takes
    are not of one clip, have no meshes or no frame in common.
    """
    found, alone = differences(takes, models)
    pairs = [Pair(d.first.track_id, d.second.track_id, float(np.nanmean(d.aligned_mm))) for d in found]
    pairs += [Pair(i, None) for i in alone[0]] + [Pair(None, i) for i in alone[1]]
    if people is not None:
        pairs = [pair for pair in pairs if pair.first in people]
    first = make_clip(takes[0], models[0], people, space)
    others = [pair.second for pair in pairs if pair.second is not None]
    second = make_clip(takes[1], models[1], others, world=(first.world_from_camera, first.leveled))
    _, into, source = np.intersect1d(first.frames, second.frames, return_indices=True)
    if not len(into):
        raise InputError(f"{names[0]} and {names[1]} have no frame in common; give takes of the same part of the clip")

    def on_timeline(person: Shown) -> Shown:
        rows = np.full(len(first.frames), -1, np.int32)
        rows[into] = person.rows[source]
        return replace(person, rows=rows, colour=COLOURS[1])

    moved = tuple(on_timeline(person) for person in second.people)
    second = replace(second, frames=first.frames, times=first.times, fps=first.fps, people=moved)
    first = replace(first, people=tuple(replace(person, colour=COLOURS[0]) for person in first.people))
    return first, Against(second, models[1], names, tuple(pairs))
