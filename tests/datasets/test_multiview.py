"""Recordings of four cameras in every calibration format: pixels, triangulated, through TRC, come back as pixels."""

import json
from fractions import Fraction

import numpy as np
import pytest
from films import write_film
from scipy.spatial.transform import Rotation

from hmrkit.datasets import DatasetOptions, load_dataset
from hmrkit.datasets.camera_files import read_cameras
from hmrkit.datasets.multiview import AXES
from hmrkit.datasets.trc import MarkerTracks, at_frames
from hmrkit.datasets.view_camera import ViewCamera
from hmrkit.errors import InputError, UsageError

WIDTH, HEIGHT, FRAMES, FPS = 320, 240, 12, 10
# Roughly a person about the origin of a z-up world, metres; names as Pose2Sim writes HALPE-26.
BODY = {
    "RHip": (0.0, -0.1, 0.95), "RKnee": (0.05, -0.1, 0.5), "RAnkle": (0, -0.1, 0.08), "LHip": (0, 0.1, 0.95),
    "LKnee": (0.05, 0.1, 0.5), "LAnkle": (0, 0.1, 0.08), "RShoulder": (0, -0.18, 1.45), "LShoulder": (0, 0.18, 1.45),
    "RWrist": (0.3, -0.3, 1.1), "LWrist": (0.2, 0.3, 1.2), "Nose": (0.1, 0, 1.6), "Head": (0, 0, 1.75),
}  # fmt: skip
JOINTS = (
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_shoulder",
    "left_shoulder", "right_wrist", "left_wrist", "nose", "head_top",
)  # fmt: skip


def looking_at(name, place, distortion, fisheye=False, width=WIDTH, height=HEIGHT):
    """A camera at `place` that looks at the belly, upright in a z-up world."""
    forward = np.array([0, 0, 0.9]) - place
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    transform = np.eye(4)
    transform[:3, :3] = [right, np.cross(forward, right), forward]
    transform[:3, 3] = -transform[:3, :3] @ place
    matrix = np.array([[230.0, 0, width / 2 - 3.25], [0, 231, height / 2 + 2.5], [0, 0, 1]])
    return ViewCamera(name, width, height, matrix, np.array(distortion, float), transform, fisheye)


def rig(count=4):
    """Cameras around the person with a lens that bends by several pixels."""
    angles = np.arange(count) * 2 * np.pi / count + 0.3
    return [
        looking_at(f"cam{i + 1:02d}", np.array([3 * np.cos(a), 3 * np.sin(a), 1.2 + 0.1 * i]),
                   (-0.28, 0.09, 0.001, -0.002, 0.01))
        for i, a in enumerate(angles)
    ]  # fmt: skip


def walk(frames=FRAMES):
    """Joints (T,J,3) of the person moving along, world metres."""
    time = np.arange(frames)[:, None, None]
    return np.array(list(BODY.values())) + time * [0.03, -0.02, 0.005]


def trc_text(points, names, rate, units="m", axes="pose2sim", start=0, first_number=None):
    """A TRC file as Pose2Sim writes it; `points` (T,J,3) m in the z-up world."""
    scale = {"m": 1.0, "mm": 1000.0}[units]
    own = points @ AXES[axes] * scale
    number = start if first_number is None else first_number
    lines = [
        "PathFileType\t4\t(X/Y/Z)\ttrial.trc",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate}\t{rate}\t{len(own)}\t{len(names)}\t{units}\t{rate}\t{start}\t{len(own)}",
        "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t\t",
        "\t\t" + "\t".join(f"X{i + 1}\tY{i + 1}\tZ{i + 1}" for i in range(len(names))) + "\t",
    ]
    for t, row in enumerate(own):
        cells = ["" if np.isnan(v) else repr(float(v)) for v in row.ravel()]
        lines.append("\t".join([str(number + t), repr((number + t) / rate), *cells]))
    return "\n".join(lines) + "\n"


def write_toml(folder, cameras, scale=1.0, anipose=False):
    text = ""
    for i, c in enumerate(cameras):
        vector = Rotation.from_matrix(c.camera_from_world[:3, :3]).as_rotvec().tolist()
        text += (
            f'[{f"cam_{i}" if anipose else c.name}]\nname = "{c.name}"\nsize = [ {c.width}.0, {c.height}.0]\n'
            f"matrix = {c.matrix.tolist()}\ndistortions = {c.distortion.tolist()}\nrotation = {vector}\n"
            f"translation = {(c.camera_from_world[:3, 3] * scale).tolist()}\nfisheye = {str(c.fisheye).lower()}\n\n"
        )
    (folder / "Calib_scene.toml").write_text(text + "[metadata]\nadjusted = false\nerror = 0.0\n")


def write_qualisys(folder, cameras):
    """As QTM does: 1/64 px, mm, the camera's axes column by column with y up and z backwards."""
    text = "<?xml version='1.0' encoding='ASCII'?>\n<calibration type=\"regular\"><cameras>\n"
    text += '<camera model="Miqus M3" serial="999"><transform/><intrinsic/></camera>\n'  # a marker camera
    for c in cameras:
        axes = (c.camera_from_world[:3, :3].T @ np.diag([1, -1, -1])).T
        cells = " ".join(f'r{i + 1}{j + 1}="{axes[i, j]!r}"' for i in range(3) for j in range(3)).replace(
            "np.float64(", ""
        )
        x, y, z = (c.position_w * 1000).tolist()
        k1, k2, p1, p2, k3 = c.distortion.tolist()
        left, top = 16, 8  # a window on a larger sensor
        text += (
            f'<camera active="1" avg-residual="0.4" model="Miqus Video" serial="{c.name}" viewrotation="0">\n'
            f'<fov_video left="{left}" top="{top}" right="{left + c.width - 1}" bottom="{top + c.height - 1}"/>\n'
            f'<transform x="{x!r}" y="{y!r}" z="{z!r}" {cells.replace(")", "")}/>\n'
            f'<intrinsic focallength="9.3" focalLengthU="{64 * float(c.matrix[0, 0])!r}" '
            f'focalLengthV="{64 * float(c.matrix[1, 1])!r}" centerPointU="{64 * (float(c.matrix[0, 2]) + left)!r}" '
            f'centerPointV="{64 * (float(c.matrix[1, 2]) + top)!r}" skew="0.000000" radialDistortion1="{k1}" '
            f'radialDistortion2="{k2}" radialDistortion3="{k3}" tangentalDistortion1="{p1}" '
            f'tangentalDistortion2="{p2}"/>\n</camera>\n'
        )
    (folder / "Calib.qca.txt").write_text(text + "</cameras></calibration>\n")


def opencv_matrix(name, values):
    values = np.atleast_2d(values)
    data = ", ".join(repr(float(v)) for v in values.ravel())
    rows, columns = values.shape
    return f"{name}: !!opencv-matrix\n   rows: {rows}\n   cols: {columns}\n   dt: d\n   data: [ {data} ]\n"


def write_opencv_yaml(folder, cameras):
    """One file a camera, as OpenCV's calibration sample names things."""
    for c in cameras:
        vector = Rotation.from_matrix(c.camera_from_world[:3, :3]).as_rotvec()
        text = f"%YAML:1.0\n---\nimage_width: {c.width}\nimage_height: {c.height}\n"
        text += opencv_matrix("camera_matrix", c.matrix) + opencv_matrix(
            "distortion_coefficients", c.distortion[:, None]
        )
        text += opencv_matrix("rvec", vector[:, None]) + opencv_matrix("tvec", c.camera_from_world[:3, 3:])
        (folder / f"{c.name}.yml").write_text(text)


def write_easymocap(folder, cameras):
    names = "names:\n" + "".join(f'   - "{c.name}"\n' for c in cameras)
    intri, extri = "%YAML:1.0\n---\n" + names, "%YAML:1.0\n---\n" + names
    for c in cameras:
        vector = Rotation.from_matrix(c.camera_from_world[:3, :3]).as_rotvec()
        intri += opencv_matrix(f"K_{c.name}", c.matrix) + opencv_matrix(f"dist_{c.name}", c.distortion)
        intri += f"H_{c.name}: {c.height}\nW_{c.name}: {c.width}\n"
        extri += opencv_matrix(f"R_{c.name}", vector[:, None]) + opencv_matrix(
            f"T_{c.name}", c.camera_from_world[:3, 3:]
        )
    (folder / "intri.yml").write_text(intri)
    (folder / "extri.yml").write_text(extri)


def write_json(folder, cameras):
    table = {
        c.name: {
            "K": c.matrix.tolist(),
            "dist": c.distortion.tolist(),
            "R": c.camera_from_world[:3, :3].tolist(),
            "t": c.camera_from_world[:3, 3].tolist(),
            "image_size": [c.width, c.height],
        }
        for c in cameras
    }
    (folder / "calibration.json").write_text(json.dumps(table))


def write_opencv_json(folder, cameras):
    def matrix(values):
        values = np.atleast_2d(values)
        rows, cols = values.shape
        return {"type_id": "opencv-matrix", "rows": rows, "cols": cols, "dt": "d", "data": values.ravel().tolist()}

    for c in cameras:
        table = {
            "cameraMatrix": matrix(c.matrix),
            "distCoeffs": matrix(c.distortion),
            "R": matrix(c.camera_from_world[:3, :3]),
            "T": matrix(c.camera_from_world[:3, 3:]),
            "image_width": c.width,
            "image_height": c.height,
        }
        (folder / f"{c.name}.json").write_text(json.dumps(table))


FORMATS = {
    "pose2sim": write_toml,
    "anipose": lambda folder, cameras: write_toml(folder, cameras, scale=1000.0, anipose=True),
    "qualisys": write_qualisys,
    "opencv-yaml": write_opencv_yaml,
    "easymocap": write_easymocap,
    "json": write_json,
    "opencv-json": write_opencv_json,
}


def write_recording(root, cameras, points, *, calibration="pose2sim", trc="trial_0-11.trc", rate=FPS, **options):
    for name in ("calibration", "videos", "pose-3d"):
        (root / name).mkdir(parents=True, exist_ok=True)
    FORMATS[calibration](root / "calibration", cameras)
    for camera in cameras:
        write_film(root / "videos" / f"{camera.name}.mp4", FRAMES, (camera.height, camera.width), Fraction(FPS))
    (root / "pose-3d" / trc).write_text(trc_text(points, list(BODY), rate, **options))
    return root


def read(root, **settings):
    dataset = load_dataset("multiview", root, DatasetOptions(settings=settings))
    dataset.check()
    return list(dataset.sequences())


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Four cameras, one person; read by tests that write nothing into it."""
    root = tmp_path_factory.mktemp("recording") / "trial"
    return write_recording(root, rig(), walk())


def triangulate(cameras, pixels):
    """Points (...,3) nearest to the rays through pixels (C,...,2), undistorted; linear least squares."""
    rows, right = [], []
    for camera, here in zip(cameras, pixels, strict=True):
        straight = camera.undistort(here)
        pinhole = camera.pinhole()
        xy = (straight - pinhole.center_px.astype(float)) / camera.matrix[[0, 1], [0, 1]]
        r, t = camera.camera_from_world[:3, :3], camera.camera_from_world[:3, 3]
        for axis in (0, 1):
            rows.append(xy[..., axis, None] * r[2] - r[axis])
            right.append(t[axis] - xy[..., axis] * t[2])
    a, b = np.stack(rows, -2), np.stack(right, -1)[..., None]
    return np.linalg.solve(a.swapaxes(-1, -2) @ a, a.swapaxes(-1, -2) @ b)[..., 0]


@pytest.mark.parametrize("calibration", FORMATS)
def test_triangulated_points_come_back_to_their_pixels(tmp_path, calibration):
    if calibration in ("opencv-yaml", "easymocap"):
        pytest.importorskip("cv2")
    cameras = rig()
    # The pixels are the given thing: whole-number clicks would not meet in one point, exact ones do.
    given = np.stack([camera.project(camera.to_camera(walk())) for camera in cameras])
    points = triangulate(cameras, given)
    write_recording(tmp_path, cameras, points, calibration=calibration)
    sequences = read(tmp_path)
    assert [s.group for s in sequences] == ["cam01", "cam02", "cam03", "cam04"]
    for sequence, camera, pixels in zip(sequences, cameras, given, strict=True):
        truth = sequence.people[0]
        assert truth.skeleton.joints == JOINTS
        assert np.abs(truth.keypoints_2d[..., :2] - pixels).max() < 0.01
        assert np.abs(truth.joints_c - camera.to_camera(walk())).max() < 1e-5
        # The distortion is real: without it the points would be off by pixels.
        straight = camera.undistort(pixels)
        assert np.abs(straight - pixels).max() > 1
        focal, center = sequence.camera.focal_px, sequence.camera.center_px
        pinhole = truth.joints_c[..., :2] / truth.joints_c[..., 2:] * focal + center
        assert np.abs(pinhole - straight).max() < 0.01


def test_pose2sims_conversion_of_a_qualisys_file(tmp_path):
    """cam01 of Pose2Sim's demo (BSD-3): its Calib.qca.txt and what its own converter makes of it."""
    (tmp_path / "Calib.qca.txt").write_text("""<?xml version='1.0' encoding='ASCII'?>
<calibration><cameras><camera active="1" avg-residual="0.402" model="none" serial="cam01" viewrotation="0">
<fov_video bottom="1919" left="0" right="1087" top="0"/>
<transform r11="0.5536380477336265" r12="0.8046719867383512" r13="0.2144479094331626" r21="-0.4345300743838753"
 r22="0.05946489349975602" r23="0.8986921279821063" r31="0.7104002579937896" r32="-0.5907342212870501"
 r33="0.3825762057979294" x="1460.2323709212087" y="-1909.1590482454608" z="1896.5058524092062"/>
<intrinsic centerPointU="34110.316406" centerPointV="60680.792969" focalLengthU="107599.671875"
 focalLengthV="107588.828125" radialDistortion1="-0.046183" radialDistortion2="0.139983" radialDistortion3="0.000000"
 tangentalDistortion1="0.000608" tangentalDistortion2="0.00069"/></camera></cameras></calibration>""")
    (camera,) = read_cameras(tmp_path / "Calib.qca.txt")
    rotation = Rotation.from_rotvec([1.68827548, 1.04832205, -0.41955852]).as_matrix()
    np.testing.assert_allclose(camera.camera_from_world[:3, :3], rotation, atol=1e-7)
    np.testing.assert_allclose(camera.camera_from_world[:3, 3], [0.32110489, 0.95633206, 2.89071305], atol=1e-7)
    np.testing.assert_allclose(camera.matrix[:2, 2], [532.97369384375, 948.137390140625])
    assert (camera.width, camera.height) == (1088, 1920)
    np.testing.assert_allclose(camera.distortion, [-0.046183, 0.139983, 0.000608, 0.00069, 0])


@pytest.mark.parametrize(
    ("distortion", "fisheye"),
    [((), False), ((-0.3, 0.1, 0.001, 0.002), False), ((-0.3, 0.1, 0.001, 0.002, -0.01), False),
     ((0.2, 0.1, 0.001, 0.002, -0.01, 0.3, 0.05, 0.01), False),
     ((0.2, 0.1, 0, 0.002, -0.01, 0.3, 0.05, 0.01, 0.01, -0.002, 0.005, 0.001), False),
     ((0.05, -0.01, 0.003, -0.001), True)],
)  # fmt: skip
def test_lens_models_are_opencvs(distortion, fisheye):
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    camera = looking_at("c", np.array([3.0, 0, 1]), distortion, fisheye)
    points = np.stack([*rng.uniform(-1, 1, (2, 200)), rng.uniform(2, 4, 200)], -1)
    lens = cv2.fisheye if fisheye else cv2
    args = (points[:, None], np.zeros(3), np.zeros(3), camera.matrix, camera.distortion if distortion else np.zeros(4))
    theirs = lens.projectPoints(*args)[0].reshape(-1, 2)
    pixels = camera.project(points)
    # OpenCV counts from the middle of the first pixel, hmrkit from the image's corner.
    np.testing.assert_allclose(pixels, theirs + 0.5, atol=1e-9)
    straight = points[:, :2] / points[:, 2:] @ camera.matrix[:2, :2].T + camera.matrix[:2, 2] + 0.5
    np.testing.assert_allclose(camera.undistort(pixels), straight, atol=1e-6)


def test_what_is_far_outside_is_not_folded_into_the_image():
    camera = looking_at("c", np.array([3.0, 0, 1]), (-0.28, 0.0, 0, 0, 0))
    bent = camera.distort(np.array([[1.8, 0.0]]))[0, 0]
    assert 0 < bent < 0.5, "the polynomial does rotate back"
    assert np.isnan(camera.project(np.array([1.8, 0, 1.0]))).all()
    assert np.isnan(camera.project(np.array([0.1, 0, -1.0]))).all()
    assert np.isfinite(camera.project(np.array([0.9, 0, 1.0]))).all()


def test_a_resized_camera_sees_the_same_places():
    camera = rig()[0]
    points = camera.to_camera(walk())
    np.testing.assert_allclose(camera.resized(160, 120).project(points) * 2, camera.project(points), atol=1e-9)


def test_contract_of_a_sequence(recording):
    sequences = read(recording)
    assert [s.name for s in sequences] == [f"trial-cam0{i}" for i in (1, 2, 3, 4)]
    for sequence in sequences:
        (truth,) = sequence.people
        assert sequence.frame_count == FRAMES
        assert sequence.fps == FPS
        assert truth.frame_indices.tolist() == list(range(FRAMES))
        assert truth.valid.all()
        assert truth.keypoints_2d.dtype == truth.joints_c.dtype == truth.boxes_xyxy.dtype == np.float32
        low, high = truth.boxes_xyxy[:, None, :2], truth.boxes_xyxy[:, None, 2:]
        inside = truth.keypoints_2d[..., 2] == 2
        assert ((truth.keypoints_2d[..., :2] >= low) & (truth.keypoints_2d[..., :2] <= high))[inside].all()
        back = np.linalg.inv(truth.camera_from_world[0]) @ np.append(truth.joints_c[3, 0], 1)
        np.testing.assert_allclose(back[:3], walk()[3, 0], atol=1e-5)


def test_axes_are_found_by_what_the_images_show(tmp_path, recording):
    expected = [s.people[0].joints_c for s in read(recording)]
    other = write_recording(tmp_path / "same", rig(), walk(), axes="same")
    for found, want in zip(read(other), expected, strict=True):
        np.testing.assert_allclose(found.people[0].joints_c, want, atol=1e-6)
    third = write_recording(tmp_path / "opensim", rig(), walk(), axes="opensim")
    for found, want in zip(read(third, axes="opensim"), expected, strict=True):
        np.testing.assert_allclose(found.people[0].joints_c, want, atol=1e-6)


def test_joints_that_no_camera_sees_are_refused(tmp_path):
    write_recording(tmp_path, rig(), walk() + np.array([40, 40, 0]))
    with pytest.raises(InputError, match="% of the joints fall into the images"):
        read(tmp_path)


def test_nobody_was_seen(tmp_path):
    write_recording(tmp_path, rig(), walk() * np.nan)
    with pytest.raises(InputError, match="only 0 % of the joints fall into the images"):
        read(tmp_path)


def test_millimetres(tmp_path, recording):
    root = write_recording(tmp_path, rig(), walk(), units="mm")
    for found, want in zip(read(root), read(recording), strict=True):
        np.testing.assert_allclose(found.people[0].joints_c, want.people[0].joints_c, atol=1e-6)


def test_missing_is_nan_and_only_there(tmp_path):
    points = walk()
    points[4, 2] = np.nan
    truth = read(write_recording(tmp_path, rig(), points))[0].people[0]
    lost = np.isnan(truth.joints_c).any(-1)
    assert lost[4, 2]
    assert lost.sum() == 1
    assert truth.keypoints_2d[4, 2, 2] == 0
    assert np.isnan(truth.keypoints_2d[4, 2, :2]).all()


def test_a_rate_next_to_the_videos_is_the_videos():
    """Pose2Sim writes 60 for 59.94: after 100 s the clocks are six frames apart, the images are not."""
    fps, frames = 60000 / 1001, np.arange(6000)
    joints = np.broadcast_to(frames[:, None, None], (6000, 1, 3)).astype(float)
    tracks = MarkerTracks(("Nose",), frames / 60, 60.0, joints)
    found, positions = at_frames(tracks, joints, frames / fps, fps, 0.0)
    np.testing.assert_array_equal(found, frames)
    np.testing.assert_array_equal(positions[:, 0, 0], frames)


def test_rows_numbered_from_one_start_at_the_headers_frame(tmp_path):
    points = walk()
    root = write_recording(tmp_path, rig(), points[:8], start=3, first_number=1)
    truth = read(root)[0].people[0]
    assert truth.frame_indices.tolist() == list(range(3, 11))
    np.testing.assert_allclose(truth.joints_c, rig()[0].to_camera(points[:8]), atol=1e-5)


def test_a_faster_system_is_sampled_at_the_frames(tmp_path):
    """Uniform motion at 35 Hz, a video of 10 Hz: interpolation between rows is exact."""
    steady = np.array(list(BODY.values())) + np.arange(60)[:, None, None] / 35 * np.array([0.3, -0.2, 0.05])
    at_frames = np.array(list(BODY.values())) + np.arange(FRAMES)[:, None, None] / 10 * np.array([0.3, -0.2, 0.05])
    root = write_recording(tmp_path, rig(), steady, rate=35)
    truth = read(root)[0].people[0]
    assert truth.frame_indices.tolist() == list(range(FRAMES))
    np.testing.assert_allclose(truth.joints_c, rig()[0].to_camera(at_frames), atol=2e-3 * 0.4)


def test_time_offset_moves_every_camera_or_one(tmp_path):
    points = walk()
    root = write_recording(tmp_path, rig(), points)
    all_later = read(root, time_offset="0.2")
    assert [s.people[0].frame_indices[0] for s in all_later] == [2, 2, 2, 2]
    np.testing.assert_allclose(all_later[1].people[0].joints_c, rig()[1].to_camera(points[:-2]), atol=1e-5)
    one = read(root, time_offset="cam02=-0.3,cam03=0.1")
    assert [len(s.people[0].frame_indices) for s in one] == [12, 9, 11, 12]
    np.testing.assert_allclose(one[1].people[0].joints_c, rig()[1].to_camera(points[3:]), atol=1e-5)


def test_a_slower_system_has_truth_only_at_its_rows(tmp_path):
    root = write_recording(tmp_path, rig(), walk()[::2], rate=5)
    truth = read(root)[0].people[0]
    assert truth.frame_indices.tolist() == [0, 2, 4, 6, 8, 10]
    np.testing.assert_allclose(truth.joints_c, rig()[0].to_camera(walk()[::2]), atol=1e-5)


def test_people_and_variants_of_their_files(tmp_path):
    root = write_recording(tmp_path, rig(), walk(), trc="trial_P1_0-11.trc")
    shifted = walk() + np.array([0.4, 0, 0])
    for name, points in (
        ("trial_P2_0-11.trc", walk() + 9),
        ("trial_P2_0-11_filt_butterworth.trc", shifted),
        ("trial_P2_0-11_filt_butterworth_LSTM.trc", walk() + 9),
    ):
        (root / "pose-3d" / name).write_text(trc_text(points, list(BODY), FPS))
    people = read(root)[0].people
    assert [p.person for p in people] == ["P1", "P2"]
    np.testing.assert_allclose(people[1].joints_c, rig()[0].to_camera(shifted), atol=1e-5)
    (root / "pose-3d" / "trial_P2_0-11_filt_kalman.trc").write_text(trc_text(shifted, list(BODY), FPS))
    with pytest.raises(InputError, match="which is the truth of P2"):
        read(root)
    assert len(read(root, trc="*butterworth.trc")[0].people) == 1


def test_several_trials_share_a_calibration(tmp_path):
    write_recording(tmp_path / "Trial_1", rig(), walk())
    write_recording(tmp_path / "Trial_2", rig(), walk())
    (tmp_path / "Trial_1" / "calibration").rename(tmp_path / "calibration")
    (tmp_path / "Trial_2" / "calibration" / "Calib_scene.toml").unlink()
    sequences = read(tmp_path)
    assert [s.name for s in sequences][::4] == ["Trial_1-cam01", "Trial_2-cam01"]


def test_videos_are_matched_by_name_or_order(tmp_path):
    root = write_recording(tmp_path, rig(), walk())
    for i in (1, 2, 3, 4):
        (root / "videos" / f"cam0{i}.mp4").rename(root / "videos" / f"Cam_{i}.mp4")
    assert [s.frames.name for s in read(root)] == [f"Cam_{i}.mp4" for i in (1, 2, 3, 4)]
    for i, name in zip((1, 2, 3, 4), ("left2", "left10", "right1", "right2"), strict=True):
        (root / "videos" / f"Cam_{i}.mp4").rename(root / "videos" / f"{name}.mp4")
    assert [s.frames.stem for s in read(root)] == ["left2", "left10", "right1", "right2"]
    (root / "videos" / "left2.mp4").unlink()
    with pytest.raises(InputError, match="name each video like its camera"):
        read(root)


def test_a_subset_of_cameras(recording):
    dataset = load_dataset("multiview", recording, DatasetOptions(subset="cam03,cam01"))
    assert [s.group for s in dataset.sequences()] == ["cam01", "cam03"]


@pytest.mark.parametrize(
    ("size", "works"), [((240, 320), True), ((120, 160), True), ((236, 316), True), ((320, 240), False)]
)
def test_the_videos_size_against_the_calibrations(tmp_path, size, works):
    root = write_recording(tmp_path, rig(1), walk())
    write_film(root / "videos" / "cam01.mp4", FRAMES, size, Fraction(FPS))
    if not works:
        with pytest.raises(InputError, match="is 240x320, but its camera cam01 was calibrated at 320x240"):
            read(root)
        return
    (sequence,) = read(root)
    scale = 0.5 if size == (120, 160) else 1
    pixels = rig()[0].project(rig()[0].to_camera(walk()))
    np.testing.assert_allclose(sequence.people[0].keypoints_2d[..., :2], pixels * scale, atol=1e-3)
    assert (sequence.camera.height, sequence.camera.width) == size


def test_what_is_missing_is_said_once(tmp_path):
    for absent, what in (("pose-3d", "pose-3d/"), ("videos", "videos"), ("calibration", "calibration")):
        root = write_recording(tmp_path / absent, rig(1), walk())
        for path in (root / absent).iterdir():
            path.unlink()
        with pytest.raises(InputError, match=f"lacks .*{what}.*your own recording") as raised:
            load_dataset("multiview", root).check()
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="lacks"):
        load_dataset("multiview", tmp_path / "nowhere").check()


@pytest.mark.parametrize("options", [{"subset": "cam9"}, {"settings": {"time_offset": "cam01=0.1,cam9=0.2"}}])
def test_cameras_that_are_not_there_are_named(recording, options):
    with pytest.raises(UsageError, match="no camera is called 'cam9'; there are cam01, cam02"):
        load_dataset("multiview", recording, DatasetOptions(**options)).check()


def test_yaml_written_by_hand(tmp_path):
    pytest.importorskip("cv2")
    cameras = rig(2)
    text = ""
    for c in cameras:
        rotation, translation = c.camera_from_world[:3, :3].tolist(), c.camera_from_world[:3, 3].tolist()
        text += f"{c.name}:\n  K: {c.matrix.tolist()}\n  dist: {c.distortion.tolist()}\n"
        text += f"  R: {rotation}\n  t: {translation}\n  size: [{c.width}, {c.height}]\n"
    (tmp_path / "calib.yaml").write_text(text)
    for found, want in zip(read_cameras(tmp_path / "calib.yaml"), cameras, strict=True):
        np.testing.assert_allclose(found.camera_from_world, want.camera_from_world)
        np.testing.assert_allclose(found.distortion, want.distortion)
    (tmp_path / "calib.yaml").write_text("cam01: [1, 2\n  K: {")
    with pytest.raises(InputError, match="no calibration that can be used"):
        read_cameras(tmp_path / "calib.yaml")


@pytest.mark.parametrize(
    "options",
    [{"split": "test"}, {"settings": {"zoom": "2"}}, {"settings": {"axes": "left"}},
     {"settings": {"time_offset": "soon"}}, {"settings": {"markers": "LKNE"}}],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(tmp_path, options):
    with pytest.raises(UsageError):
        load_dataset("multiview", tmp_path, DatasetOptions(**options))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace("rotation = ", "rotated = "), "camera cam01 lacks a rotation"),
        (lambda text: text.replace("size = ", "extent = "), "camera cam01 lacks a size"),
        (lambda text: text.replace("distortions = [", "distortions = [9.0, "), "distortion coefficients, got 6"),
        (lambda text: text.replace("[cam01]", "[cam01"), "no calibration that can be used"),
        (lambda text: "[metadata]\nerror = 0.0\n", "found none"),
    ],
)
def test_damaged_calibrations_name_the_camera_and_the_part(tmp_path, edit, message):
    write_toml(tmp_path, rig(1))
    path = tmp_path / "Calib_scene.toml"
    path.write_text(edit(path.read_text()))
    with pytest.raises(InputError, match=message):
        read_cameras(path)


def test_a_mirrored_rotation_is_refused(tmp_path):
    (camera,) = rig(1)
    write_json(tmp_path, [camera])
    table = json.loads((tmp_path / "calibration.json").read_text())
    table["cam01"]["R"][0] = [-v for v in table["cam01"]["R"][0]]
    (tmp_path / "calibration.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match="not orthogonal, or mirrored"):
        read_cameras(tmp_path / "calibration.json")
