"""`hmrkit list` and `hmrkit info`: what there is to choose, and what is in a take or a video."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hmrkit.cli import options as o

FAMILIES = (
    "methods", "detectors", "trackers", "keypoints", "backbones", "regressors", "lifters", "exporters", "datasets",
    "protocols",
)  # fmt: skip


def list_choices(
    family: Annotated[str | None, typer.Argument(help=f"One of {', '.join(FAMILIES)}; else all.")] = None,
    as_json: o.AsJson = False,
) -> None:
    """List methods and the members of every family, with licences."""
    from importlib import import_module

    from hmrkit.errors import UsageError
    from hmrkit.pipeline import METHODS

    if family is not None and family not in FAMILIES:
        raise UsageError(f"no family {family!r}; there are {', '.join(FAMILIES)}")
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for name in FAMILIES if family is None else (family,):
        if name == "methods":
            tables[name] = {method: {"summary": summary} for method, summary in METHODS.items()}
        elif name == "protocols":
            from hmrkit.protocols import PROTOCOLS

            tables[name] = {protocol: {"summary": p.summary} for protocol, p in PROTOCOLS.items()}
        else:
            members = getattr(import_module(f"hmrkit.{name}"), name.upper())
            tables[name] = {m: {"summary": s.summary, "licence": s.licence} for m, s in members.items()}
    if as_json:
        typer.echo(json.dumps(tables, indent=1))
        return
    for name, members in tables.items():
        typer.echo(f"{name}:")
        for member, facts in members.items():
            licence = f"  [{facts['licence']}]" if facts.get("licence") else ""
            typer.echo(f"  {member:18s} {facts['summary']}{licence}")


def info(
    path: Annotated[str, typer.Argument(help="A take, a video, or - for a take on standard input.")],
    as_json: o.AsJson = False,
) -> None:
    """Say what is in a take or a video."""
    from hmrkit.output import report
    from hmrkit.pipeline import Options, open_clip
    from hmrkit.take import open_take

    take = open_take(path) if path == "-" or path.endswith(".npz") else open_clip(path, Options())
    facts = report(take)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        if key == "people":
            for person in value:
                typer.echo("  person " + "  ".join(f"{k}={v}" for k, v in person.items()))
        else:
            typer.echo(f"{key:22s} {value}")
