"""`hmrkit list`: what there is to choose, as tables."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrkit.cli import options as o

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 200  # characters, where the output is no terminal
# Headings of what `hmrkit train figures` wrote of methods, and its names there.
MEASURED = {
    "MPJPE / PA / PVE mm": ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm"),
    "parameters (own), millions": ("parameters_m", "own_parameters_m"),
    "GFLOPs": ("gflops",),
    "ms a crop": ("ms_per_crop",),
}

FAMILIES = (
    "methods", "detectors", "trackers", "keypoints", "backbones", "regressors", "lifters", "exporters", "datasets",
    "protocols", "results",
)  # fmt: skip


def list_choices(
    family: Annotated[str | None, typer.Argument(help=f"One of {', '.join(FAMILIES)}; else all.")] = None,
    for_tests: Annotated[bool, typer.Option("--all", help="Also what is there for tests.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """List methods and the members of every family, with licences."""
    from importlib import import_module

    from hmrkit.members import unknown, visible
    from hmrkit.options import METHODS
    from hmrkit.weights import shipped_figures

    if family is not None and family not in FAMILIES:
        raise unknown("family", family, FAMILIES)
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for name in FAMILIES if family is None else (family,):
        if name == "methods":
            methods = METHODS if for_tests else visible(METHODS)
            measured = shipped_figures()
            tables[name] = {method: {"summary": m.summary, **measured.get(method, {})} for method, m in methods.items()}
        elif name == "protocols":
            from hmrkit.evaluation.protocols import PROTOCOLS

            tables[name] = {protocol: {"summary": p.summary} for protocol, p in PROTOCOLS.items()}
        else:
            members = getattr(import_module(f"hmrkit.{name}"), name.upper())
            members = members if for_tests else visible(members)
            tables[name] = {m: {"summary": s.summary, "licence": s.licence} for m, s in members.items()}
    if "datasets" in tables:  # no dataset, but `hmrkit eval --dataset` takes it
        tables["datasets"]["plausibility"] = {"summary": "any clips (--data CLIP...), without truth", "licence": ""}
    if as_json:
        typer.echo(json.dumps(tables, indent=1))
        return
    from rich.console import Console

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH)
    for name, members in tables.items():
        console.print(_table(name, members))


def _table(family: str, members: dict[str, dict[str, Any]]) -> Table:
    """A line for each member: measured figures where there are some, what it is, its licence."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=family, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    columns = {head: keys for head, keys in MEASURED.items() if any(keys[0] in facts for facts in members.values())}
    for head in columns:
        table.add_column(head, justify="right")
    table.add_column("what")
    texts = ["summary"]
    if any(facts.get("licence") for facts in members.values()):
        table.add_column("licence")
        texts.append("licence")
    for member, facts in members.items():
        figures = [" / ".join(f"{facts[key]}" for key in keys if key in facts) for keys in columns.values()]
        table.add_row(member, *figures, *(escape(facts.get(head, "")) for head in texts))
    if columns:
        devices = {facts["device"] for facts in members.values() if "device" in facts}
        table.caption = (
            f"errors on single synthetic images, where fit, made for whole tracks, does worse than on footage "
            f"(hmrkit docs accuracy); ms a crop on {', '.join(sorted(devices))}"
        )
    return table
