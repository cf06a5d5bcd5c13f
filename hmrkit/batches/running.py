"""Many clips through the chain: one bad clip stops nothing, nothing is done twice, all that went wrong is reported.

`plan` names the clips without opening one. `run_batch` then takes them one by one: each is claimed and opened, and its
take is saved after every stage. A process that is killed goes on from there when it is called again, and several may
work on one list.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hmrkit.batches.clip import ClipRunner, load_all, open_checked
from hmrkit.batches.journal import Journal
from hmrkit.batches.naming import Clip, name_clips
from hmrkit.batches.result import ClipResult, Outputs, QuarantineError, result_of
from hmrkit.batches.shards import WHOLE, Shard
from hmrkit.errors import EXIT_OK, EXIT_SOME_FAILED, InputError, UsageError
from hmrkit.exporters import load_exporter
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.pipeline import Progress, check_checkpoint, check_clip, stages_of
from hmrkit.take.claims import owner_text, time_of_folder

log = logging.getLogger(__name__)
_POLL_S = 0.5  # how often clips that another process works on are asked for


@dataclass(frozen=True)
class Choice:
    """Which clips of a list are run: those of a shard; only those that failed; none that failed `max_tries` times."""

    root: Path | None = None
    shard: Shard = WHOLE
    retry_failed: bool = False
    max_tries: int | None = None


def plan(sources: Sequence[str], options: Options, outputs: Outputs, choice: Choice | None = None) -> list[Clip]:
    """The clips of these inputs, with all that can be said without opening one: UsageError, WeightsError or InputError
    for what would stop every clip."""
    choice = choice or Choice()
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
    clips = choice.shard.of(name_clips(sources, choice.root))
    if choice.retry_failed:
        known = Journal(outputs.folder).known
        clips = [clip for clip in clips if clip.name in known and known[clip.name].failed]
        if not clips:
            log.warning("--retry-failed: none of these inputs failed when it was last run into %s", outputs.folder)
    return clips


def check_planned(clips: Iterable[Clip], models: Models, outputs: Outputs) -> Iterator[ClipResult]:
    """Open every clip and ask the models which they refuse, for a run that stops there."""
    stages = stages_of(models.options)
    loaded = False
    for clip in clips:
        result = result_of(clip, outputs)
        try:
            take = open_checked(clip.source, models.options)
        except Exception as error:
            result.fail(error)
        else:
            if not loaded:
                load_all(models, stages, outputs)
                loaded = True
            try:
                check_clip(take, stages, models)
            except Exception as error:
                result.fail(error)
        yield result
    if not loaded:
        load_all(models, stages, outputs)


def run_batch(
    clips: Iterable[Clip],
    models: Models,
    outputs: Outputs,
    journal: Journal,
    progress: Callable[[str], Progress],
    done: Callable[[ClipResult], None],
    max_tries: int | None = None,
) -> Counter[int]:
    """Run each clip; `progress(source)` gives the clip's progress callback, `done` gets each result. How often each
    exit code came about.

    Clips that another process works on come last, and are waited for. A clip that failed `max_tries` times is not tried
    again.
    """
    codes: Counter[int] = Counter()
    runner, later = ClipRunner(models, outputs), list[Clip]()

    def attempt(clip: Clip) -> bool:
        result = result_of(clip, outputs)

        def admit(dead: dict[str, Any] | None) -> None:
            if dead:
                journal.died(result, dead)
            if max_tries and (tries := journal.tries(clip.name)) >= max_tries:
                why = journal.known[clip.name].error.removeprefix(f"{clip.source}: ")
                raise QuarantineError(
                    f"{clip.source}: failed {tries} times, so it is left alone; mend it and raise --max-tries "
                    f"(last failure: {why})"
                )

        if not runner.run(result, progress(clip.source), admit):
            return False
        journal.add(result)
        codes[result.exit_code] += 1
        done(result)
        return True

    for clip in clips:
        if not attempt(clip):
            later.append(clip)
    if later:
        folder = outputs.folder / later[0].name
        log.warning("%d clips are in use, %s by %s; waiting", len(later), folder, owner_text(folder))
    while later:
        left = [clip for clip in later if not attempt(clip)]
        if len(left) == len(later):
            time.sleep(_POLL_S)
        later = left
    return codes


def exit_code(codes: Iterable[int]) -> int:
    """0 all well; the one code of what went wrong where every clip failed the same way; 1 some failed."""
    found = set(codes)
    if found <= {EXIT_OK}:
        return EXIT_OK
    return found.pop() if len(found) == 1 else EXIT_SOME_FAILED


def _check_writable(folder: Path) -> None:
    """InputError unless files can be made in `folder` (it is created)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        time_of_folder(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror}); choose another --out") from error
