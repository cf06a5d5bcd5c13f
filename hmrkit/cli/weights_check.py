"""Are all weights whole, and do bodies move as SMPL's should? What `hmrkit weights check` does."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hmrkit.body import load_body
from hmrkit.body.files import GENDERS, find_body, read_smpl_file
from hmrkit.body.smplx_files import skinning_difference_mm
from hmrkit.errors import WeightsError
from hmrkit.weights import available, read_manifest, verify, weight_folders

# Both sides compute in double precision; anything above this is another model, not rounding.
TOLERANCE_MM = 0.01


def check(files: Sequence[str | Path] = ()) -> dict[str, Any]:
    """Hashes of all weights, the three free bodies and the body `files`.

    `weights` and `bodies` are entries of ``name``, ``facts`` (a line of text) and ``error`` ("" where all is well);
    bodies that were loaded have ``difference_mm`` from smplx, None where it is not installed. `smplx`: whether it is.
    """
    smplx = importlib.util.find_spec("smplx") is not None
    names = {entry["name"] for entry in available()}
    names |= {name for folder in weight_folders() for name in read_manifest(folder)}
    bodies = {f"free body, {gender}": partial(_check_body, None, gender, smplx) for gender in GENDERS}
    bodies |= {str(file): partial(_check_body, file, "neutral", smplx) for file in files}
    return {
        "weights": [_tried(name, partial(_check_hash, name)) for name in sorted(names)],
        "bodies": [_tried(name, work) for name, work in bodies.items()],
        "smplx": smplx,
    }


def _check_hash(name: str) -> dict[str, Any]:
    return {"facts": verify(name)}


def _check_body(source: str | Path | None, gender: str, smplx: bool) -> dict[str, Any]:
    path = find_body(source, gender)
    body = load_body(path, gender, dtype=torch.float64)
    facts = f"{body.model_id}, {body.gender}, {body.num_vertices} vertices"
    if not smplx:
        return {"facts": facts, "difference_mm": None}
    difference = skinning_difference_mm(read_smpl_file(path), body)
    if not difference <= TOLERANCE_MM:
        raise WeightsError(f"vertices differ from smplx's by up to {difference:.3g} mm")
    return {"facts": f"{facts}, differs from smplx by at most {difference:.1e} mm", "difference_mm": difference}


def _tried(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"name": name, "error": "", **work()}
    except WeightsError as error:
        return {"name": name, "error": str(error), "facts": ""}
