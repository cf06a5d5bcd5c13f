"""Ablations: the variants of a paper trained under one budget, the paper's table beside ours.

A recipe's module lists them as ``ABLATION``. Every variant learns from the same kept examples for the same number of
steps, once a seed, and is measured on the same held-out ones. What was trained already is used again."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from hmrkit import metrics
from hmrkit.body import Body, load_body
from hmrkit.body.landmarks import world_from_local
from hmrkit.errors import UsageError
from hmrkit.regressors import load_regressor
from hmrkit.training.example_source import held_out_examples, held_out_folder
from hmrkit.training.examples import Examples, to_device
from hmrkit.training.loop import CHECKPOINT
from hmrkit.training.recipe import RegressorRecipe, changed, choose_recipe
from hmrkit.training.regressors import estimates_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variant:
    """One line of a paper's ablation table.

    `group` is what is varied, `name` the line in the paper's words, `changes` what differs from the preset
    (`hmrkit.training.recipe.changed`; the paper's own design changes nothing), `paper` the figures printed there by the
    names that its table has, with their unit: ``{"3DPW PA-MPJPE mm": 49.1}``."""

    group: str
    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """A variant's own figures: for each metric one value a seed."""

    variant: Variant
    figures: Mapping[str, Sequence[float]]


def ablate(
    name: str,
    module: ModuleType,
    out: Path,
    *,
    preset: str = "cpu",
    steps: int | None = None,
    images: int | None = None,
    seeds: int = 1,
    groups: Sequence[str] = (),
    device: torch.device,
    examples: Path | None = None,
    **extras: Any,
) -> list[Result]:
    """Train and measure every variant of the regressor `name`, whose recipe `module` is; of some `groups` only.

    Networks lie in ``out/<hash of the variant's recipe>/<seed>``. `extras` are those of the recipe's `train`.
    UsageError where no variant is of these groups."""
    recipe = choose_recipe(module.PRESETS, preset, steps, images)
    variants = [v for v in module.ABLATION if not groups or v.group in groups]
    if not variants:
        raise UsageError(f"--group: wanted some of {', '.join(_groups(module.ABLATION))}, got {', '.join(groups)}")
    examples, body = examples or out / "images", load_body(device=device)
    measured: dict[str, dict[str, list[float]]] = {}
    for variant in variants:
        own = changed(recipe, variant.changes)
        design = _design(own)
        if design in measured:
            continue  # the paper's own design stands in several groups
        measured[design] = figures = {}
        for seed in range(seeds):
            folder = out / design / str(seed)
            path = folder / f"{name}.safetensors"
            if not path.is_file():
                log.info("%s, %s: seed %d", variant.group, variant.name, seed)
                resume = (folder / CHECKPOINT).is_file()
                seeded = changed(own, {"loop.seed": seed})
                module.train(name, seeded, folder, device=device, examples=examples, resume=resume, **extras)
            regressor = load_regressor(name, checkpoint=path, device=device)
            held_out = held_out_examples(regressor.backbone, held_out_folder(out, examples), own.data, device)  # type: ignore[attr-defined]
            for metric, value in measure(regressor, held_out, body).items():
                figures.setdefault(metric, []).append(value)
    return [Result(v, measured[_design(changed(recipe, v.changes))]) for v in variants]


def measure(regressor: Any, held_out: Examples, body: Body) -> dict[str, float]:
    """Errors of a regressor on kept examples: MPJPE, PA-MPJPE (24 joints), PVE in mm about the pelvis; MPJAE of the
    global rotations of 24 joints in degrees."""
    estimate, truth = estimates_of(regressor, held_out, body), to_device(held_out.truth, body.device)
    with torch.no_grad():
        found, wanted = (body(one.global_orient, one.body_pose, one.betas) for one in (estimate, truth))
    rotations = (
        world_from_local(torch.cat([one.global_orient[:, None], one.body_pose], 1)).cpu() for one in (estimate, truth)
    )
    return {
        "MPJPE mm": metrics.mpjpe_mm(found.joints, wanted.joints),
        "PA-MPJPE mm": metrics.pa_mpjpe_mm(found.joints, wanted.joints),
        "PVE mm": metrics.pve_mm(found.vertices, wanted.vertices, found.joints[:, 0], wanted.joints[:, 0]),
        "MPJAE deg": metrics.mpjae_deg(*rotations),
    }


def table(results: Sequence[Result]) -> str:
    """Markdown: our figures (mean, and standard deviation over the seeds) beside the paper's."""
    ours = list(results[0].figures)
    theirs = list(dict.fromkeys(name for r in results for name in r.variant.paper))
    heads = ["varied", "variant", *(f"ours: {m}" for m in ours), *(f"paper: {m}" for m in theirs)]
    lines = [heads, ["---"] * len(heads)]
    for r in results:
        printed = [f"{r.variant.paper[m]:g}" if m in r.variant.paper else "" for m in theirs]
        lines.append([r.variant.group, r.variant.name, *(_spread(r.figures[m]) for m in ours), *printed])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def claims(results: Sequence[Result], metric: str = "PA-MPJPE mm") -> str:
    """One line a group: whether the paper's best variant is ours, too, or by how much another one is ahead.

    The paper's best is the one with the lowest mean of its figures. Differences within the seeds' spread are no order.
    """
    lines = []
    for group in _groups([r.variant for r in results]):
        mine = [r for r in results if r.variant.group == group]
        printed = [r for r in mine if r.variant.paper]
        if len(printed) < 2:
            continue
        best = min(printed, key=lambda r: np.mean(list(r.variant.paper.values())))
        first = min(printed, key=lambda r: np.mean(r.figures[metric]))
        ahead = float(np.mean(best.figures[metric]) - np.mean(first.figures[metric]))
        if first is best:
            verdict = f"as in the paper, {best.variant.name} is best"
        else:
            verdict = f"not as in the paper: {first.variant.name} is ahead of {best.variant.name} by {ahead:.1f}"
        noise = max(float(np.std(r.figures[metric])) for r in printed)
        lines.append(f"- {group} ({metric}): {verdict}" + (f"; spread over seeds {noise:.1f}" if noise else ""))
    return "\n".join(lines) + "\n"


def draw(
    results: Sequence[Result],
    path: Path,
    metric: str = "PA-MPJPE mm",
    measured_on: str = "held-out synthetic images",
) -> None:
    """A bar a variant with its seeds as points, groups one below the other, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 0.32 * len(results)))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    groups = _groups([r.variant for r in results])
    for row, r in enumerate(results):
        axes.barh(row, np.mean(r.figures[metric]), color=f"C{groups.index(r.variant.group) % 10}", alpha=0.6)
        axes.plot(r.figures[metric], [row] * len(r.figures[metric]), "k.")
    axes.set_yticks(range(len(results)), [f"{r.variant.group}: {r.variant.name}" for r in results])
    lowest = min(min(r.figures[metric]) for r in results)
    axes.set(xlabel=f"{metric}, {measured_on}", xlim=(0.9 * lowest, None))
    axes.invert_yaxis()
    figure.savefig(path, dpi=100, bbox_inches="tight")


def _groups(variants: Sequence[Variant]) -> list[str]:
    return list(dict.fromkeys(v.group for v in variants))


def _spread(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.1f}"
    return f"{mean} ± {np.std(values):.1f}" if len(values) > 1 else mean


def _design(recipe: RegressorRecipe) -> str:
    """A short name of a recipe, the same for equal ones."""
    return hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode()).hexdigest()[:10]
