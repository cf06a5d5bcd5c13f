"""`hmrkit detect | track | pose | regress | lift | calibrate`: single stages on takes in files or pipes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrkit.cli import options as o

if TYPE_CHECKING:
    from hmrkit.types import Take

TakeIn = Annotated[str, typer.Argument(help="A take, or - for standard input.")]
TakeOut = Annotated[
    list[str], typer.Option("--out", "-o", help="Where to write the take, - for standard output; twice for both.")
]


@o.with_options("detect")
def detect(
    video: Annotated[str, typer.Argument(help="A video, or a folder of frames.")],
    out: TakeOut,
    *,
    options: dict[str, Any],
    verbose: o.Verbose = False,
) -> None:
    """Find the people in every frame of a video; starts a take."""
    from hmrkit.options import Options
    from hmrkit.pipeline import open_clip

    o.start_logging(verbose)
    check_outputs(out)
    chosen = Options(**options)
    _stage("detect", open_clip(video, chosen), out, chosen)


def _on_a_take(name: str, text: str, **changed: Any) -> Callable[..., None]:
    """The subcommand of a stage that goes on with a take; `text` is its help, `changed` as of `with_options`."""

    def command(
        take: TakeIn,
        out: TakeOut,
        video: o.Video = None,
        *,
        options: dict[str, Any],
        given: frozenset[str],
        verbose: o.Verbose = False,
    ) -> None:
        from hmrkit.options import Options
        from hmrkit.take import open_take

        o.start_logging(verbose)
        check_outputs(out)
        _stage(name, open_take(take, video), out, Options(**options), given)

    command.__name__, command.__doc__ = name, text
    return o.with_options(name, **changed)(command)


track = _on_a_take("track", "Join detections into people through the whole clip.")
pose = _on_a_take("pose", "Find 2D and 3D keypoints of every person.")
regress = _on_a_take(
    "regress", "Body parameters of every person, by a mesh stream.", mesh=("fit", "--mesh", "--method")
)
lift = _on_a_take(
    "lift", "The 3D pose of every person that meshes are calibrated to: as a rule 2D keypoints lifted through time."
)
calibrate = _on_a_take("calibrate", "Calibrate the meshes by the lifted pose (PC-HMR).")


def _stage(name: str, take: Take, out: list[str], options: Any, given: frozenset[str] = frozenset()) -> None:
    from hmrkit.models import Models
    from hmrkit.pipeline import STAGES, adopted, run_stages

    _refuse_imported(name, take)
    options = adopted(options, take, [name], given)
    wanted = STAGES[name].inputs(options)
    missing = [stage for stage in wanted if stage not in take.provenance and STAGES[stage].on_demand]
    with o.progress_bar("") as progress:
        take = run_stages(take, [*missing, name], Models(options), progress)
    write_take(take, out)


def _refuse_imported(name: str, take: Take) -> None:
    """InputError where a stage needs what nobody made of the clip, since the take's bodies came from a file."""
    from hmrkit.errors import InputError

    if not take.body or "track" in take.provenance or name not in ("pose", "regress", "lift", "calibrate"):
        return
    made = take.provenance.get("regress", {}).get("options", {})
    if made.get("space") == "world":
        raise InputError(
            f"{name} reads keypoints, but the take's people were imported from a world, before a camera of their own: "
            "the clip does not show them there; import them with --space camera, where their tool has that"
        )
    mesh = made.get("mesh") or "file:TAKE"
    focal = f" --focal {float(take.camera.focal_px[0]):.3f}" if take.camera.source == "given" else ""
    raise InputError(
        f"{name} reads keypoints, which a take of imported results does not have; run "
        f"`hmrkit run {take.video.path} --method pc-hmr --mesh {mesh}{focal}` (with the --body of the import), "
        "which finds them and calibrates"
    )


def check_outputs(out: list[str]) -> None:
    """UsageError, before any work, where a take would be poured onto a terminal or take a folder's place."""
    from hmrkit.errors import UsageError

    if {"-", "/dev/stdout"} & set(out) and sys.stdout.isatty():
        raise UsageError("-o - writes a take (binary) to a terminal; pipe it into the next stage, or name a file")
    for path in out:
        if path != "-" and Path(path).is_dir():
            raise UsageError(f"-o {path}: wanted a file for the take, found a folder; name a file in it")


def write_take(take: Take, out: list[str]) -> None:
    """Write a take to each of `out`. Paths are printed unless the take itself goes to standard output."""
    from hmrkit.take import save_take

    check_outputs(out)
    out = ["-" if path == "/dev/stdout" else path for path in out]
    for path in out:
        if path != "-":
            save_take(take, path)
            if "-" not in out:
                typer.echo(path)
    if "-" in out:
        save_take(take, sys.stdout.buffer)
