"""`hmrkit doctor`: would the main job run on this machine, and what to do where it would not."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from hmrkit.cli import options as o


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the short run of the default chain.")] = False,
    device: o.Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for bug reports.")] = False,
) -> None:
    """Examine Python, packages, GPU, engines, codecs, weights, disk and memory, and run the default chain briefly.

    One line each: ok, missing or broken, and what to do. Exit code 0 where `hmrkit run CLIP` would run, else 1.
    """
    from dataclasses import asdict

    from hmrkit import __version__
    from hmrkit.benchmark.doctor import Finding, examine, would_run

    def line(finding: Finding) -> str:
        if finding.state == "ok":
            return f"{finding.name:15s} ok       {finding.facts}"
        optional = "" if finding.needed else "not needed by `hmrkit run CLIP`; "
        return f"{finding.name:15s} {finding.state:8s} {finding.facts} ({optional}{finding.todo})"

    findings = []
    for finding in examine(quick, device):
        findings.append(finding)
        if not as_json:
            typer.echo(line(finding))
    well = would_run(findings)
    if as_json:
        facts = {"hmrkit": __version__, "would_run": well, "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(facts, indent=1))
    else:
        typer.echo(f"`hmrkit run CLIP` {'would run' if well else 'would not run'} here")
    raise typer.Exit(0 if well else 1)
