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
from pathlib import Path

import numpy as np
import torch

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


def vibe(folder, people, frames, focal, matrices_too=False):
    written = {}
    for number, (params, seen) in enumerate(zip(people, frames, strict=True), 3):
        x, y, z = params.transl_c.T
        scale = focal / z  # px per metre
        written[number] = {
            "orig_cam": np.stack([2 * scale / 128, 2 * scale / 96, x, y], 1), "pred_cam": np.ones((len(z), 3)),
            "pose": matrices(params) if matrices_too else axis_angles(params),
            "betas": np.tile(params.betas, (len(z), 1)), "frame_ids": np.asarray(seen), "bboxes": np.ones((len(z), 4)),
            "verts": np.zeros((len(z), 5, 3), np.float32), "joints3d": np.asfortranarray(np.zeros((len(z), 49, 3))),
        }  # fmt: skip
    return dump_joblib(written, folder / "vibe_output.pkl")


def pare(folder, people, frames, focal):
    return vibe(folder, people, frames, focal, matrices_too=True)


def crop_cameras(folder, people, frames, focal):
    """VIBE's, where only the crops' cameras are kept."""
    written = {}
    for number, (params, seen) in enumerate(zip(people, frames, strict=True)):
        x, y, z = params.transl_c.T
        pixels, side, middle = focal / z, 50.0, np.array([70.0, 40.0])
        camera = np.stack([2 * pixels / side, x - (middle[0] - 64) / pixels, y - (middle[1] - 48) / pixels], 1)
        written[number] = {
            "pred_cam": camera, "bboxes": np.tile([*middle, side, side], (len(z), 1)), "pose": axis_angles(params),
            "betas": np.tile(params.betas, (len(z), 1)), "frame_ids": np.asarray(seen),
        }  # fmt: skip
    path = folder / "output.pkl"
    path.write_bytes(pickle.dumps(written))
    return path


def phalp(folder, people, frames, focal):
    """Person 1 is predicted, not seen, in frame 2."""
    written = {}
    for t in range(12):
        entry = {"time": t, "shot": 0, "tid": [], "smpl": [], "camera": [], "size": [], "tracked_time": [], "mask": []}
        for number, (params, seen) in enumerate(zip(people, frames, strict=True), 1):
            ghost = t not in seen
            row = list(seen).index(t) if not ghost else 0
            x, y, z = params.transl_c[row]
            entry["tid"].append(number)
            entry["smpl"].append({
                "global_orient": params.global_orient[row][None], "body_pose": params.body_pose[row],
                "betas": params.betas,
            })  # fmt: skip
            entry["camera"].append(np.array([x, y, z / focal * 5000 * 128 / 256], np.float32))
            entry["size"].append([96, 128])
            entry["tracked_time"].append(int(ghost))
        written[f"outputs/_DEMO/clip/img/{t + 1:06d}.jpg"] = entry
    return dump_joblib(written, folder / "demo_clip.pkl", compress=True)


def wham(folder, people, frames, focal):
    written = defaultdict(dict)
    for number, (params, seen) in enumerate(zip(people, frames, strict=True)):
        level = np.diag([1.0, -1, -1])
        world = BodyParams(
            (level @ params.global_orient).astype(np.float32), params.body_pose, params.betas,
            (params.transl_c @ level).astype(np.float32), "neutral", "",
        )  # fmt: skip
        written[number] |= {
            "pose": axis_angles(params), "trans": params.transl_c, "pose_world": axis_angles(world),
            "trans_world": world.transl_c, "betas": np.tile(params.betas, (len(seen), 1)), "frame_ids": np.array(seen),
        }  # fmt: skip
    return dump_joblib(written, folder / "wham_output.pkl")


def cliff(folder, people, frames, focal, tracked=True):
    rows = sorted((t, k, i) for i, seen in enumerate(frames) for k, t in enumerate(seen))
    boxes = [[t, 0, 0, 9, 9, 0.9, 0.99, i if tracked else 0] for t, k, i in rows]
    path = folder / "clip_cliff_hr48.npz"
    np.savez(
        path, imgname=[f"{t:06d}.jpg" for t, *_ in rows], detection_all=np.array(boxes),
        pose=np.stack([matrices(people[i])[k] for _, k, i in rows]), shape=[people[i].betas for *_, i in rows],
        global_t=[people[i].transl_c[k] for _, k, i in rows], focal_l=np.full(len(rows), focal),
    )  # fmt: skip
    return path


def untracked_cliff(folder, people, frames, focal):
    return cliff(folder, people, frames, focal, tracked=False)


def tram(folder, people, frames, focal):
    (folder / "hps").mkdir()
    count = 12
    camera = {
        "pred_cam_R": np.tile(np.eye(3), (count, 1, 1)), "img_focal": focal, "img_center": np.array([64.0, 48.0]),
        "world_cam_R": np.tile(np.eye(3), (count, 1, 1)), "world_cam_T": np.zeros((count, 3)),
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


def smpler_x(folder, people, frames, focal):
    for name in ("smplx", "meta"):
        (folder / name).mkdir()
    for i, (params, seen) in enumerate(zip(people, frames, strict=True)):
        pose = axis_angles(params, 22).reshape(-1, 22, 3)
        for k, t in enumerate(seen):
            order = i if t % 2 else len(people) - 1 - i  # its numbers follow nobody
            x, y, z = params.transl_c[k]
            own, center = 3 * focal, np.array([50.0, 60.0])
            depth = z * own / focal
            shift = (center - [64, 48]) * depth / own
            np.savez(
                folder / "smplx" / f"{t + 1:05d}_{order}.npz", global_orient=pose[k, :1], body_pose=pose[k, 1:],
                betas=params.betas[None], transl=np.array([[x - shift[0], y - shift[1], depth]]),
            )  # fmt: skip
            meta = {"focal": [own, own], "princpt": center.tolist(), "bbox": [0, 0, 1, 1]}
            (folder / "meta" / f"{t + 1:05d}_{order}.json").write_text(json.dumps(meta))
    return folder


def romp(folder, people, frames, focal, hips=None, tracked=True):
    """`hips`: each person's middle of the hips (T,3), the origin of ROMP's bodies."""
    results = {}
    for t in range(12):
        rows = [(i, list(seen).index(t)) for i, seen in enumerate(frames) if t in seen]
        scale = [focal / hips[i][k][2] / 64 for i, k in rows]
        results[f"{t:08d}.jpg"] = {
            "smpl_thetas": np.array([axis_angles(people[i])[k] for i, k in rows]),
            "smpl_betas": np.array([people[i].betas for i, _ in rows]),
            "cam": np.array([[s, s * hips[i][k][0], s * hips[i][k][1]] for s, (i, k) in zip(scale, rows, strict=True)]),
            **({"track_ids": np.array([i + 1 for i, _ in rows])} if tracked else {}),
        }
    np.savez(folder / "video_results.npz", results=results)
    return folder / "video_results.npz"


def hybrik(folder, people, frames, focal, pelvis):
    params, seen = people[0], frames[0]
    boxes = np.tile([10.0, 5.0, 60.0, 55.0], (len(seen), 1))
    transl = pelvis * [1, 1, 1000 * 50 / 256 / focal]
    written = {
        "pred_thetas": [row.reshape(-1) for row in matrices(params)], "pred_betas": [params.betas for _ in seen],
        "transl": list(transl), "bbox": list(boxes), "img_path": [f"raw_images/clip-{t + 1:06d}.png" for t in seen],
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
