"""MPII Human Pose: joints that were annotated though they are hidden, and the head size that PCKh is relative to.

Two forms of the annotation are read, under <data> or in ``annot/``:

- the official ``mpii_human_pose_v1_u12_1.mat``: ``RELEASE.annolist(i)`` with ``image.name`` and for each person
  ``annorect(j)``: head box ``x1 y1 x2 y2``, ``annopoints.point(k)`` with ``id x y is_visible`` (may be empty);
- ``mpii_annotations.json`` (Wei et al. 2016, Convolutional Pose Machines; bearpaw's copy): ``img_paths``,
  ``joint_self`` 16 x [x, y, visible] ((0, 0) where not annotated), ``isValidation``. It has no head boxes: PCKh is NaN,
  unless the .mat lies beside it, which is then read instead.

HRNet's ``annot/valid.json`` does not say which joints are hidden (its joints_vis marks the annotated ones) and serves
only as the list of validation images, as does the JSON above. Splits: validation (default, Tompson et al.'s, where a
list of it is there), train (the rest), all; or ``--frame-list`` with a file name a line. Images in ``images/``.

Pixels are passed on as the files have them. ``valid`` marks people with a hidden joint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.datasets import DatasetOptions, EvalSequence, missing_files
from hmrkit.datasets.annotations import boxes_about, pick, refuse
from hmrkit.datasets.coco import Person, still_sequences
from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import Skeleton

MPII_16 = Skeleton(
    "mpii-16",
    (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
        "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist",
    ),
)  # fmt: skip
# PCKh (Andriluka et al. 2014): the head size is 0.6 of the head box's diagonal.
HEAD_SHARE = 0.6
_MAT = "mpii_human_pose_v1_u12_1.mat"
_JSON = "mpii_annotations.json"
_SPLITS = {split: split for split in ("validation", "train", "all")}
People = dict[str, list[Person]]


class MpiiInvisible:
    """See `hmrkit.datasets.Dataset`."""

    default_protocol = "invisible-2d"

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options, "subset")
        self.name, self.root = name, root
        self.split = pick(name, "split", options.split, _SPLITS)
        self.frame_list = options.frame_list

    def check(self) -> None:
        """One of the two annotation files must be there, and what says which images are for validation."""
        if self._find(_MAT) is None and self._find(_JSON) is None:
            other = self._find("valid.json")
            hint = " (annot/valid.json does not say which joints are hidden)" if other is not None else ""
            raise missing_files(
                self.name,
                "download it from http://human-pose.mpi-inf.mpg.de/#download" + hint,
                self.root,
                f"{_MAT} and images/",
                [self.root / _MAT, self.root / _JSON],
            )
        self._wanted()

    def sequences(self) -> Iterator[EvalSequence]:
        """Images with people, in the file's order, 500 at a time."""
        mat, table = self._find(_MAT), self._find(_JSON)
        if mat is not None:
            people = _read_mat(mat)
        elif table is not None:
            people = _read_json(table)
        else:
            return self.check()
        wanted = self._wanted()
        names = [name for name in people if wanted is None or (name in wanted) == (self.split != "train")]
        if not names:
            raise InputError(f"dataset {self.name}: none of its {len(people)} images is in the chosen split or list")
        images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
        folder = self.root / "images"
        by_id = {i: people[name] for i, name in enumerate(names)}
        yield from still_sequences(self.split, images, by_id, folder if folder.is_dir() else None, MPII_16)

    def _wanted(self) -> set[str] | None:
        """Names of the validation images (or of the user's list), None for all."""
        if self.frame_list is not None:
            try:
                lines = self.frame_list.read_text(encoding="utf-8").split()
            except OSError as error:
                raise InputError(f"{self.frame_list}: cannot be read ({error.strerror or error})") from error
            return {Path(line).name for line in lines}
        if self.split == "all":
            return None
        table, valid = self._find(_JSON), self._find("valid.json")
        if table is not None:
            return {entry["img_paths"] for entry in _entries(table) if entry.get("isValidation")}
        if valid is not None:
            return {entry["image"] for entry in _entries(valid)}
        raise InputError(
            f"dataset {self.name}: {_MAT} does not say which images are for validation; put HRNet's annot/valid.json "
            "beside it, give --frame-list with their names, or take --split all"
        )

    def _find(self, name: str) -> Path | None:
        places = (self.root, self.root / "annot", self.root / "annotations", self.root / "mpii_human_pose_v1_u12_2")
        return next((p for place in places if (p := place / name).is_file()), None)


def load(name: str, root: Path | None, options: DatasetOptions) -> MpiiInvisible:
    """See `hmrkit.datasets.load_dataset`."""
    if root is None:
        raise UsageError(f"dataset {name}: say with --data where its files are")
    return MpiiInvisible(name, root, options)


def _person(points: np.ndarray, head: np.ndarray | None) -> Person:
    """`points` (16,3) with the contract's flags, `head` (4,) xyxy px or None."""
    everything = np.where(points[:, 2:] > 0, points * [1, 1, 0] + [0, 0, 2], points)
    if head is not None:  # its corners belong to the person as the joints do
        corners = np.array([[head[0], head[1], 2], [head[2], head[3], 2]])
        everything = np.concatenate([everything, corners])
    size = float("nan") if head is None else HEAD_SHARE * float(np.hypot(head[2] - head[0], head[3] - head[1]))
    box = boxes_about(everything[None].astype(np.float32))[0]
    return Person(box, points.astype(np.float32), bool((points[:, 2] == 1).any()), {"head_size_px": size})


def _points(rows: Iterable[tuple[int, float, float, bool]]) -> np.ndarray:
    points = np.full((16, 3), [np.nan, np.nan, 0.0])
    for joint, x, y, visible in rows:
        points[joint] = x, y, 2 if visible else 1
    return points


def _read_mat(path: Path) -> People:
    """Image name -> people, of the official file. Test images have no joints and are left out."""
    from scipy.io import loadmat

    try:
        release = loadmat(path, struct_as_record=False, squeeze_me=True)["RELEASE"]
        people: People = {}
        for image in _list(release.annolist):
            here = [_mat_person(rect) for rect in _list(image.annorect)]
            here = [person for person in here if person is not None]
            if here:
                people[str(image.image.name)] = here
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, KeyError, AttributeError, TypeError, IndexError, NotImplementedError) as error:
        raise InputError(f"{path}: expected MPII's RELEASE structure, found {error!r}; download it again") from error
    return people


def _mat_person(rect: Any) -> Person | None:
    annotated = getattr(rect, "annopoints", None)
    points = _list(getattr(annotated, "point", None))
    if not points:
        return None
    rows = [(int(p.id), float(p.x), float(p.y), _is_visible(getattr(p, "is_visible", None))) for p in points]
    head = np.array([float(getattr(rect, corner)) for corner in ("x1", "y1", "x2", "y2")])
    return _person(_points(rows), head)


def _is_visible(value: Any) -> bool:
    """MATLAB wrote 0, 1, '0', '1', or nothing: head top and neck have no flag and are taken as visible."""
    if value is None or np.size(value) == 0 or value == "":
        return True
    return bool(int(value))


def _list(value: Any) -> list[Any]:
    """What squeeze_me made of a structure array: an array, the only element itself, or an empty array."""
    if value is None:
        return []
    return list(np.atleast_1d(value)) if isinstance(value, np.ndarray) else [value]


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a JSON list of people, found {error}") from error
    if isinstance(entries, dict):
        entries = entries.get("root", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: expected a JSON list of people; download it again")
    return entries


def _read_json(path: Path) -> People:
    people: People = {}
    for entry in _entries(path):
        try:
            joints = np.asarray(entry["joint_self"], np.float64).reshape(16, 3)
            name = str(entry["img_paths"])
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{path}: expected img_paths and 16 joint_self in every entry, found {error!r}") from error
        known = [(k, x, y, v == 1) for k, (x, y, v) in enumerate(joints) if (x, y) != (0, 0) and v in (0, 1)]
        people.setdefault(name, []).append(_person(_points(known), None))
    return people
