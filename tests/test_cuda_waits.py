"""Detection, keypoints and regression as on a GPU: everything on its device, the CPU's numbers, and how often the host
waits in a batch. Rendering: ``rendering/test_cuda_rendering.py``; refinement: ``fitting/test_refine_energy.py``."""

from pathlib import Path

import numpy as np
import pytest
import torch
from claimed_cuda import CUDA, ClaimedCuda, as_on_cuda

from hmrkit.detectors import load_detector
from hmrkit.device import upload
from hmrkit.engines import engine
from hmrkit.keypoints import load_keypoints
from hmrkit.regressors import load_regressor
from hmrkit.video import probe, read_frames

CLIP = Path(__file__).parent / "data" / "one_by_one_5s.mp4"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def frames():
    """Three frames (3,432,768,3) in which one person walks."""
    return next(iter(read_frames(probe(CLIP, start=20), batch_size=3))).frames


@pytest.fixture(scope="module")
def detected(frames):
    with engine("torch"):
        return load_detector("yolox-nano")(torch.from_numpy(frames), range(3))


def waits(mode):
    return {name: count for name, count in mode.waits.items() if count}


def test_detection_waits_once_a_batch(frames, detected, monkeypatch):
    as_on_cuda(monkeypatch)
    with ClaimedCuda() as mode, engine("torch"):
        detector = load_detector("yolox-nano", device=CUDA)
        mode.waits.clear()
        found = detector(upload(frames, CUDA), range(3))
    assert waits(mode) == {"to the host": 1}
    for one, other in zip(found, detected, strict=True):
        assert len(one.scores)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.2)  # only CPUs resize bytes


def test_keypoints_wait_once_for_each_pass(frames, detected, monkeypatch):
    """A batch takes two passes, every fourth frame of a person first, where no crop has to be moved."""
    boxes = [{1: here.boxes_xyxy[0], 2: here.boxes_xyxy[0] + 2} for here in detected]
    with engine("torch"):
        here = load_keypoints("blazepose-heavy")(torch.from_numpy(frames), range(3), boxes)
    as_on_cuda(monkeypatch)
    with ClaimedCuda() as mode, engine("torch"):
        estimator = load_keypoints("blazepose-heavy", device=CUDA)
        mode.waits.clear()
        there = estimator(upload(frames, CUDA), range(3), boxes)
    assert estimator.runs <= 2 * estimator.person_frames
    passes = 2 + (estimator.runs > estimator.person_frames)
    assert set(waits(mode)) == {"to the host"}
    assert mode.waits["to the host"] <= passes
    for one, other in zip(here, there, strict=True):
        for i in one:
            np.testing.assert_allclose(other[i][0], one[i][0], atol=0.02)
            np.testing.assert_allclose(other[i][1], one[i][1], atol=1e-3)


def test_regression_waits_for_nothing_but_the_codes(monkeypatch):
    crops = np.random.default_rng(0).random((2, 3, 256, 256), np.float32)
    with engine("torch"):
        here = load_regressor("hmr").encode(torch.from_numpy(crops))
    as_on_cuda(monkeypatch)
    with ClaimedCuda() as mode, engine("torch"):
        regressor = load_regressor("hmr", device=CUDA)
        mode.waits.clear()
        there = regressor.encode(upload(crops, CUDA))
        assert there.device == CUDA
        assert not waits(mode)
        there = there.cpu()
    torch.testing.assert_close(there, here, rtol=0, atol=1e-3)
