"""OBJ and PLY sequences: exact vertices, one topology, axes and units of the scene."""

from fractions import Fraction

import numpy as np
import pytest

from hmrkit.exporters import load_exporter
from hmrkit.exporters.obj import ObjExporter
from hmrkit.exporters.ply import PlyExporter
from hmrkit.meshes import mesh_slice


def _read(path):
    """Vertices as float32 and faces of an OBJ file."""
    rows = [line.split() for line in path.read_text().splitlines()]
    vertices = np.array([r[1:] for r in rows if r[0] == "v"], np.float64).astype(np.float32)
    return vertices, np.array([r[1:] for r in rows if r[0] == "f"], int) - 1


def test_the_meshes_of_the_take_come_back_y_up(take, models, scene_of, tmp_path):
    scene, options = scene_of()
    assert [p.name for p in ObjExporter().write(scene, tmp_path, options)] == ["person_01_obj", "person_02_obj"]
    for track in take.tracks:
        mesh = mesh_slice(take, track.track_id, slice(None), models)
        for index, vertices_c in zip(mesh.frame_indices, mesh.vertices_c, strict=True):
            vertices, faces = _read(tmp_path / f"person_{track.track_id:02d}_obj" / f"frame_{index:06d}.obj")
            # The gap's bridged frame is in the same stretch: sums of another batch size differ in the last digit.
            np.testing.assert_allclose(vertices * [1, -1, -1], vertices_c, atol=1e-6)
            np.testing.assert_array_equal(faces, take.faces)
    names = [p.name for p in sorted((tmp_path / "person_01_obj").iterdir())]
    assert names == [f"frame_{i:06d}.obj" for i in (10, 11, 12, 14, 15)]


def test_what_is_written_is_exactly_the_scene(scene_of, tmp_path):
    scene, options = scene_of(up="z", unit="cm", first_frame=1001, people=(2,))
    (folder,) = ObjExporter().write(scene, tmp_path, options)
    character = scene.characters[0]
    for number, vertices in zip(character.frames, character.vertices(), strict=True):
        np.testing.assert_array_equal(_read(folder / f"frame_{number:06d}.obj")[0], vertices)
    assert "centimetres" in (folder / "frame_001017.obj").read_text()[:300]


@pytest.mark.parametrize("name", ["obj", "ply"])
def test_other_programs_read_it(name, scene_of, tmp_path):
    """trimesh's readers give the same mesh; rotating the axes kept the faces' sense of rotation."""
    trimesh = pytest.importorskip("trimesh")
    scene, options = scene_of(people=(2,), gaps="interpolate")
    (folder,) = (ObjExporter if name == "obj" else PlyExporter)().write(scene, tmp_path, options)
    mesh = trimesh.load(folder / f"frame_000016.{name}", process=False)
    character = scene.characters[0]
    assert mesh.vertices.astype(np.float32).tolist() == character.vertices(slice(0, 3))[0].tolist()
    assert mesh.faces.tolist() == character.faces.tolist()
    assert mesh.volume > 0.03


def test_gaps_are_left_out_filled_or_split(scene_of, tmp_path):
    for gaps, expected in (
        ("hide", {"person_01_ply": [10, 11, 12, 14, 15]}),
        ("interpolate", {"person_01_ply": [10, 11, 12, 13, 14, 15]}),
        ("split", {"person_01_part_01_ply": [10, 11, 12], "person_01_part_02_ply": [14, 15]}),
    ):
        scene, options = scene_of(gaps=gaps, people=(1,))
        made = PlyExporter().write(scene, tmp_path / gaps, options)
        assert {p.name: [int(f.stem[-6:]) for f in sorted(p.iterdir())] for p in made} == expected


@pytest.mark.parametrize("name", ["obj", "ply", "off"])
def test_a_sequence_replaces_the_one_before_it_whole(name, scene_of, tmp_path):
    for options in ({}, {"fps": Fraction(10)}):
        scene, chosen = scene_of(people=(1,), **options)
        (folder,) = load_exporter(name).write(scene, tmp_path, chosen)
        (folder / "notes.txt").write_text("the user's own")
    frames = [f"frame_{number:06d}.{name}" for number in scene.characters[0].frames[scene.characters[0].visible]]
    assert sorted(path.name for path in folder.iterdir()) == [*frames, "notes.txt"]
