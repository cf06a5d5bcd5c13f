"""FBX files are read back by ufbx, which nobody here wrote: skinning, clock, camera, names, visibility."""

import importlib.util
import json
import subprocess
import sys
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from struct import unpack_from

import numpy as np
import pytest
from made_character import hero_rig
from made_scene import made_scene

from hmrkit.exporters.fbx import FbxExporter, document, time_mode
from hmrkit.exporters.fbx_binary import Int64, record, write_fbx
from hmrkit.exporters.fbx_character import blend_shapes
from hmrkit.scene import ExportOptions, blend_skin
from hmrkit.scene.retarget import retarget
from hmrkit.scene.rigs import load_rig
from hmrkit.scene.staging import staged, untied, with_root_bone
from hmrkit.types import Zoom

needs_ufbx = pytest.mark.skipif(importlib.util.find_spec("ufbx") is None, reason="ufbx is not installed")


def read_by_ufbx(path, scene, frames=()):
    out = path.with_suffix(".read.npz")
    # A ten-thousandth of a frame late: at the very instant, a step may have come or not.
    times = [repr(float(frame / scene.fps) + 1e-4 / float(scene.fps)) for frame in frames]
    program = Path(__file__).parent / "read_fbx_by_ufbx.py"
    subprocess.run([sys.executable, str(program), str(path), str(out), *times], check=True, timeout=120)
    with np.load(out) as arrays:
        return json.loads(str(arrays["facts"])), {key: arrays[key] for key in arrays.files if key != "facts"}


def largest_error_mm(scene, arrays, frames, exact=False):
    worst = 0.0
    for person in scene.characters:
        seen = set(person.frames[person.visible].tolist())
        rows = [i for i, frame in enumerate(frames) if frame in seen]
        assert rows
        wanted = np.array([frames[i] for i in rows]) - person.frames[0]
        ours = person.vertices(wanted) if exact else person.skinned(wanted)
        found = arrays[f"{person.name}_mesh/vertices"][rows]
        worst = max(worst, float(np.linalg.norm(found - ours, axis=-1).max()))
    return worst * scene.metres_per_unit * 1000


@needs_ufbx
@pytest.mark.parametrize(("up", "unit", "skeleton"), [("y", "m", "smpl"), ("z", "cm", "mixamo"), ("y", "cm", "unreal")])
def test_skin_equals_ours(tmp_path, up, unit, skeleton):
    scene = made_scene(frames=40, up=up, unit=unit)
    scene = replace(scene, characters=tuple(retarget(person, skeleton) for person in scene.characters))
    (path,) = FbxExporter().write(scene, tmp_path, ExportOptions(up=up, unit=unit, skeleton=skeleton))
    assert path == tmp_path / "clip.fbx"
    frames = np.linspace(1001, 1040, 10 if skeleton == "smpl" else 3).round().astype(int).tolist()
    facts, arrays = read_by_ufbx(path, scene, frames)
    assert largest_error_mm(scene, arrays, frames) < 0.05
    assert facts["warnings"] == 0
    for person in scene.characters:  # hidden in gaps, and while only others are on stage
        at = dict(zip(person.frames.tolist(), person.visible.tolist(), strict=True))
        assert arrays[f"{person.name}_mesh/visible"].tolist() == [at.get(frame, False) for frame in frames]
        # And next to nothing is left of them where an importer leaves visibility out.
        sizes = np.ptp(arrays[f"{person.name}_mesh/vertices"], axis=1).max(1) * scene.metres_per_unit
        assert (sizes > 0.01).tolist() == [at.get(frame, False) for frame in frames]


@needs_ufbx
def test_a_root_bone_a_t_pose_and_namespaces_change_nothing_that_is_seen(tmp_path):
    scene = made_scene(frames=6, exact=False)
    scene = replace(scene, characters=scene.characters[:1])
    options = ExportOptions(namespace=True, root_bone=True, t_pose=True, camera=False)
    (path,) = FbxExporter().write(scene, tmp_path, options)
    facts, arrays = read_by_ufbx(path, scene, [1000, 1002])
    person = scene.characters[0]
    wanted = person.rest_vertices, person.skinned(slice(1, 2))[0]
    assert (
        np.linalg.norm(arrays["person_01_mesh/vertices"] - wanted, axis=-1).max() < 5e-4
    )  # read a ten-thousandth of a frame late
    assert ["person_01:pelvis", "person_01:root", True] in facts["nodes"]


def tied_in_blender(character):
    """Joints that move against their parent but that Blender's importer connects to it, so that they do not move."""
    rest, parents = character.rest_joints.astype(np.float64), np.array(character.parents)
    tied = []
    for joint in character.moving:
        parent = parents[joint]
        length = np.linalg.norm(rest[parents == parent] - rest[parent], axis=1).mean()
        end = rest[parent] + length * character.rest_rotations[parent][:, 1]
        tied += [joint] if np.abs(end - rest[joint]).max() < 1e-5 * length else []
    return tied


@pytest.mark.parametrize(("up", "tied"), [("y", [1]), ("z", [])])
def test_a_pelvis_above_a_root_bone_moves_in_blender(up, tied):
    person = made_scene(frames=4, up=up).characters[0]
    standing = person.rest_joints - person.rest_joints.min(0) * ([0, 1, 0] if up == "y" else [0, 0, 1])
    rooted = with_root_bone(retarget(replace(person, rest_joints=standing.astype(np.float32)), "unity"), up)
    assert tied_in_blender(rooted) == tied
    bound = untied(rooted)
    assert tied_in_blender(bound) == []
    assert np.linalg.norm(bound.rest_joints - rooted.rest_joints, axis=1).max() < 2e-3
    np.testing.assert_allclose(bound.posed()[1], rooted.posed()[1], atol=1e-6)


def test_a_pelvis_two_bones_below_the_root_moves_in_blender(tmp_path):
    """A user's rig: top > mid > pelvis, the pelvis straight above mid."""
    rig = load_rig(str(hero_rig(tmp_path)))
    top = rig.bones[0]
    mid = replace(top, name="mid", parent=top.name, place=(0.0, 0.1, 0.0), rotation=(0.0, 0.0, 0.0, 1.0))
    top = replace(top, place=(0.0, 0.0, 0.0), rotation=(0.0, 0.0, 0.0, 1.0))
    first = rig.bone_of["pelvis"]
    above = {rig.bones[first].name: replace(rig.bones[first], parent="mid", place=(0.0, 0.9, 0.0))}
    rig = replace(rig, bones=(top, mid, *(above.get(bone.name, bone) for bone in rig.bones[1:])))
    driven = retarget(made_scene(frames=4, exact=False).characters[0], rig, floor=True)
    assert (driven.joint_names[1], tied_in_blender(driven)) == ("mid", [2])
    bound = untied(driven)
    assert tied_in_blender(bound) == []
    moved = np.linalg.norm(bound.posed()[1] - driven.posed()[1], axis=-1).max(0)
    assert 5e-4 < moved[1] < 2e-3  # only the bone that is bound beside its place
    assert np.delete(moved, 1).max() < 1e-6
    np.testing.assert_allclose(bound.skinned(), driven.skinned(), atol=1e-5)
    # Put onto the character's own armature by Blender, which keys the way from rest: that of the pelvis is the same.
    ways = [c.moving[2] - c.rest_rotations[1].T @ (c.rest_joints[2] - c.rest_joints[1]) for c in (bound, driven)]
    np.testing.assert_allclose(*ways, atol=1e-6)


@needs_ufbx
def test_a_driven_character_is_what_the_scene_has(tmp_path):
    scene, options = made_scene(frames=4, up="z", unit="cm", exact=False), ExportOptions(rig=str(hero_rig(tmp_path)))
    scene = replace(scene, characters=scene.characters[:1])
    (path,) = FbxExporter().write(scene, tmp_path, options)
    facts, arrays = read_by_ufbx(path, scene, [1001])
    wanted = staged(scene, options).characters[0].skinned(slice(0, 1))
    assert np.linalg.norm(arrays["person_01_mesh/vertices"] - wanted, axis=-1).max() < 0.05
    assert ["hero:pelvis", "hero:root", True] in facts["nodes"]


@needs_ufbx
def test_file_tells_axes_unit_clock_camera_and_names(tmp_path):
    scene = made_scene(frames=12, up="z", unit="cm")
    (path,) = FbxExporter().write(scene, tmp_path, ExportOptions(up="z", unit="cm"))
    facts, _ = read_by_ufbx(path, scene)
    right, up, backwards = facts["axes"]
    assert (right, up, backwards) == (0, 4, 3)  # +x, +z, -y
    assert facts["unit_m"] == pytest.approx(0.01)
    assert facts["time_mode"] == 9
    tick = 1 / 46_186_158_000
    assert facts["begin_s"] == pytest.approx(float(1001 / scene.fps), abs=tick)
    assert facts["end_s"] == pytest.approx(float(1012 / scene.fps), abs=tick)
    parents = {}
    for name, parent, bone in facts["nodes"]:
        parents.setdefault(name, []).append((parent, bone))
    assert parents["person_01"] == parents["person_07"] == [("", False)]
    assert parents["pelvis"] == [("person_01", True), ("person_07", True)]
    for person in scene.characters:
        for name, parent in zip(person.joint_names[1:], person.parents[1:], strict=True):
            assert parents[name] == [(person.joint_names[parent], True)] * 2
    camera, ours = facts["camera"], scene.camera
    assert camera["name"] == "camera"
    assert camera["focal_mm"] == pytest.approx(ours.focal_mm)
    assert camera["film_mm"] == pytest.approx([ours.film_width_mm, ours.film_height_mm])
    assert camera["fov_deg"][1] == pytest.approx(np.degrees(ours.fov_y))
    assert camera["size"] == [1280, 720]
    looks, up_way, _, place = np.array(camera["world"])  # FBX cameras look along their x axis
    np.testing.assert_allclose(looks, -ours.scene_from_camera[:3, 2], atol=1e-6)
    np.testing.assert_allclose(up_way, ours.scene_from_camera[:3, 1], atol=1e-6)
    np.testing.assert_allclose(place, ours.scene_from_camera[:3, 3], rtol=1e-6)


@needs_ufbx
def test_an_upright_image_lies_in_a_square_film(tmp_path):
    """Importers that lay the film's width along the longer side see what those see that obey the gate."""
    scene = made_scene(frames=6)
    camera = replace(scene.camera, width=720, height=1280, center_px=np.array([370, 630], np.float32))
    (path,) = FbxExporter().write(replace(scene, camera=camera), tmp_path, ExportOptions())
    facts, _ = read_by_ufbx(path, scene)
    assert facts["camera"]["film_mm"] == pytest.approx([64.0, 64.0])
    assert facts["camera"]["fov_deg"] == pytest.approx(np.degrees(2 * np.arctan([0.36, 0.64])))


@needs_ufbx
@pytest.mark.parametrize("unit", ["m", "cm"])
def test_blend_shapes_give_the_exact_mesh(tmp_path, unit):
    scene = made_scene(frames=30, unit=unit)
    for person in scene.characters:  # Unity and Blender cut sliders off
        _, names, shapes, sliders = blend_shapes(person, scene, ExportOptions(exact=True))
        assert len(names) == len(shapes) == sliders.shape[1]
        assert (sliders.min(), sliders.max()) == (0, 1)
    (path,) = FbxExporter().write(scene, tmp_path, ExportOptions(exact=True))
    frames = [1006, 1013, 1020]
    _, arrays = read_by_ufbx(path, scene, frames)
    assert largest_error_mm(scene, arrays, frames) > 5
    assert largest_error_mm(scene, arrays, frames, exact=True) < 1


@needs_ufbx
def test_pose_blend_shapes_act_before_skinning_with_weights_of_both_signs(tmp_path):
    scene = made_scene(frames=12, exact=False)
    person = scene.characters[0]
    weights = np.random.default_rng(0).uniform(-1, 1, (12, 3)).astype(np.float32)
    shapes = 0.03 * np.stack([np.sin((4 + i) * person.rest_vertices[:, [1, 2, 0]]) for i in range(3)])
    shapes[2, person.rest_vertices[:, 1] > 0] = 0  # only some vertices
    person = replace(person, pose_shapes=lambda: (shapes, weights))
    scene = replace(scene, characters=(person,))
    (path,) = FbxExporter().write(scene, tmp_path, ExportOptions(pose_shapes=True))
    _, arrays = read_by_ufbx(path, scene, [1002, 1011])
    rows = np.array([1, 10])
    shaped = person.rest_vertices + np.einsum("tp,pvc->tvc", weights[rows], shapes)
    wanted = blend_skin(shaped, person.skin_weights, person.skin_transforms(rows))
    np.testing.assert_allclose(arrays["person_01_mesh/vertices"], wanted, atol=1e-4)


@needs_ufbx
def test_key_reduction_stays_within_its_tolerance(tmp_path):
    scene = made_scene(frames=60)
    whole, reduced = (tmp_path / name for name in ("whole", "reduced"))
    (first,) = FbxExporter().write(scene, whole, ExportOptions(per_person=False))
    (path,) = FbxExporter().write(scene, reduced, ExportOptions(keyframe_reduce=0.2))
    assert path.stat().st_size < first.stat().st_size
    frames = list(range(1010, 1050, 5))
    _, arrays = read_by_ufbx(path, scene, frames)
    # No joint is further than 0.2 mm off; skin beyond the last joints also goes with their 0.2 degrees.
    assert 0.01 < largest_error_mm(scene, arrays, frames) < 0.2 + np.radians(0.2) * 250


@needs_ufbx
@pytest.mark.parametrize("chosen", [{"skeleton": "unreal"}, {"skeleton": "unreal5"}, {"rig": "metahuman"}])
def test_one_file_a_person_with_unreals_root(tmp_path, chosen):
    scene, options = made_scene(frames=12), ExportOptions(per_person=True, camera=False, **chosen)
    scene = replace(scene, characters=tuple(retarget(person, options.skeleton) for person in scene.characters))
    paths = FbxExporter().write(scene, tmp_path, options)
    assert [path.name for path in paths] == ["person_01.fbx", "person_07.fbx"]
    facts, _ = read_by_ufbx(paths[1], scene)
    assert "camera" not in facts
    assert ["root", "", False] in facts["nodes"]
    assert ["pelvis", "root", True] in facts["nodes"]


def test_same_scene_gives_the_same_bytes_and_frame_rates_have_their_numbers(tmp_path):
    paths = [FbxExporter().write(made_scene(frames=8), tmp_path / name, ExportOptions())[0] for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    rates = [Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(60)]
    assert [time_mode(rate) for rate in (*rates, Fraction(10))] == [13, 11, 10, 9, 6, 3, 14]


def test_every_object_has_children_as_strict_readers_want():
    objects = next(r for r in document(made_scene(frames=4), ExportOptions(exact=True)) if r.name == "Objects")
    assert {made.name for made in objects.children} >= {"Model", "Geometry", "Pose", "Deformer", "AnimationLayer"}
    assert all(made.children for made in objects.children)


def test_records_carry_their_ends_types_and_values(tmp_path):
    tree = record("Top", 7, Int64(2**40), 0.5, True, "word", b"raw", np.arange(100.0))
    tree.add("Child", np.array([1, 2], np.int32))
    path = tmp_path / "records.fbx"
    write_fbx(path, [tree, record("Empty")])
    data = path.read_bytes()
    assert data[:27] == b"Kaydara FBX Binary  \x00\x1a\x00" + (7400).to_bytes(4, "little")
    end, count, length, name = unpack_from("<3IB", data, 27)
    values = data[27 + 13 + name : 27 + 13 + name + length]
    assert (count, data[40 : 40 + name]) == (7, b"Top")
    head = b"I\x07\x00\x00\x00" + b"L" + (2**40).to_bytes(8, "little") + b"D\x00\x00\x00\x00\x00\x00\xe0\x3fC\x01"
    assert values.startswith(head + b"S\x04\x00\x00\x00wordR\x03\x00\x00\x00raw" + b"d\x64\x00\x00\x00\x01")
    assert zlib.decompress(values[-unpack_from("<I", values, len(head) + 26)[0] :]) == np.arange(100.0).tobytes()
    child = 27 + 13 + name + length
    assert unpack_from("<I", data, child)[0] == end - 13  # the parent ends with an empty record
    assert data[end - 13 : end] == bytes(13)
    empty_end = unpack_from("<I", data, end)[0]
    assert empty_end == end + 13 + len("Empty") + 13
    assert len(data[data.index(bytes.fromhex("fabcab09")) :]) >= 16 + 4 + 1 + 4 + 120 + 16


@needs_ufbx
def test_a_lens_that_zooms_is_animated(tmp_path):
    scene, factors = made_scene(frames=6), 1.3 ** np.linspace(0, 1, 6)
    scene = replace(scene, camera=replace(scene.camera, zoom=Zoom(1001 + np.arange(6), factors)))
    (path,) = FbxExporter().write(scene, tmp_path, ExportOptions())
    facts, arrays = read_by_ufbx(path, scene, [1001, 1003, 1006])
    assert facts["warnings"] == 0
    assert np.allclose(arrays["camera/focal_mm"], scene.camera.focal_mm * factors[[0, 2, 5]], rtol=1e-4)
