"""BlazePose on tracks: the region finds the person, rotates and chunks do not matter, 3D is in the camera's axes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hmrkit.camera import assume_camera, camera_from_ray
from hmrkit.crops import Region, crop_batch
from hmrkit.keypoints import load_keypoints
from hmrkit.keypoints.blazepose import Answers, BlazePoseEstimator, _to_camera
from hmrkit.keypoints.blazepose_regions import agree, held, place, relation, smoothest_path, standing_regions
from hmrkit.skeletons import BLAZEPOSE_33
from hmrkit.video import probe, read_frames

DATA = Path(__file__).parent.parent / "data"
ORACLE = DATA / "blazepose_oracle.npz"
INDEX = BLAZEPOSE_33.index


@pytest.fixture(scope="module")
def estimator():
    return load_keypoints("blazepose-heavy")


@pytest.fixture(scope="module")
def scene() -> tuple[torch.Tensor, np.ndarray]:
    """An image (480,480,3) with a person seen from behind, and the person's box."""
    with np.load(ORACLE) as file:
        person = np.asarray(Image.open(io.BytesIO(file["png_0"].tobytes())))
        xy = file["landmarks_0"][:33, :2]
    image = np.full((480, 480, 3), 128, np.uint8)
    image[112:368, 112:368] = person
    low, high = xy.min(0) + 112, xy.max(0) + 112
    return torch.from_numpy(image), np.array([*(low - 4), *(high + 4)], np.float32)


def rotated(image: torch.Tensor, angle: float) -> torch.Tensor:
    """The same image with everything in it rotated clockwise by `angle` about its middle."""
    region = Region(np.array([[240.0, 240.0]]), np.array([480.0]), np.array([-angle]))
    return (crop_batch(image[None], [0], region, out=480)[0] * 255).round().byte().permute(1, 2, 0)


def rotation_points(xy: np.ndarray, angle: float) -> np.ndarray:
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (xy - 240) @ matrix.T + 240


def box_around(points: np.ndarray) -> np.ndarray:
    return np.array([*(points[:, :2].min(0) - 4), *(points[:, :2].max(0) + 4)], np.float32)


def test_finds_a_person_from_behind_with_left_and_right_in_place(estimator, scene) -> None:
    image, box = scene
    estimator.reset()
    [people] = estimator(image[None], [0], [{7: box}])
    points, joints = people[7]
    assert points.dtype == joints.dtype == np.float32
    assert points[:, 2].mean() > 0.5
    # From behind, left is on the image's left, and feet are below the head (y down).
    assert points[INDEX["left_shoulder"], 0] < points[INDEX["right_shoulder"], 0]
    assert joints[INDEX["left_shoulder"], 0] < joints[INDEX["right_shoulder"], 0]
    assert joints[INDEX["left_ankle"], 1] > 0.4
    assert joints[INDEX["nose"], 1] < -0.4
    # The nose is on the far side of the ears.
    assert joints[INDEX["nose"], 2] > joints[[INDEX["left_ear"], INDEX["right_ear"]], 2].mean()
    np.testing.assert_allclose(joints[[INDEX["left_hip"], INDEX["right_hip"]]].mean(0), 0, atol=1e-5)


@pytest.mark.parametrize("angle", [np.pi / 2, np.pi])
def test_people_who_lean_lie_or_stand_on_their_heads_are_found(estimator, scene, angle: float) -> None:
    image, box = scene
    estimator.reset()
    [people] = estimator(image[None], [0], [{1: box}])
    wanted = rotation_points(people[1][0][:, :2], angle)
    estimator.reset()
    tilted = rotated(image, angle)
    [tilted_people] = estimator(tilted[None], [0], [{1: box_around(wanted)}])
    height = np.ptp(people[1][0][:, 1])
    trunk = [INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("shoulder", "hip", "knee", "ankle")]
    error = np.linalg.norm(tilted_people[1][0][trunk, :2] - wanted[trunk], axis=-1)
    assert error.max() < 0.08 * height


def test_batches_change_nothing_and_chunks_little(estimator, scene) -> None:
    image, box = scene
    frames, boxes = image[None].expand(3, -1, -1, -1), [{1: box, 2: box + 3}] * 3
    estimator.reset()
    whole = estimator(frames, range(3), boxes)[-1]
    small = BlazePoseEstimator(torch.device("cpu"), max_crops=2)
    batched = small(frames, range(3), boxes)[-1]
    small.reset()
    one_by_one = [small(frames[s : s + 1], [s], boxes[s : s + 1]) for s in range(3)][-1][-1]
    trunk = [INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("shoulder", "hip", "ankle")]
    for i in (1, 2):
        np.testing.assert_allclose(whole[i][0], batched[i][0], atol=0.05)
        # A chunk later the region follows the landmarks more closely.
        np.testing.assert_allclose(whole[i][0][trunk, :2], one_by_one[i][0][trunk, :2], atol=0.05 * 165)
    assert estimator(frames[:1], [9], [{}]) == [{}]


def test_flip_averaging_agrees_with_the_plain_answer(scene) -> None:
    image, box = scene
    plain, flipped = (BlazePoseEstimator(torch.device("cpu"), flip_test=flip) for flip in (False, True))
    a, b = (e(image[None], [0], [{1: box}])[0][1] for e in (plain, flipped))
    big = [INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("shoulder", "hip", "knee")]
    assert np.abs(a[0][big, :2] - b[0][big, :2]).max() < 12
    assert np.abs(a[1][big] - b[1][big]).max() < 0.12


def test_world_landmarks_rotate_with_the_crop_and_with_the_view() -> None:
    camera = assume_camera(1000, 800)
    world = np.random.default_rng(0).normal(size=(2, 33, 3))
    region = np.array([[500.0, 400.0, 100.0, np.pi / 2], [900.0, 100.0, 100.0, 0.0]])
    joints = _to_camera(world, region, camera)
    root = world[:, [INDEX["left_hip"], INDEX["right_hip"]]].mean(1, keepdims=True)
    x, y, z = (world - root)[0].T
    np.testing.assert_allclose(joints[0], np.stack([-y, x, z], -1), atol=1e-5)  # a quarter rotation about the view
    np.testing.assert_allclose(joints[1], (world - root)[1] @ camera_from_ray(camera, region[1, :2]).T, atol=1e-5)


def test_a_relation_brings_its_region_back_and_follows_the_box() -> None:
    box = np.array([10.0, 20, 110, 320])
    region = np.array([70.0, 150, 400, 0.3])
    kept = relation(region, box)
    np.testing.assert_allclose(place(kept, box, region * 0), region)
    np.testing.assert_allclose(place(kept, box + 50, region * 0), region + np.array([50, 50, 0, 0]))
    np.testing.assert_allclose(place(kept, 2 * box, region * 0)[:3], 2 * region[:3])
    assert agree(region[None], region[None] + [0, 0, 0, 2 * np.pi]).all()
    assert not agree(region[None], region[None] + [0, 0, 0, np.pi]).any()


def test_a_box_cut_off_below_leaves_room_for_the_legs() -> None:
    whole, cut = standing_regions(np.array([[100.0, 50, 200, 300], [100, 200, 200, 400]]), 400)
    assert cut[2] >= whole[2]
    assert cut[1] > 300  # hips below the box's own middle


def test_regions_about_people_who_stand_are_not_larger_than_their_boxes_ask_for() -> None:
    box = np.array([[100.0, 100, 200, 400]])
    upright = standing_regions(box, 1000)[0]
    person = np.full((1, 33, 2), 150.0)
    person[:, :, 1] = 200
    person[:, INDEX["nose"], 1], person[:, [INDEX["left_hip"], INDEX["right_hip"]], 1] = 120, 250
    large, small = np.array([[150.0, 290, 700, 0.2]]), np.array([[155.0, 255, 380, 0.2]])
    np.testing.assert_allclose(held(large, box, person, 1000)[0], [*upright[:3], 0.2])
    np.testing.assert_allclose(held(small, box, person, 1000), small)
    # Boxes that do not end at head and feet tell nothing.
    arms_up, head_down = person.copy(), person.copy()
    arms_up[:, INDEX["left_wrist"], 1] = 110
    head_down[:, INDEX["nose"], 1] = 390
    for points in (arms_up, head_down):
        np.testing.assert_allclose(held(large, box, points, 1000), large)
    np.testing.assert_allclose(held(large, box, person, 400), large)
    np.testing.assert_allclose(held(large, np.array([[0.0, 100, 300, 400]]), person, 1000), large)


def test_somebody_who_comes_into_view_is_soon_seen_as_if_always_there(estimator) -> None:
    """From behind and above, where a crop that is too large hides the legs and so stays too large."""
    [batch] = read_frames(probe(DATA / "one_by_one_5s.mp4", start=25, end=26))
    images = torch.from_numpy(batch.frames)
    box = np.array([360.0, 36, 499, 383], np.float32)
    upper_half = box - np.array([0, 0, 0, 140], np.float32)
    big = [INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("shoulder", "hip", "knee", "ankle")]
    estimator.reset()
    always = estimator(images, [0], [{1: box}])[0][1][0]
    estimator.reset()
    estimator(images, [0], [{1: upper_half}])
    after = estimator(images, [1], [{1: box}])[0][1][0]
    assert np.linalg.norm(after[big, :2] - always[big, :2], axis=-1).max() < 0.02 * 347


def test_the_smoothest_path_follows_a_somersault_and_ignores_one_lucky_frame() -> None:
    rotations = np.radians([0.0, 90, 180, 270])
    rolling = [np.array([0.8, 0.1, 0.1, 0.1]), np.array([0.3, 0.7, 0, 0]), np.array([0, 0.3, 0.7, 0])]
    assert smoothest_path(rolling, [rotations] * 3, 0.0) == [0, 1, 2]
    still = [np.array([0.6, 0, 0, 0]), np.array([0.4, 0, 0.6, 0]), np.array([0.6, 0, 0, 0])]
    assert smoothest_path(still, [rotations] * 3, 0.0) == [0, 0, 0]


class MadeNetwork(BlazePoseEstimator):
    """Sees in frame `row` through a crop rotated by `angle` degrees what `shows(row, angle)` says: the direction of a
    trunk in degrees, and a score."""

    def __init__(self, shows) -> None:
        self.shows, self.runs, self.person_frames = shows, 0, 0
        self.reset()

    def _look(self, frames, rows, box, region):
        self.runs += len(rows)
        at = (np.degrees(region[:, 3]) + 180) % 360 - 180
        trunk, score = np.array([self.shows(row, angle) for row, angle in zip(rows, at, strict=True)]).T
        points = np.tile(np.array([50.0, 50, 0]), (len(rows), 33, 1))
        points[:, :, 2] = score[:, None]
        shoulders = [INDEX["left_shoulder"], INDEX["right_shoulder"]]
        aim = np.stack([np.sin(np.radians(trunk)), -np.cos(np.radians(trunk))], 1)
        points[:, shoulders, :2] += 20 * aim[:, None]
        asked = np.column_stack([region[:, :3], np.where(np.abs(trunk - at) < 60, np.radians(trunk), region[:, 3])])
        return Answers(region.copy(), asked, points, np.zeros((len(rows), 33, 3)), score)


def follow(network, count):
    """Directions of the trunks (count,) in degrees, and confidences, of one person over so many frames."""
    box = np.array([10, 10, 90, 90], np.float32)
    people = network(torch.zeros(count, 100, 100, 3, dtype=torch.uint8), range(count), [{1: box}] * count)
    points = np.stack([here[1][0] for here in people])
    x, y = (points[:, INDEX["left_shoulder"], :2] - points[:, INDEX["left_hip"], :2]).T
    return np.degrees(np.arctan2(x, -y)), points[:, 0, 2]


def test_a_trunk_that_jumps_is_put_right_by_its_neighbours() -> None:
    """Landing after a somersault: for a few frames a folded body scores as well as the right one."""

    def shows(row, angle):
        if row in (4, 5, 6):
            return (45, 0.62) if abs(angle - 45) < 30 else (-90, 0.64)
        return (45, 0.75) if abs(angle - 45) < 100 else (-90, 0.1)

    trunks, _ = follow(MadeNetwork(shows), 10)
    np.testing.assert_allclose(trunks, 45, atol=1)


def test_somebody_new_who_lies_in_the_crop_is_looked_for_at_other_rotations() -> None:
    network = MadeNetwork(lambda row, angle: (-90, 0.72 if abs(angle + 90) < 30 else 0.78))
    _, confidence = follow(network, 4)
    np.testing.assert_allclose(confidence, 0.72, atol=1e-6)
    surely_upright = MadeNetwork(lambda row, angle: (0, 0.8 if abs(angle) < 30 else 0.2))
    follow(surely_upright, 4)
    assert surely_upright.runs == 4
