"""`hmrkit convert-body`: a take's people on another body model, fitted to the meshes that they have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrkit.cli import options as o
from hmrkit.cli.stages import TakeIn, check_outputs, write_take

if TYPE_CHECKING:
    from hmrkit.body import Body
    from hmrkit.body.conversion import Conversion
    from hmrkit.models import Models
    from hmrkit.types import Take


def convert_body(
    take: TakeIn,
    to: Annotated[
        str, typer.Option(help="default (the free body), smpl, smplh or smplx (imported bodies), or a body file.")
    ],
    out: Annotated[
        list[str] | None, typer.Option("--out", "-o", help="The take to write. [default: TAKE_BODY.npz beside it]")
    ] = None,
    body: Annotated[
        str | None, typer.Option(help="File of the body that the take is on. [default: searched for by its id]")
    ] = None,
    gender: Annotated[
        str | None, typer.Option(help="neutral, male or female. [default: the take's; neutral where people differ]")
    ] = None,
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    """Fit another body to the final meshes of a take, calibrated where it is; how far off, in mm, goes to stderr.

    So results on SMPL can be exported on the free body. The distance is kept for every frame in the take's provenance
    (regress, conversion). People on free bodies of different gender (--gender auto) all come onto one body, as exports
    read one; for a body each, `hmrkit cut` them apart first. Other tools' results become a take by: hmrkit import.
    """
    from hmrkit.body import load_body
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.take import open_take

    o.start_logging(verbose)
    outputs = out or [_beside(take, to)]
    check_outputs(outputs)
    opened = open_take(take)
    models = Models(Options(body=_source(opened, take, body), device=device))
    target = load_body(to, gender or _gender(opened), models.device)
    converted, found = convert_take(opened, models, target)
    for track_id, conversion in found.items():
        residual, frames = conversion.residual_mm, opened.track(track_id).frame_indices
        worst = int(residual.argmax())
        typer.echo(
            f"person {track_id}: {len(frames)} frames on {target.model_id}, {residual.mean():.2f} mm from the surface "
            f"before, {residual[worst]:.2f} mm in frame {frames[worst]}",
            err=True,
        )
    write_take(converted, outputs)


def convert_take(take: Take, models: Models, target: Body) -> tuple[Take, dict[int, Conversion]]:
    """The take with its people on `target`, and by track id how they were fitted.

    `models` has the body that the take is on. Calibrated meshes become the target's own pose and shape, so the result
    has no calibration. ModelMismatchError where `models` has another body.
    """
    import numpy as np

    from hmrkit.body.conversion import BodyConverter
    from hmrkit.body.posing import body_for
    from hmrkit.meshes import mesh_slice

    sources = {params.model: body_for(params, models.body) for params in take.body.values()}
    converters = {model: BodyConverter(source, target) for model, source in sources.items()}
    found: dict[int, Conversion] = {}
    for track in take.people_with_mesh():
        i = track.track_id
        start = take.calibrated[i].params if i in take.calibrated else take.body[i]
        found[i] = converters[start.model].convert(
            lambda rows, i=i: mesh_slice(take, i, rows, models).vertices_c, start
        )
    kept: dict[str, Any] = {name: record for name, record in take.provenance.items() if name != "calibrate"}
    regress = kept.get("regress", {"options": {}})
    kept["regress"] = {
        **regress,
        "options": {**regress["options"], "gender": target.gender},
        "weights": {**regress.get("weights", {}), "body": target.weights_sha256},
        "conversion": {
            "from": ", ".join(sources),
            "to": target.model_id,
            "residual_mm": {
                str(i): {
                    "frames": take.track(i).frame_indices.tolist(),
                    "mm": np.round(conversion.residual_mm.astype(float), 3).tolist(),
                }
                for i, conversion in found.items()
            },
        },
    }
    made = replace(
        take, body={i: conversion.params for i, conversion in found.items()}, calibrated={}, provenance=kept,
        faces=np.asarray(target.faces, np.int32),
    )  # fmt: skip
    return made, found


def _source(take: Take, name: str, body: str | None) -> str:
    """The body file that the take is on: the one given, else by its id."""
    from hmrkit.body.importing import find_body_of
    from hmrkit.errors import InputError, ModelMismatchError

    ids = sorted({params.model for params in take.body.values()})
    if not ids:
        raise InputError(f"{name}: wanted a take with bodies, found none in it; run `hmrkit regress` on it first")
    if len(ids) > 1 and not all(one.startswith("hmrkit-") for one in ids):  # free bodies find one another
        raise ModelMismatchError(f"{name}: wanted bodies of one model, found {', '.join(ids)}; `hmrkit cut` them apart")
    return body or str(find_body_of(ids[0]))


def _gender(take: Take) -> str:
    """The gender of all people, neutral where they differ."""
    found = {params.gender for params in take.body.values()}
    return found.pop() if len(found) == 1 else "neutral"


def _beside(take: str, to: str) -> str:
    """TAKE_smpl.npz beside TAKE.npz; standard output for standard input."""
    return "-" if take == "-" else str(Path(take).with_name(f"{Path(take).stem}_{Path(to).stem}.npz"))
