"""Human3.6M: both layouts and both calibrations say the same, and the protocols choose what their papers chose."""

import io
import os
import zipfile

import numpy as np
import pytest
from made_datasets import h36m_positions, make_h36m, write_images

from hmrkit.camera import project
from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.datasets.h36m import MOVING_JOINTS
from hmrkit.datasets.h36m_cameras import CAMERAS, read_calibration
from hmrkit.errors import InputError
from hmrkit.skeletons import H36M_17


def read(root, protocol="pavllo-1"):
    dataset = load_dataset("h36m", root, DatasetOptions(protocol=protocol))
    dataset.check()
    return list(dataset.sequences())


@pytest.mark.parametrize(("layout", "calibration"), [("npz", "py"), ("mat", "xml"), ("mat", "py")])
def test_all_layouts_give_the_same_sequences(tmp_path, layout, calibration):
    first = read(make_h36m(tmp_path / "a"))
    second = read(make_h36m(tmp_path / "b", layout, calibration))
    assert [s.name for s in first] == [s.name for s in second]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a.people[0].joints_c, b.people[0].joints_c, atol=2e-5)
        np.testing.assert_allclose(a.people[0].keypoints_2d, b.people[0].keypoints_2d, atol=0.05)


def test_joints_stand_upright_in_front_of_each_camera_with_their_lengths(tmp_path):
    for sequence in read(make_h36m(tmp_path)):
        (person,) = sequence.people
        subject, action = sequence.name.split(".")[0].split("_", 1)
        truth = h36m_positions()[subject][action.replace("_", " ")][:, list(MOVING_JOINTS)]
        joints = person.joints_c
        assert joints[..., 2].min() > 2
        head, foot = H36M_17.indices("head_top", "left_ankle")
        rise = truth[:, head, 2] - truth[:, foot, 2]  # z is up in the file, y is down in the camera
        np.testing.assert_allclose(joints[:, foot, 1] - joints[:, head, 1], rise, atol=1e-4)
        pairs = np.linalg.norm(joints[:, :, None] - joints[:, None], axis=-1)
        np.testing.assert_allclose(pairs, np.linalg.norm(truth[:, :, None] - truth[:, None], axis=-1), atol=1e-4)


def test_the_lens_bends_what_the_pinhole_would_see(tmp_path):
    sequence = read(make_h36m(tmp_path))[0]
    (person,) = sequence.people
    camera = read_calibration(tmp_path / "metadata.xml")["S9", sequence.name.split(".")[1]]
    bent, straight = camera.project(person.joints_c), project(sequence.camera, person.joints_c)
    away = np.linalg.norm(straight - sequence.camera.center_px, axis=-1)
    assert 0.5 < np.abs(bent - straight).max() < 60
    assert (np.linalg.norm(bent - sequence.camera.center_px, axis=-1) < away + 0.5).all()  # barrel distortion
    np.testing.assert_array_equal(person.keypoints_2d[..., :2], bent)
    assert np.linalg.norm(camera.project(np.array([0.0, 0, 3])) - sequence.camera.center_px) < 1e-3


def test_protocols_choose_cameras_frames_and_recordings(tmp_path):
    make_h36m(tmp_path)
    one, two, pavllo = read(tmp_path, "hmr-p1"), read(tmp_path, "hmr-p2"), read(tmp_path)
    assert len(one) == 2 * 4 * len(CAMERAS)
    assert len(two) == 2 * 4
    assert {s.name.split(".")[1] for s in two} == {"60457274"}
    assert np.flatnonzero(two[0].people[0].valid).tolist() == [0, 5, 10]
    assert {s.name for s in one} - {s.name for s in pavllo} == {f"S11_Directions.{camera}" for camera in CAMERAS}
    assert all(s.people[0].valid.all() for s in pavllo)
    assert {s.group for s in pavllo} == {"Directions", "WalkDog", "Photo"}
    assert [s.name for s in read(tmp_path, "")] == [s.name for s in two]


def test_videos_are_found_under_either_name_and_spins_images_are_the_frames_that_count(tmp_path):
    make_h36m(tmp_path)
    (tmp_path / "S9" / "Videos").mkdir(parents=True)
    (tmp_path / "S9" / "Videos" / "Directions 1.60457274.mp4").touch()
    (tmp_path / "S9" / "Videos" / "TakingPhoto 1.60457274.mp4").touch()
    for number in (1, 6, 11):
        write_images(tmp_path / "images", 1, (8, 8), number, "S11_WalkDog.60457274_{:06d}.jpg")
    found = {s.name.split(".")[0]: s for s in read(tmp_path, "hmr-p2")}
    assert found["S9_Directions_1"].frames.name == "Directions 1.60457274.mp4"
    assert found["S9_Photo_1"].frames.name == "TakingPhoto 1.60457274.mp4"
    assert found["S9_Directions"].frames is None
    stills = found["S11_WalkDog"]
    assert [path.name[-10:-4] for path in stills.frames] == ["000001", "000006", "000011"]
    assert (stills.frame_count, stills.fps) == (3, 10)
    assert stills.people[0].valid.all()
    whole = next(s for s in read(tmp_path) if s.name == stills.name)
    np.testing.assert_array_equal(stills.people[0].joints_c, whole.people[0].joints_c[::5])


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(InputError, match=r"data_3d_h36m\.npz.*metadata\.xml"):
        read(tmp_path)
    (tmp_path / "S9" / "MyPoseFeatures" / "D3_Positions").mkdir(parents=True)
    (tmp_path / "S9" / "MyPoseFeatures" / "D3_Positions" / "Directions.cdf").touch()
    with pytest.raises(InputError, match="--from-source-cdf"):
        read(tmp_path)
    (tmp_path / "h36m_valid_protocol2.npz").touch()
    with pytest.raises(InputError, match="--dataset npz"):
        read(tmp_path)
    make_h36m(tmp_path)
    (tmp_path / "metadata.xml").write_text("<metadata><w0>[1 2 3]</w0></metadata>")
    with pytest.raises(InputError, match="expected 300 numbers, got 3"):
        read(tmp_path)


def test_a_hostile_table_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made_by_a_pickle"),)

    make_h36m(tmp_path)
    stream = io.BytesIO()
    np.save(stream, np.array({"S9": Hostile()}, object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "data_3d_h36m.npz", "w") as archive:
        archive.writestr("positions_3d.npy", stream.getvalue())
    with pytest.raises(InputError, match="mkdir"):
        read(tmp_path)
    assert not (tmp_path / "made_by_a_pickle").exists()
