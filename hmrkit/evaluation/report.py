"""Result files -> figures with confidence intervals, and those as table, JSON, Markdown and LaTeX rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit import metrics
from hmrkit.evaluation.reported import REPORTED, Reported
from hmrkit.evaluation.runner import MANIFEST, Evaluation, read_scores
from hmrkit.protocols import EvalProtocol
from hmrkit.take import atomic_path

if TYPE_CHECKING:
    from rich.table import Table

# How a metric is headed in tables; what is not here is headed by its name.
HEADINGS = {
    "mpjpe_mm": "MPJPE", "pa_mpjpe_mm": "PA-MPJPE", "n_mpjpe_mm": "N-MPJPE", "pve_mm": "PVE", "pve_pa_mm": "PVE-PA",
    "pve_shape_mm": "PVE-S", "pve_pose_mm": "PVE-P", "pck_percent": "PCK %", "auc_percent": "AUC %",
    "mpjae_deg": "MPJAE deg", "mpjae_pa_deg": "MPJAE-PA deg", "accel_mm_per_frame2": "Accel mm/f²",
    "accel_m_per_s2": "Accel m/s²", "w_mpjpe_mm": "W-MPJPE", "wa_mpjpe_mm": "WA-MPJPE", "rte_percent": "RTE %",
    "jitter_10m_per_s3": "Jitter", "jitter_emdb_10m_per_s3": "Jitter", "foot_sliding_mm": "FS mm",
    "hidden_2d_px": "hidden px", "hidden_pckh_percent": "hidden PCKh %", "visible_pckh_percent": "visible PCKh %",
    "silhouette_accuracy_percent": "FB acc %", "silhouette_f1": "FB F1", "part_accuracy_percent": "part acc %",
    "part_f1": "part F1",
}  # fmt: skip


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
    masks = metrics.SegmentationCounts(sum(p["silhouette_confusion"].sum(0) for p in people), np.zeros(2, np.int64))
    parts = metrics.SegmentationCounts(
        sum(p["part_confusion"].sum(0) for p in people), sum(p["part_ignored"].sum(0) for p in people)
    )
    return {
        "silhouette_accuracy_percent": 100 * masks.accuracy,
        "silhouette_f1": masks.f1,
        "part_accuracy_percent": 100 * parts.accuracy,
        "part_f1": parts.f1,
    }


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


# ------------------------------------------------------------------------------------------------------ tables


def rich_table(report: Report) -> Table:
    """For the terminal: our rows with their intervals, then the papers'."""
    from rich.table import Table

    table = Table(title=f"{report.dataset}, protocol {report.protocol.name}")
    table.add_column("method")
    for name in report.columns():
        table.add_column(HEADINGS.get(name, name), justify="right")
    table.add_column("frames", justify="right")
    table.add_column("missed", justify="right")
    for row in report.methods:
        cells = [_with_interval(row.figures.get(name)) for name in report.columns()]
        table.add_row(row.label, *cells, str(row.frames), str(row.missed))
    for row in report.reported:
        cells = ["" if name not in row.figures else f"{row.figures[name]:g}" for name in report.columns()]
        table.add_row(f"{row.method} *", *cells, "", "", style="dim")
    if report.reported:
        table.caption = "* as papers print it, not run here"
    return table


def group_table(report: Report) -> Table | None:
    """For the terminal: the first metric of each action, split or the like; None where there is only one group."""
    from rich.table import Table

    heads, rows = _group_rows(report)
    if not rows:
        return None
    table = Table(title=f"{HEADINGS.get(report.protocol.metrics[0], report.protocol.metrics[0])} by group")
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left")
    for cells in rows:
        table.add_row(*cells)
    return table


def _group_rows(report: Report) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the table by group: a row a group, a column a method."""
    metric = report.protocol.metrics[0]
    groups = list(dict.fromkeys(g for row in report.methods for g in row.groups))
    rows = [[g or "-", *(_number(row.groups.get(g, {}).get(metric, np.nan)) for row in report.methods)] for g in groups]
    return ["group", *(row.label for row in report.methods)], rows


def _number(value: float) -> str:
    return f"{value:.1f}" if np.isfinite(value) else "-"


def markdown_table(report: Report) -> str:
    """A table with the protocol in words below it; the papers' rows are marked."""
    heads = ["method", *(HEADINGS.get(name, name) for name in report.columns()), "frames", "missed"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for cells in _rows(report, lambda row: f"{row.method} ({row.paper}, reported)"):
        lines.append("| " + " | ".join(cells) + " |")
    heads, rows = _group_rows(report)
    if rows:
        lines += ["", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        lines += ["| " + " | ".join(cells) + " |" for cells in rows]
    words = [f"- {key}: {value}" for key, value in report.protocol.describe().items()]
    notes = [f"- {row.label}: {note}" for row in report.methods for note in row.notes]
    return "\n".join([*lines, "", *words, *notes]) + "\n"


def latex_rows(report: Report) -> str:
    """Rows for a booktabs table, one a method, the papers' in italics; best of ours in bold."""
    best = {
        name: (max if _higher_is_better(name) else min)(
            (r.figures[name].mean for r in report.methods if name in r.figures and np.isfinite(r.figures[name].mean)),
            default=np.nan,
        )
        for name in report.columns()
    }
    heads = " & ".join(["Method", *(HEADINGS.get(n, n).replace("%", r"\%") for n in report.columns())])
    lines = [f"% {report.dataset}, protocol {report.protocol.name}", f"% {heads}"]
    for row in report.methods:
        cells = []
        for name in report.columns():
            figure = row.figures.get(name)
            text = "--" if figure is None or not np.isfinite(figure.mean) else f"{figure.mean:.1f}"
            bold = figure is not None and figure.mean == best[name] and len(report.methods) > 1
            cells.append(rf"\textbf{{{text}}}" if bold else text)
        lines.append(" & ".join([row.label.replace("_", r"\_"), *cells]) + r" \\")
    for row in report.reported:
        cells = [f"{row.figures[name]:g}" if name in row.figures else "--" for name in report.columns()]
        lines.append(" & ".join([rf"\textit{{{row.method}}} (reported)", *cells]) + r" \\")
    return "\n".join(lines) + "\n"


def write_report(report: Report, out: Path) -> list[Path]:
    """evaluation.json, table.md and table.tex in `out`; returns their paths."""
    contents = {
        MANIFEST: json.dumps(report.as_json(), indent=1) + "\n",
        "table.md": markdown_table(report),
        "table.tex": latex_rows(report),
    }
    paths = []
    for name, content in contents.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
        paths.append(out / name)
    return paths


def _rows(report: Report, name_of: Callable[[Reported], str]) -> list[list[str]]:
    ours = [
        [r.label, *(_with_interval(r.figures.get(n)) for n in report.columns()), str(r.frames), str(r.missed)]
        for r in report.methods
    ]
    theirs = [
        [name_of(r), *(f"{r.figures[n]:g}" if n in r.figures else "" for n in report.columns()), "", ""]
        for r in report.reported
    ]
    return ours + theirs


def _with_interval(figure: Figure | None) -> str:
    if figure is None or not np.isfinite(figure.mean):
        return "-"
    digits = 3 if abs(figure.mean) < 1 else 1
    if not np.isfinite(figure.low):
        return f"{figure.mean:.{digits}f}"
    return f"{figure.mean:.{digits}f} [{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def _higher_is_better(name: str) -> bool:
    return name.startswith(("pck", "auc", "AP", "AR", "silhouette", "part", "oks")) or "pckh" in name


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
