"""`hmrkit detect | track | pose | regress | lift | calibrate`: single stages on takes in files or pipes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrkit.cli import options as o

if TYPE_CHECKING:
    from hmrkit.types import Take

TakeIn = Annotated[str, typer.Argument(help="A take, or - for standard input.")]
TakeOut = Annotated[
    list[str], typer.Option("--out", "-o", help="Where to write the take, - for standard output; twice for both.")
]


def detect(
    video: Annotated[str, typer.Argument(help="A video, or a folder of frames.")],
    out: TakeOut,
    detector: o.Detector = "yolox-nano",
    focal: o.Focal = None,
    fov: o.Fov = None,
    start: o.Start = None,
    end: o.End = None,
    every: o.Every = 1,
    fps: o.FolderFps = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    batch_size: o.BatchSize = 8,
    verbose: o.Verbose = False,
) -> None:
    """Find the people in every frame of a video; starts a take."""
    from hmrkit.options import Options
    from hmrkit.pipeline import open_clip

    o.start_logging(verbose)
    check_outputs(out)
    options = Options(
        detector=detector, focal=focal, fov=fov, start=start, end=end, every=every, fps=fps, device=device,
        dtype=dtype, batch_size=batch_size,
    )  # fmt: skip
    _stage("detect", open_clip(video, options), out, options)


def track(
    take: TakeIn, out: TakeOut, tracker: o.Tracker = "bytetrack", people: o.People = "all", verbose: o.Verbose = False
) -> None:
    """Join detections into people through the whole clip."""
    _chain("track", take, out, verbose, tracker=tracker, people=people)


def pose(
    take: TakeIn,
    out: TakeOut,
    keypoints: o.KeypointSource = "blazepose-heavy",
    device: o.Device = "auto",
    dtype: o.Dtype = "float32",
    batch_size: o.BatchSize = 8,
    verbose: o.Verbose = False,
) -> None:
    """Find 2D and 3D keypoints of every person."""
    _chain("pose", take, out, verbose, keypoints=keypoints, device=device, dtype=dtype, batch_size=batch_size)


def regress(
    take: TakeIn,
    out: TakeOut,
    method: Annotated[str, typer.Option("--method", "--mesh", help="Mesh stream: fit, hmr or spin.")] = "fit",
    checkpoint: o.Checkpoint = None,
    smooth: o.Smooth = 1.0,
    refine: o.Refine = None,
    body: o.BodyFile = None,
    gender: o.Gender = "neutral",
    device: o.Device = "auto",
    batch_size: o.BatchSize = 8,
    verbose: o.Verbose = False,
) -> None:
    """Body parameters of every person, by a mesh stream."""
    _chain(
        "regress", take, out, verbose, mesh=method, checkpoint=checkpoint, smooth=smooth, refine=refine, body=body,
        gender=gender, device=device, batch_size=batch_size,
    )  # fmt: skip


def lift(
    take: TakeIn,
    out: TakeOut,
    lifter: o.Lifter = "videopose3d",
    lifter_checkpoint: o.LifterCheckpoint = None,
    flip: o.Flip = True,
    device: o.Device = "auto",
    verbose: o.Verbose = False,
) -> None:
    """Lift every person's 2D keypoints to 3D through time."""
    _chain("lift", take, out, verbose, lifter=lifter, lifter_checkpoint=lifter_checkpoint, flip=flip, device=device)


def calibrate(
    take: TakeIn, out: TakeOut, body: o.BodyFile = None, device: o.Device = "auto", verbose: o.Verbose = False
) -> None:
    """Calibrate the meshes by the lifted pose (PC-HMR)."""
    _chain("calibrate", take, out, verbose, body=body, device=device)


def _chain(name: str, take: str, out: list[str], verbose: bool, **options: Any) -> None:
    from hmrkit.options import Options
    from hmrkit.take import open_take

    o.start_logging(verbose)
    check_outputs(out)
    _stage(name, open_take(take), out, Options(**options))


def _stage(name: str, take: Take, out: list[str], options: Any) -> None:
    from hmrkit.models import Models
    from hmrkit.pipeline import STAGES, adopted, run_stages

    options = adopted(options, take, [name])
    # What the stage reads and can be made from this take is made, too: the lifted pose for keypoints without 3D.
    missing = [n for n in STAGES[name].inputs(options) if n not in take.provenance and n == "lift"]
    with o.progress_bar("") as progress:
        take = run_stages(take, [*missing, name], Models(options), progress)
    write_take(take, out)


def check_outputs(out: list[str]) -> None:
    """UsageError, before any work, where a take would be poured onto a terminal."""
    from hmrkit.errors import UsageError

    if "-" in out and sys.stdout.isatty():
        raise UsageError("-o - writes a take (binary) to a terminal; pipe it into the next stage, or name a file")


def write_take(take: Take, out: list[str]) -> None:
    """Write a take to each of `out`. Paths are printed unless the take itself goes to standard output."""
    from hmrkit.take import save_take

    check_outputs(out)
    for path in out:
        if path != "-":
            save_take(take, path)
            if "-" not in out:
                typer.echo(path)
    if "-" in out:
        save_take(take, sys.stdout.buffer)
