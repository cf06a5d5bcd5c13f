"""STL, OFF and 3MF: one folder ``person_{id:02d}_stl`` a person, with ``frame_{number:06d}.stl`` for each seen frame.

Vertices are the final (calibrated) mesh in the scene's axes and unit, to the precision of float32. STL and OFF, which
trimesh writes, name no unit: programs for printing take their numbers for millimetres (``--scale 1000`` for a person
in full size, ``--scale 100`` for one in tenth size; most of them want z up). 3MF names its unit, so a person has their
size with any ``--units``; it is written here, because trimesh's always says millimetres and is never the same twice.
"""

from __future__ import annotations

import io
import zipfile
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import trimesh.exchange.off
import trimesh.exchange.stl

from hmrkit.exporters import describe_axes
from hmrkit.exporters.sequences import write_sequences
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
        return write_sequences(scene, folder, "stl", lambda _, person: partial(_stl, person))


class OffExporter:
    """OFF as text."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The folders made, one a person."""
        return write_sequences(scene, folder, "off", lambda _, person: partial(_off, person))


class ThreeMfExporter:
    """3MF (3MF Consortium, Core Specification 1.3): one object, with its unit, title and axes."""

    def write(self, scene: Scene, folder: Path, options: ExportOptions) -> list[Path]:
        """The folders made, one a person."""
        return write_sequences(scene, folder, "3mf", lambda _, person: partial(_model_3mf, scene, person))


def _stl(character: Character, number: int, vertices: np.ndarray) -> bytes:
    return trimesh.exchange.stl.export_stl(trimesh.Trimesh(vertices, character.faces, process=False))


def _off(character: Character, number: int, vertices: np.ndarray) -> bytes:
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
