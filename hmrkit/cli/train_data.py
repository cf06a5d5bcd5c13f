"""`hmrkit train examples|poses|preview`: what networks learn from, made ahead and shown."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from hmrkit.backbones import BACKBONES
from hmrkit.cli import options as o


def make_examples(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of kept examples, for --examples of a training.")],
    count: Annotated[int, typer.Option(min=1, help="How many; those that are there count.")],
    backbone: Annotated[str, typer.Option(help=f"One of {', '.join(BACKBONES)}.")] = "embedded",
    pyramid: Annotated[bool, typer.Option("--pyramid", help="Keep the map at stride 4, too: 0.5 MB an image.")] = False,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Side by side, one thread each (else a core each).")
    ] = None,
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    """Render images and keep what the backbone's frozen part makes of them; goes on where it stopped."""
    from hmrkit.device import resolve_device
    from hmrkit.training.kept_examples import make_side_by_side

    o.start_logging(verbose)
    chosen = resolve_device(device)
    runs = processes or (len(os.sched_getaffinity(0)) if chosen.type == "cpu" else 1)
    make_side_by_side(out, count, backbone, str(chosen), runs, pyramid)
    typer.echo(str(out))


def poses(
    out: Annotated[Path, typer.Option("--out", "-o", help="The plot, a PNG.")],
    source: Annotated[Path | None, typer.Option(help="Another motion file (else the poses that ship).")] = None,
    count: Annotated[int, typer.Option(min=100, help="How many people are drawn.")] = 20_000,
) -> None:
    """Percentiles of joint angles of the people that training draws, who stand, and of the benchmark."""
    from hmrkit.synthetic.cameras import TRAINING, Difficulty
    from hmrkit.synthetic.pose_statistics import PERCENTILES, pose_percentiles, save_percentiles_png
    from hmrkit.synthetic.poses import PoseSampler

    people = {
        "training": (PoseSampler("train", source=source), TRAINING),
        "standing (held out)": (PoseSampler("test", everyday=1.0, source=source), Difficulty()),
        "benchmark (held out)": (PoseSampler("test"), Difficulty()),
    }
    of = {name: pose_percentiles(sampler, cameras, count) for name, (sampler, cameras) in people.items()}
    save_percentiles_png(of, out)
    typer.echo(json.dumps({"percentiles": PERCENTILES, "degrees": of}, indent=1))
    typer.echo(str(out))


def preview(
    out: Annotated[Path, typer.Option("--out", "-o", help="The contact sheet, a PNG.")],
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    seed: Annotated[int, typer.Option(help="The same seed shows the same samples.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many samples.")] = 32,
    device: o.Device = "auto",
) -> None:
    """Show synthetic images with their joints (green visible, yellow self-hidden, red hidden) and body parts."""
    from hmrkit.device import resolve_device
    from hmrkit.errors import UsageError
    from hmrkit.synthetic.preview import write_preview

    if split not in ("train", "test"):
        raise UsageError(f"--split must be train or test, got {split!r}")
    write_preview(out, split, seed, count, str(resolve_device(device)))
    typer.echo(str(out))
