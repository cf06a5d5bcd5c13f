"""Alembic point cache (``.abc``): every frame's final vertices, exact, as one animated mesh a person; the camera.

Frame ``n`` stands at ``n / fps`` seconds, as Alembic's exporters and importers have it. Alembic knows no axes and no
unit; programs read it as y up. The rate, unit and axes are written in the archive's metadata (``FramesPerTimeUnit``,
``unit``, ``up_axis``). A person who is not seen has `visible` 0 and, because Blender leaves that out, next to no size.
Vertices are written as they are computed: memory does not depend on the length of the clip.

Sources: the schemas AbcGeom_PolyMesh_v1, AbcGeom_Xform_v3 and AbcGeom_Camera_v1 as files of other programs hold them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit import __version__
from hmrkit.exporters.character_arrays import HIDDEN_SCALE
from hmrkit.exporters.ogawa import Node, OgawaFile, Property, Sampling
from hmrkit.files import atomic_path
from hmrkit.scene import Character, ExportOptions, Scene, SceneCamera

_MESH = "schema=AbcGeom_PolyMesh_v1;schemaBaseType=AbcGeom_GeomBase_v1"
_CAMERA = "schema=AbcGeom_Camera_v1"
_XFORM = "schema=AbcGeom_Xform_v3"
_BOX = "interpretation=box"
_UV = "geoScope=fvr;interpretation=vector;isGeomParam=true;podExtent=2;podName=float32_t"
_MATRIX_OP = 3 << 4  # a transform that is one matrix


class AbcExporter:
    """``NAME.abc`` with everyone in it, or one file a person with ``per_person``."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """Write the files; returns their paths. InputError where one cannot be written."""
        paths = []
        for part in scene.parts(options.per_person):
            path = Path(folder) / f"{part.name}.abc"
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                _write_archive(OgawaFile(file), part, options)
            paths.append(path)
        return paths


def _write_archive(file: OgawaFile, scene: Scene, options: ExportOptions) -> None:
    samplings: list[Sampling] = []
    step = scene.fps.denominator / scene.fps.numerator

    def sampling(first_frame: int, count: int) -> int:
        """Number of the time sampling of `count` frames from `first_frame`."""
        samplings.append(Sampling(count, step, first_frame * scene.fps.denominator / scene.fps.numerator))
        return len(samplings)

    top = Node("ABC")
    for character in scene.characters:
        visible, before = _visibility(character, scene.frame_range)
        times = sampling(int(character.frames[0]) - before, len(visible))
        mesh = _mesh(file, character, visible, before, times)
        node = _transform(file, character.name, None, mesh)
        if not visible.all():
            seen = {True: file.sample(np.array([1], "b")), False: file.sample(np.array([0], "b"))}
            shown = Property("visible", "b", samples=[seen[bool(value)] for value in visible], sampling=times)
            node.properties.append(shown)
        top.children.append(node)
    if options.camera:
        camera = scene.camera
        frames, _ = camera.zoom_mm
        times = sampling(int(frames[0]), len(frames)) if len(frames) else 0
        properties = [_camera_schema(file, camera, scene.metres_per_unit, times)]
        lens = Node(f"{camera.name}_lens", f"{_CAMERA};schemaObjTitle={_CAMERA[7:]}:.geom", properties)
        top.children.append(_transform(file, camera.name, camera.scene_from_camera, lens))
    file.finish(top, _archive_metadata(scene), samplings)


def _mesh(file: OgawaFile, character: Character, visible: np.ndarray, before: int, times: int) -> Node:
    """The mesh of one person: all its frames are written here, a stretch at a time.

    `visible` (S,) has a value for each sample, the first `before` of which lie before the person's frames.
    """
    points = Property("P", "f", 3, is_array=True, sampling=times, metadata="geoScope=vtx;interpretation=point")
    bounds = Property(".selfBnds", "d", 6, sampling=times, metadata=_BOX)

    def sample(vertices: np.ndarray) -> tuple[int, int]:
        box = np.concatenate([vertices.min(0), vertices.max(0)]).astype(np.float64)
        return file.sample(vertices), file.sample(box)

    # One sample serves every frame in which the person is not seen; no frames of it need to be computed.
    hidden = None if visible.all() else sample(character.rest_vertices * np.float32(HIDDEN_SCALE))
    made: list[Any] = [hidden] * before
    for rows in character.stretches():
        seen = np.flatnonzero(character.visible[rows])
        vertices = iter(character.vertices(rows)[seen] if len(seen) else ())
        made += [sample(next(vertices)) if shown else hidden for shown in character.visible[rows]]
    made += [hidden] * (len(visible) - len(made))
    points.samples, bounds.samples = (list(part) for part in zip(*made, strict=True))
    # Alembic's faces run clockwise seen from outside, as RenderMan's do; importers turn them around.
    corners = file.sample(np.asarray(character.faces, np.int32)[:, ::-1])
    counts = file.sample(np.full(len(character.faces), 3, np.int32))
    uv = []
    if character.texture_uv is not None:  # a value for each corner of each face, in the faces' order
        places = file.sample(np.ascontiguousarray(character.texture_uv[:, ::-1], np.float32))
        uv = [Property("uv", "f", 2, is_array=True, samples=[places], metadata=_UV)]
    schema = Property(
        ".geom",
        metadata=_MESH,
        children=[
            bounds,
            points,
            Property(".faceIndices", "i", is_array=True, samples=[corners]),
            Property(".faceCounts", "i", is_array=True, samples=[counts]),
            *uv,
        ],
    )
    return Node(f"{character.name}_mesh", f"{_MESH};schemaObjTitle=AbcGeom_PolyMesh_v1:.geom", [schema])


def _visibility(character: Character, frame_range: tuple[int, int]) -> tuple[np.ndarray, int]:
    """Whether the person is seen, frame by frame, and how many frames of that lie before the person's first one.

    Readers hold the first and last sample for ever, so the frame before and the one after are written where others
    are still there.
    """
    before = int(character.frames[0] > frame_range[0])
    after = int(character.frames[-1] < frame_range[1])
    return np.concatenate([np.zeros(before, bool), character.visible, np.zeros(after, bool)]), before


def _transform(file: OgawaFile, name: str, matrix: np.ndarray | None, child: Node) -> Node:
    """An object that holds `child`, at the place that `matrix` (4,4) says, or where the world is."""
    schema = Property(".xform", metadata=_XFORM, children=[file.scalar(".inherits", [1], "?")])
    if matrix is not None:
        schema.children += [
            file.scalar(".ops", [_MATRIX_OP], "B"),
            file.scalar(".vals", matrix.T, "d"),  # rows of Alembic's matrices are columns of ours
            file.scalar("isNotConstantIdentity", [1], "?"),
        ]
    return Node(name, f"{_XFORM};schemaObjTitle={_XFORM[7:]}:.xform", [schema], [child])


def _camera_schema(file: OgawaFile, camera: SceneCamera, metres_per_unit: float, times: int) -> Property:
    """Focal length in mm, film in cm, in the order that the schema has; clipping planes and focus in scene units.

    `times` is the sampling of a lens that zooms, else 0.
    """
    (width, height), (right, above) = camera.film_gate_mm, camera.film_offset_mm
    near, far, focus = (metres / metres_per_unit for metres in (0.05, 1000.0, 5.0))
    rest = [
        width / 10, right / 10, height / 10, above / 10, 1.0, 0.0, 0.0, 0.0, 0.0, 5.6, focus, 0.0, 0.0, near, far,
    ]  # fmt: skip
    _, zoom = camera.zoom_mm
    samples = [file.sample(np.array([focal, *rest], "d")) for focal in (zoom if len(zoom) else [camera.focal_mm])]
    core = Property(".core", "d", 1 + len(rest), sampling=times, samples=samples)
    return Property(".geom", metadata=_CAMERA, children=[core])


def _archive_metadata(scene: Scene) -> str:
    """``key=value`` joined by semicolons, sorted by key: neither sign may stand in a value.

    No date: equal takes give equal files.
    """
    first, last = scene.frame_range
    facts = {
        "FramesPerTimeUnit": f"{float(scene.fps):.9g}",
        "_ai_Application": f"hmrkit {__version__}",
        "_ai_Description": f"{scene.space} space",
        "end_frame": str(last),
        "fps": str(scene.fps),
        "hmrkit": json.dumps(scene.metadata, sort_keys=True).replace(";", ",").replace("=", ":"),
        "start_frame": str(first),
        "timecode": scene.timecode or "",
        "unit": scene.unit,
        "up_axis": scene.up,
    }
    return ";".join(f"{key}={value}" for key, value in sorted(facts.items()))
