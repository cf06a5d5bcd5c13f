"""Signed errors: what is bent too much, and which way, over a dataset."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hmrkit import metrics
from hmrkit.evaluation.signed import signed_errors, write_signed
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.skeletons import SMPL_24

KNEE = SMPL_24.index["left_knee"]


def test_a_knee_that_is_bent_too_much_has_a_positive_error_about_its_own_axis() -> None:
    truth = axis_angle_to_matrix(torch.randn(5, 24, 3, generator=torch.Generator().manual_seed(0))).numpy()
    extra = np.zeros((24, 3))
    extra[KNEE, 0] = np.radians(12)
    predicted = truth @ axis_angle_to_matrix(torch.from_numpy(extra)).numpy()
    error = metrics.signed_error_deg(predicted, truth)
    assert error.shape == (5, 24, 3)
    np.testing.assert_allclose(error[:, KNEE], [[12, 0, 0]] * 5, atol=1e-3)
    np.testing.assert_allclose(np.delete(error, KNEE, 1), 0, atol=1e-3)
    assert metrics.signed_error_deg(truth, predicted)[0, KNEE, 0] == pytest.approx(-12, abs=1e-3)


def write_result(path, values) -> None:
    manifest = {"people": ["p"], "record": {}}
    np.savez(path, manifest=np.array(json.dumps(manifest)), **{"p/signed_error_deg": values})


def test_medians_over_all_frames_and_a_plot(tmp_path) -> None:
    values = np.zeros((4, 24, 3), np.float32)
    values[:, KNEE, 0] = [10, 12, 14, np.nan]  # a frame that does not count
    write_result(tmp_path / "a.npz", values)
    errors = signed_errors({"a": tmp_path / "a.npz"})
    assert errors is not None
    assert (errors.frames, errors.median[KNEE, 0]) == (3, 12)
    evaluation = SimpleNamespace(files={"hmr": {"a": tmp_path / "a.npz"}, "joints only": {}})
    made = write_signed(evaluation, tmp_path)  # type: ignore[arg-type]
    assert [path.name for path in made] == ["signed_errors.json", "signed_errors.png"]
    facts = json.loads(made[0].read_text())
    assert facts["hmr"]["median_deg"]["left_knee"] == [12, 0, 0]
    assert made[1].stat().st_size > 5000
