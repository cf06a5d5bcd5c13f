"""The plausibility report: what it makes of the shipped clip, and that variants of a clip are brought back rightly."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import DATA
from typer.testing import CliRunner

from hmrkit.camera import project
from hmrkit.cli.app import app
from hmrkit.errors import InputError, UsageError
from hmrkit.evaluation.consistency import VARIANTS, consistency, final_joints
from hmrkit.evaluation.plausibility import measure, subjects
from hmrkit.evaluation.plausibility_report import evaluate_plausibility, find_clips
from hmrkit.types import Camera

RANGES = {  # of a man who stands with his arms bent, by the default keypoints and `fit`
    "standing_frames": (4, 5),
    "knee_flexion_deg": (-5, 15),
    "elbow_flexion_deg": (60, 110),
    "foot_slide_mm": (0, 4),
    "sole_gap_mm": (0, 40),
    "penetration_mm": (0, 40),
    "jitter_10m_per_s3": (0, 4),
    "mirror_mm": (1, 45),
    "rotation_mm": (1, 60),
    "frame_rate_mm": (0, 25),
}


def test_the_shipped_clip_looks_plausible(tmp_path):
    """A few frames through the whole chain and its three variants: the one slow test here."""
    out = tmp_path / "report"
    clip = DATA / "one_by_one_5s.mp4"
    command = ["eval", "--dataset", "plausibility", "--data", str(clip), "--method", "fit", "--limit", "5"]
    result = CliRunner().invoke(app, [*command, "--device", "cpu", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads((out / "plausibility.json").read_text())["rows"]
    assert (row["frames"], len(row["people"])) == (5, 1)
    for name, (low, high) in RANGES.items():
        assert low <= row["figures"][name] <= high, name
    assert row["people"]["1"]["rotation_found"] == 1
    assert (out / "one_by_one_5s_fit.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["mirror", "rotation"])
def test_variants_are_brought_back_into_the_clip(name):
    """A point that the variant's camera sees at a pixel lies at that pixel's place in the clip."""
    variant, (width, height) = VARIANTS[name], (64, 48)
    image = np.zeros((1, height, width, 3), np.uint8)
    image[0, 10, 40] = 255
    changed = variant.images(image)[0]
    y, x = np.argwhere(changed[..., 0])[0]
    box = variant.boxes_back(np.array([[x, y, x + 1, y + 1.0]]), width, height)
    assert box.tolist() == [[40, 10, 41, 11]]

    def camera(shape):
        focal, center = np.full(2, 60.0), np.array([shape[1], shape[0]]) / 2
        return Camera(focal, center, shape[1], shape[0])

    point = np.array([(x + 0.5 - changed.shape[1] / 2) / 60, (y + 0.5 - changed.shape[0] / 2) / 60, 1.0]) * 3
    back = variant.joints_back(np.tile(point, (1, 24, 1)))
    assert project(camera((height, width)), back)[0, 0] == pytest.approx([40.5, 10.5])


def test_a_take_agrees_with_itself_and_misses_who_is_not_there(take, models):
    boxes = np.tile(np.array([10, 10, 50, 90], np.float32), (5, 1))
    first = replace(take.tracks[0], boxes_xyxy=boxes)
    other = replace(take.tracks[1], boxes_xyxy=boxes[:3] + 200)
    take = replace(take, tracks=(first, other))
    alone = replace(take, tracks=(first,), body={1: take.body[1]}, calibrated={})
    result = consistency(take, alone, VARIANTS["frame_rate"], models)
    assert result[1] == (pytest.approx(0, abs=1e-4), 1.0)
    assert np.isnan(result[2][0])
    assert result[2][1] == 0


def test_measures_of_people_in_gaps_and_in_motion(take, models):
    """Person 1 lacks a frame; whoever moves does not stand, and has no flexion while standing."""
    first, second = subjects(take, models)
    assert np.isnan(first.joints_c[3]).all()
    assert np.isfinite(first.joints_c[2]).all()
    assert np.array_equal(second.joints_c, final_joints(take, 2, models))
    figures = measure(first)
    assert figures["standing_frames"] == 0
    assert np.isnan(figures["knee_flexion_deg"])


def test_clips_are_files_or_folders(tmp_path):
    (tmp_path / "a.mp4").touch(), (tmp_path / "b.mov").touch(), (tmp_path / "notes.txt").touch()
    assert [p.name for p in find_clips([tmp_path])] == ["a.mp4", "b.mov"]
    with pytest.raises(InputError, match="no such clip"):
        find_clips([tmp_path / "gone.mp4"])
    with pytest.raises(UsageError, match="--data CLIP"):
        find_clips([])


def test_a_clip_that_fails_costs_no_other(tmp_path, models):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    rows, files = evaluate_plausibility([tmp_path / "broken.mp4"], [models.options], tmp_path / "out")
    assert "broken.mp4" in rows[0].failed
    assert [f.name for f in files] == ["plausibility.json", "plausibility.md"]
