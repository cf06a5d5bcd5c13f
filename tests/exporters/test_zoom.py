"""The camera of a lens that zooms: its focal length in each frame, in all formats that have it (FBX: `test_fbx`)."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from made_scene import made_scene

from hmrkit.exporters.abc import AbcExporter
from hmrkit.exporters.glb import GlbExporter
from hmrkit.exporters.joints import JsonExporter
from hmrkit.exporters.npz import person_arrays
from hmrkit.scene import ExportOptions
from hmrkit.scene.build import build_scene
from hmrkit.types import Zoom

FACTORS = 1.3 ** np.linspace(0, 1, 6)


@pytest.fixture(scope="module")
def scene():
    still = made_scene(frames=6)
    return replace(still, camera=replace(still.camera, zoom=Zoom(1001 + np.arange(6), FACTORS)))


def test_json_lists_the_focal_length_of_each_frame(scene, tmp_path):
    (path,) = JsonExporter().write(scene, tmp_path, ExportOptions())
    zoom = json.loads(path.read_text())["camera"]["zoom"]
    assert zoom["frames"] == list(range(1001, 1007))
    assert np.allclose(zoom["focal_px"], 1000 * FACTORS[:, None] * [1, 1], atol=1e-3)
    assert np.allclose(zoom["focal_mm"], scene.camera.focal_mm * FACTORS, atol=1e-4)


def test_glb_says_once_that_it_cannot(scene, tmp_path, caplog):
    GlbExporter().write(scene, tmp_path, ExportOptions(per_person=True))
    assert caplog.text.count("glTF cannot animate a lens") == 1
    assert caplog.text.count("glTF cannot shift a lens") == 1


def test_usd_animates_it(scene, tmp_path):
    pytest.importorskip("pxr")
    from pxr import Usd, UsdGeom

    from hmrkit.exporters.usd import UsdExporter

    path = UsdExporter().write(scene, tmp_path, ExportOptions())[0]
    stage = Usd.Stage.Open(str(path))
    focal = UsdGeom.Camera(stage.GetPrimAtPath("/clip/camera")).GetFocalLengthAttr()
    found = [focal.Get(frame) * 100 * scene.metres_per_unit for frame in range(1001, 1007)]
    assert np.allclose(found, scene.camera.focal_mm * FACTORS)


def test_alembic_animates_it(scene, tmp_path):
    library = pytest.importorskip("alembic3d")
    abc, geometry = library.Abc, library.AbcGeom
    (path,) = AbcExporter().write(scene, tmp_path, ExportOptions())
    top = abc.IArchive(str(path)).getTop().children[2]
    lens = geometry.ICamera(top, "camera_lens").getSchema()
    moments = [abc.ISampleSelector(frame * 1001 / 30000) for frame in range(1001, 1007)]
    found = [lens.getValue(moment).getFocalLength() for moment in moments]
    assert np.allclose(found, scene.camera.focal_mm * FACTORS)


def test_a_scene_has_the_zoom_on_its_own_clock(take, models):
    chosen = take.video.frame_indices
    zooming = replace(take, camera=replace(take.camera, zoom=Zoom(chosen, 1 + (chosen - 10) / 10)))
    own = build_scene(zooming, models, ExportOptions(first_frame=1001)).camera.zoom
    assert own is not None
    assert own.frame_indices.tolist() == list(range(1011, 1021))
    assert np.allclose(own.factors, 1 + np.arange(10) / 10)
    twice = build_scene(zooming, models, ExportOptions(fps=Fraction(60000, 1001)))
    assert twice.camera.zoom is not None
    assert np.allclose(np.diff(twice.camera.zoom.factors), 0.05, atol=1e-6)
    arrays = person_arrays(build_scene(zooming, models), build_scene(zooming, models).characters[0])
    assert np.allclose(arrays["camera_zoom"], 1 + (arrays["frame_indices"] - 10) / 10)
