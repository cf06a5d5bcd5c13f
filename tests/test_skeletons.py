import pytest

from hmrkit.skeletons import BLAZEPOSE_33, COCO_17, H36M_17, SKELETONS, common_joints, get_skeleton


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=str)
def test_mirror_is_an_involution_that_fixes_only_the_middle(skeleton):
    mirror = skeleton.mirror
    assert [mirror[m] for m in mirror] == list(range(len(skeleton)))
    for i, name in enumerate(skeleton.joints):
        assert (mirror[i] == i) == (not name.startswith(("left_", "right_")))


@pytest.mark.parametrize("name", ["smpl-24", "h36m-17", "h36m-16"])
def test_body_trees_have_one_root_and_parents_before_children(name):
    parents = get_skeleton(name).parents
    assert parents[0] == -1
    assert all(p >= 0 for p in parents[1:])


def test_h36m_sides_are_where_videopose3d_has_them():
    left = [i for i, n in enumerate(H36M_17.joints) if n.startswith("left_")]
    assert left == [4, 5, 6, 11, 12, 13]


def test_common_joints_match_by_name():
    source, target = common_joints(BLAZEPOSE_33, COCO_17)
    assert len(target) == 17
    assert all(BLAZEPOSE_33.joints[s] == COCO_17.joints[t] for s, t in zip(source, target, strict=True))


def test_unknown_skeleton_names_the_known_ones():
    with pytest.raises(ValueError, match="coco-17"):
        get_skeleton("coco")
