"""The table, the toy, files made elsewhere and whose keypoints are whose."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hmrkit.errors import InputError, UsageError
from hmrkit.keypoints import KEYPOINTS, load_keypoints
from hmrkit.keypoints.matching import match_people
from hmrkit.skeletons import BLAZEPOSE_33

NO_FRAMES = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)


def person(x: float, y: float, seed: int = 0) -> np.ndarray:
    """COCO keypoints (17,3) in a box of 40 x 100 px at x, y."""
    points = np.random.default_rng(seed).uniform(0, 1, (17, 3)).astype(np.float32)
    points[:2, :2] = [[0, 0], [1, 1]]
    return np.column_stack([x + 40 * points[:, 0], y + 100 * points[:, 1], 0.1 + 0.9 * points[:, 2]]).astype(np.float32)


@pytest.mark.parametrize("spec", ["posenet", "blazepose-heavy:x", "file", "toy:1"])
def test_wrong_specs_say_what_is_right(spec: str) -> None:
    with pytest.raises(UsageError, match=r"blazepose-heavy|file:<path>|toy"):
        load_keypoints(spec)


def test_every_member_has_a_module() -> None:
    import importlib.util

    assert all(importlib.util.find_spec(entry.module) for entry in KEYPOINTS.values())


def test_toy_stands_in_its_box_and_faces_the_camera() -> None:
    toy = load_keypoints("toy")
    [people] = toy(NO_FRAMES, [0], [{3: np.array([100, 50, 180, 250], np.float32)}])
    points, joints = people[3]
    assert points[:, 1].min() >= 50
    assert points[:, 1].max() <= 250
    at = BLAZEPOSE_33.index
    assert points[at["left_wrist"], 0] > points[at["right_wrist"], 0]
    assert joints[at["nose"], 2] < joints[at["left_ear"], 2]
    np.testing.assert_allclose(joints[[at["left_hip"], at["right_hip"]]].mean(0), 0, atol=1e-6)


def test_coco_file_gives_each_track_its_own_person(tmp_path: Path) -> None:
    left, right = person(10, 10, 1), person(200, 20, 2)
    left[5] = 0  # COCO's "nobody saw it"
    entries = [
        {"frame": 4, "keypoints": right.ravel().tolist()},
        {"image_id": 4, "keypoints": left.ravel().tolist(), "bbox": [10, 10, 40, 100], "score": 0.9},
    ]
    path = tmp_path / "k.json"
    path.write_text(json.dumps(entries))
    estimator = load_keypoints(f"file:{path}")
    boxes = {1: np.array([12, 8, 52, 112]), 2: np.array([198, 20, 242, 120]), 3: np.array([500, 500, 540, 600])}
    here, gone = estimator(NO_FRAMES.expand(2, -1, -1, -1), [4, 5], [boxes, {1: boxes[1]}])
    np.testing.assert_allclose(here[2][0], right, rtol=1e-6)
    np.testing.assert_allclose(np.delete(here[1][0], 5, 0), np.delete(left, 5, 0), rtol=1e-6)
    assert np.isnan(here[1][0][5, :2]).all()
    for missing in (here[3][0], gone[1][0]):
        assert np.isnan(missing[:, :2]).all()
        assert (missing[:, 2] == 0).all()


@pytest.mark.parametrize("content", ["", "{}", '[{"frame": 0}]', '[{"frame": 0, "keypoints": [1, 2, 3]}]', "[3]"])
def test_bad_coco_files_are_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        load_keypoints(f"file:{path}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("as_cameras", [False, True])
def test_videopose3d_file(tmp_path: Path, as_cameras: bool) -> None:
    clip = np.stack([person(10 + t, 10) for t in range(3)])[..., :2]
    positions = {"clip.mp4": {"custom": [clip, clip + 300] if as_cameras else [clip]}}
    path = tmp_path / "data_2d_custom.npz"
    np.savez_compressed(path, positions_2d=positions, metadata={"layout_name": "coco"})
    [people] = load_keypoints(f"file:{path}")(NO_FRAMES, [2], [{1: np.array([12, 10, 52, 110])}])
    np.testing.assert_allclose(people[1][0][:, :2], clip[2], rtol=1e-6)
    assert (people[1][0][:, 2] == 1).all()


class _Danger:
    def __reduce__(self):
        return os.mkdir, ("danger",)


def test_pickles_that_would_run_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "evil.npz", positions_2d=np.array({"a": _Danger()}, object))
    with pytest.raises(InputError, match="mkdir"):
        load_keypoints("file:evil.npz")
    assert not (tmp_path / "danger").exists()


def test_a_person_is_never_given_to_two_tracks() -> None:
    points = person(0, 0)[None]
    people = match_people(
        points, np.array([[0.0, 0, 40, 100]]), {1: np.array([0, 0, 40, 90]), 2: np.array([2, 0, 42, 99])}
    )
    found = [i for i, (p, _) in people.items() if np.isfinite(p).all()]
    assert len(found) == 1
