"""`hmrkit bench`: speed and memory of the chain on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hmrkit.cli import options as o


@o.with_options()
def bench(
    video: Annotated[
        str, typer.Argument(help="A video, a folder of frames, or `calibrate`: PC-HMR's target and refit.")
    ],
    formats: Annotated[
        str | None, typer.Option("--format", help="Comma-separated. [default: npz,obj; npz with --params-only]")
    ] = None,
    render: Annotated[bool, typer.Option("--render/--no-render", help="Measure drawing, too.")] = False,
    against: Annotated[
        str | None, typer.Option(help="Compare --engine with this one, alternately, in the stages that see pixels.")
    ] = None,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Compare with LiteRT's BlazePose, smplx and trimesh, where they are installed."),
    ] = False,
    growth: Annotated[
        Path | None,
        typer.Option(help="Measure over frames, people and image size instead, and plot it as this PNG; seven runs."),
    ] = None,
    frames: Annotated[int, typer.Option(min=2, help="How many frames `calibrate` makes up.")] = 1000,
    *,
    options: dict[str, Any],
    given: frozenset[str],
    as_json: o.AsJson = False,
    verbose: o.Verbose = False,
) -> None:
    """Milliseconds per stage, frames per second and peak memory of the whole chain on one clip."""
    from hmrkit.benchmark.growth import measure_growth, plot_growth
    from hmrkit.benchmark.peers import compare_peers
    from hmrkit.benchmark.speed import benchmark_calibration, compare_engines, run_benchmark
    from hmrkit.errors import UsageError
    from hmrkit.exporters import choose_formats
    from hmrkit.options import Options

    o.start_logging(verbose)
    chosen = Options(**options)
    o.check_render(chosen, render)
    if video == "calibrate" and not Path(video).exists():
        if useless := sorted(given - {"video", "frames", "params_only", "as_json", "verbose"}):
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in useless)
            raise UsageError(f"bench calibrate makes up its own motion and has no use for {flags}; leave it out")
        facts = benchmark_calibration(frames, chosen.params_only)
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in facts["seconds"].items())
        line = (
            f"{frames} frames: {parts}; target and refit {facts['total_seconds']:.1f} s, "
            f"{facts['frames_per_second']:.0f} frames/s; {facts['threads']} threads, "
            f"peak RSS {facts['peak_rss_mib']:.0f} MiB"
        )
        typer.echo(json.dumps(facts, indent=1) if as_json else line)
        return
    measured = {"--against": against is not None, "--peers": peers, "--growth": growth is not None}
    if sum(measured.values()) > 1:
        wanted = ", ".join(name for name, here in measured.items() if here)
        raise UsageError(f"bench measures one thing at a time, got {wanted}; leave out all but one")
    if against is not None:
        facts = compare_engines(video, chosen, against)
        typer.echo(json.dumps(facts, indent=1) if as_json else _comparison(facts))
        return
    if peers:
        facts = compare_peers(video, chosen)
        typer.echo(json.dumps(facts, indent=1) if as_json else _beside_peers(facts))
        return
    if growth is not None:
        if growth.suffix.lower() != ".png":
            raise UsageError(f"--growth is a plot: wanted a name that ends in .png, got {growth}")
        rows = measure_growth(video, chosen)
        plot_growth(rows, growth)
        typer.echo(json.dumps(rows, indent=1) if as_json else _grown(rows, growth))
        return
    facts = run_benchmark(video, chosen, choose_formats(formats, chosen.params_only), render)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    size = f"{facts['size']}, {facts['frames']} frames, {facts['people']} people"
    table = Table(title=f"{facts['video']}  {size}, {facts['device']}")
    for heading in ("stage", "ms / frame", "ms / person-frame"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for name, row in facts["stages"].items():
        person = row["ms_per_person_frame"]
        table.add_row(name, f"{row['ms_per_frame']:.1f}", "-" if person is None else f"{person:.1f}")
    console = Console()
    console.print(table)
    gpu = "" if facts["peak_gpu_mib"] is None else f", peak GPU {facts['peak_gpu_mib']:.0f} MiB"
    console.print(
        f"{facts['fps']:.1f} frames/s with output, {facts['fps_without_output']:.1f} without, "
        f"decoding alone {facts['decode_fps']:.0f}; peak RSS {facts['peak_rss_mib']:.0f} MiB{gpu}"
    )


def _comparison(facts: dict[str, Any]) -> str:
    own, other = facts["engines"]
    return "\n".join(
        f"{name}: {own} {row['ms_per_frame']:.1f} ms a frame, {other} {row['against_ms_per_frame']:.1f}: "
        f"{row['ratio']:.2f} times as long ({row['spread'][0]:.2f} to {row['spread'][1]:.2f})"
        for name, row in facts["stages"].items()
    )


def _beside_peers(facts: dict[str, Any]) -> str:
    return "\n".join(
        f"{name}: not compared with {row['peer']}: {row['skipped']}"
        if "skipped" in row
        else f"{name}: hmrkit {row['ms']:.1f} ms, {row['peer']} {row['peer_ms']:.1f}: {row['ratio']:.2f} times as long "
        f"({row['spread'][0]:.2f} to {row['spread'][1]:.2f})"
        for name, row in facts.items()
    )


def _grown(rows: list[dict[str, Any]], plot: Path) -> str:
    lines = [f"{'varied':<8}{'size':>11}{'frames':>8}{'people':>8}{'ms / frame':>12}{'seconds':>9}"]
    lines += [
        f"{row['varied']:<8}{row['size']:>11}{row['frames']:>8}{row['people']:>8}{row['ms_per_frame']:>12.1f}"
        f"{row['ms'] / 1e3:>9.2f}"
        for row in rows
    ]
    return "\n".join([*lines, str(plot)])
