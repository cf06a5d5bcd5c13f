"""Errors along the kinematic chains: a joint's error is handed on to what hangs on it, and to nothing else."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import torch

from hmrkit.evaluation.chains import NAME, chain_to, chain_values, write_chains
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.skeletons import SMPL_24


def test_an_error_shows_in_its_joint_and_below(tmp_path) -> None:
    true = axis_angle_to_matrix(torch.randn(3, 24, 3, generator=torch.Generator().manual_seed(0))).numpy()
    extra = np.zeros((24, 3))
    extra[SMPL_24.index["left_shoulder"], 1] = np.radians(20)
    predicted = true @ axis_angle_to_matrix(torch.from_numpy(extra)).numpy()
    body = SimpleNamespace(global_orient=true[:, 0], body_pose=true[:, 1:])
    counted = np.array([True, True, False])
    values = chain_values(SimpleNamespace(rotations=predicted), SimpleNamespace(body=body), counted)  # type: ignore[arg-type]
    assert np.isnan(values[NAME][2]).all()
    wrong = {name for k, name in enumerate(SMPL_24.joints) if values[NAME][0, k] > 1}
    assert wrong == {"left_shoulder", "left_elbow", "left_wrist", "left_hand"}
    manifest = {"people": ["p"], "record": {}}
    np.savez(tmp_path / "a.npz", manifest=np.array(json.dumps(manifest)), **{f"p/{NAME}": values[NAME]})
    made = write_chains(SimpleNamespace(files={"hmr": {"a": tmp_path / "a.npz"}}), tmp_path)  # type: ignore[arg-type]
    arm = json.loads(made[0].read_text())["hmr"]["left arm"]
    assert list(arm) == list(chain_to("left_wrist"))
    assert arm["left_wrist"] == arm["left_shoulder"] == 20
    assert arm["left_collar"] == 0
    assert made[1].stat().st_size > 5000
