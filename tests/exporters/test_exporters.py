"""The family's table and its choices; what holds for every format."""

from dataclasses import replace

import numpy as np
import pytest

from hmrkit.errors import InputError, UsageError
from hmrkit.exporters import EXPORTERS, check_format_options, check_formats, load_exporter
from hmrkit.exporters.character_arrays import scale_keys
from hmrkit.scene import ExportOptions, SceneCamera


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


def test_options_that_a_format_has_no_use_for(caplog):
    with pytest.raises(UsageError, match=r"--pose-shapes is for fbx,glb, got --format usd,npz"):
        check_format_options(["usd", "npz"], ExportOptions(pose_shapes=True))
    with pytest.raises(UsageError, match="--bvh-start is for bvh"):
        check_format_options(["fbx"], ExportOptions(bvh_start="person"))
    check_format_options(["fbx", "usd"], ExportOptions(keyframe_reduce=0.0))
    assert caplog.messages == ["--keyframe-reduce changes nothing in usd"]
    check_format_options(["glb", "obj"], ExportOptions(exact=True, up="z"))
    assert len(caplog.messages) == 1
    check_format_options(["abc"], ExportOptions(up="z"))
    assert "use --up y for abc" in caplog.messages[1]


def test_all_people_of_a_clip_share_its_frames(scene_of):
    """A person who enters late and one who leaves early are hidden, not absent, in the rest of the clip."""
    scene, _ = scene_of(first_frame=1001, per_person=True)
    assert {part.frame_range for part in scene.parts(True)} == {(1011, 1020)}
    frames, sizes = scale_keys(scene.characters[0], scene.frame_range)  # frames 10, 11, 12, 14, 15 of the clip
    assert frames.tolist() == [1011, 1013, 1014, 1015, 1016, 1017]
    assert np.round(sizes).tolist() == [1, 1, 0, 1, 1, 0]
    frames, sizes = scale_keys(scene.characters[1], scene.frame_range)  # frames 16, 17, 18
    assert (frames.tolist(), np.round(sizes).tolist()) == ([1011, 1016, 1017, 1019, 1020], [0, 0, 1, 1, 0])


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (720, 1280)])
def test_an_importer_that_lays_the_film_along_the_longer_side_sees_a_point_where_the_plate_has_it(width, height):
    """Blender's rule for FBX and Alembic: film width, and shifts by it, are of the image's longer side."""
    center, point = np.array([width / 2 + 10, height / 2 - 20]), np.array([0.4, -0.3, 2.0])
    camera = SceneCamera(np.eye(4), np.array([1000.0, 1000.0]), center, width, height)
    film, focal = camera.film_gate_mm[0], camera.focal_mm
    shift_x, shift_y = (offset / film for offset in camera.film_offset_mm)
    longer = max(width, height)
    seen_x = width / 2 + longer * (point[0] / point[2] * focal / film - shift_x)
    seen_y = height / 2 + longer * (point[1] / point[2] * focal / film + shift_y)
    np.testing.assert_allclose([seen_x, seen_y], center + 1000 * point[:2] / point[2])
