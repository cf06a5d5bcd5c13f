"""The table, boxes made elsewhere, the toy, and what users read when they ask for what is not there."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hmrkit.detectors import DETECTORS, load_detector
from hmrkit.errors import InputError, UsageError, WeightsError

NO_FRAMES = torch.zeros(3, 8, 8, 3, dtype=torch.uint8)


def test_every_member_has_a_module_and_its_weights() -> None:
    from hmrkit.weights import find_weights

    assert all(importlib.util.find_spec(entry.module) for entry in DETECTORS.values())
    assert all(find_weights(name).is_file() for entry in DETECTORS.values() for name in entry.weights)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("yolov12", r"unknown detector 'yolov12'; choose one of yolox-nano, yolox, yolo, file"),
        ("", "unknown detector ''"),
        ("file", "file:<json>"),
        ("file:", "file:<json>"),
        ("yolo", "yolo:<weights>"),
        ("toy:3", "written toy$"),
        ("yolox-nano:x.pth", "written yolox-nano$"),
    ],
)
def test_wrong_specs_say_what_is_right(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load_detector(spec)
    assert "\n" not in str(error.value)


def test_missing_weights_name_the_file() -> None:
    with pytest.raises(WeightsError, match=r"no/such\.pth not found"):
        load_detector("yolox:no/such.pth")


def test_ultralytics_is_only_needed_by_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(UsageError, match="AGPL") as error:
        load_detector("yolo:yolo11n.pt")
    assert "\n" not in str(error.value)
    load_detector("yolox-nano")


def test_boxes_of_a_file_come_frame_by_frame(tmp_path: Path) -> None:
    entries = [
        {"frame": 7, "bbox": [10, 20, 30, 40], "score": 0.75},
        {"image_id": 7, "bbox": [0, 0, 5, 5], "score": 0.05, "category_id": 1},  # too weak
        {"image_id": 7, "bbox": [1, 1, 5, 5], "category_id": 18},  # a dog
        {"image_id": "9", "bbox": [1.5, 2, 3, 4]},
    ]
    for content in (entries, {"annotations": entries, "images": []}):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(content))
        detector = load_detector(f"file:{path}")
        assert detector.name == "file:boxes.json"
        seven, eight, nine = detector(NO_FRAMES, [7, 8, 9])
        np.testing.assert_array_equal(seven.boxes_xyxy, np.array([[10, 20, 40, 60]], np.float32))
        np.testing.assert_array_equal(seven.scores, np.array([0.75], np.float32))
        assert eight.boxes_xyxy.shape == (0, 4)
        np.testing.assert_array_equal(nine.boxes_xyxy, np.array([[1.5, 2, 4.5, 6]], np.float32))
        assert nine.scores.tolist() == [1]


def test_what_is_done_to_one_frames_boxes_stays_there(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('[{"frame": 0, "bbox": [1, 2, 3, 4]}]')
    detector = load_detector(f"file:{tmp_path / 'b.json'}")
    detector(NO_FRAMES[:1], [0])[0].boxes_xyxy[:] = -1
    assert detector(NO_FRAMES[:1], [0])[0].boxes_xyxy.tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "3",
        "[3]",
        '[{"frame": 0}]',
        '[{"bbox": [1, 2, 3, 4]}]',
        '[{"frame": 0, "bbox": [1, 2, 3]}]',
        '[{"frame": "a.jpg", "bbox": [1, 2, 3, 4]}]',
        '[{"frame": 0, "bbox": [1, 2, 3, 4], "score": null}]',
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"bad\.json") as error:
        load_detector(f"file:{path}")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json"):
        load_detector(f"file:{tmp_path / 'none.json'}")


def test_toy_boxes_what_differs_from_the_border() -> None:
    frames = torch.full((2, 60, 80, 3), 200, dtype=torch.uint8)
    frames[0, 10:50, 30:42] = 20
    there, empty = load_detector("toy")(frames, [0, 1])
    assert there.boxes_xyxy.tolist() == [[30, 10, 42, 50]]
    assert empty.boxes_xyxy.shape == (0, 4)
