"""`hmrkit rig`: rigs of characters, for `hmrkit export --rig`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hmrkit.cli import options as o

app = typer.Typer(no_args_is_help=True, help="Rigs: which bones of a character people drive (hmrkit export --rig).")


@app.command("from")
def from_character(
    character: Annotated[Path, typer.Argument(help="The character: .glb or .fbx, in a T- or A-pose.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="RIG.json to write.")],
    verbose: o.Verbose = False,
) -> None:
    """Draft a rig from a character: its bones, and which of SMPL's joints drive them, by names and places."""
    from hmrkit.errors import InputError
    from hmrkit.scene.rigs import REQUIRED, save_rig
    from hmrkit.scene.rigs.characters import read_bones
    from hmrkit.scene.rigs.drafting import draft

    o.start_logging(verbose)
    rig = draft(read_bones(character), character.name)
    save_rig(out, rig)
    typer.echo(str(out))
    if missing := [joint for joint in REQUIRED if joint not in rig.bone_of]:
        raise InputError(f"{out}: no bone found for {', '.join(missing)}; write these at their bones, as joint")


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
