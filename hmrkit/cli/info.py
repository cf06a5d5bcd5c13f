"""`hmrkit info`: what is in a take or a video."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hmrkit.cli import options as o

if TYPE_CHECKING:
    from hmrkit.types import Take

LEFT_OUT = 8  # lines on what was left out
BLOCKS = "▁▂▃▄▅▆▇█"


@o.with_options("info")
def info(
    path: Annotated[str, typer.Argument(help="A take, a video, a mesh file, or - for a take on standard input.")],
    mesh: Annotated[
        bool, typer.Option("--mesh", help="Of a mesh file or a take's people: watertight, height, volume, faces.")
    ] = False,
    frame: Annotated[int | None, typer.Option(help="Of a take for --mesh. [default: each person's first]")] = None,
    up: Annotated[str, typer.Option(help="Axis that points up in a mesh file: x, y or z.")] = "y",
    units: Annotated[str, typer.Option(help="Of a mesh file that names none: m, cm or mm.")] = "m",
    physics: Annotated[
        bool, typer.Option("--physics", help="Of a take: gravity as each jump and fall shows it, and what that says.")
    ] = False,
    *,
    options: dict[str, Any],
    as_json: o.AsJson = False,
) -> None:
    """Say what is in a take or a video: who is seen when, and along the clip how surely; or measure meshes."""
    if mesh and physics:
        from hmrkit.errors import UsageError

        raise UsageError("--mesh and --physics are two reports; ask for one at a time")
    if mesh:
        meshes = _meshes(path, frame, up, units, options)
        if as_json:
            typer.echo(json.dumps(meshes, indent=1))
            return
        from hmrkit.metrics.mesh_facts import describe

        for name, facts in meshes.items():
            typer.echo(describe(name, facts))
        return
    if physics:
        facts = _physics(path, options)
        if as_json:
            typer.echo(json.dumps(facts, indent=1))
            return
        for f in facts["flights"]:
            typer.echo(
                f"{f['person']}  frames {f['begin']} to {f['end']}: gravity {f['gravity']:.2f} m/s2"
                f" ({f['gravity'] / facts['gravity']:.2f} of {facts['gravity']}), aside {f['aside']:+.2f},"
                f" in depth {f['in_depth']:+.2f}, off the parabola by {f['residual_m'] * 1000:.0f} mm"
            )
        typer.echo(facts["verdict"])
        return
    from hmrkit.options import Options
    from hmrkit.pipeline import open_clip
    from hmrkit.report import report
    from hmrkit.take import open_take

    take = open_take(path) if path == "-" or path.endswith(".npz") else open_clip(path, Options(**options))
    facts = report(take)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    for line in summary(take, facts):
        typer.echo(line)


def _meshes(path: str, frame: int | None, up: str, units: str, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Facts of each mesh of a file, or of each person of a take in one frame."""
    from hmrkit.errors import InputError, UsageError
    from hmrkit.metrics.mesh_facts import MESH_SUFFIXES, file_facts, mesh_facts

    if up not in ("x", "y", "z") or units not in ("m", "cm", "mm"):
        raise UsageError(f"--up must be x, y or z and --units m, cm or mm, got {up!r} and {units!r}")
    if path.lower().endswith(MESH_SUFFIXES):
        return file_facts(path, up, units)
    if path != "-" and not path.endswith(".npz"):
        raise UsageError(f"--mesh is for takes and for {', '.join(MESH_SUFFIXES)}, got {path}")
    from hmrkit.meshes import mesh_slice
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import adopted
    from hmrkit.scene import person_name
    from hmrkit.take import open_take

    take = open_take(path)
    if not take.body:
        raise InputError(f"{path}: the take has no meshes yet; run `hmrkit regress` on it first")
    models = Models(adopted(Options(**options, device="cpu"), take, ()))
    found = {}
    for track in take.people_with_mesh():
        frames = track.frame_indices.tolist()
        if frame is None or frame in frames:
            row = 0 if frame is None else frames.index(frame)
            mesh = mesh_slice(take, track.track_id, slice(row, row + 1), models)
            facts = mesh_facts(mesh.vertices_c[0], models.body.faces)  # the camera's y points down: the same length
            found[person_name(track.track_id)] = {"frame": frames[row], **facts}
    if not found:
        raise UsageError(f"{path}: no person has a mesh{'' if frame is None else f' in frame {frame}'}; choose another")
    return found


def _physics(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """Flights of a take's people and what they say of size, focal length and clock."""
    from hmrkit.errors import InputError, UsageError
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import adopted
    from hmrkit.scene import person_name
    from hmrkit.scene.flights import GRAVITY, find_flights, verdict
    from hmrkit.scene.ground import estimate_world
    from hmrkit.scene.resampling import make_clock, make_motion
    from hmrkit.take import open_take

    if path != "-" and not path.endswith(".npz"):
        raise UsageError(f"--physics is for takes, got {path}; run `hmrkit run` on the clip first")
    take = open_take(path)
    if not take.body:
        raise InputError(f"{path}: the take has no meshes yet; run `hmrkit regress` on it first")
    body = Models(adopted(Options(**options, device="cpu"), take, ())).body
    clock = make_clock(take, None, 0)
    ids = [track.track_id for track in take.people_with_mesh()]
    motions = [m for i in ids if (m := make_motion(take, i, clock, body, person_name(i))) is not None]
    flights = find_flights(motions, body, clock.fps, estimate_world(motions, body, clock.fps))
    return {"gravity": GRAVITY, "flights": [flight.as_json() for flight in flights], "verdict": verdict(flights)}


def summary(take: Take, facts: dict[str, Any]) -> list[str]:
    """Lines on a take and its `report`: the clip, then two or three lines a person with sparklines along the clip."""
    import numpy as np

    from hmrkit.pipeline import STAGES

    frames = take.video.frame_indices
    seconds = len(frames) / take.video.sampled_fps
    failed, empty = len(facts["failed_frames"]), len(facts["frames_without_people"])
    lines = [
        f"{facts['video']}  {facts['width']}x{facts['height']}, {float(take.video.fps):.6g} frames/s"
        + (" on average, at a variable rate" if facts["variable_fps"] else ""),
        f"frames     {len(frames)} ({frames[0]} to {frames[-1]}), {seconds:.2f} s"
        + (f", {failed} could not be decoded" if failed else "")
        + (f", {empty} without people" if empty else ""),
        *(f"footage    {note}" for note in facts["notes"]),
        *([f"cuts       new shots at frames {', '.join(map(str, facts['cuts']))}"] if facts["cuts"] else []),
        f"camera     focal length {facts['focal_px']:.1f} px ({facts['focal_source']})"
        + (f", zooming to {min(facts['zoom']):.3f} to {max(facts['zoom']):.3f} times that" if "zoom" in facts else ""),
        f"stages     {' '.join(stage for stage in STAGES if stage in facts['stages']) or 'none'}",
    ]
    if take.tracks or take.dropped_tracks:
        lines.append(f"people     {len(take.tracks)}, {len(take.dropped_tracks)} tracks without a mesh")
        lines += [
            f"left out   frames {d.first_frame} to {d.last_frame}, {d.boxes} boxes: {d.reason}"
            for d in take.dropped_tracks[:LEFT_OUT]
        ]
        if more := len(take.dropped_tracks) - LEFT_OUT:
            lines += [f"           and {more} more (--json)"] if more > 0 else []
    for track, person in zip(take.tracks, facts["people"], strict=True):
        i = track.track_id
        filled = f", {person['interpolated_frames']} filled in" if person["interpolated_frames"] else ""
        of_mesh = " before calibration" if i in take.calibrated else ""
        iou = f", mask IoU {person['mask_iou']:.2f}{of_mesh}" if "mask_iou" in person else ""
        sure = person.get("gender_probability", {}).get(person.get("gender"))
        body = "" if sure is None else f", {person['gender']} body ({sure:.0%} sure)"
        mesh = "" if person["mesh"] or "regress" not in take.provenance else ", no mesh"
        lines.append(
            f"person {i:<3d} frames {person['first_frame']} to {person['last_frame']}, {person['frames']} in all"
            f"{filled}{mesh}{iou}{body}"
        )
        if i in take.keypoints:
            surely = np.nanmean(take.keypoints[i].keypoints_2d[..., 2], axis=1)
            lines.append(_along("confidence", surely, 1.0, track.frame_indices, frames, ".2f"))
        if unseen := person.get("unseen_limbs"):
            limbs = [f"{limb.replace('_', ' ')} {share:.0%}" for limb, share in unseen.items()]
            lines.append(f"  {'unseen':10s} {', '.join(limbs)} of the frames")
        if i in take.calibrated:
            residual = take.calibrated[i].refit_residual_mm
            lines.append(_along("residual", residual, max(float(np.nanmax(residual)), 1.0), track.frame_indices, frames,
                                ".1f", " mm"))  # fmt: skip
    return lines


def _along(name: str, values: Any, top: float, numbers: Any, frames: Any, form: str, unit: str = "") -> str:
    """One line: a name, the range of `values` (T,), and their sparkline over the clip's `frames`."""
    import numpy as np

    clip = np.full(len(frames), np.nan)
    clip[np.searchsorted(frames, numbers)] = values
    low, middle, high = (format(float(f(values)), form) for f in (np.nanmin, np.nanmean, np.nanmax))
    return f"  {name:10s} {sparkline(clip, top)}  mean {middle}{unit}, {low} to {high}"


def sparkline(values: Any, top: float, width: int = 60) -> str:
    """`values` (T,) from 0 to `top` as at most `width` blocks, each its stretch's mean; blank where all are NaN."""
    import numpy as np

    out = ""
    for stretch in np.array_split(np.asarray(values, float), min(width, len(values))):
        seen = stretch[np.isfinite(stretch)]
        level = min(max(seen.mean() / top, 0.0), 1.0) if len(seen) else None
        out += " " if level is None else BLOCKS[min(int(level * len(BLOCKS)), len(BLOCKS) - 1)]
    return out
