"""Flags that several subcommands share: those of a run, made from its options; progress bar and logging."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from hmrkit.cli.help_groups import completion, group_of
from hmrkit.errors import UsageError
from hmrkit.options import OPTIONS, Options

if TYPE_CHECKING:
    from hmrkit.pipeline import Progress

Command = TypeVar("Command", bound=Callable[..., Any])
# For commands that have a few of them and no run.
Device = Annotated[str, typer.Option(help=OPTIONS["device"].text)]
Gender = Annotated[str, typer.Option(help="neutral, male or female.")]
Start = Annotated[str | None, typer.Option(help=OPTIONS["start"].text)]
End = Annotated[str | None, typer.Option(help=OPTIONS["end"].text)]
Every = Annotated[int, typer.Option(help=OPTIONS["every"].text)]
Video = Annotated[str | None, typer.Option("--video", help="The take's clip, where it was moved or renamed.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show tracebacks.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of paths.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do everything again instead of resuming.")]


def with_options(*subcommands: str, without: tuple[str, ...] = (), **changed: Any) -> Callable[[Command], Command]:
    """Give a command the flags of `hmrkit.options.OPTIONS` that these `subcommands` have (none named: all).

    The command gets what was chosen as one dictionary, ``options``, and in ``given``, where it has that parameter, the
    names of all parameters that the user gave. `changed` are flags of another default or name.
    """
    hints = get_type_hints(Options)
    names = [
        name
        for name, facts in OPTIONS.items()
        if name not in without and (not subcommands or set(subcommands) & {*facts.changes, *facts.also})
    ]

    def decorate(command: Command) -> Command:
        every = inspect.signature(command, eval_str=True).parameters.values()
        own = [p for p in every if p.name not in ("options", "given")]
        wants_given = any(p.name == "given" for p in every)
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        flags = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=changed.get(name, (getattr(Options, name),))[0],
                annotation=Annotated[
                    hints[name],
                    typer.Option(
                        *changed.get(name, (None,))[1:],
                        help=OPTIONS[name].text,
                        rich_help_panel=group_of(OPTIONS[name]),
                        autocompletion=completion(OPTIONS[name]),
                    ),
                ],
            )
            for name in names
        ]

        @functools.wraps(command)
        def called(context: typer.Context, **values: Any) -> Any:
            chosen = {name: values.pop(name) for name in names}
            if wants_given:
                values["given"] = given_of(context)
            return command(**values, options=chosen)

        parameters = [context, *[p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]]
        called.__signature__ = inspect.Signature([*parameters, *flags])  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in (context, *own, *flags)}
        return called  # type: ignore[return-value]

    return decorate


def given_of(context: typer.Context) -> frozenset[str]:
    """The names of the parameters that the user gave."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, source in sources.items() if source and source.name == "COMMANDLINE")


def check_render(chosen: Options, render: bool) -> None:
    """UsageError where options and ``--render``, given or not, do not go together."""
    if chosen.params_only and render:
        raise UsageError("--params-only makes no vertices, which --render draws; leave one out")
    if chosen.renderer != "auto" and not render:
        raise UsageError("--renderer is for --render, which is not here; leave it out, or add --render")


def start_logging(verbose: bool) -> None:
    """Messages to standard error: warnings, or everything with -v."""
    logging.basicConfig(stream=sys.stderr, format="hmrkit: %(message)s", level=logging.WARNING)
    logging.getLogger("hmrkit").setLevel(logging.DEBUG if verbose else logging.WARNING)


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A bar on standard error where that is a terminal, else nothing; yields the pipeline's progress callback."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from hmrkit.batches.watching import Bars

    with Bars() as bars:
        yield bars.progress(title)
