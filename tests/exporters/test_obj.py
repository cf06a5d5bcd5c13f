"""OBJ sequences: exact vertices, one topology, y up."""

from dataclasses import replace

import numpy as np
import pytest

from hmrkit.errors import InputError
from hmrkit.exporters.obj import ObjExporter
from hmrkit.types import MeshTrack


def _read(path):
    """Vertices as float32 and faces of an OBJ file."""
    rows = [line.split() for line in path.read_text().splitlines()]
    vertices = np.array([r[1:] for r in rows if r[0] == "v"], np.float64).astype(np.float32)
    return vertices, np.array([r[1:] for r in rows if r[0] == "f"], int) - 1


def test_vertices_come_back_bit_for_bit_and_y_up(take, meshes, tmp_path):
    exporter = ObjExporter(tmp_path, take)
    for mesh in meshes:
        exporter.add(mesh)
    assert [p.name for p in exporter.close()] == ["person_01_obj", "person_02_obj"]
    for mesh in meshes:
        for index, vertices_c in zip(mesh.frame_indices, mesh.vertices_c, strict=True):
            vertices, faces = _read(tmp_path / f"person_{mesh.track_id:02d}_obj" / f"frame_{index:06d}.obj")
            np.testing.assert_array_equal(vertices * [1, -1, -1], vertices_c)
            np.testing.assert_array_equal(faces, take.faces)
    names = [p.name for p in sorted((tmp_path / "person_01_obj").iterdir())]
    assert names == [f"frame_{i:06d}.obj" for i in (10, 11, 12, 14, 15)]


def test_other_programs_read_it(take, meshes, tmp_path):
    """trimesh's reader gives the same mesh; turning the axes kept the faces' sense of rotation."""
    trimesh = pytest.importorskip("trimesh")
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32) * [1, -1, -1]  # outward after the turn
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
    exporter = ObjExporter(tmp_path, replace(take, faces=faces))
    exporter.add(MeshTrack(1, np.array([10]), corners[None].astype(np.float32), np.zeros((1, 24, 3), np.float32)))
    mesh = trimesh.load(exporter.close()[0] / "frame_000010.obj", process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(1 / 6)


def test_missing_faces_and_unwritable_folders_are_one_line(take, meshes, tmp_path):
    with pytest.raises(InputError, match="no faces"):
        ObjExporter(tmp_path, replace(take, faces=None))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"frame_000010\.obj: cannot write it") as error:
        ObjExporter(tmp_path / "out", take).add(meshes[0])
    assert "\n" not in str(error.value)
