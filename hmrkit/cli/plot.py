"""`hmrkit plot`: curves of the people of a take over time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hmrkit.cli import options as o
from hmrkit.cli.stages import TakeIn

WHAT = "angles,heights,speed,contact,confidence"


@o.with_options("info")
def plot(
    take: TakeIn,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into.")],
    what: Annotated[str, typer.Option(help="Comma-separated: what to plot.")] = WHAT,
    people: Annotated[str, typer.Option(help="all, or numbers of people: 1,3.")] = "all",
    formats: Annotated[
        str, typer.Option("--format", help="Comma-separated, of: png, svg, csv (a column a curve).")
    ] = "png",
    axis: Annotated[str, typer.Option(help="Of the plots: seconds from the clip's start, or frames.")] = "seconds",
    *,
    options: dict[str, Any],
    verbose: o.Verbose = False,
) -> None:
    """Plot joint angles, heights, speed, standing feet and confidence over time, a file a person and kind."""
    from hmrkit.errors import UsageError
    from hmrkit.members import names_of
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import adopted
    from hmrkit.scene.build import parse_people
    from hmrkit.take import open_take
    from hmrkit.viewing.person_curves import curves_of
    from hmrkit.viewing.plots import check_axis, choose_formats, write_curves

    o.start_logging(verbose)
    chosen, kinds = parse_people(people), names_of(what)
    if not kinds:
        raise UsageError(f"--what wants some of {WHAT}, got {what!r}")
    check_axis(axis)
    written = choose_formats(formats)
    opened = open_take(take)
    models = Models(adopted(Options(**options, device="cpu"), opened, ()))
    for curves in curves_of(opened, models, kinds, chosen):
        for path in write_curves(curves, out, written, axis):
            typer.echo(str(path))
