"""`hmrkit cut` and `hmrkit merge`: fewer people and frames of a take; several takes of one clip as one."""

from __future__ import annotations

from typing import Annotated

import typer

from hmrkit.cli import options as o
from hmrkit.cli.stages import TakeIn, TakeOut, write_take


def cut(
    take: TakeIn,
    out: TakeOut,
    people: Annotated[str, typer.Option(help="all, or numbers of people: 1,3.")] = "all",
    start: o.Start = None,
    end: o.End = None,
    every: o.Every = 1,
    verbose: o.Verbose = False,
) -> None:
    """Keep some people and frames of a take, bit for bit as they are."""
    from hmrkit.scene.build import parse_people
    from hmrkit.take import open_take
    from hmrkit.take.editing import cut_take
    from hmrkit.video import frame_number

    o.start_logging(verbose)
    chosen, whole = parse_people(people), open_take(take)
    video = whole.video
    first, last = frame_number(start, "--start", video), frame_number(end, "--end", video)
    write_take(cut_take(whole, chosen, first, last, every), out)


def merge(
    takes: Annotated[list[str], typer.Argument(help="Takes of one clip; one of them may be - for standard input.")],
    out: TakeOut,
    renumber: Annotated[
        bool, typer.Option("--renumber", help="Give people of later takes new numbers instead of joining namesakes.")
    ] = False,
    verbose: o.Verbose = False,
) -> None:
    """Join takes of one clip: their frames, their people, or both."""
    from hmrkit.errors import UsageError
    from hmrkit.take import open_take
    from hmrkit.take.editing import merge_takes

    o.start_logging(verbose)
    if takes.count("-") > 1:
        raise UsageError("standard input holds one take; name the others as files")
    write_take(merge_takes([open_take(take) for take in takes], takes, renumber), out)
