"""The `hmrkit` application: what subcommands there are."""

from __future__ import annotations

from typing import Annotated

import typer

from hmrkit import __version__
from hmrkit.cli import (
    bench,
    compare,
    convert_body,
    cut,
    docs,
    doctor,
    evaluate,
    export,
    import_results,
    info,
    list_choices,
    plot,
    report,
    rig,
    run,
    stages,
    submit,
    train,
    view,
    weights,
)
from hmrkit.cli.examples import BEGIN, SHORT, epilog
from hmrkit.cli.help_groups import GroupedCommand

app = typer.Typer(
    name="hmrkit",
    epilog=BEGIN,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hmrkit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Video in, 3D meshes of the people in it out.

    Stages chain through takes in files or pipes: detect | track | pose | regress | lift | calibrate; `run` is their
    chain; `import` makes a take of another tool's results, `convert-body` puts one on another body model; `cut`,
    `merge` and `info` work on takes.

    Exit codes: 0 all well, 1 some inputs failed, 2 usage, 3 missing weights, 4 bad input;
    130, 129 and 143 where Ctrl-C, SIGHUP or SIGTERM ended it, 124 where --time-limit did.
    """


_COMMANDS = {
    "run": run.run,
    **{name: getattr(stages, name) for name in ("detect", "track", "pose", "regress", "lift", "calibrate")},
    "export": export.export,
    "render": export.render,
    "view": view.view,
    "import": import_results.import_results,
    "convert-body": convert_body.convert_body,
    "cut": cut.cut,
    "merge": cut.merge,
    "list": list_choices.list_choices,
    "info": info.info,
    "plot": plot.plot,
    "compare": compare.compare,
    "bench": bench.bench,
    "doctor": doctor.doctor,
    "docs": docs.docs,
    "eval": evaluate.evaluate,
}
for _name, _command in _COMMANDS.items():
    app.command(_name, cls=GroupedCommand, epilog=epilog(_name), short_help=SHORT.get(_name))(_command)
app.add_typer(report.app, name="report", short_help=SHORT["report"])
app.add_typer(submit.app, name="submit")
app.add_typer(rig.app, name="rig", short_help=SHORT["rig"])
app.add_typer(train.app, name="train")
app.add_typer(weights.app, name="weights")
