"""`hmrkit weights check`: whole files and right bodies pass, damaged and missing ones are named with exit code 3."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
from made_smpl import make_smpl
from typer.testing import CliRunner

from hmrkit.cli import weights_check
from hmrkit.cli.app import app
from hmrkit.errors import WeightsError
from hmrkit.files import sha256_of
from hmrkit.weights import shipped_folder


def test_free_bodies_and_a_users_file_equal_smplx(tmp_path):
    pytest.importorskip("smplx")
    folder = make_smpl(tmp_path)
    result = CliRunner().invoke(app, ["weights", "check", str(folder / "SMPL_MALE.npz"), "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert len(facts["bodies"]) == 4
    assert all(entry["difference_mm"] < 1e-3 and not entry["error"] for entry in facts["bodies"])
    entry = next(e for e in facts["weights"] if e["name"] == "body/hmrkit_body_male.npz")
    assert entry["facts"] == sha256_of(shipped_folder() / entry["name"])


def test_what_is_wrong_is_named(tmp_path, monkeypatch):
    own = tmp_path / "own"
    (own / "body").mkdir(parents=True)
    shutil.copy(shipped_folder() / "body" / "hmrkit_body_male.npz", own / "body" / "hmrkit_body_female.npz")
    manifest = json.loads((shipped_folder() / "weights.json").read_text())
    lost = {"body/lost.npz": {"sha256": "0"}}
    (own / "weights.json").write_text(json.dumps({k: v for k, v in manifest.items() if "female" in k} | lost))
    monkeypatch.setenv("HMRKIT_WEIGHTS", str(own))
    broken = tmp_path / "SMPL_NEUTRAL.npz"
    np.savez(broken, weights=np.zeros(3))
    result = CliRunner().invoke(app, ["weights", "check", str(broken)])
    assert isinstance(result.exception, WeightsError)
    assert result.exception.exit_code == 3
    failed = [line for line in result.stdout.splitlines() if line.startswith("FAILED")]
    assert [line.split()[1] for line in failed] == ["body/hmrkit_body_female.npz", "body/lost.npz", "free", str(broken)]
    assert "4 of" in str(result.exception)


def test_another_skinning_is_a_mismatch(monkeypatch):
    pytest.importorskip("smplx")
    monkeypatch.setattr(weights_check, "skinning_difference_mm", lambda *_: 3.0)
    assert all("3 mm" in entry["error"] for entry in weights_check.check()["bodies"])


def test_without_smplx_bodies_are_loaded_and_a_line_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    result = CliRunner().invoke(app, ["weights", "check"])
    assert result.exit_code == 0
    assert "smplx is not installed" in result.stdout
    assert "differs" not in result.stdout
