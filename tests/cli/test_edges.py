"""Edited takes, people without finite meshes, options that do nothing: one line, or the sensible thing."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from films import TOYS, write_film
from in_process import hmrkit
from made_takes import make_take

from hmrkit.errors import InputError
from hmrkit.options import Options
from hmrkit.pipeline import adopted, calibrate
from hmrkit.scene import scene_name
from hmrkit.take import load_take, save_take

DROPPED = {"first_frame": 0, "last_frame": 3, "boxes": 4, "best_score": 0.5, "reason": "short"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A take that the toys made, calibrated geometrically."""
    folder = tmp_path_factory.mktemp("edges")
    film = write_film(folder / "walk.mp4", frames=5)
    assert hmrkit("run", film, "--out", folder, "--format", "npz", "--calibration", "geometric", *TOYS).returncode == 0
    return folder / "walk" / "take.npz"


def edited(take, change):
    """The take with a changed manifest, and without checksums that would show it."""
    with np.load(take) as archive:
        arrays = dict(archive)
    manifest = json.loads(str(arrays["manifest"]))
    del manifest["checksums"]
    change(manifest)
    path = take.with_name("edited.npz")
    np.savez(path, **(arrays | {"manifest": np.array(json.dumps(manifest))}))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["video"].update(width=10**9), "pixels"),
        (lambda m: m["video"].update(width="wide"), "pixels"),
        (lambda m: m["camera"].update(height=-3), "pixels"),
        (lambda m: m["video"].update(slowdown=0), "slowdown of 0"),
        (lambda m: m["video"].update(slowdown=float("nan")), "slowdown of nan"),
        (lambda m: m["video"].update(path=""), "no path"),
        (lambda m: m["video"].update(fps="0"), "0 frames per second"),
        (lambda m: m["body"]["1"].update(gender="dragon"), "gender 'dragon'"),
        (lambda m: m["keypoints"]["1"].update(skeleton="octopus"), "skeleton 'octopus'"),
        (lambda m: m.update(provenance=[]), "provenance"),
        (lambda m: m["provenance"].update(lift=3), "provenance"),
        (lambda m: m.update(dropped_tracks=[4]), "dropped tracks"),
        (lambda m: m.update(dropped_tracks=[{"reason": "short"}]), "dropped tracks"),
        (lambda m: m.update(dropped_tracks=[DROPPED | {"boxes": "many"}]), "dropped tracks"),
        (lambda m: m.update(dropped_tracks=[DROPPED | {"size": 2}]), "dropped tracks"),
        (lambda m: m.update(tracks=["1"]), "without frames"),
    ],
)
def test_edited_manifests_are_damaged_takes(change, words, done):
    with pytest.raises(InputError, match=f"the take is damaged.*{words}.*make it anew"):
        load_take(edited(done, change))


def test_frames_and_people_without_finite_meshes_are_left_out(done, tmp_path, models, caplog):
    take = load_take(done)
    broken = {k: np.array(getattr(take.body[1], k)) for k in ("global_orient", "body_pose", "transl_c")}
    broken["body_pose"][2] = np.nan
    body = replace(take.body[1], **broken)
    options = SimpleNamespace(options=Options(calibration="geometric", device="cpu"), **vars_of(models))
    moved = calibrate(replace(take, body={1: body}), options, lambda *_: None)["calibrated"][1]
    assert np.isnan(moved.joints_c[2]).all()
    assert np.isfinite(moved.joints_c[[0, 1, 3, 4]]).all()
    assert "no mesh in 1 frames" in caplog.text
    gone = replace(body, transl_c=np.full_like(body.transl_c, np.nan))
    assert calibrate(replace(take, body={1: gone}), options, lambda *_: None)["calibrated"] == {}
    save_take(replace(take, body={1: gone}, calibrated={}), tmp_path / "gone.npz")
    result = hmrkit("export", tmp_path / "gone.npz", "-o", tmp_path / "out", "--device", "cpu")
    assert (result.returncode, "finite numbers" in result.stderr) == (4, True)


def vars_of(models):
    return {"body": models.body, "calibration": models.calibration, "shares": models.shares}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("render", "TAKE", "-o", "w.png", "--what", "weights", "--bones", ","), "--bones wants names"),
        (("render", "TAKE", "-o", "w.mp4", "--style", "residual", "--heat-max", "0"), "--heat-max must be a number"),
        (("render", "TAKE", "-o", "w.mp4", "--heat-max", "2"), "--heat-max is for --style"),
        (("bench", "calibrate", "--detector", "toy", "--render"), "no use for --detector, --render"),
        (("bench", "TAKE", "--peers", "--growth", "g.png"), "one thing at a time, got --peers, --growth"),
        (("info", "TAKE", "--mesh", "--physics"), "one at a time"),
    ],
)
def test_options_that_would_do_nothing_are_refused(args, words, done):
    result = hmrkit(*(done if arg == "TAKE" else arg for arg in args))
    assert (result.returncode, words in result.stderr) == (2, True), result


def test_a_stage_that_is_made_again_keeps_what_was_chosen(done, tmp_path):
    take, plain = load_take(done), Options(device="cpu")
    assert adopted(plain, take, ["calibrate"]).calibration == "full"
    assert adopted(plain, take, ["calibrate"], {"device", "params_only"}).calibration == "geometric"
    assert adopted(plain, take, ["calibrate"], {"calibration"}).calibration == "full"
    assert hmrkit("calibrate", done, "-o", tmp_path / "again.npz", "--device", "cpu").returncode == 0
    assert load_take(tmp_path / "again.npz").provenance == take.provenance


def test_exports_have_a_manifest_and_leave_no_old_frames(models, tmp_path):
    take = make_take(models)
    save_take(take, tmp_path / "take.npz")
    out = tmp_path / "out"
    common = ("export", tmp_path / "take.npz", "-o", out, "--device", "cpu")
    assert hmrkit(*common, "--format", "obj,npz", "--fps", "60").returncode == 0
    many = len(list(out.rglob("*.obj")))
    (out / "mine.txt").write_text("mine")
    assert hmrkit(*common, "--format", "obj").returncode == 0
    assert 0 < len(list(out.rglob("*.obj"))) < many
    products = json.loads((out / "manifest.json").read_text())["products"]
    clip = scene_name(Path(make_take(models).video.path))
    assert set(products) == {f"export-obj-{clip}", f"export-npz-{clip}"}
    assert (out / "mine.txt").exists()
    assert list(out.glob("*.npz"))


def test_clips_share_a_folder_and_lose_only_what_is_replaced(models, tmp_path):
    out, take = tmp_path / "out", make_take(models)
    for name, people in (("shot_010", "all"), ("shot_020", "1")):
        save_take(replace(take, video=replace(take.video, path=f"{name}.mp4")), tmp_path / "take.npz")
        common = ("export", tmp_path / "take.npz", "-o", out, "--device", "cpu", "--people", people)
        result = hmrkit(*common, "--format", "obj,bvh")
        assert (result.returncode, result.stderr.count("replaced files")) == (0, int(people == "1")), result.stderr
    products = json.loads((out / "manifest.json").read_text())["products"]
    assert products["export-obj-shot_010"]["paths"] == ["person_02_obj"]
    kept = products["export-bvh-shot_010"]["files"]
    assert {"person_02.bvh", "person_02.bvh.json"} <= set(kept)
    assert "person_01.bvh.json" not in kept
    assert all((out / file).is_file() for file in kept)
    assert len(list((out / "person_02_obj").iterdir())) == len(products["export-obj-shot_010"]["files"]) > 0


def test_clips_share_a_folder_and_their_sequences_do_not_mix(models, tmp_path):
    out, take = tmp_path / "out", make_take(models)
    for name, rate in (("shot_010", "60"), ("shot_020", "10")):
        save_take(replace(take, video=replace(take.video, path=f"{name}.mp4")), tmp_path / "take.npz")
        common = ("export", tmp_path / "take.npz", "-o", out, "--device", "cpu", "--fps", rate)
        assert hmrkit(*common, "--format", "bvh,abc,obj").returncode == 0
    assert sorted(path.name for path in out.glob("*.abc")) == ["shot_010.abc", "shot_020.abc"]
    products = json.loads((out / "manifest.json").read_text())["products"]
    assert "export-abc-shot_010" in products
    assert "export-obj-shot_010" not in products  # its folders are the last clip's, whole
    assert len(list(out.rglob("*.obj"))) == len(products["export-obj-shot_020"]["files"])
