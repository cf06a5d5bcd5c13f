"""Occlusion: the paper's sizes in pixels, whatever the image's scale, and curves."""

from itertools import pairwise

import numpy as np
import pytest

from hmrkit.errors import UsageError
from hmrkit.evaluation.occlusion import (
    DEGREES,
    KINDS,
    OcclusionCurve,
    bar_angle,
    occlude,
    occlusion_mask,
    save_curves_png,
)

MIDDLE = np.array([112.0, 112.0])
CROP = np.array([0.0, 0.0, 224.0, 224.0])
IMAGE = np.random.default_rng(0).integers(1, 255, (224, 224, 3), dtype=np.uint8)


@pytest.mark.parametrize("degree", DEGREES)
def test_sizes_are_the_papers_in_a_crop_of_224_pixels(degree):
    area = {kind: occlusion_mask(224, 224, MIDDLE, CROP, kind, degree, expand=1).sum() for kind in KINDS}
    assert area["bar"] == 10 * degree * 224
    assert area["circle"] == pytest.approx(np.pi * (10 * degree) ** 2, rel=0.03)
    assert area["rectangle"] == pytest.approx(3000 * degree, rel=0.03)


@pytest.mark.parametrize("kind", KINDS)
def test_the_covered_part_of_a_person_does_not_depend_on_the_images_scale(kind):
    small = occlusion_mask(224, 224, MIDDLE, CROP, kind, 3, angle=0.6, expand=1)
    large = occlusion_mask(896, 896, 4 * MIDDLE, 4 * CROP, kind, 3, angle=0.6, expand=1)
    assert np.mean(large[2::4, 2::4] == small) > 0.99
    box = np.array([40.0, 20.0, 140.0, 199.2])  # 1.25 times the longer side is 224
    assert np.array_equal(occlusion_mask(224, 224, MIDDLE, box, kind, 3, angle=0.6), small)


def test_a_bar_runs_through_the_joint_in_its_direction():
    joint = np.array([60.0, 150.0])
    mask = occlusion_mask(224, 224, joint, CROP, "bar", 2, angle=np.pi / 4, expand=1)
    y, x = np.nonzero(mask)
    across = (y + 0.5 - 150) * np.cos(np.pi / 4) - (x + 0.5 - 60) * np.sin(np.pi / 4)
    assert mask[150, 60]
    assert abs(across).max() <= 10
    assert x.min() == 0
    assert x.max() > 130  # y grows downwards: the bar leaves at the bottom, to the right of the joint


def test_pixels_outside_the_shape_are_untouched_and_repeats_are_equal():
    for kind in KINDS:
        hidden = occlude(IMAGE, MIDDLE, CROP, kind, 2, angle=1.0, expand=1)
        mask = occlusion_mask(224, 224, MIDDLE, CROP, kind, 2, angle=1.0, expand=1)
        assert hidden.dtype == np.uint8
        assert (hidden[mask] == 0).all()
        assert np.array_equal(hidden[~mask], IMAGE[~mask])
        assert np.array_equal(hidden, occlude(IMAGE, MIDDLE, CROP, kind, 2, angle=1.0, expand=1))
    assert (occlude(IMAGE, MIDDLE, CROP, "circle", 1, fill=(9, 8, 7))[112, 112] == [9, 8, 7]).all()


def test_degrees_contain_one_another():
    for kind in KINDS:
        masks = [occlusion_mask(224, 224, MIDDLE, CROP, kind, degree, angle=0.3, expand=1) for degree in DEGREES]
        assert all((a <= b).all() and a.sum() < b.sum() for a, b in pairwise(masks))


def test_many_people_at_once_equal_one_by_one_and_a_missing_joint_covers_nothing():
    joints = np.array([[30.0, 40.0], [np.nan, np.nan], [200.0, 100.0]])
    boxes = np.array([[0.0, 0, 100, 200], [0, 0, 100, 200], [50, 50, 90, 120]])
    images = np.stack([IMAGE] * 3)
    for kind in KINDS:
        together = occlude(images, joints, boxes, kind, 4, angle=0.2)
        single = [occlude(IMAGE, j, b, kind, 4, angle=0.2) for j, b in zip(joints, boxes, strict=True)]
        assert np.array_equal(together, np.stack(single))
        assert np.array_equal(together[1], IMAGE)


def test_bar_angles_are_fixed_and_spread_out():
    angles = np.array([bar_angle(joint) for joint in range(24)])
    assert ((angles >= 0) & (angles < np.pi)).all()
    gaps = np.diff(np.sort(np.append(angles, angles.min() + np.pi)))
    assert gaps.max() < 0.3
    assert bar_angle(1) == pytest.approx(np.pi * 0.6180339887498949)


def test_unknown_kinds_and_degrees_are_refused_in_one_line():
    for kind, degree in (("triangle", 1), ("bar", 0), ("bar", 6)):
        with pytest.raises(UsageError, match="degree from 1 to 5"):
            occlude(IMAGE, MIDDLE, CROP, kind, degree)


def test_curves_average_over_joints_and_are_drawn(tmp_path):
    errors = np.array([[70.0, 80.0, np.nan], [90.0, 100.0, 110.0]])
    curve = OcclusionCurve("bar", (1, 2), ("hip", "knee", "ankle"), errors, clean=60.0)
    assert curve.mean.tolist() == [75.0, 100.0]
    save_curves_png({"hmr": curve}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(ValueError, match="one kind"):
        save_curves_png({"a": curve, "b": OcclusionCurve("circle", (1, 2), curve.joint_names, errors)}, tmp_path / "x")
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        OcclusionCurve("bar", (1, 2), ("hip", "knee"), errors)
