"""Percentiles of how people stand."""

from __future__ import annotations

import pytest
import torch

from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.skeletons import SMPL_24
from hmrkit.synthetic.cameras import TRAINING
from hmrkit.synthetic.pose_statistics import PERCENTILES, pose_angles, pose_percentiles, save_percentiles_png
from hmrkit.synthetic.poses import PoseSampler


def test_a_bent_knee_a_leaning_trunk_and_a_nodding_head_are_measured() -> None:
    local = torch.eye(3).repeat(4, 24, 1, 1)
    vectors = {"left_knee": (1, 40.0), "spine1": (2, 30.0), "head": (3, 25.0)}
    for joint, (row, degrees) in vectors.items():
        local[row, SMPL_24.index[joint]] = axis_angle_to_matrix(torch.deg2rad(torch.tensor([degrees, 0.0, 0.0])))
    angles = pose_angles(local)
    rest = float(angles["knee"][0])
    assert float(angles["knee"][1]) == pytest.approx(40 + rest, abs=1.5)
    assert float(angles["trunk"][2]) == pytest.approx(30, abs=0.1)
    assert float(angles["neck"][3]) == pytest.approx(25, abs=0.1)
    assert float(angles["neck"][2]) == pytest.approx(0, abs=0.1)
    assert float(angles["head"][2]) == pytest.approx(30, abs=0.1)


def test_percentiles_rise_and_are_drawn(tmp_path) -> None:
    found = pose_percentiles(PoseSampler("train"), TRAINING, count=300)
    assert 5 < found.pop("both legs straight")[0] < 40
    for name, values in found.items():
        assert len(values) == len(PERCENTILES), name
        assert values == sorted(values), name
    assert -40 < found["camera above"][3] < 60
    save_percentiles_png({"training": found}, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 5000
