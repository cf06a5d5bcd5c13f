"""USD files, posed by UsdSkel itself and checked by USD's own validators."""
# pyright: reportAttributeAccessIssue=false

from dataclasses import replace

import numpy as np
import pytest
from made_scene import made_scene

from hmrkit.scene import ExportOptions
from hmrkit.scene.retarget import retarget

pxr = pytest.importorskip("pxr", reason="usd-core is not installed")
from pxr import Usd, UsdGeom, UsdSkel, Vt  # noqa: E402

from hmrkit.exporters.usd import UsdExporter  # noqa: E402


def written(tmp_path, scene, **options):
    return [Usd.Stage.Open(str(path)) for path in UsdExporter().write(scene, tmp_path, ExportOptions(**options))]


def posed(stage, name, frame):
    """A character's mesh at a frame, as UsdSkel skins it."""
    cache = UsdSkel.Cache()
    root = UsdSkel.Root(stage.GetPrimAtPath(f"/clip/{name}"))
    cache.Populate(root, Usd.PrimDefaultPredicate)
    mesh = stage.GetPrimAtPath(f"/clip/{name}/{name}_mesh")
    skinning = cache.GetSkinningQuery(mesh)
    skeleton = cache.GetSkelQuery(UsdSkel.BindingAPI(mesh).GetInheritedSkeleton())
    transforms = skeleton.ComputeSkinningTransforms(frame)
    points = Vt.Vec3fArray(UsdGeom.Mesh(mesh).GetPointsAttr().Get())
    assert skinning.ComputeSkinnedPoints(transforms, points, frame)
    return np.array(points)


@pytest.mark.parametrize(("up", "unit"), [("y", "m"), ("z", "cm")])
def test_usdskel_shows_the_scene(tmp_path, up, unit):
    scene = made_scene(24, up=up, unit=unit)
    (stage,) = written(tmp_path, scene)
    assert UsdGeom.GetStageUpAxis(stage) == up.upper()
    assert UsdGeom.GetStageMetersPerUnit(stage) == scene.metres_per_unit
    assert stage.GetTimeCodesPerSecond() == stage.GetFramesPerSecond() == 30000 / 1001
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == scene.frame_range
    for character in scene.characters:
        for row in np.flatnonzero(character.visible)[::2].tolist():
            shown = posed(stage, character.name, int(character.frames[row])) * scene.metres_per_unit
            wanted = character.skinned(slice(row, row + 1))[0] * scene.metres_per_unit
            assert np.linalg.norm(shown - wanted, axis=1).max() < 0.1e-3


@pytest.mark.parametrize("skeleton", ["mixamo", "unreal"])
def test_other_skeletons_show_their_mesh(tmp_path, skeleton):
    scene = made_scene(12, exact=False)
    people = tuple(retarget(character, skeleton) for character in scene.characters)
    (stage,) = written(tmp_path, replace(scene, characters=people))
    shown = posed(stage, "person_01", 1009)
    assert np.linalg.norm(shown - people[0].skinned(slice(8, 9))[0], axis=1).max() < 0.3e-3


def test_a_root_bone_a_t_pose_and_namespaces_change_nothing_that_is_seen(tmp_path):
    scene = made_scene(6, up="z", unit="cm", exact=False)
    (stage,) = written(tmp_path, scene, namespace=True, root_bone=True, t_pose=True)
    person = scene.characters[0]
    assert stage.GetStartTimeCode() == 1000
    for frame, wanted in ((1000, person.rest_vertices), (1002, person.skinned(slice(1, 2))[0])):
        assert np.linalg.norm(posed(stage, "person_01", frame) - wanted, axis=1).max() < 0.02
    joints = UsdSkel.Skeleton(stage.GetPrimAtPath("/clip/person_01/person_01_rig")).GetJointsAttr().Get()
    assert joints[:2] == ["person_01_root", "person_01_root/person_01_pelvis"]


def test_exact_vertices_are_kept_to_the_last_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("hmrkit.exporters.usd_stage._SAVE_EVERY", 8)  # saved in between more than once
    monkeypatch.setattr("hmrkit.scene.Character.stretches.__defaults__", (4,))
    scene = made_scene(24)
    _, stage = written(tmp_path, scene, exact=True)
    for character in scene.characters:
        mesh = UsdGeom.Mesh(stage.GetPrimAtPath(f"/clip/{character.name}"))
        faces = np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
        assert np.array_equal(faces, character.faces)
        wanted = np.concatenate([character.vertices(rows) for rows in character.stretches()])
        for row in np.flatnonzero(character.visible)[::3].tolist():
            assert np.array_equal(np.array(mesh.GetPointsAttr().Get(int(character.frames[row]))), wanted[row])


def test_people_are_invisible_where_they_are_not_seen(tmp_path):
    scene = made_scene(24)
    for stage, path in zip(written(tmp_path, scene, exact=True), ("/clip/{0}/{0}_mesh", "/clip/{0}"), strict=True):
        for character in scene.characters:
            if "_mesh" in path:  # and for importers that leave visibility out, next to no size
                late = posed(stage, "person_07", 1002)
                assert 0 < np.ptp(late, axis=0).max() < 0.01
            mesh = UsdGeom.Imageable(stage.GetPrimAtPath(path.format(character.name)))
            for frame in range(scene.frame_range[0], scene.frame_range[1] + 1):
                row = frame - int(character.frames[0])
                seen = 0 <= row < len(character) and bool(character.visible[row])
                assert (mesh.ComputeVisibility(frame) == "inherited") == seen


@pytest.mark.parametrize("unit", ["m", "cm"])
def test_camera_sees_what_the_film_saw(tmp_path, unit):
    """A point projected by USD's own camera lands on the pixel that focal length and centre in pixels say."""
    scene = made_scene(6, unit=unit)
    (stage,) = written(tmp_path, scene)
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/clip/camera")).GetCamera(Usd.TimeCode(1001))
    assert camera.focalLength * 100 * scene.metres_per_unit == pytest.approx(scene.camera.focal_mm)
    frustum = camera.frustum
    point = np.array([0.4, 1.1, 0.7]) / scene.metres_per_unit
    seen = frustum.ComputeViewMatrix().Transform(pxr.Gf.Vec3d(*point.tolist()))
    at = frustum.ComputeProjectionMatrix().Transform(seen)
    x, y = (at[0] + 1) / 2 * 1280, (1 - at[1]) / 2 * 720
    local = np.linalg.inv(scene.camera.scene_from_camera) @ [*point, 1]
    assert x == pytest.approx(650 + 1000 * local[0] / -local[2], abs=0.01)
    assert y == pytest.approx(340 - 1000 * local[1] / -local[2], abs=0.01)


def test_usds_validators_find_nothing(tmp_path):
    validation = pytest.importorskip("pxr.UsdValidation")
    context = validation.ValidationContext(validation.ValidationRegistry().GetOrLoadAllValidators())
    for stage in written(tmp_path, made_scene(6), exact=True):
        assert [error.GetMessage() for error in context.Validate(stage)] == []
