"""STL, OFF and 3MF: one folder ``person_{id:02d}_stl`` a person, with ``frame_{number:06d}.stl`` for each seen frame.

Vertices are the final (calibrated) mesh in the scene's axes and unit, to the precision of float32. STL and OFF, which
trimesh writes, name no unit: programs for printing take their numbers for millimetres (``--scale 1000`` for a person
in full size, ``--scale 100`` for one in tenth size; most of them want z up). 3MF names its unit, so a person has their
size with any ``--units``; it is written here, because trimesh's always says millimetres and is never the same twice.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import trimesh.exchange.off
import trimesh.exchange.stl

from hmrkit.exporters import describe_axes
from hmrkit.files import atomic_path
from hmrkit.scene import Character, ExportOptions, Scene

_UNITS_3MF = {"m": "meter", "cm": "centimeter"}
_TYPES_3MF = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/></Types>\n'
)
_RELATIONS_3MF = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Target="/3D/3dmodel.model" Id="rel0" '
    'Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/></Relationships>\n'
)


class StlExporter:
    """Binary STL: triangles without shared vertices."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The folders made, one a person."""
        return _write_frames(scene, folder, "stl", _stl)


class OffExporter:
    """OFF as text."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The folders made, one a person."""
        return _write_frames(scene, folder, "off", _off)


class ThreeMfExporter:
    """3MF (3MF Consortium, Core Specification 1.3): one object, with its unit, title and axes."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The folders made, one a person."""
        return _write_frames(scene, folder, "3mf", _model_3mf)


Encode = Callable[[Scene, Character, int, np.ndarray], bytes]


def _write_frames(scene: Scene, folder: Path, suffix: str, encode: Encode) -> list[Path]:
    """A file for each frame in which each person is seen: `encode` of scene, person, frame number, vertices (V,3)."""
    folders = []
    for character in scene.characters:
        folders.append(Path(folder) / f"{character.name}_{suffix}")
        for rows in character.stretches():
            rows_seen = [row for row in range(rows.start, rows.stop) if character.visible[row]]
            vertices = character.vertices(rows) if rows_seen else np.zeros((0, 0, 3), np.float32)
            for row in rows_seen:
                number = int(character.frames[row])
                with atomic_path(folders[-1] / f"frame_{number:06d}.{suffix}") as temporary:
                    temporary.write_bytes(encode(scene, character, number, vertices[row - rows.start]))
    return folders


def _stl(scene: Scene, character: Character, number: int, vertices: np.ndarray) -> bytes:
    return trimesh.exchange.stl.export_stl(trimesh.Trimesh(vertices, character.faces, process=False))


def _off(scene: Scene, character: Character, number: int, vertices: np.ndarray) -> bytes:
    return trimesh.exchange.off.export_off(trimesh.Trimesh(vertices, character.faces, process=False)).encode()


def _model_3mf(scene: Scene, character: Character, number: int, vertices: np.ndarray) -> bytes:
    title = f"{character.name}, frame {number} of {scene.metadata.get('source', scene.name)}"
    points = '<vertex x="%.9g" y="%.9g" z="%.9g"/>' * len(vertices) % tuple(vertices.ravel().tolist())
    faces = '<triangle v1="%d" v2="%d" v3="%d"/>' * len(character.faces) % tuple(character.faces.ravel().tolist())
    model = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<model unit="{_UNITS_3MF[scene.unit]}" xml:lang="en-US" '
        'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02">'
        f'<metadata name="Title">{escape(title)}</metadata>'
        '<metadata name="Application">hmrkit</metadata>'
        f'<metadata name="Description">{escape(describe_axes(scene))}</metadata>'
        f'<resources><object id="1" name="{character.name}" type="model"><mesh><vertices>{points}</vertices>'
        f"<triangles>{faces}</triangles></mesh></object></resources>"
        '<build><item objectid="1"/></build></model>\n'
    )
    parts = {"[Content_Types].xml": _TYPES_3MF, "_rels/.rels": _RELATIONS_3MF, "3D/3dmodel.model": model}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in parts.items():  # ZipInfo has a date of its own, 1980: equal takes give equal bytes
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
