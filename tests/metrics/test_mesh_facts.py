"""`hmrkit info --mesh`: of known meshes, of files that this project writes, and of a take."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from made_smpl import make_smpl
from typer.testing import CliRunner

from hmrkit.cli.app import app
from hmrkit.errors import InputError, ModelMismatchError, UsageError
from hmrkit.exporters import load_exporter
from hmrkit.meshes import mesh_slice
from hmrkit.metrics.mesh_facts import describe, file_facts, mesh_facts
from hmrkit.take import save_take

FORMS = ("obj", "ply", "stl", "off", "3mf", "glb")


def test_a_box_of_known_size():
    box = trimesh.creation.box((40, 180, 20))
    facts = mesh_facts(box.vertices, box.faces, up="y", unit="cm")
    assert (facts["vertices"], facts["faces"]) == (8, 12)
    assert facts["watertight"]
    assert facts["consistent_faces"]
    assert facts["height_m"] == pytest.approx(1.8)
    assert facts["size_m"] == pytest.approx([0.4, 1.8, 0.2])
    assert facts["volume_l"] == pytest.approx(144)
    inside_out = mesh_facts(box.vertices, box.faces[:, ::-1], unit="cm")
    assert inside_out["volume_l"] == pytest.approx(-144)


def test_holes_and_faces_rotated_over_are_seen():
    box = trimesh.creation.box()
    holed = mesh_facts(box.vertices, box.faces[1:])
    assert not holed["watertight"]
    assert holed["volume_l"] is None
    assert "NOT watertight" in describe("box", holed)
    flipped = box.faces.copy()
    flipped[0] = flipped[0][::-1]
    assert not mesh_facts(box.vertices, flipped)["consistent_faces"]


@pytest.mark.parametrize("form", FORMS)
def test_files_that_are_written_here(form, scene_of, tmp_path):
    scene, options = scene_of(people=(2,), unit="m" if form == "glb" else "cm")
    (made,) = load_exporter(form).write(scene, tmp_path, options)
    path = min(made.iterdir()) if made.is_dir() else made
    (facts,) = file_facts(path, unit="cm").values()
    character = scene.characters[0]
    vertices = character.rest_vertices if form == "glb" else 0.01 * character.vertices(slice(0, 1))[0]
    assert (facts["vertices"], facts["faces"]) == (len(vertices), len(character.faces))
    assert facts["watertight"]
    assert facts["consistent_faces"]
    assert facts["size_m"] == pytest.approx(np.ptp(vertices, axis=0), rel=1e-5)
    assert 40 < facts["volume_l"] < 120


def test_the_people_of_a_take(take, models, tmp_path):
    path = tmp_path / "take.npz"
    save_take(take, path)
    runner = CliRunner()
    first = json.loads(runner.invoke(app, ["info", str(path), "--mesh", "--json"]).stdout)
    assert {name: facts["frame"] for name, facts in first.items()} == {"person_01": 10, "person_02": 16}
    late = json.loads(runner.invoke(app, ["info", str(path), "--mesh", "--frame", "17", "--json"]).stdout)
    vertices = mesh_slice(take, 2, slice(1, 2), models).vertices_c[0]
    assert list(late) == ["person_02"]
    assert late["person_02"]["height_m"] == pytest.approx(np.ptp(vertices[:, 1]), rel=1e-5)
    assert "watertight" in runner.invoke(app, ["info", str(path), "--mesh"]).stdout
    assert isinstance(runner.invoke(app, ["info", str(path), "--mesh", "--frame", "99"]).exception, UsageError)


def test_what_is_no_mesh_is_one_line(tmp_path):
    for name, content in (("x.3mf", b"no zip"), ("x.glb", b"abc"), ("x.obj", b""), ("x.stl", b"x")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name) as caught:
            file_facts(tmp_path / name)
        assert "\n" not in str(caught.value)
    for arguments, error in (
        ([str(tmp_path / "x.stl"), "--mesh"], InputError),
        ([str(tmp_path / "absent.ply"), "--mesh"], InputError),
        ([str(tmp_path / "absent.npz"), "--mesh"], InputError),
        (["film.mp4", "--mesh"], UsageError),
        (["x.obj", "--mesh", "--units", "inch"], UsageError),
        (["x.obj", "--mesh", "--up", "up"], UsageError),
    ):
        failure = CliRunner().invoke(app, ["info", *arguments]).exception
        assert isinstance(failure, error), arguments
        assert "\n" not in str(failure)
    assert (InputError.exit_code, UsageError.exit_code) == (4, 2)


def test_a_take_of_another_body_or_without_meshes_is_refused(take, tmp_path):
    other = make_smpl(tmp_path / "smpl") / "SMPL_NEUTRAL.npz"
    save_take(take, tmp_path / "take.npz")
    arguments = ["info", str(tmp_path / "take.npz"), "--mesh", "--body", str(other)]
    assert isinstance(CliRunner().invoke(app, arguments).exception, ModelMismatchError)
    save_take(replace(take, body={}, calibrated={}), tmp_path / "bare.npz")
    failure = CliRunner().invoke(app, ["info", str(tmp_path / "bare.npz"), "--mesh"]).exception
    assert isinstance(failure, InputError)
    assert "the take has no meshes yet; run `hmrkit regress` on it first" in str(failure)
