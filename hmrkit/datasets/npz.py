"""SPIN-style ``.npz`` of any dataset, as SPIN, DaNet, PyMAF and PARE hand them out: a row a person and image.

``imgname`` (N,), ``center`` (N,2) and ``scale`` (N,) (side of the crop over 200 px); where known ``part`` (N,24,3) 2D
and ``S`` (N,24,4) m 3D joints with confidence, ``pose`` (N,72) axis-angle in the camera frame, ``shape`` (N,10),
``has_smpl`` (N,), ``gender`` (N,).

``--data`` is the file; images are searched for below its folder or below ``--dataset-option images=FOLDER``. Files of
3DPW, Human3.6M and MPI-INF-3DHP hold clips: rows of one clip and person follow one another. All others hold stills;
``--dataset-option clips=yes`` or ``no`` decides where the file's name does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hmrkit.datasets import DatasetOptions, EvalSequence, GroundTruth, missing_files
from hmrkit.datasets.annotations import refuse, smpl_truth
from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import SPIN_24
from hmrkit.untrusted.arrays import load_arrays

CROP = 1.2  # SPIN's crop is that much longer than the person's box
STILLS_A_SEQUENCE = 64
# A word in the file's name -> frames per second of the clips, and the protocol of the papers.
_CLIPS = {
    "3dpw": (30.0, "spin"),
    "h36m_valid_protocol1": (50.0, "hmr-p1"),
    "h36m_valid_protocol2": (50.0, "hmr-p2"),
    "mpi_inf_3dhp": (25.0, "mpi-inf-3dhp"),
}
_GENDERS = {"m": "male", "f": "female", "n": "neutral", "male": "male", "female": "female", "neutral": "neutral"}


class SpinNpz:
    """See `hmrkit.datasets.Dataset`."""

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options, "split", "subset", "frame_list", settings=("images", "clips"))
        self.name, self.root = name, root
        self.images = Path(options.settings.get("images", root.parent))
        known = next((facts for word, facts in _CLIPS.items() if word in root.stem.lower()), None)
        self.fps, self.default_protocol = known or (30.0, "spin")
        clips = options.settings.get("clips", "yes" if known else "no")
        if clips not in ("yes", "no"):
            raise UsageError(f"dataset {name}: --dataset-option clips is yes or no, got {clips!r}")
        self.clips = clips == "yes"

    def check(self) -> None:
        """The file is there and is one of these."""
        if not self.root.is_file():
            raise missing_files(
                self.name, "download it with the data of SPIN (fetch_data.sh) or make it with its preprocessing",
                self.root.parent, "the .npz, and name it with --data", [self.root.name],
            )  # fmt: skip
        self._rows()

    def sequences(self) -> Iterator[EvalSequence]:
        """Clips in the order of their first row, or stills, 64 rows at a time."""
        rows = self._rows()
        names = [str(n).replace("\\", "/") for n in rows["imgname"]]
        if not self.clips:
            for start in range(0, len(names), STILLS_A_SEQUENCE):
                chosen = np.arange(start, min(start + STILLS_A_SEQUENCE, len(names)))
                yield self._sequence(f"rows_{start:06d}", rows, names, _stills(rows, names, chosen), "", True)
            return
        clips: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            clips.setdefault(re.sub(r"_?\d*$", "", name.rsplit(".", 1)[0]), []).append(row)
        for clip, chosen in clips.items():
            label = re.sub(r"[^\w.-]+", "_", clip).strip("_")
            people = _runs(rows, names, np.array(chosen))
            yield self._sequence(label, rows, names, people, _group(clip), False)

    def _rows(self) -> dict[str, np.ndarray]:
        try:
            rows = load_arrays(self.root, _KEYS)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.root}: wanted SPIN's .npz of plain arrays, cannot read it: {error}") from error
        if lacking := [key for key in ("imgname", "center", "scale") if key not in rows]:
            raise InputError(f"{self.root}: wanted SPIN's .npz, it lacks {', '.join(lacking)}")
        count = len(rows["imgname"])
        for key, shape in _KEYS.items():
            if key in rows and (len(rows[key]) != count or rows[key].size != count * int(np.prod(shape))):
                raise InputError(f"{self.root}: {key}: wanted {count} rows of {shape}, found {rows[key].shape}")
        return rows

    def _sequence(
        self,
        label: str,
        rows: dict[str, np.ndarray],
        names: list[str],
        people: list[np.ndarray],
        group: str,
        stills: bool,
    ) -> EvalSequence:
        images = sorted({names[r] for person in people for r in person}, key=_natural)
        place = {name: k for k, name in enumerate(images)}
        paths = tuple(self.images / name for name in images)
        numbers = [int(m[1]) for name in images if (m := re.search(r"(\d+)\.\w+$", name))]
        step = float(np.median(np.diff(numbers))) if len(numbers) > 1 and not stills else 1.0
        truths = tuple(
            _truth(str(k), rows, person, np.array([place[names[r]] for r in person]), self.root)
            for k, person in enumerate(people)
        )
        frames = paths if all(path.is_file() for path in paths) else None
        fps = self.fps / max(step, 1.0)
        return EvalSequence(label, frames, len(paths), truths, fps=fps, group=group, stills=stills)


_KEYS = {
    "imgname": (), "center": (2,), "scale": (), "part": (24, 3), "S": (24, 4), "pose": (72,), "shape": (10,),
    "has_smpl": (), "gender": (),
}  # fmt: skip


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts ``2.jpg`` before ``10.jpg``."""
    return [(int(s), "") if s.isdigit() else (-1, s) for s in re.split(r"(\d+)", name)]


def _group(clip: str) -> str:
    """The action of Human3.6M's images (``S9_Walking_1.60457274``), nothing for others."""
    match = re.search(r"S\d+_([A-Za-z]+)", clip)
    return match[1] if match else ""


def _body_of(rows: dict[str, np.ndarray], row: int) -> tuple[str, bytes]:
    """What makes two rows of a clip one person: gender and shape."""
    gender = str(rows["gender"][row]) if "gender" in rows else ""
    return gender, rows["shape"][row].tobytes() if "shape" in rows else b""


def _runs(rows: dict[str, np.ndarray], names: list[str], chosen: np.ndarray) -> list[np.ndarray]:
    """A clip's rows by person: a new one where the images start again, or gender or shape change."""
    people: list[list[int]] = []
    for row in chosen:
        last = people[-1][-1] if people else None
        goes_on = last is not None and _natural(names[row]) > _natural(names[last])
        if goes_on and _body_of(rows, row) == _body_of(rows, people[-1][-1]):
            people[-1].append(int(row))
        else:
            people.append([int(row)])
    return [np.array(person) for person in people]


def _stills(rows: dict[str, np.ndarray], names: list[str], chosen: np.ndarray) -> list[np.ndarray]:
    """Rows of stills by gender and by their number within an image: nobody is twice in one image."""
    people: dict[tuple[int, str], list[int]] = {}
    seen: dict[str, int] = {}
    for row in chosen:
        rank = seen.get(names[row], 0)
        seen[names[row]] = rank + 1
        people.setdefault((rank, _body_of(rows, row)[0]), []).append(int(row))
    return [np.array(sorted(person, key=lambda r: _natural(names[r]))) for person in people.values()]


def _truth(person: str, rows: dict[str, np.ndarray], chosen: np.ndarray, frames: np.ndarray, path: Path) -> GroundTruth:
    center = rows["center"][chosen].astype(np.float64).reshape(-1, 2)
    half = rows["scale"][chosen].astype(np.float64).reshape(-1, 1) * 200 / CROP / 2
    joints = keypoints = body = None
    if "S" in rows:
        given = rows["S"][chosen].reshape(-1, 24, 4)
        joints = np.where(given[..., 3:] > 0, given[..., :3], np.nan).astype(np.float32)
    if "part" in rows:
        points = rows["part"][chosen].reshape(-1, 24, 3).astype(np.float32)
        seen = points[..., 2:] > 0
        keypoints = np.concatenate([np.where(seen, points[..., :2], np.nan), np.where(seen, 2.0, 0.0)], -1)
    if "pose" in rows and "shape" in rows:
        gender = _GENDERS.get(_body_of(rows, int(chosen[0]))[0].lower() or "neutral")
        if gender is None:
            raise InputError(f"{path}: gender: wanted m, f or n, found {_body_of(rows, int(chosen[0]))[0]!r}")
        shown = rows["has_smpl"][chosen].reshape(-1) > 0 if "has_smpl" in rows else np.ones(len(chosen), bool)
        pose = np.where(shown[:, None], rows["pose"][chosen].reshape(-1, 72), np.nan)
        if shown.any():
            shape = rows["shape"][chosen].reshape(-1, 10)
            body = smpl_truth(pose, shape, np.zeros((len(chosen), 3), np.float32), gender, path)
    return GroundTruth(
        person=person,
        frame_indices=frames.astype(np.int64),
        valid=np.ones(len(chosen), bool),
        boxes_xyxy=np.concatenate([center - half, center + half], 1).astype(np.float32),
        joints_c=joints,
        skeleton=None if joints is None else SPIN_24,
        keypoints_2d=None if keypoints is None else keypoints.astype(np.float32),
        keypoint_skeleton=None if keypoints is None else SPIN_24,
        body=body,
    )


def load(name: str, root: Path | None, options: DatasetOptions) -> SpinNpz:
    """`root` is the file."""
    if root is None:
        raise UsageError(f"dataset {name}: say with --data where its .npz is")
    return SpinNpz(name, root, options)
