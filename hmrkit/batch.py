"""Many clips through the chain: one bad clip stops nothing, nothing is done twice, all that went wrong is reported.

`run_batch` checks every input and the output folder before any model is loaded, then takes the clips one by one,
saving the take after every stage. A process that is killed goes on from there when it is called again.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from hmrkit.errors import EXIT_OK, EXIT_SOME_FAILED, HmrkitError, InputError, UsageError
from hmrkit.exporters import load_exporter
from hmrkit.exporters.writing import exporting
from hmrkit.files import write_json
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.output import render_take
from hmrkit.pipeline import (
    Progress,
    check_checkpoint,
    check_clip,
    keep_stages,
    load_models,
    open_clip,
    run_stages,
    stages_of,
)
from hmrkit.report import report, reprojection
from hmrkit.take import load_take, provenance_record, save_take
from hmrkit.take.clip_folder import ClipFolder, locked
from hmrkit.types import Take

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """Where results go and which ones: `render` is a file name inside each clip's folder, or None."""

    folder: Path
    formats: Sequence[str] = ("npz", "obj")
    render: str | None = None
    overwrite: bool = False


@dataclass
class ClipResult:
    """One line of the batch's report."""

    source: str
    folder: Path
    status: str = "failed"
    error: str | None = None
    exit_code: int = EXIT_OK
    files: list[Path] = field(default_factory=list)
    seconds: float = 0.0
    detail: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the report file and `--json`."""
        out = {"source": self.source, "status": self.status, "seconds": round(self.seconds, 2), **self.detail}
        if self.error:
            out["error"] = self.error
        return out | {"folder": str(self.folder), "files": [str(f) for f in self.files]}


def clip_folders(sources: Sequence[str], out: Path) -> list[Path]:
    """One folder a clip, named after it; clips of the same name are kept apart by the folders they lie in."""
    paths = [Path(os.path.realpath(s.replace("\0", "_"))) for s in sources]
    stems = [p.name if p.is_dir() else p.stem for p in paths]
    folders = []
    for path, stem in zip(paths, stems, strict=True):
        twins = [p for p, s in zip(paths, stems, strict=True) if s == stem]
        if len(set(twins)) > 1:
            common = Path(os.path.commonpath([str(p.parent) for p in twins]))
            name = path.parent.relative_to(common) / (stem if len({p.parent for p in twins}) > 1 else path.name)
        else:
            name = Path(stem)
        folders.append(out / name)
    if len(set(folders)) < len(set(paths)):
        folders = [out / "_".join(path.parts[1:]) for path in paths]
    return folders


def plan(sources: Sequence[str], options: Options, outputs: Outputs) -> list[tuple[ClipResult, Take | None]]:
    """Look at every input without loading a model: a take that is ready to start, or the reason why there is none."""
    if not sources:
        raise UsageError(
            "no input: name one or more videos or folders of frames, or --input-list FILE; "
            "for example: hmrkit run clip.mp4 --out meshes/"
        )
    check_checkpoint(options, stages_of(options))
    if outputs.render and (Path(outputs.render).name != outputs.render or not outputs.render.endswith(".mp4")):
        raise UsageError(
            f"--render wants a file name that ends in .mp4 (it goes into each clip's folder), got {outputs.render}"
        )
    for name in outputs.formats:
        load_exporter(name)  # says now which package it lacks
    _check_writable(outputs.folder)
    planned: list[tuple[ClipResult, Take | None]] = []
    unique = list(dict.fromkeys(sources))
    for source, folder in zip(unique, clip_folders(unique, outputs.folder), strict=True):
        result, take = ClipResult(source, folder), None
        try:
            take = open_clip(source, options)
            result.status = "planned"
        except HmrkitError as error:
            result.error, result.exit_code = str(error), error.exit_code
        except Exception as error:  # one input that nobody thought of stops no batch
            log.debug("unexpected error in %s", source, exc_info=True)
            result.error = f"{source}: cannot be opened as a clip ({type(error).__name__}: {error}); check this input"
            result.exit_code = InputError.exit_code
        planned.append((result, take))
    return planned


def check_planned(planned: Iterable[tuple[ClipResult, Take | None]], models: Models) -> None:
    """Load the models and note which clips they refuse, for a run that stops there."""
    stages = stages_of(models.options)
    load_models(models, stages)
    for result, take in planned:
        try:
            if take is not None:
                check_clip(take, stages, models)
        except HmrkitError as error:
            result.status, result.error, result.exit_code = "failed", str(error), error.exit_code


def run_batch(
    planned: Iterable[tuple[ClipResult, Take | None]],
    options: Options,
    outputs: Outputs,
    progress: Callable[[str], Progress],
    done: Callable[[ClipResult], None],
) -> list[ClipResult]:
    """Run each planned clip; `progress(source)` gives the clip's progress callback, `done` gets each result."""
    planned = list(planned)
    results = [result for result, _ in planned]
    models = Models(options)
    if any(take is not None for _, take in planned):
        load_models(models, stages_of(options))
    for wait in (False, True):  # clips that another process works on come last, and are waited for then
        later = []
        for result, take in planned:
            if take is None or _run_locked(result, take, models, outputs, progress, wait):
                done(result)
                _write_report(outputs.folder, results)
            else:
                later.append((result, take))
        planned = later
    return results


def _run_locked(
    result: ClipResult, take: Take, models: Models, outputs: Outputs, progress: Callable[[str], Progress], wait: bool
) -> bool:
    """Run a clip and note what went wrong; False where another process holds its folder and is not waited for."""
    try:
        with locked(result.folder, wait) as held:
            if held:
                _run_clip(result, take, models, outputs, progress(result.source))
            return held
    except HmrkitError as error:
        result.status, result.error, result.exit_code = "failed", str(error), error.exit_code
    except Exception as error:
        log.debug("unexpected error in %s", result.source, exc_info=True)
        result.status, result.exit_code = "failed", EXIT_SOME_FAILED
        result.error = f"{result.source}: unexpected {type(error).__name__}: {error} (-v shows where)"
    return True


def _write_report(folder: Path, results: Sequence[ClipResult]) -> None:
    """The report of all clips in a folder, of earlier runs, too, by the names of their folders. That it cannot be
    written stops nothing."""
    own = [r.as_json() for r in results if r.status != "planned"]
    mine = {str(r.folder) for r in results}
    try:
        with locked(folder):  # another run may write here, too
            try:
                earlier = json.loads((folder / "report.json").read_text())["clips"]
                others = [clip for clip in earlier if clip["folder"] not in mine and Path(clip["folder"]).is_dir()]
            except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is damaged
                others = []
            clips = sorted([*others, *own], key=lambda clip: str(clip["folder"]))
            write_json(folder / "report.json", {"clips": clips})
    except InputError as error:
        log.warning("%s", error)


def exit_code(results: Sequence[ClipResult]) -> int:
    """0 all well; the one code of what went wrong where every clip failed the same way; 1 some failed."""
    codes = {r.exit_code for r in results}
    if codes <= {EXIT_OK}:
        return EXIT_OK
    return codes.pop() if len(codes) == 1 else EXIT_SOME_FAILED


def _run_clip(result: ClipResult, take: Take, models: Models, outputs: Outputs, progress: Progress) -> None:
    started = time.perf_counter()
    folder, take_path = result.folder, result.folder / "take.npz"
    stages = stages_of(models.options)
    earlier = _resume(take, take_path, outputs.overwrite)
    take = keep_stages(earlier, stages)
    if take.provenance.keys() != earlier.provenance.keys():  # it loses stages of another method
        save_take(take, take_path)
    take = run_stages(take, stages, models, progress, lambda t: save_take(t, take_path))
    last = take.provenance[stages[-1]]
    made, written = [take_path], ClipFolder(folder, outputs.overwrite)
    with exporting(take, folder, outputs.formats, models, progress) as write:
        products: dict[str, Callable[[Path], list[Path]]] = {
            f"export-{name}": partial(write, name) for name in outputs.formats
        }
        if outputs.render:
            video = outputs.render
            sheet = Path(video).stem + "_sheet.png"
            products["render"] = lambda place: render_take(take, place / video, place / sheet, models, progress)
        for name, make in products.items():
            drawn = outputs.render if name == "render" else None
            made.extend(written.product(name, provenance_record({"product": name, "render": drawn}, {}, last), make))
    written.finish(list(products))
    result.files = made
    result.detail = report(take)
    errors = {} if models.options.params_only else reprojection(take, models)
    for person in result.detail["people"]:
        if person["track_id"] in errors:
            person["reprojection_percent_of_box"] = round(100 * errors[person["track_id"]], 2)
    result.status = "done"
    result.error = None if take.tracks else f"{result.source}: no person was found"
    failed, frames = len(take.video.failed_frames), len(take.video.frame_indices)
    if failed > models.options.failed_frames * frames:
        result.exit_code = EXIT_SOME_FAILED
        result.error = (
            f"{result.source}: {failed} of {frames} frames could not be decoded, so the result is of little use; "
            "check the file, or allow more with --failed-frames"
        )
    result.seconds = time.perf_counter() - started
    write_json(folder / "report.json", result.as_json())


def _resume(take: Take, path: Path, overwrite: bool) -> Take:
    """The earlier take of the same frames, so that its finished stages are skipped; else the fresh one."""
    if overwrite or not path.exists():
        return take
    try:
        earlier = load_take(path)
    except InputError as error:
        log.warning("%s; starting this clip again", error)
        return take
    same = earlier.video.sha256 == take.video.sha256 and list(earlier.video.frame_indices) == list(
        take.video.frame_indices
    )
    if not same:
        return take
    return replace(
        earlier,
        video=replace(
            take.video,
            failed_frames=earlier.video.failed_frames,
            cuts=earlier.video.cuts,
            background_px=earlier.video.background_px,
        ),
        camera=replace(take.camera, zoom=earlier.camera.zoom),
    )


def _check_writable(folder: Path) -> None:
    """InputError unless files can be made in `folder` (it is created)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".hmrkit-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror}); choose another --out") from error
