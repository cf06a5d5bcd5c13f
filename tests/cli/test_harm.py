"""What the command line must withstand: forgotten stages, numbers out of range, signals, closed streams."""

import io
import os
import shlex
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from commands import HMRKIT, ended, start, wait_for
from films import TOYS, write_film
from in_process import hmrkit
from PIL import Image

from hmrkit.take import load_take

QUICK = ["--method", "toy", "--no-refine", "--format", "npz"]
CHILD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "walk.mp4")


@pytest.fixture(scope="module")
def detected(film):
    take = film.with_name("detected.npz")
    assert hmrkit("detect", film, "--detector", "toy", "-o", take).returncode == 0
    return take


@pytest.mark.parametrize("command", ["calibrate", "export", "render"])
def test_a_forgotten_stage_is_named(command, detected, tmp_path):
    result = hmrkit(command, detected, "-o", tmp_path / "out.mp4", "--device", "cpu")
    assert result.returncode == 4
    assert "run `hmrkit track` on it first, then `hmrkit pose`" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_damaged_take_is_one_line_and_a_run_starts_again(film, detected, tmp_path):
    folder = tmp_path / "out" / "walk"
    folder.mkdir(parents=True)
    data = bytearray(detected.read_bytes())
    with zipfile.ZipFile(detected) as archive:  # amid the first member: headers have bytes that mean nothing
        second = archive.infolist()[1].header_offset
    data[second // 2] ^= 4
    (folder / "take.npz").write_bytes(data)
    refused = hmrkit("info", folder / "take.npz"), hmrkit("track", folder / "take.npz", "-o", tmp_path / "t.npz")
    assert {(r.returncode, r.stderr.count("\n")) for r in refused} == {(4, 1)}
    assert all("anew" in r.stderr for r in refused)
    again = hmrkit("run", film, "--out", tmp_path / "out", "--format", "npz", *TOYS)
    assert again.returncode == 0
    assert "starting this clip again" in again.stderr
    assert load_take(folder / "take.npz").calibrated


@pytest.mark.parametrize(
    "args",
    [
        ["--focal", "nan"], ["--focal", "inf"], ["--fov", "inf"], ["--smooth", "1e300"], ["--smooth", "nan"],
        ["--fps", "inf"], ["--capture-fps", "-1"], ["--every", "0"], ["--batch-size", "0"], ["--people", "²"],
        ["--start", "²"], ["--focal", "1e300"],
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_usage_errors(args, film, tmp_path):
    from hmrkit.errors import HmrkitError
    from hmrkit.options import OPTIONS, Options
    from hmrkit.pipeline import open_clip

    name, text = args[0].removeprefix("--").replace("-", "_"), args[1]
    value = float(text) if OPTIONS[name].allowed else text
    with pytest.raises(HmrkitError, match=args[0]) as error:
        open_clip(film, Options(**{name: value}))
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "hung up"),
    ],
)
def test_signals_end_a_run_and_it_says_so(number, code, word, tmp_path):
    film = write_film(tmp_path / "long.mp4", frames=600)
    (messages := tmp_path / "messages").touch()
    default = "default_int_handler" if number == signal.SIGINT else "SIG_DFL"  # whatever these tests were started by
    heard = f"import signal; signal.signal({number:d}, signal.{default}); {HMRKIT}"
    command, nowhere = ["run", film, "--out", tmp_path / "out", *QUICK, *TOYS], Path(os.devnull)
    with start(*command, streams=[nowhere, nowhere, messages], code=heard) as process:
        wait_for((tmp_path / "out" / "long").exists, process)
        os.kill(process.pid, number)
        assert ended(process, messages) == code
    assert messages.read_text() == f"hmrkit: {word}; the same command goes on from here\n"
    assert not list((tmp_path / "out").rglob(".*"))


def test_a_reader_that_goes_costs_no_clip(tmp_path):
    films = [write_film(tmp_path / f"f{k}.mp4") for k in range(2)]
    command = [sys.executable, "-m", "hmrkit", "run", *map(str, films), "--out", str(tmp_path / "o"), *QUICK, *TOYS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=CHILD)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=120) == 0
    assert all((tmp_path / "o" / film.stem / "person_01.npz").is_file() for film in films)
    command[4:6] = films[:1]
    closed = subprocess.run(shlex.join(map(str, command)) + " --overwrite >&- 2>&-", shell=True, env=CHILD)
    assert closed.returncode == 0


def test_takes_follow_links_and_spare_folders_and_devices(film, tmp_path):
    (tmp_path / "link.npz").symlink_to(tmp_path / "real.npz")
    (tmp_path / "null").symlink_to("/dev/null")
    out = ["-o", tmp_path / "link.npz", "-o", tmp_path / "null", "-o", "/dev/stdout"]
    result = subprocess.run(
        [sys.executable, "-m", "hmrkit", "detect", film, "--detector", "toy", *map(str, out)],
        stdout=subprocess.PIPE, env=CHILD,
    )  # fmt: skip
    assert result.returncode == 0
    assert (tmp_path / "link.npz").is_symlink()
    assert load_take(io.BytesIO(result.stdout)).provenance == load_take(tmp_path / "real.npz").provenance
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    refused = hmrkit("detect", film, "--detector", "toy", "-o", tmp_path)
    assert refused.returncode == 2
    assert "found a folder" in refused.stderr


def test_a_clip_that_can_hardly_be_decoded_is_a_failure(tmp_path):
    (tmp_path / "clip").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (4, 96, 128, 3), dtype=np.uint8)
    for k, image in enumerate(noise):
        path = tmp_path / "clip" / f"f_{k}.png"
        Image.fromarray(image).save(path)
        if k:
            path.write_bytes(path.read_bytes()[:1500])
    command = ("run", tmp_path / "clip", "--out", tmp_path / "out", "--format", "npz", *TOYS)
    assert (result := hmrkit(*command)).returncode == 1
    assert "3 of 4 frames could not be decoded" in result.stderr
    assert hmrkit(*command, "--failed-frames", "0.8").returncode == 0
