"""Texture coordinates and a colour a person: what other programs' readers find of them in each format."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_scene import made_scene

from hmrkit.body import load_body
from hmrkit.body.texture import texture_coordinates
from hmrkit.exporters import load_exporter
from hmrkit.exporters.character_arrays import cut_at_seams, material_colour
from hmrkit.metrics.mesh_facts import file_facts
from hmrkit.scene import ExportOptions

OPTIONS = ExportOptions(camera=False, per_person=True)
BLUE = material_colour(1)


@pytest.fixture(scope="module")
def scene():
    made = made_scene(3)
    uv = texture_coordinates(load_body())
    return replace(made, characters=(replace(made.characters[0], texture_uv=uv, visible=np.ones(3, bool)),))


@pytest.fixture
def person(scene):
    return scene.characters[0]


def corners(faces, uv):
    """Vertex and place in the texture of each corner of each face, as rows that can be compared."""
    return np.concatenate([np.reshape(faces, (-1, 1)), np.reshape(uv, (-1, 2)).round(3)], 1)


def test_the_free_body_has_charts_that_do_not_fold(person):
    uv, rest = person.texture_uv, person.rest_vertices[person.faces]
    assert uv.shape == (len(person.faces), 3, 2)
    edges = uv[:, 1:] - uv[:, :1]
    area = edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]
    assert (area > 0).mean() > 0.97  # seen from outside, nearly everywhere
    size = np.linalg.norm(np.cross(rest[:, 1] - rest[:, 0], rest[:, 2] - rest[:, 0]), axis=1)
    assert np.corrcoef(np.abs(area), size)[0, 1] > 0.3
    body = load_body()
    body.family, body.topology_id = "smpl", "smpl-12345678"
    assert texture_coordinates(body) is None


def test_cutting_at_seams_keeps_the_order_of_vertices_and_every_corner(person):
    rows, places, faces = cut_at_seams(person)
    count = len(person.rest_vertices)
    np.testing.assert_array_equal(rows[:count], np.arange(count))
    assert 0 < len(rows) - count < 0.2 * count
    np.testing.assert_array_equal(corners(rows[faces], places[faces]), corners(person.faces, person.texture_uv))


def test_glb(scene, person, tmp_path):
    pygltflib, trimesh = pytest.importorskip("pygltflib"), pytest.importorskip("trimesh")
    (path,) = load_exporter("glb").write(scene, tmp_path, OPTIONS)
    (mesh,) = trimesh.load_scene(path, process=False).geometry.values()
    # trimesh gives v upwards, as ours is.
    rows = cut_at_seams(person)[0][mesh.faces]
    np.testing.assert_allclose(
        corners(rows, mesh.visual.uv[mesh.faces]), corners(person.faces, person.texture_uv), atol=2e-3
    )
    (material,) = pygltflib.GLTF2().load(str(path)).materials
    assert material.name == "person_01_skin"
    np.testing.assert_allclose(material.pbrMetallicRoughness.baseColorFactor, [*BLUE, 1])
    (facts,) = file_facts(path).values()
    assert (facts["vertices"], facts["watertight"]) == (6890, True)


def test_obj(scene, person, tmp_path):
    (folder,) = load_exporter("obj").write(scene, tmp_path, replace(OPTIONS, obj_uv=True))
    path = folder / "frame_001001.obj"
    rows = [line.split() for line in path.read_text().splitlines()]
    uv = np.array([row[1:] for row in rows if row[0] == "vt"], float)
    faces = np.array([[corner.split("/") for corner in row[1:]] for row in rows if row[0] == "f"], int) - 1
    np.testing.assert_allclose(
        corners(faces[..., 0], uv[faces[..., 1]]), corners(person.faces, person.texture_uv), atol=2e-3
    )
    assert "usemtl person_01_skin" in path.read_text()
    assert file_facts(path)["person_01"]["watertight"]
    (line,) = [row for row in (folder / "person_01.mtl").read_text().splitlines() if row.startswith("Kd")]
    np.testing.assert_allclose(np.array(line.split()[1:], float), BLUE)


def test_fbx(scene, person, tmp_path):
    pytest.importorskip("ufbx")
    (path,) = load_exporter("fbx").write(scene, tmp_path, OPTIONS)
    reader = Path(__file__).parent / "read_fbx_by_ufbx.py"
    subprocess.run([sys.executable, reader, path, tmp_path / "read.npz", "33.4"], check=True)
    read = np.load(tmp_path / "read.npz")
    assert json.loads(str(read["facts"]))["warnings"] == 0
    np.testing.assert_allclose(read["person_01_mesh/uv"], person.texture_uv.reshape(-1, 2), atol=1e-6)
    np.testing.assert_allclose(read["person_01_mesh/colour"], BLUE, atol=1e-6)


def test_usd(scene, person, tmp_path):
    pytest.importorskip("pxr")
    from pxr import Usd, UsdGeom, UsdShade

    (path,) = load_exporter("usd").write(scene, tmp_path, OPTIONS)
    stage = Usd.Stage.Open(str(path))
    (mesh,) = [prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]
    st = UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st")
    assert (st.GetInterpolation(), len(st.GetIndices())) == ("faceVarying", 3 * len(person.faces))
    np.testing.assert_allclose(np.array(st.ComputeFlattened()), person.texture_uv.reshape(-1, 2), atol=1e-6)
    material, _ = UsdShade.MaterialBindingAPI(mesh).ComputeBoundMaterial()
    colour = material.ComputeSurfaceSource()[0].GetInput("diffuseColor").Get()
    np.testing.assert_allclose(colour, BLUE, atol=1e-6)


def test_abc(scene, person, tmp_path):
    alembic = pytest.importorskip("alembic3d")
    (path,) = load_exporter("abc").write(scene, tmp_path, OPTIONS)
    abc, geometry = alembic.Abc, alembic.AbcGeom
    top = abc.IArchive(str(path)).getTop()
    schema = geometry.IPolyMesh(top.children[0], "person_01_mesh").getSchema()
    uv, faces = schema.getUVsParam().getExpandedValue(), schema.getValue().getFaceIndices()
    assert schema.getUVsParam().getScope() == geometry.GeometryScope.kFacevaryingScope
    found = np.array([[value[0], value[1]] for value in uv.getVals()])
    backwards = person.faces[:, ::-1]
    np.testing.assert_array_equal(np.array(faces).reshape(-1, 3), backwards)
    np.testing.assert_allclose(found.reshape(-1, 3, 2), person.texture_uv[:, ::-1], atol=1e-6)


def test_a_body_without_charts_has_none_in_any_format(person, scene, tmp_path):
    bare = replace(scene, characters=(replace(person, texture_uv=None),))
    for name, sign in (("glb", b"TEXCOORD"), ("fbx", b"LayerElementUV"), ("abc", b"podExtent=2"), ("obj", b"vt ")):
        (path,) = load_exporter(name).write(bare, tmp_path, replace(OPTIONS, obj_uv=True))
        files = [path] if path.is_file() else list(path.iterdir())
        assert all(sign not in file.read_bytes() for file in files), name
