"""`hmrkit import`: another tool's results as a take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hmrkit.cli import options as o
from hmrkit.cli.stages import TakeOut, check_outputs, write_take
from hmrkit.options import OPTIONS


def import_results(
    results: Annotated[str, typer.Argument(help="A file or folder of results, see: hmrkit list results.")],
    out: TakeOut,
    video: Annotated[str, typer.Option(help="The clip that they are of: a video, or a folder of frames.")],
    space: Annotated[
        str | None,
        typer.Option(help="camera or world, of which tools give both; world: before a camera that stands still."),
    ] = None,
    focal: Annotated[float | None, typer.Option(help="Focal length in pixels where the results do not say it.")] = None,
    fov: Annotated[float | None, typer.Option(help="The same as a field of view, see hmrkit run.")] = None,
    fps: Annotated[float | None, typer.Option(help=OPTIONS["fps"].text)] = None,
    smooth: Annotated[float, typer.Option(help="Take jitter out of the bodies, without delay: 0 is off.")] = 0.0,
    body: Annotated[str | None, typer.Option(help=OPTIONS["body"].text)] = None,
    gender: Annotated[str | None, typer.Option(help="neutral, male or female; else that of the results.")] = None,
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    """Make a take of another tool's results, for export, render, view, cut and merge.

    To calibrate or refine them: hmrkit run CLIP --mesh file:RESULTS.
    """
    from hmrkit.errors import UsageError
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.results.formats import read_results
    from hmrkit.results.imported import import_take
    from hmrkit.video import probe

    o.start_logging(verbose)
    check_outputs(out)
    options = Options(body=body, device=device, smooth=smooth, focal=focal, fov=fov, fps=fps)
    if fps is not None and Path(video).is_file():
        raise UsageError(f"--fps is the rate of a folder of frames; {video} is a file with its own, leave --fps out")
    clip = probe(video, fps=fps, keep_numbers=False)
    _, found = read_results(results, clip, space)
    models = Models(replace(options, gender=gender or found.gender))
    write_take(import_take(results, found, clip, models.body, smooth, focal, fov), out)
