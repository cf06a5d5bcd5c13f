"""Signed errors of joint rotations over a whole dataset: which joints are bent too much, and which way.

Means of lengths hide an error that all frames share, such as knees that are always a little bent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmrkit import metrics
from hmrkit.datasets import GroundTruth
from hmrkit.evaluation.predicting import Prediction
from hmrkit.evaluation.score_files import read_scores
from hmrkit.files import atomic_path, write_json
from hmrkit.skeletons import SMPL_24

if TYPE_CHECKING:
    from hmrkit.evaluation.runner import Evaluation

NAME = "signed_error_deg"
AXES = ("x: bending, about the axis to the left", "y: twisting, about the axis up", "z: about the axis forward")
_BAND = (25.0, 75.0)  # percentiles drawn beside the median


@dataclass(frozen=True)
class SignedErrors:
    """Of one method over `frames` frames: percentiles (J,3) degrees about x, y, z of `SMPL_24`'s joints, the root's in
    the camera frame, the others' relative to their parents."""

    low: np.ndarray
    median: np.ndarray
    high: np.ndarray
    frames: int


def signed_values(prediction: Prediction, truth: GroundTruth, counted: np.ndarray) -> dict[str, np.ndarray]:
    """``signed_error_deg`` (T,24,3) of one person, NaN where a frame does not count; {} where a side has no
    rotations."""
    if prediction.rotations is None or truth.body is None:
        return {}
    true = np.concatenate([truth.body.global_orient[:, None], truth.body.body_pose], 1)
    values = metrics.signed_error_deg(prediction.rotations, true)
    return {NAME: np.where(counted[:, None, None], values, np.nan).astype(np.float32)}


def signed_errors(files: dict[str, Path]) -> SignedErrors | None:
    """Percentiles over all frames of all people of a method's result files; None where they have no rotations."""
    found = [person[NAME] for path in files.values() for person in read_scores(path)[1] if NAME in person]
    values = np.concatenate(found) if found else np.zeros((0, len(SMPL_24), 3))
    values = values[np.isfinite(values).all((1, 2))]
    if not len(values):
        return None
    low, median, high = np.percentile(values, (_BAND[0], 50, _BAND[1]), axis=0)
    return SignedErrors(low, median, high, len(values))


def write_signed(evaluation: Evaluation, out: Path) -> list[Path]:
    """``signed_errors.json`` and a plot of all methods; their paths, none where no method has rotations."""
    of = {label: errors for label, files in evaluation.files.items() if (errors := signed_errors(files)) is not None}
    if not of:
        return []
    write_json(
        out / "signed_errors.json",
        {
            label: {
                "frames": errors.frames,
                "median_deg": {
                    joint: [round(float(v), 2) for v in errors.median[k]] for k, joint in enumerate(SMPL_24.joints)
                },
            }
            for label, errors in of.items()
        },
    )
    _plot(of, out / "signed_errors.png")
    return [out / "signed_errors.json", out / "signed_errors.png"]


def _plot(of: dict[str, SignedErrors], path: Path) -> None:
    from matplotlib.figure import Figure  # not pyplot: a figure needs no window and no global state

    figure = Figure(figsize=(12, 7), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    rows = np.arange(len(SMPL_24))
    for axis, (panel, title) in enumerate(zip(panels, AXES, strict=True)):
        for k, (label, errors) in enumerate(of.items()):
            at = rows + (k - (len(of) - 1) / 2) * 0.7 / len(of)
            middle = errors.median[:, axis]
            panel.errorbar(
                middle, at, xerr=[middle - errors.low[:, axis], errors.high[:, axis] - middle], fmt="o", markersize=4,
                linewidth=1, label=label,
            )  # fmt: skip
        panel.axvline(0, color="0.3", linewidth=1)
        panel.set(title=title, xlabel="degrees too far; bar: half of the frames")
        panel.grid(alpha=0.3)
    panels[0].set_yticks(rows, SMPL_24.joints)
    panels[0].invert_yaxis()
    panels[-1].legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
