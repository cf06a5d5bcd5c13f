"""A user's body file, once and for all, as plain arrays in the user's data folder.

Official files are pickles of chumpy objects, and those of SMPL-H and SMPL-X need the package smplx to be understood. An
imported body needs neither: it is an ``.npz`` of SMPL's arrays with 24 joints and 10 shape components
(`hmrkit.body.files.SMPL_KEYS`), whose numbers are the file's own, so that it has the same `model_id` and poses alike.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.body.files import (
    GENDERS,
    KINDS,
    NUM_BETAS,
    SMPL_KEYS,
    find_body,
    gender_in_name,
    imported_name,
    read_smpl_file,
)
from hmrkit.body.model import Body
from hmrkit.body.smplx_files import as_smpl
from hmrkit.errors import UsageError, WeightsError
from hmrkit.files import atomic_path, sha256_of
from hmrkit.members import unknown
from hmrkit.weights import SUFFIXES, add_to_manifest, find_weights, search_places, user_folder

_LICENCE = "the file's own; not for redistribution"
_KEPT = (*SMPL_KEYS, "model_id", "landmark_names", "landmark_vertices", "mean_hands")
LARGEST_LISTED = 500e6  # bytes; no body file is as large, and checkpoints may be


@dataclasses.dataclass(frozen=True)
class FoundBody:
    """What `body_in` says of a file: whose vertices and shapes (`model_id`), `gender` ("" where its name is silent)."""

    model_id: str
    gender: str


def import_body(source: str | Path, gender: str | None = None, overwrite: bool = False) -> Path:
    """Convert a SMPL, SMPL-H or SMPL-X file -> ``body/{smpl,smplh,smplx}_{gender}.npz`` in the user's data folder.

    From then on ``--body smpl`` means it. `gender` is needed where the file's name does not say it. Returns the path
    written. UsageError where gender and name differ, or another body has that place already and `overwrite` is not
    given; WeightsError where the file is none.
    """
    path = find_weights(source)
    named = gender_in_name(path)
    if gender not in (None, *GENDERS):
        raise unknown("gender", gender, GENDERS)
    if named and gender and named != gender:
        raise UsageError(f"{path}: its name says {named}, --gender says {gender}; give the other file, or rename it")
    model = read_smpl_file(path)
    if not (chosen := gender or named):
        raise UsageError(f"{path}: expected a gender in its name, found none; give --gender neutral, male or female")
    try:
        made = as_smpl(model)
        body = Body(made, chosen)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    if body.family == "hmrkit":
        raise UsageError(f"{path}: this is the free body, which needs no import; leave out --body")
    name = imported_name(KINDS[np.shape(model["kintree_table"])[-1]], chosen)
    target = user_folder() / name
    if target.exists() and not overwrite:
        known = body_in(target)
        if known is None or known.model_id != body.model_id:
            other = known.model_id if known else "another file"
            raise UsageError(f"{target}: {other} is there already, {path} is {body.model_id}; --overwrite replaces it")
    arrays: dict[str, Any] = {key: np.asarray(made[key]) for key in _KEPT if key in made}
    arrays["shapedirs"] = arrays["shapedirs"][..., :NUM_BETAS]
    with atomic_path(target) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    add_to_manifest(
        user_folder(), name, summary=f"{body.model_id}, {chosen}", licence=_LICENCE,
        source=f"{path.name}, sha256 {sha256_of(path)}",
    )  # fmt: skip
    return target


def body_in(path: str | Path) -> FoundBody | None:
    """The body that a file holds; None where it holds none, or one that needs smplx where that is not installed."""
    path = Path(path)
    if path.suffix not in (".npz", ".pkl") or path.stat().st_size > LARGEST_LISTED:
        return None
    if path.suffix == ".npz" and not _has_tree(path):
        return None
    gender = gender_in_name(path)
    try:
        body = Body(as_smpl(read_smpl_file(path)), gender or "neutral")
    except WeightsError:
        return None
    return FoundBody(body.model_id, gender or "")


def find_body_of(model_id: str) -> Path:
    """The body file of that id in the weights folders. WeightsError that says what to do where there is none."""
    gender = model_id.rpartition("-")[2]
    if model_id.startswith("hmrkit-") and gender in GENDERS:
        return find_body(None, gender)
    for _, folder in search_places():
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.suffix in SUFFIXES and (found := body_in(path)) and found.model_id == model_id:
                return path
    raise WeightsError(
        f"body {model_id} not found in any weights folder; give its file with --body, or import it once: "
        "hmrkit weights import-body FILE"
    )


def _has_tree(path: Path) -> bool:
    """Whether an ``.npz`` has the joints' tree that every body has; looks at names alone."""
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return "kintree_table.npy" in archive.namelist()
    except zipfile.BadZipFile:
        return False
