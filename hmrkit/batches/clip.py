"""One clip of a batch: claimed, opened, brought through the chain, its results written and remembered."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from hmrkit.batches.result import ClipResult, Outputs
from hmrkit.device import out_of_memory
from hmrkit.errors import EXIT_SOME_FAILED, HmrkitError, InputError
from hmrkit.exporters.writing import exporting
from hmrkit.files import write_json
from hmrkit.keypoints import KEYPOINTS
from hmrkit.members import choose
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.output import render_take
from hmrkit.pipeline import STAGES, Progress, keep_stages, load_models, open_clip, run_stages, stages_of
from hmrkit.rendering.painting import check_renderer
from hmrkit.report import report, reprojection
from hmrkit.take import code_version, load_take, provenance_record, save_take
from hmrkit.take.claims import LOCK, locked, owner_of
from hmrkit.take.clip_folder import MANIFEST, ClipFolder
from hmrkit.take.unfinished import Part, Unfinished
from hmrkit.types import Take
from hmrkit.video.kept_frames import keeping_frames

log = logging.getLogger(__name__)
REPORT = "report.json"
# Options that change no result, so that a finished clip stays finished whatever they are.
_WITHOUT_EFFECT = ("device", "engine", "renderer", "batch_size", "decoder", "timeout", "allow_playlists")


def open_checked(source: str, options: Options) -> Take:
    """`open_clip`; InputError for whatever else goes wrong, so that one input that nobody thought of stops no batch."""
    try:
        return open_clip(source, options)
    except HmrkitError:
        raise
    except Exception as error:
        log.debug("unexpected error in %s", source, exc_info=True)
        raise InputError(
            f"{source}: cannot be opened as a clip ({type(error).__name__}: {error}); check this input"
        ) from error


class _InWork(Unfinished):
    """Knows which stage that works through frames is in work; "" none."""

    stage = ""

    def part(self, stage: str, record: dict[str, Any]) -> Part:
        self.stage = stage
        return super().part(stage, record)

    def remove(self) -> None:
        self.stage = ""
        super().remove()


def load_all(models: Models, stages: Sequence[str], outputs: Outputs) -> None:
    """Load what a run uses, so that what is missing is reported before any work is done."""
    load_models(models, stages)
    if outputs.render:
        check_renderer(models.options.renderer)


class ClipRunner:
    """Runs clips one after another with the same models and outputs. Models are loaded when the first clip is open."""

    def __init__(self, models: Models, outputs: Outputs) -> None:
        self.models, self.outputs = models, outputs
        self.stages = stages_of(models.options)
        self.refused: BaseException | None = None  # why models could not be loaded

    def run(self, result: ClipResult, progress: Progress, admit: Callable[[dict[str, Any] | None], None]) -> bool:
        """Run a clip and note in `result` what became of it; False where another process holds its folder.

        `admit` is called once the clip is claimed, with what is known of a process that died in it; it may refuse the
        clip. What ends the whole batch is raised: weights that cannot be loaded, a signal.
        """
        started = time.perf_counter()
        try:
            if self._is_kept(result):
                return True
            owner = owner_of(result.folder)
            with locked(result.folder, wait=False) as held:
                if not held:
                    return False
                if self._is_kept(result, claimed=True):
                    ClipFolder(result.folder)  # removes what a later run left half-made
                    return True
                admit(owner)
                take = open_checked(result.source, self.models.options)
                self._load()
                with keeping_frames():
                    self._with_less_memory(result, take, progress)
        except Exception as error:
            _remove_if_empty(result.folder)
            if error is self.refused:
                raise
            result.fail(error)
        result.seconds = time.perf_counter() - started
        return True

    def _load(self) -> None:
        try:
            load_all(self.models, self.stages, self.outputs)
        except Exception as error:
            self.refused = error
            raise

    @cached_property
    def key(self) -> str:
        """What decides a clip's results beside the clip: options, weights, code, products."""
        self._load()
        options = {name: value for name, value in asdict(self.models.options).items() if name not in _WITHOUT_EFFECT}
        used = {name for stage in self.stages for name in STAGES[stage].models(self.models.options)}
        hashes = {name: getattr(self.models, name).weights_sha256 for name in sorted(used)}
        products = [*self.outputs.formats, self.outputs.render]
        return _digest([options, hashes, products, code_version()])

    def _is_kept(self, result: ClipResult, claimed: bool = False) -> bool:
        """Whether a clip was finished by an equal run and neither it nor its results changed since: only names, sizes
        and times of files are compared. Then `result` is that run's."""
        folder = result.folder
        if self.outputs.overwrite or not (folder / REPORT).exists() or (not claimed and (folder / LOCK).exists()):
            return False
        key = self.key
        try:
            known = json.loads((folder / REPORT).read_text())
            products = json.loads((folder / MANIFEST).read_text())["products"]
            facts = known.pop("finished")
            if facts != _finished(key, result.source, folder, products):
                return False
            paths = [path for product in products.values() for path in product["paths"]]
            result.exit_code, result.error = known.pop("exit_code"), known.pop("error", None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # another version's, damaged, or gone
            return False
        result.status, result.files = "kept", [folder / "take.npz", *(folder / path for path in paths)]
        result.detail = {k: v for k, v in known.items() if k not in ("source", "status", "seconds", "folder", "files")}
        return True

    def _with_less_memory(self, result: ClipResult, take: Take, progress: Progress) -> None:
        """Run the clip; where the GPU's memory does not suffice, again with half as many frames at once, as then the
        clips after it."""
        models, unfinished = self.models, _InWork(result.folder)
        member, _ = choose(KEYPOINTS, models.options.keypoints, "keypoint estimator")
        while True:
            try:
                self._run(result, take, models, progress, unfinished)
                self.models = models
                return
            except Exception as error:
                batch_size = models.batch_size // 2
                fixed = unfinished.stage == "pose" and member.frames_at_once
                if not out_of_memory(error) or fixed or not batch_size:
                    raise
                log.warning("%s: out of GPU memory; again with --batch-size %d", result.source, batch_size)
            torch.cuda.empty_cache()
            models = models.with_batch_size(batch_size)

    def _run(self, result: ClipResult, take: Take, models: Models, progress: Progress, unfinished: Unfinished) -> None:
        started = time.perf_counter()
        outputs, folder, take_path = self.outputs, result.folder, result.folder / "take.npz"
        earlier = _resume(take, take_path, outputs.overwrite)
        take = keep_stages(earlier, self.stages)
        if take.provenance.keys() != earlier.provenance.keys():  # it loses stages of another method
            save_take(take, take_path)
        take = run_stages(take, self.stages, models, progress, lambda t: save_take(t, take_path), unfinished)
        last = take.provenance[self.stages[-1]]
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
                record = provenance_record({"product": name, "render": drawn}, {}, last)
                made.extend(written.product(name, record, make))
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
            result.exit_code, result.kind = EXIT_SOME_FAILED, "undecodable"
            result.error = (
                f"{result.source}: {failed} of {frames} frames could not be decoded, so the result is of little use; "
                "check the file, or allow more with --failed-frames"
            )
        result.seconds = time.perf_counter() - started
        facts = _finished(self.key, result.source, folder, written.products)
        write_json(folder / REPORT, result.as_json() | {"exit_code": result.exit_code, "finished": facts})


def _resume(take: Take, path: Path, overwrite: bool) -> Take:
    """The earlier take of the same frames, so that its finished stages are skipped; else the fresh one.

    InputError where the folder has the results of another source."""
    if overwrite or not path.exists():
        return take
    try:
        earlier = load_take(path)
    except InputError as error:
        log.warning("%s; starting this clip again", error)
        return take
    if earlier.video.sha256 != take.video.sha256:
        if os.path.abspath(earlier.video.path) != os.path.abspath(take.video.path):
            raise InputError(
                f"{take.video.path}: {path.parent} has the results of another clip, {earlier.video.path}; name the "
                "folder above both with --root, choose another --out, or replace them with --overwrite"
            )
        return take
    if list(earlier.video.frame_indices) != list(take.video.frame_indices):
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


def _finished(key: str, source: str, folder: Path, products: dict[str, Any]) -> dict[str, str]:
    """What must still be so for a clip to count as finished: the key, the source's and the results' sizes and times."""
    path = Path(source)
    inputs = sorted(path.iterdir()) if path.is_dir() else [path]
    files = sorted(file for product in products.values() for file in product["files"])
    results = [folder / name for name in ("take.npz", MANIFEST, *files)]
    return {"key": key, "input": _digest(_stamps(inputs)), "results": _digest(_stamps(results))}


def _stamps(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    return [(path.name, (facts := path.stat()).st_size, facts.st_mtime_ns) for path in paths]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _remove_if_empty(folder: Path) -> None:
    """A clip that could not be opened leaves no folder."""
    try:
        folder.rmdir()
    except OSError:
        return
