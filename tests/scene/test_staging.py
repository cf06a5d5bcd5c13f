"""A root bone, a T-pose and namespaces change how a skeleton is written, never what it shows."""

import numpy as np
import pytest
from made_scene import made_scene

from hmrkit.errors import UsageError
from hmrkit.scene import ExportOptions
from hmrkit.scene.build import check_options
from hmrkit.scene.retarget import retarget
from hmrkit.scene.staging import staged, with_root_bone, with_t_pose


@pytest.mark.parametrize(("up", "skeleton"), [("y", "smpl"), ("z", "unreal")])
def test_the_root_bone_is_on_the_floor_and_moves_no_other_joint(up, skeleton):
    person = retarget(made_scene(frames=30, up=up, unit="cm").characters[0], skeleton)
    rooted = with_root_bone(person, up)
    assert (rooted.joint_names[0], rooted.parents[:3]) == ("root", (-1, 0, 1))
    rotation, place = rooted.posed()
    np.testing.assert_allclose(place[:, 1:], person.posed()[1], atol=1e-3)
    np.testing.assert_allclose(rotation[:, 1:], person.posed()[0], atol=1e-5)
    np.testing.assert_allclose(rooted.skinned(), person.skinned(), atol=0.01)
    vertical, floor = "xyz".index(up), [i for i in range(3) if i != "xyz".index(up)]
    np.testing.assert_allclose(place[:, 0, vertical], 0, atol=1e-5)
    np.testing.assert_allclose(place[:, 0, floor], place[:, 1][:, floor], atol=1e-3)
    np.testing.assert_allclose(rotation[:, 0, vertical, vertical], 1, atol=1e-6)  # it only rotates about the vertical
    # The person goes around more than once, and the root with them: what is left in the pelvis is its bend.
    left = rooted.local_rotations[:, 1] @ person.rest_rotations[0].T
    assert np.degrees(np.arccos((np.trace(left, axis1=1, axis2=2) - 1) / 2)).max() < 45


def test_the_t_pose_comes_before_the_clip_for_everyone():
    scene = made_scene(frames=12)
    both = staged(scene, ExportOptions(t_pose=True))
    assert both.frame_range == (1000, 1012)
    for before, after in zip(scene.characters, both.characters, strict=True):
        wait = len(after) - len(before)
        assert (after.frames[0], after.visible[0]) == (1000, True)
        assert not after.visible[1:wait].any()
        np.testing.assert_allclose(after.posed()[1][0], before.rest_joints, atol=1e-6)
        np.testing.assert_allclose(after.vertices(slice(0, 1))[0], before.rest_vertices, atol=1e-6)
        np.testing.assert_array_equal(after.vertices(slice(wait, None)), before.vertices())
        np.testing.assert_array_equal(after.posed()[1][wait:], before.posed()[1])
    own = staged(scene, ExportOptions(t_pose=True), from_clip=False)
    assert [int(person.frames[0]) for person in own.characters] == [1000, 1005]


def test_a_root_bone_keeps_its_place_in_the_t_pose():
    person = made_scene(frames=4).characters[0]
    first = with_t_pose(with_root_bone(person, "y"), 999)
    np.testing.assert_allclose(first.posed()[1][0, 1:], person.rest_joints, atol=1e-6)


def test_a_root_bone_wants_a_floor():
    with pytest.raises(UsageError, match=r"--root-bone .* add --space world"):
        check_options(ExportOptions(root_bone=True))
