"""3DPW: what is read is where the file says, in both ages of pickle, and the lists of frames mean what they say."""

import os
import pickle
import re

import numpy as np
import pytest
from made_datasets import dump_python2, free_body, make_3dpw, write_images

from hmrkit.camera import project
from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.datasets.threedpw import COCO_18, OBJECT_OCCLUDED, PERSON_OCCLUDED, read_frame_list
from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import SMPL_24

TEST = [("test", "downtown_bus_00", 6, 2), ("test", "flat_guitar_01", 5, 1)]


def read(root, name="3dpw", **options):
    dataset = load_dataset(name, root, DatasetOptions(**options))
    dataset.check()
    return list(dataset.sequences())


def body_in_camera(person):
    """The free body, posed by the truth that was read and moved by the camera that was read: joints (T,24,3)."""
    truth = person.body
    out = free_body().joints_only(truth.global_orient, truth.body_pose, truth.betas, truth.transl)
    rotation, move = person.camera_from_world[:, :3, :3], person.camera_from_world[:, :3, 3]
    return out.joints.numpy() @ rotation.transpose(0, 2, 1) + move[:, None]


@pytest.mark.parametrize("python2", [True, False])
def test_the_body_read_lies_on_the_joints_and_keypoints_read(tmp_path, python2):
    bus, guitar = read(make_3dpw(tmp_path, TEST, python2=python2))
    assert (bus.name, guitar.name, bus.group) == ("downtown_bus_00", "flat_guitar_01", "test")
    assert len(bus.people) == 2
    assert len(guitar.people) == 1
    assert bus.frame_count == 6
    assert [person.body.gender for person in bus.people] == ["male", "female"]
    for person in bus.people:
        joints_c = body_in_camera(person)
        np.testing.assert_allclose(person.joints_c, joints_c, atol=2e-5)
        assert person.skeleton is SMPL_24
        assert person.keypoint_skeleton is COCO_18
        pixels = project(bus.camera, joints_c)
        for name in ("left_wrist", "right_ankle", "neck"):
            seen = person.keypoints_2d[:, COCO_18.index[name]]
            off = np.linalg.norm(seen[:, :2] - pixels[:, SMPL_24.index[name]], axis=1)
            assert np.nanmax(off) < 0.01


def test_frames_count_where_the_camera_is_known_and_somebody_was_detected(tmp_path):
    (person, _) = read(make_3dpw(tmp_path, TEST))[0].people
    assert person.valid.tolist() == [True, False, False, True, True, True]
    assert person.keypoints_2d[2, :, 2].max() == 0
    assert np.isnan(person.keypoints_2d[2, :, :2]).all()
    assert np.isnan(person.boxes_xyxy[2]).all()
    assert np.isfinite(np.delete(person.boxes_xyxy, 2, 0)).all()
    # Never seen: the face, whose keypoints the detector gave confidence 0 at pixel (0, 0).
    assert np.isnan(person.keypoints_2d[:, COCO_18.index["left_ear"], 0]).all()
    x0, y0, x1, y1 = np.delete(person.boxes_xyxy, 2, 0).T
    seen = np.delete(person.keypoints_2d, 2, 0)
    low, high = np.nanmin(seen[..., :2], 1), np.nanmax(seen[..., :2], 1)
    np.testing.assert_allclose(np.stack([x0, y0, x1, y1], -1), np.concatenate([low, high], 1), rtol=1e-5)


def test_shape_coefficients_beyond_ten_are_left_out(tmp_path):
    first, second = read(make_3dpw(tmp_path, TEST))[0].people
    assert first.body.betas.shape == second.body.betas.shape == (10,)
    np.testing.assert_allclose(second.joints_c, body_in_camera(second), atol=2e-5)  # 300 of them in the file


@pytest.mark.parametrize("first_image", [0, 1])
def test_copies_that_number_images_from_one_are_read_alike(tmp_path, first_image):
    bus, _ = read(make_3dpw(tmp_path, TEST, first_image=first_image))
    assert bus.frames == tmp_path / "imageFiles" / "downtown_bus_00"
    assert bus.frame_count == 6
    assert (bus.camera.width, bus.camera.height) == (108, 192)


def test_a_missing_image_is_noticed(tmp_path):
    make_3dpw(tmp_path, TEST)
    (tmp_path / "imageFiles" / "downtown_bus_00" / "image_00003.jpg").unlink()
    with pytest.raises(InputError, match=r"wanted 6 images numbered without a gap.*found 5"):
        read(tmp_path)


def test_without_images_there_is_a_camera_but_no_frames(tmp_path):
    bus, _ = read(make_3dpw(tmp_path, TEST, images=False))
    assert bus.frames is None
    assert (bus.camera.width, bus.camera.height, bus.camera.focal_px[0]) == (108, 192, 196)


SPREAD = [
    ("train", "courtyard_backpack_00", 4, 1),
    ("test", "courtyard_basketball_00", 300, 1),
    ("test", "downtown_walking_00", 4, 2),
    ("validation", "courtyard_hug_00", 101, 2),
]


def test_subsets_are_the_published_lists_of_all_splits(tmp_path):
    make_3dpw(tmp_path, SPREAD, images=False)
    assert [s.name for s in read(tmp_path)] == ["courtyard_basketball_00", "downtown_walking_00"]
    assert [s.name for s in read(tmp_path, split="train")] == ["courtyard_backpack_00"]
    assert [s.name for s in read(tmp_path, "3dpw-oc")] == ["courtyard_backpack_00", "courtyard_basketball_00"]
    hidden = {s.name: s.people[0].valid for s in read(tmp_path, "3dpw-pc")}
    assert set(hidden) == {"courtyard_hug_00", "courtyard_basketball_00"}
    assert np.flatnonzero(hidden["courtyard_basketball_00"]).tolist() == list(range(200, 280))
    assert np.flatnonzero(hidden["courtyard_hug_00"]).tolist() == [100]
    assert [s.name for s in read(tmp_path, subset="nc", split="all")] == ["downtown_walking_00"]
    assert len(OBJECT_OCCLUDED) == 17
    assert sum(end - first for first, end in PERSON_OCCLUDED.values()) == 1380


def test_a_users_list_of_frames(tmp_path):
    make_3dpw(tmp_path, SPREAD, images=False)
    listed = tmp_path / "occ.txt"
    listed.write_text(
        "# mine\ncourtyard_basketball_00 10 13\ncourtyard_basketball_00 20\n"
        "imageFiles/courtyard_backpack_00/image_00003.jpg\ndowntown_walking_00.pkl\n"
    )
    valid = {s.name: s.people[0].valid for s in read(tmp_path, "3dpw-occ", frame_list=listed)}
    assert np.flatnonzero(valid["courtyard_basketball_00"]).tolist() == [10, 11, 12, 20]
    assert np.flatnonzero(valid["courtyard_backpack_00"]).tolist() == [3]
    assert np.flatnonzero(valid["downtown_walking_00"]).tolist() == [0, 3]  # 1 and 2 do not count anyhow
    assert "courtyard_hug_00" not in valid
    with pytest.raises(UsageError, match="--frame-list"):
        read(tmp_path, "3dpw-occ")
    listed.write_text("courtyard_hug_00 one two\n")
    with pytest.raises(InputError, match=r"occ\.txt, line 1"):
        read_frame_list(listed)
    listed.write_text("# nothing\n")
    with pytest.raises(InputError, match="found none"):
        read(tmp_path, "3dpw-occ", frame_list=listed)


def test_one_message_says_what_is_missing(tmp_path):
    with pytest.raises(InputError) as error:
        read(tmp_path, split="all")
    message = str(error.value)
    assert "\n" not in message
    assert "virtualhumans.mpi-inf.mpg.de/3DPW" in message
    assert message.count("*.pkl") == 3
    (tmp_path / "3dpw_test.npz").touch()
    with pytest.raises(InputError, match="--dataset npz"):
        read(tmp_path)


@pytest.mark.parametrize("options", [{"split": "tset"}, {"subset": "xx"}, {"settings": {"a": "b"}}])
def test_options_that_it_does_not_have_are_refused(tmp_path, options):
    with pytest.raises(UsageError, match="dataset 3dpw"):
        read(make_3dpw(tmp_path, TEST[:1]), **options)


def test_other_versions_and_hostile_files_are_recognised(tmp_path):
    make_3dpw(tmp_path, TEST[:1])
    path = tmp_path / "sequenceFiles" / "test" / "downtown_bus_00.pkl"
    record = pickle.loads(path.read_bytes(), encoding="latin1")
    rotated = {**record, "poses2d": [points.transpose(0, 2, 1) for points in record["poses2d"]]}
    dump_python2(rotated, path)
    with pytest.raises(InputError, match=re.escape("poses2d: wanted shape (6, 3, 18), found (6, 18, 3)")):
        read(tmp_path)
    dump_python2({key: value for key, value in record.items() if key != "cam_poses"}, path)
    with pytest.raises(InputError, match="it lacks cam_poses"):
        read(tmp_path)
    dump_python2({**record, "betas": [betas[:8] for betas in record["betas"]]}, path)
    with pytest.raises(InputError, match="wanted 10 coefficients or 300, found 8"):
        read(tmp_path)
    dump_python2({**record, "genders": ["m", "x"]}, path)
    with pytest.raises(InputError, match="wanted neutral, male or female, found 'x'"):
        read(tmp_path)

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made_by_a_pickle"),)

    path.write_bytes(pickle.dumps({**record, "sequence": Hostile()}))
    with pytest.raises(InputError, match="mkdir"):
        read(tmp_path)
    assert not (tmp_path / "made_by_a_pickle").exists()


def test_strangers_among_the_images_do_not_shift_frames(tmp_path):
    make_3dpw(tmp_path, TEST)
    write_images(tmp_path / "imageFiles" / "downtown_bus_00", 1, (108, 192), name="cover.jpg")
    with pytest.raises(InputError, match="without a gap"):
        read(tmp_path)
