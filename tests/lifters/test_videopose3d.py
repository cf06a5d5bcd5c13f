"""The lifter from outside, with tiny random weights where the weights do not matter."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from hmrkit.errors import InputError, UsageError, WeightsError
from hmrkit.lifters import LIFTERS, load_lifter, videopose3d
from hmrkit.lifters.videopose3d import PublishedNet, RayNet, VideoPose3D, resample
from hmrkit.skeletons import COCO_17, H36M_17

SIZE = {"width": 1280, "height": 720}


@pytest.fixture
def lifter() -> VideoPose3D:
    torch.manual_seed(0)
    return VideoPose3D(RayNet(width=32))


def walk(frames: int = 60) -> np.ndarray:
    """Keypoints (T,17,3) px that move smoothly."""
    rng = np.random.default_rng(0)
    start, way = rng.uniform(200, 500, (17, 2)), rng.uniform(-60, 60, (17, 2))
    points = start + way * np.sin(np.linspace(0, 3, frames))[:, None, None]
    return np.concatenate([points, np.ones((frames, 17, 1))], -1).astype(np.float32)


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 60])
@pytest.mark.parametrize("fps", [5.0, 30000 / 1001, 60.0])
def test_any_length_and_rate(lifter, frames, fps):
    joints = lifter(walk()[:frames], fps=fps, **SIZE)
    assert joints.shape == (frames, 17, 3)
    assert joints.dtype == np.float32
    assert np.isfinite(joints).all()
    assert np.allclose(joints[:, 0], 0)


def test_gaps_and_frames_without_anybody(lifter):
    points = walk()
    points[10:20] = np.nan
    points[30, 3:9, 2] = 0
    assert np.isfinite(lifter(points, fps=12.5, **SIZE)).all()


def test_confidence_zero_is_missing_at_every_rate(lifter):
    junk, missing = walk(), walk()
    junk[5:9, 3] = 1e4, -1e4, 0
    missing[5:9, 3] = np.nan
    for fps in (30.0, 24.0):
        np.testing.assert_array_equal(lifter(junk, fps=fps, **SIZE), lifter(missing, fps=fps, **SIZE))


def test_confidence_counts_only_outside_the_picture(lifter):
    points, doubtful = walk(), walk()
    doubtful[..., 2] = 0.05
    wanted = lifter(points, fps=30.0, **SIZE)
    np.testing.assert_array_equal(lifter(doubtful, fps=30.0, **SIZE), wanted)
    points[:, 15, 1], doubtful[:, 15, 1] = 800, 800  # below the lower edge
    gone = points.copy()
    gone[:, 15] = np.nan
    np.testing.assert_array_equal(lifter(doubtful, fps=30.0, **SIZE), lifter(gone, fps=30.0, **SIZE))
    assert np.abs(lifter(points, fps=30.0, **SIZE) - lifter(gone, fps=30.0, **SIZE)).max() > 1e-3


def test_mirrored_clip_gives_the_mirrored_pose(lifter):
    points = walk()
    mirrored = points[:, list(COCO_17.mirror)] * np.array([-1, 1, 1]) + np.array([1280, 0, 0])
    joints = lifter(points, fps=30.0, **SIZE)
    other = lifter(mirrored, fps=30.0, **SIZE)
    np.testing.assert_allclose(other[:, list(H36M_17.mirror)] * np.array([-1, 1, 1]), joints, atol=2e-5)
    assert np.abs(lifter(points, fps=30.0, flip=False, **SIZE) - joints).max() > 1e-3


def test_long_clip_in_pieces_is_the_clip_at_once(lifter, monkeypatch):
    points = walk(400)
    whole = lifter(points, fps=30.0, **SIZE)
    monkeypatch.setattr(videopose3d, "_PIECE", 100)
    np.testing.assert_allclose(lifter(points, fps=30.0, **SIZE), whole, atol=2e-4)


def test_known_focal_length_matters_and_the_assumed_one_passed_on_does_not(lifter):
    from hmrkit.camera import assume_camera

    points = walk()
    plain = lifter(points, fps=30.0, **SIZE)
    np.testing.assert_array_equal(lifter(points, fps=30.0, focal_px=assume_camera(1280, 720).focal_px, **SIZE), plain)
    assert np.abs(lifter(points, fps=30.0, focal_px=700.0, **SIZE) - plain).max() > 1e-3


def test_wrong_shapes_are_refused(lifter):
    with pytest.raises(InputError, match=r"COCO-17"):
        lifter(np.zeros((5, 33, 3), np.float32), fps=30.0, **SIZE)
    with pytest.raises(InputError, match="frame rate"):
        lifter(walk(), fps=0.0, **SIZE)


def test_resample_keeps_samples_and_does_not_cross_gaps():
    values = np.array([[0.0], [2.0], [np.nan], [6.0]], np.float32)
    np.testing.assert_array_equal(resample(values, np.array([0, 0.5, 1, 1.5, 3]))[:, 0], [0, 1, 2, np.nan, 6])


# ---- the published layout ----


@pytest.mark.parametrize(("filters", "frames"), [((3, 3, 3), 27), ((3, 3, 3, 3, 3), 243)])
@pytest.mark.parametrize("inputs", [34, 51])
def test_published_layout(tmp_path, filters, frames, inputs):
    torch.manual_seed(0)
    net = PublishedNet(filters, 16, inputs, 51).eval()
    path = tmp_path / "pretrained.bin"
    torch.save({"epoch": 80, "lr": 1e-3, "model_pos": net.state_dict()}, path)
    lifter = load_lifter("videopose3d", checkpoint=path)
    assert lifter.receptive_field == frames
    assert re.fullmatch("[0-9a-f]{64}", lifter.weights_sha256)
    # A clip of exactly one receptive field: its middle frame sees no repeated end.
    points = walk(frames)
    screen = points.copy()
    screen[..., :2] = points[..., :2] / 1280 * 2 - np.array([1, 720 / 1280])
    wanted = net(torch.from_numpy(screen[None, :, :, : inputs // 17]))[0, 0].detach().numpy()
    joints = lifter(points, fps=50.0, flip=False, **SIZE)
    np.testing.assert_allclose(joints[frames // 2], wanted - wanted[:1], atol=1e-5)
    assert lifter(points[:1], fps=50.0, **SIZE).shape == (1, 17, 3)


def test_published_channels_and_names():
    """Keys and shapes as published (reference: the repository's pretrained_h36m_*.bin)."""
    with torch.device("meta"):
        state = PublishedNet((3,) * 5, 1024, 34, 51).state_dict()
    assert len(state) == 56
    assert state["layers_conv.6.weight"].shape == (1024, 1024, 3)
    assert state["layers_conv.7.weight"].shape == (1024, 1024, 1)
    assert state["shrink.weight"].shape == (51, 1024, 1)
    assert "expand_conv.bias" not in state


def test_other_checkpoints_are_refused(tmp_path):
    trajectory, other = tmp_path / "trajectory.bin", tmp_path / "other.bin"
    torch.save({"model_pos": PublishedNet((3, 3, 3), 8, 34, 3).state_dict()}, trajectory)
    torch.save({"model_pos": torch.nn.Linear(2, 2).state_dict()}, other)
    with pytest.raises(WeightsError, match="3 outputs"):
        load_lifter("videopose3d", checkpoint=trajectory)
    with pytest.raises(WeightsError, match="found"):
        load_lifter("videopose3d", checkpoint=other)
    with pytest.raises(UsageError, match="videopose3d"):
        load_lifter("nonesuch")


def test_toy_and_table():
    toy = load_lifter("toy")
    joints = toy(walk(), fps=30.0, **SIZE)
    assert joints.shape == (60, 17, 3)
    assert np.allclose(joints[:, 0], 0)
    for spec in LIFTERS.values():
        assert (Path(videopose3d.__file__).parent / (spec.module.rsplit(".", 1)[1] + ".py")).is_file()
