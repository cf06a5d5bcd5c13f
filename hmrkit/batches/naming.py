"""Where a clip's results go: a folder that follows from its path under a root, and from its inputs' common folder
where no root is named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hmrkit.errors import UsageError

# Endings of a file that are left out of its folder's name. Other paths are asked for what they are.
_ENDINGS = frozenset(
    (
        "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "h264", "h265", "hevc", "ivf",
        "m2ts", "m2v", "m4v", "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts", "mxf", "ogv",
        "qt", "rm", "rmvb", "ts", "vob", "webm", "wmv", "y4m",
    )
)  # fmt: skip
_SHOWN = 3  # of a long list of what is wrong


class Clip(NamedTuple):
    """An input, and the name of its folder of results, relative to ``--out``."""

    source: str
    name: str


def name_clips(sources: Iterable[str], root: str | Path | None = None) -> list[Clip]:
    """The clips of these inputs, each once, in order, named by their paths under `root` without a video's ending.

    `root` None is the inputs' common folder; of a single input that is the folder that it lies in. Symbolic links are
    not followed: two links to one file are two clips. Nothing is opened, so 100,000 inputs take a second.

    UsageError where an input is not under `root`, or two would have one folder.
    """
    paths: dict[str, str] = {}
    for source in sources:
        paths.setdefault(os.path.abspath(source.replace("\0", "_")), source)
    absolute = list(paths)
    base = _common_folder(absolute) if root is None else os.path.abspath(root)
    names = [_name(path, base) for path in absolute]
    _refuse_outside([paths[path] for path, name in zip(absolute, names, strict=True) if not name], str(base))
    first: dict[str, str] = {}
    twins = []
    for path, name in zip(absolute, names, strict=True):
        if (other := first.setdefault(name, path)) != path:
            twins.append(f"{paths[other]} and {paths[path]} ({name})")
    if twins:
        raise UsageError(
            f"wanted a folder of results for each input, found {len(twins)} that would share one with another: "
            f"{_some(twins)}; run them with an --out each"
        )
    return [Clip(paths[path], name) for path, name in zip(absolute, names, strict=True)]


def _common_folder(paths: Sequence[str]) -> str:
    """The deepest folder that all paths lie in; "" where there is none (drives of Windows)."""
    try:
        return os.path.commonpath({os.path.dirname(path) for path in paths}) if paths else ""
    except ValueError:
        return ""


def _name(path: str, base: str) -> str:
    """The path under `base` without a video's ending, with "/"; "" where it is not under it."""
    inside = path[len(base) :] if base == "" or path.startswith(base.rstrip(os.sep) + os.sep) else ""
    stem, dot, ending = inside.rpartition(".")
    if dot and os.sep not in ending and stem and not stem.endswith(os.sep):
        is_file = ending.lower() in _ENDINGS or not os.path.isdir(path)
        inside = stem if is_file else inside
    return inside.replace(":", "").replace(os.sep, "/").strip("/")


def _refuse_outside(sources: Sequence[str], root: str) -> None:
    if sources:
        raise UsageError(
            f"wanted inputs that lie under --root {root}, found {len(sources)} that do not: {_some(sources)}; "
            "name a folder above them"
        )


def _some(things: Sequence[str]) -> str:
    return "; ".join(things[:_SHOWN]) + ("; ..." if len(things) > _SHOWN else "")
