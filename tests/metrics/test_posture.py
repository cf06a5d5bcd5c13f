"""Standing people and their flexion, on the free body posed by hand."""

import numpy as np
import pytest
import torch

from hmrkit.body import load_body
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.metrics import flexion_deg, flexion_while_standing_deg, standing_mask
from hmrkit.skeletons import SMPL_24

UP = np.array([0.0, -1.0, 0.0])
FPS = 30.0


@pytest.fixture(scope="module")
def body():
    return load_body()


def posed(body, knees, elbows=0.0, lean=0.0, frames=20, feet_speed=0.0):
    """Joints (T,24,3) m in the camera frame of someone with knees, elbows and hips flexed by these degrees."""
    angles = torch.zeros(24, 3)
    for side, sign in (("left", 1), ("right", -1)):
        angles[SMPL_24.index[f"{side}_hip"], 0] = -np.radians(knees / 2 + lean)
        angles[SMPL_24.index[f"{side}_knee"], 0] = np.radians(knees)
        angles[SMPL_24.index[f"{side}_elbow"], 1] = -sign * np.radians(elbows)
    angles[0, 0] = np.radians(lean)
    pose = axis_angle_to_matrix(angles)[None]
    rest = body.joints_only(torch.eye(3)[None], torch.eye(3).repeat(1, 23, 1, 1), torch.zeros(10), torch.zeros(1, 3))
    joints = body.joints_only(pose[:, 0], pose[:, 1:], torch.zeros(10), torch.zeros(1, 3)).joints[0].numpy()
    joints = joints * [1, -1, -1] + [0, 0, 3]
    moved = np.arange(frames)[:, None, None] * np.array([feet_speed / FPS, 0, 0])
    return joints + moved, rest.joints[0].numpy()


def test_flexion_is_measured_against_the_bodys_own_t_pose(body):
    joints, rest = posed(body, knees=0)
    assert np.abs(flexion_deg(joints, rest, "left_knee")).max() < 0.01
    joints, rest = posed(body, knees=40, elbows=70)
    for name, truth in (("left_knee", 40), ("right_knee", 40), ("left_elbow", 70), ("right_elbow", 70)):
        assert flexion_deg(joints, rest, name) == pytest.approx(np.full(20, truth), abs=4), name


@pytest.mark.parametrize(
    ("pose", "stands"),
    [
        ({"knees": 0}, True),
        ({"knees": 30}, True),  # a half crouch is what the figure has to show
        ({"knees": 100}, False),  # a squat
        ({"knees": 0, "lean": 45}, False),  # bends down
        ({"knees": 0, "feet_speed": 1.0}, False),
        ({"knees": 0, "frames": 1}, False),
    ],
)
def test_who_stands(body, pose, stands):
    joints, rest = posed(body, **pose)
    assert standing_mask(joints, rest, FPS, UP).tolist() == [stands] * len(joints)


def test_only_standing_frames_count_and_gaps_do_not(body):
    (tall, rest), (squat, _) = posed(body, knees=20), posed(body, knees=100)
    joints = np.concatenate([tall, squat])
    joints[3] = np.nan
    values = flexion_while_standing_deg(joints, rest, FPS, UP)
    assert values["left_knee"] == pytest.approx(20, abs=3)
    assert np.isnan(flexion_while_standing_deg(squat, rest, FPS, UP)["left_knee"])
