"""The page holds what the meshes are made of: read back and skinned as its shader does it, they are the take's own."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from films import write_film
from made_takes import make_take
from viewer_page import as_the_shader_does_it, read_block, read_page

from hmrkit.body.posing import body_meshes
from hmrkit.geometry import axis_angle_to_matrix, quaternion_to_matrix
from hmrkit.meshes import mesh_slice
from hmrkit.types import LiftedPose, Zoom
from hmrkit.video import probe
from hmrkit.viewing.clip import make_clip
from hmrkit.viewing.page import Block, quantised_rotations, write_page


@pytest.fixture(scope="module")
def take(models):
    take = make_take(models)
    random = np.random.default_rng(1)
    lifted = {2: LiftedPose(random.normal(0, 0.4, (3, 17, 3)).astype(np.float32), "h36m-17")}
    return replace(take, lifted=lifted)


@pytest.fixture(scope="module")
def page(take, models, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "clip.html"
    return write_page(make_clip(take, models), path, models)


def test_meshes_of_the_page_are_the_takes_to_a_tenth_of_a_millimetre(page, take, models):
    data = read_page(page)
    first, second = data["people"]
    for person, track_id in ((first, 1), (second, 2)):
        wanted = body_meshes(models.body, take.body[track_id])[0]
        assert np.abs(as_the_shader_does_it(data, person, False) - wanted).max() < 1e-4
    wanted = mesh_slice(take, 2, slice(None), models).vertices_c
    assert np.abs(as_the_shader_does_it(data, second, True) - wanted).max() < 1e-4
    np.testing.assert_array_equal(data["bodies"][0]["faces"], models.body.faces)


def test_the_page_knows_the_clock_the_camera_and_the_lifted_pose(page, take):
    data = read_page(page)
    assert data["title"] == "some clip.mp4"
    assert data["frames"].tolist() == list(range(10, 20))
    assert data["fps"] == pytest.approx(30000 / 1001)
    assert data["takes"][0]["camera"] == {"focal": [700, 710], "center": [330, 236], "size": [640, 480]}
    assert [person["rows"].tolist() for person in data["people"]][1] == [-1] * 6 + [0, 1, 2, -1]
    np.testing.assert_allclose(data["people"][1]["lifted"]["places"], take.lifted[2].joints_c, atol=1e-4)
    assert "lifted" not in data["people"][0]
    assert "pictures" not in data


def test_the_page_knows_how_the_lens_zooms(take, models, tmp_path):
    frames = take.video.frame_indices
    zooming = replace(take, camera=replace(take.camera, zoom=Zoom(frames, frames / 10)))
    data = read_page(write_page(make_clip(zooming, models), tmp_path / "zoom.html", models))
    assert data["takes"][0]["camera"]["zoom"] == pytest.approx(data["frames"] / 10)


def test_the_page_needs_nothing_from_outside(page):
    text = page.read_text()
    assert not re.search(r"https?://|//cdn|\bimport\s|\bsrc=|\bhref=|\bfetch\(", text)
    assert "{{" not in text
    assert page.stat().st_size < 1.5e6


def test_a_title_cannot_break_the_page(take, models, tmp_path):
    odd = replace(take, video=replace(take.video, path="<script>{{data}}.mp4"))
    text = write_page(make_clip(odd, models), tmp_path / "odd.html", models).read_text()
    assert "<title>&lt;script&gt;{{data}}.mp4" in text
    assert read_page(tmp_path / "odd.html")["title"] == "<script>{{data}}.mp4"


def test_equal_takes_give_equal_bytes(page, take, models, tmp_path):
    assert write_page(make_clip(take, models), tmp_path / "again.html", models).read_bytes() == page.read_bytes()


def test_quaternions_never_jump_and_integers_wrap_back():
    time = torch.linspace(0, 20, 400, dtype=torch.float64)[:, None, None]
    rotations = axis_angle_to_matrix(time * torch.tensor([0.2, 1.0, -0.3], dtype=torch.float64)).numpy()
    stored = quantised_rotations(rotations)
    assert np.abs(np.diff(stored.astype(int), axis=0)).max() < 2000
    block = Block()
    entry = block.add(stored, 1 / 32767, difference=True)
    wide = np.array([[-32767], [32767], [-5]], np.int16)
    data = read_block(block.packed({"turns": entry, "wide": block.add(wide, difference=True)}))
    np.testing.assert_array_equal(data["wide"], wide)
    back = quaternion_to_matrix(torch.from_numpy(data["turns"])).numpy()
    assert np.abs(back - rotations).max() < 1e-4


def test_footage_comes_along_image_by_image(take, models, tmp_path):
    import io

    from PIL import Image

    video = probe(write_film(tmp_path / "walk.mp4"))
    empty = replace(take, video=video, tracks=(), body={}, calibrated={}, lifted={})
    data = read_page(write_page(make_clip(empty, models), tmp_path / "film.html", models, image_width=64))
    ends, joined = data["pictures"]["ends"], data["pictures"]["bytes"].tobytes()
    assert len(ends) == 12
    middles = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        image = np.asarray(Image.open(io.BytesIO(joined[start:end])).convert("L"), float)
        assert image.shape == (48, 64)
        middles.append((image * np.arange(64)).sum() / image.sum())
    assert np.all(np.diff(middles) > 0)  # the figure walks to the right


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_program_parses(page, tmp_path):
    (tmp_path / "page.js").write_text(re.search(r"<script>(.*)</script>", page.read_text(), re.S)[1])
    subprocess.run(["node", "--check", tmp_path / "page.js"], check=True)


def test_the_program_finds_every_control(page):
    """Ids that the program asks for are in the page, and no button, box or list of the page is left without one."""
    body, script = page.read_text().split("<script>")
    asked = set(re.findall(r'\$\("([\w-]+)"\)', script))
    assert asked <= set(re.findall(r'\bid="([\w-]+)"', body))
    controls = re.findall(r"<(?:button|input|select)\b[^>]*>", body)
    assert len(controls) > 8
    for control in controls:
        assert f'"{re.search(r"id=.([a-z-]+)", control)[1]}"' in script


def test_the_timeline_has_confidence_and_standing_feet(page, take):
    first, second = read_page(page)["people"]
    for person, track_id in ((first, 1), (second, 2)):
        wanted = take.keypoints[track_id].keypoints_2d[..., 2].mean(1)
        np.testing.assert_allclose(person["confidence"], wanted, atol=1e-6)
        assert person["contact"].shape == (len(wanted), 2)
