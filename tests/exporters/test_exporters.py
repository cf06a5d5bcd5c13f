"""The family's table and its choices; what holds for every format."""

from dataclasses import replace

import pytest

from hmrkit.errors import InputError, UsageError
from hmrkit.exporters import EXPORTERS, check_formats, load_exporter


def loaded(name):
    """The exporter, where what it needs is installed."""
    try:
        return load_exporter(name)
    except UsageError as error:
        pytest.skip(str(error))


def test_formats_are_read_from_the_command_line_and_from_sequences():
    assert check_formats("npz,obj") == check_formats(["npz", "OBJ", "npz"]) == ["npz", "obj"]
    assert check_formats(" obj , ") == ["obj"]
    with pytest.raises(UsageError, match=r"unknown export format 'gif'; choose one of .*npz.*obj"):
        check_formats("npz,gif")


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_scene_without_people_makes_nothing(name, scene_of, tmp_path):
    scene, options = scene_of()
    assert loaded(name).write(replace(scene, characters=()), tmp_path / "out", options) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", EXPORTERS)
def test_what_is_said_to_be_made_is_there_and_nothing_else(name, scene_of, tmp_path):
    scene, options = scene_of()
    made = loaded(name).write(scene, tmp_path, options)
    assert made
    assert sorted(made) == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("name", EXPORTERS)
def test_an_unwritable_folder_is_one_line(name, scene_of, tmp_path):
    scene, options = scene_of()
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="cannot write it") as error:
        loaded(name).write(scene, tmp_path / "out", options)
    assert "\n" not in str(error.value)
