"""`hmrkit docs`: the pages that lie beside the code that they describe."""

from __future__ import annotations

from importlib import resources
from typing import Annotated

import typer

# Name -> what it is about, and where in the package it lies.
PAGES = {
    "methods": ("the stages, and what can be chosen for each", "regressors/docs/methods.md"),
    "clips": ("clips that are read, and how frames are shown", "video/docs/clips.md"),
    "batches": ("thousands of clips: shards, GPUs, Slurm, Open Job Description, Ray", "batches/docs/batches.md"),
    "files": ("what is in a take and in a person's npz", "take/docs/files.md"),
    "formats": ("exports: options for all formats", "exporters/docs/formats.md"),
    **{
        name: (f"exports: {what}", f"exporters/docs/{name}.md")
        for name, what in {
            "fbx": "FBX", "glb": "glTF", "usd": "USD", "abc": "Alembic", "bvh": "BVH",
            "points": "OBJ, PLY, STL, OFF, 3MF, NPZ, SMPL, CSV, JSON, TRC", "rigs": "a character of your own",
            "frames": "frame numbers and NTSC rates",
        }.items()
    },
    "results": ("results of other tools", "results/docs/results.md"),
    "bodies": ("bodies and weights, your own and ours", "body/docs/bodies.md"),
    "accuracy": ("measured errors", "evaluation/docs/accuracy.md"),
    "evaluation": ("datasets and protocols", "evaluation/docs/evaluation.md"),
    "training": ("training the networks anew", "training/docs/training.md"),
    "speed": ("measured times and memory", "benchmark/docs/speed.md"),
    "members": ("how the code is laid out, and how to add a method", "regressors/docs/members.md"),
}  # fmt: skip


def page(name: str) -> str:
    """The Markdown text of a page. UsageError where there is none of that name."""
    from hmrkit.members import unknown

    if name not in PAGES:
        raise unknown("page", name, PAGES)
    return resources.files("hmrkit").joinpath(PAGES[name][1]).read_text("utf-8")


def docs(
    name: Annotated[str | None, typer.Argument(help="A page; else all their names.")] = None,
) -> None:
    """Print a page of the documentation, or what pages there are."""
    if name is None:
        for title, (about, _) in PAGES.items():
            typer.echo(f"{title:12s} {about}")
        return
    typer.echo(page(name))
