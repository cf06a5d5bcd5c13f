"""`hmrkit plot`: curves of a take's people, as files."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from in_process import hmrkit
from made_takes import RATE, models, take  # noqa: F401

from hmrkit.errors import UsageError
from hmrkit.take import save_take
from hmrkit.viewing.person_curves import KINDS, curves_of


@pytest.fixture(scope="module")
def curves(take, models):  # noqa: F811
    return {made.name: made for made in curves_of(take, models, list(KINDS))}


def lines(curves):
    return {key: values for panel in curves.panels for key, values in panel.lines.items()}


def test_each_person_and_kind_is_one_set_of_curves(curves):
    assert list(curves) == [f"person_0{i}_{kind}" for i in (1, 2) for kind in KINDS]
    for made in curves.values():
        assert made.frames.tolist() == ([10, 11, 12, 13, 14, 15] if "_01_" in made.name else [16, 17, 18])
        for key, values in lines(made).items():
            assert values.shape == made.frames.shape, key
    for key, values in lines(curves["person_01_angles"]).items():
        assert np.isnan(values[3]), key  # frame 13, in which person 1 is not seen
        assert np.isfinite(np.delete(values, 3)).all(), key


def test_speed_is_metres_per_second_of_the_world(curves, take, models):  # noqa: F811
    # The pelvis moves by 0.5 * 0.1 m along each axis from one row to the next.
    speed = lines(curves["person_01_speed"])["pelvis"]
    assert speed[1] == pytest.approx(math.sqrt(3) * 0.05 * float(RATE), rel=1e-4)
    slow = replace(take, video=replace(take.video, slowdown=4.0))
    (made,) = curves_of(slow, models, ["speed"], [1])
    assert lines(made)["pelvis"][1] == pytest.approx(4 * speed[1])
    assert made.seconds.tolist() == curves["person_01_speed"].seconds.tolist()


def test_knees_bend_by_what_the_pose_says(take, models):  # noqa: F811
    params = take.body[1]
    pose = np.broadcast_to(np.eye(3, dtype=np.float32), params.body_pose.shape).copy()
    pose[:, 3] = [[1, 0, 0], [0, 0.5, -math.sqrt(0.75)], [0, math.sqrt(0.75), 0.5]]  # left knee by 60 degrees about x
    bent = replace(take, body={1: replace(params, body_pose=pose)}, calibrated={})
    (made,) = curves_of(bent, models, ["angles"])
    assert lines(made)["left_knee"][0] == pytest.approx(60, abs=5)
    assert lines(made)["right_knee"][0] == pytest.approx(0, abs=1e-3)
    assert lines(made)["right_elbow"][0] == pytest.approx(0, abs=1e-3)


def test_the_command_writes_plots_and_tables(take, tmp_path):  # noqa: F811
    save_take(take, tmp_path / "take.npz")
    out = tmp_path / "plots"
    result = hmrkit(
        "plot", tmp_path / "take.npz", "-o", out, "--people", 1, "--what", "heights,contact", "--format", "png,svg,csv"
    )
    assert result.returncode == 0, result.stderr
    names = [f"person_01_{kind}.{form}" for kind in ("heights", "contact") for form in ("png", "svg", "csv")]
    assert result.stdout.split("\n")[:-1] == [str(out / name) for name in names]
    assert (out / names[0]).read_bytes()[:4] == b"\x89PNG"
    assert b"<svg" in (out / names[1]).read_bytes()
    with open(out / names[2], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["10", "11", "12", "13", "14", "15"]
    assert float(rows[1]["time_s"]) == pytest.approx(1 / float(RATE), abs=1e-6)
    assert rows[3]["head_m"] == ""
    assert 0.5 < float(rows[0]["head_m"]) - float(rows[0]["pelvis_m"]) < 0.8
    with open(out / names[5], newline="") as file:
        assert {row["left_foot"] for row in csv.DictReader(file)} <= {"0", "1", ""}


def test_what_is_not_there_is_named(take, models, tmp_path):  # noqa: F811
    with pytest.raises(UsageError, match="did you mean angles"):
        curves_of(take, models, ["angels"])
    with pytest.raises(UsageError, match="no person 7"):
        curves_of(take, models, ["angles"], [7])
    assert "png, svg, csv" in hmrkit("plot", tmp_path / "take.npz", "-o", tmp_path, "--format", "pdf").stderr
