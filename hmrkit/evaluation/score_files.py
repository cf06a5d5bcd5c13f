"""Result files: the values of one method on one sequence, and the record of what made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.datasets import EvalSequence
from hmrkit.errors import InputError
from hmrkit.evaluation.scoring import Scores
from hmrkit.files import atomic_path
from hmrkit.untrusted.arrays import load_arrays


def write_scores(
    path: Path,
    sequence: EvalSequence,
    scores: list[Scores],
    record: dict[str, Any],
    seconds: float,
    notes: Sequence[str] = (),
) -> None:
    """One result file: ``PERSON/frame_indices``, ``counted``, ``found``, each metric, ``joints_c``, ``parts``, ...

    The entry ``manifest`` is JSON: the sequence's name, group, frames, people, the seconds taken, and the record.
    """
    manifest = {
        "sequence": sequence.name,
        "group": sequence.group,
        "frame_count": sequence.frame_count,
        "stills": sequence.stills,
        "people": [truth.person for truth in sequence.people],
        "metrics": sorted({name for s in scores for name in s.values}),
        "seconds": round(seconds, 3),
        "notes": list(notes),
        "record": record,
    }
    arrays: dict[str, np.ndarray] = {"manifest": np.array(json.dumps(manifest))}
    for truth, found in zip(sequence.people, scores, strict=True):
        of = {"frame_indices": truth.frame_indices, "counted": found.counted, "found": found.found}
        of |= {"joints_c": found.joints_c, "parts": found.parts} | found.values | found.params | found.pooled
        arrays |= {f"{truth.person}/{name}": value for name, value in of.items()}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_scores(path: Path) -> tuple[dict[str, Any], list[dict[str, np.ndarray]]]:
    """Manifest and arrays of each person of a result file; InputError where it cannot be read."""
    try:
        arrays = load_arrays(path)
        manifest = json.loads(str(arrays["manifest"]))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: wanted errors kept by `hmrkit eval`, cannot read it: {error}; remove it") from error
    prefixes = [f"{person}/" for person in manifest["people"]]
    return manifest, [
        {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        for prefix in prefixes
    ]


def read_record(path: Path) -> dict[str, Any] | None:
    """What made a result file, None where there is none that can be read."""
    try:
        return json.loads(str(load_arrays(path, ["manifest"])["manifest"]))["record"]
    except (OSError, ValueError, KeyError):
        return None
