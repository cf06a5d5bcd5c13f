"""Leeds Sports Pose's 1,000 test images with the silhouettes and body parts of Unite the People.

Two downloads: LSP (Johnson and Everingham 2010) with ``joints.mat`` (``joints`` (3,14,2000): x, y, 1 where hidden) and
``images/im0001.jpg`` ...; and UPi-S1h (Lassner et al. 2017) with ``data/lsp/im1001_segmentation.png`` (0 background,
else person) and ``im1001_part_segmentation.png`` (0 background, 1 to 6 parts, 255 to be ignored). LSP may lie at the
root or in ``lsp_dataset/``, ``lsp/``; UPi-S1h likewise in ``upi-s1h/``. Test images are 1001 to 2000 (`--split train`:
the others).

Segmentations fit LSP's small images, not ``lsp_dataset_original``: sizes are compared for the first image.
Pixels are passed on as the file has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hmrkit.datasets import DatasetOptions, EvalSequence, GroundTruth, missing_files
from hmrkit.datasets.annotations import boxes_about, image_size, pick, refuse
from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import LSP_14

_SPLITS = {"test": range(1000, 2000), "train": range(0, 1000)}
_LSP_PLACES = ("", "lsp_dataset", "lsp")
_UP_PLACES = ("", "upi-s1h", "UPi-S1h", "upi_s1h")
_IMAGES_A_SEQUENCE = 250


class Lsp:
    """See `hmrkit.datasets.Dataset`."""

    default_protocol = "lsp-parts"

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options, "subset", "frame_list")
        self.name, self.root = name, root
        self.numbers: range = pick(name, "split", options.split, _SPLITS)
        self.split = options.split or "test"

    def check(self) -> None:
        """joints.mat and the labels of the first image must be there, and fit its image."""
        lsp, labels = self._lsp(), self._labels()
        first = f"im{self.numbers[0] + 1:04d}"
        absent = [self.root / "joints.mat"] * (lsp is None)
        absent += [self.root / "data" / "lsp" / f"{first}_segmentation.png"] * (labels is None)
        if lsp is None or labels is None:
            raise missing_files(
                self.name,
                "download LSP from http://sam.johnson.io/research/lsp.html and UPi-S1h from "
                "https://files.is.tue.mpg.de/classner/up (accept its licence there)",
                self.root,
                "joints.mat and images/ of lsp_dataset.zip, and data/lsp/ of UPi-S1h",
                absent,
            )
        image, label = lsp / "images" / f"{first}.jpg", labels / f"{first}_segmentation.png"
        if image.is_file() and image_size(image) != image_size(label):
            raise InputError(
                f"{image} is {image_size(image)}, its silhouette {image_size(label)}; "
                "use lsp_dataset.zip, not lsp_dataset_original.zip"
            )
        _read_joints(lsp / "joints.mat")

    def sequences(self) -> Iterator[EvalSequence]:
        """250 images at a time."""
        lsp, labels = self._lsp(), self._labels()
        if lsp is None or labels is None:
            return self.check()
        joints = _read_joints(lsp / "joints.mat")
        for start in range(0, len(self.numbers), _IMAGES_A_SEQUENCE):
            numbers = self.numbers[start : start + _IMAGES_A_SEQUENCE]
            names = [f"im{number + 1:04d}" for number in numbers]
            images = tuple(lsp / "images" / f"{name}.jpg" for name in names)
            silhouettes = tuple(_there(labels / f"{name}_segmentation.png") for name in names)
            parts = tuple(_there(labels / f"{name}_part_segmentation.png") for name in names)
            keypoints = joints[list(numbers)]
            # Hidden joints say as much about where the person is as the others.
            everything = np.where(keypoints[..., 2:] > 0, keypoints * [1, 1, 0] + [0, 0, 2], keypoints)
            person = GroundTruth(
                person="0",
                frame_indices=np.arange(len(names)),
                valid=np.array([path is not None for path in silhouettes]),
                boxes_xyxy=boxes_about(everything),
                keypoints_2d=keypoints,
                keypoint_skeleton=LSP_14,
                silhouettes=silhouettes,
                parts=parts,
            )
            yield EvalSequence(
                name=f"{self.split}-{names[0]}",
                frames=images if all(path.is_file() for path in images) else None,
                frame_count=len(names),
                people=(person,),
                stills=True,
            )

    def _lsp(self) -> Path | None:
        return next((p for place in _LSP_PLACES if ((p := self.root / place) / "joints.mat").is_file()), None)

    def _labels(self) -> Path | None:
        first = f"im{self.numbers[0] + 1:04d}_segmentation.png"
        places = [self.root / place / "data" / "lsp" for place in _UP_PLACES]
        return next((place for place in places if (place / first).is_file()), None)


def load(name: str, root: Path | None, options: DatasetOptions) -> Lsp:
    """See `hmrkit.datasets.load_dataset`."""
    if root is None:
        raise UsageError(f"dataset {name}: say with --data where its files are")
    return Lsp(name, root, options)


def _read_joints(path: Path) -> np.ndarray:
    """Keypoints (2000,14,3) with the contract's flags."""
    from scipy.io import loadmat

    try:
        joints = np.asarray(loadmat(path)["joints"], np.float32)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise InputError(f"{path}: expected LSP's joints, found {error!r}; unpack lsp_dataset.zip again") from error
    if joints.shape != (3, 14, 2000):
        hint = "; that is LSP extended, which has no labels" if joints.shape[:2] == (14, 3) else ""
        raise InputError(f"{path}: expected joints of shape (3, 14, 2000), found {joints.shape}{hint}")
    points = joints.transpose(2, 1, 0).copy()
    points[..., 2] = np.where(points[..., 2] == 1, 1, 2)
    return points


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None
