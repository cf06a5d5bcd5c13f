"""Keypoints in the order of joints that a lifter reads."""

import numpy as np
import pytest
from made_keypoints import waving

from hmrkit.errors import InputError
from hmrkit.lifters.inputs import convert_keypoints
from hmrkit.skeletons import BLAZEPOSE_33, COCO_17, H36M_16, H36M_17, SMPL_24


@pytest.fixture
def blazepose():
    """Keypoints in BlazePose's order, those that COCO lacks missing."""
    points = np.full((9, 33, 3), np.nan, np.float32)
    points[:, BLAZEPOSE_33.indices(*COCO_17.joints)] = waving(9)
    return points


def test_joints_that_the_stream_names_are_taken_as_they_are(blazepose):
    np.testing.assert_array_equal(convert_keypoints(blazepose, BLAZEPOSE_33, COCO_17), waving(9))
    points = np.random.default_rng(0).normal(size=(3, 17, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        convert_keypoints(points, H36M_17, H36M_16), np.delete(points, H36M_17.index["nose"], 1)
    )


@pytest.mark.parametrize("target", [H36M_16, H36M_17])
def test_human36m_from_blazepose_and_coco(blazepose, target):
    points = waving(9)
    found = convert_keypoints(blazepose, BLAZEPOSE_33, target)
    np.testing.assert_array_equal(found, convert_keypoints(points, COCO_17, target))
    joint = dict(zip(target.joints, found.swapaxes(0, 1), strict=True))
    seen = dict(zip(COCO_17.joints, points.swapaxes(0, 1), strict=True))
    np.testing.assert_array_equal(joint["left_wrist"], seen["left_wrist"])
    np.testing.assert_allclose(joint["pelvis"], (seen["left_hip"] + seen["right_hip"]) / 2, rtol=1e-5)
    np.testing.assert_allclose(joint["spine"], (joint["pelvis"] + joint["thorax"]) / 2, rtol=1e-5)
    assert (joint["head_top"][:, 1] < seen["left_ear"][:, 1]).all()  # above the ears
    mirrored = convert_keypoints(points[:, list(COCO_17.mirror)], COCO_17, target)
    np.testing.assert_allclose(mirrored, found[:, list(target.mirror)], atol=1e-3)


def test_a_sum_is_missing_with_its_parts_and_as_sure_as_the_least_sure():
    points = waving(4)
    points[0, COCO_17.index["left_hip"]] = np.nan, np.nan, 0
    points[1, COCO_17.index["left_hip"], 2] = 0.25
    points[2, COCO_17.index["right_ear"]] = 1e6, 1e6, 0
    found = convert_keypoints(points, COCO_17, H36M_17)
    pelvis, thorax, head = H36M_17.indices("pelvis", "thorax", "head_top")
    np.testing.assert_array_equal(found[:, pelvis, 2], [0, 0.25, 1, 1])
    np.testing.assert_array_equal(found[:, head, 2], [1, 1, 0, 1])
    assert np.isnan(found[0, pelvis, :2]).all()
    assert np.isfinite(found[:, thorax]).all()


def test_keypoints_that_do_not_suffice_are_refused():
    with pytest.raises(InputError, match="smpl-24 gives no nose, head_top"):
        convert_keypoints(np.zeros((2, 24, 3), np.float32), SMPL_24, H36M_17)
