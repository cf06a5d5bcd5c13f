"""The plausibility report: what it makes of the shipped clip, and that variants of a clip are brought back rightly."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import DATA
from films import TOYS, write_film
from typer.testing import CliRunner

from hmrkit.camera import project
from hmrkit.cli.app import app
from hmrkit.evaluation.consistency import VARIANTS, consistency, final_joints
from hmrkit.evaluation.plausibility import measure, subjects
from hmrkit.evaluation.plausibility_report import ClipFigures, columns, legend
from hmrkit.fitting.masks import SIDE, PersonMasks
from hmrkit.meshes import mesh_slice
from hmrkit.scene.flights import Flight
from hmrkit.types import Camera

RANGES = {  # of a man who stands with his arms bent, by the default keypoints and `fit`
    "standing_frames": (3, 4),
    "knee_flexion_deg": (-5, 15),
    "elbow_flexion_deg": (60, 110),
    "foot_slide_mm": (0, 4),
    "sole_gap_mm": (0, 40),
    "penetration_mm": (0, 40),
    "jitter_10m_per_s3": (0, 4),
    "mirror_mm": (1, 45),
    "rotation_mm": (1, 60),
    "frame_rate_mm": (0, 25),
    "mask_iou_percent": (70, 95),
}


def report_on(clip, out, *options):
    """The report's one row of figures, by the command."""
    command = ["eval", "--dataset", "plausibility", "--data", str(clip), "--method", "fit", *options]
    result = CliRunner().invoke(app, [*command, "--device", "cpu", "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    (row,) = json.loads((out / "plausibility.json").read_text())["rows"]
    assert (out / f"{clip.stem}_fit.png").stat().st_size > 10_000
    return row


@pytest.mark.slow
def test_the_shipped_clip_looks_plausible(tmp_path):
    """A few frames through the whole chain and its three variants."""
    row = report_on(DATA / "one_by_one_5s.mp4", tmp_path, "--limit", "4")
    assert (row["frames"], len(row["people"])) == (4, 1)
    for name, (low, high) in RANGES.items():
        assert low <= row["figures"][name] <= high, name
    assert row["people"]["1"]["rotation_found"] == 1


def test_a_clip_and_its_variants_go_through_the_chain(tmp_path):
    """The toy networks' mannequin stands upright in every box: the same at half the rate and mirrored, and not the one
    that lies in the clip rotated."""
    row = report_on(write_film(tmp_path / "walk.mp4"), tmp_path, "--limit", "4", "--no-refine", *TOYS)
    assert (row["frames"], len(row["people"])) == (4, 1)
    figures = row["figures"]
    assert set(figures) == set(columns())
    assert 0 < figures["frame_rate_mm"] < 2
    assert 0 < figures["mirror_mm"] < 2
    found = [row["people"]["1"][f"{name}_found"] for name in VARIANTS]
    assert dict(zip(VARIANTS, found, strict=True)) == {"mirror": 1, "rotation": 0, "frame_rate": 1}
    assert figures["jitter_10m_per_s3"] < 0.1
    assert 40 < figures["mask_iou_percent"] < 100


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
    assert np.isnan(figures["free_fall_m_per_s2"])
    assert np.isnan(figures["mask_iou_percent"])
    flights = tuple(Flight(first.motion.name, 0, 9, fall, 0.0, 0.0, 0.0) for fall in (9.0, 10.0))
    fallen = measure(replace(first, flights=flights, mask_iou=np.array([0.7, 0.9])))
    assert fallen["free_fall_m_per_s2"] == 9.5
    assert fallen["mask_iou_percent"] == pytest.approx(80)


def test_the_page_names_every_figure_with_its_unit_and_meaning():
    row = ClipFigures("a.mp4", "fit", 20, {1: dict.fromkeys(columns(), 1.25)}, 2)
    lines = legend(row)
    assert "20 frames, 1 people with a mesh, 2 tracks without" in lines[0]
    assert "fall m/s2: 1.2   (mean acceleration in jumps and falls" in "\n".join(lines)
    assert len(lines) == 2 + len(columns())


def test_masks_are_compared_with_the_mesh_that_is_final(take, models):
    """Masks drawn from the calibrated mesh are filled by it, and not by the mesh stream's own."""
    rows = np.array([0, 2])
    final = mesh_slice(take, 2, rows, models).vertices_c
    blank = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    masks = PersonMasks(rows, blank, ~blank, torch.eye(3).expand(2, 3, 3), torch.full((2,), 100.0))
    masks = replace(masks, masks=masks.silhouettes(final, models.body.faces))
    for shown, full in ((take, True), (replace(take, calibrated={}), False)):
        seen = next(s for s in subjects(shown, models, {2: masks}) if s.track_id == 2)
        assert (seen.mask_iou == 1).all() == full
        assert (seen.mask_iou > 0.5).all()
