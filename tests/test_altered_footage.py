"""A real clip that was altered: mirrored, without colours, dark. People are found, followed and posed as before."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hmrkit.camera import assume_camera
from hmrkit.crops import paired_iou
from hmrkit.detectors import load_detector
from hmrkit.keypoints import load_keypoints
from hmrkit.skeletons import get_skeleton
from hmrkit.trackers import load_tracker
from hmrkit.video import probe, read_frames

ALTERED = {
    "mirrored": lambda frames: frames.flip(2),
    "grey": lambda frames: frames.float().mean(-1, keepdim=True).expand(-1, -1, -1, 3).to(torch.uint8),
    "dark": lambda frames: frames // 4,
}


def followed(frames: torch.Tensor) -> tuple[np.ndarray, np.ndarray, str]:
    """Boxes (T,4) of the one person of the film, their keypoints (T,K,3), and their skeleton's name."""
    detector, tracker, estimator = load_detector("yolox-nano"), load_tracker(), load_keypoints("movenet-thunder")
    numbers = list(range(len(frames)))
    for number, found in zip(numbers, detector(frames, numbers), strict=True):
        tracker.update(number, found)
    (person,) = tracker.finish(5.0).tracks
    assert person.frame_indices.tolist() == numbers
    estimator.reset(assume_camera(frames.shape[2], frames.shape[1]))
    points = estimator(frames, numbers, [{1: box} for box in person.boxes_xyxy])
    return person.boxes_xyxy, np.stack([at[1][0] for at in points]), estimator.skeleton.name


@pytest.fixture(scope="module")
def film() -> torch.Tensor:
    """Frames (6,H,W,3) RGB at 5 Hz of a man in a room."""
    info = probe(Path(__file__).parent / "data" / "one_by_one_5s.mp4", end=36, every=6)
    return torch.cat([torch.from_numpy(batch.frames) for batch in read_frames(info, batch_size=6)])


@pytest.fixture(scope="module")
def wanted(film):
    return followed(film)


@pytest.mark.parametrize("kind", ALTERED)
def test_altered_film_is_followed_as_the_film_itself(film, wanted, kind):
    boxes, points, skeleton = followed(ALTERED[kind](film))
    if kind == "mirrored":
        width = film.shape[2]
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        points = points[:, list(get_skeleton(skeleton).mirror)] * [-1, 1, 1] + [width, 0, 0]
    assert paired_iou(boxes, wanted[0]).min() > 0.85
    sure = (points[..., 2] > 0.4) & (wanted[1][..., 2] > 0.4)
    assert sure.mean() > 0.75
    apart = np.linalg.norm(points[..., :2] - wanted[1][..., :2], axis=-1)[sure]
    height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    assert np.median(apart) < 0.015 * height
    assert np.quantile(apart, 0.9) < 0.03 * height
