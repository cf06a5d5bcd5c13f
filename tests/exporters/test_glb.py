"""GLB files, read by rules written here from the glTF specification: they show what the scene says, frame by frame."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_character import angles_deg, hero_rig
from made_scene import made_scene

from hmrkit.body import load_body
from hmrkit.body.texture import texture_coordinates
from hmrkit.exporters.glb import GlbExporter
from hmrkit.exporters.influences import with_influences
from hmrkit.scene import ExportOptions
from hmrkit.scene.retarget import retarget
from hmrkit.scene.rigs import load_rig
from hmrkit.scene.staging import staged
from hmrkit.skeletons import SMPL_24

_TYPES = {5126: np.float32, 5125: np.uint32, 5123: np.uint16, 5122: np.int16, 5121: np.uint8, 5120: np.int8}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Glb:
    """A file's JSON, and what it shows at a time."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        magic, version, length = struct.unpack("<4sII", content[:12])
        assert (magic, version, length) == (b"glTF", 2, len(content))
        size, kind = struct.unpack("<I4s", content[12:20])
        assert kind == b"JSON"
        assert size % 4 == 0
        self.json = json.loads(content[20 : 20 + size])
        size_2, kind_2 = struct.unpack("<I4s", content[20 + size : 28 + size])
        assert kind_2 == b"BIN\0"
        assert self.json["buffers"][0]["byteLength"] == size_2 == len(content) - size - 28
        self.buffer = content[28 + size :]

    def numbers(self, view: int, component: int, count: int) -> np.ndarray:
        dtype, start = np.dtype(_TYPES[component]), self.json["bufferViews"][view]["byteOffset"]
        assert start % dtype.itemsize == 0
        return np.frombuffer(self.buffer, dtype, count, start)

    def array(self, number: int) -> np.ndarray:
        """An accessor's values as they are meant: integers that are normalized as shares."""
        values = self.stored(number)
        if not self.json["accessors"][number].get("normalized"):
            return values
        return np.maximum(values / np.float32(np.iinfo(values.dtype).max), -1)

    def stored(self, number: int) -> np.ndarray:
        accessor = self.json["accessors"][number]
        kind, width, count = accessor["componentType"], _WIDTHS[accessor["type"]], accessor["count"]
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            rows = sparse["indices"]
            values = np.zeros((count, width), _TYPES[kind])
            rows = self.numbers(rows["bufferView"], rows["componentType"], sparse["count"])
            assert np.all(np.diff(rows.astype(int)) > 0)
            moved = self.numbers(sparse["values"]["bufferView"], kind, sparse["count"] * width)
            values[rows] = moved.reshape(-1, width)
        else:
            view, size = self.json["bufferViews"][accessor["bufferView"]], np.dtype(_TYPES[kind]).itemsize
            columns = view.get("byteStride", size * width) // size
            if view.get("target") == 34962:
                assert columns * size % 4 == 0
            rows = self.numbers(accessor["bufferView"], kind, count * columns)
            values = rows.reshape(count, columns)[:, :width]
        if "min" in accessor:
            assert np.array_equal(np.float32(accessor["min"]), values.min(0))
            assert np.array_equal(np.float32(accessor["max"]), values.max(0))
        return values

    def node(self, name: str) -> int:
        return [node.get("name") for node in self.json["nodes"]].index(name)

    def animated(self, node: int, path: str, time: float, default: list[float]) -> np.ndarray:
        """A node's value at a time: linear between keys (quaternions: near enough to slerp), held outside them."""
        for animation in self.json["animations"]:
            for channel in animation["channels"]:
                if channel["target"] == {"node": node, "path": path}:
                    sampler = animation["samplers"][channel["sampler"]]
                    times = self.array(sampler["input"])[:, 0]
                    assert np.all(np.diff(times) > 0)
                    values = self.array(sampler["output"]).reshape(len(times), -1)
                    if sampler["interpolation"] == "STEP":
                        return values[max(int(np.searchsorted(times, time + 1e-4, "right")) - 1, 0)]
                    value = np.array([np.interp(time, times, column) for column in values.T])
                    return value / np.linalg.norm(value) if path == "rotation" else value
        return np.array(default)

    def transforms(self, time: float) -> dict[int, np.ndarray]:
        """World matrices of all nodes."""
        out: dict[int, np.ndarray] = {}

        def visit(number: int, above: np.ndarray) -> None:
            node = self.json["nodes"][number]
            x, y, z, w = self.animated(number, "rotation", time, node.get("rotation", [0, 0, 0, 1]))
            rotation = np.array(
                [
                    [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                    [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                    [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
                ]
            )
            local = np.eye(4)
            local[:3, :3] = rotation * self.animated(number, "scale", time, node.get("scale", [1, 1, 1]))
            local[:3, 3] = self.animated(number, "translation", time, node.get("translation", [0, 0, 0]))
            out[number] = above @ local
            for child in node.get("children", []):
                visit(child, out[number])

        for number in self.json["scenes"][0]["nodes"]:
            visit(number, np.eye(4))
        return out

    def mesh_at(self, name: str, time: float) -> np.ndarray:
        """(V,3): a skinned mesh at a time, by section 3.7.3 of the specification."""
        number = self.node(name)
        node = self.json["nodes"][number]
        primitive = self.json["meshes"][node["mesh"]]["primitives"][0]
        points = self.array(primitive["attributes"]["POSITION"]).astype(np.float64)
        if "targets" in primitive:
            weights = self.animated(number, "weights", time, [0.0] * len(primitive["targets"]))
            for weight, target in zip(weights, primitive["targets"], strict=True):
                points = points + weight * self.array(target["POSITION"])
        skin = self.json["skins"][node["skin"]]
        world = self.transforms(time)
        inverse_bind = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).swapaxes(1, 2)
        matrices = np.stack([world[joint] for joint in skin["joints"]]) @ inverse_bind
        sets = sum(key.startswith("JOINTS_") for key in primitive["attributes"])
        joints = np.concatenate([self.array(primitive["attributes"][f"JOINTS_{i}"]) for i in range(sets)], 1)
        weights = np.concatenate([self.array(primitive["attributes"][f"WEIGHTS_{i}"]) for i in range(sets)], 1)
        assert np.abs(weights.sum(1) - 1).max() < 1e-5
        blended = np.einsum("vk,vkab->vab", weights, matrices[joints])
        return np.einsum("vab,vb->va", blended[:, :3], np.concatenate([points, np.ones((len(points), 1))], 1))


def in_metres_y_up(scene, points):
    """What glTF wants, from the scene's unit and axes."""
    points = points * scene.metres_per_unit
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1) if scene.up == "z" else points


def seconds(scene, frame):
    """When a file shows a frame: the clip's first one at 0."""
    return float((frame - scene.frame_range[0]) / scene.fps)


def ten(character):
    """Ten rows in which the person is seen."""
    return np.flatnonzero(character.visible)[:: max(int(character.visible.sum()) // 10, 1)][:10]


@pytest.mark.parametrize(("up", "unit"), [("y", "m"), ("z", "cm")])
@pytest.mark.parametrize("exact", [False, True])
def test_shows_the_scene_within_a_millimetre(tmp_path, up, unit, exact):
    scene = made_scene(24, up=up, unit=unit)
    (path,) = GlbExporter().write(scene, tmp_path, ExportOptions(exact=exact, influences=4 if exact else 8))
    file = Glb(path)
    for character in scene.characters:
        rows = ten(character)
        wanted = in_metres_y_up(scene, character.vertices(rows) if exact else character.skinned(rows))
        for row, vertices in zip(rows, wanted, strict=True):
            shown = file.mesh_at(f"{character.name}_mesh", seconds(scene, character.frames[row]))
            assert np.linalg.norm(shown - vertices, axis=1).max() < (0.6e-3 if exact else 0.05e-3)


@pytest.mark.parametrize("skeleton", ["mixamo", "unreal"])
@pytest.mark.parametrize("up", ["y", "z"])
def test_other_skeletons_keep_their_rest_pose_and_show_their_mesh(tmp_path, skeleton, up):
    scene = made_scene(12, up=up, exact=False)
    people = tuple(retarget(character, skeleton) for character in scene.characters)
    (path,) = GlbExporter().write(replace(scene, characters=people), tmp_path, ExportOptions(influences=8))
    file = Glb(path)
    for row in (0, 9):
        shown = file.mesh_at("person_01_mesh", seconds(scene, people[0].frames[row]))
        wanted = in_metres_y_up(scene, people[0].skinned(slice(row, row + 1))[0])
        assert np.linalg.norm(shown - wanted, axis=1).max() < 0.2e-3
    # Without its animation the file shows the rest pose: the bind matrices undo the nodes' own places.
    del file.json["animations"][0]["channels"][:]
    rest = file.mesh_at("person_01_mesh", 0.0)
    assert np.abs(rest - in_metres_y_up(scene, people[0].rest_vertices)).max() < 1e-4


@pytest.mark.parametrize(("up", "skeleton"), [("y", "smpl"), ("z", "smpl"), ("z", "mixamo")])
def test_a_root_bone_a_t_pose_and_namespaces_change_nothing_that_is_seen(tmp_path, up, skeleton):
    scene = made_scene(6, up=up, exact=False)
    person = retarget(scene.characters[0], skeleton)
    options = ExportOptions(influences=8, namespace=True, root_bone=True, t_pose=True)
    (path,) = GlbExporter().write(replace(scene, characters=(person,)), tmp_path, options)
    file = Glb(path)
    assert file.json["asset"]["extras"]["start_frame"] == 1000
    for frame, wanted in ((0, person.rest_vertices), (2, person.skinned(slice(1, 2))[0])):
        shown = file.mesh_at("person_01_mesh", frame * 1001 / 30000)
        assert np.linalg.norm(shown - in_metres_y_up(scene, wanted), axis=1).max() < 0.2e-3
    root = file.transforms(2 * 1001 / 30000)[file.node("person_01:root")][:3, 3]
    pelvis = in_metres_y_up(scene, person.posed_joints(slice(1, 2))[0, 0])
    np.testing.assert_allclose(root, pelvis * [1, 0, 1], atol=1e-4)


def test_a_driven_character_points_where_the_person_does(tmp_path):
    scene, rig = made_scene(4, exact=False), hero_rig(tmp_path)
    options = ExportOptions(influences=8, rig=str(rig))
    (path,) = GlbExporter().write(replace(scene, characters=scene.characters[:1]), tmp_path, options)
    file, character = Glb(path), staged(scene, options).characters[0]
    shown = file.mesh_at("person_01_mesh", 0.0)
    assert np.linalg.norm(shown - character.skinned(slice(0, 1))[0], axis=1).max() < 0.2e-3
    world, bones = file.transforms(0.0), load_rig(str(rig)).bone_of
    places = np.stack([world[file.node(character.joint_names[bones[joint]])][:3, 3] for joint in SMPL_24.joints])
    assert angles_deg(scene.characters[0].posed()[1][:1], places[None]).max() < 0.2


@pytest.mark.parametrize(("up", "exact"), [("y", False), ("z", True)])
def test_quantised_files_are_smaller_and_show_the_same(tmp_path, up, exact):
    scene = made_scene(12, up=up)
    uv = texture_coordinates(load_body())
    person = replace(scene.characters[0], texture_uv=lambda: uv)
    sizes, shown = [], []
    for quantize in (False, True):
        options = ExportOptions(influences=8, exact=exact, quantize=quantize)
        (path,) = GlbExporter().write(replace(scene, characters=(person,)), tmp_path, options)
        file = Glb(path)
        sizes.append(path.stat().st_size)
        shown.append(file.mesh_at("person_01_mesh", seconds(scene, person.frames[1])))
        primitive = file.json["meshes"][0]["primitives"][0]
        coordinates = file.array(primitive["attributes"]["TEXCOORD_0"])
        np.testing.assert_allclose(coordinates[: len(uv), 1].min(), 1 - uv[..., 1].max(), atol=1e-3)
        normals = file.array(primitive["attributes"]["NORMAL"])
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=0.02)
    assert file.json["extensionsRequired"] == ["KHR_mesh_quantization"]
    assert sizes[1] < 0.65 * sizes[0]
    assert np.linalg.norm(shown[1] - shown[0], axis=1).max() < 0.3e-3


def test_people_who_are_not_seen_have_next_to_no_size(tmp_path):
    scene = made_scene(24)
    (path,) = GlbExporter().write(scene, tmp_path, ExportOptions())
    file = Glb(path)
    first, last = scene.frame_range
    for character in scene.characters:
        holder = file.node(character.name)
        for frame in range(first, last + 1):
            row = frame - int(character.frames[0])
            seen = 0 <= row < len(character) and bool(character.visible[row])
            size = file.animated(holder, "scale", seconds(scene, frame), [1, 1, 1])
            assert size == pytest.approx([1 if seen else 1e-3] * 3)


def test_the_clip_begins_at_0_whatever_its_frames_are_called(tmp_path):
    scene = made_scene(8, exact=False)
    for path in GlbExporter().write(scene, tmp_path, ExportOptions(per_person=True)):
        file = Glb(path)
        assert file.json["asset"]["extras"]["start_frame"] == 1001
        times = [file.array(sampler["input"])[:, 0] for sampler in file.json["animations"][0]["samplers"]]
        # The late person is in step with the clip, not with their own first frame.
        assert min(t[0] for t in times) == 0
        # And as long as it, although they leave early: players loop an animation when its last key has come.
        assert max(t[-1] for t in times) == pytest.approx(7 * 1001 / 30000)


def test_three_js_finds_people_who_come_late_and_walk(tmp_path):
    """Its bounds: a sphere about the mesh of the first frame, in the space of the mesh's node, which then moves it."""
    scene = made_scene(40, exact=False)
    (path,) = GlbExporter().write(scene, tmp_path, ExportOptions())
    file = Glb(path)
    for character in scene.characters:
        name = f"{character.name}_mesh"
        node, first = file.node(name), file.transforms(0.0)
        to_node = np.linalg.inv(first[node])
        local = file.mesh_at(name, 0.0) @ to_node[:3, :3].T + to_node[:3, 3]
        middle = (local.min(0) + local.max(0)) / 2
        radius = np.linalg.norm(local - middle, axis=1).max()
        for row in np.flatnonzero(character.visible)[::6]:
            time = seconds(scene, character.frames[row])
            world = file.transforms(time)[node]
            shown = file.mesh_at(name, time)
            away = np.linalg.norm(shown - (world[:3, :3] @ middle + world[:3, 3]), axis=1)
            assert np.median(away) < radius  # not every arm of this wild motion


def test_four_joints_a_vertex_are_fitted_to_the_motion():
    """Where only an arm and a leg move, few joints do; leaving the smallest weights out does not see that."""
    person = made_scene(24, exact=False).characters[1]
    still = person.local_rotations.copy()
    moving = [0, *(person.joint_names.index(name) for name in ("left_shoulder", "left_hip"))]
    still[:, np.setdiff1d(np.arange(24), moving)] = np.eye(3)
    person = replace(person, local_rotations=still)
    fitted, worst_mm = with_influences(person, 4)
    assert (fitted.skin_weights > 0).sum(1).max() == 4
    np.testing.assert_allclose(fitted.skin_weights.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(fitted.vertices(slice(0, 2)), person.vertices(slice(0, 2)))
    rows = slice(0, 24, 4)
    cut = np.where(person.skin_weights >= np.sort(person.skin_weights, 1)[:, -4:-3], person.skin_weights, 0)
    cut = replace(person, skin_weights=cut / cut.sum(1, keepdims=True))
    error, of_cut = (np.linalg.norm(p.skinned(rows) - person.skinned(rows), axis=-1).max() for p in (fitted, cut))
    assert error < 0.1e-3 < 1e-3 < of_cut
    assert 1000 * error <= worst_mm + 1e-3 < 0.1  # of all frames
    assert with_influences(person, 8) == (person, 0.0)


def test_names_clock_and_camera_are_in_the_file(tmp_path, caplog):
    scene = made_scene(24, up="z", unit="cm")
    (path,) = GlbExporter().write(scene, tmp_path, ExportOptions())
    file = Glb(path)
    extras = file.json["asset"]["extras"]
    assert (extras["fps"], extras["start_frame"], extras["end_frame"]) == ("30000/1001", 1001, 1024)
    assert [skin["name"] for skin in file.json["skins"]] == ["person_01", "person_07"]
    names = [file.json["nodes"][joint]["name"] for joint in file.json["skins"][1]["joints"]]
    assert tuple(names) == scene.characters[1].joint_names
    camera = file.json["cameras"][0]
    assert camera["extras"]["focal_length_mm"] == pytest.approx(1000 * 36 / 1280)
    assert camera["perspective"]["yfov"] == pytest.approx(2 * np.arctan(0.36))
    moved = file.transforms(0.0)[file.node("camera")]
    assert moved[:3, 3] == pytest.approx([0.3, 1.5, 4.0])  # where made_scene puts it, y up, metres
    ahead = in_metres_y_up(replace(scene, unit="m"), -scene.camera.scene_from_camera[:3, 2])
    assert -moved[:3, 2] == pytest.approx(ahead)
    assert "glTF cannot shift a lens: its camera shows people 22 px beside" in caplog.text  # (650, 340) of 1280x720


def test_quaternions_never_jump_and_one_file_a_person(tmp_path):
    scene = made_scene(60)
    paths = GlbExporter().write(scene, tmp_path, ExportOptions(per_person=True, camera=False))
    assert [path.name for path in paths] == ["person_01.glb", "person_07.glb"]
    file = Glb(paths[0])
    assert "cameras" not in file.json
    animation = file.json["animations"][0]
    steps = []
    for channel in animation["channels"]:
        if channel["target"]["path"] == "rotation":
            values = file.array(animation["samplers"][channel["sampler"]]["output"])
            assert np.abs(np.linalg.norm(values, axis=1) - 1).max() < 1e-5
            steps.append(np.linalg.norm(np.diff(values, axis=0), axis=1).max())
    assert max(steps) < 0.3  # a change of sides would be 2


def test_fewer_keys_stay_within_the_tolerance(tmp_path):
    scene = made_scene(120, exact=False)
    (whole,) = GlbExporter().write(scene, tmp_path / "whole", ExportOptions())
    (few,) = GlbExporter().write(scene, tmp_path / "few", ExportOptions(keyframe_reduce=1.0))
    assert whole.stat().st_size - few.stat().st_size > 30_000
    one, other = Glb(whole), Glb(few)
    for frame in range(1003, 1120, 23):
        before, after = (file.transforms(seconds(scene, frame)) for file in (one, other))
        for joint in one.json["skins"][0]["joints"]:  # hands, too, at the end of long chains
            assert np.linalg.norm(before[joint][:3, 3] - after[joint][:3, 3]) < 1.01e-3
        joint = one.json["skins"][0]["joints"][0]
        cosine = (np.trace(before[joint][:3, :3].T @ after[joint][:3, :3]) - 1) / 2
        assert np.degrees(np.arccos(min(cosine, 1))) < 1.01


def test_a_scene_without_people_makes_no_file(tmp_path):
    assert GlbExporter().write(replace(made_scene(6), characters=()), tmp_path, ExportOptions()) == []


def test_pygltflib_reads_it(tmp_path):
    pygltflib = pytest.importorskip("pygltflib")
    (path,) = GlbExporter().write(made_scene(6), tmp_path, ExportOptions(exact=True))
    file = pygltflib.GLTF2().load(str(path))
    assert len(file.skins) == 2
    assert len(file.skins[0].joints) == 24
    assert len(file.animations) == 1


def test_one_frame_and_facts_without_a_value(tmp_path):
    """A single frame, and metadata that JSON has no word for, still make a file."""
    scene = made_scene(40)
    one = scene.characters[0]
    rows = slice(3, 4)
    alone = replace(
        one, frames=one.frames[rows], visible=one.visible[rows], joints=one.joints[rows], params_c=None,
        local_rotations=one.local_rotations[rows], root_positions=one.root_positions[rows],
        exact_vertices=lambda chosen: one.vertices(rows)[chosen],
    )  # fmt: skip
    scene = replace(scene, characters=(alone,), metadata={"residual": float("nan"), "more": [float("inf"), 1]})
    (path,) = GlbExporter().write(scene, tmp_path, ExportOptions(exact=True, keyframe_reduce=1.0))
    file = Glb(path)
    assert file.json["asset"]["extras"]["hmrkit"] == {"residual": None, "more": [None, 1]}
    shown = file.mesh_at("person_01_mesh", 0.0)
    assert np.linalg.norm(shown - one.vertices(rows)[0], axis=1).max() < 0.6e-3


def test_pose_blend_shapes_become_sliders_from_0_to_1(tmp_path):
    scene = made_scene(20, exact=False)
    one = scene.characters[0]
    random = np.random.default_rng(0)
    shapes = random.normal(0, 0.01, (5, *one.rest_vertices.shape)).astype(np.float32)
    shapes[1:, 2000:] = 0  # most of SMPL's move few vertices: written sparsely
    weights = random.uniform(-2, 1, (len(one), 5)).astype(np.float32)
    people = (replace(one, pose_shapes=lambda: (shapes, weights)),)
    (path,) = GlbExporter().write(
        replace(scene, characters=people), tmp_path, ExportOptions(pose_shapes=True, influences=8)
    )
    file = Glb(path)
    targets = file.json["meshes"][0]["primitives"][0]["targets"]
    sparse = ["sparse" in file.json["accessors"][target["POSITION"]] for target in targets]
    assert sparse == [False, False, True, True, True, True]
    assert file.json["meshes"][0]["extras"]["targetNames"] == ["PoseBase", *(f"Pose{i:03d}" for i in range(5))]
    for row in (0, 11, 19):
        time = seconds(scene, one.frames[row])
        sliders = file.animated(file.node("person_01_mesh"), "weights", time, [])
        assert sliders.min() >= 0
        assert sliders.max() <= 1
        shaped = one.rest_vertices + np.einsum("p,pvc->vc", weights[row], shapes)
        wanted = replace(one, rest_vertices=shaped).skinned(slice(row, row + 1))[0]
        assert np.linalg.norm(file.mesh_at("person_01_mesh", time) - wanted, axis=1).max() < 0.05e-3
