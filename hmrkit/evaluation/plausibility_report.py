"""`hmrkit eval --dataset plausibility`: clips x methods -> figures that need no truth, a table and a page of images."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmrkit.datasets.recording import find_videos
from hmrkit.errors import HmrkitError, InputError, UsageError, WeightsError
from hmrkit.evaluation.consistency import VARIANTS, consistency, open_variant
from hmrkit.evaluation.plausibility import MEASURES, Subject, measure, subjects
from hmrkit.evaluation.runner import ProgressBar, silent
from hmrkit.files import atomic_path
from hmrkit.meshes import mesh_slice
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.pipeline import keep_stages, load_models, open_clip, run_stages, stages_of
from hmrkit.types import Take

if TYPE_CHECKING:
    from rich.table import Table

TILES = 12


@dataclass(frozen=True)
class ClipFigures:
    """A row of the table: a clip by a method. `people` has the figures of each track id, `dropped` how many tracklets
    got no mesh; `failed` says why there is nothing."""

    clip: str
    method: str
    frames: int = 0
    people: dict[int, dict[str, float]] | None = None
    dropped: int = 0
    failed: str = ""

    def pooled(self) -> dict[str, float]:
        """Figures of all people together: means over people, of what is `Measure.worst` the largest."""
        out = {}
        for name in columns():
            values = np.array([facts[name] for facts in (self.people or {}).values()], float)
            values = values[np.isfinite(values)]
            largest = name in MEASURES and MEASURES[name].worst
            out[name] = float("nan") if not len(values) else float(values.max() if largest else values.mean())
        return out


def columns() -> dict[str, str]:
    """Name -> heading of every figure."""
    return {name: facts.heading for name, facts in MEASURES.items()} | {
        f"{name}_mm": variant.heading for name, variant in VARIANTS.items()
    }


def summaries() -> dict[str, str]:
    """Name -> what every figure is."""
    return {name: facts.summary for name, facts in MEASURES.items()} | {
        f"{name}_mm": f"mean distance about the pelvis of {variant.summary}" for name, variant in VARIANTS.items()
    }


def find_clips(paths: Sequence[Path]) -> list[Path]:
    """Videos and folders of frames as given; a folder of videos is all of them. InputError where there is none."""
    clips: list[Path] = []
    for path in paths:
        inside = find_videos(path) if path.is_dir() else []
        clips += inside or [path]
    if not clips:
        raise UsageError("plausibility wants clips of your own: --data CLIP, once or more, or a folder of them")
    if missing := [str(clip) for clip in clips if not clip.exists()]:
        raise InputError(f"no such clip: {', '.join(missing)}; check the paths")
    return clips


def evaluate_plausibility(
    clips: Sequence[Path],
    methods: Sequence[Options],
    out: Path,
    limit: int | None = None,
    sheet: bool = True,
    progress: ProgressBar = silent,
) -> tuple[list[ClipFigures], list[Path]]:
    """Run every method on every clip and on its variants; returns the rows and the files made in `out`.

    `limit`: the first frames of each clip only. A clip that fails is named in its rows and does not stop the others.
    What several methods share of a clip (people, keypoints) is made once.
    """
    clips = find_clips(clips)
    named = [(_label(chosen), Models(replace(chosen, end=None if limit is None else str(limit)))) for chosen in methods]
    for _, models in named:
        load_models(models, stages_of(models.options))
    rows: list[ClipFigures] = []
    files: list[Path] = []
    out.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        with tempfile.TemporaryDirectory(prefix="hmrkit-variants-") as folder:
            takes: dict[str, Take] = {}
            for label, models in named:
                try:
                    with progress(f"{clip.name} {label}") as report:
                        takes = _run(clip, takes, models, Path(folder), report)
                        take = takes[""]
                        masks = models.person_masks(take, take.people_with_mesh(), models.batch_size)
                        seen = subjects(take, models, masks)
                        rows.append(_figures(clip, label, takes, seen, models))
                        if sheet and seen:
                            name = re.sub(r"[^\w.-]+", "_", f"{clip.stem}_{label}").strip("_")
                            page = out / f"{name}.png"
                            files.append(draw_page(take, models, page, seen[0].world.up_c, legend(rows[-1])))
                except WeightsError:  # it would be missing for all others, too
                    raise
                except HmrkitError as error:
                    rows.append(ClipFigures(clip.name, label, failed=str(error)))
    return rows, [*write_figures(rows, out), *files]


def _label(options: Options) -> str:
    return options.method if options.mesh in (options.method, None) else f"{options.method} ({options.mesh})"


def _run(clip: Path, takes: dict[str, Take], models: Models, folder: Path, progress: Any) -> dict[str, Take]:
    """The clip's take ("") and its variants' by this method; `takes` are another method's of the same clip."""
    options, stages = models.options, stages_of(models.options)
    if not takes:
        first = open_clip(clip, options)
        takes = {"": first} | {n: open_variant(first, v, options, folder / n) for n, v in VARIANTS.items()}
    return {
        name: run_stages(keep_stages(take, [s for s in stages if s in take.provenance]), stages, models, progress)
        for name, take in takes.items()
    }


def _figures(clip: Path, label: str, takes: dict[str, Take], seen: Sequence[Subject], models: Models) -> ClipFigures:
    take = takes[""]
    people = {subject.track_id: measure(subject) for subject in seen}
    for name, variant in VARIANTS.items():
        for track_id, (error, share) in consistency(take, takes[name], variant, models).items():
            if track_id in people:
                people[track_id] |= {f"{name}_mm": error, f"{name}_found": share}
    return ClipFigures(clip.name, label, len(take.video.frame_indices), people, len(take.dropped_tracks))


def legend(row: ClipFigures) -> list[str]:
    """Lines for a page of images: what they show, and every figure of the clip with its unit and meaning."""
    found, meaning = row.pooled(), summaries()
    lines = [
        f"{row.clip} by {row.method}: {row.frames} frames, {len(row.people or {})} people with a mesh, "
        f"{row.dropped} tracks without",
        "each frame: final meshes over the footage, and from the people's right with gravity downwards",
    ]
    shown = {name: f"{value:.1f}" if np.isfinite(value) else "-" for name, value in found.items()}
    return lines + [f"{heading}: {shown[name]}   ({meaning[name]})" for name, heading in columns().items()]


def draw_page(take: Take, models: Models, path: Path, up_c: np.ndarray, legend: Sequence[str] = ()) -> Path:
    """A contact sheet of frames spread over the take, under the lines of `legend`: the meshes over the footage and from
    the side.

    `up_c` (3,) is the direction against gravity in the camera frame.
    """
    from hmrkit.rendering.options import RenderOptions
    from hmrkit.rendering.overlay import Overlay
    from hmrkit.rendering.sheet import ContactSheet
    from hmrkit.rendering.styles import Figure
    from hmrkit.video import read_frames

    video = take.video
    chosen = np.unique(np.linspace(0, len(video.frame_indices) - 1, TILES).round().astype(int))
    few = video.at(chosen)
    overlay = Overlay(take.camera, take.faces, video.sampled_fps, RenderOptions(), models.device, up_c)
    with ContactSheet(path, frames=len(chosen), tiles=len(chosen), legend=legend) as sheet:
        for batch in read_frames(few):
            people: list[list[Figure]] = [[] for _ in batch.frame_indices]
            for person in take.people_with_mesh():
                _, rows, places = np.intersect1d(person.frame_indices, batch.frame_indices, return_indices=True)
                mesh = mesh_slice(take, person.track_id, rows, models)
                for k, place in enumerate(places):
                    people[place].append(Figure(person.track_id, mesh.vertices_c[k], mesh.joints_c[k], None))
            indices = batch.frame_indices.tolist()
            sheet.add_batch(overlay.draw(batch.frames, people, indices), indices)
    return path


# ------------------------------------------------------------------------------------------------------------ files


def as_json(rows: Sequence[ClipFigures]) -> dict[str, Any]:
    """The whole report as plain JSON values; a figure that a clip does not show is null."""

    def plain(figures: dict[str, float]) -> dict[str, float | None]:
        return {name: round(value, 4) if np.isfinite(value) else None for name, value in figures.items()}

    listed = [
        {
            "clip": row.clip,
            "method": row.method,
            "frames": row.frames,
            "dropped_tracks": row.dropped,
            **({"failed": row.failed} if row.failed else {}),
            "figures": plain(row.pooled()),
            "people": {str(i): plain(figures) for i, figures in (row.people or {}).items()},
        }
        for row in rows
    ]
    return {"dataset": "plausibility", "measures": summaries(), "rows": listed}


def cells(row: ClipFigures) -> list[str]:
    """A row of the table as texts."""
    figures = [f"{value:.1f}" if np.isfinite(value) else "-" for value in row.pooled().values()]
    return [row.clip, row.method, str(row.frames), str(len(row.people or {})), *figures]


def heads() -> list[str]:
    return ["clip", "method", "frames", "people", *columns().values()]


def write_figures(rows: Sequence[ClipFigures], out: Path) -> list[Path]:
    """plausibility.json and plausibility.md in `out`; returns their paths."""
    lines = ["| " + " | ".join(heads()) + " |", "|" + "---|" * len(heads())]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    contents = {"plausibility.json": json.dumps(as_json(rows), indent=1), "plausibility.md": "\n".join(lines)}
    for name, content in contents.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(content + "\n", encoding="utf-8")
    return [out / name for name in contents]


def rich_table(rows: Sequence[ClipFigures]) -> Table:
    """The table for a terminal."""
    from rich.table import Table

    table = Table(title="plausibility, without truth: means over people")
    for k, head in enumerate(heads()):
        table.add_column(head, justify="right" if k > 1 else "left")
    for row in rows:
        table.add_row(*cells(row))
    return table
