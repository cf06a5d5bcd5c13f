"""PC-HMR's tables 2 and 3 (Luan et al. 2021, section 4.2) as data, and whether our figures come in their order.

- ``designs`` (table 3): the designs of the calibration, in parallel mode, with one generator;
- ``grid`` (table 2): generator x lifter x 2D stream x mode. BlazePose stands where the paper has CPN, whose keypoints
  its lifter is trained on, MoveNet where it has HRNet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hmrkit.training.ablation import Result, Variant

MPVE = "MPVE mm"
TRUE_POSE = "ground-truth 3D pose"
_PAPER = "Human3.6M MPVE mm"
# The paper calls designs that are so near to one another comparable.
_COMPARABLE_MM = 0.5
DESIGN_REMARKS = (
    "The paper's own design has shape compensation (61.1 mm, without it 61.2); ours is without.",
    "The template goes to the target of the full design, which keeps the generator's bone lengths: only the mesh is "
    "another.",
)


@dataclass(frozen=True)
class Line:
    """A line of the tables. `settings` are what it is made of, by the words of its table, `options` those of a run,
    `extra` what no run can have: `TRUE_POSE`, or one of `NETWORKS`; `paper` the figures printed there."""

    group: str
    settings: Mapping[str, str]
    options: Mapping[str, Any]
    extra: str = ""
    paper: Mapping[str, float] = field(default_factory=dict)

    @property
    def variant(self) -> Variant:
        """The line for `hmrkit.training.ablation.table`."""
        return Variant(self.group, ", ".join(self.settings.values()), self.settings, self.paper)


def designs(mesh: str) -> list[Line]:
    """Table 3, with `mesh` as the generator (`DESIGN_REMARKS`)."""

    def line(name: str, mpve: float, extra: str = "", **options: str) -> Line:
        calibrated = {"method": "pc-hmr", "mesh": mesh, **options}
        return Line("designs", {"design": name}, calibrated, extra, {_PAPER: mpve})

    baseline = Line("designs", {"design": f"{mesh}, not calibrated"}, {"method": mesh}, paper={_PAPER: 96.1})
    return [
        line("full", 61.1),
        baseline,
        line("without the non-rigid term", 69.3, calibration="rigid"),
        line("without fine-tuning", 85.5, calibration="geometric"),
        line("template mesh", 125.7, calibration="template"),
        line(TRUE_POSE, 29.9, TRUE_POSE),
        line("extra self-rotation", 61.0, "self-rotation"),
        line("with shape compensation", 61.1, "shape compensation"),
    ]


STREAMS_2D = ("blazepose-heavy", "movenet-thunder")
# MPVE mm and GFLOPs as printed; by generator: baseline, serial by lifter, parallel by lifter and 2D stream.
_BASELINE = {"hmr": (96.1, 3.5), "hmmr": (94.2, 3.6)}
_SERIAL = {
    ("hmr", "semgcn"): (91.9, 3.5), ("hmr", "videopose3d"): (82.7, 3.5),
    ("hmmr", "semgcn"): (90.3, 3.6), ("hmmr", "videopose3d"): (82.7, 3.6),
}  # fmt: skip
_PARALLEL = {
    ("hmr", "semgcn"): ((79.0, 16.1), (77.3, 19.5)), ("hmr", "videopose3d"): ((61.1, 16.1), (68.6, 19.5)),
    ("hmmr", "semgcn"): ((77.1, 16.2), (76.2, 19.6)), ("hmmr", "videopose3d"): ((61.1, 16.2), (68.4, 19.6)),
}  # fmt: skip


def grid() -> list[Line]:
    """Table 2, and the same lines for `fit`, which the paper has not."""

    def line(paper: tuple[float, float] | None, settings: dict[str, str], **options: str) -> Line:
        figures = {} if paper is None else {_PAPER: paper[0], "GFLOPs": paper[1]}
        return Line("grid", settings, options, paper=figures)

    lines = []
    for mesh in ("hmr", "hmmr", "fit"):
        base = {"generator": mesh}
        lines.append(line(_BASELINE.get(mesh), base | {"mode": "baseline"}, method=mesh))
        for lifter in ("semgcn", "videopose3d"):
            run = {"method": "pc-hmr", "mesh": mesh, "lifter": lifter, "pose3d": "lifted"}
            serial = base | {"mode": "serial", "lifter": lifter}
            lines.append(line(_SERIAL.get((mesh, lifter)), serial, mode="serial", **run))
            for k, stream in enumerate(STREAMS_2D):
                printed = _PARALLEL.get((mesh, lifter))
                parallel = base | {"mode": "parallel", "lifter": lifter, "2D": stream}
                lines.append(line(printed and printed[k], parallel, keypoints=stream, **run))
    return lines


def orders(results: Sequence[Result]) -> str:
    """Markdown: where the paper puts one line before another, whether ours are in the same order.

    Designs are compared with the full one; lines of the grid with those that differ in one thing. Lines that the paper
    calls comparable have no order."""
    same: dict[tuple[str, str], int] = {}
    other: dict[tuple[str, str], list[str]] = {}
    for k, first in enumerate(results):
        for second in results[k + 1 :]:
            varied = _varied(first.variant, second.variant)
            if varied is None or abs(first.variant.paper[_PAPER] - second.variant.paper[_PAPER]) < _COMPARABLE_MM:
                continue
            better, worse = sorted((first, second), key=lambda r: r.variant.paper[_PAPER])
            mine, theirs = ([r.figures[MPVE][0], r.variant.paper[_PAPER]] for r in (better, worse))
            key = (first.variant.group, varied)
            same.setdefault(key, 0)
            if mine[0] < theirs[0]:
                same[key] += 1
            else:
                other.setdefault(key, []).append(
                    f"{better.variant.name} ({mine[1]:.1f} in the paper, ours {mine[0]:.1f}) is not before "
                    f"{worse.variant.name} ({theirs[1]:.1f}, ours {theirs[0]:.1f})"
                )
    lines = []
    for key, count in same.items():
        against = other.get(key, [])
        lines.append(f"- {key[0]}, {key[1]}: {count} of {count + len(against)} orders as in the paper (MPVE)")
        lines += [f"  - {text}" for text in against]
    return "\n".join(lines) + "\n"


def _varied(first: Variant, second: Variant) -> str | None:
    """The one thing in which two lines that the paper has differ; None where there are several."""
    if first.group != second.group or _PAPER not in first.paper or _PAPER not in second.paper:
        return None
    if first.group == "designs":
        return "design" if first.name == "full" else None
    differ = [key for key in first.changes.keys() & second.changes.keys() if first.changes[key] != second.changes[key]]
    return differ[0] if len(differ) == 1 else None
