"""`hmrkit doctor`: what is there, what is not, and whether the main job would run."""

import json
import sys

import numpy as np
import pytest
from in_process import hmrkit
from made_takes import models, take  # noqa: F401

from hmrkit.benchmark.doctor import accuracy, try_chain
from hmrkit.errors import DeviceError
from hmrkit.options import Options
from hmrkit.rendering.gl import open_gl
from hmrkit.untrusted.limits import free_memory


def test_a_sound_machine_would_run_the_main_job(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed: PyTorch does its work
    result = hmrkit("doctor", "--quick", "--json")
    facts = json.loads(result.stdout)
    findings = {finding["name"]: finding for finding in facts["findings"]}
    assert result.returncode == 0
    assert facts["would_run"]
    assert findings["onnxruntime"]["state"] == "missing"
    assert "pip install onnxruntime" in findings["onnxruntime"]["todo"]
    assert {name for name, f in findings.items() if f["needed"]} >= {"python", "torch", "decoder pyav", "weights"}
    assert "detect" not in findings


def test_what_opengl_would_draw_by_is_named_or_what_it_lacks(monkeypatch):
    pytest.importorskip("moderngl")

    def found():
        facts = json.loads(hmrkit("doctor", "--quick", "--json").stdout)
        return next(finding for finding in facts["findings"] if finding["name"] == "opengl")

    try:
        with open_gl() as painter:
            assert found()["facts"].startswith(f"{painter.name}, moderngl ")
    except DeviceError:
        assert found()["state"] == "missing"
    monkeypatch.setenv("GLCONTEXT_DEVICE_INDEX", "99")
    assert found()["state"] == "missing"
    assert "pip install 'hmrkit[gl]'" in found()["todo"]


def test_damaged_weights_are_named(monkeypatch, tmp_path):
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector/yolox_nano.safetensors").write_bytes(b"half a file")
    entry = {"detector/yolox_nano.safetensors": {"sha256": "0" * 64}}
    (tmp_path / "weights.json").write_text(json.dumps(entry))
    monkeypatch.setenv("HMRKIT_WEIGHTS", str(tmp_path))
    result = hmrkit("doctor", "--quick")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("weights ")]
    assert "broken" in line
    assert "yolox_nano.safetensors: expected sha256" in line
    assert "pip install" in line
    assert result.stdout.splitlines()[-1] == "`hmrkit run CLIP` would not run here"
    assert result.returncode == 1


def test_the_chain_is_tried_stage_by_stage():
    options = Options(device="cpu", detector="toy", keypoints="toy", refine=False)
    findings = list(try_chain(options))
    names = [finding.name for finding in findings]
    assert names == ["draw", "detect", "track", "pose", "regress", "lift", "calibrate", "accuracy"]
    assert {finding.state for finding in findings[:-1]} == {"ok"}
    missing = list(try_chain(Options(device="cpu", detector="toy", keypoints="file:nowhere.json")))
    assert [finding.state for finding in missing] == ["ok", "ok", "ok", "broken"]
    assert "nowhere.json" in missing[-1].facts


def test_answers_far_from_the_drawn_body_are_broken(take):  # noqa: F811
    truth = np.zeros((20, 24, 3), np.float32)
    truth[[16, 17, 18]] = take.calibrated[2].joints_c
    assert accuracy(take, truth).startswith("joints are 0 mm")
    with pytest.raises(RuntimeError, match="mm off the body"):
        accuracy(take, truth + np.random.default_rng(0).normal(0, 0.2, truth.shape).astype(np.float32))


def test_memory_is_what_the_container_leaves(tmp_path):
    info = tmp_path / "meminfo"
    info.write_text("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
    assert free_memory(info, tmp_path) == 4000000 * 1024
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert free_memory(info, tmp_path) == 600000
    assert free_memory(tmp_path / "none") is None
