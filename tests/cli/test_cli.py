"""The command line as scripts use it: files, pipes, exit codes, resuming. Toy networks, the real chain."""

import io
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import hmrkit, piped, start, wait_for
from films import TOYS, write_film

from hmrkit.cli.info import sparkline
from hmrkit.take import load_take, save_take


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "walk.mp4")


@pytest.fixture(scope="module")
def done(film, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    result = hmrkit("run", film, "--out", out, "--render", "overlay.mp4", *TOYS)
    assert result.returncode == 0, result.stderr.decode()
    return out, result


def test_run_writes_all_it_promises(done):
    out, result = done
    printed = result.stdout.decode().split()
    clip = out / "walk"
    for name in ("take.npz", "person_01.npz", "overlay.mp4", "overlay_sheet.png"):
        assert (clip / name).stat().st_size > 0
        assert str(clip / name) in printed
    assert len(list((clip / "person_01_obj").glob("*.obj"))) == 12
    clip_report = json.loads((clip / "report.json").read_text())
    assert clip_report["status"] == "done"
    assert clip_report["people"][0]["reprojection_percent_of_box"] < 5
    with np.load(clip / "person_01.npz", allow_pickle=False) as person:
        assert person["poses"].shape == (12, 72)
        assert float(person["mocap_framerate"]) == pytest.approx(10)


def test_a_second_run_does_nothing_again(film, done):
    out, _ = done
    files = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != "report.json"}
    result = hmrkit("run", film, "--out", out, "--render", "overlay.mp4", *TOYS)
    assert result.returncode == 0
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_a_changed_option_runs_only_what_hangs_on_it(film, done, tmp_path):
    out = shutil.copytree(done[0], tmp_path / "out")
    before = load_take(out / "walk" / "take.npz").provenance
    result = hmrkit("run", film, "--out", out, "--method", "fit", *TOYS)
    assert result.returncode == 0
    after = load_take(out / "walk" / "take.npz")
    assert not after.calibrated
    assert all(after.provenance[s] == before[s] for s in ("detect", "track", "pose", "regress"))


def _manifest(archive):
    """A take's manifest but for the record of files, which a run's take has and a pipe's cannot have."""
    manifest = json.loads(str(archive["manifest"]))
    manifest["provenance"].pop("files", None)
    return manifest


def test_stages_in_pipes_equal_one_run(film, tmp_path):
    """Seven processes that run at once; takes and exported files are the same bit for bit."""
    out, formats = tmp_path / "run", "npz,obj,bvh,glb,csv"
    assert hmrkit("run", film, "--out", out, "--mesh", "toy", "--format", formats, *TOYS).returncode == 0
    take, stages = tmp_path / "piped.npz", ("track --tracker", "pose --keypoints", "regress --method", "lift --lifter")
    result = piped(
        ["detect", film, "--detector", "toy", "-o", "-"],
        *([name, "-", flag, "toy", "-o", "-"] for name, flag in map(str.split, stages)),
        ["calibrate", "-", "-o", take, "-o", "-"],
        ["export", "-", "--format", formats, "--out", tmp_path / "shots"],
    )
    assert result.returncode == 0, result.stderr.decode()
    with np.load(take) as staged, np.load(out / "walk" / "take.npz") as whole:
        assert _manifest(staged) == _manifest(whole)
        assert set(staged.files) == set(whole.files)
        for name in set(staged.files) - {"manifest"}:
            assert staged[name].tobytes() == whole[name].tobytes(), name
    exported = sorted(p for p in (tmp_path / "shots").rglob("*") if p.is_file() and p.name != "manifest.json")
    assert len(exported) > 12 + 4
    for path in exported:
        of_run = out / "walk" / path.relative_to(tmp_path / "shots")
        assert path.read_bytes() == of_run.read_bytes(), path.name
    assert set(result.stdout.decode().split()) <= {str(p) for p in (tmp_path / "shots").rglob("*")}
    facts = json.loads(hmrkit("info", "-", "--json", stdin=take.read_bytes()).stdout)
    assert facts["people"][0]["frames"] == 12


def test_mesh_is_another_name_for_regress_method(done):
    data = (done[0] / "walk" / "take.npz").read_bytes()
    made = [hmrkit("regress", "-", "-o", "-", flag, "toy", "--device", "cpu", stdin=data) for flag in
            ("--mesh", "--method")]  # fmt: skip
    assert made[0].stdout == made[1].stdout != b""


def test_cut_and_merge_in_pipes_give_the_take_back(done, tmp_path):
    whole = load_take(done[0] / "walk" / "take.npz")
    data = (done[0] / "walk" / "take.npz").read_bytes()
    head = hmrkit("cut", "-", "--end", "5", "--people", "1", "-o", "-", stdin=data)
    assert hmrkit("cut", "-", "--start", "0.5s", "-o", tmp_path / "tail.npz", stdin=data).returncode == 0
    result = hmrkit("merge", "-", tmp_path / "tail.npz", "-o", "-", stdin=head.stdout)
    assert result.returncode == 0, result.stderr.decode()
    merged = load_take(io.BytesIO(result.stdout))
    np.testing.assert_array_equal(merged.video.frame_indices, whole.video.frame_indices)
    np.testing.assert_array_equal(merged.calibrated[1].joints_c, whole.calibrated[1].joints_c)
    wrong = hmrkit("cut", "-", "--people", "7", "-o", "-", stdin=data)
    assert (wrong.returncode, wrong.stdout) == (2, b"")
    assert wrong.stderr.decode().count("\n") == 1


def test_rendered_for_compositing_where_the_footage_is_not(done, tmp_path):
    take = load_take(done[0] / "walk" / "take.npz")
    save_take(replace(take, video=replace(take.video, path="gone.mp4")), tmp_path / "take.npz")
    matte = [
        "render",
        tmp_path / "take.npz",
        "--alpha",
        "--style",
        "residual",
        "--first-frame",
        "1001",
        "--device",
        "cpu",
    ]
    result = hmrkit(*matte, "-o", tmp_path / "matte")
    assert result.returncode == 0, result.stderr.decode()
    names = [f"frame_{1001 + k:06d}.png" for k in range(12)]
    assert sorted(path.name for path in (tmp_path / "matte").iterdir()) == names
    wrong = hmrkit(*matte, "-o", tmp_path / "matte.mp4")
    assert wrong.returncode == 2
    assert "no alpha" in wrong.stderr.decode()
    assert not (tmp_path / "matte.mp4").exists()


def test_info_shows_who_is_seen_when_and_how_surely(done, tmp_path):
    data = (done[0] / "walk" / "take.npz").read_bytes()
    output = hmrkit("info", "-", stdin=data).stdout.decode()
    assert "person 1   frames 0 to 11, 12 in all" in output
    assert "stages     detect track pose regress lift calibrate" in output
    (line,) = [line for line in output.splitlines() if line.startswith("  confidence")]
    assert len(line.split("  ")[1].split()[-1]) == 12


@pytest.mark.parametrize(
    ("values", "line"),
    [([0, 0.5, 1], "▁▅█"), ([np.nan, 1, 2], " ██"), ([-1, 0.13], "▁▂"), ([0.4, 0.6, np.nan, 1], "▅█")],
)
def test_sparklines(values, line):
    assert sparkline(values, 1.0, width=2 if len(values) == 4 else 60) == line


def test_regressors_from_the_command_line(film, tmp_path):
    """The regressor's mesh, drawn and exported; calibrated by PC-HMR; as a stage of its own: one and the same."""
    out = tmp_path / "toy"
    result = hmrkit("run", film, "--out", out, "--method", "toy", "--render", "o.mp4", *TOYS)
    assert result.returncode == 0, result.stderr.decode()
    for name in ("person_01.npz", "o.mp4", "o_sheet.png", "report.json"):
        assert (out / "walk" / name).stat().st_size > 0
    (person,) = json.loads((out / "walk" / "report.json").read_text())["people"]
    assert person["reprojection_percent_of_box"] < 10
    take = load_take(out / "walk" / "take.npz")
    assert hmrkit("run", film, "--out", out, "--mesh", "toy", "--format", "npz", *TOYS).returncode == 0
    calibrated = load_take(out / "walk" / "take.npz")
    assert calibrated.calibrated
    assert calibrated.provenance["regress"] == take.provenance["regress"]
    data = (out / "walk" / "take.npz").read_bytes()
    again = hmrkit("regress", "-", "-o", tmp_path / "again.npz", "--method", "toy", "--device", "cpu", stdin=data)
    assert again.returncode == 0, again.stderr.decode()
    assert np.array_equal(load_take(tmp_path / "again.npz").body[1].transl_c, take.body[1].transl_c)


def test_a_checkpoint_that_is_not_there_is_said_before_any_work(film, tmp_path):
    result = hmrkit(
        "run", film, "--out", tmp_path, "--method", "hmr", "--checkpoint", tmp_path / "no.pt", "--dry-run", *TOYS
    )
    assert result.returncode == 3
    assert result.stderr.decode().count("\n") == 1
    assert "no.pt" in result.stderr.decode()


def test_one_bad_clip_stops_nothing(film, tmp_path):
    (tmp_path / "noise.mp4").write_bytes(b"not a video at all" * 99)
    (tmp_path / "empty.mp4").touch()
    out = tmp_path / "out"
    inputs = [tmp_path / "noise.mp4", tmp_path / "empty.mp4", tmp_path / "missing.mp4", film]
    result = hmrkit("run", *inputs, "--out", out, "--format", "npz", *TOYS)
    assert result.returncode == 1
    lines = [line for line in result.stderr.decode().splitlines() if line.startswith("hmrkit:")]
    assert len(lines) == 3
    assert all(sum(path.name in line for line in lines) == 1 for path in inputs[:3])
    assert [path.parent.name for path in out.rglob("person_01.npz")] == ["walk"]
    lines = [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["failed", "failed", "failed", "done"]


def test_a_clip_without_people_is_said_not_failed(tmp_path):
    film = write_film(tmp_path / "nobody.mp4", empty=True)
    result = hmrkit("run", film, "--out", tmp_path / "out", "--render", "o.mp4", *TOYS)
    assert result.returncode == 0, result.stderr.decode()
    assert "no person" in result.stderr.decode()
    assert (tmp_path / "out" / "nobody" / "o.mp4").exists()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["run"], 2),
        (["run", "x.mp4", "--method", "magic"], 2),
        (["run", "x.mp4", "--device", "cuda:99"], 1),
        (["run", "x.mp4", "--format", "docx"], 2),
        (["run", "missing.mp4"], 4),
        (["track", "missing.npz", "-o", "-"], 4),
        (["run", "--no-such-option"], 2),
        (["run", "x.mp4", "--method", "fit", "--mesh", "hmr"], 2),
        (["run", "x.mp4", "--checkpoint", "x.pt"], 2),
        (["regress", "missing.npz", "--method", "hmr", "-o", "-"], 4),
        (["run", "x.mp4", "--method", "cliff"], 3),
        (["list", "nothing"], 2),
    ],
)
def test_exit_codes_and_one_line(args, code, tmp_path):
    result = hmrkit(*args, cwd=tmp_path)
    assert result.returncode == code, result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()


def test_dry_run_checks_and_stops(film, tmp_path):
    result = hmrkit("run", film, tmp_path / "gone.mp4", "--out", tmp_path / "o", "--dry-run", *TOYS)
    assert result.returncode == 1
    assert "gone.mp4" in result.stderr.decode()
    assert not (tmp_path / "o" / "walk").exists()


def test_unwritable_output_is_said_before_any_work(film, tmp_path):
    (tmp_path / "file").touch()
    result = hmrkit("run", film, "--out", tmp_path / "file" / "out", *TOYS)
    assert result.returncode == 4
    assert "cannot write" in result.stderr.decode()


def test_killed_in_the_middle_it_resumes(tmp_path):
    frames = {"short": 12, "long": 60}
    films = [write_film(tmp_path / f"{name}.mp4", frames=count, step=1.2) for name, count in frames.items()]
    out, nowhere = tmp_path / "out", Path(os.devnull)
    command = ["run", *films, "--out", out, "--mesh", "toy", *TOYS]
    with start(*command, streams=[nowhere] * 3) as process:
        wait_for((out / "short" / "report.json").exists, process)
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (out / "long" / "report.json").exists()
    first = out / "short" / "person_01.npz"
    stamp = first.stat().st_mtime_ns
    again = hmrkit(*command)
    assert again.returncode == 0, again.stderr.decode()
    assert first.stat().st_mtime_ns == stamp, "what was finished must not be made again"
    for name, count in frames.items():
        assert len(list((out / name / "person_01_obj").glob("*.obj"))) == count
    assert not list(out.rglob("*.part"))


def test_clips_of_one_name_get_folders_of_their_own(film, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "plate.mp4").write_bytes(film.read_bytes())
    listed = "\n".join(str(tmp_path / f / "plate.mp4") for f in ("a", "b"))
    result = hmrkit(
        "run", "--input-list", "-", "--out", tmp_path / "o", "--format", "npz", *TOYS, stdin=listed.encode()
    )
    assert result.returncode == 0, result.stderr.decode()
    assert {p.parent.relative_to(tmp_path / "o").as_posix() for p in (tmp_path / "o").rglob("take.npz")} == {
        "a/plate",
        "b/plate",
    }


def test_list_and_help():
    assert b"yolox-nano" in hmrkit("list", "detectors").stdout
    assert b"calibrate" in hmrkit("--help").stdout
