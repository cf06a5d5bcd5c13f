"""MPI-INF-3DHP's test set: ``mpi_inf_3dhp_test_set/TS{1..6}/{annot_data.mat, imageSequence/img_000001.jpg}``.

Six recordings with markerless 3D joints (Mehta et al. 2017). ``annot_data.mat`` is a MATLAB 7.3 file, which is HDF5:
reading it needs h5py (``pip install h5py``), or MATLAB's older format (``save -v7``). Of its two sets of 3D joints the
benchmark scores ``univ_annot3``, scaled to the height of one skeleton for all people; ``--dataset-option
joints=annot3`` gives the metric ones. Frames count where ``valid_frame`` says so; SPIN and its followers leave out
those with a joint outside of the image, too, which the protocol of the same name follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hmrkit.datasets import DatasetOptions, EvalSequence, GroundTruth, missing_files
from hmrkit.datasets.annotations import (
    boxes_about,
    flagged,
    frames_of,
    numbered_images,
    pick,
    refuse,
    refuse_spin_style,
    require,
)
from hmrkit.datasets.matlab import read_matlab
from hmrkit.skeletons import Skeleton
from hmrkit.types import Camera

# The order of the test set's 17 joints, with the names that SPIN's files give the same places.
MPI_INF_3DHP_17 = Skeleton(
    "mpi-inf-3dhp-17",
    (
        *("head_top", "neck", "right_shoulder", "right_elbow", "right_wrist"),
        *("left_shoulder", "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle"),
        *("left_hip", "left_knee", "left_ankle", "pelvis", "spine", "jaw"),
    ),
)
# Scene and image size; the benchmark's table lists results by scene.
RECORDINGS = {
    "TS1": ("green-screen", 2048, 2048),
    "TS2": ("green-screen", 2048, 2048),
    "TS3": ("studio", 2048, 2048),
    "TS4": ("studio", 2048, 2048),
    "TS5": ("outdoor", 1920, 1080),
    "TS6": ("outdoor", 1920, 1080),
}
_JOINTS = {"univ_annot3": "univ_annot3", "annot3": "annot3"}
_KEYS = ("annot2", "annot3", "univ_annot3", "valid_frame", "activity_annotation")


def load(name: str, root: Path, options: DatasetOptions) -> MpiInf3dhp:
    """The test set at `root` (its folder, or the dataset's); ``--dataset-option joints=univ_annot3|annot3``."""
    return MpiInf3dhp(name, root, options)


class MpiInf3dhp:
    """See the module."""

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options, "subset", "frame_list", settings=("joints",))
        self.name, self.default_protocol = name, "mpi-inf-3dhp"
        pick(name, "split", options.split, {"test": "test"})
        self.joints: str = pick(name, "dataset-option joints", options.settings.get("joints", ""), _JOINTS)
        self.whole_only = (options.protocol or self.default_protocol) == "mpi-inf-3dhp"
        inner = root / "mpi_inf_3dhp_test_set"
        self.root = inner if inner.is_dir() else root

    def check(self) -> None:
        """See `Dataset`; all six recordings must be there, for the papers' figures are about all six."""
        lacking = [path for path in self._files() if not path.is_file()]
        if lacking:
            refuse_spin_style(self.name, self.root, "*mpi_inf_3dhp*.npz", "TS1 to TS6")
            raise missing_files(
                self.name, "fill in the form at https://vcai.mpi-inf.mpg.de/3dhp-dataset", self.root,
                "the unpacked folder mpi_inf_3dhp_test_set/", lacking,
            )  # fmt: skip
        read_annotation(self._files()[0])

    def sequences(self) -> Iterator[EvalSequence]:
        """TS1 to TS6."""
        for path in self._files():
            yield _sequence(path, self.joints, self.whole_only)

    def _files(self) -> list[Path]:
        return [self.root / recording / "annot_data.mat" for recording in RECORDINGS]


def _sequence(path: Path, joints: str, whole_only: bool) -> EvalSequence:
    record = read_annotation(path)
    name = path.parent.name
    scene, width, height = RECORDINGS[name]
    count = record["valid_frame"].size
    points = frames_of(record["annot2"], (count, 1, 17, 2), path, "annot2")[:, 0]
    measured = frames_of(record["annot3"], (count, 1, 17, 3), path, "annot3")[:, 0] / 1000
    scored = frames_of(record[joints], (count, 1, 17, 3), path, joints)[:, 0] / 1000
    keypoints = flagged(points, np.asarray(np.isfinite(points).all(-1)), width, height)
    valid = record["valid_frame"].reshape(count) > 0
    if whole_only:
        valid &= (keypoints[..., 2] > 1).all(1)
    person = GroundTruth(
        person="0",
        frame_indices=np.arange(count),
        valid=valid,
        boxes_xyxy=boxes_about(keypoints),
        joints_c=scored.astype(np.float32),
        skeleton=MPI_INF_3DHP_17,
        keypoints_2d=keypoints,
        keypoint_skeleton=MPI_INF_3DHP_17,
        facts={"activity": record["activity_annotation"].reshape(count)},
    )
    frames = numbered_images(path.parent / "imageSequence", count)
    camera = camera_of(measured, points, width, height)
    # The test set does not say its rate; 25 is the training set's.
    return EvalSequence(name, frames, count, (person,), camera, fps=25.0, group=scene)


def camera_of(joints_c: np.ndarray, points: np.ndarray, width: int, height: int) -> Camera | None:
    """The pinhole camera that maps joints (T,J,3) to their pixels (T,J,2), by least squares; None above 2 px.

    The test set comes without calibration, but its 2D joints are the projections of its metric 3D joints.
    """
    focal, center, residual = np.zeros(2), np.zeros(2), np.zeros(2)
    known = np.isfinite(points).all(-1) & np.isfinite(joints_c).all(-1) & (joints_c[..., 2] > 0)
    if known.sum() < 3:
        return None
    for axis in range(2):
        slope = joints_c[known][:, axis] / joints_c[known][:, 2]
        rows = np.stack([slope, np.ones_like(slope)], 1)
        (focal[axis], center[axis]), *_ = np.linalg.lstsq(rows, points[known][:, axis], rcond=None)
        residual[axis] = np.abs(rows @ [focal[axis], center[axis]] - points[known][:, axis]).mean()
    if residual.max() > 2 or focal.min() <= 0:
        return None
    return Camera(focal.astype(np.float32), center.astype(np.float32), width, height, "metadata")


def read_annotation(path: Path) -> dict[str, np.ndarray]:
    """``annot_data.mat`` -> arrays with the frame first and the coordinate last: (T,1,17,3), (T,1), ...

    InputError where it is damaged or lacks a variable, or where h5py would be needed and is not installed.
    """
    # MATLAB's own order is (coordinate, joint, 1, frame).
    record = {key: value.T for key, value in read_matlab(path, _KEYS).items()}
    return require(record, path, "an annotation of MPI-INF-3DHP's test set", _KEYS)
