"""Human3.6M, subjects 9 and 11: joints of a marker system, four cameras in a studio (Ionescu et al. 2014).

Joints come from one of

- ``data_3d_h36m.npz``, the file that VideoPose3D's ``prepare_data_h36m.py`` makes;
- ``S9/MyPoseFeatures/D3_Positions/*.cdf.mat``, the release's poses after VideoPose3D's ``convert_cdf_to_mat.m`` (CDF
  itself is not read here);

the calibration from `hmrkit.datasets.h36m_cameras`, the images from ``S9/Videos/Directions 1.54138969.mp4`` or from
``images/S9_Directions_1.54138969_000001.jpg`` (SPIN's extraction: every fifth frame, numbered from 1).

The protocol chooses what counts: HMR's P1 every fifth frame of all cameras, its P2 every fifth of camera 60457274,
VideoPose3D's #1 and #2 everything but the recording of subject 11 whose video is damaged. Boxes are those of the
projected joints; papers that crop the images take them from the release's masks, which are a little wider.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.datasets import DatasetOptions, EvalSequence, GroundTruth, missing_files
from hmrkit.datasets.annotations import boxes_about, flagged, pick, refuse, require
from hmrkit.datasets.h36m_cameras import CAMERAS, NAMES, StudioCamera, find_calibration, read_calibration
from hmrkit.datasets.matlab import read_matlab
from hmrkit.errors import InputError, WeightsError, reason_of
from hmrkit.skeletons import H36M_17
from hmrkit.untrusted.arrays import open_regular, read_npz

SUBJECTS = ("S9", "S11")
FRONTAL = "60457274"
# The 17 of the marker system's 32 joints that move by themselves, in the order of `H36M_17`.
MOVING_JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
# One action has two names in the release, depending on the subject.
RENAMED = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}
_DAMAGED = ("S11", "Directions")


def load(name: str, root: Path, options: DatasetOptions) -> Human36M:
    """Human3.6M at `root`; see the module."""
    return Human36M(name, root, options)


class Human36M:
    """See the module. Sequences are named as SPIN names its images; groups are the 15 actions."""

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options, "subset", "frame_list")
        pick(name, "split", options.split, {"test": "test"})
        self.name, self.root, self.default_protocol = name, root, "hmr-p2"
        protocol = options.protocol or self.default_protocol
        self.cameras = (FRONTAL,) if protocol == "hmr-p2" else tuple(CAMERAS)
        self.every = 5 if protocol in ("hmr-p1", "hmr-p2") else 1
        self.skipped = {_DAMAGED} if protocol in ("pavllo-1", "pavllo-2") else set()

    def check(self) -> None:
        """See `Dataset`."""
        lacking: list[str | Path] = []
        if not (self._npz().is_file() or self._mats("S9")):
            lacking += [self._npz(), f"(or) S9/MyPoseFeatures/D3_Positions/*.cdf.mat under {self.root}"]
        if find_calibration(self.root) is None:
            lacking.append(f"{NAMES[0]} (or VideoPose3D's {NAMES[1]})")
        if not lacking:
            return
        if found := sorted(self.root.glob("h36m_valid_protocol?.npz")):
            raise InputError(
                f"dataset {self.name}: {self.root} lacks {lacking[0]}, but {found[0].name} is SPIN-style; "
                f"read it with --dataset npz --data {found[0]}"
            )
        if next(self.root.glob("S9/MyPoseFeatures/D3_Positions/*.cdf"), None):
            raise InputError(
                f"dataset {self.name}: {self.root} has its poses as CDF, which is not read here; make data_3d_h36m.npz "
                "of them with VideoPose3D's data/prepare_data_h36m.py --from-source-cdf"
            )
        raise missing_files(
            self.name, "register at http://vision.imar.ro/human3.6m and prepare it with VideoPose3D's "
            "data/prepare_data_h36m.py", self.root,
            "data_3d_h36m.npz, metadata.xml and S9/Videos, S11/Videos", lacking,
        )  # fmt: skip

    def sequences(self) -> Iterator[EvalSequence]:
        """Subject by subject, action by action, camera by camera."""
        calibration = find_calibration(self.root)
        if calibration is None:
            raise InputError(f"{self.root}: wanted {' or '.join(NAMES)}, found neither; put it there")
        cameras = read_calibration(calibration)
        table = read_object(self._npz(), "positions_3d") if self._npz().is_file() else None
        for subject in SUBJECTS:
            for action, joints_w in self._recordings(subject, table):
                for camera_id in self.cameras:
                    yield self._sequence(subject, action, camera_id, joints_w, cameras[subject, camera_id])

    def _npz(self) -> Path:
        inner = self.root / "data" / "data_3d_h36m.npz"
        return inner if inner.is_file() else self.root / "data_3d_h36m.npz"

    def _mats(self, subject: str) -> dict[str, Path]:
        """Action -> file of a subject's converted poses."""
        files = (self.root / subject / "MyPoseFeatures" / "D3_Positions").glob("*.cdf.mat")
        return {path.name.removesuffix(".cdf.mat"): path for path in files}

    def _recordings(
        self, subject: str, table: dict[str, dict[str, np.ndarray]] | None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """(action, joints (T,17,3) m in the world frame) of a subject, from `table` or else from its files."""
        if table is not None:
            recordings = iter(sorted(table[subject].items()))
        else:
            recordings = ((action, _read_mat(path)) for action, path in sorted(self._mats(subject).items()))
        for action, joints in recordings:
            if action == "_ALL" or (subject, action) in self.skipped:
                continue
            if joints.ndim != 3 or joints.shape[1:] not in ((32, 3), (17, 3)):
                raise InputError(f"{self.root}: {subject} {action}: wanted shape (T, 32, 3), found {joints.shape}")
            yield action, joints[:, list(MOVING_JOINTS)] if joints.shape[1] == 32 else joints

    def _sequence(
        self, subject: str, action: str, camera_id: str, joints_w: np.ndarray, camera: StudioCamera
    ) -> EvalSequence:
        name = f"{subject}_{action.replace(' ', '_')}.{camera_id}"
        frames: Path | tuple[Path, ...] | None = self._video(subject, action, camera_id)
        chosen, step = np.arange(len(joints_w)), 1
        if frames is None and self.every > 1:
            # SPIN's images are the frames that count and no others: the sequence consists of them alone.
            images = tuple(self.root / "images" / f"{name}_{k + 1:06d}.jpg" for k in chosen[:: self.every])
            if all(image.is_file() for image in images):
                frames, step = images, self.every
        joints_c = camera.to_camera(joints_w[::step])
        pixels = camera.project(joints_c)
        keypoints = flagged(
            pixels, np.asarray(np.isfinite(pixels).all(-1)), camera.pinhole.width, camera.pinhole.height
        )
        person = GroundTruth(
            person=subject,
            frame_indices=np.arange(len(joints_c)),
            valid=chosen[::step] % self.every == 0,
            boxes_xyxy=boxes_about(keypoints),
            joints_c=joints_c,
            skeleton=H36M_17,
            keypoints_2d=keypoints,
            keypoint_skeleton=H36M_17,
        )
        group = action.split()[0]
        group = RENAMED.get(group, group)
        return EvalSequence(name, frames, len(joints_c), (person,), camera.pinhole, fps=50.0 / step, group=group)

    def _video(self, subject: str, action: str, camera_id: str) -> Path | None:
        names = [action, *(action.replace(short, long) for long, short in RENAMED.items() if short in action)]
        videos = [self.root / subject / "Videos" / f"{name}.{camera_id}.mp4" for name in names]
        return next((video for video in videos if video.is_file()), None)


def read_object(path: Path, key: str) -> Any:
    """The dictionary that an ``.npz`` keeps, pickled, under `key`; as restricted as `read_pickle`.

    InputError where there is none, it is damaged, or it names anything but arrays.
    """
    try:
        with open_regular(path) as stream:
            value = read_npz(stream, [key])[key]
        if not isinstance(value, dict):
            raise ValueError(f"{key} is no dictionary")
        return value
    except WeightsError as error:
        what = str(error).split(", which")[0]
        raise InputError(f"{path}: {key} {what}, which no dataset needs: refused; make the file anew") from None
    except Exception as error:  # a damaged pickle can fail anywhere inside the unpickler, with any exception
        reason = reason_of(error)
        raise InputError(f"{path}: wanted an .npz with {key}, cannot read it ({reason}); make the file anew") from error


def _read_mat(path: Path) -> np.ndarray:
    """``data{1,1}`` of a converted CDF file, mm -> joints (T,32,3) m."""
    data = require(read_matlab(path, ("data",)), path, "poses converted by convert_cdf_to_mat.m", ("data",))["data"]
    cell = data.ravel()[0] if data.dtype == object and data.size else data
    if not isinstance(cell, np.ndarray) or cell.ndim < 2 or cell.shape[-1] != 96:
        raise InputError(f"{path}: wanted poses converted by convert_cdf_to_mat.m, a cell of shape (T, 96)")
    return cell.astype(np.float32).reshape(-1, 32, 3) / 1000
