"""`hmrkit import` as a user calls it: a take that exports write as it is."""

from __future__ import annotations

import made_results
import numpy as np
import pytest
from films import TOYS, write_film
from made_smpl import make_smpl
from typer.testing import CliRunner

import hmrkit
from hmrkit.body import load_body
from hmrkit.body.posing import take_rows
from hmrkit.cli.app import app
from hmrkit.errors import InputError, UsageError
from hmrkit.take import load_take


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "walk.mp4")


@pytest.fixture(scope="module")
def smpl(tmp_path_factory):
    return make_smpl(tmp_path_factory.mktemp("smpl"))


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_results_go_through_import_cut_and_export_and_back(tmp_path, film, smpl):
    frames = [list(range(12)), [1, 2, 3, 4, 7, 8, 9]]
    places = ((-0.8, 0.1, 4.0), (0.9, 0.0, 5.0))
    body = load_body(smpl)
    people = [made_results.make_motion(len(f), body, k, p) for k, (f, p) in enumerate(zip(frames, places, strict=True))]
    results = made_results.wham(tmp_path, people, frames, made_results.DIAGONAL)

    take = tmp_path / "take.npz"
    assert run("import", results, "--video", film, "-o", take, "--body", smpl) == [str(take)]
    run("cut", take, "--people", "1,2", "--start", "1", "--end", "10", "-o", tmp_path / "cut.npz")
    assert [len(t.frame_indices) for t in load_take(tmp_path / "cut.npz").tracks] == [9, 7]
    written = run("export", take, "--format", "npz,csv,bvh", "--body", smpl, "--out", tmp_path / "out", "--smooth", "0")
    assert {path.rpartition(".")[2] for path in written} == {"npz", "csv", "bvh", "json"}
    with np.load(tmp_path / "out" / "person_02.npz") as person:
        np.testing.assert_allclose(person["poses"], made_results.axis_angles(people[1]), atol=1e-5)
        np.testing.assert_allclose(person["trans"], people[1].transl_c, atol=1e-5)
        np.testing.assert_array_equal(person["frame_indices"], frames[1])
        np.testing.assert_allclose(person["camera_focal_px"], made_results.DIAGONAL, rtol=1e-6)
    assert "2" in "\n".join(run("info", take))

    # hmrkit's own files come back, too: in the camera and from the world, whose ground was estimated.
    run("export", take, "--format", "npz", "--body", smpl, "--out", tmp_path / "world", "--space", "world")
    for folder in ("out", "world"):
        run("import", tmp_path / folder / "person_02.npz", "--video", film, "-o", tmp_path / "b.npz", "--body", smpl)
        back = load_take(tmp_path / "b.npz")
        np.testing.assert_allclose(back.body[1].transl_c, people[1].transl_c, atol=1e-4)
        np.testing.assert_allclose(back.body[1].global_orient, people[1].global_orient, atol=1e-4)

    run("export", take, "--format", "smpl", "--body", smpl, "--out", tmp_path / "out")
    run("import", tmp_path / "out" / "person_01.smpl", "--video", film, "-o", tmp_path / "c.npz", "--body", smpl)
    back = load_take(tmp_path / "c.npz").body[1]
    np.testing.assert_allclose(back.body_pose, people[0].body_pose, atol=1e-5)
    np.testing.assert_allclose(back.global_orient, people[0].global_orient, atol=1e-5)
    np.testing.assert_allclose(np.diff(back.transl_c, axis=0), np.diff(people[0].transl_c, axis=0), atol=1e-4)


def test_calibrating_an_import_says_what_to_run_and_that_runs(tmp_path, film, smpl):
    """The last frames are missing in the results."""
    toys = dict.fromkeys(("detector", "tracker", "keypoints", "lifter"), "toy")
    made = hmrkit.run(film, **toys, method="toy", body=str(smpl), focal=made_results.DIAGONAL, device="cpu")
    people, frames = [take_rows(made.body[1], np.arange(9))], [list(range(9))]
    results = made_results.wham(tmp_path, people, frames, made_results.DIAGONAL)
    take = tmp_path / "take.npz"
    run("import", results, "--video", film, "-o", take, "--body", smpl)
    for stage in ("calibrate", "lift", "pose"):
        error = CliRunner().invoke(app, [stage, str(take), "-o", str(tmp_path / "c.npz")]).exception
        assert isinstance(error, InputError)
        command = str(error).partition("`hmrkit ")[2].partition("`")[0].split()
        assert command[:4] == ["run", str(film), "--method", "pc-hmr"]
        assert command[4:6] == ["--mesh", f"file:{results}"]
    run("import", results, "--video", film, "-o", tmp_path / "w.npz", "--body", smpl, "--space", "world")
    error = CliRunner().invoke(app, ["calibrate", str(tmp_path / "w.npz"), "-o", str(tmp_path / "c.npz")]).exception
    assert isinstance(error, InputError)
    assert "imported from a world" in str(error)
    run(
        *command,
        *(f"--{name}=toy" for name in toys),
        "--body",
        smpl,
        "--device",
        "cpu",
        "--format",
        "npz",
        "-o",
        tmp_path / "out",
    )
    with np.load(tmp_path / "out" / "walk" / "person_01.npz") as person:
        assert person["poses"].shape == (12, 72)


def test_every_output_is_made_of_an_import(tmp_path, film, smpl):
    body, frames = load_body(smpl), [list(range(12)), [1, 2, 3, 4, 7, 8, 9]]
    places = ((-0.8, 0.1, 4.0), (0.9, 0.0, 5.0))
    people = [made_results.make_motion(len(f), body, k, p) for k, (f, p) in enumerate(zip(frames, places, strict=True))]
    results = made_results.bev(tmp_path, people, frames, 0, body)
    take, out = tmp_path / "take.npz", tmp_path / "out"
    run("import", results, "--video", film, "-o", take, "--body", smpl, "--smooth", "1")
    smooth = load_take(take).body[1].transl_c
    assert 0 < np.abs(smooth - people[0].transl_c).max() < 0.05
    export = ["export", take, "--body", smpl, "--out", out, "--space", "world"]
    written = run(*export, "--format", "glb,fbx,usd,abc,smpl,trc", "--smooth", "1", "--lock-feet")
    assert {path.rpartition(".")[2] for path in written} >= {"glb", "fbx", "smpl", "trc"}
    run("render", take, "--body", smpl, "-o", tmp_path / "render.mp4")
    run("view", take, "--body", smpl, "--html", tmp_path / "view.html")
    assert (tmp_path / "render.mp4").stat().st_size > 1000
    assert (tmp_path / "view.html").stat().st_size > 10000


def test_results_of_another_lens_are_refused_before_anything_is_detected(tmp_path, film, smpl):
    people = [made_results.make_motion(12, load_body(smpl), 0)]
    results = made_results.wham(tmp_path, people, [list(range(12))], made_results.DIAGONAL)
    line = ["run", str(film), "--method", "pc-hmr", "--mesh", f"file:{results}", "--body", str(smpl), *TOYS]
    for extra in (["--dry-run"], []):
        result = CliRunner().invoke(app, [*line, "--out", str(tmp_path / "out"), *extra])
        assert result.exit_code == 4
        assert "give --focal 160.000" in result.stderr
    assert not (tmp_path / "out" / "walk" / "take.npz").exists()


def test_what_cannot_be_is_one_line(tmp_path, film):
    results = tmp_path / "amass.npz"
    np.savez(results, poses=np.zeros((5, 156)), trans=np.zeros((5, 3)), betas=np.zeros(16), mocap_framerate=0.0)
    line = ["import", str(results), "--video", str(film), "-o", str(tmp_path / "t.npz")]
    usage = ("--smooth=nan", "--smooth=-1", "--focal=nan", "--focal=0", "--focal=inf", "--fps=25")
    for extra, error in (*(([option], UsageError) for option in usage), ([], InputError)):
        assert isinstance(CliRunner().invoke(app, [*line, *extra]).exception, error)
        assert not (tmp_path / "t.npz").exists()
