"""`hmrkit run`: videos in, meshes out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrkit.cli import options as o
from hmrkit.exporters import EXPORTERS

if TYPE_CHECKING:
    from hmrkit.batches.naming import Clip
    from hmrkit.batches.result import ClipResult, Outputs
    from hmrkit.models import Models


@o.with_options()
def run(
    inputs: Annotated[list[str] | None, typer.Argument(help="Videos, or folders of frames.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results: one folder a clip.")] = Path("meshes"),
    input_list: Annotated[str | None, typer.Option(help="File with one input a line, or - for standard input.")] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Clips' folders are named by their paths under this one. [default: the inputs' common one]"),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="I/N, I from 1: every N-th input; auto: by SLURM_ARRAY_TASK_ID, or RANK and WORLD_SIZE."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Only the inputs that failed when they were last run.")
    ] = False,
    max_tries: Annotated[
        int | None, typer.Option(min=1, help="Leave a clip alone that failed so many times. [default: never]")
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Stop in time, to go on later: 3h50m; auto: a minute before the Slurm job ends.")
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"Comma-separated, of: {', '.join(EXPORTERS)}. [default: npz,obj; npz with --params-only]",
        ),
    ] = None,
    render: Annotated[
        str | None, typer.Option(help="Also draw NAME.mp4 and NAME_sheet.png in each clip's folder.")
    ] = None,
    overwrite: o.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check inputs, weights and outputs, then stop.")] = False,
    *,
    options: dict[str, Any],
    progress: Annotated[
        str, typer.Option(help="auto (a table on a terminal, else a line now and then), plain, json, openjd or none.")
    ] = "auto",
    as_json: o.AsJson = False,
    verbose: o.Verbose = False,
) -> None:
    """Turn videos into meshes of the people in them. The same command resumes a run that was interrupted."""
    from hmrkit.batches.journal import Journal
    from hmrkit.batches.result import Outputs
    from hmrkit.batches.running import Choice, exit_code, plan, run_batch
    from hmrkit.batches.shards import parse_shard
    from hmrkit.batches.stopping import end_after
    from hmrkit.batches.watching import watch_batch
    from hmrkit.batches.workers import ALL_GPUS, Workers, all_gpus, run_workers
    from hmrkit.exporters import choose_formats
    from hmrkit.models import Models
    from hmrkit.options import Options

    o.start_logging(verbose)
    end_after(time_limit)
    chosen = Options(**options)
    o.check_render(chosen, bool(render))
    outputs = Outputs(out, choose_formats(formats, chosen.params_only), render, overwrite)
    choice = Choice(root, parse_shard(shard), retry_failed, max_tries)
    clips = plan([*(inputs or []), *listed(input_list)], chosen, outputs, choice)
    watch = watch_batch(len(clips), progress)
    devices = all_gpus() if chosen.device == ALL_GPUS else []
    if dry_run:
        first = replace(chosen, device=devices[0]) if devices else chosen
        raise typer.Exit(_check(clips, Models(first), outputs, as_json))
    entries: list[dict[str, Any]] = []

    def done(result: ClipResult) -> None:
        if result.error:
            sys.stderr.write(f"hmrkit: {result.error}\n")
        if as_json:
            entries.append(result.as_json())
        else:
            for path in result.files:
                typer.echo(str(path))

    def watched(result: ClipResult) -> None:
        watch.done(result)
        done(result)

    label = choice.shard.label
    with watch:
        if devices:
            codes = run_workers(clips, Workers(chosen, outputs, devices, label, max_tries), watch, done)
        else:
            models = Models(chosen)
            journal = Journal(out, label, str(models.device))
            codes = run_batch(clips, models, outputs, journal, watch.progress, watched, max_tries)
    if as_json:
        typer.echo(json.dumps({"clips": entries}, indent=1))
    raise typer.Exit(exit_code(codes))


def _check(clips: Sequence[Clip], models: Models, outputs: Outputs, as_json: bool) -> int:
    """``--dry-run``: open every input, load the models, and show what was chosen; the exit code."""
    from hmrkit.batches.running import check_planned, exit_code
    from hmrkit.options import changing
    from hmrkit.pipeline import stages_of

    codes = []
    for result in check_planned(clips, models, outputs):
        codes.append(result.exit_code)
        if result.error:
            sys.stderr.write(f"hmrkit: {result.error}\n")
        if as_json:
            typer.echo(json.dumps(result.as_json()))
    for stage in stages_of(models.options):
        settings = " ".join(f"{name}={getattr(models.options, name)}" for name in changing(stage))
        sys.stderr.write(f"hmrkit: {stage} {settings}\n")
    return exit_code(codes)


def listed(source: str | None) -> list[str]:
    """The inputs that a list names; - is standard input, None no list. InputError where it cannot be read."""
    from hmrkit.errors import InputError

    if source is None:
        return []
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot read the list of inputs ({error.strerror})") from error
    text = os.fsdecode(data)  # names are bytes: one that is no UTF-8 can still be opened
    return [line.strip() for line in text.split("\n") if line.strip()]
