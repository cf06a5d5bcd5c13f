"""Error of global rotations along the kinematic chains, from the root to the ends (SGRE: Wang and Zhang 2023, figures
1b and 4): relative rotations hand their errors on to all joints below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from hmrkit import metrics
from hmrkit.body.landmarks import world_from_local
from hmrkit.datasets import GroundTruth
from hmrkit.evaluation.predicting import Prediction
from hmrkit.evaluation.score_files import read_scores
from hmrkit.files import atomic_path, write_json
from hmrkit.skeletons import SMPL_24

if TYPE_CHECKING:
    from hmrkit.evaluation.runner import Evaluation

NAME = "global_rotation_error_deg"
# The last joint of each chain. Hands and feet beyond them hardly rotate.
ENDS = {
    "head": "head",
    "left arm": "left_wrist",
    "right arm": "right_wrist",
    "left leg": "left_ankle",
    "right leg": "right_ankle",
}


def chain_to(end: str) -> tuple[str, ...]:
    """The joints from the root to `end`."""
    names, joint = [], SMPL_24.index[end]
    while joint >= 0:
        names.append(SMPL_24.joints[joint])
        joint = SMPL_24.parents[joint]
    return tuple(reversed(names))


def chain_values(prediction: Prediction, truth: GroundTruth, counted: np.ndarray) -> dict[str, np.ndarray]:
    """``global_rotation_error_deg`` (T,24) of one person, NaN where a frame does not count; {} where a side has no
    rotations."""
    if prediction.rotations is None or truth.body is None:
        return {}
    true = np.concatenate([truth.body.global_orient[:, None], truth.body.body_pose], 1)
    found, right = (world_from_local(torch.from_numpy(np.asarray(r, np.float64))) for r in (prediction.rotations, true))
    values = metrics.rotation_error_deg(found, right)
    return {NAME: np.where(counted[:, None], values, np.nan).astype(np.float32)}


def write_chains(evaluation: Evaluation, out: Path) -> list[Path]:
    """``chain_errors.json``, mean errors in degrees by method, chain and joint, and a plot; their paths, none where no
    method has rotations."""
    means = {label: mean for label, files in evaluation.files.items() if (mean := _mean(files)) is not None}
    if not means:
        return []
    found = {
        label: {
            name: {joint: round(float(mean[SMPL_24.index[joint]]), 2) for joint in chain_to(end)}
            for name, end in ENDS.items()
        }
        for label, mean in means.items()
    }
    write_json(out / "chain_errors.json", found)
    _plot(found, out / "chain_errors.png")
    return [out / "chain_errors.json", out / "chain_errors.png"]


def _mean(files: dict[str, Path]) -> np.ndarray | None:
    """Mean (24,) over all frames of all people of a method's result files; None where they have no rotations."""
    found = [person[NAME] for path in files.values() for person in read_scores(path)[1] if NAME in person]
    values = np.concatenate(found) if found else np.zeros((0, len(SMPL_24)))
    values = values[np.isfinite(values).all(1)]
    return values.mean(0) if len(values) else None


def _plot(found: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    from matplotlib.figure import Figure  # not pyplot: a figure needs no window and no global state

    figure = Figure(figsize=(15, 4), layout="constrained")
    for panel, name in zip(figure.subplots(1, len(ENDS), sharey=True), ENDS, strict=True):
        for label, chains in found.items():
            panel.plot(list(chains[name]), list(chains[name].values()), marker="o", markersize=4, label=label)
        panel.set(title=name)
        panel.tick_params("x", rotation=60)
        panel.grid(alpha=0.3)
    figure.axes[0].set(ylabel="error of global rotations, degrees")
    figure.axes[-1].legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
