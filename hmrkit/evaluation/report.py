"""Result files -> figures with confidence intervals, by method, and the papers' beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit import metrics
from hmrkit.evaluation.protocols import EvalProtocol
from hmrkit.evaluation.reported import REPORTED, Reported
from hmrkit.evaluation.runner import Evaluation
from hmrkit.evaluation.score_files import read_scores


@dataclass(frozen=True)
class Figure:
    """A mean and its 95 % interval by bootstrap over sequences (NaN, NaN for fewer than two)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class MethodReport:
    """One row: figures by metric, by group and metric, how many person-frames count and how many were not found."""

    label: str
    figures: dict[str, Figure]
    groups: dict[str, dict[str, float]]
    frames: int
    missed: int
    sequences: int
    seconds: float
    failed: dict[str, str]
    notes: list[str]


@dataclass(frozen=True)
class Report:
    """All rows under one protocol on one dataset, and the papers' rows."""

    dataset: str
    protocol: EvalProtocol
    methods: list[MethodReport]
    reported: tuple[Reported, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def columns(self) -> list[str]:
        """Metrics that any of our rows has, in the protocol's order."""
        return list(dict.fromkeys(name for row in self.methods for name in row.figures))

    def as_json(self) -> dict[str, Any]:
        """Plain values; NaN as None."""
        return {
            "dataset": self.dataset,
            "protocol": self.protocol.name,
            "protocol_in_words": self.protocol.describe(),
            "options": self.options,
            "methods": [
                {
                    "method": row.label,
                    "figures": {
                        name: {"mean": _plain(f.mean), "interval_95": [_plain(f.low), _plain(f.high)]}
                        for name, f in row.figures.items()
                    },
                    "groups": {g: {k: _plain(v) for k, v in of.items()} for g, of in row.groups.items()},
                    "frames": row.frames,
                    "missed": row.missed,
                    "sequences": row.sequences,
                    "seconds": round(row.seconds, 1),
                    "failed": row.failed,
                    "notes": row.notes,
                }
                for row in self.methods
            ],
            "reported_by_papers": [
                {"method": row.method, "paper": row.paper, "figures": row.figures} for row in self.reported
            ],
        }


def make_report(evaluation: Evaluation, dataset: str, options: dict[str, Any] | None = None) -> Report:
    """Read the result files and work out every figure."""
    rows = [
        _row(label, files, evaluation.protocol, evaluation.failed[label]) for label, files in evaluation.files.items()
    ]
    known = REPORTED.get((dataset, evaluation.protocol.name), ())
    return Report(dataset, evaluation.protocol, rows, known, options or {})


def _row(label: str, files: dict[str, Path], protocol: EvalProtocol, failed: dict[str, str]) -> MethodReport:
    values: dict[str, list[np.ndarray]] = {}
    pooled: list[dict[str, np.ndarray]] = []
    groups: list[str] = []
    notes: dict[str, None] = {}
    frames = missed = 0
    seconds = 0.0
    for path in files.values():
        manifest, people = read_scores(path)
        groups.append(manifest["group"])
        seconds += manifest["seconds"]
        notes |= dict.fromkeys(manifest["notes"])
        for name in manifest["metrics"]:
            here = [person[name] for person in people if name in person]
            values.setdefault(name, [np.zeros(0)] * (len(groups) - 1)).append(np.concatenate(here))
        for series in values.values():
            if len(series) < len(groups):
                series.append(np.zeros(0))
        pooled.extend(people if protocol.on_images else [])
        counted = [person["counted"] for person in people]
        frames += int(sum(c.sum() for c in counted))
        missed += int(sum((c & ~person["found"]).sum() for c, person in zip(counted, people, strict=True)))
    order = [m for m in protocol.metrics if m in values] + [m for m in values if m not in protocol.metrics]
    figures = {name: _figure(values[name], groups, protocol) for name in order}
    by_group: dict[str, dict[str, float]] = {}
    if len(set(groups)) > 1:
        for group in dict.fromkeys(groups):
            mine = [k for k, g in enumerate(groups) if g == group]
            by_group[group] = {m: metrics.mean_known(np.concatenate([values[m][k] for k in mine])) for m in order}
    if protocol.on_images and pooled:
        figures |= {name: Figure(value, np.nan, np.nan) for name, value in pooled_figures(pooled, protocol).items()}
    return MethodReport(label, figures, by_group, frames, missed, len(files), seconds, failed, list(notes))


def _figure(series: list[np.ndarray], groups: list[str], protocol: EvalProtocol) -> Figure:
    if protocol.average == "frames":
        interval = metrics.bootstrap_interval(series)
        return Figure(metrics.mean_known(np.concatenate(series)) if series else np.nan, *interval)
    pairs = list(zip(groups, series, strict=True))
    return Figure(_mean_of_groups(pairs), *metrics.bootstrap_interval(pairs, draws=500, statistic=_mean_of_groups))


def _mean_of_groups(pairs: list[tuple[str, np.ndarray]]) -> float:
    """The mean over groups (actions) of the means of their frames."""
    groups = dict.fromkeys(group for group, _ in pairs)
    means = [metrics.mean_known(np.concatenate([v for g, v in pairs if g == group])) for group in groups]
    return metrics.mean_known(np.array(means))


def pooled_figures(people: list[dict[str, np.ndarray]], protocol: EvalProtocol) -> dict[str, float]:
    """Figures that are made of the whole set at once: AP, PCKh over hidden joints, F1 of silhouettes and parts."""
    if {"coco_ap", "crowdpose_ap"} & set(protocol.metrics):
        truth, results = coco_content(people)
        found = (metrics.crowdpose_ap if "crowdpose_ap" in protocol.metrics else metrics.coco_keypoint_ap)(
            truth, results
        )
        return {name: 100 * value for name, value in found.items()}
    if "hidden_2d_px" in protocol.metrics:
        names = ("hidden_pckh_percent", "visible_pckh_percent")
        hits = {n: [p[f"{n}_hits"][p["counted"]] for p in people if f"{n}_hits" in p] for n in names}
        return {n: 100 * metrics.mean_known(np.concatenate(h)) for n, h in hits.items() if h}
    masks = metrics.SegmentationCounts(_total(people, "silhouette_confusion"), np.zeros(2, np.int64))
    parts = metrics.SegmentationCounts(_total(people, "part_confusion"), _total(people, "part_ignored"))
    return {
        "silhouette_accuracy_percent": 100 * masks.accuracy,
        "silhouette_f1": masks.f1,
        "part_accuracy_percent": 100 * parts.accuracy,
        "part_f1": parts.f1,
    }


def _total(people: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
    """Sum over all people and frames."""
    return np.sum([person[name].sum(0) for person in people], axis=0)


def coco_content(people: list[dict[str, np.ndarray]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """COCO's annotations and results of all people of result files: every person once, score 1, as DaNet scores."""
    images: dict[int, dict[str, Any]] = {}
    annotations, results = [], []
    for person in people:
        for row in range(len(person["counted"])):
            image = int(person["fact_image_id"][row])
            index = float(person["fact_crowd_index"][row]) if "fact_crowd_index" in person else 0.0
            images[image] = {"id": image, "crowdIndex": index}
            true, box = np.nan_to_num(person["true_2d"][row]), person["boxes_xyxy"][row].astype(float)
            annotations.append(
                {
                    "id": int(person["fact_annotation_id"][row]),
                    "image_id": image,
                    "category_id": 1,
                    "iscrowd": int(person["fact_is_crowd"][row]) if "fact_is_crowd" in person else 0,
                    "area": float(person["fact_area_px2"][row]),
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "keypoints": true.ravel().tolist(),
                    "num_keypoints": int((true[:, 2] > 0).sum()),
                }
            )
            points = person["predicted_2d"][row]
            if person["counted"][row] and np.isfinite(points).any():
                # A point that the body lacks lies where it can only miss.
                placed = np.where(np.isfinite(points), points, -1e5)
                triples = np.concatenate([placed, np.ones((len(placed), 1))], 1)
                results.append(
                    {"image_id": image, "category_id": 1, "keypoints": triples.ravel().tolist(), "score": 1.0}
                )
    category = {"id": 1, "name": "person", "keypoints": [], "skeleton": []}
    truth = {"images": list(images.values()), "annotations": annotations, "categories": [category]}
    return truth, results


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
