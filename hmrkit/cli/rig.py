"""`hmrkit rig`: rigs of characters, for `hmrkit export --rig`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmrkit.cli import options as o

app = typer.Typer(no_args_is_help=True, help="Rigs: which bones of a character people drive (hmrkit export --rig).")


@app.command("from")
def from_character(
    character: Annotated[Path, typer.Argument(help="The character: .glb, .vrm or .fbx, in a T- or A-pose.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="RIG.json to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace RIG.json, edited or not.")] = False,
    verbose: o.Verbose = False,
) -> None:
    """Draft a rig from a character: its bones, and which of SMPL's joints drive them, by names and places."""
    from hmrkit.scene.rigs import load_rig, save_rig
    from hmrkit.scene.rigs.characters import read_bones
    from hmrkit.scene.rigs.drafting import draft

    o.start_logging(verbose)
    rig = draft(read_bones(character), character.name)
    save_rig(out, rig, overwrite)
    typer.echo(str(out))
    load_rig(str(out))  # says what it lacks to be driven


@app.command("check")
def check(
    rig: Annotated[str, typer.Argument(help="RIG.json, or the name of a preset.")], verbose: o.Verbose = False
) -> None:
    """Show what drives what, and how the character's bones compare with the mean body's."""
    from hmrkit.scene.rigs import load_rig
    from hmrkit.scene.rigs.checking import describe

    o.start_logging(verbose)
    for line in describe(load_rig(rig)):
        typer.echo(line)
