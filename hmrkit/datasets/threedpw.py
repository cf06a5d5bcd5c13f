"""3D Poses in the Wild: ``sequenceFiles/{train,validation,test}/*.pkl`` and ``imageFiles/<sequence>/image_00000.jpg``.

Two people at most, seen by a moving phone, posed by IMUs (von Marcard et al. 2018). The world frame of the pickles is
the one of their ``cam_poses``, which map it to the camera. A frame counts where the camera is known (``campose_valid``)
and at least one keypoint was detected: what SPIN, the 2020 challenge and their followers use.

Subsets: `PERSON_OCCLUDED` and `OBJECT_OCCLUDED` are the lists of ROMP's authors (Sun et al. 2021); there is no
published list of 3DPW-OCC, so that one is a file of the user's: a line each ``SEQUENCE``, ``SEQUENCE FRAME``,
``SEQUENCE FIRST END`` (END not included) or an image's path.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hmrkit.datasets import DatasetOptions, EvalSequence, GroundTruth, missing_files
from hmrkit.datasets.annotations import (
    boxes_about,
    first_image,
    flagged,
    frames_of,
    image_size,
    numbered_images,
    pick,
    refuse,
    refuse_spin_style,
    require,
    smpl_truth,
)
from hmrkit.datasets.pickles import read_pickle
from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import SMPL_24, Skeleton
from hmrkit.types import Camera

log = logging.getLogger(__name__)

SPLITS = {"test": ("test",), "train": ("train",), "validation": ("validation",), "all": ("train", "validation", "test")}
SEQUENCES = {"train": 24, "validation": 12, "test": 24}  # in the release
PERSON_OCCLUDED = {
    "courtyard_basketball_00": (200, 280),
    "courtyard_captureSelfies_00": (500, 600),
    "courtyard_dancing_00": (60, 370),
    "courtyard_dancing_01": (60, 270),
    "courtyard_hug_00": (100, 500),
    "downtown_bus_00": (1620, 1900),
}
OBJECT_OCCLUDED = {
    "courtyard_backpack", "courtyard_basketball", "courtyard_bodyScannerMotions", "courtyard_box", "courtyard_golf",
    "courtyard_jacket", "courtyard_laceShoe", "downtown_stairs", "flat_guitar", "flat_packBags", "outdoors_climbing",
    "outdoors_crosscountry", "outdoors_fencing", "outdoors_freestyle", "outdoors_golf", "outdoors_parcours",
    "outdoors_slalom",
}  # fmt: skip
COCO_18 = Skeleton(
    "coco-18",
    (
        *("nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist"),
        *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
        *("right_eye", "left_eye", "right_ear", "left_ear"),
    ),
)

_KEYS = (
    *("sequence", "betas", "poses", "trans", "poses2d", "jointPositions", "cam_poses", "campose_valid"),
    *("cam_intrinsics", "genders"),
)
_GENDERS = {"m": "male", "f": "female"}


def load(name: str, root: Path, options: DatasetOptions) -> ThreeDPW:
    """The dataset named ``3dpw``, ``3dpw-oc``, ``3dpw-pc`` or ``3dpw-occ`` at `root`; see the module."""
    return ThreeDPW(name, root, options)


class ThreeDPW:
    """See the module. Subsets are oc, pc and nc (neither); the names ``3dpw-oc`` and so on mean one of all splits."""

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options)
        self.name, self.default_protocol = name, "spin"
        self.root = root.parent if root.name == "sequenceFiles" else root
        self.subset = name.removeprefix("3dpw").lstrip("-") or options.subset
        if name != "3dpw" and options.subset not in ("", self.subset):
            raise UsageError(f"dataset {name}: is a subset by itself; leave --subset {options.subset} out")
        pick(name, "subset", self.subset, {"": "", "oc": "", "pc": "", "nc": "", "occ": ""})
        self.splits: tuple[str, ...] = pick(name, "split", options.split or ("all" if self.subset else "test"), SPLITS)
        self.frame_list = options.frame_list
        if self.subset == "occ" and self.frame_list is None:
            raise UsageError(f"dataset {name}: its list of frames was never published; give yours with --frame-list")

    def check(self) -> None:
        """See `Dataset`: every split asked for has sequence files, and the list of frames can be read."""
        empty = [self.root / "sequenceFiles" / split / "*.pkl" for split in self.splits if not self._files(split)]
        if empty:
            refuse_spin_style(self.name, self.root, "*3dpw*.npz", "sequenceFiles/")
            raise missing_files(
                self.name, "register at https://virtualhumans.mpi-inf.mpg.de/3DPW", self.root,
                "sequenceFiles/ and imageFiles/ as unpacked", empty,
            )  # fmt: skip
        for split in self.splits:
            if len(self._files(split)) < SEQUENCES[split]:
                log.warning(
                    "3DPW's %s split has %d sequences, %s has %d: the figures will not be the papers'",
                    split, SEQUENCES[split], self.root, len(self._files(split)),
                )  # fmt: skip
        if self.frame_list is not None:
            read_frame_list(self.frame_list)

    def sequences(self) -> Iterator[EvalSequence]:
        """One sequence a file, in the order of splits and names; those of a subset are left out where it has none."""
        listed = None if self.frame_list is None else read_frame_list(self.frame_list)
        for split in self.splits:
            for path in self._files(split):
                chosen = _chosen_frames(path.stem, self.subset)
                if listed is not None:
                    chosen = chosen and path.stem in listed and listed[path.stem]
                if chosen:
                    yield self._sequence(path, split, chosen)

    def _files(self, split: str) -> list[Path]:
        return sorted((self.root / "sequenceFiles" / split).glob("*.pkl"))

    def _sequence(self, path: Path, split: str, chosen: list[tuple[int, int]]) -> EvalSequence:
        record = require(read_pickle(path), path, "a sequence file of 3DPW", _KEYS)
        count = len(record["poses"][0])
        frames = numbered_images(self.root / "imageFiles" / path.stem, count)
        focal, center = np.diag(record["cam_intrinsics"])[:2], np.asarray(record["cam_intrinsics"])[:2, 2]
        # The principal point is the image's middle in this dataset.
        width, height = image_size(first_image(frames)) if frames else (round(2 * c) for c in center.tolist())
        camera = Camera(focal.astype(np.float32), center.astype(np.float32), width, height, "given")
        indices = np.arange(count)
        counted = np.any([(indices >= first) & (indices < end) for first, end in chosen], axis=0)
        people = tuple(_person(record, index, counted, path) for index in range(len(record["poses"])))
        return EvalSequence(path.stem, frames, count, people, camera, fps=30.0, group=split)


def _person(record: dict, index: int, counted: np.ndarray, path: Path) -> GroundTruth:
    count = len(counted)
    extrinsics = frames_of(record["cam_poses"], (count, 4, 4), path, "cam_poses")
    poses = frames_of(record["poses"][index], (count, 72), path, "poses")
    transl = frames_of(record["trans"][index], (count, 3), path, "trans")
    detected = frames_of(record["poses2d"][index], (count, 3, 18), path, "poses2d").transpose(0, 2, 1)
    joints_w = frames_of(record["jointPositions"][index], (count, 72), path, "jointPositions").reshape(count, 24, 3)
    posed = frames_of(record["campose_valid"][index], (count,), path, "campose_valid").astype(bool)
    gender = record["genders"][index]
    gender = gender.decode() if isinstance(gender, bytes) else str(gender)
    seen = detected[..., 2] > 0
    keypoints = flagged(detected[..., :2], seen)
    keypoints[..., 2] = np.where(seen, 2, 0)  # a detector sees them, even a little outside of the image
    joints_c = joints_w @ extrinsics[:, :3, :3].transpose(0, 2, 1) + extrinsics[:, None, :3, 3]
    return GroundTruth(
        person=str(index),
        frame_indices=np.arange(count),
        valid=counted & posed & seen.any(1),
        boxes_xyxy=boxes_about(keypoints),
        joints_c=joints_c.astype(np.float32),
        skeleton=SMPL_24,
        keypoints_2d=keypoints,
        keypoint_skeleton=COCO_18,
        body=smpl_truth(poses, np.ravel(record["betas"][index]), transl, _GENDERS.get(gender, gender), path),
        camera_from_world=extrinsics.astype(np.float32),
    )


def _chosen_frames(sequence: str, subset: str) -> list[tuple[int, int]]:
    """Frame ranges (first, end) of a sequence that belong to a subset; [] for none."""
    everything, action = [(0, 1 << 30)], re.sub(r"_\d+$", "", sequence)
    if subset == "oc":
        return everything if action in OBJECT_OCCLUDED else []
    if subset == "pc":
        return [PERSON_OCCLUDED[sequence]] if sequence in PERSON_OCCLUDED else []
    if subset == "nc":
        return [] if action in OBJECT_OCCLUDED or sequence in PERSON_OCCLUDED else everything
    return everything


def read_frame_list(path: Path) -> dict[str, list[tuple[int, int]]]:
    """A user's list of frames -> sequence name -> ranges (first, end); see the module for its lines.

    InputError where it cannot be read, a line is something else, or no line names a frame.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read it as a list of frames ({error}); check --frame-list") from error
    ranges: dict[str, list[tuple[int, int]]] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if image := re.search(r"([^/\\]+)[/\\]image_(\d+)\.\w+$", words[0]):
            name, first = image[1], int(image[2])
            end = first + 1
        elif len(words) <= 3 and all(word.isdigit() for word in words[1:]):
            name = words[0].removesuffix(".pkl")
            first = int(words[1]) if len(words) > 1 else 0
            end = int(words[2]) if len(words) > 2 else (first + 1 if len(words) > 1 else 1 << 30)
        else:
            raise InputError(
                f"{path}, line {number}: wanted SEQUENCE [FRAME | FIRST END] or an image's path, found {line!r}"
            )
        ranges.setdefault(name, []).append((first, end))
    if not ranges:
        raise InputError(f"{path}: wanted a list of frames, found none; check --frame-list")
    return ranges
