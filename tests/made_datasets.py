"""Small copies of gated datasets, with their exact folders, files and fields, made from the free body.

Whatever the real files hold is there, also what hmrkit does not read. The person of each is posed by the free body, so
a reader is right when that body, posed by what was read and seen by the camera that was read, lands on the 2D joints.
"""

import functools
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat

from hmrkit.body import load_body
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.skeletons import H36M_17, LSP_14, SMPL_24

COCO_FROM_SMPL = (
    *("head", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
)
LSP_FROM_SMPL = tuple("head" if name == "head_top" else name for name in LSP_14.joints)


class _Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote its one kind of string, which readers then have to know as latin1."""

    def _save_string(self, value):
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch = pickle._Pickler.dispatch | {str: _save_string, bytes: _save_string}


def dump_python2(value, path):
    """A protocol 2 pickle as Python 2 and its NumPy would have written it."""
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(value)
    Path(path).write_bytes(stream.getvalue().replace(b"numpy._core", b"numpy.core"))


def write_images(folder, count, size, first=0, name="image_{:05d}.jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("RGB", size, (40, 60, 80)).save(folder / name.format(first + index))


def motion(frames, seed):
    """Poses (T,72), translations (T,3) and shape (10,) of somebody who moves about the origin of the world."""
    rng = np.random.default_rng(seed)
    start, end = rng.normal(0, 0.3, (2, 72))
    share = np.linspace(0, 1, frames)[:, None]
    return start + share * (end - start), share * rng.normal(0, 0.5, 3) + rng.normal(0, 1, 3), rng.normal(0, 1, 10)


def rotations(axis_angle):
    return axis_angle_to_matrix(torch.as_tensor(np.asarray(axis_angle), dtype=torch.float64)).numpy()


@functools.cache
def free_body():
    return load_body()


def posed(pose, transl, betas):
    """The free body's 24 joints (T,24,3) in the frame of `transl`."""
    local = torch.from_numpy(rotations(np.asarray(pose).reshape(len(pose), 24, 3))).float()
    out = free_body().joints_only(local[:, 0], local[:, 1:], np.asarray(betas, np.float32), np.asarray(transl))
    return out.joints.double().numpy()


def moving_camera(joints_w, seed, distance=4.0):
    """Camera-from-world (T,4,4) of a camera that rotates as it likes while the pelvis stays in front of it."""
    frames = len(joints_w)
    rng = np.random.default_rng(seed)
    extrinsics = np.tile(np.eye(4), (frames, 1, 1))
    extrinsics[:, :3, :3] = rotations(rng.normal(0, 1, 3) + np.linspace(0, 0.2, frames)[:, None])
    pelvis = np.array([0.05, -0.1, distance])
    extrinsics[:, :3, 3] = pelvis - np.einsum("tij,tj->ti", extrinsics[:, :3, :3], joints_w[:, 0])
    return extrinsics


def see(extrinsics, joints_w, intrinsics):
    """World joints (T,J,3) -> (pixels (T,J,2), camera frame (T,J,3))."""
    joints_c = np.einsum("tij,tkj->tki", extrinsics[:, :3, :3], joints_w) + extrinsics[:, None, :3, 3]
    pixels = joints_c @ intrinsics.T
    return pixels[..., :2] / pixels[..., 2:], joints_c


def make_3dpw(root, sequences, images=True, first_image=0, python2=True):
    """`sequences`: (split, name, frames, people). The camera is lost in frame 1, the people not detected in frame 2."""
    width, height = 108, 192
    intrinsics = np.array([[196.0, 0, width / 2], [0, 196.0, height / 2], [0, 0, 1]])
    for seed, (split, name, frames, people) in enumerate(sequences):
        record = {
            "sequence": name, "betas": [], "poses": [], "trans": [], "poses_60Hz": [], "trans_60Hz": [],
            "poses2d": [], "jointPositions": [], "img_frame_ids": np.arange(frames) * 2, "cam_poses": None,
            "campose_valid": [], "cam_intrinsics": intrinsics, "genders": ["m", "f"][:people],
            "texture_maps": [np.zeros((2, 2, 3), np.uint8)] * people, "betas_clothed": [np.zeros(10)] * people,
            "v_template_clothed": [np.zeros((6890, 3))] * people,
        }  # fmt: skip
        for person in range(people):
            pose, transl, betas = motion(frames, 10 * seed + person)
            joints_w = posed(pose, transl, betas)
            if person == 0:
                record["cam_poses"] = moving_camera(joints_w, seed)
            pixels, _ = see(record["cam_poses"], joints_w, intrinsics)
            detected = np.zeros((frames, 3, 18))
            detected[:, :2, :14] = pixels[:, SMPL_24.indices(*COCO_FROM_SMPL)].transpose(0, 2, 1)
            detected[:, 2, :14] = 0.8
            detected[2 % frames :: frames] = 0
            trusted = np.ones(frames, np.int64)
            trusted[1 % frames] = 0
            record["betas"].append(betas if person == 0 else np.pad(betas, (0, 290)))
            record["poses"].append(pose)
            record["trans"].append(transl)
            record["poses_60Hz"].append(np.repeat(pose, 2, 0))
            record["trans_60Hz"].append(np.repeat(transl, 2, 0))
            record["poses2d"].append(detected)
            record["jointPositions"].append(joints_w.reshape(frames, 72))
            record["campose_valid"].append(trusted)
        path = root / "sequenceFiles" / split / f"{name}.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if python2:
            dump_python2(record, path)
        else:
            path.write_bytes(pickle.dumps(record))
        if images:
            write_images(root / "imageFiles" / name, frames, (width, height), first_image)
    return root


def make_emdb(root, sequences, images=True):
    """`sequences`: (person, name, frames, emdb1, emdb2). Frame 1 is not good, the box of frame 2 is not valid."""
    width, height = 144, 192
    intrinsics = np.array([[150.0, 0, 72], [0, 150.0, 96], [0, 0, 1]])
    for seed, (person, name, frames, emdb1, emdb2) in enumerate(sequences):
        pose, transl, betas = motion(frames, seed)
        joints_w = posed(pose, transl, betas)
        extrinsics = moving_camera(joints_w, seed)
        pixels, _ = see(extrinsics, joints_w, intrinsics)
        boxes = np.concatenate([pixels.min(1), pixels.max(1)], 1)
        good = np.ones(frames, bool)
        good[1] = False
        record = {
            "gender": "female", "name": f"{person}_{name}", "emdb1": emdb1, "emdb2": emdb2, "n_frames": frames,
            "good_frames_mask": good,
            "camera": {"intrinsics": intrinsics, "extrinsics": extrinsics, "width": width, "height": height},
            "smpl": {"poses_root": pose[:, :3], "poses_body": pose[:, 3:], "trans": transl, "betas": betas},
            "kp2d": pixels, "bboxes": {"bboxes": boxes, "invalid_idxs": np.array([1, 2])},
        }  # fmt: skip
        folder = root / person / name
        folder.mkdir(parents=True)
        (folder / f"{person}_{name}_data.pkl").write_bytes(pickle.dumps(record))
        if images:
            write_images(folder / "images", frames, (width, height), name="{:05d}.jpg")
    return root


def make_up_3d(root, count, split="test", rows=3):
    """Neutral bodies in images whose camera rotates (`rt`) and stands somewhere (`t`); every second has a render."""
    size = np.array([60, 90])
    root.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pose, transl, betas = motion(1, index)
        rotation = np.random.default_rng(index).normal(0, 0.2, 3)
        joints_w = posed(pose, transl, betas)
        move = np.array([0, 0, 150.0]) - rotations(rotation) @ joints_w[0, 0]
        extrinsics = np.eye(4)[None]
        extrinsics[0, :3, :3], extrinsics[0, :3, 3] = rotations(rotation), move
        intrinsics = np.array([[5000.0, 0, size[0] / 2], [0, 5000.0, size[1] / 2], [0, 0, 1]])
        pixels = see(extrinsics, joints_w, intrinsics)[0][0, SMPL_24.indices(*LSP_FROM_SMPL)]
        seen = np.ones((14, 1))
        seen[3] = 0
        joints = np.concatenate([np.where(seen > 0, pixels, 0), seen], 1).T[:rows]
        stem = f"{index:05d}"
        np.save(root / f"{stem}_joints.npy", joints)
        fit = {
            "j2d": pixels, "t": move, "rt": rotation, "f": 5000.0, "pose": pose[0], "betas": betas, "trans": transl[0],
        }  # fmt: skip
        dump_python2(fit, root / f"{stem}_body.pkl")
        Image.new("RGB", tuple(size), (9, 9, 9)).save(root / f"{stem}_image.png")
        (root / f"{stem}_quality_info.txt").write_text("medium\n")
        (root / f"{stem}_fit_crop_info.txt").write_text("90 60 0 90 0 60\n")
        if index % 2:
            render = np.full((90, 60, 3), 255, np.uint8)
            render[20:71, 10:31] = (200, 160, 170)
            Image.fromarray(render).save(root / f"{stem}_render_light.png")
    (root / f"{split}.txt").write_text("".join(f"/{index:05d}_image.png\n" for index in range(count)))
    return root


def make_surreal(root, clips, video=False):
    """`clips`: (split, run, sequence, clip number, frames), by the formulas of SURREAL's own scripts."""
    for seed, (split, run, sequence, number, frames) in enumerate(clips):
        pose, _, _ = motion(frames, seed)
        zrot, location = 0.4 + seed, np.array([[6.7], [-1.0], [-1.9]])
        cos, sin = np.cos(zrot), np.sin(zrot)
        about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        about_x = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
        local = torch.from_numpy(rotations(pose.reshape(frames, 24, 3)))
        root_w = torch.from_numpy(about_x @ about_z) @ local[:, 0]
        joints = free_body().joints_only(root_w.float(), local[:, 1:].float()).joints.numpy()
        joints = joints - joints[:, :1] + np.array([0.05, -1.1, -1.0])
        # The extrinsic and intrinsic matrices that the authors print, and pixels rounded as they save them.
        extrinsic = np.array([[0, 0, -1.0], [0, 1, 0], [-1, 0, 0]])
        seen = (joints - location.T) @ extrinsic.T @ np.array([[600.0, 0, 160], [0, 600, 120], [0, 0, 1]]).T
        pixels = np.round(seen[..., :2] / seen[..., 2:])
        folder = root / split / f"run{run}" / sequence
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{sequence}_c{number:04d}"
        info = {
            "bg": np.array([["LSUN/img/a.jpg"] * frames], object), "camDist": np.float32([[7.7]]),
            "camLoc": location.astype(np.float32), "clipNo": np.uint8([[number]]),
            "cloth": np.array([["nongrey_male_0346.jpg"] * frames], object), "gender": np.ones((frames, 1), np.uint8),
            "joints2D": pixels.transpose(2, 1, 0).astype(np.float32),
            "joints3D": joints.transpose(2, 1, 0).astype(np.float32), "light": np.zeros((9, frames), np.float32),
            "pose": pose.T.astype(np.float32), "sequence": stem, "shape": np.zeros((10, frames), np.float32),
            "source": "cmu", "stride": np.uint8([[50]]), "zrot": np.full((frames, 1), zrot, np.float32),
        }  # fmt: skip
        if frames == 1:  # what the last dimension of 1 becomes in MATLAB
            info["joints2D"], info["joints3D"] = info["joints2D"][..., 0], info["joints3D"][..., 0]
        savemat(folder / f"{stem}_info.mat", info)
        if video:
            (folder / f"{stem}.mp4").write_bytes(b"")
    return root


def make_mpi_inf_3dhp(root, frames=4, hdf5=True, images=True):
    """TS1 to TS6; frame 1 is not valid, in frame 2 a wrist is out of the image, univ_annot3 is smaller by a tenth."""
    from hmrkit.datasets.mpi_inf_3dhp import MPI_INF_3DHP_17, RECORDINGS

    renamed = {"head_top": "head", "jaw": "head", "spine": "spine2"}
    order = SMPL_24.indices(*(renamed.get(name, name) for name in MPI_INF_3DHP_17.joints))
    for seed, (name, (_, width, height)) in enumerate(RECORDINGS.items()):
        joints_w = posed(*motion(frames, seed))
        extrinsics = moving_camera(joints_w, seed)
        intrinsics = np.array([[1500.0 + seed, 0, width / 2 + 3], [0, 1502.0, height / 2 - 5], [0, 0, 1]])
        pixels, joints_c = see(extrinsics, joints_w, intrinsics)
        joints_c, pixels = joints_c[:, order] * 1000, pixels[:, order]
        wrist = MPI_INF_3DHP_17.index["left_wrist"]
        joints_c[2, wrist, 0] += 9000
        pixels[2, wrist] = (joints_c[2, wrist] @ intrinsics.T)[:2] / joints_c[2, wrist, 2]
        valid = np.ones((frames, 1))
        valid[1] = 0
        record = {
            "activity_annotation": np.arange(frames)[:, None] % 7 + 1.0, "annot2": pixels[:, None],
            "annot3": joints_c[:, None], "univ_annot3": joints_c[:, None] * 0.9, "bb_crop": np.zeros((frames, 34)),
            "valid_frame": valid,
        }  # fmt: skip
        folder = root / name
        folder.mkdir(parents=True)
        if hdf5:
            import h5py

            with h5py.File(folder / "annot_data.mat", "w", userblock_size=512) as file:
                for key, value in record.items():
                    file[key] = value
            with open(folder / "annot_data.mat", "r+b") as file:  # the header by which MATLAB files are known
                file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
        else:
            savemat(folder / "annot_data.mat", {key: value.T for key, value in record.items()})
        if images:
            write_images(folder / "imageSequence", frames, (32, 32), first=1, name="img_{:06d}.jpg")
    return root


def h36m_positions(frames=11):
    """VideoPose3D's table: subject -> action -> (T,32,3) m, z up; the 15 joints that do not move lie on others."""
    from hmrkit.datasets.h36m import MOVING_JOINTS

    renamed = {"spine": "spine2", "thorax": "neck", "nose": "head", "head_top": "head"}
    order = SMPL_24.indices(*(renamed.get(name, name) for name in H36M_17.joints))
    table = {}
    for seed, subject in enumerate(("S1", "S9", "S11")):
        table[subject] = {}
        for extra, action in enumerate(("Directions", "Directions 1", "WalkDog", "Photo 1")):
            pose, transl, betas = motion(frames, 10 * seed + extra)
            joints = posed(pose, transl / 5, betas)[:, order] @ rotations([np.pi / 2, 0, 0]).T + [0, 0, 1]
            table[subject][action] = np.zeros((frames, 32, 3), np.float32)
            table[subject][action][:, list(MOVING_JOINTS)] = joints
    return table


def h36m_calibration():
    """Made-up numbers in the release's form: per camera and subject (angles, position mm), per camera the lens."""
    rng = np.random.default_rng(5)
    outside = np.zeros((4, 11, 6))
    for camera in range(4):
        side = np.pi / 2 * camera + rng.normal(0, 0.1, 11)
        # R = Rx(-90 degrees) Rz(side): looks along the ground, up is up.
        outside[camera, :, 0], outside[camera, :, 2] = np.pi / 2, side
        outside[camera, :, 3:] = np.stack([-5000 * np.sin(side), -5000 * np.cos(side), 1200 + 0 * side], 1)
    lenses = np.tile([1145.0, 1143.5, 512.0, 515.0, -0.2, 0.24, -0.003, -0.001, -0.0014], (4, 1))
    return outside, lenses + rng.normal(0, 1e-4, lenses.shape)


def make_h36m(root, layout="npz", calibration="xml"):
    """Subjects 1, 9 and 11, three actions, as npz or as converted CDF files, with either file of the calibration."""
    root.mkdir(parents=True, exist_ok=True)
    table = h36m_positions()
    if layout == "npz":
        np.savez_compressed(root / "data_3d_h36m.npz", positions_3d=table)
    else:
        for subject, actions in table.items():
            folder = root / subject / "MyPoseFeatures" / "D3_Positions"
            folder.mkdir(parents=True)
            for action, joints in actions.items():
                cell = np.empty((1, 1), object)
                cell[0, 0] = joints.reshape(len(joints), 96) * 1000
                savemat(folder / f"{action}.cdf.mat", {"data": cell})
    outside, lenses = h36m_calibration()
    if calibration == "xml":
        numbers = " ".join(repr(float(n)) for n in [*outside.ravel(), *lenses.ravel()])
        (root / "metadata.xml").write_text(f"<metadata><mapping/><w0>[{numbers}]</w0></metadata>")
    else:
        (root / "h36m_dataset.py").write_text(_videopose3d_source(outside, lenses))
    return root


def _videopose3d_source(outside, lenses):
    from hmrkit.datasets.h36m_cameras import CAMERAS
    from hmrkit.geometry import matrix_to_quaternion

    inside = [
        {
            "id": name, "center": lens[2:4].tolist(), "focal_length": lens[:2].tolist(),
            "radial_distortion": lens[4:7].tolist(), "tangential_distortion": lens[7:].tolist(),
            "res_w": size[0], "res_h": size[1], "azimuth": 70,
        }
        for (name, size), lens in zip(CAMERAS.items(), lenses, strict=True)
    ]  # fmt: skip
    places = {}
    for subject in range(11):
        places[f"S{subject + 1}"] = []
        for camera in range(4):
            x, y, z = (rotations(outside[camera, subject, axis] * np.eye(3)[axis]) for axis in range(3))
            quaternion = matrix_to_quaternion(torch.from_numpy((x @ y @ z).T)).tolist()
            place = {"orientation": quaternion, "translation": outside[camera, subject, 3:].tolist()}
            places[f"S{subject + 1}"].append(place if subject != 1 else {})
    return (
        "import nothing_that_is_installed\n\n"
        f"h36m_cameras_intrinsic_params = {inside!r}\n\nh36m_cameras_extrinsic_params = {places!r}\n"
        "raise SystemExit('this file must not be run')\n"
    )
