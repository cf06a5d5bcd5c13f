"""`hmrkit eval`: methods on datasets under named protocols."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrkit.cli import options as o
from hmrkit.members import choose, names_of
from hmrkit.options import METHODS, OPTIONS, POSE_CHOICES, Options

if TYPE_CHECKING:
    from rich.console import Console

    from hmrkit.evaluation.report import MethodReport

OF_RESULTS = ("body", "gender", "focal", "fov", "device")  # what results made elsewhere are compared by


@o.with_options(without=("method", "people", "start", "end", "every", "fps", "renderer"))
def evaluate(
    dataset: Annotated[
        str,
        typer.Option(
            help="Name of a dataset (hmrkit list); synthetic and synthetic-video need no --data. plausibility: any "
            "clips, without truth."
        ),
    ],
    data: Annotated[
        list[Path] | None, typer.Option(help="Where the dataset's files are; of plausibility, clips (several times).")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results; holds one protocol's only.")] = Path(
        "evaluation"
    ),
    method: Annotated[str, typer.Option(help=f"One or several, comma-separated. {OPTIONS['method'].text}")] = "",
    predictions: Annotated[
        list[Path] | None, typer.Option(help="Results made elsewhere (.npz, .pkl, or a 3DPW submission's folder).")
    ] = None,
    protocol: Annotated[str, typer.Option(help="How to score; the papers' for the dataset by default.")] = "",
    split: Annotated[str, typer.Option(help="The dataset's split, its test split by default.")] = "",
    subset: Annotated[str, typer.Option(help="A named part of the dataset.")] = "",
    frame_list: Annotated[Path | None, typer.Option(help="A file of your own with the frames to evaluate.")] = None,
    dataset_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, for what only one dataset has (count=64).")
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect/--ground-truth-boxes", help="Find people, or take the true boxes.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Stop after so many images.", min=1)] = None,
    occlude: Annotated[
        str | None, typer.Option(help="HKMR's test: cover one joint after another with a bar, circle or rectangle.")
    ] = None,
    degree: Annotated[str, typer.Option(help="Degrees of occlusion, 1 to 5: one, or several (1,3,5).")] = "1,2,3,4,5",
    smpl: Annotated[Path | None, typer.Option(help="Folder with SMPL's files, for the truth.")] = None,
    joint_regressor: Annotated[Path | None, typer.Option(help="J_regressor_h36m.npy, if not in that folder.")] = None,
    save_3dpw_submission: Annotated[Path | None, typer.Option(help="Folder for files of the 3DPW challenge.")] = None,
    extra: Annotated[
        str,
        typer.Option(
            "--metrics",
            help="What else to work out, comma-separated: signed (how far and which way joints are rotated), chains "
            "(error of rotations from the root to the ends).",
        ),
    ] = "",
    sheet: Annotated[bool, typer.Option("--sheet/--no-sheet", help="Draw the frames that are most wrong.")] = True,
    *,
    options: dict[str, Any],
    given: frozenset[str],
    overwrite: o.Overwrite = False,
    as_json: o.AsJson = False,
    verbose: o.Verbose = False,
) -> None:
    """Score methods, or results made elsewhere, on a dataset under a named protocol; the same command resumes.

    Prints a table, and writes evaluation.json, table.md, table.tex, values per frame and a sheet of the worst frames.
    """
    from rich.console import Console

    from hmrkit.datasets import DatasetOptions
    from hmrkit.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError
    from hmrkit.evaluation.chains import write_chains
    from hmrkit.evaluation.report import make_report
    from hmrkit.evaluation.runner import EvalOptions
    from hmrkit.evaluation.runner import evaluate as run
    from hmrkit.evaluation.signed import write_signed
    from hmrkit.evaluation.submission import write_submission
    from hmrkit.evaluation.tables import group_table, rich_table, write_report
    from hmrkit.evaluation.worst import write_sheets

    o.start_logging(verbose)
    writers = {"signed": write_signed, "chains": write_chains}
    extras = names_of(extra)
    if not writers.keys() >= set(extras):
        raise UsageError(
            f"--metrics wants some of {', '.join(writers)}, got {extra!r}; the others come with --protocol"
        )
    trained_only = {key: options.pop(key) for key in ("checkpoint", "flip_test")}

    def options_of(name: str, **more: Any) -> Options:
        member, _ = choose(METHODS, name, "method")
        own = options
        if calibrated and not member.calibrated:
            own = options | {key: getattr(Options, key) for key in ("mesh", *POSE_CHOICES)}
        return Options(method=name, **own, **more)

    names = list(names_of(method)) or ([] if predictions else ["pc-hmr"])
    if not names and (useless := sorted(given & {"detect", *OPTIONS} - {"method", *OF_RESULTS})):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in useless)
        them = "it" if len(useless) == 1 else "them"
        raise UsageError(
            f"--predictions are made already and have no use for {flags}; leave {them} out, or name a --method"
        )
    # Mesh stream and pose are the calibrated methods' among them; with none among them they are an error, too.
    calibrated = any(choose(METHODS, name, "method")[0].calibrated for name in names)
    # Checkpoint and flip test are the regressors' among the methods; with none among them `Options` reports an error.
    trained = [name for name in names if "regressor" in options_of(name).stream.models] or names
    methods = tuple(options_of(name, **(trained_only if name in trained else {})) for name in names)
    if dataset == "plausibility":
        if predictions:
            raise UsageError(
                "--dataset plausibility runs methods on clips and has no use for --predictions; of results of a clip, "
                "--method file:PATH"
            )
        raise typer.Exit(_plausibility(data or [], methods, out, limit, sheet, as_json))
    if len(data or []) > 1:
        raise UsageError(f"--data: {dataset} is in one place, got {len(data or [])}; only plausibility takes several")
    chosen = DatasetOptions(split, subset, frame_list, dataset_settings(dataset_option or []))
    wanted = EvalOptions(
        dataset=dataset, data=data[0] if data else None, out=out,
        methods=methods,
        predictions=tuple(predictions or ()), protocol=protocol, dataset_options=chosen, detect=detect, limit=limit,
        smpl=smpl, regressor=joint_regressor, overwrite=overwrite,
        defaults=Options(method="fit", **{key: options[key] for key in OF_RESULTS}),
    )  # fmt: skip
    made: list[Path] = []
    if occlude:
        from hmrkit.evaluation.occluded import evaluate_occluded

        made, summary = evaluate_occluded(wanted, occlude, degree, o.progress_bar)
        _print(summary if as_json else None, made)
        return
    evaluation = run(wanted, o.progress_bar)
    report = make_report(evaluation, dataset, {"detect": detect, "limit": limit, "split": split, "subset": subset})
    made += write_report(report, out)
    if sheet:
        made += write_sheets(evaluation, out, limit)
    for name in extras:
        made += writers[name](evaluation, out)
    if save_3dpw_submission:
        made += write_submission(evaluation, save_3dpw_submission)
    console = Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=200)
    for table in (rich_table(report, console.width), group_table(report)):
        if table is not None:
            console.print(table)
    _tell(console, report.methods)
    _print(report.as_json() if as_json else None, made)
    failed = any(row.failed for row in report.methods)
    raise typer.Exit(EXIT_SOME_FAILED if failed else EXIT_OK)


def _plausibility(
    clips: list[Path], methods: Sequence[Options], out: Path, limit: int | None, sheet: bool, as_json: bool
) -> int:
    """Print the plausibility report of these clips; returns the exit code."""
    from rich.console import Console

    from hmrkit.errors import EXIT_OK, EXIT_SOME_FAILED
    from hmrkit.evaluation import plausibility_report as report

    rows, made = report.evaluate_plausibility(clips, methods, out, limit, sheet, o.progress_bar)
    console = Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=200)
    console.print(report.rich_table(rows))
    for row in rows:
        if row.failed:
            sys.stderr.write(f"hmrkit: {row.method}: {row.clip} failed: {row.failed}\n")
    _print(report.as_json(rows) if as_json else None, made)
    return EXIT_SOME_FAILED if any(row.failed for row in rows) else EXIT_OK


def dataset_settings(pairs: list[str]) -> dict[str, str]:
    """``KEY=VALUE`` of --dataset-option by key; UsageError where one is not written so."""
    return key_values(pairs, "--dataset-option")


def key_values(pairs: list[str], flag: str, wanted: str = "KEY=VALUE") -> dict[str, str]:
    """What follows the first = by what comes before it; UsageError names the `flag` where there is none."""
    from hmrkit.errors import UsageError

    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise UsageError(f"{flag} wants {wanted}, got {wrong[0]!r}")
    return dict(pair.split("=", 1) for pair in pairs)


def _tell(console: Console, rows: list[MethodReport]) -> None:
    """What a reader has to know of the figures, on standard error."""
    for row in rows:
        for note in row.notes:
            console.print(f"{row.label}: {note}", style="dim")
        for sequence, why in row.failed.items():
            sys.stderr.write(f"hmrkit: {row.label}: {sequence} failed: {why}\n")


def _print(summary: dict | None, paths: list[Path]) -> None:
    if summary is not None:
        typer.echo(json.dumps(summary, indent=1))
    else:
        for path in paths:
            typer.echo(str(path))
