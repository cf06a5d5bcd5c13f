"""People who jump fall as fast as they do, and a wrong size, clock or focal length is named."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from synthetic_person import BODY, CAMERA, make_motion_of, make_person
from typer.testing import CliRunner

from hmrkit.body.posing import take_rows
from hmrkit.cli.app import app
from hmrkit.errors import UsageError
from hmrkit.scene.flights import Flight, centre_of_mass, find_flights, parabola, verdict
from hmrkit.scene.ground import estimate_world
from hmrkit.take import save_take
from hmrkit.types import Take, Track, VideoInfo

FPS, PITCH = 30.0, 0.15  # of the camera, as `make_person` tilts it
UP = np.array([0, -np.cos(PITCH), -np.sin(PITCH)])


@pytest.fixture(scope="module")
def jumper():
    """Somebody who stands for a second, rises at 2.5 m/s with forward speed, lands on a box and stands there."""
    still = make_motion_of(make_person(0, slice(10, 11)))
    count = 80
    time = np.arange(count) / FPS
    height = np.maximum(2.5 * (time - 1) - 9.81 / 2 * (time - 1) ** 2, 0.0) * (time > 1)
    height[np.argmax(height) :] = np.maximum(height[np.argmax(height) :], 0.2)
    params = take_rows(still.params, np.zeros(count, int))
    transl = params.transl_c + height[:, None] * UP + np.clip(time - 1, 0, 0.4)[:, None] * [1.0, 0, 0]
    params = replace(params, transl_c=transl.astype(np.float32))
    joints = np.repeat(still.joints_c, count, 0)
    numbers = np.arange(count)
    seen = np.ones(count, bool)
    return replace(
        still, frames=numbers, rows=numbers * 1.0, visible=seen, base=params, params=params, cleaned=params,
        joints_c=joints,
    )  # fmt: skip


def test_a_jump_shows_gravity_and_standing_on_a_box_is_no_flight(jumper):
    world = estimate_world([jumper], BODY, FPS)
    (flight,) = find_flights([jumper], BODY, FPS, world)
    assert 30 <= flight.begin < flight.end <= 43
    assert flight.gravity == pytest.approx(9.81, rel=0.05)
    assert flight.residual_m < 0.01
    assert verdict([flight]) == "size, focal length and clock agree with gravity"


def test_slow_motion_is_the_clocks_error(jumper):
    world = estimate_world([jumper], BODY, FPS)
    flights = find_flights([jumper], BODY, FPS / 2, world)  # filmed at 30 frames a second, shown at 15
    assert flights[0].gravity == pytest.approx(9.81 / 4, rel=0.05)
    assert "the clip lasts 2.0" in verdict(flights)


def test_what_is_off_is_named():
    def flight(person, gravity, in_depth=0.0):
        return Flight(person, 0, 20, gravity * 9.81, 0.0, in_depth, 0.01)

    assert verdict([]).startswith("nobody is seen in the air")
    assert verdict([flight("a", 1.15)]).startswith("size is off")
    assert verdict([flight("a", 1.15)]).endswith("a 1.15")
    assert verdict([flight("a", 1.12), flight("b", 1.13)]).startswith("size or clock is off: all 2")
    assert verdict([flight("a", 1.3), flight("b", 0.9)]).startswith("size is off")
    assert verdict([flight("a", 1.0, 4.0)]).startswith("focal length or ground is off")


def test_a_parabola_is_found_exactly_and_mass_lies_in_the_body(jumper):
    time = np.arange(9) / 25
    wanted = np.array([0.3, 9.0, -1.0])
    found, residual = parabola(1 + 2 * time[:, None] + wanted * time[:, None] ** 2 / 2, time)
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert residual < 1e-12
    joints = jumper.joints_c[:1]
    middle = centre_of_mass(joints)
    np.testing.assert_allclose(centre_of_mass(joints + 1), middle + 1, atol=1e-6)
    assert np.linalg.norm(middle - joints[:, 0]) < 0.25  # near the pelvis


def test_info_prints_the_gravity_of_a_take(jumper, tmp_path):
    rows, path = np.arange(80), tmp_path / "take.npz"
    video = VideoInfo("jump.mp4", "00", 1280, 720, Fraction(30), 80, rows, rows / FPS)
    track = Track(1, rows, np.zeros((80, 4), np.float32), np.ones(80, np.float32), rows < 0)
    take = Take(
        video, CAMERA, tracks=(track,), body={1: jumper.params}, faces=BODY.faces,
        provenance={"regress": {"options": {"mesh": "fit"}}},
    )  # fmt: skip
    save_take(take, path)
    runner = CliRunner()
    lines = runner.invoke(app, ["info", str(path), "--physics"]).stdout.splitlines()
    assert lines[0].startswith("person_01  frames 3")
    assert lines[1:] == ["size, focal length and clock agree with gravity"]
    facts = json.loads(runner.invoke(app, ["info", str(path), "--physics", "--json"]).stdout)
    assert facts["flights"][0]["gravity"] == pytest.approx(9.81, rel=0.05)
    assert isinstance(runner.invoke(app, ["info", "clip.mp4", "--physics"]).exception, UsageError)
