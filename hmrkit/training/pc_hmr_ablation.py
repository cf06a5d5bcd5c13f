"""PC-HMR's tables (`hmrkit.training.pc_hmr_tables`) measured on rendered clips.

Every clip goes through the chain by the true boxes. A stage that several lines share runs once a clip.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from hmrkit.calibration.track import refit
from hmrkit.datasets import DatasetOptions, EvalSequence, load_dataset
from hmrkit.errors import UsageError, WeightsError
from hmrkit.evaluation.bodies import Bodies
from hmrkit.evaluation.predicting import Owners, predictions_of, takes_with_true_boxes
from hmrkit.evaluation.protocols import EvalProtocol, choose_protocol
from hmrkit.evaluation.scoring import score
from hmrkit.evaluation.subsets import limited
from hmrkit.lifters import LIFTERS, load_lifter
from hmrkit.members import choose
from hmrkit.models import Models
from hmrkit.options import Options, changing
from hmrkit.pipeline import Progress, run_stages, stages_of
from hmrkit.training.ablation import Result
from hmrkit.training.calibration_networks import NETWORKS, kept_network
from hmrkit.training.pc_hmr_tables import DESIGN_REMARKS, MPVE, TRUE_POSE, Line, designs, grid
from hmrkit.types import Calibration, Take

log = logging.getLogger(__name__)

DATASET = "synthetic-video"
GFLOPS = "GFLOPs a frame"
_METRICS = {"pve_mm": MPVE, "mpjpe_mm": "MPJPE mm", "pa_mpjpe_mm": "PA-MPJPE mm"}


@dataclass(frozen=True)
class Tables:
    """What was measured, and what has to be known of it, a sentence each."""

    results: list[Result]
    remarks: list[str]


def ablate(
    out: Path,
    *,
    data: Path | None = None,
    limit: int | None = None,
    groups: Sequence[str] = (),
    mesh: str = "hmr",
    settings: Mapping[str, str] | None = None,
    checkpoints: Mapping[str, str] | None = None,
    device: str = "auto",
    progress: Callable[[str], AbstractContextManager[Progress]],
) -> Tables:
    """Measure the lines of some `groups` (all: none named) on the clips in `data` (else ``out/clips``).

    `mesh` is the designs' generator; `settings` are the dataset's options; `checkpoints` files for lifters by name;
    `limit` stops after so many frames. The extra networks are trained into ``out/networks`` when first needed. Lifters
    without weights are left out, with a remark. UsageError for another group or
    lifter.
    """
    known = {"designs": designs(mesh), "grid": grid()}
    if wrong := set(groups) - set(known):
        raise UsageError(f"--group: wanted some of {', '.join(known)}, got {', '.join(sorted(wrong))}")
    lines = [line for name, of in known.items() if not groups or name in groups for line in of]
    for name in checkpoints or {}:
        choose(LIFTERS, name, "lifter")
    lines, remarks = _with_weights(lines, checkpoints or {})
    remarks += DESIGN_REMARKS if any(line.group == "designs" for line in lines) else ()
    dataset = load_dataset(DATASET, data or out / "clips", DatasetOptions(settings=dict(settings or {})))
    dataset.check()
    protocol = choose_protocol(dataset.default_protocol, DATASET)
    runs = [_Run(line, _models(line, checkpoints or {}, device), out / "networks") for line in lines]
    flops: dict[tuple, list[float]] = {}
    for sequence in limited(dataset.sequences(), limit):
        with progress(sequence.name) as report:
            for take, owners in takes_with_true_boxes(sequence, runs[0].models, (), report):
                stages = SharedStages(take, flops)
                for run in runs:
                    log.info("%s: %s, %s", sequence.name, run.line.group, run.line.variant.name)
                    run.score(sequence, stages.take(run.models, report), owners, protocol)
    remarks.append(
        "GFLOPs: the networks that a design is made of, for one person in one frame, two for each multiply-add: the "
        "generator; in serial mode the lifter as well; in parallel mode the 2D stream, too. In this chain the crops of "
        "every generator are found by the 2D stream, whose cost is the same for all of them."
    )
    return Tables([run.result(flops) for run in runs], remarks)


def _with_weights(lines: list[Line], checkpoints: Mapping[str, str]) -> tuple[list[Line], list[str]]:
    """The lines whose lifter can be loaded; why the others are left out."""
    missing = {}
    for name in {str(line.options["lifter"]) for line in lines if "lifter" in line.options}:
        try:
            load_lifter(name, checkpoints.get(name))
        except WeightsError as error:
            if name in checkpoints:
                raise
            missing[name] = str(error)
    kept = [line for line in lines if line.options.get("lifter") not in missing]
    return kept, [f"Left out: lifter {name}: {why}." for name, why in missing.items()]


def _models(line: Line, checkpoints: Mapping[str, str], device: str) -> Models:
    lifter = str(line.options.get("lifter", Options.lifter))
    return Models(Options(**{**line.options, "device": device, "lifter_checkpoint": checkpoints.get(lifter)}))


class SharedStages:
    """Takes of one clip on its way through the chain: what is made for one line is used for all that want the same.

    `flops` gets, by what a stage and those before it were chosen as, the GFLOPs of each clip for a person and frame.
    """

    def __init__(self, start: Take, flops: dict[tuple, list[float]]) -> None:
        self.made: dict[tuple, Take] = {(): start}
        self.flops = flops
        self.frames = max(sum(len(track.frame_indices) for track in start.tracks), 1)

    def take(self, models: Models, progress: Progress) -> Take:
        """The take after all stages of these options."""
        take = self.made[()]
        for stage, key in chosen_stages(models.options):
            if key not in self.made:
                with FlopCounterMode(display=False) as counter:
                    self.made[key] = run_stages(take, [stage], models, progress)
                self.flops.setdefault(key, []).append(counter.get_total_flops() / 1e9 / self.frames)
            take = self.made[key]
        return take


def chosen_stages(options: Options) -> list[tuple[str, tuple]]:
    """The stages from `pose` on and, for each, what it and those before it were chosen as."""
    key: tuple = ()
    found = []
    for stage in stages_of(options):
        if stage not in ("detect", "track"):
            key = (*key, (stage, *(getattr(options, name) for name in changing(stage))))
            found.append((stage, key))
    return found


class _Run:
    """A line at work: its models, and the values of every frame so far."""

    def __init__(self, line: Line, models: Models, networks: Path) -> None:
        self.line, self.models = line, models
        self.values: dict[str, list[np.ndarray]] = {}
        if line.extra in NETWORKS:
            network = kept_network(line.extra, networks, models.body, models.calibration)
            models.calibration = replace(models.calibration, network=network)
        self.bodies = Bodies(models.body, None, None)

    def score(self, sequence: EvalSequence, take: Take, owners: Owners, protocol: EvalProtocol) -> None:
        if self.line.extra == TRUE_POSE:
            take = with_true_pose(take, owners, sequence, self.models)
        made = predictions_of(sequence, [(take, owners)], self.models)
        for prediction, truth in zip(made, sequence.people, strict=True):
            values = score(prediction, truth, protocol, self.bodies, sequence.fps).values
            for name, metric in _METRICS.items():
                self.values.setdefault(metric, []).append(values[name])

    def result(self, flops: Mapping[tuple, list[float]]) -> Result:
        figures = {metric: [float(np.nanmean(np.concatenate(of)))] for metric, of in self.values.items()}
        options = self.models.options
        reads = options.needs_depth or (options.calibrated and options.mode == "parallel")
        counted = [key for stage, key in chosen_stages(options) if stage != "pose" or reads]
        return Result(self.line.variant, figures | {GFLOPS: [float(sum(np.mean(flops[key]) for key in counted))]})


def with_true_pose(take: Take, owners: Owners, sequence: EvalSequence, models: Models) -> Take:
    """The take with every mesh calibrated to the true joints."""
    calibrated = {}
    for track_id, (person, rows) in owners.items():
        joints = sequence.people[person].joints_c
        if track_id in take.body and joints is not None:
            target = joints[rows].astype(np.float32)
            calibrated[track_id] = Calibration(
                target, *refit(models.body, take.body[track_id], target, models.calibration, params_only=True)
            )
    return replace(take, calibrated=calibrated)
