"""`hmrkit run`: videos in, meshes out."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrkit.cli import options as o
from hmrkit.exporters import EXPORTERS

if TYPE_CHECKING:
    from hmrkit.batch import ClipResult


@o.with_options()
def run(
    inputs: Annotated[list[str] | None, typer.Argument(help="Videos, or folders of frames.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results: one folder a clip.")] = Path("meshes"),
    input_list: Annotated[str | None, typer.Option(help="File with one input a line, or - for standard input.")] = None,
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
    as_json: o.AsJson = False,
    verbose: o.Verbose = False,
) -> None:
    """Turn videos into meshes of the people in them. The same command resumes a run that was interrupted."""
    from hmrkit.batch import Outputs, check_planned, exit_code, plan, run_batch
    from hmrkit.errors import UsageError
    from hmrkit.exporters import choose_formats
    from hmrkit.models import Models
    from hmrkit.options import Options, changing
    from hmrkit.pipeline import stages_of

    o.start_logging(verbose)
    chosen = Options(**options)
    if chosen.params_only and render:
        raise UsageError("--params-only makes no vertices, which --render draws; leave one out")
    outputs = Outputs(out, choose_formats(formats, chosen.params_only), render, overwrite)
    planned = plan([*(inputs or []), *_listed(input_list)], chosen, outputs)
    reported = {result.error for result, _ in planned if result.error}
    for line in sorted(reported):
        sys.stderr.write(f"hmrkit: {line}\n")
    if dry_run:
        check_planned(planned, Models(chosen))
        for line in sorted({result.error for result, _ in planned if result.error} - reported):
            sys.stderr.write(f"hmrkit: {line}\n")
        for stage in stages_of(chosen):
            settings = " ".join(f"{name}={getattr(chosen, name)}" for name in changing(stage))
            sys.stderr.write(f"hmrkit: {stage} {settings}\n")
        results = [result for result, _ in planned]
        for result in results:
            _tell(result, as_json)
        raise typer.Exit(exit_code(results))

    with contextlib.ExitStack() as stack:

        def progress(source: str):
            stack.close()
            return stack.enter_context(o.progress_bar(Path(source).name))

        def done(result: ClipResult) -> None:
            stack.close()
            if result.error and result.error not in reported:
                sys.stderr.write(f"hmrkit: {result.error}\n")
            if not as_json:
                _tell(result, as_json)

        results = run_batch(planned, chosen, outputs, progress, done)
    if as_json:
        typer.echo(json.dumps({"clips": [r.as_json() for r in results]}, indent=1))
    raise typer.Exit(exit_code(results))


def _tell(result: ClipResult, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.as_json()))
    else:
        for path in result.files:
            typer.echo(str(path))


def _listed(source: str | None) -> list[str]:
    from hmrkit.errors import InputError

    if source is None:
        return []
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot read the list of inputs ({error.strerror})") from error
    text = os.fsdecode(data)  # names are bytes: one that is no UTF-8 can still be opened
    return [line.strip() for line in text.split("\n") if line.strip()]
