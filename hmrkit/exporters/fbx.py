"""Binary FBX 7.4 without Autodesk's SDK or Blender: people skinned in their own shape, animated, and the camera.

Each person is a group ``person_01`` with the skeleton (limb nodes in the rest pose, with a bind pose), and
``person_01_mesh``; joints have keyed rotations, the root also a keyed place. Keys stand on whole frames of the exact
rate: frame n at ``n / fps`` seconds, so frame 1001 is frame 1001 in Maya. (Blender counts an imported time of 0 as
frame 1: set "Animation Offset" to 0 there.) The file says its up axis, its unit and its rate. People who are not seen
are hidden by visibility and, for programs that leave that out, by the scale of their group.
With one person a file a rig may name the group: Unreal's presets have ``root``, which Unreal takes for the root bone.

FBX's format is not published; what is written here follows Blender's notes (2013) and what ufbx reads.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np

from hmrkit import __version__
from hmrkit.exporters.curves import euler_deg
from hmrkit.exporters.fbx_binary import (
    CREATION_TIME,
    FILE_ID,
    VERSION,
    Graph,
    Int64,
    Record,
    object_name,
    properties,
    record,
    write_fbx,
)
from hmrkit.exporters.fbx_character import Animation, add_attribute, add_character, add_model, vector_row
from hmrkit.exporters.fbx_material import add_texture
from hmrkit.exporters.textures import write_texture
from hmrkit.files import atomic_path
from hmrkit.scene import ExportOptions, Scene, SceneCamera
from hmrkit.scene.rigs import load_rig
from hmrkit.scene.staging import staged

_MM_PER_INCH = 25.4
_CUSTOM_RATE = 14
_TIME_MODES = {
    Fraction(120): 1, Fraction(100): 2, Fraction(60): 3, Fraction(50): 4, Fraction(48): 5, Fraction(30): 6,
    Fraction(30000, 1001): 9, Fraction(25): 10, Fraction(24): 11, Fraction(24000, 1001): 13, Fraction(96): 15,
    Fraction(72): 16, Fraction(60000, 1001): 17, Fraction(120000, 1001): 18,
}  # fmt: skip
# A camera node of FBX looks along its x axis with y up; those of glTF, USD and Blender along -z.
_GL_FROM_FBX_CAMERA = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])


class FbxExporter:
    """``NAME.fbx`` with everyone in it, or one file a person with ``per_person``."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """Write the files; returns their paths. InputError where one cannot be written."""
        paths = []
        texture = write_texture(scene, folder)
        for part in staged(scene, options).parts(options.per_person):
            path = Path(folder) / f"{part.name}.fbx"
            records = document(part, options)
            with atomic_path(path) as temporary:
                write_fbx(temporary, records)
            paths.append(path)
        return paths + texture


def time_mode(fps: Fraction) -> int:
    """FBX's number for a frame rate; `_CUSTOM_RATE` where it has none."""
    return _TIME_MODES.get(fps, _CUSTOM_RATE)


def document(scene: Scene, options: ExportOptions) -> list[Record]:
    """All top-level records of one file with the people of `scene`."""
    graph = Graph()
    animation = Animation(graph, scene.name, scene.fps, *scene.frame_range)
    rig, alone = options.rig or options.skeleton, len(scene.characters) == 1 and not options.root_bone
    group = load_rig(rig).group if alone and rig != "smpl" else ""
    texture = None if scene.texture is None else add_texture(graph, scene.texture.name)
    for character in scene.characters:
        add_character(graph, animation, character, scene, options, group or character.name, texture)
    if options.camera:
        _add_camera(graph, animation, scene.camera, scene)
    return [
        _header(scene),
        record("FileId", FILE_ID),
        record("CreationTime", CREATION_TIME),
        record("Creator", f"hmrkit {__version__}"),
        _global_settings(scene, animation),
        _documents(scene),
        record("References"),
        _definitions(graph),
        graph.objects,
        graph.connections,
        _takes(scene, animation),
    ]


def _header(scene: Scene) -> Record:
    program = f"hmrkit {__version__}"
    header = record("FBXHeaderExtension", children=[record("FBXHeaderVersion", 1003), record("FBXVersion", VERSION)])
    header.add("EncryptionType", 0)
    stamp = header.add("CreationTimeStamp")
    stamp.add("Version", 1000)
    # The time that goes with the file's id; the same input gives the same file, bit for bit.
    for part, value in zip(("Year", "Month", "Day", "Hour", "Minute", "Second"), (1970, 1, 1, 10, 0, 0), strict=True):
        stamp.add(part, value)
    stamp.add("Millisecond", 0)
    header.add("Creator", program)
    info = header.add("SceneInfo", object_name("GlobalInfo", "SceneInfo"), "UserData")
    info.add("Type", "UserData")
    info.add("Version", 100)
    meta = info.add("MetaData")
    meta.add("Version", 100)
    metadata = {"fps": str(scene.fps), "timecode": scene.timecode, "space": scene.space, **scene.metadata}
    texts = {"Title": scene.name, "Subject": "", "Author": "", "Keywords": "", "Revision": ""}
    for key, text in (texts | {"Comment": json.dumps(metadata, default=str)}).items():
        meta.add(key, text)
    rows = []
    for stage in ("Original", "LastSaved"):
        rows += [
            (stage, "Compound", "", ""),
            (f"{stage}|ApplicationVendor", "KString", "", "", "hmrkit"),
            (f"{stage}|ApplicationName", "KString", "", "", "hmrkit"),
            (f"{stage}|ApplicationVersion", "KString", "", "", __version__),
        ]
    info.children.append(properties(*rows))
    return header


def _global_settings(scene: Scene, animation: Animation) -> Record:
    front, sign = (2, 1) if scene.up == "y" else (1, -1)
    up = 1 if scene.up == "y" else 2
    axes = {"UpAxis": up, "UpAxisSign": 1, "FrontAxis": front, "FrontAxisSign": sign, "CoordAxis": 0}
    axes |= {"CoordAxisSign": 1, "OriginalUpAxis": up, "OriginalUpAxisSign": 1}
    centimetres = scene.metres_per_unit * 100  # FBX counts units in centimetres
    rows = [(key, "int", "Integer", "", value) for key, value in axes.items()]
    rows += [(key, "double", "Number", "", centimetres) for key in ("UnitScaleFactor", "OriginalUnitScaleFactor")]
    rows += [
        ("AmbientColor", "ColorRGB", "Color", "", 0.0, 0.0, 0.0),
        ("DefaultCamera", "KString", "", "", "Producer Perspective"),
        ("TimeMode", "enum", "", "", time_mode(scene.fps)),
        ("TimeSpanStart", "KTime", "Time", "", animation.start),
        ("TimeSpanStop", "KTime", "Time", "", animation.stop),
        ("CustomFrameRate", "double", "Number", "", float(scene.fps)),
    ]
    return record("GlobalSettings", children=[record("Version", 1000), properties(*rows)])


def _documents(scene: Scene) -> Record:
    documents = record("Documents", children=[record("Count", 1)])
    document = documents.add("Document", Int64(99_999), "", "Scene")
    document.children.append(properties(("ActiveAnimStackName", "KString", "", "", scene.name)))
    document.add("RootNode", Int64(0))
    return documents


def _definitions(graph: Graph) -> Record:
    counts = {"GlobalSettings": 1} | graph.counts
    definitions = record("Definitions", children=[record("Version", 100), record("Count", sum(counts.values()))])
    for kind, count in counts.items():
        definitions.add("ObjectType", kind).add("Count", count)
    return definitions


def _takes(scene: Scene, animation: Animation) -> Record:
    takes = record("Takes", children=[record("Current", scene.name)])
    take = takes.add("Take", scene.name)
    take.add("FileName", f"{scene.name}.tak")
    take.add("LocalTime", animation.start, animation.stop)
    take.add("ReferenceTime", animation.start, animation.stop)
    return takes


def _add_camera(graph: Graph, animation: Animation, camera: SceneCamera, scene: Scene) -> None:
    """The clip's camera: focal length in mm and film back in inches, as FBX has them; the image's size as aspect."""
    width, height = (size / _MM_PER_INCH for size in camera.film_gate_mm)
    upright = camera.film_height_mm > camera.film_width_mm
    right, above = (offset / _MM_PER_INCH for offset in camera.film_offset_mm)
    metre = 1 / scene.metres_per_unit
    image = camera.film_width_mm, camera.film_height_mm
    field_of_view = [np.degrees(2 * np.arctan(size / 2 / camera.focal_mm)) for size in image]
    numbers = {
        "FocalLength": camera.focal_mm,
        "FieldOfView": field_of_view[0],
        "FieldOfViewX": field_of_view[0],
        "FieldOfViewY": field_of_view[1],
    }
    more = {
        "FilmWidth": width,
        "FilmHeight": height,
        "FilmAspectRatio": width / height,
        "FilmOffsetX": right,
        "FilmOffsetY": above,
        "AspectWidth": camera.width,
        "AspectHeight": camera.height,
        "PixelAspectRatio": 1.0,
        "NearPlane": 0.1 * metre,
        "FarPlane": 1000.0 * metre,
    }
    attribute = [(key, "Number", "", "A", float(value)) for key, value in numbers.items()]
    attribute += [(key, "double", "Number", "", float(value)) for key, value in more.items()]
    # The focal length rules; the image's size is that of the plate; it fits the film's width, upright its height.
    modes = {"ApertureMode": 3, "AspectRatioMode": 2, "GateFit": 1 if upright else 2}
    attribute += [(key, "enum", "", "", value) for key, value in modes.items()]
    place = camera.scene_from_camera
    rotation = euler_deg((place[:3, :3] @ _GL_FROM_FBX_CAMERA)[None])[0]
    rows = [vector_row("Lcl Translation", place[:3, 3]), vector_row("Lcl Rotation", rotation)]
    model = add_model(graph, camera.name, "Camera", "", 0, *rows)
    lens = add_attribute(graph, camera.name, "Camera", "Camera", model, *attribute)
    frames, zoom = camera.zoom_mm
    if len(frames):
        animation.animate(lens, "FocalLength", "FocalLength", zoom[:, None], animation.times(frames))
