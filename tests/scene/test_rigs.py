"""Rigs: read, drafted from characters, driven, and read back from files as other programs read them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from in_process import hmrkit
from made_character import angles_deg, bones_of, hero_rig, made_character
from made_scene import made_scene

from hmrkit.errors import InputError, UsageError
from hmrkit.exporters import check_format_options, load_exporter
from hmrkit.scene import ExportOptions
from hmrkit.scene.build import check_options
from hmrkit.scene.rigs import load_rig, save_rig
from hmrkit.scene.rigs.characters import Bones, read_bones
from hmrkit.scene.rigs.checking import describe
from hmrkit.scene.rigs.drafting import draft
from hmrkit.scene.staging import staged
from hmrkit.skeletons import RIGS, SMPL_24

# Columns of `angles_deg` of bones that end there.
LIMBS = [i - 1 for i, joint in enumerate(SMPL_24.joints) if joint.split("_")[-1] in ("knee", "ankle", "elbow", "wrist")]


@pytest.fixture(scope="module")
def characters(tmp_path_factory):
    """Files of a character: kind -> path."""
    made = {}
    for name, up, unit in (("glb", "y", "m"), ("fbx", "z", "cm")):
        if name == "fbx":
            pytest.importorskip("ufbx")
        scene = made_character("unreal", up, unit, rename=lambda bone: f"hero:{bone}")
        options = ExportOptions(camera=False, up=up, unit=unit)
        (made[name],) = load_exporter(name).write(scene, tmp_path_factory.mktemp(name), options)
    return made


@pytest.fixture(scope="module")
def rig_file(tmp_path_factory):
    return hero_rig(tmp_path_factory.mktemp("rig"))


@pytest.mark.parametrize("kind", ["glb", "fbx"])
def test_a_characters_bones_are_read_in_metres_with_y_up(kind, characters):
    bones, wanted = read_bones(characters[kind]), made_character("unreal").characters[0]
    order = [bones.names.index(f"hero:{name}") for name in wanted.joint_names]
    assert [order.index(bones.parents[bone]) if bone else -1 for bone in order] == list(wanted.parents)
    np.testing.assert_allclose(bones.places[order], wanted.rest_joints, atol=1e-4)
    assert bones.floor == pytest.approx(wanted.rest_vertices[:, 1].min(), abs=1e-4)
    assert bones.unit == pytest.approx(1 if kind == "glb" else 0.01)
    if kind == "glb":  # the other's are rotated with its axes
        np.testing.assert_allclose(bones.rotations[order], wanted.rest_rotations, atol=1e-4)


def test_a_glb_whose_mesh_has_other_axes_and_units_than_its_nodes(characters, tmp_path):
    """As programs write characters in centimetres, with z up: a node above the bones gives them size and axes."""
    bones, (document, write) = read_bones(characters["glb"]), _glb_parts(characters["glb"], tmp_path / "other.glb")
    holder = next(node for node in document["nodes"] if node["name"] == "hero")
    holder |= {"rotation": [0, 2**-0.5, 0, 2**-0.5], "scale": [2, 2, 2], "translation": [1, 0, 0]}
    wanted = 2 * bones.places[:, [2, 1, 0]] * [1, 1, -1] + [1, 0, 0]
    read = read_bones(write(json.dumps(document)))
    np.testing.assert_allclose(read.places, wanted, atol=1e-4)
    assert read.unit == pytest.approx(2)
    rig = draft(read, "hero")  # it faces +x
    assert (rig.unit, rig.heading_deg) == (pytest.approx(2), pytest.approx(90, abs=0.1))
    assert any(line.startswith("faces 90 degrees from +z: rotate it by -90 degrees") for line in describe(rig))


@pytest.mark.parametrize(("formats", "unit", "warned"), [
    (["fbx", "bvh"], "cm", None), (["fbx"], "m", "in fbx are not"), (["glb", "fbx"], "cm", "in glb are not"),
])  # fmt: skip
def test_files_in_another_unit_than_the_bones_are_warned_of(rig_file, tmp_path, caplog, formats, unit, warned):
    path = tmp_path / "small.json"
    save_rig(path, replace(load_rig(str(rig_file)), unit=0.01))
    check_format_options(formats, ExportOptions(rig=str(path), unit=unit))
    assert (warned is None) == (caplog.text == "")
    assert warned is None or warned in caplog.text


@pytest.mark.parametrize(("bones_m", "formats", "options", "advice"), [
    (0.01, ["fbx"], {}, "use --units cm"),
    (0.01, ["bvh", "usd"], {"scale": 2.0}, "use --units cm and leave out --scale"),
    (0.01, ["glb", "fbx"], {"unit": "cm"}, "use --format fbx --units cm"),
    (1.0, ["glb", "fbx"], {"scale": 2.0}, "use --units m and leave out --scale"),
    (0.0254, ["glb"], {}, "use --units m --scale 39.3701"),
])  # fmt: skip
def test_the_advice_is_followed_without_another_warning(rig_file, tmp_path, caplog, bones_m, formats, options, advice):
    path = tmp_path / "other.json"
    save_rig(path, replace(load_rig(str(rig_file)), unit=bones_m))
    check_format_options(formats, ExportOptions(rig=str(path), **options))
    assert caplog.messages[-1].endswith(advice)
    given = dict(zip(advice.split(), advice.split()[1:], strict=False))
    options = {"unit": given["--units"], "scale": 1.0 if "leave" in given else float(given.get("--scale", 1))}
    caplog.clear()
    check_format_options(given.get("--format", ",".join(formats)).split(","), ExportOptions(rig=str(path), **options))
    assert caplog.text == ""


def test_a_draft_keeps_the_unit_of_a_tiny_root(rig_file, tmp_path):
    for unit, kept in ((1.23456789e-7, 1.23457e-7), (0.0, None)):
        drafted = draft(replace(bones_of(made_character().characters[0]), unit=unit), "tiny")
        save_rig(tmp_path / "tiny.json", drafted, overwrite=True)
        assert load_rig(str(tmp_path / "tiny.json")).unit == kept


def _glb_parts(path, other):
    """The JSON of a GLB, and a function that writes another one with other JSON, a text."""
    content = path.read_bytes()
    size = int.from_bytes(content[12:16], "little")

    def write(text):
        chunk = text.encode() + b" " * (-len(text) % 4)
        other.write_bytes(content[:12] + len(chunk).to_bytes(4, "little") + b"JSON" + chunk + content[20 + size :])
        return other

    return json.loads(content[20 : 20 + size]), write


@pytest.mark.parametrize("skeleton", ["smpl", *RIGS])
def test_names_and_places_alike_show_which_bone_is_which(skeleton):
    person = made_character(skeleton).characters[0]
    wanted = dict(zip(SMPL_24.joints, range(1, 25), strict=True))
    by_name = draft(bones_of(person), "hero").bone_of
    # CMU's pelvis is called root, as the bone above it.
    assert by_name == (wanted | {"pelvis": 0} if skeleton == "cmu" else wanted)
    nameless = replace(bones_of(person), names=tuple(f"node_{i}" for i in range(len(person.joint_names))))
    assert draft(nameless, "hero").bone_of == wanted


def test_usual_names_of_no_preset():
    """As in Character Studio, with numbers and words around them; a pelvis that nothing is called."""
    names = {
        "pelvis": "Bip01 Center", "spine1": "Bip01 Spine", "spine2": "Bip01 Spine1", "spine3": "Bip01 Spine2",
        "neck": "Bip01 Neck", "head": "Bip01 Head",
    }  # fmt: skip
    sided = {
        "hip": "Thigh", "knee": "Calf", "ankle": "Foot", "foot": "Toe0", "collar": "Clavicle", "shoulder": "UpperArm",
        "elbow": "Forearm", "wrist": "Hand", "hand": "Finger2",
    }  # fmt: skip
    for side in ("left", "right"):
        names |= {f"{side}_{joint}": f"Bip01 {side[0].upper()} {name}" for joint, name in sided.items()}
    person = made_character("smpl", rename=lambda name: names.get(name, name)).characters[0]
    squashed = replace(bones_of(person), places=np.zeros((26, 3)))  # nothing to be seen by places
    found = draft(squashed, "hero")
    missing = set(SMPL_24.joints) - set(found.bone_of)
    assert missing == {"left_hand", "right_hand"}
    assert all(found.bone_of[joint] == i + 1 for i, joint in enumerate(SMPL_24.joints) if joint not in missing)


def test_names_that_only_count_give_way_to_places():
    """As of glTF's sample figures: all of a leg is called leg, which elsewhere is the shin."""
    limbs = {"hip": "leg_1", "knee": "leg_2", "ankle": "leg_3", "foot": "leg_5", "shoulder": "arm_1", "elbow": "arm_2"}
    limbs |= {"collar": "arm_0", "wrist": "arm_3", "hand": "arm_4", "pelvis": "torso_1", "spine1": "torso_2"}

    def name(joint):
        side, _, part = joint.rpartition("_")
        return f"{limbs.get(part, part)}_joint_{side[:1].upper()}"

    bones = bones_of(made_character("smpl", rename=name).characters[0])
    assert draft(bones, "figure").bone_of == dict(zip(SMPL_24.joints, range(1, 25), strict=True))


def test_a_bone_called_pelvis_that_carries_only_the_legs_is_not_the_pelvis():
    """DAZ's and Character Creator's: the spine stands on the bone above it."""
    bones = bones_of(made_character("unreal").characters[0])
    spine = bones.names.index("spine_01")
    parents = tuple(0 if bone == spine else parent for bone, parent in enumerate(bones.parents))
    rig = draft(replace(bones, parents=parents), "hero")
    assert (rig.bone_of["pelvis"], rig.bones[1].joint) == (0, None)


@pytest.mark.parametrize(("up", "unit"), [("y", "m"), ("z", "cm")])
def test_a_driven_character_points_where_the_person_does(up, unit, rig_file):
    scene = made_scene(frames=24, up=up, unit=unit, exact=False)
    rig, driven = load_rig(str(rig_file)), staged(scene, ExportOptions(rig=str(rig_file)))
    order = [rig.bone_of[joint] for joint in SMPL_24.joints]
    leg = [rig.bone_of[f"left_{joint}"] for joint in ("hip", "knee", "ankle")]
    lengths = np.linalg.norm(np.diff(rig.bind()[1][leg], axis=0), axis=1)
    for number, (person, character) in enumerate(zip(scene.characters, driven.characters, strict=True)):
        angles = angles_deg(person.posed()[1], character.posed()[1][:, order])
        # The second person's trunk is not shaped as the character's: it bends as much, from where the character's is.
        assert (angles if number == 0 else angles[:, LIMBS]).max() < 0.1
        assert angles.max() < 15
        posed = character.posed()[1] * scene.metres_per_unit
        found = np.linalg.norm(np.diff(posed[:, leg], axis=1), axis=-1)
        np.testing.assert_allclose(found, np.tile(lengths, (len(found), 1)), atol=1e-4)
        # Its root is on the floor below the pelvis.
        vertical = "xyz".index(up)
        np.testing.assert_allclose(posed[:, 0, vertical], 0, atol=1e-6)
        np.testing.assert_allclose(np.delete(posed[:, 0] - posed[:, 1], vertical, 1), 0, atol=1e-5)


def test_the_lower_foot_is_as_far_above_the_ground_as_the_persons(rig_file, tmp_path):
    """Up to the ratio of the legs' lengths, however the person crouches; travel has that ratio, too."""
    scene, rig = made_scene(frames=24, exact=False), load_rig(str(rig_file))
    (person, _), (character, _) = scene.characters, staged(scene, ExportOptions(rig=str(rig_file))).characters
    soles = SMPL_24.indices("left_ankle", "right_ankle", "left_foot", "right_foot")
    bones = [rig.bone_of[SMPL_24.joints[joint]] for joint in soles]
    legs = [f"left_{joint}" for joint in ("hip", "knee", "ankle")]
    ours, hers = person.rest_joints[SMPL_24.indices(*legs)], character.rest_joints[[rig.bone_of[j] for j in legs]]
    ratio = np.divide(*(np.linalg.norm(np.diff(rest, axis=0), axis=1).sum() for rest in (hers, ours)))
    assert ratio > 1.15
    above = person.posed()[1][:, soles, 1] - (person.rest_joints[soles, 1] - person.rest_vertices[:, 1].min())
    theirs = character.posed()[1][:, bones, 1] - character.rest_joints[bones, 1]
    lower = above.argmin(1)
    error = np.take_along_axis(theirs - ratio * above, lower[:, None], 1)
    assert np.abs(error).max() < 0.02
    text = rig_file.read_text().replace('"root": "floor"', '"root": "floor", "floor": -0.05')
    (tmp_path / "deep.json").write_text(text)  # the same with soles that reach further down
    (deep, _) = staged(scene, ExportOptions(rig=str(tmp_path / "deep.json"))).characters
    np.testing.assert_allclose(deep.posed()[1][:, bones, 1] - character.posed()[1][:, bones, 1], 0.05, atol=1e-5)
    travel = [np.linalg.norm(c.posed()[1][-1, j] - c.posed()[1][0, j]) for c, j in ((person, 0), (character, 1))]
    assert travel[1] / travel[0] == pytest.approx(ratio, rel=0.05)


def test_bvh_and_usd_have_the_characters_bones(rig_file, tmp_path):
    scene = made_scene(frames=4, exact=False)
    options = ExportOptions(rig=str(rig_file), camera=False)
    path = load_exporter("bvh").write(scene, tmp_path, options)[0]
    text = path.read_text()
    assert "ROOT hero:pelvis" in text  # bvh moves roots only
    assert "JOINT hero:twist_1" in text
    pytest.importorskip("pxr")
    (path,) = load_exporter("usd").write(scene, tmp_path, options)
    from pxr import Usd, UsdSkel

    stage = Usd.Stage.Open(str(path))
    joints = UsdSkel.Skeleton(stage.GetPrimAtPath("/clip/person_01/person_01_rig")).GetJointsAttr().Get()
    assert joints[:2] == ["hero_root", "hero_root/hero_pelvis"]


def test_the_stand_in_is_a_body_of_the_characters_size(rig_file):
    scene = made_scene(frames=2, exact=False)
    person, character = scene.characters[0], staged(scene, ExportOptions(rig=str(rig_file))).characters[0]
    assert character.rest_vertices.shape == person.rest_vertices.shape
    np.testing.assert_allclose(character.skin_weights.sum(1), 1, atol=1e-5)
    sizes = [np.ptp(vertices, axis=0) for vertices in (character.rest_vertices, character.rest_joints)]
    assert (sizes[0] > sizes[1]).all()
    assert sizes[0][1] < 1.25 * sizes[1][1]


def test_rigs_that_cannot_be_used_say_why(tmp_path, rig_file):
    whole = json.loads(rig_file.read_text())

    def refused(**changes):
        (tmp_path / "bad.json").write_text(json.dumps(whole | changes))
        with pytest.raises(InputError) as error:
            load_rig(str(tmp_path / "bad.json"))
        return str(error.value)

    bones = whole["bones"]
    assert "version 1" in refused(version=9)
    kneeless = [bone | {"joint": None} if bone["joint"] == "left_knee" else bone for bone in bones]
    assert "driven by left_knee" in refused(bones=kneeless)
    assert "no joint 'tail'" in refused(bones=[*bones[:-1], bones[-1] | {"joint": "tail"}])
    assert "its parent nobody" in refused(bones=[*bones[:-1], bones[-1] | {"parent": "nobody"}])
    for place, rotation in (([1, 2], [0, 0, 0, 1]), ([0, 0, 0, 1], [0, 0, 1]), ("0 0 0", [0, 0, 0, 1])):
        odd = bones[-1] | {"place": place, "rotation": rotation}
        assert f"bone {odd['name']}: wanted a place of 3 numbers" in refused(bones=[*bones[:-1], odd])
    assert "wanted a list of bones" in refused(bones=None)
    assert "floor: wanted a length in metres" in refused(floor="low")
    assert "unit: wanted a length above 0" in refused(unit=0)
    assert "one bone without a parent" in refused(bones=[*bones[:-1], bones[-1] | {"parent": None}])
    arm = next(i for i, bone in enumerate(bones) if bone["joint"] == "left_collar")
    loose = [*bones[:arm], bones[arm] | {"parent": bones[0]["name"]}, *bones[arm + 1 :]]
    assert "left_shoulder must be below that of pelvis" in refused(bones=loose)
    other = {"left_knee": "right_knee", "right_knee": "left_knee"}
    crossed = [bone | {"joint": other.get(bone["joint"], bone["joint"])} for bone in bones]
    assert "left_knee must be below that of left_hip" in refused(bones=crossed)
    assert "names more than one bone" in refused(bones=[*bones, bones[-1]])
    flat = [bone | {"place": [0, 0, 0]} if bone["joint"] == "right_wrist" else bone for bone in bones]
    assert "right_elbow and right_wrist are at one place" in refused(bones=flat)
    with pytest.raises(UsageError, match=r"unknown rig 'mixami'; choose one of mixamo"):
        load_rig("mixami")
    with pytest.raises(UsageError, match=r"`hmrkit rig from /a/hero.glb -o hero.json` makes one"):
        load_rig("/a/hero.glb")
    with pytest.raises(UsageError, match="leave out --skeleton"):
        check_options(ExportOptions(rig=str(rig_file), skeleton="mixamo"))
    with pytest.raises(UsageError, match="leave them out"):
        check_options(ExportOptions(rig=str(rig_file), exact=True))


def test_characters_that_cannot_be_read_say_why(tmp_path):
    for name, content in (("a.glb", b"glTF" + bytes(20)), ("b.glb", b""), ("c.obj", b"v 0 0 0")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="wanted a character"):
            read_bones(tmp_path / name)
    with pytest.raises(InputError, match="No such file"):
        read_bones(tmp_path / "none.fbx")


def test_damaged_characters_are_refused_in_one_line(characters, tmp_path):
    document, write = _glb_parts(characters["glb"], tmp_path / "bad.glb")
    (skin,) = document["skins"]
    joint = skin["joints"][3]
    gone = [7 if n == joint else node for n, node in enumerate(document["nodes"])]
    circle = [node | {"children": [n]} for n, node in enumerate(document["nodes"])]
    huge = [node | {"translation": [10**400, 0, 0]} for node in document["nodes"]]
    damaged = {
        "without joints": json.dumps(document | {"skins": [skin | {"joints": []}]}),
        "no object": json.dumps(document | {"nodes": gone}),
        "nested": "[" * 200_000,
        "circle": json.dumps(document | {"nodes": circle}),
        "huge": json.dumps(document | {"nodes": huge}),
    }
    for text in damaged.values():
        with pytest.raises(InputError, match="found a damaged file"):
            read_bones(write(text))


def test_a_preset_that_is_saved_keeps_its_pose(tmp_path):
    save_rig(tmp_path / "unreal.json", load_rig("unreal"))
    assert load_rig(str(tmp_path / "unreal.json")) == load_rig("unreal")


def test_the_commands(characters, tmp_path):
    out = tmp_path / "hero.json"
    done = hmrkit("rig", "from", characters["glb"], "-o", out)
    assert (done.returncode, done.stdout.strip()) == (0, str(out))
    text = out.read_text()
    assert hmrkit("rig", "from", characters["glb"], "-o", out).returncode == 0  # the same again
    out.write_text(text + "\n")
    again = hmrkit("rig", "from", characters["glb"], "-o", out)
    assert (again.returncode, out.read_text()) == (2, text + "\n")
    assert "--overwrite" in again.stderr
    assert hmrkit("rig", "from", characters["glb"], "-o", out, "--overwrite").returncode == 0
    assert out.read_text() == text
    shown = hmrkit("rig", "check", out).stdout
    assert "24 of 24 joints" in shown
    assert "go with their parents: hero:root, hero:twist_1" in shown
    collarless = json.loads(text)
    for bone in collarless["bones"]:
        if bone["joint"] == "left_shoulder":
            bone["place"] = [0, 0, 0]
    (tmp_path / "short.json").write_text(json.dumps(collarless))
    shown = hmrkit("rig", "check", tmp_path / "short.json").stdout
    assert "no length: where hero:clavicle_l is" in shown
    assert hmrkit("rig", "check", "unity").returncode == 0
    assert hmrkit("rig", "check", tmp_path / "none.json").returncode == 4


def test_a_draft_without_arms_is_written_and_says_what_it_lacks(tmp_path, characters):
    bones = read_bones(characters["glb"])
    arms = ("arm", "hand", "middle", "twist")
    cut = [i for i, name in enumerate(bones.names) if not any(word in name for word in arms)]
    fewer = Bones(
        tuple(bones.names[i] for i in cut), tuple(cut.index(bones.parents[i]) if i else -1 for i in cut),
        bones.rotations[cut], bones.places[cut],
    )  # fmt: skip
    rig = draft(fewer, "torso")
    assert "left_elbow" not in rig.bone_of
    save_rig(tmp_path / "torso.json", rig)
    with pytest.raises(InputError, match=r"nothing is driven by left_shoulder"):
        load_rig(str(tmp_path / "torso.json"))
