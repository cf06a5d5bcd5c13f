"""PC-HMR's tables: lines that can be run, shared stages run once, the paper's order recognised or contradicted."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_datasets import write_images
from typer.testing import CliRunner

from hmrkit.body import load_body
from hmrkit.cli.app import app
from hmrkit.datasets import BodyTruth, EvalSequence, GroundTruth
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.options import Options
from hmrkit.pipeline import run_stages
from hmrkit.skeletons import SMPL_24
from hmrkit.training import pc_hmr_ablation as ablation
from hmrkit.training.ablation import Result
from hmrkit.training.pc_hmr_tables import MPVE, TRUE_POSE, Line, designs, grid, orders
from hmrkit.types import Camera

TOYS = {"method": "pc-hmr", "mesh": "toy", "keypoints": "toy", "lifter": "toy"}


def test_every_line_is_a_run_of_its_own():
    for lines in (designs("hmr"), grid()):
        runs = {(str(Options(**line.options)), line.extra) for line in lines}
        assert len(runs) == len({line.variant.name for line in lines}) == len(lines)
    assert sum(bool(line.paper) for line in grid()) == 14


def result(line: Line, mpve: float) -> Result:
    return Result(line.variant, {MPVE: [mpve]})


def test_orders_compare_lines_that_differ_in_one_thing():
    lines = {line.variant.name: line for line in grid()}
    ours = {
        "hmr, baseline": 90.0,
        "hmr, serial, videopose3d": 85.0,
        "hmr, parallel, videopose3d, blazepose-heavy": 86.0,  # the paper has it before serial
        "hmr, parallel, videopose3d, movenet-thunder": 88.0,
        "fit, baseline": 1.0,  # not in the paper
    }
    text = orders([result(lines[name], value) for name, value in ours.items()])
    assert "grid, mode: 3 of 5 orders as in the paper" in text
    assert "grid, 2D: 1 of 1 orders" in text
    assert "hmr, parallel, videopose3d, blazepose-heavy (61.1 in the paper, ours 86.0) is not before" in text
    assert "fit" not in text


def test_orders_of_designs_are_those_against_the_full_one():
    full, baseline, rigid, *_, rotated, _ = designs("hmr")
    text = orders([result(full, 80.0), result(baseline, 90.0), result(rigid, 79.0), result(rotated, 85.0)])
    # Rigid against the baseline is no order, and the paper calls self-rotation comparable.
    assert text.startswith("- designs, design: 1 of 2 orders")


@pytest.fixture
def toy_designs(monkeypatch):
    """Designs of the toy chain: full, template, true pose, not calibrated."""

    def lines(mesh: str) -> list[Line]:
        names = {"full": {}, "template": {"calibration": "template"}, "true": {}, "baseline": {}}
        made = []
        for k, (name, changes) in enumerate(names.items()):
            options = {**TOYS, **changes} if name != "baseline" else {"method": "toy", "keypoints": "toy"}
            extra = TRUE_POSE if name == "true" else ""
            made.append(Line("designs", {"design": name}, options, extra, {"Human3.6M MPVE mm": 50.0 + k}))
        return made

    monkeypatch.setattr(ablation, "designs", lines)
    monkeypatch.setattr(ablation, "grid", lambda: [Line("grid", {"lifter": "semgcn"}, {"lifter": "semgcn"})])


@pytest.fixture
def one_clip(monkeypatch, tmp_path):
    """A dataset of four frames of one person."""
    write_images(tmp_path / "frames", 4, (128, 96), name="{:04d}.png")
    camera = Camera(np.full(2, 150, np.float32), np.array([64, 48], np.float32), 128, 96, "given")
    body = load_body()
    pose = torch.randn(4, 24, 3, generator=torch.Generator().manual_seed(0))
    rotations = axis_angle_to_matrix(0.2 * pose).numpy()
    transl = np.tile(np.array([0, 0.3, 4], np.float32), (4, 1))
    posed = BodyTruth(rotations[:, 0], rotations[:, 1:], np.zeros(10, np.float32), transl, "neutral", "hmrkit")
    joints = body(posed.global_orient, posed.body_pose, posed.betas, transl).joints.numpy()
    boxes = np.tile(np.array([30, 5, 90, 90], np.float32), (4, 1))
    truth = GroundTruth("1", np.arange(4), np.ones(4, bool), boxes, joints_c=joints, skeleton=SMPL_24, body=posed)
    clip = EvalSequence("clip", tmp_path / "frames", 4, (truth,), camera)
    made = SimpleNamespace(default_protocol="synthetic-video", check=lambda: None, sequences=lambda: iter([clip]))
    monkeypatch.setattr(ablation, "load_dataset", lambda *_: made)


def test_the_command_measures_designs_on_clips(toy_designs, one_clip, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(
        ablation, "run_stages", lambda take, stages, *rest: ran.extend(stages) or run_stages(take, stages, *rest)
    )
    arguments = ["--paper", "pc-hmr", "--out", str(tmp_path), "--device", "cpu", "--group", "designs"]
    outcome = CliRunner().invoke(app, ["train", "ablate", *arguments], catch_exceptions=False)
    assert outcome.exit_code == 0
    assert sorted(ran) == ["calibrate", "calibrate", "lift", "pose", "regress"]
    text = (tmp_path / "ablation.md").read_text()
    rows = {row.split(" | ")[1]: row.split(" | ")[2:] for row in text.splitlines() if row.startswith("| designs")}
    assert list(rows) == ["full", "template", "true", "baseline"]
    errors = {name: [float(value) for value in row[:3]] for name, row in rows.items()}
    assert errors["true"][1] < 1 < errors["full"][1]  # MPJPE: the joints are the true ones
    assert errors["template"] == pytest.approx(errors["full"], abs=0.5)  # the toy's mesh is the mean body at rest
    assert errors["baseline"] != errors["full"]
    assert "GFLOPs" in text
    assert (tmp_path / "ablation.png").is_file()


def test_what_cannot_be_run_is_left_out_or_refused(toy_designs, tmp_path, monkeypatch):
    line = Line("grid", {"lifter": "semgcn"}, {"lifter": "semgcn"})
    monkeypatch.setenv("HMRKIT_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("hmrkit.lifters.semgcn.DEFAULT_WEIGHTS", "lifter/none.safetensors")
    kept, remarks = ablation._with_weights([line, *ablation.designs("toy")], {})
    assert line not in kept
    assert len(kept) == 4
    assert "semgcn" in remarks[0]
    run = CliRunner().invoke
    refused = run(app, ["train", "ablate", "--paper", "pc-hmr", "--out", str(tmp_path), "--seeds", "2"])
    assert refused.exit_code != 0
    assert "--seeds is of no use to --paper pc-hmr" in str(refused.exception)
    refused = run(app, ["train", "ablate", "--paper", "hmr", "--out", str(tmp_path), "--limit", "2"])
    assert "--limit is of no use to --paper hmr" in str(refused.exception)
