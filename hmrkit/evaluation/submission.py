"""Files of the 3DPW challenge: ``SPLIT/SEQUENCE.pkl`` with jointPositions (P,N,24,3) m and orientations (P,N,9,3,3).

Global rotations are those of nine parts, in the camera's axes, like the positions. The challenge evaluates every frame
of every person, so people who were not found are filled in as it asks: all joints in the origin, rotated nowhere; our
own figures under ``3dpw-official`` count them in the same way.
"""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np

from hmrkit.errors import UsageError
from hmrkit.evaluation.runner import Evaluation
from hmrkit.evaluation.score_files import read_scores
from hmrkit.files import atomic_path

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


def write_submission(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the challenge's files of every method (in folders of their own where there are several).

    UsageError where the dataset is another one. Warns where a split is missing: the challenge wants all three.
    """
    if not evaluation.dataset.name.startswith("3dpw"):
        raise UsageError(f"--save-3dpw-submission is for dataset 3dpw, not {evaluation.dataset.name}")
    paths = []
    splits: set[str] = set()
    for label, files in evaluation.files.items():
        base = folder if len(evaluation.files) == 1 else folder / label.replace(" ", "_")
        for path in files.values():
            manifest, people = read_scores(path)
            splits.add(manifest["group"])
            paths.append(_write(base / manifest["group"] / f"{manifest['sequence']}.pkl", manifest, people))
    if missing := [split for split in SPLITS if split not in splits]:
        log.warning("the challenge wants all splits, there is nothing of %s; use --split all", ", ".join(missing))
    return paths


def _write(path: Path, manifest: dict, people: list[dict[str, np.ndarray]]) -> Path:
    shape = (len(people), manifest["frame_count"])
    joints = np.zeros((*shape, 24, 3), np.float32)
    parts = np.tile(np.eye(3, dtype=np.float32), (*shape, 9, 1, 1))
    for k, person in enumerate(people):
        rows = np.isfinite(person["joints_c"]).all((1, 2)) & person["found"]
        index = person["frame_indices"][rows]
        joints[k, index], parts[k, index] = person["joints_c"][rows], person["parts"][rows]
    # Plain lists: NumPy 2 pickles arrays under names that the challenge's old NumPy does not know.
    content = {"jointPositions": joints.tolist(), "orientations": parts.tolist()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=2))
    return path
