"""Fingers of imported results: through a take, its cuts and its rates, into the exports that can write them."""

from __future__ import annotations

from dataclasses import replace

import made_results as made
import numpy as np
import pytest
import torch
from films import write_film
from made_smpl import make_smpl
from typer.testing import CliRunner

from hmrkit.body import Body, load_body
from hmrkit.body.files import find_body, read_smpl_file
from hmrkit.camera import assume_camera
from hmrkit.cli.app import app
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.results.formats import read_results
from hmrkit.results.imported import results_take
from hmrkit.results.linking import linked_rows
from hmrkit.results.stream import _on_frames
from hmrkit.take import load_take
from hmrkit.take.editing import cut_take, merge_takes
from hmrkit.types import Track
from hmrkit.video import probe


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "walk.mp4")


def poses_with_fingers(params, joints):
    """Axis-angle (T,3 joints) of known bodies with fingers that move; their rotations (T,30,3,3)."""
    random = np.random.default_rng(joints)
    count = len(params.transl_c)
    fingers = 0.3 * random.standard_normal((1, 90)) + 0.05 * np.arange(count)[:, None]
    face = np.full((count, 3 * (joints - 52)), 0.1)
    matrices = axis_angle_to_matrix(torch.from_numpy(fingers.reshape(count, 30, 3))).numpy()
    return np.concatenate([made.axis_angles(params, 22), face, fingers], 1), matrices


@pytest.mark.parametrize("joints", [52, 55])
def test_they_go_from_amass_into_npz_and_smpl_and_back(film, tmp_path, joints):
    pytest.importorskip("smplcodec")
    body, smpl = load_body(), make_smpl(tmp_path / "smpl")
    poses, fingers = poses_with_fingers(made.make_motion(12, body), joints)
    trans = np.tile([0.0, 1.0, 0.0], (12, 1))
    np.savez(tmp_path / "a.npz", poses=poses, trans=trans, betas=np.zeros(16), mocap_framerate=10.0, gender="neutral")
    chosen = ("--body", smpl)
    run("import", tmp_path / "a.npz", "--video", film, "-o", tmp_path / "take.npz", *chosen)
    take = load_take(tmp_path / "take.npz")
    np.testing.assert_allclose(take.body[1].fingers, fingers, atol=1e-5)

    halves = [cut_take(take, end=5), cut_take(take, start=5)]
    assert len(halves[0].body[1].fingers) == 5
    np.testing.assert_array_equal(merge_takes(halves).body[1].fingers, take.body[1].fingers)

    run("export", tmp_path / "take.npz", "--format", "npz,smpl", "--out", tmp_path / "out", "--smooth", "1", *chosen)
    with np.load(tmp_path / "out" / "person_01.npz") as person:
        assert person["poses"].shape == (12, 156)
        found = axis_angle_to_matrix(torch.from_numpy(person["poses"][:, 66:]).reshape(12, 30, 3)).numpy()
        np.testing.assert_allclose(found, fingers, atol=1e-5)
    for name in ("person_01.npz", "person_01.smpl"):
        _, back = read_results(tmp_path / "out" / name, probe(film))
        np.testing.assert_allclose(back.people[0].fingers, fingers, atol=1e-5)
        np.testing.assert_allclose(back.people[0].rotations[:, 1:22], take.body[1].body_pose[:, :21], atol=0.02)

    run("export", tmp_path / "take.npz", "--format", "npz", "--out", tmp_path / "fast", "--fps", "20", *chosen)
    with np.load(tmp_path / "fast" / "person_01.npz") as person:
        assert person["poses"].shape == (len(person["frames"]), 156)
        assert len(person["frames"]) > 20
    run("export", tmp_path / "take.npz", "--format", "npz", "--out", tmp_path / "flat", "--fingers", "rest", *chosen)
    with np.load(tmp_path / "flat" / "person_01.npz") as person:
        assert person["poses"].shape == (12, 72)


def test_they_are_bridged_with_the_body_and_joined_with_the_person():
    body = load_body()
    params = made.make_motion(4, body)
    fingers = axis_angle_to_matrix(0.1 * torch.arange(4.0)[:, None, None].expand(4, 30, 3)).numpy()
    params = replace(params, fingers=fingers)
    found = _on_frames(params, np.array([0, 1, 3, 4]), np.arange(5), np.arange(5) / 30)
    angles = matrix_to_axis_angle(torch.from_numpy(found.fingers)).numpy()[:, 0, 0]
    np.testing.assert_allclose(angles, [0, 0.1, 0.15, 0.2, 0.3], atol=2e-3)
    box, one = np.array([[0, 0, 9, 9.0]], np.float32), np.ones(1, np.float32)
    rows = [
        (
            Track(k + 1, np.array([k]), box, one, np.zeros(1, bool)),
            replace(
                params, global_orient=params.global_orient[[k]], body_pose=params.body_pose[[k]],
                transl_c=params.transl_c[[k]], fingers=fingers[[k]],
            ),
        )
        for k in range(4)
    ]  # fmt: skip
    np.testing.assert_array_equal(linked_rows(rows, np.arange(len(rows)) / 30)[0][1].fingers, fingers)


def test_hands_at_rest_are_none(film, tmp_path):
    poses, _ = poses_with_fingers(made.make_motion(12, load_body()), 52)
    poses[:, 66:] = 0
    np.savez(tmp_path / "a.npz", poses=poses, trans=np.zeros((12, 3)), betas=np.zeros(16), mocap_framerate=10.0)
    assert read_results(tmp_path / "a.npz", probe(film))[1].people[0].fingers is None


def test_hands_about_a_mean_hand_need_the_file_that_has_it(film, tmp_path, caplog):
    mean, hands = 0.4 * np.random.default_rng(3).standard_normal((2, 30, 3))
    arrays = read_smpl_file(find_body()) | {"model_id": "smplx-made"}
    body, without = Body(arrays | {"mean_hands": mean}), Body(arrays)
    path = made.smpler_x(tmp_path, [made.make_motion(4, body)], [range(4)], 150.0, body, hands)
    video, camera = probe(film), assume_camera(128, 96, 150.0)
    _, results = read_results(path, video)
    taken = results_take(results, video, camera, body, str(path)).body[1]
    expected = axis_angle_to_matrix(torch.from_numpy(hands + mean)).numpy()
    np.testing.assert_allclose(taken.fingers, np.broadcast_to(expected, (4, 30, 3, 3)), atol=1e-5)
    assert "left out" not in caplog.text
    assert results_take(results, video, camera, without, str(path)).body[1].fingers is None
    assert caplog.text.count("hands are left out") == 1
