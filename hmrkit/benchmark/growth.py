"""How the time of a run grows with a clip's frames, with the people in it and with the size of its images."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hmrkit.benchmark.speed import run_benchmark
from hmrkit.files import atomic_path
from hmrkit.options import Options
from hmrkit.pipeline import open_clip
from hmrkit.rendering.writer import VideoWriter
from hmrkit.video import read_frames

# Parts of the clip's frames; the clip so many times beside itself; parts of its sides.
FRAMES, COPIES, SIDES = (0.25, 0.5, 1.0), (1, 2, 3), (0.5, 0.75, 1.0)
GROWTHS = {"frames": "frames", "people": "person-frames / frame", "size": "pixels, millions"}


def measure_growth(video: str, options: Options) -> list[dict[str, Any]]:
    """One row a run: what was ``varied`` (a key of `GROWTHS`), the clip's ``frames``, ``people`` and ``size``, its
    ``value`` of what was varied, ``ms`` of all, ``ms_per_frame`` and ``stages``, name -> milliseconds a frame.

    Every clip is written anew from the options' frames, so that all are coded alike. With copies the image grows, too.
    """
    with tempfile.TemporaryDirectory() as folder:
        clips, count = _write_clips(video, options, Path(folder))
        plain = replace(options, start=None, end=None, every=1)
        rows = [
            _row("frames", clips[1, 1.0], replace(plain, end=str(max(2, round(count * part))))) for part in FRAMES[:-1]
        ]
        whole = _row("frames", clips[1, 1.0], plain)
        rows.append(whole)
        rows += [_with_value("people", whole), *(_row("people", clips[copies, 1.0], plain) for copies in COPIES[1:])]
        rows += [*(_row("size", clips[1, side], plain) for side in SIDES[:-1]), _with_value("size", whole)]
    return rows


def plot_growth(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A PNG: milliseconds a frame of each stage against frames, people and pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    for panel, (varied, label) in zip(figure.subplots(1, len(GROWTHS), sharey=True), GROWTHS.items(), strict=True):
        here = [row for row in rows if row["varied"] == varied]
        for stage in here[0]["stages"]:
            panel.plot([row["value"] for row in here], [row["stages"][stage] for row in here], marker="o", label=stage)
        panel.set(xlabel=label)
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
    figure.axes[0].set(ylabel="ms / frame")
    figure.axes[0].set_ylim(bottom=0)  # last: from here on the axis that all share stays
    figure.axes[-1].legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _write_clips(video: str, options: Options, folder: Path) -> tuple[dict[tuple[int, float], Path], int]:
    """Clips by copies and part of the sides, and how many frames each has."""
    info = open_clip(video, options).video
    wanted = {*((copies, 1.0) for copies in COPIES), *((1, side) for side in SIDES)}
    clips = {(copies, side): folder / f"{copies}_{side:g}.mp4" for copies, side in wanted}
    count = 0
    with contextlib.ExitStack() as stack:
        writers = {}
        for (copies, side), path in clips.items():
            size = (round(info.width * side) * copies, round(info.height * side))
            writers[copies, side] = stack.enter_context(VideoWriter(path, *size, info.sampled_fps))
        for batch in read_frames(info):
            for frame in batch.frames:
                for (copies, side), writer in writers.items():
                    size = (round(info.width * side), round(info.height * side))
                    image = frame if side == 1 else np.asarray(Image.fromarray(frame).resize(size))
                    writer.write(np.concatenate([image] * copies, 1))
                count += 1
    return clips, count


def _row(varied: str, clip: Path, options: Options) -> dict[str, Any]:
    facts = run_benchmark(str(clip), options, ("npz",), False)
    stages = {name: row["ms_per_frame"] for name, row in facts["stages"].items()}
    row = {key: facts[key] for key in ("frames", "people", "person_frames", "size")}
    each = sum(stages.values())
    return _with_value(varied, {**row, "ms": each * facts["frames"], "ms_per_frame": each, "stages": stages})


def _with_value(varied: str, row: dict[str, Any]) -> dict[str, Any]:
    width, height = map(int, row["size"].split("x"))
    values = {
        "frames": row["frames"],
        "people": row["person_frames"] / row["frames"],
        "size": width * height / 1e6,
    }
    return {**row, "varied": varied, "value": values[varied]}
