"""`hmrkit export` and `hmrkit render`: files and pictures from a take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmrkit.cli import options as o
from hmrkit.cli.stages import TakeIn


def export(
    take: TakeIn,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into.")],
    formats: Annotated[str, typer.Option("--format", help="Comma-separated: npz, obj.")] = "npz,obj",
    body: o.BodyFile = None,
    gender: o.Gender = "neutral",
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    """Write every person's meshes and parameters as files."""
    from hmrkit.exporters import check_formats
    from hmrkit.output import export_take
    from hmrkit.pipeline import Models, Options
    from hmrkit.take import open_take

    o.start_logging(verbose)
    names = check_formats(formats)
    models = Models(Options(body=body, gender=gender, device=device))
    with o.progress_bar("") as progress:
        files = export_take(open_take(take), out, names, models, progress)
    for path in files:
        typer.echo(str(path))


def render(
    take: TakeIn,
    out: Annotated[Path, typer.Option("--out", "-o", help="Video to write (.mp4).")],
    sheet: Annotated[Path | None, typer.Option(help="Also a contact sheet (.png).")] = None,
    body: o.BodyFile = None,
    gender: o.Gender = "neutral",
    device: o.Device = "auto",
    batch_size: o.BatchSize = 8,
    verbose: o.Verbose = False,
) -> None:
    """Draw the meshes over the footage, with a view from the side."""
    from hmrkit.output import render_take
    from hmrkit.pipeline import Models, Options
    from hmrkit.take import open_take

    o.start_logging(verbose)
    models = Models(Options(body=body, gender=gender, device=device, batch_size=batch_size))
    with o.progress_bar("") as progress:
        files = render_take(open_take(take), out, sheet, models, progress)
    for path in files:
        typer.echo(str(path))
