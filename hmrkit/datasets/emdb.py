"""EMDB: ``P0..P9/<sequence>/{P?_<sequence>_data.pkl, images/00000.jpg}`` (Kaufmann et al. 2023).

One person in front of a moving phone, posed by electromagnetic sensors, in a world frame that the phone's own odometry
holds together. EMDB 1 (``--split 1``, the default) is scored in the camera frame, EMDB 2 (``--split 2``) in the world;
the flags ``emdb1`` and ``emdb2`` of each pickle say which sequences belong to them. Frames outside ``good_frames_mask``
do not count: the person is out of view or covered.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hmrkit.datasets import DatasetOptions, EvalSequence, GroundTruth, missing_files
from hmrkit.datasets.annotations import flagged, frames_of, numbered_images, pick, refuse, require, smpl_truth
from hmrkit.datasets.pickles import read_pickle
from hmrkit.errors import InputError
from hmrkit.skeletons import SMPL_24
from hmrkit.types import Camera

log = logging.getLogger(__name__)

SPLITS = {"1": ("emdb1",), "2": ("emdb2",), "all": ("emdb1", "emdb2", "")}
SEQUENCES = {"emdb1": 17, "emdb2": 25, "": 81}  # in the release
_KEYS = (
    "gender", "name", "emdb1", "emdb2", "n_frames", "good_frames_mask", "camera", "smpl", "kp2d", "bboxes",
)  # fmt: skip


def load(name: str, root: Path, options: DatasetOptions) -> Emdb:
    """EMDB at `root`; ``split`` 1 (default), 2 or all."""
    return Emdb(name, root, options)


class Emdb:
    """See the module. `default_protocol` is the official one for EMDB 1, WHAM's world metrics for EMDB 2."""

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options, "subset", "frame_list")
        self.name, self.root = name, root
        self.flags: tuple[str, ...] = pick(name, "split", options.split, SPLITS)
        self.default_protocol = "wham-world" if options.split == "2" else "emdb-official"

    def check(self) -> None:
        """See `Dataset`."""
        if not self._files():
            raise missing_files(
                self.name, "apply at https://emdb.ait.ethz.ch", self.root, "the folders P0 to P9 as unpacked",
                [self.root / "P0" / "*" / "P0_*_data.pkl"],
            )  # fmt: skip

    def sequences(self) -> Iterator[EvalSequence]:
        """One sequence a recording that belongs to the split, by person and number."""
        belonging = 0
        for path in self._files():
            record = require(read_pickle(path), path, "a sequence of EMDB", _KEYS)
            if "" in self.flags or any(record[flag] for flag in self.flags):
                belonging += 1
                yield _sequence(path, record)
        if not belonging:
            raise InputError(
                f"dataset {self.name}: none of the {len(self._files())} sequences in {self.root} belongs to this "
                "split; fetch the rest, or choose --split all"
            )
        published = max(SEQUENCES[flag] for flag in self.flags)
        if belonging < published:
            log.warning("%s has %d of this split's %d sequences: figures will not be the papers'", self.root, belonging,
                        published)  # fmt: skip

    def _files(self) -> list[Path]:
        return sorted(self.root.glob("P[0-9]*/*/P*_data.pkl"))


def _sequence(path: Path, record: dict) -> EvalSequence:
    count = int(record["n_frames"])
    camera = require(record["camera"], path, "its camera", ("intrinsics", "extrinsics", "width", "height"))
    smpl = require(record["smpl"], path, "its smpl", ("poses_root", "poses_body", "trans", "betas"))
    boxed = require(record["bboxes"], path, "its bboxes", ("bboxes", "invalid_idxs"))
    intrinsics = frames_of(camera["intrinsics"], (3, 3), path, "intrinsics")
    extrinsics = frames_of(camera["extrinsics"], (count, 4, 4), path, "extrinsics")
    root = frames_of(smpl["poses_root"], (count, 3), path, "poses_root")
    body = frames_of(smpl["poses_body"], (count, 69), path, "poses_body")
    transl = frames_of(smpl["trans"], (count, 3), path, "trans")
    points = frames_of(record["kp2d"], (count, 24, 2), path, "kp2d")
    good = frames_of(record["good_frames_mask"], (count,), path, "good_frames_mask").astype(bool)
    boxes = frames_of(boxed["bboxes"], (count, 4), path, "bboxes").astype(np.float32)
    boxes[np.isin(np.arange(count), boxed["invalid_idxs"])] = np.nan
    width, height = int(camera["width"]), int(camera["height"])
    person = GroundTruth(
        person="0",
        frame_indices=np.arange(count),
        valid=good,
        boxes_xyxy=boxes,
        keypoints_2d=flagged(points, np.ones((count, 24), bool), width, height),
        keypoint_skeleton=SMPL_24,
        body=smpl_truth(np.concatenate([root, body], 1), np.ravel(smpl["betas"]), transl, str(record["gender"]), path),
        camera_from_world=extrinsics.astype(np.float32),
    )
    center = intrinsics[:2, 2].astype(np.float32)
    pinhole = Camera(np.diag(intrinsics)[:2].astype(np.float32), center, width, height, "given")
    name = path.name.removesuffix("_data.pkl")
    frames = numbered_images(path.parent / "images", count)
    return EvalSequence(name, frames, count, (person,), pinhole, fps=30.0, group=name.split("_")[0])
