"""Measured errors of the pose streams: what is known of them comes back, by joint and axis, sides taken together."""

from types import SimpleNamespace

import numpy as np
import pytest
from synthetic_person import BODY, make_person

from hmrkit.datasets import GroundTruth
from hmrkit.errors import InputError
from hmrkit.skeletons import H36M_17, SMPL_24
from hmrkit.training import pose_uncertainty
from hmrkit.training.pose_uncertainty import measure, true_pose
from hmrkit.types import LiftedPose

PERSON = make_person(frames=slice(0, 20))
MODELS = SimpleNamespace(
    body=BODY, keypoints=SimpleNamespace(weights_sha256="k"), lifter=SimpleNamespace(weights_sha256="l")
)


def truth_of(valid) -> GroundTruth:
    boxes = PERSON.track.boxes_xyxy
    return GroundTruth("a", np.arange(20), valid, boxes, PERSON.joints.astype(np.float32), SMPL_24)


def measured(monkeypatch, valid, wrong):
    """What is measured where the lifted pose is the truth but for steps `wrong` (17,3) m, half of the time."""
    truth = truth_of(valid)
    lifted = true_pose(truth_of(np.ones(20, bool)), np.arange(20)).joints_c + wrong * (np.arange(20) % 2)[:, None, None]
    take = SimpleNamespace(
        lifted={1: LiftedPose(lifted.astype(np.float32), "h36m-17")}, keypoints={1: PERSON.keypoints}
    )
    sequence = SimpleNamespace(people=(truth,))
    made = [(take, {1: (0, np.arange(20))})]
    monkeypatch.setattr(pose_uncertainty, "takes_with_true_boxes", lambda *_: made)
    dataset = SimpleNamespace(name="x", check=lambda: None, sequences=lambda: iter([sequence]))
    return measure(dataset, MODELS)


def test_errors_come_back_by_joint_and_axis(monkeypatch):
    wrong = np.zeros((17, 3))
    wrong[H36M_17.index["thorax"]] = [0.03, -0.03, 0.05]
    wrong[H36M_17.index["left_wrist"]] = [0, 0, 0.04]
    entry = measured(monkeypatch, np.arange(20) != 4, wrong)
    half = (10 / 19) ** 0.5  # of the frames that count
    assert entry["frames"] == 19
    joints = entry["joints"]
    np.testing.assert_allclose(joints["thorax"]["lifted_mm"], [30 * half, 50 * half], rtol=0.03)
    for side in ("left", "right"):
        np.testing.assert_allclose(joints[f"{side}_wrist"]["lifted_mm"][1], 40 * half / 2**0.5, rtol=0.05)
    assert 0 < joints["left_knee"]["direct_mm"][0] < 20  # what lies between the mark and the joint
    assert "head_top" not in joints  # which the truth does not have
    assert all(-1 <= c <= 1 for facts in joints.values() for c in facts["correlation"])


def test_without_truth_nothing_is_measured(monkeypatch):
    with pytest.raises(InputError, match="true 3D joints"):
        measured(monkeypatch, np.zeros(20, bool), np.zeros((17, 3)))
