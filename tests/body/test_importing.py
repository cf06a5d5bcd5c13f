"""Imported bodies: found by a short name, the same to the last bit, and never in the place of another."""

import json
import sys

import numpy as np
import pytest
import torch
from made_bodies import same_surface
from made_smpl import make_with_fingers
from typer.testing import CliRunner

from hmrkit.body import load_body
from hmrkit.body.importing import find_body_of, import_body
from hmrkit.cli.app import app
from hmrkit.errors import UsageError, WeightsError
from hmrkit.weights import user_folder, verify


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("HMRKIT_WEIGHTS", raising=False)


def test_an_imported_body_is_found_by_name_and_id_and_is_the_same(tmp_path):
    source = tmp_path / "SMPL_FEMALE.npz"
    np.savez(source, **same_surface())
    result = CliRunner().invoke(app, ["weights", "import-body", str(source)])
    assert result.exit_code == 0, result.output
    target = user_folder() / "body/smpl_female.npz"
    assert result.stdout.strip() == str(target)
    mine, given = load_body("smpl", "female"), load_body(source)
    assert (mine.model_id, mine.gender) == (given.model_id, "female")
    betas = torch.linspace(-1, 1, 10)
    assert torch.equal(mine(betas=betas).vertices, given(betas=betas).vertices)
    assert find_body_of(given.model_id) == target
    assert verify("body/smpl_female.npz") == mine.weights_sha256
    listed = CliRunner().invoke(app, ["weights", "list", "--json"]).stdout
    entry = next(e for e in json.loads(listed) if e["name"] == "body/smpl_female.npz")
    assert (entry["place"], entry["model_id"]) == ("the user's data folder", given.model_id)
    with pytest.raises(WeightsError, match="import-body") as error:
        load_body("smpl", "male")
    assert "\n" not in str(error.value)


def test_what_is_unclear_or_in_the_way_is_refused(tmp_path):
    named, nameless = tmp_path / "SMPL_MALE.npz", tmp_path / "body.npz"
    np.savez(named, **same_surface())
    np.savez(nameless, **same_surface(seed=1))
    with pytest.raises(UsageError, match="says male, --gender says female"):
        import_body(named, "female")
    with pytest.raises(UsageError, match="give --gender"):
        import_body(nameless)
    import_body(named)
    import_body(named)  # the same body again is no conflict
    with pytest.raises(UsageError, match="--overwrite"):
        import_body(nameless, "male")
    assert load_body(import_body(nameless, "male", overwrite=True)).model_id == load_body(nameless).model_id
    with pytest.raises(UsageError, match="the free body"):
        import_body("body/hmrkit_body_male.npz")
    broken = same_surface()
    broken["shapedirs"][5] = np.nan
    np.savez(nameless, **broken)
    with pytest.raises(WeightsError, match=r"body\.npz: shapedirs: expected finite numbers, found NaN"):
        import_body(nameless, "neutral")


def test_an_imported_smplx_body_needs_smplx_no_more(tmp_path, monkeypatch):
    pytest.importorskip("smplx")
    source = make_with_fingers(tmp_path / "SMPLX_NEUTRAL.npz", 55)
    given = load_body(source)
    import_body(source)
    for module in ("smplx", "smplx.joint_names"):
        monkeypatch.setitem(sys.modules, module, None)
    mine = load_body("smplx")
    assert (mine.model_id, mine.landmark_vertices) == (given.model_id, given.landmark_vertices)
    assert torch.equal(mine().vertices, given().vertices)
    with np.load(source) as arrays:
        mean = np.concatenate([arrays["hands_meanl"], arrays["hands_meanr"]]).reshape(30, 3)
    np.testing.assert_array_equal(mine.mean_hands, mean)


def test_an_id_that_no_folder_has_says_what_to_do():
    assert find_body_of("hmrkit-body-0-male").name == "hmrkit_body_male.npz"
    with pytest.raises(WeightsError, match=r"smpl-00000000 .*--body.*import-body"):
        find_body_of("smpl-00000000")
