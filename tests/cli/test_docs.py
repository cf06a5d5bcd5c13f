"""The pages of `hmrkit docs` and the README: all are listed, links lead somewhere, commands are taken, code runs."""

import re
import sys
from dataclasses import replace

import pytest
import typer
from films import write_film
from in_process import hmrkit
from page_commands import FILES, ROOT, blocks, commands

from hmrkit.cli.app import app
from hmrkit.cli.docs import PAGES, page
from hmrkit.members import Member
from hmrkit.mesh_streams import MESH_STREAMS
from hmrkit.regressors import REGRESSORS

COMMANDS = typer.main.get_command(app)


def test_every_page_is_listed_and_printed():
    assert sorted(ROOT.rglob("*.md")) == sorted(FILES[1:])
    listed = hmrkit("docs").stdout
    for name in PAGES:
        assert re.search(rf"^{name} ", listed, re.M)
    assert hmrkit("docs", "usd").stdout.startswith("# ")
    assert "did you mean methods" in hmrkit("docs", "method").stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_links_lead_somewhere_and_commands_are_taken(path):
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (path.parent / target).exists(), target
    for name in re.findall(r"`hmrkit docs ([a-z]+)`", text):
        assert name in PAGES
    for words in commands(text):
        command = COMMANDS
        while words and words[0] in getattr(command, "commands", {}):
            command, words = command.commands[words[0]], words[1:]
        command.make_context("hmrkit", words)  # a usage error where an option is none


def test_the_worked_example_of_a_new_regressor_runs(tmp_path, monkeypatch):
    code, line = blocks(page("members"), "python")
    (tmp_path / "t_pose.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("t_pose", None)
    ((name, member),) = eval(f"{{{line}}}", {"Member": Member}).items()
    monkeypatch.setitem(REGRESSORS, name, replace(member, module="t_pose"))
    monkeypatch.setitem(MESH_STREAMS, name, replace(MESH_STREAMS["hmr"], summary=member.summary, masks_shape=False))
    film = write_film(tmp_path / "walk.mp4")
    toys = ["--detector", "toy", "--tracker", "toy", "--keypoints", "toy", "--lifter", "toy", "--device", "cpu"]
    done = hmrkit("run", film, *toys, "--method", "pc-hmr", "--mesh", name, "--format", "npz", "--out", tmp_path / "m")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m/walk/person_01.npz").is_file()
