"""A take's people, written in some formats: the scenes that exporters get, and the folder that has a manifest."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from hmrkit.errors import InputError
from hmrkit.exporters import EXPORTERS, check_format_options, load_exporter
from hmrkit.models import Models
from hmrkit.pipeline import Progress, require_stage
from hmrkit.scene import ExportOptions, Scene, scene_name
from hmrkit.scene.build import build_scene, chosen_shots, options_as_json
from hmrkit.scene.resampling import usual_rate
from hmrkit.scene.texture import check_apart, read_texture
from hmrkit.scene.vertex_cache import shared_vertices
from hmrkit.take.claims import locked
from hmrkit.take.clip_folder import ClipFolder
from hmrkit.types import Take

log = logging.getLogger(__name__)


@contextlib.contextmanager
def exporting(
    take: Take,
    folder: Path,
    formats: Sequence[str],
    models: Models,
    progress: Progress,
    options: ExportOptions | None = None,
) -> Iterator[Callable[[str, Path], list[Path]]]:
    """What writes a take's people in one of `formats` into a folder that it is given, and returns the paths made.

    Scenes are built when they are first needed. Exact vertices are computed in short stretches, once for all formats
    (nameless files in `folder` keep them meanwhile): memory does not depend on the clip. Of a clip of variable rate,
    formats that store a time for every frame keep them; the others are resampled to a constant rate, with one warning.
    A texture is read at once, for all scenes.
    With `ExportOptions.per_shot` each shot of a clip with cuts is a scene of its own, and what is written is named by
    it (``..._shot_01``). UsageError where a person or a combination of options does not exist.
    """
    require_stage(take, "regress", models.options)
    chosen = options or ExportOptions()
    exporters = {name: load_exporter(name) for name in formats}
    shots = chosen_shots(take, chosen) if take.people_with_mesh() else []
    uneven = bool(shots) and take.video.variable and chosen.fps is None
    timed = [name for name in formats if uneven and EXPORTERS[name].own_times]
    resampled = [name for name in formats if name not in timed]
    if uneven and formats:
        log.warning(_uneven(take, resampled, timed))
    texture = None
    if chosen.texture is not None:
        texture = read_texture(chosen.texture, models.body, scene_name(Path(take.video.path)))
    done = itertools.count(1)
    with contextlib.ExitStack() as stack:

        @cache
        def scene(shot: int | None, own_times: bool) -> Scene:
            built = build_scene(take, models, chosen, own_times, shot, texture)
            if not built.characters:
                raise InputError(
                    f"{take.video.path}: nobody in the take has a mesh of finite numbers; run `hmrkit regress`"
                )
            share = len(timed if own_times else resampled) > 1
            return stack.enter_context(shared_vertices(built, folder, share))

        def write(name: str, place: Path) -> list[Path]:
            paths: list[Path] = []
            for shot in shots:
                paths += exporters[name].write(scene(shot, name in timed), place, chosen)
                progress("export", next(done), len(formats) * len(shots))
            return list(dict.fromkeys(paths))  # shots share a texture

        yield write


def export_take(
    take: Take,
    folder: Path,
    formats: Sequence[str],
    models: Models,
    progress: Progress,
    options: ExportOptions | None = None,
) -> list[Path]:
    """Write a take's people in each of `formats` under `folder`, as `exporting` says; the paths made, in order."""
    with exporting(take, folder, formats, models, progress, options) as write:
        return list(dict.fromkeys(path for name in formats for path in write(name, folder)))


def export_into(
    take: Take,
    folder: Path,
    formats: Sequence[str],
    models: Models,
    progress: Progress,
    options: ExportOptions | None = None,
) -> list[Path]:
    """`export_take` into a folder that has a manifest (`ClipFolder`), which many clips can share: files that the last
    export of this clip in the same formats made and this one does not are removed, as are those of `hmrkit run` and
    another clip's sequence of the same name (``person_01_obj``), whole; all others stay."""
    chosen = options or ExportOptions()
    check_format_options(formats, chosen)
    record = {"options": options_as_json(chosen)}
    paths: list[Path] = []
    clip = scene_name(Path(take.video.path))

    def make(write: Callable[[str, Path], list[Path]], name: str, place: Path) -> list[Path]:
        made = write(name, place)
        check_apart(chosen.texture, folder, {path.relative_to(place).as_posix() for path in place.rglob("*")})
        return made

    with exporting(take, folder, formats, models, progress, chosen) as write, locked(folder):
        written = ClipFolder(folder, again=True)
        check_apart(chosen.texture, folder, written.files)
        for name in formats:
            unnamed = f"export-{name}"  # that of `hmrkit run` and of earlier versions
            paths += written.product(f"{unnamed}-{clip}", record, partial(make, write, name), instead_of=[unnamed])
        written.finish(written.names)
    return list(dict.fromkeys(paths))  # formats share a texture


def _uneven(take: Take, resampled: Sequence[str], timed: Sequence[str]) -> str:
    """The warning about a clip of variable rate."""
    steps, rate = np.diff(take.video.frame_times), float(usual_rate(take.video))
    does = [f"{', '.join(resampled)} resampled to {rate:.6g} (--fps sets another rate)"] if resampled else []
    does += [f"{', '.join(timed)} with each frame's own time"] if timed else []
    return (
        f"{take.video.path}: frames follow one another at {1 / steps.max():.3g} to {1 / steps.min():.3g} per second: "
        + "; ".join(does)
    )
