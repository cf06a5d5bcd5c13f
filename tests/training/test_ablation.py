"""Ablations: variants trained and measured alike, the paper's order recognised or contradicted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from hmrkit.cli.app import app
from hmrkit.errors import UsageError
from hmrkit.training import ablation, example_source
from hmrkit.training import kept_examples as kept
from hmrkit.training.ablation import Result, Variant
from hmrkit.training.loop import LoopConfig
from hmrkit.training.recipe import changed
from hmrkit.training.recipes import hmr

FULL = Variant("width", "wide", paper={"3DPW MPJPE mm": 50.0})
NARROW = Variant("width", "narrow", {"network.hidden": 8}, {"3DPW MPJPE mm": 60.0})
SAME = Variant("flip", "with", paper={"3DPW MPJPE mm": 50.0})


@pytest.fixture
def module(monkeypatch):
    """HMR's recipe, made small, with three variants, two of which are one."""
    monkeypatch.setattr(kept, "SHARD", 8)
    monkeypatch.setattr(kept, "_EXAMPLES_AT_ONCE", 8)
    monkeypatch.setattr(example_source, "STATISTICS_COUNT", 8)
    changes = {"network.hidden": 16, "data.batch": 8, "data.images": 8, "data.held_out": 8}
    loops = {name: LoopConfig(1, warmup=0) for name in ("loop", "points")}
    recipe = changed(hmr.PRESETS["cpu"], changes | loops)
    runs = []

    def train(name, own, *rest, **options):
        runs.append((own.network.hidden, own.loop.seed))
        return hmr.train(name, own, *rest, **options)

    return SimpleNamespace(PRESETS={"cpu": recipe}, ABLATION=(FULL, NARROW, SAME), train=train, runs=runs)


@pytest.mark.slow
def test_every_variant_is_trained_once_a_seed_and_used_again(module, tmp_path) -> None:
    results = ablation.ablate("hmr", module, tmp_path, seeds=2, device=torch.device("cpu"))
    assert module.runs == [(16, 0), (16, 1), (8, 0), (8, 1)]
    assert [r.variant for r in results] == [FULL, NARROW, SAME]
    assert all(len(values) == 2 for r in results for values in r.figures.values())
    assert results[0].figures == results[2].figures != results[1].figures
    again = ablation.ablate("hmr", module, tmp_path, seeds=1, groups=["flip"], device=torch.device("cpu"))
    assert len(module.runs) == 4
    assert again[0].figures["MPJPE mm"] == results[0].figures["MPJPE mm"][:1]
    ablation.draw(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_kept_examples_that_are_not_there_are_refused_before_any_work(tmp_path) -> None:
    absent = tmp_path / "none"
    line = ["train", "ablate", "--paper", "sgre", "-o", str(tmp_path / "out"), "--examples", str(absent)]
    error = CliRunner().invoke(app, line).exception
    assert isinstance(error, UsageError)
    assert "no such folder" in str(error)
    assert not list(tmp_path.iterdir())


def test_unknown_groups_are_refused(module, tmp_path) -> None:
    with pytest.raises(UsageError, match="width, flip"):
        ablation.ablate("hmr", module, tmp_path, groups=["height"], device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("narrow", "verdict"),
    [(48.0, "as in the paper, wide is best"), (45.0, "not as in the paper: narrow is ahead of wide by 2.0")],
)
def test_the_papers_order_is_compared_with_ours(narrow, verdict) -> None:
    results = [Result(FULL, {"PA-MPJPE mm": [47.0]}), Result(NARROW, {"PA-MPJPE mm": [narrow]})]
    assert verdict in ablation.claims(results)
    assert f"| width | narrow | {narrow:.1f} | 60 |" in ablation.table(results)
