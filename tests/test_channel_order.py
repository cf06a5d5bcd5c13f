"""Every network that reads frames gets its channels in its own order: red and blue exchanged make it less sure."""

from pathlib import Path

import pytest
import torch

from hmrkit.body import load_body
from hmrkit.camera import assume_camera
from hmrkit.detectors import load_detector
from hmrkit.keypoints import load_keypoints
from hmrkit.regressors import load_regressor
from hmrkit.synthetic.images import SyntheticImages
from hmrkit.video import probe, read_frames

NUMBERS = list(range(5, 50, 10))


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """Frames (5,H,W,3) RGB of a man in a room."""
    info = probe(Path(__file__).parent / "data" / "one_by_one_5s.mp4", start="5", every=10)
    return torch.cat([torch.from_numpy(batch.frames) for batch in read_frames(info, batch_size=5)])


@pytest.fixture(scope="module")
def people(frames):
    return load_detector("yolox-nano")(frames, NUMBERS)


def test_detector(frames, people):
    swapped = load_detector("yolox-nano")(frames.flip(-1), NUMBERS)
    assert all(other.scores.max() < found.scores.max() for found, other in zip(people, swapped, strict=True))


@pytest.mark.parametrize("name", ["blazepose-heavy", "movenet-thunder"])
def test_keypoints(frames, people, name):
    boxes = [{1: found.boxes_xyxy[found.scores.argmax()]} for found in people]
    confidence = []
    for images in (frames, frames.flip(-1)):
        estimator = load_keypoints(name)
        estimator.reset(assume_camera(frames.shape[2], frames.shape[1]))
        points = [found[1][0] for found in estimator(images, NUMBERS, boxes)]
        confidence.append(sum(float(p[:, 2].mean()) for p in points) / len(points))
    assert confidence[1] < confidence[0] - 0.01


def test_regressors():
    """All that ship stand on one backbone, which alone reads pixels: one of them shows its order."""
    samples = SyntheticImages("test")(8, torch.Generator().manual_seed(5))
    body, regressor = load_body(), load_regressor("hmr")

    def joints(people) -> torch.Tensor:
        found = body.joints_only(people.global_orient, people.body_pose, people.betas).joints
        return found - found[:, :1]

    with torch.inference_mode():
        right, swapped = (
            float((joints(regressor(images)) - joints(samples)).norm(dim=-1).mean())
            for images in (samples.images, samples.images.flip(1))
        )
    assert swapped > right + 0.005
