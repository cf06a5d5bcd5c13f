"""`hmrkit view`: a take to look at in a browser, served from here or as one file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from hmrkit.cli import options as o
from hmrkit.cli.stages import TakeIn


@o.with_options("view")
def view(
    take: TakeIn,
    html: Annotated[
        Path | None, typer.Option(help="Write one file that needs no server and no network, instead of serving.")
    ] = None,
    footage: Annotated[int, typer.Option(help="Pack the footage into the file too, this many pixels wide; 0: no.")] = 0,
    against: Annotated[
        str | None, typer.Option(help="Another take of the same clip, over the first or beside it.")
    ] = None,
    people: Annotated[str, typer.Option(help="all, or numbers of people: 1,3.")] = "all",
    space: Annotated[str, typer.Option(help="world: on a ground found from the people; or camera.")] = "world",
    host: Annotated[
        str, typer.Option(help="Address to serve at; 0.0.0.0: for all who have the printed address.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to serve at.")] = 8080,
    video: o.Video = None,
    *,
    options: dict[str, Any],
    verbose: o.Verbose = False,
) -> None:
    """Look at a take in a browser: timeline, people, generator, lifted and calibrated, joint paths, from all sides.

    With --against, two takes of one clip over each other or side by side: people are matched by their boxes, each take
    has a colour, and frames are the first take's. In the page, `?` lists the keys of the file; a folder those served.
    """
    from hmrkit.errors import UsageError
    from hmrkit.members import check_number
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import adopted
    from hmrkit.scene.build import parse_people
    from hmrkit.take import open_take
    from hmrkit.viewing.against import make_pair, short_names
    from hmrkit.viewing.clip import make_clip
    from hmrkit.viewing.page import write_page
    from hmrkit.viewing.server import LivePage, require_viser

    o.start_logging(verbose)
    chosen = parse_people(people)
    check_number("--footage", footage, (0, 16384))
    check_number("--port", port, (0, 65535))
    if html is None:
        require_viser()
    if footage and html is None:
        raise UsageError("--footage is the width of the footage in the file that --html writes; give both")
    if take == against == "-":
        raise UsageError("standard input holds one take; name the other as a file")
    opened = [open_take(source, video) for source in (take, against) if source is not None]
    models = [Models(adopted(Options(**options), one, ())) for one in opened]
    if against is None:
        clip, other = make_clip(opened[0], models[0], chosen, space), None
    else:
        names = short_names(take, against)
        clip, other = make_pair((opened[0], opened[1]), (models[0], models[1]), names, chosen, space)
    if html is not None:
        with o.progress_bar("") as progress:
            typer.echo(str(write_page(clip, html, models[0], footage, progress, other)))
        return
    page = LivePage(clip, models[0], host, port, other)
    typer.echo(page.url)
    typer.echo("hmrkit: Ctrl-C ends it", err=True)
    with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
        page.run()
