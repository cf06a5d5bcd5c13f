"""The page in a browser: bodies, every control, no errors. Skips where Chromium or playwright is missing, as in CI:

apt-get install chromium; .venv/bin/pip install playwright; .venv/bin/pytest -n 0 tests/viewing/test_browser.py
"""

import base64
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA
from made_pairs import pair  # noqa: F401
from made_takes import make_take
from PIL import Image

from hmrkit.meshes import mesh_slice
from hmrkit.types import LiftedPose
from hmrkit.viewing.against import make_pair
from hmrkit.viewing.clip import make_clip
from hmrkit.viewing.page import write_page

GOLDEN = DATA / "viewer_golden.png"  # delete it to have it made anew, and look at it
OPTIONS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


@pytest.fixture(scope="module")
def take(models):
    lifted = np.random.default_rng(1).normal(0, 0.4, (3, 17, 3)).astype(np.float32)
    return replace(make_take(models), lifted={2: LiftedPose(lifted, "h36m-17")})


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    found = [shutil.which(name) for name in ("chromium", "chromium-headless-shell", "google-chrome")]
    if not any(found):
        pytest.skip("no Chromium")
    with playwright.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=next(filter(None, found)), args=OPTIONS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def sheet(browser, take, models, tmp_path_factory):
    """The page of the take; whatever the browser complains of while the module runs fails its last test."""
    path = tmp_path_factory.mktemp("page") / "clip.html"
    return opened(browser, write_page(make_clip(take, models), path, models))


def opened(browser, path):
    sheet = browser.new_page(viewport={"width": 600, "height": 400})
    sheet.complaints = []
    sheet.on("pageerror", lambda error: sheet.complaints.append(str(error)))
    sheet.on("console", lambda message: sheet.complaints.append(message.text) if message.type == "error" else None)
    sheet.goto(path.as_uri())
    sheet.wait_for_function("globalThis.viewer", timeout=30000)
    return sheet


def shown(sheet):
    """The scene as a PNG in a URL, once what was clicked is drawn."""
    return sheet.evaluate("() => { viewer.draw(); return viewer.painter.canvas.toDataURL(); }")


def test_a_browser_skins_as_numpy_does(sheet, take, models):
    ask = "([k, row, goal]) => Array.from(viewer.painter.vertices(viewer.data.people[k], row, goal))"
    uncalibrated = replace(take, calibrated={})
    for k, row, goal in ((0, 4, False), (1, 1, False), (1, 1, True)):
        found = np.array(sheet.evaluate(ask, [k, row, goal])).reshape(-1, 3)
        wanted = mesh_slice(take if goal else uncalibrated, k + 1, np.array([row]), models).vertices_c[0]
        assert np.abs(found - wanted).max() < 1e-4


def test_the_scene_is_the_one_that_somebody_approved(sheet):
    """Mean and large differences from a stored image, in grey levels; another driver's edges differ a little."""
    sheet.evaluate("viewer.go(7)")
    image = Image.open(io.BytesIO(base64.b64decode(shown(sheet).partition(",")[2]))).convert("RGB")
    image = image.resize((320, 320 * image.height // image.width), Image.Resampling.BOX)
    if not GOLDEN.exists():
        image.save(GOLDEN, optimize=True)
        pytest.fail(f"made {GOLDEN}: look at it, and keep it if it is right")
    apart = np.abs(np.asarray(image, int) - np.asarray(Image.open(GOLDEN), int)).max(-1)
    assert apart.mean() < 1.5
    assert (apart > 40).mean() < 0.005


def test_each_control_changes_what_is_shown(sheet):
    sheet.evaluate("viewer.go(7)")
    for control in ("#posed", "#goal", "#lifted", "#through", "#reset", "#ground", "#people input >> nth=1"):
        before = shown(sheet)
        sheet.click(control)
        assert shown(sheet) != before, control
    sheet.click("#people button >> nth=1")
    assert sheet.evaluate("viewer.follow === viewer.data.people[1]")


def test_the_timeline_seeks_and_explains(sheet):
    line = sheet.locator("#line")
    width = line.bounding_box()["width"]
    line.click(position={"x": 0.15 * width, "y": 5})
    assert sheet.evaluate("viewer.frame") == 1
    assert sheet.get_attribute("#line", "title").startswith("frame 11\nperson 1\nconfidence 0.")
    light = """(i) => { const pen = viewer.timeline.canvas.getContext("2d");
      return pen.getImageData(i, 3, 1, 1).data.slice(0, 3).reduce((a, b) => a + b); }"""
    sheet.evaluate("viewer.go(9); viewer.data.people[0].confidence.values.set([1, 0]); viewer.timeline.state = ''")
    sheet.evaluate("viewer.draw()")
    sure, unsure = (sheet.evaluate(light, int(x * width)) for x in (0.05, 0.15))
    assert sure > unsure > 3 * 32


def test_paths_of_joints_are_drawn_through_gaps_and_no_farther(sheet):
    sheet.evaluate("viewer.go(9)")
    known = "viewer.paths.of(viewer.data.people[0], viewer.data.people[0].posed).run"
    assert list(sheet.evaluate(f"Array.from({known})")) == [1, 1, 1, -1, 2, 2, -1, -1, -1, -1]
    images = [shown(sheet)]
    for kind in ("clip", "second", ""):
        sheet.select_option("#paths", kind)
        images.append(shown(sheet))
    assert images[0] == images[3]
    assert images[0] != images[1]
    sheet.keyboard.press("j")
    assert sheet.input_value("#paths") == "second"
    assert shown(sheet) == images[2]
    sheet.select_option("#paths", "")


def test_keys_do_what_the_help_says(sheet):
    sheet.click("#ask")
    assert sheet.is_visible("#help")
    text = sheet.inner_text("#keys")
    for word in ("space", "Home End", "1 … 9", "C\t", "?\t"):
        assert word in text
    sheet.keyboard.press("ArrowLeft")  # what is behind the help keeps still
    sheet.click("#close")
    frame = "viewer.frame"
    sheet.keyboard.press("Home")
    for key, wanted in (("ArrowRight", 1), ("Shift+ArrowRight", 9), ("ArrowLeft", 8), ("End", 9), ("Home", 0)):
        sheet.keyboard.press(key)
        assert sheet.evaluate(frame) == wanted, key
    for key, state in (
        ("c", "viewer.through"),
        (" ", "viewer.playing"),
        ("2", "viewer.data.people[1].shown"),
        ("?", "document.getElementById('help').open"),
    ):
        for _ in range(2):
            before = sheet.evaluate(state)
            sheet.keyboard.press(key)
            assert sheet.evaluate(state) is not before, key
    sheet.keyboard.press("9")  # nobody


def test_joints_are_saved_as_json(sheet, take):
    sheet.check("#people input >> nth=1")
    with sheet.expect_download() as waiting:
        sheet.click("#save")
    assert waiting.value.suggested_filename == "some clip_joints.json"
    saved = json.loads(Path(waiting.value.path()).read_text())
    person = saved["people"][1]
    assert (person["id"], person["frames"], saved["jointNames"][0]) == (2, [16, 17, 18], "pelvis")
    matrix = np.array(sheet.evaluate("viewer.data.worldFromCamera")).reshape(4, 4)
    wanted = take.calibrated[2].joints_c @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(person["joints"], wanted, atol=2e-4)


def test_nothing_went_wrong(sheet):
    assert sheet.complaints == []
    assert sheet.evaluate("viewer.painter.gl.getError()") == 0


def test_two_takes_over_each_other_and_side_by_side(browser, pair, models, tmp_path):  # noqa: F811
    first, against = make_pair(pair, (models, models), ("a.npz", "b.npz"))
    sheet = opened(browser, write_page(first, tmp_path / "both.html", models, against=against))
    assert sheet.inner_text("#takes").split() == ["a.npz", "b.npz"]
    assert "person 2 / 3: 1 mm apart" in sheet.inner_text("#people")
    sheet.evaluate("viewer.go(7)")
    over = shown(sheet)
    sheet.select_option("#arrange", "beside")
    beside = shown(sheet)
    sheet.click("#takes input >> nth=1")
    assert len({over, beside, shown(sheet)}) == 3
    assert sheet.evaluate("viewer.data.people.map((p) => p.shown)") == [True, False, True, False]
    sheet.click("#takes input >> nth=1")
    sheet.keyboard.press("2")
    assert sheet.evaluate("viewer.data.people.map((p) => p.shown)") == [True, True, False, False]
    sheet.click("#through")
    shown(sheet)
    assert sheet.evaluate("viewer.painter.gl.getError()") == 0
    assert sheet.complaints == []
