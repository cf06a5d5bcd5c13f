"""The formats of results that can be read, one module each.

How to add one: a module with ``SPACES`` (what it can give, the default first), ``recognise(data) -> bool`` by keys and
shapes of what `hmrkit.results.files.read_file` returned, and ``read(data, video, space) -> Results``; and its line in
`RESULTS`. A format is recognised by the first line that fits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.errors import InputError, UsageError, reason_of
from hmrkit.members import Member
from hmrkit.results import RESULTS
from hmrkit.results.files import read_file
from hmrkit.results.people import Results
from hmrkit.types import VideoInfo


def recognised(path: str | Path, data: Any) -> tuple[str, Member]:
    """Name and line of the format that `data` of the file `path` has; InputError where none fits."""
    for name, member in RESULTS.items():
        if member.load_module().recognise(data):
            return name, member
    keys = ", ".join(str(key) for key in list(data)[:8]) if isinstance(data, dict) else type(data).__name__
    raise InputError(
        f"{path}: wanted results of one of {', '.join(RESULTS)} (hmrkit list results), found {keys or 'nothing'}"
    )


def read_results(path: str | Path, video: VideoInfo, space: str | None = None) -> tuple[str, Results]:
    """Name of the format of a file or folder, and the people in it.

    `video` is the clip that they are of; `space` ``camera`` or ``world``, None what the format has first. InputError
    where the file is none that is known, or damaged; UsageError where it does not have that space.
    """
    return read_people(path, read_file(path), video, space)


def read_people(path: str | Path, data: Any, video: VideoInfo, space: str | None = None) -> tuple[str, Results]:
    """`read_results` of what `hmrkit.results.files.read_file` made of `path`."""
    name, member = recognised(path, data)
    module = member.load_module()
    if space is not None and space not in module.SPACES:
        raise UsageError(f"{path}: results of {name} have --space {' or '.join(module.SPACES)}, not {space!r}")
    try:
        results: Results = module.read(data, video, space or module.SPACES[0])
    except InputError as error:
        raise InputError(f"{path}: {name}: {error}") from None
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        reason = reason_of(error)
        raise InputError(
            f"{path}: wanted results as {name} writes them, could not make sense of them ({type(error).__name__}: "
            f"{reason}); write the file again with {name}"
        ) from None
    camera = (results.focal_px, *(results.center_px or ()))
    if results.focal_px is not None and not (np.isfinite(camera).all() and results.focal_px > 0):  # type: ignore[arg-type]
        raise InputError(f"{path}: {name}: wanted a camera in pixels, found NaN or no size; the file is damaged")
    if not results.people:
        raise InputError(f"{path}: {name}: wanted people, found nobody in it")
    return name, results
