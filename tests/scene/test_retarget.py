"""Other skeletons: the same joints in the same places, names and axes of the program that they are for."""

import numpy as np
import pytest
from made_scene import made_scene

from hmrkit.errors import UsageError
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
    other = retarget(made_scene(frames=2).characters[0], "mixamo")
    for name, axes in X_BOT.items():
        found = other.rest_rotations[other.joint_names.index(name)]
        angles = np.degrees(np.arccos(np.clip((found * np.array(axes, float)).sum(0), -1, 1)))
        assert angles.max() < 8, name  # people's legs are not quite parallel


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


def test_unknown_skeletons_and_characters_on_another_are_refused():
    person = made_scene(frames=2).characters[0]
    with pytest.raises(UsageError, match="choose one of mixamo, unreal"):
        retarget(person, "biped")
    with pytest.raises(ValueError, match="expected SMPL's 24 joints"):
        retarget(retarget(person, "mixamo"), "unreal")
