"""`hmrkit train`: make the weights that ship, or better ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hmrkit.cli import options as o

app = typer.Typer(help="Train networks from motion capture.", no_args_is_help=True, rich_markup_mode=None)
Motion = Annotated[Path, typer.Option(help="Motion capture .npz (see the README, Training).")]


@app.command("lifter")
def lifter(
    motion: Motion,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints, weights and the curve.")],
    preset: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    steps: Annotated[int | None, typer.Option(help="Stop after so many steps (else the preset's).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    """Train the temporal lifter."""
    from hmrkit.device import resolve_device
    from hmrkit.training.lifter import train_lifter

    o.start_logging(verbose)
    typer.echo(str(train_lifter(motion, out, preset=preset, steps=steps, device=resolve_device(device), resume=resume)))


@app.command("evaluate-lifter")
def evaluate_lifter(
    motion: Motion,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights to measure (else those that ship).")] = None,
    device: o.Device = "auto",
) -> None:
    """Measure the lifter on the held-out clips: clean, martial arts alone, and with detector-like noise."""
    from hmrkit.device import resolve_device
    from hmrkit.lifters import load_lifter
    from hmrkit.training.lifter import evaluate_lifter as evaluate

    model = load_lifter("videopose3d", checkpoint=checkpoint, device=resolve_device(device))
    typer.echo(json.dumps(evaluate(model, motion), indent=1))
