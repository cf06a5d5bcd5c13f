"""What the report says of a take beside what its stages hold."""

from dataclasses import replace

import numpy as np
import pytest

from hmrkit.camera import assume_camera
from hmrkit.errors import UsageError
from hmrkit.options import Options
from hmrkit.report import report
from hmrkit.types import Detections, Take, VideoInfo


def detected(height: float, size: int | None = None) -> Take:
    """A 1080p take whose only person is `height` px high, found by YOLOX at `size`."""
    box = np.array([[900, 300, 900 + height / 3, 300 + height]], np.float32)
    found = (Detections(box, np.array([0.6], np.float32)),) * 5
    video = VideoInfo("x.mp4", "0", 1920, 1080, 30, 5, np.arange(5), np.arange(5) / 30)
    record = {"options": {"detector": "yolox-nano", "detector_size": size}}
    return Take(video, assume_camera(1920, 1080), detections=found, provenance={"detect": record})


def test_small_people_are_named_with_what_helps():
    (note,) = report(detected(69))["notes"]
    assert "5 of 5 boxes" in note
    assert "69 px" in note
    assert "--detector-size 1920" in note
    assert report(detected(216))["notes"] == report(detected(69, 1920))["notes"] == []
    other = detected(69)
    other.provenance["detect"]["options"]["detector"] = "file:boxes.json"
    assert report(other)["notes"] == []
    with pytest.raises(UsageError, match="--detector-size must be a number from 64 to 8192, got 20"):
        Options(detector_size=20)


def test_cuts_are_in_it():
    take = detected(300)
    assert report(replace(take, video=replace(take.video, cuts=(2, 4))))["cuts"] == [2, 4]
