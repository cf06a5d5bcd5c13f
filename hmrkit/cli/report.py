"""`hmrkit report`: what became of the clips of an output folder, of all its shards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmrkit.cli import options as o

app = typer.Typer(help="What became of a batch's clips: its journals (report*.jsonl) summed up.", no_args_is_help=True)
Out = Annotated[Path, typer.Argument(help="The folder that was given to `hmrkit run --out`.")]


@app.command()
def show(out: Out = Path("meshes"), as_json: o.AsJson = False) -> None:
    """How many clips are done, failed and left alone, of which kind, and what each worker did."""
    import json

    from hmrkit.batches.journal import latest, summarise

    summary = summarise(latest(out).values())
    if as_json:
        typer.echo(json.dumps(vars(summary), indent=1))
        return
    counts = ", ".join(f"{count} {status}" for status, count in sorted(summary.clips.items()))
    typer.echo(f"{sum(summary.clips.values())} clips: {counts}")
    typer.echo(f"{summary.frames} frames in {summary.seconds:.0f} s of work")
    for kind, count in summary.kinds.most_common():
        typer.echo(f"  {kind}: {count}")
    for worker, (clips, frames, seconds) in sorted(summary.workers.items()):
        typer.echo(f"  {worker}: {clips:.0f} clips, {frames / max(seconds, 1e-3):.1f} frames/s")


@app.command()
def failed(
    out: Out = Path("meshes"),
    sources: Annotated[bool, typer.Option("--sources", help="Only their inputs, for --input-list -.")] = False,
) -> None:
    """The clips that failed, by kind, with the reason. `hmrkit run --retry-failed` runs them again."""
    from hmrkit.batches.journal import failed_line, latest

    found = filter(failed_line, latest(out).values())
    for line in sorted(found, key=lambda line: (line.get("kind", ""), line["clip"])):
        if sources:
            typer.echo(line["source"])
        else:
            typer.echo(f"{line.get('kind', '')}\t{line['tries']} tries\t{line['clip']}\t{line.get('error', '')}")


@app.command()
def merge(
    out: Out = Path("meshes"),
    target: Annotated[Path | None, typer.Option("-o", help="JSON file to write. [default: OUT/report.json]")] = None,
) -> None:
    """One JSON file of all shards: the sums, and the last line of every clip."""

    from hmrkit.batches.journal import latest, summarise
    from hmrkit.files import write_json

    lines = latest(out)
    path = target or out / "report.json"
    write_json(path, {"summary": vars(summarise(lines.values())), "clips": list(lines.values())})
    typer.echo(str(path))
