"""`hmrkit compare`: how far two takes of one clip are apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrkit.cli import options as o

if TYPE_CHECKING:
    from hmrkit.viewing.difference import Difference


@o.with_options("info")
def compare(
    first: Annotated[str, typer.Argument(help="A take.")],
    second: Annotated[str, typer.Argument(help="Another take of the same clip.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for each person's distances over time, .png and .csv.")
    ] = None,
    strip: Annotated[bool, typer.Option("--strip", help="Also strip.png there: both takes over the footage.")] = False,
    video: o.Video = None,
    *,
    options: dict[str, Any],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    verbose: o.Verbose = False,
) -> None:
    """Compare the people of two takes of one clip joint by joint, to choose a method on footage of your own.

    People are matched by their boxes. Distances are means over the frames that both have, in mm: aligned, with both
    pelvises in one place, and placed, as they stand before the camera. They say how far apart takes are, not which one
    is right.
    """
    from hmrkit.errors import InputError, UsageError
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import adopted
    from hmrkit.take import open_take
    from hmrkit.viewing.difference import differences, write_strip
    from hmrkit.viewing.plots import write_curves

    o.start_logging(verbose)
    if strip and out is None:
        raise UsageError("--strip wants a folder to write into; add --out FOLDER")
    if first == second == "-":
        raise UsageError("standard input holds one take; name the other as a file")
    takes = [open_take(source, video) for source in (first, second)]
    models = [Models(adopted(Options(**options, device="cpu"), take, ())) for take in takes]
    found, alone = differences(takes, models)
    for source, people in zip((first, second), alone, strict=True):
        if people:
            numbers = ", ".join(map(str, people))
            typer.echo(f"hmrkit: {source}: nobody in the other take is where these people are: {numbers}", err=True)
    if not found:
        raise InputError(f"{first} and {second}: nobody is in both takes; are they of the same part of the clip?")
    if as_json:
        typer.echo(json.dumps({"people": [d.as_json() for d in found], "unmatched": alone}, indent=1))
    else:
        _print_table(found)
    if out is None:
        return
    made = []
    for difference in found:
        made += write_curves(difference.curves(f"{first} against {second}"), out, ("png", "csv"))
    if strip:
        made.append(write_strip(takes, models, found, (first, second), out / "strip.png"))
    for path in made:
        typer.echo(str(path), err=as_json)


def _print_table(found: list[Difference]) -> None:
    from rich.console import Console
    from rich.table import Table

    facts = [difference.as_json() for difference in found]
    table = Table(title="mm apart, mean over frames: aligned by the pelvis / as placed")
    table.add_column("joint")
    for person in facts:
        table.add_column(f"{person['first']} and {person['second']} ({person['frames']} frames)", justify="right")
    for joint in facts[0]["aligned_mm"]:
        cells = [f"{person['aligned_mm'][joint]:.1f} / {person['placed_mm'][joint]:.1f}" for person in facts]
        table.add_row(joint, *cells, end_section=joint == "right_hand")
    Console(width=max(80, 20 + 26 * len(facts))).print(table)
