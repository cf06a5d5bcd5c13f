"""Every command's help ends in an example, and every example is one that the command takes."""

import shlex

import pytest
import typer
from in_process import hmrkit

from hmrkit.cli.app import app
from hmrkit.cli.examples import EXAMPLES

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
GROUPS = {"report", "rig", "submit", "train", "weights"}


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - GROUPS))
def test_help_ends_in_an_example_that_parses(name):
    words = shlex.split(EXAMPLES[name])
    assert words[:2] == ["hmrkit", name]
    command = COMMANDS[name]
    command.make_context(name, words[2:])  # a usage error where an option is none
    assert command.get_help(typer.Context(command)).rstrip().endswith(f"Example:\n    {EXAMPLES[name]}")


def test_run_without_input_shows_the_shortest_example():
    result = hmrkit("run")
    assert result.returncode == 2
    assert "for example: hmrkit run clip.mp4 --out meshes/" in result.stderr


def test_help_has_its_options_by_stage():
    text = hmrkit("run", "--help").stdout
    titles = ["Arguments:", "Options:", "Clip and detection:", "Tracking:", "Keypoints:", "Meshes:", "Lifted pose:"]
    places = [text.index(f"\n{title}\n") for title in [*titles, "Calibration:", "Running:"]]
    assert places == sorted(places)
    assert places[5] < text.index("  --checkpoint") < places[6] < text.index("  --lifter-checkpoint") < places[7]


def test_a_shell_completes_members():
    (lifter,) = (p for p in COMMANDS["lift"].params if p.name == "lifter")
    found = lifter.shell_complete(typer.Context(COMMANDS["lift"]), "sem")
    assert [item.value for item in found] == ["semgcn"]


def test_the_list_of_commands_cuts_no_help_off():
    _, *lines = hmrkit("--help").stdout.splitlines()
    assert not [line for line in lines if line.endswith("...")]
    assert "  hmrkit run clip.mp4 --out meshes/ --render overlay.mp4" in (line[2:] for line in lines)


def test_extras_stand_in_lists_with_their_brackets():
    assert "hmrkit[yolo]" in hmrkit("list", "detectors").stdout
