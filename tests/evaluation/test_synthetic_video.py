"""Rendered clips: made again bit for bit, true of what is drawn, and scored without an error where there is none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hmrkit import metrics
from hmrkit.cli.app import app
from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.datasets.synthetic_video import read_facts, write_clip
from hmrkit.errors import UsageError
from hmrkit.rendering.rasteriser import rasterise
from hmrkit.synthetic.clip_motion import ground_height
from hmrkit.synthetic.clip_scene import KINDS
from hmrkit.synthetic.clips import SyntheticClips
from hmrkit.take import load_take

SETTINGS = {"count": "2", "frames": "6", "width": "192"}
SIZE = (144, 192)


@pytest.fixture(scope="module")
def clips():
    return SyntheticClips("test", SIZE)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where two clips are, and their sequences."""
    folder = tmp_path_factory.mktemp("clips")
    return folder, list(load_dataset("synthetic-video", folder, DatasetOptions(settings=SETTINGS)).sequences())


def test_clips_are_made_again_bit_for_bit(clips, made, tmp_path):
    _, (_, second) = made
    again = write_clip(tmp_path, clips(KINDS[1], 6, 20262001), clips)
    for key, values in read_facts(second.frames.parent).items():
        np.testing.assert_array_equal(again[key], values, key)
    for path in sorted(second.frames.iterdir()):
        assert (tmp_path / "frames" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "frames").iterdir())) == second.frame_count == 6


def test_a_box_that_no_frame_shows_is_no_error():
    clip = SyntheticClips("test", (48, 64))(KINDS[6], 2, 1)
    assert torch.isfinite(clip.joints_c).all()


@pytest.mark.parametrize("kind", [6, 7])
def test_the_truth_lies_on_the_people_that_are_drawn(clips, kind):
    clip = clips(KINDS[kind], 4, 31 + kind)
    assert clip.frames.shape == (4, *SIZE, 3)
    assert clip.frames.float().std() > 5
    world = clip.camera_from_world
    faces = torch.as_tensor(clips.body.faces).long()
    for person in range(2):
        posed = clips.body(clip.global_orient[person], clip.body_pose[person], clip.betas[person], clip.transl[person])
        joints_c = posed.joints @ world[:, :3, :3].mT + world[:, None, :3, 3]
        torch.testing.assert_close(joints_c, clip.joints_c[person], atol=1e-4, rtol=0)
        vertices_c = posed.vertices @ world[:, :3, :3].mT + world[:, None, :3, 3]
        center = torch.tensor([SIZE[1] / 2, SIZE[0] / 2])
        naked = rasterise(vertices_c, faces, torch.full((2,), clip.focal_px), center, SIZE).face_index >= 0
        drawn = clip.owner == person
        # Clothes reach a little beyond the body; whatever is hidden is drawn nowhere.
        assert (drawn & ~naked).sum() < 0.25 * drawn.sum() + 20
        alone = clip.keypoints_visible[person].all(1)
        both = (drawn & naked).sum((1, 2))[alone]
        assert (both > 0.6 * (drawn | naked).sum((1, 2))[alone]).all()
        # Everybody stands on the ground or is above it.
        assert -0.1 < posed.vertices[..., 1].min() < 0.3


def test_the_truth_has_no_error(made, tmp_path):
    folder, sequences = made
    arrays = {}
    for sequence in sequences:
        for truth in sequence.people:
            body, camera = truth.body, truth.camera_from_world
            pelvis = truth.joints_c[:, 0]
            known = {"global_orient": camera[:, :3, :3] @ body.global_orient, "body_pose": body.body_pose}
            known |= {"betas": body.betas, "transl": pelvis - _rest_pelvis(body.betas)}
            arrays |= {f"{sequence.name}/{truth.person}/{name}": values for name, values in known.items()}
    np.savez(tmp_path / "truth.npz", **arrays)
    options = [argument for key, value in SETTINGS.items() for argument in ("--dataset-option", f"{key}={value}")]
    arguments = [
        *("eval", "--dataset", "synthetic-video", "--data", str(folder), *options, "--json", "--no-sheet"),
        *("--out", str(tmp_path / "out"), "--predictions", str(tmp_path / "truth.npz")),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)["methods"]
    figures = {name: figure["mean"] for name, figure in row["figures"].items()}
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm"):
        assert figures[name] == pytest.approx(0, abs=0.05), name
    assert figures["accel_m_per_s2"] == pytest.approx(0, abs=0.05)
    assert figures["jitter_10m_per_s3"] == pytest.approx(figures["true_jitter_10m_per_s3"], rel=0.1)
    assert set(row["groups"]) == {"one person, still camera", "two people, moving camera"}


def _rest_pelvis(betas):
    from hmrkit.body import load_body

    return load_body().joints_only(betas=betas).joints[:, 0].numpy()


def test_the_take_beside_a_clip_holds_the_truth(made):
    _, (_, sequence) = made
    take = load_take(sequence.frames.parent / "take.npz")
    assert [track.track_id for track in take.tracks] == [1, 2]
    assert set(take.provenance) == {"track", "regress"}  # what render and export ask for
    np.testing.assert_array_equal(take.tracks[0].boxes_xyxy, sequence.people[0].boxes_xyxy)
    np.testing.assert_allclose(
        take.body[1].transl_c + _rest_pelvis(take.body[1].betas), sequence.people[0].joints_c[:, 0], atol=1e-4
    )


def test_the_ground_follows_slow_errors_and_no_jump():
    time = np.arange(90) / 30
    captured = 0.03 * np.sin(time)  # a ground that is not level
    jump = np.clip(0.4 - 8 * (time - 1.5) ** 2, 0, None)
    assert np.abs(ground_height(captured + jump, 30) - captured).max() < 0.03


def test_identity_switches_count_changes_of_the_track_only():
    ids = np.array([-1, 4, 4, -1, 4, 7, 7, -1, 4])
    expected = [np.nan, 0, 0, np.nan, 0, 1, 0, np.nan, 1]
    np.testing.assert_array_equal(metrics.identity_switches_per_frame(ids), expected)


def test_what_means_nothing_is_refused(tmp_path):
    fine = DatasetOptions(settings=SETTINGS)
    for wrong in ({"size": "3"}, {"frames": "many"}, {"width": "100"}, {"frames": "500"}):
        with pytest.raises(UsageError):
            load_dataset("synthetic-video", tmp_path, replace(fine, settings=wrong)).check()
