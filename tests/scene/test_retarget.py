"""Other skeletons: the same joints in the same places, names and axes of the program that they are for."""

import numpy as np
import pytest
from made_scene import made_scene

from hmrkit.errors import UsageError
from hmrkit.exporters.writing import export_take
from hmrkit.scene import ExportOptions
from hmrkit.scene.retarget import retarget
from hmrkit.scene.rigs import load_rig
from hmrkit.skeletons import RIGS

# Axes (columns x, y, z) of Mixamo's X Bot in its T-pose, y up, facing +z, to two digits.
X_BOT = {
    "mixamorig:Hips": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "mixamorig:LeftArm": [[0, 1, 0], [0, 0, -1], [-1, 0, 0]],
    "mixamorig:RightForeArm": [[0, -1, 0], [0, 0, -1], [1, 0, 0]],
    "mixamorig:LeftUpLeg": [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
    "mixamorig:RightLeg": [[-1, 0, 0], [0, -1, -0.07], [0, -0.07, 1]],
    "mixamorig:LeftToeBase": [[-1, 0, 0], [0, 0, 1], [0, 1, 0]],
}

# As Unreal Engine 4 exports its mannequin, read with y up; columns as above. Its proportions are not the person's.
MANNEQUIN = {
    "pelvis": [[0, 0, -1], [1, 0, 0], [0, -1, 0]],
    "thigh_l": [[-0.12, -0.15, -0.98], [0.99, 0.01, -0.13], [0.03, -0.99, 0.15]],
    "thigh_r": [[-0.12, -0.15, -0.98], [-0.99, -0.01, 0.13], [-0.03, 0.99, -0.15]],
    "ball_l": [[0.05, -0.01, -1], [-0.04, 1, -0.02], [1, 0.05, 0.05]],
    "ball_r": [[0.05, -0.01, -1], [0.04, -1, 0.02], [-1, -0.05, -0.05]],
    "clavicle_l": [[0.88, -0.45, 0.15], [-0.17, 0, 0.99], [-0.44, -0.89, -0.08]],
    "lowerarm_l": [[0.72, 0.23, 0.66], [-0.55, -0.4, 0.74], [0.43, -0.89, -0.16]],
    "lowerarm_r": [[0.72, 0.23, 0.66], [0.55, 0.4, -0.74], [-0.43, 0.89, 0.16]],
    "hand_l": [[0.69, -0.61, 0.39], [-0.58, -0.79, -0.22], [0.44, -0.07, -0.89]],
}
# Of Rigify's human metarig.
METARIG = {
    "spine": [[1, 0, 0], [0, 0.97, -0.25], [0, 0.25, 0.97]],
    "shin.L": [[1, 0, 0], [0, -1, -0.1], [0, 0.1, -1]],
    "foot.R": [[1, 0, 0], [0, -0.53, -0.85], [0, 0.85, -0.53]],
    "upper_arm.L": [[-0.48, 0.86, 0.19], [-0.88, -0.47, -0.1], [0, -0.21, 0.98]],
    "upper_arm.R": [[-0.48, -0.86, -0.19], [0.88, -0.47, -0.1], [0, -0.21, 0.98]],
}


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("skeleton", RIGS)
def test_joints_stay_where_they_were(skeleton, up):
    person = made_scene(frames=20, up=up, unit="cm").characters[0]
    other = retarget(person, skeleton)
    np.testing.assert_allclose(other.posed_joints(), person.posed_joints(), atol=0.01)
    assert other.parents == person.parents
    for rotations in (other.rest_rotations, other.local_rotations):
        np.testing.assert_allclose(
            rotations @ np.swapaxes(rotations, -1, -2), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-5
        )
        assert np.linalg.det(rotations).min() > 0.99
    if not load_rig(skeleton).arms_down_deg:
        np.testing.assert_allclose(other.skinned(), person.skinned(), atol=0.01)  # 0.1 mm
    assert retarget(person, "smpl") is person


def test_unreal_shows_the_same_mesh_in_its_a_pose_and_near_it():
    person = made_scene(frames=20).characters[0]
    other = retarget(person, "unreal")
    wrist, shoulder = (other.rest_joints[other.joint_names.index(name)] for name in ("hand_l", "upperarm_l"))
    arm = wrist - shoulder
    assert np.degrees(np.arctan2(-arm[1], arm[0])) == pytest.approx(45, abs=1)
    # At rest nothing is moved by skinning; elsewhere only the folds about the shoulders differ.
    difference = np.linalg.norm(other.skinned() - person.skinned(), axis=-1)
    assert difference.mean() < 0.001
    assert difference.max() < 0.04
    far = (
        person.skin_weights[:, [person.joint_names.index(f"{side}_shoulder") for side in ("left", "right")]].sum(1) == 0
    )
    torso = far & (person.skin_weights[:, :12].sum(1) > 0.99)
    assert difference[:, torso].max() < 1e-5


def test_mixamo_has_its_names_and_the_axes_of_x_bot():
    names = [bone.name for bone in load_rig("mixamo").bones]
    assert len(set(names)) == 24
    assert all(name.startswith("mixamorig:") for name in names)


@pytest.mark.parametrize(("skeleton", "known", "degrees"), [
    ("mixamo", X_BOT, 8),  # people's legs are not quite parallel
    ("unreal", MANNEQUIN, 35), ("unreal5", MANNEQUIN, 35), ("metahuman", MANNEQUIN, 35),
    ("rigify", METARIG, 35),  # whose arms are lowered
])  # fmt: skip
def test_axes_are_those_of_the_programs_own_character(skeleton, known, degrees):
    other = retarget(made_scene(frames=2).characters[0], skeleton)
    for name, axes in known.items():
        found = other.rest_rotations[other.joint_names.index(name)]
        angles = np.degrees(np.arccos(np.clip((found * np.array(axes, float)).sum(0), -1, 1)))
        assert angles.max() < degrees, name


@pytest.mark.parametrize("skeleton", ["mixamo", "unreal"])
def test_bones_lie_along_one_axis_of_their_parent(skeleton):
    other = retarget(made_scene(frames=2, up="z").characters[0], skeleton)
    prefix, ends = ("mixamorig:", {"LeftForeArm": "y", "RightForeArm": "y", "LeftLeg": "y", "RightLeg": "y"})
    if skeleton == "unreal":
        prefix, ends = "", {"lowerarm_l": "x", "lowerarm_r": "-x", "calf_l": "-x", "calf_r": "x"}
    for name, axis in ends.items():
        joint = other.joint_names.index(prefix + name)
        parent = other.parents[joint]
        bone = other.rest_rotations[parent].T @ (other.rest_joints[joint] - other.rest_joints[parent])
        wanted = np.zeros(3)
        wanted["xyz".index(axis[-1])] = -1 if axis.startswith("-") else 1
        np.testing.assert_allclose(bone / np.linalg.norm(bone), wanted, atol=1e-5)


def test_a_presets_name_as_rig_is_its_skeleton_in_all_formats_with_one_warning(take, models, tmp_path, caplog):
    options = ExportOptions(rig="unreal", people=(1,), camera=False)
    assert options == ExportOptions(skeleton="unreal", people=(1,), camera=False)
    paths = export_take(take, tmp_path, ["bvh", "glb", "csv"], models, lambda *_: None, options)
    assert sum("A-pose" in record.getMessage() for record in caplog.records) == 1
    assert all(b"thigh_l" in path.read_bytes() for path in paths if path.suffix in (".bvh", ".glb", ".csv"))


def test_unknown_skeletons_and_characters_on_another_are_refused():
    person = made_scene(frames=2).characters[0]
    with pytest.raises(UsageError, match="choose one of mixamo, unreal"):
        retarget(person, "biped")
    with pytest.raises(ValueError, match="expected SMPL's 24 joints"):
        retarget(retarget(person, "mixamo"), "unreal")
