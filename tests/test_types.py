import numpy as np
import pytest

from hmrkit.types import Detections, Keypoints, Track


def test_shapes_are_checked_when_made():
    with pytest.raises(ValueError, match="scores"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="boxes_xyxy"):
        Detections(np.zeros((2, 5), np.float32), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="NumPy"):
        Detections([[0, 0, 1, 1]], np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="joints_3d"):
        Keypoints(np.zeros((4, 17, 3), np.float32), np.zeros((3, 17, 3), np.float32), "coco-17")


def test_frame_indices_of_a_track_must_rise():
    def make(frames):
        n = len(frames)
        return Track(1, np.array(frames), np.zeros((n, 4)), np.zeros(n), np.zeros(n, bool))

    make([3, 4, 9])
    for bad in ([3, 3], [4, 3], []):
        with pytest.raises(ValueError):
            make(np.array(bad, int))
