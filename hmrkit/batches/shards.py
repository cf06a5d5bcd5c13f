"""A shard: every N-th input of a list, so that there can be N jobs that share nothing but the list."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hmrkit.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Those of `count` equal parts of a list that have these `numbers`, from 1."""

    numbers: tuple[int, ...] = (1,)
    count: int = 1
    text: str = "1"

    def of(self, items: Sequence[T]) -> list[T]:
        """Its items, in the list's order: those whose place in the list, modulo `count`, is one of its numbers."""
        chosen = {number - 1 for number in self.numbers}
        return [item for place, item in enumerate(items) if place % self.count in chosen]

    @property
    def label(self) -> str:
        """A name for files: ``003_of_100``; "" for the whole list."""
        width = len(str(self.count))
        text = self.text.zfill(width) if self.text.isdigit() else self.text.replace(",", "+")
        return "" if len(self.numbers) == self.count else f"{text}_of_{self.count}"


WHOLE = Shard()


def parse_shard(text: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """``I/N`` with I from 1 to N, ranges of them (``3-5,9/100``), or ``auto``; None is the whole list.

    ``auto`` reads Slurm's array (``SLURM_ARRAY_TASK_ID``, its ``_MIN``, ``_STEP`` and ``_COUNT``), else ``RANK`` and
    ``WORLD_SIZE``, which torchrun and others set. UsageError where the text or these variables name no shard.
    """
    if text is None:
        return WHOLE
    if text == "auto":
        return _from_environment(environment)
    match = re.fullmatch(r"(\d{1,9}(?:-\d{1,9})?(?:,\d{1,9}(?:-\d{1,9})?)*)/(\d{1,9})", text)
    if not match:
        raise UsageError(f"--shard wants I/N (3/100), ranges (3-5,9/100) or auto, got {text!r}")
    parts, count, numbers = match[1], int(match[2]), set[int]()
    for part in parts.split(","):
        first, _, last = part.partition("-")
        if not 1 <= int(first) <= int(last or first) <= count:
            raise UsageError(f"--shard {text}: shards go from 1 to {count}, found {part}")
        numbers |= set(range(int(first), int(last or first) + 1))
    return Shard(tuple(sorted(numbers)), count, parts)


def _from_environment(environment: Mapping[str, str]) -> Shard:
    def number(name: str, default: int | None = None) -> int:
        value = environment.get(name, "" if default is None else str(default))
        if not value.isdecimal():
            raise UsageError(f"--shard auto wants a number in ${name}, found {value!r}; name the shard, --shard I/N")
        return int(value)

    if "SLURM_ARRAY_TASK_ID" in environment:
        count, first, step = (
            number(f"SLURM_ARRAY_TASK_{name}", other) for name, other in (("COUNT", None), ("MIN", 1), ("STEP", 1))
        )
        place, rest = divmod(number("SLURM_ARRAY_TASK_ID") - first, max(step, 1))
        source = f"task {environment['SLURM_ARRAY_TASK_ID']} of a Slurm array of {count} from {first}"
    elif "RANK" in environment:
        place, rest, count = number("RANK"), 0, number("WORLD_SIZE")
        source = f"RANK {place} of WORLD_SIZE {count}"
    else:
        raise UsageError(
            "--shard auto wants a Slurm array (SLURM_ARRAY_TASK_ID) or RANK and WORLD_SIZE, found neither; "
            "name the shard, --shard I/N"
        )
    if rest or not 0 <= place < count:
        raise UsageError(f"--shard auto: {source} has gaps, so it is no shard; name it, --shard I/N")
    return Shard((place + 1,), count, str(place + 1))
