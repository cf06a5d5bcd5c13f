"""`hmrkit convert-body`: from the free body to a user's SMPL file and back, with what it costs kept in the take."""

from dataclasses import replace

import numpy as np
import pytest
from made_bodies import same_surface
from made_takes import make_take, models  # noqa: F401
from typer.testing import CliRunner

from hmrkit.body import load_body
from hmrkit.cli.app import app
from hmrkit.errors import ModelMismatchError
from hmrkit.take import load_take, save_take


@pytest.fixture
def files(tmp_path, monkeypatch, models):  # noqa: F811
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    body = tmp_path / "SMPL_NEUTRAL.npz"
    np.savez(body, **same_surface())
    save_take(make_take(models), tmp_path / "take.npz")
    return tmp_path / "take.npz", body


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_to_smpl_and_what_happens_without_it(files):
    take, body = files
    assert run("weights", "import-body", body).exit_code == 0
    result = run("convert-body", take, "--to", "smpl")
    assert result.exit_code == 0, result.output
    path = take.with_name("take_smpl.npz")
    assert result.stdout.strip() == str(path)
    assert "person 1: 5 frames on smpl-" in result.stderr
    made, smpl = load_take(path), load_body(body)
    assert {params.model for params in made.body.values()} == {smpl.model_id}
    assert made.calibrated == {}  # calibrated meshes are the new body's own pose and shape
    np.testing.assert_array_equal(made.faces, smpl.faces)
    kept = made.provenance["regress"]["conversion"]
    assert (kept["from"], kept["to"]) == ("hmrkit-body-0-neutral", smpl.model_id)
    assert kept["residual_mm"]["1"]["frames"] == [10, 11, 12, 14, 15]
    assert 0 < max(kept["residual_mm"]["1"]["mm"]) < 2
    refused = run("export", path, "--format", "npz", "--out", take.parent / "out")
    assert isinstance(refused.exception, ModelMismatchError)
    assert smpl.model_id in str(refused.exception)
    assert "convert-body" in str(refused.exception)
    exported = run("export", path, "--format", "npz", "--body", "smpl", "--out", take.parent / "out")
    assert exported.exit_code == 0, exported.output


def test_people_of_different_gender_come_onto_one_body_each_from_their_own(files):
    take, body = files
    mixed = load_take(take)
    female = replace(mixed.body[1], model="hmrkit-body-0-female", gender="female")
    save_take(replace(mixed, body=mixed.body | {1: female}), take)
    result = run("convert-body", take, "--to", body)
    assert result.exit_code == 0, result.output
    made, smpl = load_take(take.with_name("take_SMPL_NEUTRAL.npz")), load_body(body)
    assert {(params.model, params.gender) for params in made.body.values()} == {(smpl.model_id, "neutral")}
    heights = [
        np.ptp(shaped(betas=params.betas).vertices.numpy()[0, :, 1])
        for shaped, params in ((load_body(gender="female"), female), (smpl, made.body[1]))
    ]
    assert abs(heights[1] - heights[0]) < 0.02
    assert made.provenance["regress"]["conversion"]["from"] == "hmrkit-body-0-female, hmrkit-body-0-neutral"


def test_a_wrong_source_body_is_refused(files):
    take, body = files
    result = run("convert-body", take, "--to", "default", "--gender", "male", "--body", body)
    assert isinstance(result.exception, ModelMismatchError)
    assert "expected parameters for body smpl-" in str(result.exception)
