"""`hmrkit train figures|ship|evaluate-lifter|uncertainty`: what becomes of trained weights: measured and shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hmrkit.cli import options as o
from hmrkit.lifters import LIFTERS
from hmrkit.options import OPTIONS, Options
from hmrkit.regressors import REGRESSORS
from hmrkit.training.recipes import trainable

Motion = Annotated[Path, typer.Option(help="Motion capture .npz (see the README, Training).")]
LifterName = Annotated[str, typer.Option("--name", help=f"One of {', '.join(trainable(LIFTERS))}.")]


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


def graphs(
    into: Annotated[Path, typer.Option(help="Weights folder; its manifest is brought up to date.")] = Path("weights"),
) -> None:
    """Export the graphs by which ONNX Runtime and OpenVINO run the networks that ship (wants onnx, onnxscript)."""
    from hmrkit.training.graphs import write_graphs

    for path in write_graphs(into):
        typer.echo(str(path))


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
    pose3d: Annotated[str | None, typer.Option(help=f"With --mesh. {OPTIONS['pose3d'].text}")] = Options.pose3d,
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
