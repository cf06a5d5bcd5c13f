"""A report as a table for the terminal, as JSON, as Markdown and as rows for LaTeX."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmrkit.evaluation.report import Figure, Report
from hmrkit.evaluation.reported import Reported
from hmrkit.evaluation.runner import MANIFEST
from hmrkit.files import atomic_path

if TYPE_CHECKING:
    from rich.table import Table

# How a metric is headed in tables; what is not here is headed by its name.
HEADINGS = {
    "mpjpe_mm": "MPJPE", "pa_mpjpe_mm": "PA-MPJPE", "n_mpjpe_mm": "N-MPJPE", "pve_mm": "PVE", "pve_pa_mm": "PVE-PA",
    "surface_mm": "surface",
    "pve_shape_mm": "PVE-S", "pve_pose_mm": "PVE-P", "pck_percent": "PCK %", "auc_percent": "AUC %",
    "mpjae_deg": "MPJAE deg", "mpjae_pa_deg": "MPJAE-PA deg", "accel_mm_per_frame2": "Accel mm/f²",
    "accel_m_per_s2": "Accel m/s²", "w_mpjpe_mm": "W-MPJPE", "wa_mpjpe_mm": "WA-MPJPE", "rte_percent": "RTE %",
    "jitter_10m_per_s3": "Jitter", "true_jitter_10m_per_s3": "true jitter",
    "id_switches_per_1000": "ID sw/1000", "jitter_emdb_10m_per_s3": "Jitter", "foot_sliding_mm": "FS mm",
    "hidden_2d_px": "hidden px", "hidden_pckh_percent": "hidden PCKh %", "visible_pckh_percent": "visible PCKh %",
    "silhouette_accuracy_percent": "FB acc %", "silhouette_f1": "FB F1", "part_accuracy_percent": "part acc %",
    "part_f1": "part F1",
}  # fmt: skip


def rich_table(report: Report, width: int = 200) -> Table:
    """For a terminal of `width` characters: our rows, with their intervals where there is room, then the papers'."""
    from rich.table import Table

    table = Table(title=f"{report.dataset}, protocol {report.protocol.name}")
    table.add_column("method")
    for name in report.columns():
        table.add_column(HEADINGS.get(name, name), justify="right")
    table.add_column("frames", justify="right")
    table.add_column("missed", justify="right")
    for row in report.methods:
        cells = [_with_interval(row.figures.get(name)) for name in report.columns()]
        if width < 24 + 22 * len(cells):
            cells = [cell.split(" ")[0] for cell in cells]
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
