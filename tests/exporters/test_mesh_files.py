"""STL, OFF and 3MF: trimesh reads the scene's mesh back, closed, in the right size; equal scenes give equal bytes."""

import zipfile

import numpy as np
import pytest
import trimesh

from hmrkit.exporters import load_exporter

FORMS = ("stl", "off", "3mf")


def read(path):
    """The mesh of a file, and its unit where it names one."""
    loaded = trimesh.load_scene(path, process=False)
    (mesh,) = loaded.geometry.values()
    return mesh, loaded.units


@pytest.mark.parametrize("form", FORMS)
def test_the_scenes_mesh_comes_back(form, scene_of, tmp_path):
    scene, options = scene_of(people=(2,), up="z", unit="cm", first_frame=1001)
    (folder,) = load_exporter(form).write(scene, tmp_path, options)
    character = scene.characters[0]
    assert folder.name == f"person_02_{form}"
    assert [p.name for p in sorted(folder.iterdir())] == [f"frame_{n:06d}.{form}" for n in character.frames]
    vertices = character.vertices()[1]
    mesh, unit = read(folder / f"frame_{character.frames[1]:06d}.{form}")
    digits = 1e-9 if form == "off" else 0  # of the format's decimals
    np.testing.assert_allclose(mesh.triangles, vertices[character.faces], atol=digits)
    if form != "stl":
        np.testing.assert_array_equal(mesh.faces, character.faces)
        np.testing.assert_allclose(mesh.vertices.astype(np.float32), vertices, rtol=0, atol=digits)
    assert unit in ({"centimeter", "centimeters"} if form == "3mf" else {None})
    mesh.merge_vertices()
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert 40_000 < mesh.volume < 120_000  # cm3; outside is outside
    assert np.ptp(mesh.vertices[:, 2]) == pytest.approx(np.ptp(vertices[:, 2]))


@pytest.mark.parametrize("form", FORMS)
def test_equal_scenes_give_equal_bytes_and_gaps_are_left_out(form, scene_of, tmp_path):
    scene, options = scene_of(people=(1,))
    first, again = (load_exporter(form).write(scene, tmp_path / name, options)[0] for name in "ab")
    assert [int(p.stem[-6:]) for p in sorted(first.iterdir())] == [10, 11, 12, 14, 15]
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


@pytest.mark.parametrize(("unit", "word"), [("m", "meter"), ("cm", "centimeter")])
def test_3mf_names_unit_and_axes(unit, word, scene_of, tmp_path):
    scene, options = scene_of(people=(2,), unit=unit, up="z")
    (folder,) = load_exporter("3mf").write(scene, tmp_path, options)
    with zipfile.ZipFile(min(folder.iterdir())) as archive:
        text = archive.read("3D/3dmodel.model").decode()
    assert f'<model unit="{word}"' in text
    assert "z up" in text
