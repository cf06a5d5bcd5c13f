"""Results as other tools write them, made of known bodies in a camera (`BodyParams`) that one or more people have."""

from __future__ import annotations

import io
import json
import pickle
import sys
import types
import zlib
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hmrkit.body.posing import skeleton_joints
from hmrkit.geometry import axis_angle_to_matrix, matrix_to_axis_angle
from hmrkit.types import BodyParams

DIAGONAL = float(np.hypot(128, 96))  # of the films of `films.write_film`, px


def make_motion(frames, body, seed=0, place=(0.2, 0.1, 4.0)) -> BodyParams:
    """Somebody upright who moves slowly, facing the camera, with a shape of their own."""
    random = torch.Generator().manual_seed(seed)
    swing = torch.linspace(0, 1, frames)[:, None, None]
    pose = 0.2 * torch.randn(1, 24, 3, generator=random) + 0.2 * torch.randn(1, 24, 3, generator=random) * swing
    pose[:, 22:] = 0  # SMPL-X has no such joints
    rotations = axis_angle_to_matrix(pose).numpy()
    rotations[:, 0] = np.diag([1.0, -1, -1]) @ rotations[:, 0]
    transl = np.array(place) + 0.3 * swing[:, 0].numpy() * np.array([1.0, 0, 0.5])
    betas = 0.3 * torch.randn(10, generator=random).numpy()
    return BodyParams(
        rotations[:, 0].astype(np.float32), rotations[:, 1:].astype(np.float32), betas, transl.astype(np.float32),
        body.gender, body.model_id,
    )  # fmt: skip


def matrices(params) -> np.ndarray:
    return np.concatenate([params.global_orient[:, None], params.body_pose], 1)


def axis_angles(params, joints=24) -> np.ndarray:
    """(T,3 joints) radians."""
    return matrix_to_axis_angle(torch.from_numpy(matrices(params)[:, :joints]).double()).flatten(1).numpy()


# ------------------------------------------------------------------------------------------------------------ joblib


class _Wrapper:
    """Stands for joblib's NumpyArrayWrapper while a file is written."""


class _JoblibPickler(pickle._Pickler):
    """Arrays as joblib (since 0.10, with the padding of 1.2) writes them: a record, then their bytes."""

    def __init__(self, stream):
        super().__init__(stream, protocol=4)
        self.stream = stream

    def save(self, value, save_persistent_id=True):
        if type(value) is not np.ndarray:
            return super().save(value, save_persistent_id)
        record = _Wrapper()
        fortran = value.ndim > 1 and value.flags.f_contiguous and not value.flags.c_contiguous
        record.__dict__ = {
            "subclass": np.ndarray, "shape": value.shape, "order": "F" if fortran else "C", "dtype": value.dtype,
            "allow_mmap": not value.dtype.hasobject, "numpy_array_alignment_bytes": 16,
        }  # fmt: skip
        super().save(record)
        self.framer.commit_frame(force=True)
        if value.dtype.hasobject:
            pickle.dump(value, self.stream, protocol=2)
            return None
        padding = 16 - (self.stream.tell() + 1) % 16
        self.stream.write(bytes([padding]) + b"\xff" * padding + (value.T if fortran else value).tobytes())
        return None


@contextmanager
def _joblib_names():
    module = types.ModuleType("joblib.numpy_pickle")
    _Wrapper.__module__, _Wrapper.__qualname__, _Wrapper.__name__ = module.__name__, *("NumpyArrayWrapper",) * 2
    module.NumpyArrayWrapper = _Wrapper
    before = {name: sys.modules.get(name) for name in ("joblib", "joblib.numpy_pickle")}
    sys.modules["joblib"], sys.modules["joblib.numpy_pickle"] = types.ModuleType("joblib"), module
    try:
        yield
    finally:
        for name, old in before.items():
            del sys.modules[name]
            if old is not None:
                sys.modules[name] = old


def dump_joblib(value, path, compress=False):
    stream = io.BytesIO()
    with _joblib_names():
        _JoblibPickler(stream).dump(value)
    data = stream.getvalue()
    Path(path).write_bytes(zlib.compress(data, 3) if compress else data)
    return path


# ------------------------------------------------------------------------------------------------------------- tools
# Each writes people into a folder and returns what to import. `frames`: each person's frame numbers.


def seen_weakly(params, body, focal):
    """What a tool without perspective has of people before a camera of `focal` px: bodies whose roots are relative to
    the ray to the pelvis, the pelvis (T,3) m, and pixels a metre (T,)."""
    pelvis = skeleton_joints(body, params)[:, 0].astype(float)
    return (
        replace(params, global_orient=ray_rotation(pelvis).swapaxes(1, 2) @ params.global_orient),
        pelvis,
        (focal / pelvis[:, 2]),
    )


def ray_rotation(points) -> np.ndarray:
    """Smallest rotations (T,3,3) from straight ahead to points (T,3)."""
    axis = np.cross([0.0, 0, 1], points)
    angle = np.arctan2(np.linalg.norm(axis, axis=1), points[:, 2])
    axis = axis / np.linalg.norm(axis, axis=1, keepdims=True)
    return axis_angle_to_matrix(torch.from_numpy(axis * angle[:, None])).numpy().astype(np.float32)


def vibe(folder, people, frames, focal, body, matrices_too=False):
    written = {}
    for number, (known, seen) in enumerate(zip(people, frames, strict=True), 3):
        params, _, scale = seen_weakly(known, body, focal)
        x, y, z = params.transl_c.T
        written[number] = {
            "orig_cam": np.stack([2 * scale / 128, 2 * scale / 96, x, y], 1), "pred_cam": np.ones((len(z), 3)),
            "pose": matrices(params) if matrices_too else axis_angles(params),
            "betas": np.tile(params.betas, (len(z), 1)), "frame_ids": np.asarray(seen), "bboxes": np.ones((len(z), 4)),
            "verts": np.zeros((len(z), 5, 3), np.float32), "joints3d": np.asfortranarray(np.zeros((len(z), 49, 3))),
        }  # fmt: skip
    return dump_joblib(written, folder / "vibe_output.pkl")


def pare(folder, people, frames, focal, body):
    return vibe(folder, people, frames, focal, body, matrices_too=True)


MIDDLE, SIDE = np.array([70.0, 40.0]), 50.0  # of crops


def crop_camera(params, pixels) -> np.ndarray:
    """The weak-perspective camera (T,3) of a crop."""
    x, y, _ = params.transl_c.T
    return np.stack(
        [2 * pixels / SIDE, x - (MIDDLE[0] - 64) / pixels, y - (MIDDLE[1] - 48) / pixels], 1
    )  # fmt: skip


def crop_cameras(folder, people, frames, focal, body):
    """VIBE's, where only the crops' cameras are kept."""
    written = {}
    for number, (known, seen) in enumerate(zip(people, frames, strict=True)):
        params, _, pixels = seen_weakly(known, body, focal)
        written[number] = {
            "pred_cam": crop_camera(params, pixels), "bboxes": np.tile([*MIDDLE, SIDE, SIDE], (len(pixels), 1)),
            "pose": axis_angles(params), "betas": np.tile(params.betas, (len(pixels), 1)),
            "frame_ids": np.asarray(seen),
        }  # fmt: skip
    path = folder / "output.pkl"
    path.write_bytes(pickle.dumps(written))
    return path


def _rows(people, frames):
    """Frame, person and row of all detections, frame by frame."""
    return sorted((t, i, k) for i, seen in enumerate(frames) for k, t in enumerate(seen))


def humandata(folder, people, frames, focal, body, weak=True):
    rows = _rows(people, frames)
    seen = [seen_weakly(params, body, focal) if weak else (params, None, None) for params in people]
    poses = np.stack([axis_angles(seen[i][0])[k].reshape(24, 3) for _, i, k in rows])
    smpl = {
        "global_orient": poses[:, 0],
        "body_pose": poses[:, 1:],
        "betas": np.stack([people[i].betas for _, i, _ in rows]),
    }
    data = {"image_path": [f"images/{t:06d}.png" for t, _, _ in rows], "__data_len__": len(rows)}
    if weak:
        half = SIDE / 1.25 / 2 * np.array([0.5, 1])
        cameras = [crop_camera(params, pixels) for params, _, pixels in seen]
        data |= {
            "pred_cams": [cameras[i][k] for _, i, k in rows], "frame_id": [t for t, _, _ in rows],
            "bboxes_xyxy": np.array([[*(MIDDLE - half), *(MIDDLE + half), 0.9] for _ in rows]),
            "person_id": [i for _, i, _ in rows],
        }  # fmt: skip
    else:
        smpl["transl"] = np.stack([people[i].transl_c[k] for _, i, k in rows])
        data["misc"] = {"focal_length": np.array([[focal, focal]]), "principal_point": np.array([[60.0, 50.0]])}
        data["meta"] = {"gender": ["neutral"] * len(rows)}
    path = folder / "inference_result.npz"
    np.savez(path, smpl=smpl, **data)
    return path


def metric_humandata(folder, people, frames, focal, body=None):
    return humandata(folder, people, frames, focal, body, weak=False)


def phalp(folder, people, frames, focal, body):
    """Person 1 is predicted, not seen, in frame 2."""
    written = {}
    seen_people = [seen_weakly(params, body, focal) for params in people]
    for t in range(12):
        entry = {"time": t, "shot": 0, "tid": [], "smpl": [], "camera": [], "size": [], "tracked_time": [], "mask": []}
        for number, ((params, pelvis, _), seen) in enumerate(zip(seen_people, frames, strict=True), 1):
            ghost = t not in seen
            row = list(seen).index(t) if not ghost else 0
            x, y = params.transl_c[row, :2]
            entry["tid"].append(number)
            entry["smpl"].append({
                "global_orient": params.global_orient[row][None], "body_pose": params.body_pose[row],
                "betas": params.betas,
            })  # fmt: skip
            entry["camera"].append(np.array([x, y, pelvis[row, 2] / focal * 5000 * 128 / 256], np.float32))
            entry["size"].append([96, 128])
            entry["tracked_time"].append(int(ghost))
        written[f"outputs/_DEMO/clip/img/{t + 1:06d}.jpg"] = entry
    return dump_joblib(written, folder / "demo_clip.pkl", compress=True)


def hips(body, params) -> np.ndarray:
    """The middle of the hips (T,3) m."""
    return skeleton_joints(body, params)[:, 1:3].mean(1)


def wham(folder, people, frames, focal, body=None):
    written = defaultdict(dict)
    for number, (params, seen) in enumerate(zip(people, frames, strict=True)):
        middle = params.transl_c if body is None else hips(body, params)
        level = np.diag([1.0, -1, -1])
        world = BodyParams(
            (level @ params.global_orient).astype(np.float32), params.body_pose, params.betas,
            (params.transl_c @ level).astype(np.float32), "neutral", "",
        )  # fmt: skip
        written[number] |= {
            "pose": axis_angles(params), "trans": params.transl_c, "pose_world": axis_angles(world),
            "trans_world": middle @ level, "betas": np.tile(params.betas, (len(seen), 1)), "frame_ids": np.array(seen),
        }  # fmt: skip
    return dump_joblib(written, folder / "wham_output.pkl")


def cliff(folder, people, frames, focal, body=None, tracked=True):
    rows = sorted((t, k, i) for i, seen in enumerate(frames) for k, t in enumerate(seen))
    boxes = [[t, 0, 0, 9, 9, 0.9, 0.99, i if tracked else 0] for t, k, i in rows]
    path = folder / "clip_cliff_hr48.npz"
    np.savez(
        path, imgname=[f"{t:06d}.jpg" for t, *_ in rows], detection_all=np.array(boxes),
        pose=np.stack([matrices(people[i])[k] for _, k, i in rows]), shape=[people[i].betas for *_, i in rows],
        global_t=[people[i].transl_c[k] for _, k, i in rows], focal_l=np.full(len(rows), focal),
    )  # fmt: skip
    return path


def untracked_cliff(folder, people, frames, focal, body=None):
    return cliff(folder, people, frames, focal, tracked=False)


def tram(folder, people, frames, focal, body=None):
    (folder / "hps").mkdir()
    count = 12
    camera = {
        "pred_cam_R": np.tile(np.eye(3), (count, 1, 1)), "img_focal": focal, "img_center": np.array([64.0, 48.0]),
        "world_cam_R": np.tile(np.diag([1.0, -1, -1]), (count, 1, 1)), "world_cam_T": np.zeros((count, 3)),
    }  # fmt: skip
    np.save(folder / "camera.npy", camera)
    for k, (params, seen) in enumerate(zip(people, frames, strict=True)):
        track = {
            "pred_rotmat": torch.from_numpy(matrices(params)), "pred_trans": torch.from_numpy(params.transl_c)[:, None],
            "pred_shape": torch.from_numpy(np.tile(params.betas, (len(seen), 1))), "frame": torch.tensor(list(seen)),
        }  # fmt: skip
        np.save(folder / "hps" / f"hps_track_{k}.npy", track)
    return folder


def gvhmr(folder, people, frames, focal):
    params = people[0]
    poses = torch.from_numpy(axis_angles(params, 22)).float()
    incam = {
        "global_orient": poses[:, :3], "body_pose": poses[:, 3:], "transl": torch.from_numpy(params.transl_c),
        "betas": torch.from_numpy(np.tile(params.betas, (len(poses), 1))),
    }  # fmt: skip
    intrinsics = torch.tensor([[focal, 0, 64], [0, focal, 48], [0, 0, 1]]).expand(len(poses), 3, 3)
    torch.save(
        {"smpl_params_incam": incam, "smpl_params_global": incam, "K_fullimg": intrinsics, "net_outputs": {}},
        folder / "hmr4d_results.pt",
    )
    return folder / "hmr4d_results.pt"


def prompthmr(folder, people, frames, focal):
    """In frames of half the clip's size."""
    written = {}
    for number, (params, seen) in enumerate(zip(people, frames, strict=True), 1):
        pose = np.concatenate([axis_angles(params, 22), np.zeros((len(seen), 9))], 1)
        shape = np.tile(params.betas, (len(seen), 1))
        written[number] = {
            "track_id": number, "frames": np.array(seen),
            "smplx_cam": {"pose": pose, "shape": shape, "trans": params.transl_c},
        }  # fmt: skip
    camera = {"img_focal": np.float32(focal / 2), "img_center": np.array([32.0, 24.0])}
    return dump_joblib({"people": written, "camera": camera, "masks": None}, folder / "results.pkl")


def prompthmr_image(folder, people, frames, focal):
    """One image of 128 x 96 px, fitted into 896 x 896."""
    camera = torch.tensor([[focal * 7.0, 0, 448], [0, focal * 7.0, 448], [0, 0, 1]]).expand(len(people), 3, 3)
    torch.save({
        "rotmat": torch.from_numpy(np.stack([matrices(params)[0, :22] for params in people])),
        "betas": torch.from_numpy(np.stack([params.betas for params in people])),
        "transl": torch.from_numpy(np.stack([params.transl_c[0] for params in people])), "cam_int": camera,
        "pose": torch.zeros(len(people), 132), "vertices": torch.zeros(len(people), 3, 3),
    }, folder / "output.pt")  # fmt: skip
    return folder / "output.pt"


def smpler_x(folder, people, frames, focal, body, hands=None):
    """`hands` (30,3): axis-angle of everybody's fingers in every frame, about SMPL-X's mean hand."""
    fingers = {} if hands is None else {"left_hand_pose": hands[:15], "right_hand_pose": hands[15:]}
    for name in ("smplx", "meta"):
        (folder / name).mkdir()
    for i, (known, seen) in enumerate(zip(people, frames, strict=True)):
        params, pelvis, _ = seen_weakly(known, body, focal)
        pose = axis_angles(params, 22).reshape(-1, 22, 3)
        for k, t in enumerate(seen):
            order = i if t % 2 else len(people) - 1 - i  # its numbers follow nobody
            x, y, _ = params.transl_c[k]
            own, center = 3 * focal, np.array([50.0, 60.0])
            depth = pelvis[k, 2] * own / focal
            shift = (center - [64, 48]) * depth / own
            np.savez(
                folder / "smplx" / f"{t + 1:05d}_{order}.npz", global_orient=pose[k, :1], body_pose=pose[k, 1:],
                betas=params.betas[None], transl=np.array([[x - shift[0], y - shift[1], depth]]), **fingers,
            )  # fmt: skip
            meta = {"focal": [own, own], "princpt": center.tolist(), "bbox": [0, 0, 1, 1]}
            (folder / "meta" / f"{t + 1:05d}_{order}.json").write_text(json.dumps(meta))
    return folder


def romp(folder, people, frames, focal, body, tracked=True, joints=True, aligned=False):
    """`joints`: they are kept; `aligned`: bodies are about the middle of their hips, not SMPL's origin."""
    results = {}
    seen_people = [seen_weakly(params, body, focal) for params in people]
    about = [hips(body, params) if aligned else params.transl_c for params in people]
    for t in range(12):
        rows = [(i, list(seen).index(t)) for i, seen in enumerate(frames) if t in seen]
        scale = [seen_people[i][2][k] / 64 for i, k in rows]
        points = np.zeros((len(rows), 71, 3))
        points[:, 0] = [seen_people[i][1][k] - about[i][k] for i, k in rows]
        results[f"{t:08d}.jpg"] = {
            "smpl_thetas": np.array([axis_angles(seen_people[i][0])[k] for i, k in rows]),
            "smpl_betas": np.array([people[i].betas for i, _ in rows]),
            "cam": np.array([[s, *(s * about[i][k][:2])] for s, (i, k) in zip(scale, rows, strict=True)]),
            **({"track_ids": np.array([i + 1 for i, _ in rows])} if tracked else {}),
            **({"joints": points} if joints else {}),
        }  # fmt: skip
    np.savez(folder / "video_results.npz", results=results)
    return folder / "video_results.npz"


def bev(folder, people, frames, focal, body, tracked=True, joints=True):
    """With perspective, whose focal length is BEV's own. Person 2 is a little younger."""
    results = {}
    middles = [hips(body, params) for params in people]
    for t in range(12):
        rows = [(i, list(seen).index(t)) for i, seen in enumerate(frames) if t in seen]
        points = np.zeros((len(rows), 71, 3))
        points[:, 0] = [skeleton_joints(body, people[i])[k, 0] - middles[i][k] for i, k in rows]
        results[f"{t:08d}__2_0.08.png"] = {
            "smpl_thetas": np.array([axis_angles(people[i])[k] for i, k in rows]),
            "smpl_betas": np.array([[*people[i].betas, 0.4 * i] for i, _ in rows]),
            "cam": np.zeros((len(rows), 3)), "cam_trans": np.array([middles[i][k] for i, k in rows]),
            **({"track_ids": np.array([i + 1 for i, _ in rows])} if tracked else {}),
            **({"joints": points} if joints else {}),
        }  # fmt: skip
    np.savez(folder / "video_results.npz", results=results)
    return folder / "video_results.npz"


def trace(folder, people, frames, focal, body):
    """Its world is the first frame's camera, from which the camera has turned by 0.5 since."""
    rows, camera_from_world = _rows(people, frames), axis_angle_to_matrix(torch.tensor([0.0, 0.5, 0])).numpy()
    joints = [skeleton_joints(body, params) for params in people]
    middles = [hips(body, params) for params in people]
    points = np.zeros((len(rows), 44, 3))
    points[:, :24] = [joints[i][k] - middles[i][k] for _, i, k in rows]
    orients = np.stack([camera_from_world.T @ people[i].global_orient[k] for _, i, k in rows])
    outputs = {
        "reorganize_idx": np.array([t for t, _, _ in rows]), "track_ids": np.array([i + 5 for _, i, _ in rows]),
        "smpl_thetas": np.stack([axis_angles(people[i])[k] for _, i, k in rows]), "j3d": points,
        "smpl_betas": np.stack([people[i].betas for _, i, _ in rows]),
        "cam_trans": np.stack([middles[i][k] for _, i, k in rows]),
        "world_global_rots": matrix_to_axis_angle(torch.from_numpy(orients)).numpy(),
        "world_trans": np.stack([middles[i][k] @ camera_from_world for _, i, k in rows]),
    }  # fmt: skip
    np.savez(folder / "clip.npz", outputs=outputs, imgpaths=[f"{t:08d}.jpg" for t, _, _ in rows])
    return folder / "clip.npz"


HYBRIK_BOX = np.array([10.0, 5.0, 60.0, 55.0])
HYBRIK_FOCAL = 1000 * 50 / 256  # px, of that box


def hybrik(folder, people, frames, focal, body):
    params, pelvis, pixels = seen_weakly(people[0], body, focal)
    place = np.stack([*pelvis.T[:2], HYBRIK_FOCAL / pixels], 1)
    params = replace(params, global_orient=ray_rotation(place) @ params.global_orient)
    written = {
        "pred_thetas": [row.reshape(-1) for row in matrices(params)], "pred_betas": [params.betas for _ in frames[0]],
        "transl": list(place), "bbox": [HYBRIK_BOX for _ in frames[0]],
        "img_path": [f"raw_images/clip-{t + 1:06d}.png" for t in frames[0]],
    }  # fmt: skip
    (folder / "res.pk").write_bytes(pickle.dumps(written))
    return folder / "res.pk"


def amass(folder, params, rate):
    """A recording at `rate` in a world with z up."""
    poses = np.concatenate([axis_angles(params, 22), np.full((len(params.transl_c), 90), 0.1)], 1)
    np.savez(
        folder / "walk_poses.npz", poses=poses, trans=params.transl_c, betas=np.append(params.betas, np.ones(6)),
        gender=np.array(b"neutral"), mocap_framerate=np.array(rate), dmpls=np.zeros((len(poses), 8)),
    )  # fmt: skip
    return folder / "walk_poses.npz"
