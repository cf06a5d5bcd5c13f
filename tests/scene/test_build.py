"""From a take to a scene: exact meshes, one similarity for everything, the camera sees what it saw."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from hmrkit.camera import project
from hmrkit.errors import UsageError
from hmrkit.exporters.writing import export_take
from hmrkit.meshes import mesh_slice
from hmrkit.scene import ExportOptions, ground
from hmrkit.scene.build import build_scene, check_options, parse_numbers, parse_people, parse_rate, read_timecode
from hmrkit.scene.vertex_cache import shared_vertices


def test_exact_vertices_are_the_takes_meshes(take, models):
    """Seen rows are the very meshes; the skinned skeleton is as near as the refit's residual and the pose blend."""
    scene = build_scene(take, models)
    for character in scene.characters:
        seen = np.flatnonzero(character.visible)
        meshes = mesh_slice(take, character.track_id, slice(None), models)
        np.testing.assert_allclose(character.vertices(seen) * [1, -1, -1], meshes.vertices_c, atol=1e-5)
        np.testing.assert_allclose(character.joints[seen] * [1, -1, -1], meshes.joints_c, atol=1e-5)
        gap_mm = 1000 * np.linalg.norm(character.skinned(seen) - character.vertices(seen), axis=-1).mean(-1)
        calibrated = take.calibrated.get(character.track_id)
        assert (gap_mm < 5 + (0 if calibrated is None else calibrated.refit_residual_mm)).all()


def test_pose_shapes_make_skinning_exact_where_nothing_is_calibrated(take, models):
    for up in ("y", "z"):
        character = build_scene(take, models, ExportOptions(people=(1,), up=up, unit="cm")).characters[0]
        shapes, weights = character.pose_shapes()
        assert shapes.shape == (207, len(character.rest_vertices), 3)
        for row in (0, 4):
            rest = character.rest_vertices + np.tensordot(weights[row], shapes, 1)
            posed = replace(character, rest_vertices=rest).skinned(slice(row, row + 1))
            np.testing.assert_allclose(posed, character.vertices(slice(row, row + 1)), atol=5e-3)


@pytest.mark.parametrize("moves", [True, False])
def test_one_moving_camera_gives_one_warning(take, models, monkeypatch, caplog, moves):
    stands = np.array([[0.0, 0, 4], [1, 0.5, 4], [0, -0.5, 5], [1, 1, 5]])  # not on one plane
    monkeypatch.setattr(ground, "_stands", lambda *_: (stands, np.zeros((0, 2), int)))
    monkeypatch.setattr(ground, "DOUBTFUL_M", 0.0)
    along = np.stack([np.linspace(0, 100 * moves, 10), np.zeros(10)], 1).astype(np.float32)
    build_scene(replace(take, video=replace(take.video, background_px=along)), models, ExportOptions(space="world"))
    (record,) = caplog.records
    assert ("the camera moves" if moves else "does the camera move?") in record.getMessage()


@pytest.mark.parametrize("space", ["camera", "world"])
def test_axes_units_and_scale_are_one_similarity(take, models, space):
    plain = build_scene(take, models, ExportOptions(space=space))
    other = build_scene(take, models, ExportOptions(space=space, up="z", unit="cm", scale=0.5))

    def rotated(points):
        return points[..., [0, 2, 1]] * [50, -50, 50]  # x, -z, y

    for a, b in zip(plain.characters, other.characters, strict=True):
        for name in ("rest_vertices", "rest_joints", "root_positions", "joints"):
            np.testing.assert_allclose(getattr(b, name), rotated(getattr(a, name)), atol=2e-4)
        np.testing.assert_allclose(b.vertices(), rotated(a.vertices()), atol=1e-3)
        np.testing.assert_allclose(b.skinned(), rotated(a.skinned()), atol=1e-3)
    places = [scene.camera.scene_from_camera[:3, 3] for scene in (plain, other)]
    np.testing.assert_allclose(places[1], rotated(places[0]), atol=1e-9)
    height = 1 if space == "world" else 0
    assert (places[0][1] > 0.1) == bool(height)


@pytest.mark.parametrize("options", [{}, {"space": "world", "up": "z", "unit": "cm"}, {"scale": 3.0}])
def test_the_scenes_camera_sees_every_vertex_at_its_pixel(take, models, options):
    scene = build_scene(take, models, ExportOptions(**options))
    from_camera = scene.camera.scene_from_camera
    for character in scene.characters:
        seen = np.flatnonzero(character.visible)
        wanted = project(take.camera, mesh_slice(take, character.track_id, slice(None), models).vertices_c)
        local = (character.vertices(seen) - from_camera[:3, 3]) @ from_camera[:3, :3]  # looks along -z, y up
        pixels = local[..., :2] / -local[..., 2:] * scene.camera.focal_px * [1, -1] + scene.camera.center_px
        np.testing.assert_allclose(pixels, wanted, atol=0.02)


def test_cleaning_moves_exact_meshes_with_the_skeleton(take, models):
    plain = build_scene(take, models).characters[1]
    flat = build_scene(take, models, ExportOptions(fingers="rest")).characters[1]
    moved = np.linalg.norm(flat.vertices() - plain.vertices(), axis=-1).max(0)
    hands = plain.skin_weights[:, 22:].sum(1)
    assert moved[hands > 0.5].max() > 1e-3
    assert np.median(moved[hands == 0]) < 1e-5
    assert np.allclose(flat.local_rotations[:, 22:], np.eye(3))


def test_a_moving_skeleton_carries_the_exact_mesh_along(take, models):
    """Locked feet shift the root: joints, skin and exact mesh go along together."""
    options = ExportOptions(lock_feet=True, smooth=1.0)
    before, after = build_scene(take, models).characters[0], build_scene(take, models, options).characters[0]
    skin, exact = (getattr(after, n)() - getattr(before, n)() for n in ("skinned", "vertices"))
    assert np.linalg.norm(skin, axis=-1).max() > 1e-3
    np.testing.assert_allclose(exact, skin, atol=3e-3)


def test_what_was_done_is_in_the_metadata_as_json(take, models):
    options = ExportOptions(fps=Fraction(24000, 1001), smooth=0.5, space="world", first_frame=1001)
    scene = build_scene(take, models, options)
    assert build_scene(take, models, replace(options, fps=23.976)).fps == scene.fps
    facts = json.loads(json.dumps(scene.metadata))
    assert facts["fps"] == "24000/1001"
    assert facts["resampled"]
    assert facts["cleaning"]["person_01"]["smooth"] == 0.5
    assert facts["world"]["source"] == "estimated"
    assert facts["options"]["first_frame"] == 1001
    assert facts["stages"] == {"regress": {"mesh": "fit"}}
    assert scene.name == "some_clip"


def test_many_formats_compute_vertices_once(take, models, tmp_path):
    scene = build_scene(take, models)
    calls = []

    def counted(character):
        return replace(character, exact_vertices=lambda rows: calls.append(rows) or character.vertices(rows))

    watched = replace(scene, characters=tuple(counted(c) for c in scene.characters))
    with shared_vertices(watched, tmp_path / "out") as shared:
        for _ in range(2):
            for shared_one, one in zip(shared.characters, scene.characters, strict=True):
                np.testing.assert_array_equal(shared_one.vertices(slice(0, 3)), one.vertices(slice(0, 3)))
        assert len(calls) == 2
        np.testing.assert_array_equal(
            shared.characters[0].vertices(np.array([2, 5])), scene.characters[0].vertices(np.array([2, 5]))
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_people_and_options_that_are_not_there_are_one_line(take, models, tmp_path):
    assert [c.name for c in build_scene(take, models, ExportOptions(people=(2,))).characters] == ["person_02"]
    with pytest.raises(UsageError, match="no person 7 with a mesh; the take has 1, 2"):
        export_take(take, tmp_path, ["npz"], models, lambda *_: None, ExportOptions(people=(7,)))
    for wrong in ({"up": "x"}, {"unit": "ft"}, {"gaps": "no"}, {"skeleton": "rig"}, {"scale": 0.0}, {"smooth": -1.0},
                  {"fps": Fraction(0)}, {"ground": (0.0,) * 6}, {"keyframe_reduce": -1.0}):  # fmt: skip
        with pytest.raises(UsageError, match="--"):
            check_options(ExportOptions(**wrong))


def test_rates_numbers_and_people_are_read(tmp_path):
    assert [parse_rate(t) for t in ("24", "23.976", "29.97", "30000/1001", "12.5", None)] == [
        24, Fraction(24000, 1001), Fraction(30000, 1001), Fraction(30000, 1001), Fraction(25, 2), None,
    ]  # fmt: skip
    (tmp_path / "pose.txt").write_text("1 0 0 0\n0 1 0 1.5e0\n0 0 1 0\n")
    assert parse_numbers(str(tmp_path / "pose.txt"), "--camera-pose") == (1, 0, 0, 0, 0, 1, 0, 1.5, 0, 0, 1, 0)
    assert parse_numbers("1,-2e-1, 3", "--ground") == (1, -0.2, 3)
    assert (parse_people("all"), parse_people("1, 3")) == (None, (1, 3))
    for read, text in ((parse_rate, "fast"), (parse_people, "1,x")):
        with pytest.raises(UsageError):
            read(text)
    with pytest.raises(UsageError, match="--ground wants numbers"):
        parse_numbers("nowhere.txt", "--ground")


def test_timecode_is_read_where_the_clip_has_one(tmp_path):
    import av

    for name, code in (("with.mov", "01:02:03:04"), ("without.mp4", None)):
        with av.open(str(tmp_path / name), "w") as container:
            if code:
                container.metadata["timecode"] = code
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
            container.mux(stream.encode())
        assert read_timecode(str(tmp_path / name)) == code
    (tmp_path / "frames").mkdir()
    assert read_timecode(str(tmp_path / "frames")) is None


def test_the_command_takes_every_option(take, tmp_path):
    from typer.testing import CliRunner

    from hmrkit.cli.app import app
    from hmrkit.take import save_take

    save_take(take, tmp_path / "take.npz")
    options = (
        "--space world --up z --units cm --scale 2 --fps 23.976 --first-frame 1001 --skeleton unreal --people 1,2 "
    )
    options += (
        "--per-person --no-camera --film-back 24 --gaps split --smooth 1 --lock-feet --fingers rest --device cpu "
    )
    arguments = ["export", str(tmp_path / "take.npz"), "--format", "csv,npz,json", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*arguments, *options.split()], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    made = [str(tmp_path / "out" / f"person_0{p}.{e}") for e in ("csv", "npz") for p in ("1_part_01", "1_part_02", 2)]
    assert result.stdout.split("\n")[:-1] == [*made, str(tmp_path / "out" / "joints.json")]
    facts = json.loads((tmp_path / "out" / "joints.json").read_text())
    assert (facts["up"], facts["unit"], facts["space"], facts["fps"]) == ("z", "cm", "world", [24000, 1001])
    assert facts["people"][0]["joint_names"][0] == "pelvis"
    assert facts["metadata"]["cleaning"]["person_02"]["fingers"] == "rest"
    with pytest.raises(UsageError, match="--fps wants a rate"):
        CliRunner().invoke(app, [*arguments, "--fps", "fast"], catch_exceptions=False)
