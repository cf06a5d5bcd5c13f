"""Curves over a clip's time as files: PNG and SVG to look at, CSV to go on with."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.errors import UsageError
from hmrkit.files import atomic_path
from hmrkit.members import names_of, unknown

FORMATS, AXES = ("png", "svg", "csv"), ("seconds", "frames")
LEFT, RIGHT = "#1f6fb4", "#d9602b"
OTHERS = ("#2b2b2b", "#7a3fa0", "#2f9e58", "#b8860b")


@dataclass(frozen=True)
class Panel:
    """Curves of one unit on one scale: `lines` name -> values (T,), NaN where nothing is known. `states`: values are 0
    or 1, drawn as bars. `limits` of the scale, None: by the values."""

    title: str
    unit: str
    lines: dict[str, np.ndarray]
    states: bool = False
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Curves:
    """One file: its `name` without suffix, and panels over T frames of the source at `seconds` (T,); `cuts`, the frames
    that begin a shot."""

    name: str
    title: str
    frames: np.ndarray
    seconds: np.ndarray
    panels: tuple[Panel, ...]
    cuts: tuple[int, ...] = ()


def choose_formats(text: str) -> tuple[str, ...]:
    """``png,csv`` -> the formats. UsageError for others."""
    names = names_of(text)
    if not names:
        raise UsageError(f"--format wants some of {', '.join(FORMATS)}, got {text!r}")
    for name in names:
        if name not in FORMATS:
            raise unknown("--format", name, FORMATS)
    return names


def check_axis(axis: str) -> None:
    """UsageError for another axis than those of `AXES`."""
    if axis not in AXES:
        raise unknown("--axis", axis, AXES)


def write_curves(curves: Curves, folder: Path, formats: Sequence[str], axis: str = "seconds") -> list[Path]:
    """Write the curves in each of `formats` (`FORMATS`) under `folder`, over ``seconds`` or ``frames``; the paths."""
    check_axis(axis)
    made = []
    for name in formats:
        path = folder / f"{curves.name}.{name}"
        with atomic_path(path) as temporary:
            if name == "csv":
                _write_csv(curves, temporary)
            else:
                _figure(curves, axis).savefig(temporary, format=name, dpi=110)
        made.append(path)
    return made


def _write_csv(curves: Curves, path: Path) -> None:
    """A row a frame, a column a curve, whose name ends in its unit; empty where nothing is known."""
    lines = [(key, panel.unit, values) for panel in curves.panels for key, values in panel.lines.items()]
    names = [f"{key}_{unit.replace('/', '_')}" if unit else key for key, unit, _ in lines]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "time_s", *names])
        for row, (frame, seconds) in enumerate(zip(curves.frames.tolist(), curves.seconds.tolist(), strict=True)):
            values = (float(values[row]) for _, _, values in lines)
            writer.writerow([frame, f"{seconds:.6f}", *(f"{v:.6g}" if np.isfinite(v) else "" for v in values)])


def _figure(curves: Curves, axis: str) -> Any:
    from matplotlib.figure import Figure  # not pyplot: a figure needs no window and no global state

    heights = [0.3 + 0.35 * len(panel.lines) if panel.states else 1.9 for panel in curves.panels]
    figure = Figure(figsize=(11, 1.1 + sum(heights)), layout="constrained")
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    x = curves.seconds if axis == "seconds" else curves.frames.astype(float)
    for plot, panel in zip(grid, curves.panels, strict=True):
        _draw_panel(plot, panel, x)
        for cut in curves.cuts:
            plot.axvline(float(np.interp(cut, curves.frames, x)), color="0.4", linewidth=0.9, linestyle=":")
        plot.set_title(panel.title, loc="left", fontsize=10)
        plot.set_ylabel(panel.unit)
        plot.grid(alpha=0.3)
    grid[-1].set_xlabel("time (s)" if axis == "seconds" else "frame of the source")
    grid[-1].set_xlim(x[0], x[-1] if len(x) > 1 else x[0] + 1)
    figure.suptitle(curves.title, fontsize=12)
    return figure


def _draw_panel(plot: Any, panel: Panel, x: np.ndarray) -> None:
    others = iter(OTHERS * len(panel.lines))
    colours = [LEFT if k.startswith("left") else RIGHT if k.startswith("right") else next(others) for k in panel.lines]
    names = [key.replace("_", " ") for key in panel.lines]
    if panel.states:
        width = np.append(np.diff(x), np.diff(x)[-1:] if len(x) > 1 else 1.0)
        for row, (values, colour) in enumerate(zip(panel.lines.values(), colours, strict=True)):
            on = values > 0
            plot.broken_barh(list(zip(x[on], width[on], strict=True)), (row - 0.35, 0.7), color=colour, linewidth=0)
        plot.set_yticks(range(len(names)), names)
        plot.set_ylim(len(names) - 0.4, -0.6)
        return
    for k, (name, values, colour) in enumerate(zip(names, panel.lines.values(), colours, strict=True)):
        dash = "--" if colour in colours[:k] else "-"  # the second of one side
        lonely = np.isfinite(values).sum() < 3  # too few for a line
        plot.plot(
            x,
            values,
            color=colour,
            linestyle=dash,
            linewidth=1.4,
            marker="o" if lonely else "",
            markersize=3,
            label=name,
        )
    if panel.limits:
        plot.set_ylim(*panel.limits)
    plot.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
