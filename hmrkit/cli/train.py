"""`hmrkit train`: make the weights that ship, or better ones. What is not training stands beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmrkit.cli import options as o
from hmrkit.cli.ablate import ablate
from hmrkit.cli.train_data import make_examples, poses, preview
from hmrkit.cli.train_measures import LifterName, Motion, evaluate_lifter, figures, graphs, ship, uncertainty
from hmrkit.lifters import LIFTERS
from hmrkit.options import OPTIONS, Options
from hmrkit.regressors import REGRESSORS
from hmrkit.training.recipes import trainable

app = typer.Typer(
    help="Train networks from motion capture and synthetic images.", no_args_is_help=True, rich_markup_mode=None
)
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints, weights and the curve.")]
Preset = Annotated[str, typer.Option(help="cpu or gpu.")]
Steps = Annotated[int | None, typer.Option(min=0, help="Stop after so many steps (else the preset's).")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")]
Images = Annotated[
    int | None,
    typer.Option(
        min=0, help="Synthetic images made once and kept (else as the steps need); 0 makes new ones every step."
    ),
]
Begin = Annotated[Path | None, typer.Option("--start", help="Begin from a trained network's file.")]
Kept = Annotated[Path | None, typer.Option(help="Folder that `hmrkit train examples` filled (else --out/images).")]
LoopFit = Annotated[
    list[Path] | None,
    typer.Option(help="Clip of people without labels for SPIN's fitting loop, where the recipe has it; repeatable."),
]
TunePoints = Annotated[
    bool, typer.Option("--tune-points", help="Train the integral head of --start's file, too, which else stays.")
]
Adversarial = Annotated[bool, typer.Option("--adversarial", help="Add HMR's factorised adversarial prior.")]
Rotations = Annotated[
    str | None, typer.Option(help="direct or swing-twist, where the recipe has both (else the preset's).")
]


def named_lifter(
    context: typer.Context,
    motion: Motion,
    out: Out,
    preset: Preset = "cpu",
    steps: Steps = None,
    start: Begin = None,
    resume: Resume = False,
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    lifter(motion, out, str(context.info_name), preset, steps, start, resume, device, verbose)


@app.command()
def lifter(
    motion: Motion,
    out: Out,
    name: LifterName = "videopose3d",
    preset: Preset = "cpu",
    steps: Steps = None,
    start: Begin = None,
    resume: Resume = False,
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    """Train a lifter."""
    from hmrkit.device import resolve_device
    from hmrkit.training.lifter import train_lifter

    o.start_logging(verbose)
    path = train_lifter(
        motion, out, preset=preset, steps=steps, device=resolve_device(device), resume=resume, start=start, name=name
    )  # fmt: skip
    typer.echo(str(path))


def regressor(
    context: typer.Context,
    out: Out,
    preset: Preset = "cpu",
    steps: Steps = None,
    images: Images = None,
    start: Begin = None,
    examples: Kept = None,
    loop_fit: LoopFit = None,
    tune_points: TunePoints = False,
    adversarial: Adversarial = False,
    rotations: Rotations = None,
    resume: Resume = False,
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    from hmrkit.device import resolve_device
    from hmrkit.errors import UsageError
    from hmrkit.training.recipe import choose_recipe

    o.start_logging(verbose)
    name = str(context.info_name)
    module = REGRESSORS[name].load_recipe()
    extras = {
        "clips": loop_fit or (), "tune_points": tune_points, "adversarial": adversarial, "rotations": rotations,
    }  # fmt: skip
    flags = {
        "clips": "--loop-fit", "tune_points": "--tune-points", "adversarial": "--adversarial",
        "rotations": "--rotations",
    }  # fmt: skip
    for extra, flag in flags.items():
        if extras[extra] and extra not in module.EXTRAS:
            raise UsageError(f"{flag} is of no use to {name}: its recipe has no such part; leave it out")
    if tune_points and start is None:
        raise UsageError("--tune-points goes on from the integral head of a file; wanted --start with it")
    chosen = choose_recipe(module.PRESETS, preset, steps, images)
    mine = {extra: extras[extra] for extra in module.EXTRAS}
    run = {"preset": preset, **{extra: len(value) if extra == "clips" else value for extra, value in mine.items()}}
    path = module.train(
        name, chosen, out, device=resolve_device(device), resume=resume, start=start, examples=examples, run=run, **mine
    )
    typer.echo(str(path))


for _name, _member in trainable(REGRESSORS).items():
    app.command(_name, help=f"Train {_name}: {_member.summary}.")(regressor)
for _name, _lifter in trainable(LIFTERS).items():
    app.command(_name, help=f"Train {_name}: {_lifter.summary}.")(named_lifter)

for _name, _function in {
    "ablate": ablate, "examples": make_examples, "poses": poses, "preview": preview, "figures": figures, "ship": ship,
    "graphs": graphs, "evaluate-lifter": evaluate_lifter, "uncertainty": uncertainty,
}.items():  # fmt: skip
    app.command(_name)(_function)


@app.command("calibration")
def calibration(
    out: Out,
    motion: Annotated[
        Path | None, typer.Option(help="Motion capture .npz, for stage together (see the README, Training).")
    ] = None,
    stage: Annotated[str, typer.Option(help="alone (true joints), together (with the lifter), or both.")] = "both",
    steps: Annotated[int | None, typer.Option(min=1, help="Of each stage (else as those that ship were).")] = None,
    start: Annotated[Path | None, typer.Option(help="Begin from a file of A and W.")] = None,
    body: Annotated[str | None, typer.Option(help=OPTIONS["body"].text)] = None,
    lifter: Annotated[str, typer.Option(help=OPTIONS["lifter"].text)] = Options.lifter,
    lifter_checkpoint: Annotated[Path | None, typer.Option(help=OPTIONS["lifter_checkpoint"].text)] = None,
    resume: Resume = False,
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    """Learn PC-HMR's A and W of a body, by which calibration moves meshes, and tune the lifter with them."""
    from hmrkit.body import load_body
    from hmrkit.device import resolve_device
    from hmrkit.training.calibration import train_calibration

    o.start_logging(verbose)
    chosen = load_body(body, device=resolve_device(device))
    written = train_calibration(
        chosen, out, stage, motion, steps, start, resume=resume, lifter=lifter, lifter_checkpoint=lifter_checkpoint
    )
    typer.echo(written[-1].read_text(), nl=False, err=True)
    for path in written:
        typer.echo(str(path))
