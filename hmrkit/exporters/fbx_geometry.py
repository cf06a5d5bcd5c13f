"""The rest mesh of a person in an FBX file: polygons, normals, places in the texture."""

from __future__ import annotations

import numpy as np

from hmrkit.exporters.character_arrays import mesh_normals, texture_places
from hmrkit.exporters.fbx_binary import Graph, Int64, Record, record
from hmrkit.exporters.fbx_material import UV_SET
from hmrkit.scene import Character


def add_geometry(graph: Graph, character: Character, name: str) -> Int64:
    """The rest mesh, in the scene's axes and unit; connected to nothing yet."""
    vertices, faces = character.rest_vertices.astype("<f8"), np.asarray(character.faces)
    corners = faces.astype("<i4")
    corners[:, 2] = ~corners[:, 2]  # the last corner of a polygon is written as its complement
    normals = record("LayerElementNormal", 0, children=_layer_records("ByVertice", "Direct"))
    normals.add("Normals", mesh_normals(vertices, faces).astype("<f8").ravel())
    materials = record("LayerElementMaterial", 0, children=_layer_records("AllSame", "IndexToDirect"))
    materials.add("Materials", np.zeros(1, "<i4"))
    elements = [normals, materials]
    if (uv := character.texture_uv()) is not None:
        elements.append(_texture_layer(uv))
    layer = record("Layer", 0, children=[record("Version", 100)])
    for element in elements:
        layer.add("LayerElement").children += [record("Type", element.name), record("TypedIndex", 0)]
    return graph.add(
        "Geometry", name, "Geometry", record("Vertices", vertices.ravel()),
        record("PolygonVertexIndex", corners.ravel()), record("GeometryVersion", 124), *elements, layer,
        sub="Mesh",
    )  # fmt: skip


def _texture_layer(uv: np.ndarray) -> Record:
    """Texture coordinates (F,3,2) of the polygons' corners."""
    places, corners = texture_places(uv)
    layer = record("LayerElementUV", 0, children=_layer_records("ByPolygonVertex", "IndexToDirect", UV_SET))
    layer.add("UV", places.astype("<f8").ravel())
    layer.add("UVIndex", corners.astype("<i4").ravel())
    return layer


def _layer_records(mapping: str, reference: str, name: str = "") -> list[Record]:
    names = {"MappingInformationType": mapping, "ReferenceInformationType": reference}
    return [record("Version", 101), record("Name", name)] + [record(key, value) for key, value in names.items()]
