"""Unite the People 3D: ``up-3d/test.txt`` and for each image ``00000_image.png``, ``_joints.npy``, ``_body.pkl``.

SMPL fitted to single photographs and accepted by annotators (Lassner et al. 2017); the neutral body,
seen by a camera of 5000 px whose place is part of the fit (``rt``, ``t``). The field reports the vertex error against
that fit. ``--frame-list`` takes a list of one's own, for example SPIN's ``namesUPlsp.txt`` (the LSP part of the test).
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
    pick,
    refuse,
    require,
    rotation_matrices,
    smpl_truth,
)
from hmrkit.datasets.pickles import read_pickle
from hmrkit.errors import InputError
from hmrkit.skeletons import LSP_14
from hmrkit.untrusted.arrays import load_array
from hmrkit.video.images import read_image

SPLITS = {"test": "test", "val": "val", "train": "train", "trainval": "trainval"}
_STILLS_A_SEQUENCE = 64  # read and held at once


def load(name: str, root: Path, options: DatasetOptions) -> Up3d:
    """UP-3D at `root`, the images' folder or the one above; ``split`` test (default), val, train or trainval."""
    return Up3d(name, root, options)


class Up3d:
    """See the module."""

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options, "subset")
        self.name, self.default_protocol = name, "spin"
        self.split: str = pick(name, "split", options.split, SPLITS)
        self.root = root / "up-3d" if (root / "up-3d").is_dir() else root
        self.list = options.frame_list or self.root / f"{self.split}.txt"

    def check(self) -> None:
        """See `Dataset`: the list is there, and every image on it with its joints and body."""
        looked_for = [self.list]
        if self.list.is_file():
            kinds = ("image.png", "joints.npy", "body.pkl")
            looked_for = [self.root / f"{stem}_{kind}" for stem in self._stems() for kind in kinds]
        lacking = [path for path in looked_for if not path.is_file()]
        if lacking:
            raise missing_files(
                self.name, "get UP-3D (up-3d.zip) at http://files.is.tuebingen.mpg.de/classner/up", self.root,
                "the unpacked folder up-3d/", lacking,
            )  # fmt: skip

    def sequences(self) -> Iterator[EvalSequence]:
        """The images of the list in its order, as stills, 64 a sequence, one person each."""
        stems = self._stems()
        for start in range(0, len(stems), _STILLS_A_SEQUENCE):
            batch = stems[start : start + _STILLS_A_SEQUENCE]
            frames = tuple(self.root / f"{stem}_image.png" for stem in batch)
            name = f"{self.list.stem}_{start:05d}"
            yield EvalSequence(name, frames, len(batch), (_people(self.root, batch),), stills=True)

    def _stems(self) -> list[str]:
        """``/00004_image.png`` (what follows on the line does not matter) or ``00004`` -> ``00004``."""
        words = [line.split()[0] for line in self.list.read_text().splitlines() if line.strip()]
        stems = [Path(word).name.removesuffix("_image.png") for word in words]
        if not stems:
            raise InputError(f"{self.list}: wanted a list of images like /00004_image.png, found none")
        return stems


def _people(root: Path, stems: list[str]) -> GroundTruth:
    """The person of each still, as if they were one."""
    paths = [root / f"{stem}_body.pkl" for stem in stems]
    fits = [require(read_pickle(path), path, "a fit of UP-3D", ("pose", "betas", "trans", "rt", "t")) for path in paths]
    pose, betas, transl, rotation, move = (
        np.stack(
            [frames_of(np.ravel(fit[key])[:size], (size,), path, key) for fit, path in zip(fits, paths, strict=True)]
        )
        for key, size in (("pose", 72), ("betas", 10), ("trans", 3), ("rt", 3), ("t", 3))
    )
    camera_from_world = np.tile(np.eye(4, dtype=np.float32), (len(stems), 1, 1))
    camera_from_world[:, :3, :3] = rotation_matrices(rotation)
    camera_from_world[:, :3, 3] = move
    keypoints = np.concatenate([_keypoints(root / f"{stem}_joints.npy") for stem in stems])
    boxes = boxes_about(keypoints)
    for index, stem in enumerate(stems):
        render = root / f"{stem}_render_light.png"
        if render.is_file():
            boxes[index] = _box_of_render(render)
    return GroundTruth(
        person="0",
        frame_indices=np.arange(len(stems)),
        valid=np.ones(len(stems), bool),
        boxes_xyxy=boxes,
        keypoints_2d=keypoints,
        keypoint_skeleton=LSP_14,
        body=smpl_truth(pose, betas, transl, "neutral", root),
        camera_from_world=camera_from_world,
    )


def _keypoints(path: Path) -> np.ndarray:
    """LSP's joints, rows x, y and (in one release) whether they are seen; a joint that is not known is at 0, 0."""
    try:
        rows = load_array(path).astype(np.float64)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: wanted an array of keypoints, cannot read it: {error}") from error
    if rows.ndim != 2 or rows.shape[0] not in (2, 3) or rows.shape[1] != 14:
        raise InputError(f"{path}: wanted shape (2 or 3, 14), found {rows.shape}; is it another version of UP-3D?")
    seen = rows[:2].min(0) > 0 if len(rows) == 2 else rows[2] > 0
    return flagged(rows[:2].T[None], seen[None])


def _box_of_render(path: Path) -> np.ndarray:
    """Box (4,) of the fitted body in its rendering on white: UP-3D's own silhouette, as SPIN crops by it."""
    ys, xs = np.nonzero(read_image(path).min(-1) < 255)
    if not len(xs):
        return np.full(4, np.nan, np.float32)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
