"""`hmrkit export` and `hmrkit render`: files and images from a take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hmrkit.cli import options as o
from hmrkit.cli.stages import TakeIn
from hmrkit.exporters import EXPORTERS
from hmrkit.members import names_of
from hmrkit.skeletons import RIGS


@o.with_options("export")
def export(
    take: TakeIn,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into.")],
    formats: Annotated[str, typer.Option("--format", help=f"Comma-separated, of: {', '.join(EXPORTERS)}.")] = "npz,obj",
    space: Annotated[
        str, typer.Option(help="camera, or world: on the ground, for a camera that stands still.")
    ] = "camera",
    ground: Annotated[
        str | None, typer.Option(help="The ground for --space world: x,y,z,nx,ny,nz in the camera frame, metres.")
    ] = None,
    camera_pose: Annotated[
        str | None, typer.Option(help="World from camera for --space world: 12 or 16 numbers, or a text file of them.")
    ] = None,
    fps: Annotated[str | None, typer.Option(help="Resample to this rate: 24, 23.976, 30000/1001.")] = None,
    first_frame: Annotated[
        int | None, typer.Option(help="Number of the source's first frame. [default: the plates' own; 0 of a video]")
    ] = None,
    up: Annotated[str, typer.Option(help="Axis that points up: y or z.")] = "y",
    units: Annotated[str, typer.Option(help="m or cm.")] = "m",
    scale: Annotated[float, typer.Option(help="Times every length.")] = 1.0,
    skeleton: Annotated[str, typer.Option(help=f"Joint names and rest pose: smpl, {', '.join(RIGS)}.")] = "smpl",
    fingers: Annotated[str, typer.Option(help="keep, or rest: hands flat.")] = "keep",
    people: Annotated[str, typer.Option(help="all, or numbers of people: 1,3.")] = "all",
    per_person: Annotated[bool, typer.Option("--per-person/--scene", help="A file each, or all in one scene.")] = False,
    per_shot: Annotated[
        bool, typer.Option("--per-shot", help="Of a clip with cuts, a scene for each shot: names end in _shot_01.")
    ] = False,
    camera: Annotated[bool, typer.Option("--camera/--no-camera", help="Write the camera too.")] = True,
    film_back: Annotated[float, typer.Option(help="Width of the film back in mm, for the focal length.")] = 36.0,
    gaps: Annotated[
        str, typer.Option(help="Frames in which a person is not seen: hide, interpolate, or split the person there.")
    ] = "hide",
    smooth: Annotated[float, typer.Option(help="Smooth once more, without delay: 1 is usual, 0 is off.")] = 0.0,
    lock_feet: Annotated[bool, typer.Option("--lock-feet", help="Keep feet in place while they stand.")] = False,
    keyframe_reduce: Annotated[
        float | None,
        typer.Option(help="Leave out keys that rotate no joint by more degrees and move none by more mm (fbx, glb)."),
    ] = None,
    pose_shapes: Annotated[
        bool, typer.Option("--pose-shapes", help="Add SMPL's pose blend shapes (fbx, glb).")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Add the exact (calibrated) vertices to skinned formats (fbx, glb, usd).")
    ] = False,
    influences: Annotated[
        int, typer.Option(help="Most joints that move a vertex in glb, 4 or 8: three.js and Unity read 4.")
    ] = 4,
    rig: Annotated[
        str | None,
        typer.Option(help="A character's RIG.json (hmrkit rig from), or a preset: fbx, glb, usd, bvh drive its bones."),
    ] = None,
    namespace: Annotated[
        bool, typer.Option("--namespace", help="Name joints person_01:pelvis (fbx, glb, usd, bvh).")
    ] = False,
    root_bone: Annotated[
        bool,
        typer.Option("--root-bone", help="A bone on the floor under the person, for --space world (fbx, glb, usd)."),
    ] = False,
    t_pose: Annotated[
        bool, typer.Option("--t-pose", help="The rest pose one frame before the clip (fbx, glb, usd, bvh).")
    ] = False,
    quantize: Annotated[
        bool, typer.Option("--quantize", help="16-bit numbers in glb (KHR_mesh_quantization): smaller files.")
    ] = False,
    obj_uv: Annotated[
        bool, typer.Option("--obj-uv", help="Texture coordinates and a material in obj, as other formats have them.")
    ] = False,
    texture: Annotated[
        str | None,
        typer.Option(
            help="skin: a neutral one that ships; or your own PNG or JPEG on its charts (obj, fbx, glb, usd)."
        ),
    ] = None,
    bvh_start: Annotated[
        str, typer.Option(help="bvh begins with the clip, so that all people are in step, or with the person.")
    ] = "clip",
    npz: Annotated[
        str, typer.Option(help="Arrays of npz: hmrkit's, or amass: the sizes that SMPL-H's and SMPL-X's readers take.")
    ] = "hmrkit",
    video: o.Video = None,
    *,
    options: dict[str, Any],
    verbose: o.Verbose = False,
) -> None:
    """Write the people of a take as files for other programs."""
    from hmrkit.exporters import check_formats
    from hmrkit.exporters.writing import export_into
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.pipeline import adopted
    from hmrkit.scene import ExportOptions
    from hmrkit.scene.build import check_options, parse_numbers, parse_people, parse_rate
    from hmrkit.take import open_take

    o.start_logging(verbose)
    names = check_formats(formats)
    chosen: dict[str, Any] = {
        "fps": parse_rate(fps), "up": up, "unit": units, "scale": scale, "space": space,
        "ground": parse_numbers(ground, "--ground"), "camera_pose": parse_numbers(camera_pose, "--camera-pose"),
        "skeleton": skeleton, "fingers": fingers, "people": parse_people(people), "first_frame": first_frame,
        "gaps": gaps, "smooth": smooth, "lock_feet": lock_feet, "film_width_mm": film_back, "per_person": per_person,
        "per_shot": per_shot, "influences": influences, "quantize": quantize, "obj_uv": obj_uv,
        "texture": texture, "rig": rig, "namespace": namespace, "root_bone": root_bone, "t_pose": t_pose,
        "bvh_start": bvh_start, "npz": npz, "camera": camera, "keyframe_reduce": keyframe_reduce,
        "pose_shapes": pose_shapes, "exact": exact,
    }  # fmt: skip
    scene_options = ExportOptions(**chosen)
    check_options(scene_options)
    opened = open_take(take, video)
    models = Models(adopted(Options(**options), opened, ()))
    with o.progress_bar("") as progress:
        files = export_into(opened, out, names, models, progress, scene_options)
    for path in files:
        typer.echo(str(path))


@o.with_options("render")
def render(
    take: TakeIn,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Video to write (.mp4), or a folder for PNGs; for weights a .png.")
    ],
    view: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated, the first the largest: overlay, side, top, turntable. "
            "[default: overlay,side; overlay with alpha or --what compare]"
        ),
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(
            help="solid, wireframe, skeleton, parts, or a heat map: residual, reprojection, misplacement. "
            "[default: solid; misplacement with --what rigid]"
        ),
    ] = None,
    what: Annotated[
        str,
        typer.Option(
            help="meshes; iuv: the body parts, U and V that danet estimates in the footage; compare: the mesh stream "
            "beside the calibrated mesh; rigid: PC-HMR's calibration with its non-rigid term and without; weights: "
            "the calibration's A, W and A*W on the body."
        ),
    ] = "meshes",
    bones: Annotated[
        str | None,
        typer.Option(help="Of --what weights: comma-separated joints where bones end. [default: six of the left side]"),
    ] = None,
    inset: Annotated[
        bool, typer.Option("--inset/--beside", help="Other views in the corner of the first, or beside it.")
    ] = False,
    alpha: Annotated[
        bool, typer.Option("--alpha", help="Only the people, on transparent ground: one view, a PNG sequence.")
    ] = False,
    opacity: Annotated[float | None, typer.Option(help="Of the people, up to 1. [default: 0.88; 1 with alpha]")] = None,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="People's numbers above their heads.")] = True,
    heat_max: Annotated[
        float | None, typer.Option(help="Value of the hottest colour. [default: residual 2 mm, reprojection 10 %]")
    ] = None,
    first_frame: Annotated[
        int | None,
        typer.Option(help="Of a PNG sequence: number of the source's first frame. [default: as the source has it]"),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Also a contact sheet (.png).")] = None,
    video: o.Video = None,
    *,
    options: dict[str, Any],
    verbose: o.Verbose = False,
) -> None:
    """Draw the meshes over the footage, from the side, from above or going around."""
    from hmrkit.errors import UsageError
    from hmrkit.models import Models
    from hmrkit.options import Options
    from hmrkit.output import render_take
    from hmrkit.pipeline import adopted
    from hmrkit.rendering.options import DEFAULTS, RenderOptions
    from hmrkit.take import open_take

    o.start_logging(verbose)
    usual_views, usual_style = DEFAULTS.get(what, DEFAULTS["meshes"])
    views = names_of(view) if view is not None else ("overlay",) if alpha else usual_views
    if bones is not None and not names_of(bones):
        raise UsageError(
            f"--bones wants names of joints where bones end, got {bones!r}; leave it out for the usual six"
        )
    drawn = RenderOptions(
        views, style or usual_style, inset, alpha, opacity, labels, heat_max, first_frame, what, names_of(bones or "")
    )
    opened = open_take(take, video)
    models = Models(adopted(Options(**options), opened, ()))
    with o.progress_bar("") as progress:
        files = render_take(opened, out, sheet, models, progress, drawn)
    for path in files:
        typer.echo(str(path))
