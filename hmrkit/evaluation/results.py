"""Results made elsewhere (``--predictions``): a file of arrays, SPIN's result file, or a 3DPW submission.

1. ``.npz`` with keys ``SEQUENCE/PERSON/NAME``, or a ``.pkl`` of nested dictionaries of the same names. PERSON is the
   truth's name or its number from 0. NAME, T rows each: ``global_orient`` (T,3) or (T,3,3), ``body_pose`` (T,69) or
   (T,23,3,3), ``betas`` (10,) or (T,10), ``transl`` (T,3) m; or ``joints`` (T,J,3) m; ``orientations`` (T,9,3,3). With
   ``frame_indices`` (T,) rows are matched by frame, without they are the truth's rows.
2. SPIN's ``eval.py --result_file``: ``pred_joints`` (N,J,3), ``pose`` (N,72) or (N,24,3,3), ``betas`` (N,10): rows of
   the whole dataset in its order, one a person and frame.
3. A folder of the challenge's files ``SEQUENCE.pkl``: ``jointPositions`` (P,N,24,3), ``orientations`` (P,N,9,3,3).

Everything is in the camera's axes. Pickles are read without running anything that they name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from hmrkit.datasets import EvalSequence, GroundTruth
from hmrkit.datasets.pickles import read_pickle
from hmrkit.errors import InputError
from hmrkit.evaluation.predicting import Prediction
from hmrkit.files import sha256_of
from hmrkit.geometry import axis_angle_to_matrix
from hmrkit.skeletons import SMPL_24
from hmrkit.untrusted.arrays import load_arrays

log = logging.getLogger(__name__)


class Results(Protocol):
    """Predictions by sequence and person; `sha256` names the file's content."""

    sha256: str

    def of(self, sequence: EvalSequence, person: int, first_row: int) -> Prediction:
        """Of a person; `first_row` is how many rows the dataset has before this person's."""
        ...


def open_results(path: Path) -> Results:
    """Results of whichever kind; InputError where the file is none of them."""
    if path.is_dir():
        return _Submission(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of predictions; check --predictions")
    arrays = _arrays(path)
    if {"pred_joints", "pose"} & set(arrays):
        return _Rows(path, arrays)
    return _Named(path, arrays)


def _arrays(path: Path) -> Mapping[str, Any]:
    """Top level of an .npz or .pkl; nested dictionaries become ``a/b/c`` keys."""
    if path.suffix == ".npz":
        try:
            return load_arrays(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: wanted an .npz of arrays without pickles, cannot read it: {error}") from error
    loaded = read_pickle(path)
    if not isinstance(loaded, dict):
        raise InputError(f"{path}: wanted a dictionary of predictions, found a {type(loaded).__name__}")
    return dict(_flat(loaded, ""))


def _flat(value: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", np.asarray(item)


class _Named:
    """Keys ``SEQUENCE/PERSON/NAME``."""

    def __init__(self, path: Path, arrays: Mapping[str, Any]) -> None:
        self.path, self.sha256 = path, sha256_of(path)
        self.groups: dict[str, dict[str, np.ndarray]] = {}
        for key, value in arrays.items():
            owner, _, name = key.rpartition("/")
            if owner.count("/") < 1:
                raise InputError(f"{path}: wanted keys SEQUENCE/PERSON/NAME or SPIN's pred_joints, found {key!r}")
            self.groups.setdefault(owner, {})[name] = value

    def of(self, sequence: EvalSequence, person: int, first_row: int) -> Prediction:
        truth = sequence.people[person]
        for owner in (f"{sequence.name}/{truth.person}", f"{sequence.name}/{person}"):
            if owner in self.groups:
                return _prediction(f"{self.path}: {owner}", self.groups[owner], truth)
        first = next(iter(self.groups))
        log.warning("%s has nothing of %s/%s; its first key is %s", self.path, sequence.name, truth.person, first)
        return Prediction(np.zeros(len(truth.valid), bool))


class _Rows:
    """SPIN's result file: rows of the whole dataset."""

    def __init__(self, path: Path, arrays: Mapping[str, Any]) -> None:
        self.path, self.sha256 = path, sha256_of(path)
        wanted = {"pred_joints": "joints", "pose": "pose", "betas": "betas"}
        self.arrays = {new: np.asarray(arrays[old]) for old, new in wanted.items() if old in arrays}
        self.rows = len(next(iter(self.arrays.values())))

    def of(self, sequence: EvalSequence, person: int, first_row: int) -> Prediction:
        truth = sequence.people[person]
        last = first_row + len(truth.valid)
        if last > self.rows:
            raise InputError(
                f"{self.path}: has {self.rows} rows, {sequence.name} wants rows {first_row} to {last}; was it made for "
                "another dataset or split?"
            )
        mine = {key: value[first_row:last] for key, value in self.arrays.items()}
        if "joints" in mine and mine["joints"].any():
            mine.pop("pose", None)  # their joints are what their figures were computed from
        return _prediction(f"{self.path}: rows from {first_row}", mine, truth)


class _Submission:
    """The 3DPW challenge's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {path.stem: path for path in sorted(folder.rglob("*.pkl"))}
        if not self.files:
            raise InputError(f"{folder}: wanted a folder with a SEQUENCE.pkl for each sequence, found no .pkl")
        self.sha256 = "+".join(sha256_of(path)[:8] for path in self.files.values())

    def of(self, sequence: EvalSequence, person: int, first_row: int) -> Prediction:
        truth = sequence.people[person]
        path = self.files.get(sequence.name)
        if path is None:
            return Prediction(np.zeros(len(truth.valid), bool))
        content = read_pickle(path)
        mine = {}
        for key, name in (("jointPositions", "joints"), ("orientations", "orientations")):
            if key in content:
                values = content[key]
                if len(values) <= person or len(values[person]) <= int(truth.frame_indices[-1]):
                    raise InputError(f"{path}: {key} of person {person} lacks frames up to {truth.frame_indices[-1]}")
                mine[name] = np.asarray(values[person], np.float64)[truth.frame_indices]
        return _prediction(str(path), mine, truth)


def _prediction(place: str, arrays: Mapping[str, np.ndarray], truth: GroundTruth) -> Prediction:
    """Arrays of one person on the truth's rows."""
    frames = len(truth.valid)
    lead = next((np.asarray(v) for k, v in arrays.items() if k != "betas"), np.zeros((0, 3)))
    index = arrays.get("frame_indices")
    if index is None:
        if len(lead) != frames:
            raise InputError(f"{place} has {len(lead)} rows, the truth {frames}; give frame_indices with them")
        rows, of = np.arange(frames), np.arange(frames)
    else:
        _, rows, of = np.intersect1d(truth.frame_indices, np.asarray(index), return_indices=True)

    def spread(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        full = np.full((frames, *shape), np.nan)
        try:
            full[rows] = np.asarray(values, np.float64)[of].reshape(len(of), *shape)
        except (ValueError, IndexError) as error:
            raise InputError(f"{place}: expected rows of shape {shape}, got {np.shape(values)}") from error
        return full

    joints = parts = rotations = betas = transl = None
    if "joints" in arrays:
        joints = spread(arrays["joints"], (np.asarray(arrays["joints"]).shape[-2], 3))
    if "orientations" in arrays:
        parts = spread(arrays["orientations"], (9, 3, 3))
    if "pose" in arrays:
        rotations = spread(_matrices(arrays["pose"], 24), (24, 3, 3))
    elif "global_orient" in arrays and "body_pose" in arrays:
        both = [_matrices(arrays["global_orient"], 1), _matrices(arrays["body_pose"], 23)]
        rotations = spread(np.concatenate(both, 1), (24, 3, 3))
    if rotations is not None:
        given = np.asarray(arrays.get("betas", np.zeros(10)))
        betas = np.tile(given.reshape(-1)[:10], (frames, 1)) if given.ndim == 1 or len(given) == 1 else spread(
            given[:, :10], (10,)
        )  # fmt: skip
        transl = np.nan_to_num(spread(arrays["transl"], (3,))) if "transl" in arrays else np.zeros((frames, 3))
    if joints is None and rotations is None and parts is None:
        raise InputError(f"{place} has neither joints nor global_orient and body_pose; found {', '.join(arrays)}")
    known = [x.reshape(frames, -1) for x in (joints, rotations, parts) if x is not None]
    found = np.logical_and.reduce([np.isfinite(x).all(1) for x in known])
    rotations, betas, transl = (None if x is None else x.astype(np.float32) for x in (rotations, betas, transl))
    skeleton = SMPL_24 if joints is not None and joints.shape[1] == 24 else None
    return Prediction(found, rotations, betas, transl, joints_c=joints, skeleton=skeleton, parts=parts)


def _matrices(values: np.ndarray, count: int) -> np.ndarray:
    """Axis-angle (T,3*count) or matrices (T,count,3,3) -> matrices (T,count,3,3)."""
    values = np.asarray(values, np.float64)
    if values.size == len(values) * count * 9:
        return values.reshape(-1, count, 3, 3)
    return axis_angle_to_matrix(torch.from_numpy(values.reshape(-1, count, 3))).numpy()
