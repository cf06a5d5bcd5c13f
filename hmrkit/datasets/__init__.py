"""Datasets: images of people with what is known of them, read from the files that their makers hand out.

How to add one: write a module with a function ``load(name, root, options)`` that returns a `Dataset` (it must be quick:
no files are opened before `check`), and add its line to `DATASETS`. Raise `missing_files` where something is not there.
Read pickles with `hmrkit.datasets.pickles.read_pickle` only. Never change what the annotation says (no smoothing, no
filling in); a frame that a protocol leaves out stays in, with ``valid`` False.

A sequence is one stretch of images by ONE camera: a clip (neighbours in time) or independent stills. A recording with
four cameras is four sequences. People are named alike in all cameras.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from hmrkit.errors import InputError, UsageError
from hmrkit.members import Member, choose
from hmrkit.skeletons import Skeleton
from hmrkit.types import Camera

DATASETS: dict[str, Member] = {
    "synthetic": Member(
        module="hmrkit.datasets.synthetic",
        summary="rendered people made from what ships, the same bits for everyone (needs no --data)",
        licence="Apache-2.0 (textures CC0)",
    ),
    "synthetic-video": Member(
        module="hmrkit.datasets.synthetic_video",
        summary="rendered clips of people in motion with all truth, the same bits for everyone (needs no --data)",
        licence="Apache-2.0 (textures CC0)",
    ),
    "npz": Member(
        module="hmrkit.datasets.npz",
        summary="SPIN-style .npz of any dataset (imgname, center, scale, S, pose, shape, ...)",
        paper="Kolotouros et al. 2019, Learning to reconstruct 3D human pose and shape via model-fitting in the loop",
        licence="that of the dataset",
    ),
    "3dpw": Member(
        module="hmrkit.datasets.threedpw",
        summary="3D Poses in the Wild, test split (--split train, validation, all)",
        paper="von Marcard et al. 2018, Recovering accurate 3D human pose in the wild using IMUs and a moving camera",
        licence="non-commercial research",
    ),
    "3dpw-oc": Member(
        module="hmrkit.datasets.threedpw",
        summary="3DPW, sequences with objects in front (ROMP's list, all splits)",
        paper="Sun et al. 2021, Monocular, one-stage, regression of multiple 3D people",
        licence="non-commercial research",
    ),
    "3dpw-pc": Member(
        module="hmrkit.datasets.threedpw",
        summary="3DPW, stretches with people in front of people (ROMP's list, all splits)",
        paper="Sun et al. 2021, Monocular, one-stage, regression of multiple 3D people",
        licence="non-commercial research",
    ),
    "3dpw-occ": Member(
        module="hmrkit.datasets.threedpw",
        summary="3DPW, the frames of a list of your own (--frame-list)",
        paper="Zhang et al. 2020, Object-occluded human shape and pose estimation from a single color image",
        licence="non-commercial research",
    ),
    "emdb": Member(
        module="hmrkit.datasets.emdb",
        summary="EMDB 1, camera frame (--split 2: EMDB 2, world frame)",
        paper="Kaufmann et al. 2023, EMDB: the electromagnetic database of global 3D human pose and shape in the wild",
        licence="non-commercial research",
    ),
    "h36m": Member(
        module="hmrkit.datasets.h36m",
        summary="Human3.6M, subjects 9 and 11 (the protocol chooses cameras and frames)",
        paper="Ionescu et al. 2014, Human3.6M",
        licence="academic use by registered people",
    ),
    "mpi-inf-3dhp": Member(
        module="hmrkit.datasets.mpi_inf_3dhp",
        summary="MPI-INF-3DHP test set, TS1 to TS6",
        paper="Mehta et al. 2017, Monocular 3D human pose estimation in the wild using improved CNN supervision",
        licence="non-commercial research",
    ),
    "surreal": Member(
        module="hmrkit.datasets.surreal",
        summary="SURREAL, test split",
        paper="Varol et al. 2017, Learning from synthetic humans",
        licence="non-commercial research",
    ),
    "up-3d": Member(
        module="hmrkit.datasets.up_3d",
        summary="Unite the People, test split",
        paper="Lassner et al. 2017, Unite the People: closing the loop between 3D and 2D human representations",
        licence="non-commercial research",
    ),
    "lsp": Member(
        module="hmrkit.datasets.lsp",
        summary="Leeds Sports Pose test images with silhouettes and parts of Unite the People",
        paper="Johnson and Everingham 2010; Lassner et al. 2017",
        licence="non-commercial research",
    ),
    "coco": Member(
        module="hmrkit.datasets.coco",
        summary="COCO keypoints, AP of the projected mesh",
        paper="Lin et al. 2014, Microsoft COCO: common objects in context",
        licence="annotations CC BY 4.0; images of their owners",
    ),
    "crowdpose": Member(
        module="hmrkit.datasets.crowdpose",
        summary="CrowdPose, AP by crowd index",
        paper="Li et al. 2019, CrowdPose: efficient crowded scenes pose estimation and a new benchmark",
        licence="non-commercial research",
    ),
    "mpii-invisible": Member(
        module="hmrkit.datasets.mpii_invisible",
        summary="MPII joints that are annotated but hidden: 2D error and PCKh",
        paper="Andriluka et al. 2014, 2D human pose estimation: new benchmark and state of the art analysis",
        licence="Simplified BSD; images of their owners",
    ),
    "multiview": Member(
        module="hmrkit.datasets.multiview",
        summary="your own calibrated cameras with triangulated or marker joints (TRC)",
        licence="yours",
    ),
}


# Made from what ships: --data only says where they are kept, by default in such a folder of the results.
RENDERED = {"synthetic": "pictures", "synthetic-video": "clips"}


@dataclass(frozen=True)
class DatasetOptions:
    """What a user may choose of a dataset; a member refuses (UsageError) what means nothing to it.

    `split` and `subset` "" mean the default (the split that papers report). `frame_list` is a user's file of frames.
    `settings` are ``--dataset-option key=value``, for what only one dataset has (``time_offset=0.12``). `protocol` is
    the protocol that was chosen ("" the default one): where protocols differ in cameras or frames (Human3.6M), the
    reader leaves out those cameras and gives those frames ``valid`` False.
    """

    split: str = ""
    subset: str = ""
    frame_list: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    protocol: str = ""


@dataclass(frozen=True)
class BodyTruth:
    """A person's true SMPL parameters in the dataset's own frame, as published: `hmrkit eval` poses the body with them.

    `global_orient` (T,3,3), `body_pose` (T,23,3,3), `betas` (10,) or (T,10), `transl` (T,3) m, `gender` neutral, male
    or female. All float32; a frame without truth is NaN. `model`: ``smpl`` for the official files, ``hmrkit`` for the
    free body.
    """

    global_orient: np.ndarray
    body_pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    gender: str
    model: str = "smpl"

    def __post_init__(self) -> None:
        frames = len(self.transl)
        _shape("BodyTruth.global_orient", self.global_orient, (frames, 3, 3))
        _shape("BodyTruth.body_pose", self.body_pose, (frames, 23, 3, 3))
        _shape("BodyTruth.betas", self.betas, (10,) if self.betas.ndim == 1 else (frames, 10))
        _shape("BodyTruth.transl", self.transl, (frames, 3))
        if self.gender not in ("neutral", "male", "female"):
            raise ValueError(f"BodyTruth.gender: expected neutral, male or female, got {self.gender!r}")


@dataclass(frozen=True)
class GroundTruth:
    """What is known of one person in a sequence; T of the sequence's frames, float32, NaN where unknown.

    - `frame_indices` (T,) int, strictly rising: positions in the sequence's frames (see `EvalSequence.frames`).
    - `valid` (T,) bool: the frames that the dataset's makers say to evaluate. Protocols may narrow it further.
    - `boxes_xyxy` (T,4) px, tight about the visible person; NaN where the person is not seen.
    - `joints_c` (T,J,3) m in the camera frame (x right, y down, z forward), in the order of `skeleton`: the joints that
      the dataset hands out (markers, triangulation, 3DPW's jointPositions), not ones that we compute from `body`. Use
      the names of hmrkit.skeletons where a joint is defined like one there; a dataset may bring its own `Skeleton`.
    - `keypoints_2d` (T,K,3): x, y px and flag in the order of `keypoint_skeleton`; flag 0 not annotated (x, y NaN),
      1 annotated but hidden, 2 visible. A detector's confidence in [0, 1] (3DPW's poses2d) becomes 2 above 0.
    - `body`, in the world frame if `camera_from_world` (T,4,4) is given, else in the camera frame.
    - `silhouettes`, `parts`: T paths of label images of the image's size, None where there is none.
    - `facts`: arrays (T,...) that single metrics need: ``image_id``, ``annotation_id``, ``area_px2``, ``is_crowd``,
      ``head_size_px``, ``crowd_index``.
    """

    person: str
    frame_indices: np.ndarray
    valid: np.ndarray
    boxes_xyxy: np.ndarray
    joints_c: np.ndarray | None = None
    skeleton: Skeleton | None = None
    keypoints_2d: np.ndarray | None = None
    keypoint_skeleton: Skeleton | None = None
    body: BodyTruth | None = None
    camera_from_world: np.ndarray | None = None
    silhouettes: tuple[Path | None, ...] | None = None
    parts: tuple[Path | None, ...] | None = None
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        frames = len(self.frame_indices)
        name = f"GroundTruth {self.person!r}"
        if frames and np.any(np.diff(self.frame_indices) <= 0):
            raise ValueError(f"{name}: frame_indices must be strictly rising")
        _shape(f"{name}.valid", self.valid, (frames,))
        _shape(f"{name}.boxes_xyxy", self.boxes_xyxy, (frames, 4))
        for what, points, skeleton in (
            ("joints_c", self.joints_c, self.skeleton),
            ("keypoints_2d", self.keypoints_2d, self.keypoint_skeleton),
        ):
            if (points is None) != (skeleton is None):
                raise ValueError(f"{name}.{what}: give it with its skeleton, or neither")
            if points is not None and skeleton is not None:
                _shape(f"{name}.{what}", points, (frames, len(skeleton), 3))
        if self.body is not None and len(self.body.transl) != frames:
            raise ValueError(f"{name}.body: expected {frames} frames, got {len(self.body.transl)}")
        if self.camera_from_world is not None:
            _shape(f"{name}.camera_from_world", self.camera_from_world, (frames, 4, 4))
        for what, paths in (("silhouettes", self.silhouettes), ("parts", self.parts)):
            if paths is not None and len(paths) != frames:
                raise ValueError(f"{name}.{what}: expected {frames} paths, got {len(paths)}")


@dataclass(frozen=True)
class EvalSequence:
    """One stretch of images by one camera with the people in it.

    `frames`: a video or a folder of images (frame k is the k-th of its sorted files), or a tuple of image paths (frame
    k is ``frames[k]``), or None where the images are not there and only ``--predictions`` can be scored. `stills`:
    the frames have nothing to do with one another (sizes may differ, nothing is tracked or smoothed through them).
    `camera` None: not known, assumed from the image's size; stills may have one each (a tuple). `fps` of a clip.
    `group` is what results are also listed by (action, subset, difficulty), "" for none. `frame_count` is the number
    of frames, people in them or not. `name` is unique in the dataset and fit to be a file name (letters, digits,
    ``_ - .``). `cropped`: stills that are one person's crop each, as a regressor takes them (`synthetic`).
    """

    name: str
    frames: Path | tuple[Path, ...] | None
    frame_count: int
    people: tuple[GroundTruth, ...]
    camera: Camera | tuple[Camera, ...] | None = None
    fps: float = 30.0
    group: str = ""
    stills: bool = False
    cropped: bool = False


class Dataset(Protocol):
    """One dataset at one place. `default_protocol` is a name of hmrkit.evaluation.protocols, the one of the papers."""

    name: str
    default_protocol: str

    def check(self) -> None:
        """Raise ONE InputError (`missing_files`) unless the files are there; also recognise wrong versions here."""
        ...

    def sequences(self) -> Iterator[EvalSequence]:
        """The sequences in a fixed order, read one at a time (memory must not grow with the dataset)."""
        ...


def load_dataset(name: str, root: str | Path | None, options: DatasetOptions | None = None) -> Dataset:
    """A dataset by name, its files under `root`. UsageError lists the known names; call `check` before `sequences`."""
    member, _ = choose(DATASETS, name, "dataset")
    if root is None and name not in RENDERED:
        raise UsageError(f"dataset {name}: say with --data where its files are")
    return member.load_module().load(name, None if root is None else Path(root), options or DatasetOptions())


def missing_files(dataset: str, register: str, root: Path, layout: str, looked_for: Sequence[str | Path]) -> InputError:
    """The one message for a dataset that is not there, or not whole.

    `register` says where to get it ("register at https://..."), `layout` how to put it under --data
    ("sequenceFiles/ and imageFiles/ as unpacked"), `looked_for` the files that were not found (few are named).
    """
    named = ", ".join(str(path) for path in looked_for[:3]) + (
        f" and {len(looked_for) - 3} more" * (len(looked_for) > 3)
    )
    return InputError(f"dataset {dataset}: {root} lacks {named}; {register}, then put there {layout}")


def _shape(name: str, array: np.ndarray, want: tuple[int, ...]) -> None:
    if not isinstance(array, np.ndarray) or array.shape != want:
        raise ValueError(f"{name}: expected an array of shape {want}, got {getattr(array, 'shape', type(array))}")
