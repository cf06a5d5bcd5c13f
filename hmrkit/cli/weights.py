"""`hmrkit weights`: what weights there are, whether they are whole and right, what a file is, converters, bodies in and
out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hmrkit.cli import options as o

app = typer.Typer(
    help="List, check and convert weights; import and export bodies.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_weights(
    public: Annotated[
        bool, typer.Option("--public", help="Instead, known files of others: what they are, who gives them.")
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """The weights and bodies that can be found, in which place, under which licence, with the id of bodies.

    Places, the first that has a file wins: --body or --checkpoint, $HMRKIT_WEIGHTS, ./weights, the user's data folder,
    the package.
    """
    from hmrkit.body.importing import body_in
    from hmrkit.weights import ORDER, available, public_files

    if public:
        _list_public(public_files(), as_json)
        return
    entries = [
        {**entry, "model_id": body.model_id if (body := body_in(entry["path"])) else ""} for entry in available()
    ]
    if as_json:
        typer.echo(json.dumps(entries, indent=1))
        return
    width = max(map(len, ORDER))
    for entry in entries:
        facts = f"{entry['name']:50s} {entry['place']:{width}s} {entry['licence']:24s} {entry['model_id']:24s}"
        typer.echo(f"{facts} {entry['path']}")
    typer.echo(f"searched in this order: {', '.join(ORDER)}", err=True)


def _list_public(entries: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(entries, indent=1))
        return
    for entry in entries:
        typer.echo(f"{entry['what']} ({entry['licence']}): {entry['register']}")
        typer.echo(f"  read by {entry['option']}")
        for file in entry["files"]:
            digest = entry.get("sha256", {}).get(file, "")
            typer.echo(f"  {file}{f'  sha256 {digest}' if digest else ''}")


@app.command("verify")
def verify_weights() -> None:
    """Compare every file with the hash in its folder's manifest."""
    from hmrkit.weights import available, verify

    for entry in available():
        typer.echo(f"{verify(entry['name'])}  {entry['name']}")


@app.command("check")
def check_weights(
    files: Annotated[list[Path] | None, typer.Argument(help="Body files of your own, as for --body.")] = None,
    as_json: o.AsJson = False,
) -> None:
    """Check hashes, load every body, and compare its skinning with smplx where that is installed."""
    from hmrkit.cli.weights_check import check
    from hmrkit.errors import WeightsError

    result = check(files or [])
    entries = [*result["weights"], *result["bodies"]]
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        for entry in entries:
            typer.echo(f"{'FAILED' if entry['error'] else 'ok':7s} {entry['name']}  {entry['error'] or entry['facts']}")
        if not result["smplx"]:
            typer.echo("smplx is not installed: skinning was not compared (pip install hmrkit[smplx])")
    failed = [entry["name"] for entry in entries if entry["error"]]
    if failed:
        raise WeightsError(f"{len(failed)} of {len(entries)} checks failed: {', '.join(failed)}")


@app.command("inspect")
def inspect_weights(
    files: Annotated[
        list[Path], typer.Argument(help="Checkpoints, bodies, takes or other tools' results, files or folders.")
    ],
    as_json: o.AsJson = False,
) -> None:
    """Say what files are, what they need and which options read them; nothing in them is run.

    A file that cannot be read stops none of the others; the exit code is then 3, or 4 for takes and results.
    """
    from dataclasses import asdict

    from hmrkit.cli.weights_inspect import inspect, lines
    from hmrkit.errors import HmrkitError

    entries, code = [], 0
    for file in files:
        try:
            finding = inspect(file)
        except HmrkitError as error:
            typer.echo(f"hmrkit: {error}", err=True)
            entries.append({"path": str(file), "error": str(error)})
            code = max(code, error.exit_code)
            continue
        entries.append({**asdict(finding), "error": ""})
        if not as_json:
            typer.echo("\n".join(lines(finding)))
    if as_json:
        typer.echo(json.dumps(entries, indent=1))
    raise typer.Exit(code)


@app.command("convert")
def convert(
    name: Annotated[str, typer.Argument(help="yolox-nano, movenet-thunder, blazepose-heavy or spin.")],
    source: Annotated[Path, typer.Option(help="The file as it is published (.onnx, .json, .tflite, .pt).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
) -> None:
    """Convert a published network to this project's form."""
    from hmrkit.conversion import convert as run

    run(name, source, out)
    typer.echo(str(out))


@app.command("import-body")
def import_body(
    file: Annotated[Path, typer.Argument(help="A SMPL, SMPL-H or SMPL-X file of your own (.pkl or .npz).")],
    gender: Annotated[str | None, typer.Option(help="neutral, male or female, where its name does not say.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another body of that kind and sex.")] = False,
) -> None:
    """Convert a body file once, into your data folder; from then on --body smpl (smplh, smplx) means it."""
    from hmrkit.body.importing import import_body as run

    typer.echo(str(run(file, gender, overwrite)))


@app.command("export-body")
def export_body(
    out: Annotated[Path, typer.Option("--out", "-o", help="The .pkl file to write.")],
    gender: o.Gender = "neutral",
) -> None:
    """Write the free body as a pickle in SMPL's form, which smplx and other tools read."""
    from hmrkit.body.files import export_smpl_pickle

    typer.echo(str(export_smpl_pickle(out, gender)))
