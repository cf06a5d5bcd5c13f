"""All sequences of a dataset by several methods under one protocol, one result file a sequence and method.

A run that was interrupted goes on where it stopped: a result file is kept if everything that made it is the same. A
folder holds the results of one protocol on one dataset, so that figures that cannot be compared never meet in a table.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hmrkit.datasets import RENDERED, Dataset, DatasetOptions, EvalSequence, load_dataset
from hmrkit.errors import HmrkitError, UsageError, WeightsError
from hmrkit.evaluation.bodies import Bodies
from hmrkit.evaluation.chains import chain_values
from hmrkit.evaluation.image import image_scores
from hmrkit.evaluation.predicting import Prediction, predict, predict_crops
from hmrkit.evaluation.protocols import EvalProtocol, choose_protocol
from hmrkit.evaluation.results import Results, open_results
from hmrkit.evaluation.score_files import read_record, write_scores
from hmrkit.evaluation.scoring import check_bodies, score
from hmrkit.evaluation.signed import signed_values
from hmrkit.evaluation.subsets import limited
from hmrkit.files import atomic_path
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.pipeline import STAGES, Progress, load_models, stages_of
from hmrkit.take import code_version

log = logging.getLogger(__name__)

MANIFEST = "evaluation.json"
# What of a run's options decides its result; devices and batch sizes do not.
_IRRELEVANT = ("device", "batch_size", "start", "end", "every", "fps")


@dataclass(frozen=True)
class EvalOptions:
    """What to evaluate. `methods` are the runs' options, `predictions` files of results made elsewhere.

    `protocol` "" is the dataset's own; `limit` stops after so many images; `smpl` and `regressor` name the user's
    SMPL folder and J_regressor_h36m.npy. `defaults` has body and camera for results made elsewhere.
    """

    dataset: str
    data: Path | None
    out: Path
    methods: tuple[Options, ...] = ()
    predictions: tuple[Path, ...] = ()
    protocol: str = ""
    dataset_options: DatasetOptions = field(default_factory=DatasetOptions)
    detect: bool = False
    limit: int | None = None
    smpl: Path | None = None
    regressor: Path | None = None
    overwrite: bool = False
    defaults: Options = field(default_factory=Options)


@dataclass
class Entry:
    """One row of the table: a method of ours, or results made elsewhere."""

    label: str
    models: Models
    results: Results | None
    bodies: Bodies

    @property
    def folder(self) -> str:
        """Name of its folder of result files."""
        return re.sub(r"[^\w.-]+", "_", self.label).strip("_")

    @property
    def regresses(self) -> bool:
        """Whether its meshes are a regressor's as they come, which crops alone suffice for."""
        chosen = self.models.options
        return "regressor" in chosen.stream.models and not chosen.calibrated

    def record(self, options: EvalOptions, protocol: EvalProtocol) -> dict[str, Any]:
        """Everything that decides the result of a sequence, but the sequence."""
        chosen = {k: v for k, v in asdict(self.models.options).items() if k not in _IRRELEVANT}
        stages = [s for s in stages_of(self.models.options) if options.detect or s not in ("detect", "track")]
        names = {name for stage in stages for name in STAGES[stage].models(self.models.options)}
        weights = {name: getattr(self.models, name).weights_sha256 for name in sorted(names)}
        return {
            "options": chosen if self.results is None else {"body": chosen["body"]},
            "weights": weights if self.results is None else {"predictions": self.results.sha256},
            "detect": options.detect,
            "protocol": protocol.name,
            "dataset": [options.dataset, *map(str, asdict(options.dataset_options).values())],
            "code": code_version(),
        }


@dataclass(frozen=True)
class Evaluation:
    """What was run: by label the result files and what failed (why) of each sequence, and the models."""

    protocol: EvalProtocol
    dataset: Dataset
    files: dict[str, dict[str, Path]]
    failed: dict[str, dict[str, str]]
    models: dict[str, Models]


ProgressBar = Callable[[str], AbstractContextManager[Progress]]


def silent(title: str) -> AbstractContextManager[Progress]:
    """Progress that nobody wants to see."""
    return nullcontext(lambda *_: None)


def evaluate(options: EvalOptions, progress: ProgressBar = silent) -> Evaluation:
    """Run every method on every sequence and write the result files; `hmrkit.evaluation.report` reads them.

    All that can be missing (dataset, weights, bodies) is reported before the first sequence. A sequence that fails is
    named in `failed` and does not stop the others.
    """
    protocol, dataset = prepare(options)
    entries = load_entries(options)
    claim(options, protocol)
    records = {entry.label: entry.record(options, protocol) for entry in entries}
    files: dict[str, dict[str, Path]] = {entry.label: {} for entry in entries}
    failed: dict[str, dict[str, str]] = {entry.label: {} for entry in entries}
    rows = 0
    checked = False
    for sequence in limited(dataset.sequences(), options.limit):
        for entry in () if checked else entries:
            check_bodies(sequence.people, protocol, entry.bodies)
        checked = True
        for entry in entries:
            path = options.out / entry.folder / f"{sequence.name}.npz"
            record = {**records[entry.label], "frames": sequence.frame_count}
            if options.overwrite or read_record(path) != record:
                try:
                    with progress(f"{entry.label} {sequence.name}") as report:
                        run_sequence(entry, sequence, protocol, options, path, record, rows, report)
                except WeightsError:  # it would be missing for all others, too
                    raise
                except HmrkitError as error:
                    failed[entry.label][sequence.name] = str(error)
                    continue
                except Exception as error:  # one bad sequence must not cost the others
                    log.debug("unexpected error in %s", sequence.name, exc_info=True)
                    failed[entry.label][sequence.name] = f"unexpected {type(error).__name__}: {error} (-v shows where)"
                    continue
            files[entry.label][sequence.name] = path
        rows += sum(len(truth.valid) for truth in sequence.people)
    return Evaluation(protocol, dataset, files, failed, {entry.label: entry.models for entry in entries})


def prepare(options: EvalOptions) -> tuple[EvalProtocol, Dataset]:
    """Protocol and dataset, both checked."""
    data = options.data
    if data is None and options.dataset in RENDERED:
        data = options.out / RENDERED[options.dataset]
    chosen = replace(options.dataset_options, protocol=options.protocol)
    dataset = load_dataset(options.dataset, data, chosen)
    protocol = choose_protocol(options.protocol or dataset.default_protocol, options.dataset)
    dataset.check()
    return protocol, dataset


def load_entries(options: EvalOptions) -> list[Entry]:
    """The rows of the table, everything that they need loaded."""
    entries = []
    for chosen in options.methods:
        if chosen.gender == "auto" and options.dataset != "plausibility":
            raise UsageError(
                "--gender auto gives people bodies of different gender, but a score is of one body; name one"
            )
        models = Models(chosen)
        stages = [s for s in stages_of(chosen) if options.detect or s not in ("detect", "track")]
        load_models(models, stages)
        label = chosen.method if chosen.mesh in (chosen.method, None) else f"{chosen.method} ({chosen.mesh})"
        entries.append(Entry(label, models, None, Bodies(models.body, options.smpl, options.regressor)))
    for path in options.predictions:
        models = Models(options.defaults)
        entries.append(
            Entry(path.stem, models, open_results(path), Bodies(models.body, options.smpl, options.regressor))
        )
    labels = [entry.folder for entry in entries]
    if len(set(labels)) < len(labels):
        raise UsageError(f"two rows of the table have one name ({', '.join(labels)}); name each method or file once")
    if not entries:
        raise UsageError("nothing to evaluate: give --method or --predictions")
    return entries


def claim(options: EvalOptions, protocol: EvalProtocol) -> None:
    """Make the results' folder this evaluation's; UsageError where it holds another protocol's or dataset's results."""
    path = options.out / MANIFEST
    mine = {"dataset": options.dataset, "protocol": protocol.name}
    if path.is_file() and not options.overwrite:
        try:
            found = json.loads(path.read_text())
            theirs = {key: found[key] for key in mine}
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path}: is no evaluation of hmrkit; choose another --out") from None
        if theirs != mine:
            raise UsageError(
                f"{options.out} holds {theirs['dataset']} under protocol {theirs['protocol']}, which must not be mixed "
                f"with {mine['dataset']} under {mine['protocol']}; choose another --out, or --overwrite it"
            )
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(mine) + "\n")


def run_sequence(
    entry: Entry,
    sequence: EvalSequence,
    protocol: EvalProtocol,
    options: EvalOptions,
    path: Path,
    record: dict[str, Any],
    first_row: int,
    progress: Progress,
) -> None:
    started = time.perf_counter()
    if entry.results is not None:
        made: list[Prediction] = []
        row = first_row
        for person, truth in enumerate(sequence.people):
            made.append(entry.results.of(sequence, person, row))
            row += len(truth.valid)
    elif sequence.cropped and entry.regresses and not options.detect:
        made = predict_crops(sequence, entry.models.regressor, entry.models)
    else:
        made = predict(sequence, entry.models, options.detect, progress)
    scores = []
    for prediction, truth in zip(made, sequence.people, strict=True):
        if protocol.on_images:
            scores.append(image_scores(prediction, truth, sequence, protocol, entry.bodies, entry.models))
        else:
            scores.append(score(prediction, truth, protocol, entry.bodies, sequence.fps))
        for values in (signed_values, chain_values):
            scores[-1].pooled.update(values(prediction, truth, scores[-1].counted))
    write_scores(path, sequence, scores, record, time.perf_counter() - started, entry.bodies.notes)
