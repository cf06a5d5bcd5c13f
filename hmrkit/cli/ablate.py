"""`hmrkit train ablate`: a paper's ablations, its table beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmrkit.cli import options as o
from hmrkit.regressors import REGRESSORS
from hmrkit.training.recipes import trainable

# What only one of the two kinds of ablation has.
TRAINED = ("preset", "steps", "images", "seeds", "examples")
MEASURED = ("data", "limit", "dataset_option", "mesh", "lifter_checkpoint")


def ablate(
    context: typer.Context,
    paper: Annotated[str, typer.Option(help="A regressor whose paper has ablations, or pc-hmr.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for networks, ablation.md and ablation.png.")],
    preset: Annotated[str, typer.Option(help="cpu or gpu.")] = "cpu",
    steps: Annotated[int | None, typer.Option(min=1, help="Of every variant (else the preset's).")] = None,
    images: Annotated[int | None, typer.Option(min=0, help="Synthetic images made once and kept.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="So many runs of each variant.")] = 1,
    group: Annotated[
        list[str] | None, typer.Option(help="One group of variants (pc-hmr: designs, grid); repeatable (else all).")
    ] = None,
    examples: Annotated[Path | None, typer.Option(help="Folder that `hmrkit train examples` filled.")] = None,
    data: Annotated[Path | None, typer.Option(help="pc-hmr: where the clips go (else --out/clips).")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="pc-hmr: stop after so many frames.")] = None,
    dataset_option: Annotated[
        list[str] | None, typer.Option(help="pc-hmr: KEY=VALUE of synthetic-video (count=8).")
    ] = None,
    mesh: Annotated[str, typer.Option(help="pc-hmr: the generator of the designs.")] = "hmr",
    lifter_checkpoint: Annotated[
        list[str] | None, typer.Option(help="pc-hmr: LIFTER=FILE, weights of your own; repeatable.")
    ] = None,
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    """Train a paper's variants under one budget, or measure PC-HMR's designs; print the paper's table beside ours."""
    from hmrkit.errors import UsageError
    from hmrkit.members import unknown
    from hmrkit.training import ablation

    o.start_logging(verbose)
    measured = paper == "pc-hmr"
    given = o.given_of(context) & set(TRAINED if measured else MEASURED)
    if wrong := [name for name in context.params if name in given]:
        raise UsageError(f"--{wrong[0].replace('_', '-')} is of no use to --paper {paper}; leave it out")
    if measured:
        from hmrkit.cli.evaluate import key_values
        from hmrkit.training import pc_hmr_ablation
        from hmrkit.training.pc_hmr_tables import MPVE, orders

        tables = pc_hmr_ablation.ablate(
            out, data=data, limit=limit, groups=group or (), mesh=mesh, device=device, progress=o.progress_bar,
            settings=key_values(dataset_option or [], "--dataset-option"),
            checkpoints=key_values(lifter_checkpoint or [], "--lifter-checkpoint", "LIFTER=FILE"),
        )  # fmt: skip
        results, metric, on = tables.results, MPVE, "synthetic-video"
        notes = orders(results) + "".join(f"\n{remark}\n" for remark in tables.remarks)
    else:
        from hmrkit.device import resolve_device

        modules = {name: member.load_recipe() for name, member in trainable(REGRESSORS).items()}
        known = {name: module for name, module in modules.items() if hasattr(module, "ABLATION")}
        if paper not in known:
            raise unknown("--paper", paper, [*known, "pc-hmr"])
        if examples is not None and not examples.is_dir():
            raise UsageError(f"--examples {examples}: no such folder; check the path, or leave it out to make examples")
        results = ablation.ablate(
            paper, known[paper], out, preset=preset, steps=steps, images=images, seeds=seeds, groups=group or (),
            device=resolve_device(device), examples=examples,
        )  # fmt: skip
        metric, on, notes = "PA-MPJPE mm", "held-out synthetic images", ablation.claims(results)
    text = ablation.table(results) + "\n" + notes
    out.mkdir(parents=True, exist_ok=True)
    (out / "ablation.md").write_text(text, encoding="utf-8")
    ablation.draw(results, out / "ablation.png", metric, on)
    typer.echo(text)
