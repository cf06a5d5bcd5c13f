"""What spreads a list of clips over many machines: engines that studios and labs have, one file each.

Every one of them runs shards of one list with claims, so a task may be run twice or at once with another: no clip is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """`hmrkit run` of a list: `words` are its arguments but for the list, the folder of results and the shard."""

    input_list: str
    out: str
    words: Sequence[str] = ()

    def command(self, shard: str) -> list[str]:
        """The arguments of `hmrkit` for a shard (``3/100``)."""
        return ["run", "--input-list", self.input_list, "--out", self.out, "--shard", shard, *self.words]
