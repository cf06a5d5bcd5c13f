"""BVH files are read back by a parser written for this test, from the format's description, and moved by its rules."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_scene import made_scene

from hmrkit.exporters.bvh import BvhExporter
from hmrkit.scene import ExportOptions
from hmrkit.scene.retarget import retarget


def about(axis, angles):
    """Rotations (T,3,3) by angles (T,) about the x, y or z axis."""
    rotation = np.zeros((len(angles), 3, 3))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rotation[:, axis, axis] = 1
    rotation[:, a, a] = rotation[:, b, b] = np.cos(angles)
    rotation[:, b, a], rotation[:, a, b] = np.sin(angles), -np.sin(angles)
    return rotation


def read_bvh(path):
    """-> joint names, parents, offsets, places (T,J,3) of the joints, frame time; end sites are joints called "end"."""
    words = path.read_text().split()
    motion = words.index("MOTION")
    names, parents, offsets, channels, stack = [], [], [], [], []
    i = 1
    while i < motion:
        if words[i] in ("ROOT", "JOINT", "End"):
            names.append("end" if words[i] == "End" else words[i + 1])
            parents.append(stack[-1] if stack else -1)
            i += 2
        elif words[i] == "{":
            stack.append(len(names) - 1)
            i += 1
        elif words[i] == "}":
            stack.pop()
            i += 1
        elif words[i] == "OFFSET":
            offsets.append([float(word) for word in words[i + 1 : i + 4]])
            i += 4
        else:
            assert words[i] == "CHANNELS"
            count = int(words[i + 1])
            channels += [(stack[-1], word) for word in words[i + 2 : i + 2 + count]]
            i += 2 + count
    assert words[motion + 1] == "Frames:"
    frames, frame_time = int(words[motion + 2]), float(words[motion + 5])
    rows = np.array(words[motion + 6 :], float).reshape(frames, len(channels))
    rotation, place = np.zeros((frames, len(names), 3, 3)), np.zeros((frames, len(names), 3))
    for j, parent in enumerate(parents):
        own = np.tile(np.eye(3), (frames, 1, 1))
        shift = np.tile(offsets[j], (frames, 1))
        for column, (joint, channel) in enumerate(channels):
            if joint != j:
                continue
            axis = "XYZ".index(channel[0])
            if channel.endswith("position"):
                shift[:, axis] += rows[:, column]
            else:
                own = own @ about(axis, np.radians(rows[:, column]))
        if parent < 0:
            rotation[:, j], place[:, j] = own, shift
        else:
            rotation[:, j] = rotation[:, parent] @ own
            place[:, j] = place[:, parent] + (rotation[:, parent] @ shift[..., None])[..., 0]
    return names, parents, np.array(offsets), place, rows, frame_time


@pytest.mark.parametrize(("up", "unit", "skeleton"), [("y", "cm", "smpl"), ("z", "m", "mixamo"), ("y", "m", "unreal")])
def test_joints_read_back_stand_where_ours_stand(tmp_path, up, unit, skeleton):
    scene = made_scene(frames=40, up=up, unit=unit)
    scene = replace(scene, characters=tuple(retarget(person, skeleton) for person in scene.characters))
    paths = BvhExporter().write(scene, tmp_path, ExportOptions())
    assert [p.name for p in paths] == [f"person_{i}.bvh{end}" for i in ("01", "07") for end in ("", ".json")]
    for person, path in zip(scene.characters, paths[::2], strict=True):
        names, parents, _, places, rows, frame_time = read_bvh(path)
        waiting = len(rows) - len(person)
        assert waiting == person.frames[0] - 1001  # in the rest pose, where they will appear
        assert np.all(rows[:waiting, 3:] == 0)
        assert np.all(rows[:waiting, :3] == rows[waiting, :3])
        places, rows = places[waiting:], rows[waiting:]
        assert 1 / frame_time == pytest.approx(30000 / 1001, rel=1e-9)
        found = [names.index(name) for name in person.joint_names]
        wanted = person.posed_joints()
        assert np.abs(places[:, found] - wanted).max() * scene.metres_per_unit < 2e-5
        for joint, parent in enumerate(person.parents[1:], 1):
            assert names[parents[found[joint]]] == person.joint_names[parent]
        assert names.count("end") == 5
        # The root rotates round more than once, and no angle jumps.
        assert np.ptp(rows[:, 3:6], axis=0).max() > 360
        assert np.abs(np.diff(rows[:, 3:], axis=0)).max() < 25


def test_rest_pose_is_the_persons_own_and_ends_reach_the_skin(tmp_path):
    scene = made_scene(frames=6)
    person = scene.characters[0]
    path = BvhExporter().write(scene, tmp_path, ExportOptions())[0]
    names, parents, offsets, *_ = read_bvh(path)
    rest = person.rest_joints
    for name, parent, offset in zip(names, parents, offsets, strict=True):
        if name == "end":
            assert 0.02 < np.linalg.norm(offset) < 0.35
        elif parent >= 0:
            index = [person.joint_names.index(n) for n in (name, names[parent])]
            np.testing.assert_allclose(offset, rest[index[0]] - rest[index[1]], atol=1e-6)
    head = offsets[next(j for j, parent in enumerate(parents) if names[parent] == "head")]
    top = rest[person.joint_names.index("head")] + head
    assert top[1] == pytest.approx(person.rest_vertices[:, 1].max(), abs=0.06)


def test_a_file_may_begin_with_its_person(tmp_path):
    scene = made_scene(frames=12)
    _, _, path, facts = BvhExporter().write(scene, tmp_path, ExportOptions(bvh_start="person"))
    assert len(read_bvh(path)[4]) == len(scene.characters[1])
    assert json.loads(facts.read_text())["first_frame"] == scene.characters[1].frames[0] == 1006


def test_a_t_pose_before_the_person(tmp_path):
    scene = made_scene(frames=12)
    options = ExportOptions(bvh_start="person", t_pose=True, namespace=True)
    _, _, path, facts = BvhExporter().write(scene, tmp_path, options)
    names, _, _, places, rows, _ = read_bvh(path)
    person = scene.characters[1]
    assert (len(rows), names[0]) == (len(person) + 1, "person_07:pelvis")
    assert not rows[0, 3:].any()
    np.testing.assert_allclose(places[0, 0], person.rest_joints[0], atol=1e-5)
    np.testing.assert_allclose(places[1, 0], person.root_positions[0], atol=1e-5)
    assert json.loads(facts.read_text())["first_frame"] == 1005


def test_what_bvh_cannot_say_stands_beside_it(tmp_path):
    scene = made_scene(frames=30, up="z", unit="cm")
    facts = json.loads(BvhExporter().write(scene, tmp_path, ExportOptions())[1].read_text())
    assert (facts["up"], facts["unit"], facts["fps"], facts["first_frame"]) == ("z", "cm", "30000/1001", 1001)
    assert facts["hidden_frames"] == [1011, 1012, 1013, 1014]
