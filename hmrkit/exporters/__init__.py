"""Exporters write a `hmrkit.scene.Scene` into files that other programs read.

How to add one: write a module with a class as in the Protocol `Exporter` below, and add its line to `EXPORTERS`
with the class's name (``tests/new_members`` has an example). The scene is already on its clock, in its space, axes and
unit: flip nothing, but say in the file which they are. Ask for exact vertices in `Character.stretches`, never for more
at once; write every file through `hmrkit.files.atomic_path`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hmrkit.errors import UsageError
from hmrkit.members import Member, unknown

if TYPE_CHECKING:
    from hmrkit.scene import ExportOptions, Scene
    from hmrkit.scene.types import Unit


log = logging.getLogger(__name__)
_UNIT_TOLERANCE = 0.01  # of a length: other units of bones and files are warned of


@dataclass(frozen=True, kw_only=True)
class ExporterMember(Member):
    """`needs_vertices`: it writes the exact vertices of every frame, which parameters alone do not have. `own_times`:
    it writes the time of every frame, so that a clip of variable rate need not be resampled for it. `reads`: those of
    `FORMAT_OPTIONS` that change its files."""

    needs_vertices: bool = False
    own_times: bool = False
    reads: tuple[str, ...] = ()


# What `hmrkit.scene.staging` does for formats that have skeletons.
SKELETON_OPTIONS = ("rig", "namespace", "root_bone", "t_pose")

EXPORTERS: dict[str, ExporterMember] = {
    "npz": ExporterMember(
        module="hmrkit.exporters.npz",
        class_name="NpzExporter",
        summary="one .npz a person: pose, shape and translation in AMASS's layout, joints, keypoints, camera",
        paper="Mahmood et al. 2019, AMASS: Archive of Motion Capture as Surface Shapes",
        own_times=True,
        reads=("npz",),
    ),
    "smpl": ExporterMember(
        module="hmrkit.exporters.smpl",
        class_name="SmplExporter",
        summary="one .smpl a person, as Meshcapade's programs and plug-ins read it (needs smplcodec)",
        licence="MIT",
    ),
    "obj": ExporterMember(
        module="hmrkit.exporters.obj",
        class_name="ObjExporter",
        summary="one folder of .obj files a person, one a frame: exact vertices, one topology",
        needs_vertices=True,
        reads=("obj_uv", "texture"),
    ),
    "ply": ExporterMember(
        module="hmrkit.exporters.ply",
        class_name="PlyExporter",
        summary="one folder of binary .ply files a person, one a frame: exact vertices, one topology",
        needs_vertices=True,
    ),
    "stl": ExporterMember(
        module="hmrkit.exporters.mesh_files",
        class_name="StlExporter",
        summary="one folder of binary .stl files a person, one a frame, for printing; names no unit",
        licence="MIT",
        needs_vertices=True,
    ),
    "off": ExporterMember(
        module="hmrkit.exporters.mesh_files",
        class_name="OffExporter",
        summary="one folder of .off files a person, one a frame: exact vertices, one topology",
        licence="MIT",
        needs_vertices=True,
    ),
    "3mf": ExporterMember(
        module="hmrkit.exporters.mesh_files",
        class_name="ThreeMfExporter",
        summary="one folder of .3mf files a person, one a frame, for printing: in full size, with its unit",
        needs_vertices=True,
    ),
    "fbx": ExporterMember(
        module="hmrkit.exporters.fbx",
        class_name="FbxExporter",
        summary="one binary FBX a clip: skinned, animated people in their own shape, camera; no Blender needed",
        reads=("keyframe_reduce", "pose_shapes", "exact", "texture", *SKELETON_OPTIONS),
    ),
    "bvh": ExporterMember(
        module="hmrkit.exporters.bvh",
        class_name="BvhExporter",
        summary="one .bvh a person: skeleton with the person's bone lengths, rotations and root motion",
        paper="Meredith and Maddock 2001, Motion Capture File Formats Explained",
        reads=("bvh_start", "rig", "namespace", "t_pose"),
    ),
    "glb": ExporterMember(
        module="hmrkit.exporters.glb",
        class_name="GlbExporter",
        summary="one binary glTF a clip: skinned, animated people in their own shape, camera (y up, metres)",
        paper="Khronos Group, glTF 2.0 Specification",
        reads=("keyframe_reduce", "pose_shapes", "exact", "influences", "quantize", "texture", *SKELETON_OPTIONS),
    ),
    "usd": ExporterMember(
        module="hmrkit.exporters.usd",
        class_name="UsdExporter",
        summary="one .usdc a clip: UsdSkel characters, camera; exact vertices in a second file (needs usd-core)",
        licence="Modified Apache 2.0",
        reads=("exact", "texture", *SKELETON_OPTIONS),
    ),
    "abc": ExporterMember(
        module="hmrkit.exporters.abc",
        class_name="AbcExporter",
        summary="one Alembic point cache a clip: exact vertices of every frame, camera",
        needs_vertices=True,
    ),
    "csv": ExporterMember(
        module="hmrkit.exporters.joints",
        class_name="CsvExporter",
        summary="one .csv a person: places of the joints, a row a frame",
    ),
    "json": ExporterMember(
        module="hmrkit.exporters.joints",
        class_name="JsonExporter",
        summary="one .json a clip: joints, skeleton, camera, clock and options",
    ),
    "trc": ExporterMember(
        module="hmrkit.exporters.trc",
        class_name="TrcExporter",
        summary="one .trc a person for OpenSim and other biomechanics programs: joints as markers, mm",
    ),
}

# Options of `ExportOptions` that only some formats have a use for.
FORMAT_OPTIONS = tuple(dict.fromkeys(option for member in EXPORTERS.values() for option in member.reads))


class Exporter(Protocol):
    """Writes scenes. Made without arguments; making it is a UsageError where a package that it needs is missing."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """Write the scene's people under `folder`; returns the files and folders made, a folder for the frames in it.

        InputError or UsageError where that cannot be done. A scene without people makes nothing.
        """
        ...


def check_formats(formats: str | Sequence[str]) -> list[str]:
    """``"npz,obj"`` or a sequence of names -> names, each once. UsageError lists what there is."""
    parts = formats.split(",") if isinstance(formats, str) else formats
    names = list(dict.fromkeys(part.strip().lower() for part in parts if part.strip()))
    for name in names:
        if name not in EXPORTERS:
            raise unknown("export format", name, EXPORTERS)
    return names


def check_format_options(formats: Sequence[str], options: ExportOptions) -> None:
    """UsageError for an option that none of the formats has a use for; a warning names those that have none."""
    for option in FORMAT_OPTIONS:
        if getattr(options, option) == getattr(type(options)(), option):
            continue
        flag = "--" + option.replace("_", "-")
        # Formats that write the exact vertices anyway do what --exact asks for.
        useless = [
            name
            for name in formats
            if option not in EXPORTERS[name].reads and not (option == "exact" and EXPORTERS[name].needs_vertices)
        ]
        if useless and len(useless) == len(formats):
            able = ",".join(name for name, member in EXPORTERS.items() if option in member.reads)
            raise UsageError(
                f"{flag} is for {able}, got --format {','.join(formats)}; leave it out or add such a format"
            )
        if useless:
            log.warning("%s changes nothing in %s", flag, ", ".join(useless))
    if options.rig is not None and (skeletons := [name for name in formats if "rig" in EXPORTERS[name].reads]):
        _warn_of_other_unit(skeletons, options)
    if options.up == "z" and "abc" in formats:
        log.warning(
            "programs read Alembic as y up and lay people written with --up z on their backs; use --up y for abc"
        )


def _warn_of_other_unit(formats: Sequence[str], options: ExportOptions) -> None:
    """A warning where a character's own bones are in another unit than files: it would not go where the person does."""
    from hmrkit.scene.rigs import load_rig
    from hmrkit.scene.types import units_per_metre

    rig = load_rig(str(options.rig))
    if (bone_m := rig.unit) is None:
        return
    units: tuple[Unit, ...] = ("m", "cm")

    def fits(scale: float, unit: Unit) -> bool:
        return abs(bone_m * units_per_metre(scale, unit) - 1) <= _UNIT_TOLERANCE

    other = [name for name in formats if not fits(options.scale, "m" if name == "glb" else options.unit)]
    if not other:
        return
    whole = [unit for unit in units if fits(1.0, unit)]
    wanted = f"--units {whole[0]}" if whole else f"--units m --scale {1 / bone_m:.6g}"
    if "glb" in other and whole == ["cm"]:  # glTF is in metres
        wanted = f"--format fbx {wanted}"
    if whole and options.scale != 1:
        wanted += " and leave out --scale"
    log.warning(
        "%s: the character's own bones are in units of %g m, those in %s are not; to put the animation onto the "
        "character itself, use %s", rig.name, bone_m, ", ".join(other), wanted,
    )  # fmt: skip


def choose_formats(formats: str | None, params_only: bool) -> list[str]:
    """What a run writes: the `formats` asked for, else npz and obj, or npz alone where no vertices are to be made.

    UsageError where one of them needs vertices that `params_only` does not make.
    """
    names = check_formats(formats or ("npz" if params_only else "npz,obj"))
    if params_only and (meshes := [name for name in names if EXPORTERS[name].needs_vertices]):
        raise UsageError(f"--params-only makes no vertices, which --format {','.join(meshes)} writes; leave one out")
    return names


def load_exporter(name: str) -> Exporter:
    """The exporter of that name. UsageError if there is none."""
    check_formats([name])
    spec = EXPORTERS[name]
    return getattr(spec.load_module(), spec.class_name)()


def describe_axes(scene: Scene) -> str:
    """The scene's space, unit and axes in words, for a file's header."""
    axes = {
        ("y", "camera"): "x right, y up, z towards the camera, which stands at the origin",
        ("z", "camera"): "x right, y away from the camera, which stands at the origin, z up",
        ("y", "world"): "y up from the ground at 0, z towards the camera, which stands above the origin",
        ("z", "world"): "z up from the ground at 0, y away from the camera, which stands above the origin",
    }
    return f"{'metres' if scene.unit == 'm' else 'centimetres'}; {axes[scene.up, scene.space]}"
