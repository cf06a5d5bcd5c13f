"""`hmrkit train`: make the weights that ship, or better ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from hmrkit.backbones import BACKBONES
from hmrkit.cli import options as o
from hmrkit.cli.ablate import ablate
from hmrkit.lifters import LIFTERS
from hmrkit.options import OPTIONS, Options
from hmrkit.regressors import REGRESSORS
from hmrkit.training.recipes import trainable

app = typer.Typer(
    help="Train networks from motion capture and synthetic images.", no_args_is_help=True, rich_markup_mode=None
)
Motion = Annotated[Path, typer.Option(help="Motion capture .npz (see the README, Training).")]
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

LifterName = Annotated[str, typer.Option("--name", help=f"One of {', '.join(trainable(LIFTERS))}.")]


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

app.command("ablate")(ablate)


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


@app.command("examples")
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


@app.command("figures")
def figures(
    evaluation: Annotated[
        Path, typer.Option(help="evaluation.json of `hmrkit eval --dataset synthetic` by all methods.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="What `hmrkit list methods` shows.")] = Path(
        "weights/regressors/figures.json"
    ),
    device: o.Device = "auto",
) -> None:
    """Write down how accurate the evaluated methods are and what their networks cost here."""
    from hmrkit.device import resolve_device
    from hmrkit.files import atomic_path
    from hmrkit.regressors import load_regressor
    from hmrkit.regressors.cost import accuracy_of, cost_of

    chosen = resolve_device(device)
    found: dict[str, dict] = accuracy_of(evaluation)
    for name in found.keys() & REGRESSORS.keys():
        found[name] |= cost_of(load_regressor(name, device=chosen), chosen)
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    typer.echo(str(out))


@app.command("ship")
def ship(
    file: Annotated[Path, typer.Argument(help="What the training of a regressor wrote.")],
    into: Annotated[Path, typer.Option(help="Weights folder; its manifest is brought up to date.")] = Path("weights"),
) -> None:
    """Put a trained regressor among the weights that ship; a backbone that has a file of its own goes there."""
    from hmrkit.regressors.files import ship as ship_regressor
    from hmrkit.weights import write_manifest

    for path in ship_regressor(file, into):
        typer.echo(str(path))
    write_manifest(into)


@app.command("evaluate-lifter")
def evaluate_lifter(
    motion: Motion,
    name: LifterName = "videopose3d",
    checkpoint: Annotated[Path | None, typer.Option(help="Weights to measure (else those that ship).")] = None,
    skeleton: Annotated[str | None, typer.Option("--lifter-skeleton", help=OPTIONS["lifter_skeleton"].text)] = None,
    device: o.Device = "auto",
) -> None:
    """Measure a lifter on the held-out clips: clean, martial arts alone, and with detector-like noise."""
    from hmrkit.device import resolve_device
    from hmrkit.lifters import load_lifter
    from hmrkit.training.lifter import evaluate_lifter as evaluate

    model = load_lifter(name, checkpoint, resolve_device(device), skeleton)
    typer.echo(json.dumps(evaluate(model, motion), indent=1))


@app.command("uncertainty")
def uncertainty(
    dataset: Annotated[str, typer.Option(help="Held-out people with true 3D joints (hmrkit list datasets).")],
    data: Annotated[Path | None, typer.Option(help="Where its files are, or where its images go.")] = None,
    lifter: Annotated[str, typer.Option(help=OPTIONS["lifter"].text)] = Options.lifter,
    lifter_checkpoint: Annotated[Path | None, typer.Option(help=OPTIONS["lifter_checkpoint"].text)] = None,
    keypoints: Annotated[str, typer.Option(help=OPTIONS["keypoints"].text)] = Options.keypoints,
    mesh: Annotated[
        list[str] | None,
        typer.Option(help="Measure this mesh stream beside the pose stream: what calibration weights by; repeatable."),
    ] = None,
    mode: Annotated[str, typer.Option(help=f"With --mesh. {OPTIONS['mode'].text}")] = Options.mode,
    pose3d: Annotated[str, typer.Option(help=f"With --mesh. {OPTIONS['pose3d'].text}")] = Options.pose3d,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many images.")] = None,
    dataset_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, for what only one dataset has (seed=1).")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file; other pairs in it stay.")] = Path(
        "weights/calibration/pose3d_uncertainty.json"
    ),
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    """Measure how far the lifted and the direct pose err, joint by joint: what --pose3d fused weights them by. With
    --mesh: how far that mesh stream, the pose stream and the keypoints err, bone by bone."""
    from hmrkit.calibration.pose_uncertainty import pair_name, save_entry
    from hmrkit.calibration.shares import stream_names
    from hmrkit.cli.evaluate import dataset_settings
    from hmrkit.datasets import DatasetOptions, load_dataset
    from hmrkit.models import Models
    from hmrkit.training.pose_uncertainty import measure, measure_beside_meshes

    o.start_logging(verbose)
    # Without --mesh the stages are those of a lifted pose; the direct one is in the keypoints.
    chosen = [
        Options(
            lifter=lifter, keypoints=keypoints, mesh=name, mode=mode, pose3d=pose3d, device=device,
            lifter_checkpoint=None if lifter_checkpoint is None else str(lifter_checkpoint),
        )
        for name in mesh or [None]
    ]  # fmt: skip
    models = [Models(one) for one in chosen]
    with o.progress_bar(dataset) as progress:
        held_out = load_dataset(dataset, data, DatasetOptions(settings=dataset_settings(dataset_option or [])))
        if mesh:
            entries = measure_beside_meshes(held_out, models, limit, progress)
            names = [stream_names(str(one.mesh), one.pose_name) for one in chosen]
        else:
            entries, names = [measure(held_out, models[0], limit, progress)], [pair_name(lifter, keypoints)]
    for name, entry in zip(names, entries, strict=True):
        save_entry(out, name, {"measured_on": dataset, **entry})
    typer.echo(str(out))


@app.command("poses")
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


@app.command("preview")
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
