"""Figures of the weights that ship: what a network costs, and what `hmrkit list methods` shows of it."""

from __future__ import annotations

import dataclasses
import json

import torch
from typer.testing import CliRunner

from hmrkit.cli.app import app
from hmrkit.regressors import cost
from hmrkit.regressors.hmr import HmrNetwork, build


def test_a_mirrored_crop_costs_as_much_again(monkeypatch) -> None:
    monkeypatch.setattr(cost, "BATCH", 1)
    monkeypatch.setattr(cost, "RUNS", 1)
    network = HmrNetwork(hidden=16)
    one, both = (
        cost.cost_of(build("hmr", dataclasses.replace(network, flip=flip)).eval(), torch.device("cpu"))
        for flip in (False, True)
    )
    assert abs(both["gflops"] - 2 * one["gflops"]) <= 0.02
    assert one["gflops"] > 0.5
    assert both["ms_per_crop"] > 0
    # BlazePose's own weights count, too, but not as the network's own.
    assert one["own_parameters_m"] < 0.1 < 20 < one["parameters_m"]


def test_the_list_shows_what_was_measured(tmp_path, monkeypatch) -> None:
    figures = {"mpjpe_mm": 70.5, "pa_mpjpe_mm": 50.5, "pve_mm": 80.5}
    network = {
        "parameters_m": 30.0,
        "own_parameters_m": 7.0,
        "gflops": 3.5,
        "ms_per_crop": 20.0,
        "device": "2 threads",
    }
    (tmp_path / "regressors").mkdir()
    (tmp_path / "regressors" / "figures.json").write_text(json.dumps({"fit": figures, "hmr": figures | network}))
    monkeypatch.setenv("HMRKIT_WEIGHTS", str(tmp_path))
    lines = CliRunner().invoke(app, ["list", "methods"]).stdout.splitlines()
    rows = {line.split()[0]: " ".join(line.split()) for line in lines if line.strip()}
    assert rows["fit"].startswith("fit 70.5 / 50.5 / 80.5 body fitted")
    assert rows["hmr"].startswith("hmr 70.5 / 50.5 / 80.5 30.0 / 7.0 3.5 20.0 global feature")
    assert any("ms a crop on 2 threads" in line for line in lines)
