"""What nobody saw: boxes without a body get no mesh, limbs out of the image are marked and hang still."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import DATA

from hmrkit.cli.info import summary
from hmrkit.keypoints.visibility import seen_joints, seen_rotations, unseen_shares, why_no_body
from hmrkit.models import Models
from hmrkit.options import Options
from hmrkit.pipeline import keep_stages, run_stages
from hmrkit.report import report
from hmrkit.skeletons import BLAZEPOSE_33, SMPL_24
from hmrkit.smoothing import smooth_body
from hmrkit.take import load_take, save_take
from hmrkit.take.editing import cut_take, merge_takes
from hmrkit.types import BodyParams, Keypoints

WIDTH, HEIGHT = 100, 200
INDEX = BLAZEPOSE_33.index


def keypoints(frames=10, confidence=0.9):
    points = np.full((frames, 33, 3), 50, np.float32)
    points[..., 1] = np.linspace(20, 180, 33)
    points[..., 2] = confidence
    return Keypoints(points, points.copy(), BLAZEPOSE_33.name)


def test_a_box_without_a_sure_body_of_its_size_has_none():
    boxes = np.tile(np.array([20, 10, 80, 190], np.float32), (10, 1))
    assert why_no_body(keypoints(), boxes) is None
    unsure = keypoints(confidence=0.2)
    assert "0% of its frames" in why_no_body(unsure, boxes)
    assert why_no_body(unsure, boxes, given=True) is None
    assert why_no_body(keypoints(confidence=0.0), boxes, given=True) == "shows no keypoint"
    unsure.keypoints_2d[4:6, :, 2] = 0.9  # somebody who is seen for a moment only
    assert why_no_body(unsure, boxes) is None
    tiny = keypoints()
    tiny.keypoints_2d[..., 1] *= 0.4
    assert why_no_body(tiny, boxes)
    lost = keypoints()
    lost.keypoints_2d[2:] = np.nan
    assert why_no_body(lost, boxes) is None
    lost.keypoints_2d[..., :2] = np.nan
    assert why_no_body(lost, boxes)


def test_joints_outside_the_image_or_unsure_are_unseen():
    points = keypoints()
    points.keypoints_2d[:, INDEX["left_knee"], 1] = 250
    points.keypoints_2d[:, INDEX["left_ankle"], 1] = 300
    points.keypoints_2d[:5, INDEX["right_wrist"], 2] = 0.05
    points.keypoints_2d[5:, INDEX["right_wrist"]] = np.nan
    seen = seen_joints(points, WIDTH, HEIGHT)
    unseen = {SMPL_24.joints[j] for j in np.flatnonzero(~seen.any(0))}
    assert unseen == {"left_knee", "left_ankle", "left_foot", "right_wrist", "right_hand"}
    rotations = {SMPL_24.joints[j] for j in np.flatnonzero(~seen_rotations(seen).any(0))}
    assert rotations == {"left_hip", "left_knee", "left_ankle", "left_foot", "right_elbow", "right_wrist", "right_hand"}
    assert unseen_shares(seen) == {"left_leg": 1.0}


def test_unseen_limbs_hang_still_and_seen_ones_move(models):
    """Both knees bend to and fro three times a second; the left one is not seen."""
    frames, fps = 60, 30
    times = np.arange(frames) / fps
    angle = 0.5 * np.sin(2 * np.pi * 3 * times)
    pose = np.tile(np.eye(3, dtype=np.float32), (frames, 23, 1, 1))
    knees = SMPL_24.indices("left_knee", "right_knee")
    for knee in knees:
        pose[:, knee - 1, 1, 1] = pose[:, knee - 1, 2, 2] = np.cos(angle)
        pose[:, knee - 1, 2, 1], pose[:, knee - 1, 1, 2] = np.sin(angle), -np.sin(angle)
    orient, place = np.tile(np.eye(3, dtype=np.float32), (frames, 1, 1)), np.zeros((frames, 3), np.float32)
    params = BodyParams(orient, pose, np.zeros(10, np.float32), place, "neutral", "x")
    shown = np.ones((frames, 24), bool)
    shown[:, knees[0]] = False
    smooth = smooth_body(params, np.ones(frames, bool), times, 1.0, shown).body_pose
    left, right = (np.abs(smooth[10:50, knee - 1, 2, 1]).max() for knee in knees)
    assert left < 0.1
    assert right > 0.4


@pytest.fixture(scope="module")
def toys():
    names = {"detector": "toy", "tracker": "toy", "keypoints": "toy", "lifter": "toy", "device": "cpu"}
    return Models(Options(method="fit", refine=False, end="6", **names))


@pytest.fixture(scope="module")
def followed(toys):
    from hmrkit.pipeline import open_clip

    take = open_clip(DATA / "one_by_one_5s.mp4", toys.options)
    return run_stages(take, ["detect", "track", "pose"], toys)


def doubtful(take, track_id):
    """The take with a person whose keypoints are those of a body that is not there."""
    points = take.keypoints[track_id].keypoints_2d.copy()
    points[..., 2] = 0.1
    return replace(take, keypoints=take.keypoints | {track_id: replace(take.keypoints[track_id], keypoints_2d=points)})


def test_no_mesh_without_a_body_and_the_report_says_why(toys, followed):
    first = followed.tracks[0].track_id
    take = run_stages(doubtful(followed, first), ["regress"], toys)
    assert first not in take.body
    (line,) = [d for d in report(take)["dropped_tracks"] if d["stage"] == "regress"]
    assert line["track_id"] == first
    assert "no believable body" in line["reason"]
    assert any("no believable body" in text for text in summary(take, report(take)))
    again = run_stages(replace(take, provenance={k: v for k, v in take.provenance.items() if k != "regress"}),
                       ["regress"], toys)  # fmt: skip
    assert again.dropped_tracks == take.dropped_tracks  # not twice
    assert not [d for d in keep_stages(take, ["detect", "track", "pose"]).dropped_tracks if d.stage == "regress"]


def test_the_mask_is_kept_shown_and_cut_with_the_take(toys, followed, tmp_path):
    first = followed.tracks[0].track_id
    points = followed.keypoints[first].keypoints_2d.copy()
    points[:, [INDEX["left_knee"], INDEX["left_ankle"]], 1] = 1e4
    keypoints = followed.keypoints | {first: replace(followed.keypoints[first], keypoints_2d=points)}
    take = run_stages(replace(followed, keypoints=keypoints), ["regress"], toys)
    save_take(take, tmp_path / "take.npz")
    loaded = load_take(tmp_path / "take.npz")
    assert np.array_equal(loaded.body[first].seen, take.body[first].seen)
    assert not loaded.body[first].seen[:, SMPL_24.index["left_knee"]].any()
    facts = report(loaded)
    assert facts["people"][0]["unseen_limbs"]["left_leg"] == 1
    assert any("left leg 100%" in text for text in summary(loaded, facts))
    parts = [cut_take(loaded, end=3), cut_take(loaded, start=3)]
    assert len(parts[0].body[first].seen) == 3
    assert np.array_equal(merge_takes(parts).body[first].seen, take.body[first].seen)
