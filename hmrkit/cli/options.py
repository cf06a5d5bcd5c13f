"""Options that several subcommands share, each written once, and the progress bar and logging they all use."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrkit.pipeline import Progress

Detector = Annotated[str, typer.Option(help="yolox-nano, yolo:WEIGHTS (ultralytics) or file:BOXES.json.")]
Tracker = Annotated[str, typer.Option(help="bytetrack.")]
People = Annotated[str, typer.Option(help="all, largest, or how many (the N most visible).")]
KeypointSource = Annotated[
    str, typer.Option("--keypoints", help="blazepose-heavy[:alone], movenet-thunder, yolo-pose[:W], file:F.")
]
Lifter = Annotated[str, typer.Option(help="videopose3d.")]
LifterCheckpoint = Annotated[str | None, typer.Option(help="A checkpoint of your own for the lifter.")]
Flip = Annotated[bool, typer.Option("--flip/--no-flip", help="Lift the mirrored keypoints too and average.")]
Method = Annotated[str, typer.Option(help="pc-hmr, fit, hmr or spin.")]
Mesh = Annotated[str | None, typer.Option(help="Mesh stream that pc-hmr calibrates: fit (default), hmr or spin.")]
Checkpoint = Annotated[
    str | None, typer.Option(help="A checkpoint of your own for the regressor (SPIN's as published, or hmrkit's).")
]
Smooth = Annotated[float, typer.Option(help="Take jitter out of the mesh stream, without delay: 0 is off.")]
Refine = Annotated[
    bool | None,
    typer.Option(
        "--refine/--no-refine", help="SMPLify over each whole track. [default: on for fit, off for regressors]"
    ),
]
BodyFile = Annotated[str | None, typer.Option("--body", help="An SMPL model file of your own (.pkl or .npz).")]
Gender = Annotated[str, typer.Option(help="neutral, male or female.")]
Focal = Annotated[float | None, typer.Option(help="Focal length in pixels, if known.")]
Fov = Annotated[float | None, typer.Option(help="Field of view across the longer side in degrees, if known (else 55).")]
Start = Annotated[str | None, typer.Option(help="First frame: a frame number, seconds (2.5s) or hh:mm:ss.")]
End = Annotated[str | None, typer.Option(help="Frame to stop before, given like --start.")]
Every = Annotated[int, typer.Option(help="Take every N-th frame.")]
FolderFps = Annotated[float | None, typer.Option("--fps", help="Frame rate of a folder of frames (else 30).")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16 for the networks.")]
BatchSize = Annotated[int, typer.Option(help="Frames in flight at once; bounds memory.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show tracebacks.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of paths.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do everything again instead of resuming.")]


def start_logging(verbose: bool) -> None:
    """Messages to standard error: warnings, or everything with -v."""
    logging.basicConfig(stream=sys.stderr, format="hmrkit: %(message)s", level=logging.WARNING)
    logging.getLogger("hmrkit").setLevel(logging.DEBUG if verbose else logging.WARNING)


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """A bar on standard error where that is a terminal, else nothing; yields the pipeline's progress callback."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(f"{title} {stage}", total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield update
