"""SURREAL: ``cmu/{train,val,test}/run{0,1,2}/<sequence>/<sequence>_c0001{.mp4,_info.mat}`` (Varol et al. 2017).

Rendered people in clips of 100 frames at most, 320 x 240. Two facts of the files that a reader has to know:

- The Blender camera that made the images mirrors: its extrinsic matrix has determinant -1, so the person in the
  image is the mirror image of the body in the file. Here joints and pose change sides on the way into the camera
  frame (``left_knee`` is what looks like a left knee), after which all is a proper rotation.
- The pose's root rotation lacks two rotations: about the vertical by ``zrot``, then 90 degrees about x.

The body's translation is not in the files (the pelvis is, as a joint): `BodyTruth.transl` is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hmrkit.datasets import BodyTruth, DatasetOptions, EvalSequence, GroundTruth, missing_files
from hmrkit.datasets.annotations import boxes_about, flagged, frames_of, pick, refuse, require, rotation_matrices
from hmrkit.datasets.matlab import read_matlab
from hmrkit.errors import InputError
from hmrkit.skeletons import SMPL_24
from hmrkit.types import Camera

SPLITS = {"test": "test", "val": "val", "train": "train"}
SUBSETS = {"": ("run*", False), **{f"run{k}": (f"run{k}", False) for k in range(3)}, "middle": ("run*", True)}
WIDTH, HEIGHT, FOCAL_PX = 320, 240, 600.0
# Blender's camera in its world, then OpenCV's axes: the product that the authors print; determinant -1.
CAMERA_FROM_WORLD = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
_QUARTER_ROTATION_X = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_MIRROR = np.diag([-1.0, 1.0, 1.0])
_KEYS = ("camLoc", "gender", "joints2D", "joints3D", "pose", "shape", "zrot")


def load(name: str, root: Path, options: DatasetOptions) -> Surreal:
    """SURREAL at `root` (``SURREAL/``, its ``data/`` or ``data/cmu/``).

    ``split`` test (default), val or train; ``subset`` run0, run1 or run2 of the split, or ``middle``: of every clip
    the frame in its middle, the 12,528 images that BodyNet and its followers report on.
    """
    return Surreal(name, root, options)


class Surreal:
    """See the module."""

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options, "frame_list")
        self.name, self.default_protocol = name, "body"
        self.split: str = pick(name, "split", options.split, SPLITS)
        self.runs, self.middle_only = pick(name, "subset", options.subset, SUBSETS)
        places = [root, root / "cmu", root / "data" / "cmu", root / "SURREAL" / "data" / "cmu"]
        self.root = next((place for place in places if (place / self.split).is_dir()), root)

    def check(self) -> None:
        """See `Dataset`."""
        if next(self._files(), None) is None:
            raise missing_files(
                self.name, "register at https://www.di.ens.fr/willow/research/surreal/data", self.root,
                "the folder cmu/ as unpacked", [self.root / self.split / self.runs / "*" / "*_info.mat"],
            )  # fmt: skip

    def sequences(self) -> Iterator[EvalSequence]:
        """One sequence a clip."""
        for path in self._files():
            yield _sequence(path, self.middle_only)

    def _files(self) -> Iterator[Path]:
        """Clip after clip; the folders are sorted one by one, for all the names would be long to list."""
        for run in sorted((self.root / self.split).glob(self.runs)):
            for folder in sorted(path for path in run.iterdir() if path.is_dir()):
                yield from sorted(path for path in folder.glob("*_info.mat") if path.name[0] != ".")


def _sequence(path: Path, middle_only: bool) -> EvalSequence:
    record = require(read_matlab(path, _KEYS), path, "an annotation of SURREAL", _KEYS)
    count = record["pose"].size // 72
    # MATLAB drops the last dimension of a clip of one frame.
    joints = frames_of(record["joints3D"].reshape(3, 24, -1), (3, 24, count), path, "joints3D").transpose(2, 1, 0)
    points = frames_of(record["joints2D"].reshape(2, 24, -1), (2, 24, count), path, "joints2D").transpose(2, 1, 0)
    mirror = list(SMPL_24.mirror)
    joints_c = (joints - record["camLoc"].reshape(3)) @ CAMERA_FROM_WORLD.T
    keypoints = flagged(points[:, mirror], np.ones((count, 24), bool), WIDTH, HEIGHT)
    valid = np.ones(count, bool) if not middle_only else np.arange(count) == count // 2
    video = path.with_name(path.name.removesuffix("_info.mat") + ".mp4")
    person = GroundTruth(
        person="0",
        frame_indices=np.arange(count),
        # A person who has walked out of the image cannot be scored.
        valid=valid & (keypoints[..., 2] > 1).any(1),
        boxes_xyxy=boxes_about(keypoints),
        joints_c=joints_c[:, mirror].astype(np.float32),
        skeleton=SMPL_24,
        keypoints_2d=keypoints,
        keypoint_skeleton=SMPL_24,
        body=_body(record, count, path),
    )
    focal, center = np.full(2, FOCAL_PX, np.float32), np.array([WIDTH / 2, HEIGHT / 2], np.float32)
    camera = Camera(focal, center, WIDTH, HEIGHT, "given")
    run = path.parent.parent.name
    name = f"{run}_{video.stem}"
    return EvalSequence(name, video if video.is_file() else None, count, (person,), camera, fps=30.0, group=run)


def _body(record: dict, count: int, path: Path) -> BodyTruth:
    """The mirrored body in the camera frame: with S the mirror x -> -x, a limb's rotation R becomes S R S, other side.

    A joint of the file lies at ``C (G l) + c`` with C the mirroring camera, G the root's rotation and l the joint in
    the body; S l is that joint of the mirrored body, so its root rotates by ``C G S``, a proper rotation.
    """
    rotations = rotation_matrices(record["pose"].reshape(24, 3, count).transpose(2, 0, 1)).astype(np.float64)
    # zrot is one angle a frame; the authors use the first for the clip, and it does not change within one.
    cos, sin = np.cos(record["zrot"].ravel()[0]), np.sin(record["zrot"].ravel()[0])
    about_z = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    root = CAMERA_FROM_WORLD @ _QUARTER_ROTATION_X @ about_z @ rotations[:, 0] @ _MIRROR
    limbs = (_MIRROR @ rotations @ _MIRROR)[:, list(SMPL_24.mirror)][:, 1:]
    genders = set(record["gender"].ravel().tolist())
    if len(genders) != 1 or not genders <= {0, 1}:
        raise InputError(f"{path}: gender: wanted 0 or 1 for all frames, found {sorted(genders)}")
    shape = frames_of(record["shape"].reshape(10, -1), (10, count), path, "shape")[:, 0]
    return BodyTruth(
        root.astype(np.float32),
        limbs.astype(np.float32),
        shape.astype(np.float32),
        np.full((count, 3), np.nan, np.float32),
        "male" if genders == {1} else "female",
    )
