"""The served page: what its controls say is what is drawn, and it is exact."""

import importlib.util
import io
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from films import write_film
from made_pairs import pair  # noqa: F401
from made_takes import make_take

from hmrkit.body.posing import body_meshes
from hmrkit.errors import UsageError
from hmrkit.meshes import mesh_slice
from hmrkit.types import LiftedPose
from hmrkit.viewing.against import make_pair
from hmrkit.viewing.clip import make_clip
from hmrkit.viewing.server import TIMELINE_WIDTH, LivePage, require_viser


@pytest.fixture
def live(models, tmp_path, capsys):
    pytest.importorskip("viser")
    take = make_take(models)
    film = write_film(tmp_path / "film.mp4", frames=20)
    lifted = {2: LiftedPose(np.random.default_rng(1).normal(0, 0.4, (3, 17, 3)).astype(np.float32), "h36m-17")}
    take = replace(take, lifted=lifted, video=replace(take.video, path=str(film), width=128, height=96))
    page = LivePage(make_clip(take, models), models, port=8970)
    assert capsys.readouterr().out == ""
    yield page
    page.stop()


def in_world(clip, vertices_c):
    return vertices_c @ clip.world_from_camera[:3, :3].T + clip.world_from_camera[:3, 3]


def test_controls_say_what_is_drawn(live, models):
    take, clip = live.clip.take, live.clip
    assert live.url.startswith("http://127.0.0.1:")
    assert live.step()
    assert not live.step()
    assert not any(handle.visible for name, handle in live.scene.meshes.items() if "person_2" in name)
    live.frame.value = 7  # frame 17: person 2's second row
    live.posed.value = live.lifted.value = live.footage.value = True
    assert live.step()
    wanted = in_world(clip, mesh_slice(take, 2, np.array([1]), models).vertices_c[0])
    np.testing.assert_allclose(live.scene.meshes["/person_2/final"].vertices, wanted, atol=1e-5)
    wanted = in_world(clip, body_meshes(models.body, take.body[2], np.array([1]))[0][0])
    np.testing.assert_allclose(live.scene.meshes["/person_2/generator"].vertices, wanted, atol=1e-5)
    assert live.scene.meshes["/person_2/generator"].opacity == 0.5
    bones = live.scene.lines["/person_2/lifted"].points
    pelvis = in_world(clip, take.calibrated[2].joints_c[1, 0] + take.lifted[2].joints_c[1, 0])
    np.testing.assert_allclose(bones[0, 0], pelvis, atol=1e-5)
    assert live.scene.frustum.image.shape == (96, 128, 3)
    column = int(7.5 * TIMELINE_WIDTH / 10)
    assert (live.timeline.image[:, column] == 255).all()
    assert not (live.timeline.image[:, column + 1] == 255).all()
    live.paths.value = "whole clip"
    assert live.step()
    path = live.scene.lines["/person_1/paths"].points  # 10, 11, 12 and 14, 15: three steps of five joints
    assert path.shape == (15, 2, 3)
    pelvis = in_world(clip, clip.people[0].posed.places[:, 0])
    np.testing.assert_allclose(path[[0, 10], :], [pelvis[:2], pelvis[3:]], atol=1e-5)
    live.people[0, 2].value = live.footage.value = False
    assert live.step()
    assert not live.scene.meshes["/person_2/final"].visible
    assert not live.scene.lines["/person_2/lifted"].visible
    assert live.scene.frustum.image is None


def test_keys_set_the_controls(live):
    if not live.keys:
        pytest.skip("this viser has no keys")
    live.frame.value = 4
    for key, wanted in (("arrowright", 5), ("arrowleft", 4), ("end", 9), ("arrowright", 9), ("home", 0)):
        live.keys[key](None)
        assert live.frame.value == wanted, key
    live.keys["space"](None)
    live.keys["2"](None)
    live.keys["J"](None)
    assert live.paths.value == "last second"
    assert live.playing.value
    assert (live.people[0, 1].value, live.people[0, 2].value) == (True, False)
    client = SimpleNamespace(camera=SimpleNamespace())
    live.keys["C"](SimpleNamespace(client=client))
    np.testing.assert_array_equal(client.camera.position, live.clip.world_from_camera[:3, 3])
    assert np.tan(client.camera.fov / 2) == pytest.approx(480 / 2 / 710)


def test_time_goes_on_while_it_plays_and_starts_again_at_the_end(live):
    live.frame.value = 9
    live.step()
    live.playing.value = True
    live._clock -= 0.1  # as if a tenth of a second had passed: two or three frames of 29.97 Hz
    assert live.step()
    assert 1 <= live.frame.value <= 4


def test_the_people_that_are_on_are_saved_in_the_chosen_format(live, models):
    saved, notes = [], []
    client = SimpleNamespace(
        send_file_download=lambda *file: saved.append(file), add_notification=lambda *words: notes.append(words)
    )
    for name in ("npz", "ply"):
        live.format.value = name
        live.people[0, 1].value = name == "ply"
        live._asked.append(client)
        live.step()
    (npz, content), (zipped, files) = saved
    assert npz == "person_02.npz"
    assert len(np.load(io.BytesIO(content))["poses"]) == 3
    assert zipped == "film_ply.zip"
    assert len(zipfile.ZipFile(io.BytesIO(files)).namelist()) >= 8  # 5 frames of one person, 3 of the other
    live.people[0, 1].value = live.people[0, 2].value = False
    live._asked.append(client)
    live.step()
    assert len(saved) == 2
    assert "nobody is chosen" in notes[0][1]
    assert not live.export.disabled


def test_without_viser_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'hmrkit\[view\]', or add --html") as message:
        require_viser()
    assert "\n" not in str(message.value)


def test_a_second_take_stands_over_the_first_or_beside_it(pair, models):  # noqa: F811
    pytest.importorskip("viser")
    clip, against = make_pair(pair, (models, models), ("a.npz", "b <i>.npz"), space="camera")
    page = LivePage(clip, models, port=8975, against=against)
    page.frame.value = 7
    page.step()
    first, second = page.scene.meshes["/person_2/final"], page.scene.meshes["/against/person_3/final"]
    # 50 mm farther from the camera, which is along -z in this world
    assert np.median(second.vertices - first.vertices, axis=0) == pytest.approx([0, 0, -0.05], abs=2e-3)
    assert first.color != second.color
    assert page.scene.second.position[0] == 0
    page.beside.value = True
    page.step()
    assert page.scene.second.position[0] > 1.5
    assert page.people[0, 2] is page.people[1, 3]
    page.people[1, 3].value = False
    page.step()
    assert not first.visible
    assert not second.visible
    page.stop()
