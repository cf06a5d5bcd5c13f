"""What the readers of several datasets need: SMPL parameters, boxes about keypoints, numbered images."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hmrkit.datasets import BodyTruth, DatasetOptions
from hmrkit.errors import InputError, UsageError
from hmrkit.geometry import axis_angle_to_matrix

log = logging.getLogger(__name__)

_PICTURES = {".jpg", ".jpeg", ".png"}


def rotation_matrices(axis_angle: np.ndarray) -> np.ndarray:
    """Axis-angle (...,3) radians -> rotation matrices (...,3,3) float32, worked out in double precision."""
    vectors = torch.from_numpy(np.ascontiguousarray(axis_angle, np.float64))
    return axis_angle_to_matrix(vectors).float().numpy()


def smpl_truth(pose: np.ndarray, betas: np.ndarray, transl: np.ndarray, gender: str, path: Path) -> BodyTruth:
    """SMPL parameters as datasets print them: `pose` (T,72) axis-angle, `betas` (10+) or (T,10+), `transl` (T,3) m.

    Shape files differ: the same people come with 10 or with 300 coefficients, of which the first 10 are SMPL's usual
    ones and the rest zero. InputError, naming `path`, where there are fewer than 10 or the gender is none.
    """
    shape = np.asarray(betas, np.float32)
    if shape.shape[-1] < 10:
        raise InputError(f"{path}: betas: wanted 10 coefficients or 300, found {shape.shape[-1]}; is it SMPL's?")
    if gender not in ("neutral", "male", "female"):
        raise InputError(f"{path}: gender: wanted neutral, male or female, found {gender!r}")
    if np.any(shape[..., 10:] != 0):
        log.warning("%s: shape coefficients beyond the first 10 are not zero; they are left out", path)
    rotations = rotation_matrices(np.asarray(pose).reshape(len(transl), 24, 3))
    return BodyTruth(rotations[:, 0], rotations[:, 1:], shape[..., :10], np.asarray(transl, np.float32), gender)


def flagged(xy: np.ndarray, seen: np.ndarray, width: float = np.inf, height: float = np.inf) -> np.ndarray:
    """Points (T,K,2) px and whether they are annotated (T,K) -> (T,K,3) with the contract's flags.

    2 where the point lies in the image, 1 (hidden) where outside of it, 0 and NaN where it is not annotated.
    """
    inside = (xy >= 0).all(-1) & (xy[..., 0] < width) & (xy[..., 1] < height)
    flags = np.where(seen, np.where(inside, 2, 1), 0)
    points = np.where(np.asarray(seen)[..., None], xy, np.nan)
    return np.concatenate([points, flags[..., None]], -1).astype(np.float32)


def boxes_about(keypoints_2d: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Boxes (T,4) about the visible keypoints (T,K,3), wider by `margin` of the longer side on every side.

    NaN where no keypoint is visible. A regressor of framing "box" is shown 1.2 times the box: without a margin that is
    SPIN's crop.
    """
    visible = keypoints_2d[..., 2:] > 1
    low = np.where(visible, keypoints_2d[..., :2], np.inf).min(1)
    high = np.where(visible, keypoints_2d[..., :2], -np.inf).max(1)
    wider = margin * np.where(visible.any(1), (high - low), 0).max(-1, keepdims=True)
    boxes = np.concatenate([low - wider, high + wider], -1)
    return np.where(visible.any(1), boxes, np.nan).astype(np.float32)


def refuse_spin_style(name: str, root: Path, pattern: str, lacks: str) -> None:
    """InputError that names the right reader where `root` has a SPIN-style file (`pattern`) instead of the release."""
    if found := sorted(root.glob(pattern)):
        raise InputError(
            f"dataset {name}: {root} lacks {lacks}, but {found[0].name} looks SPIN-style; "
            f"read it with --dataset npz --data {found[0]}"
        )


def numbered_images(folder: Path, count: int) -> Path | None:
    """`folder` if its sorted images are the `count` frames that the annotation numbers; None where there are none.

    Copies of a dataset number from 0 or from 1, which the order does not mind. InputError where an image is missing
    in between or at the end, for then the k-th image would not be frame k.
    """
    if not folder.is_dir():
        return None
    names = [path.stem for path in folder.iterdir() if path.suffix.lower() in _PICTURES and path.name[0] != "."]
    numbers = sorted(int(match[1]) for name in names if (match := re.search(r"(\d+)$", name)))
    if not names:
        return None
    whole = len(numbers) == len(names) and numbers[0] in (0, 1) and numbers[-1] - numbers[0] + 1 == len(numbers)
    if not whole or len(numbers) < count:
        found = f"{numbers[0]} to {numbers[-1]}" if numbers else f"names like {names[0]}"
        raise InputError(
            f"{folder}: wanted {count} images numbered without a gap from 0 or 1, found {len(names)} ({found}); "
            "unpack the dataset's images again"
        )
    return folder


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its header alone."""
    with Image.open(path) as image:
        return image.size


def first_image(folder: Path) -> Path:
    """The image of a folder whose name sorts first."""
    return min(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES and path.name[0] != ".")


def require(record: Any, path: Path, what: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """`record`, read from `path`, if it is a dictionary with these keys; else the InputError that names what lacks."""
    if not isinstance(record, Mapping):
        raise InputError(f"{path}: wanted {what}, found a {type(record).__name__}; get the file from its makers")
    record = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in record.items()}
    missing = [key for key in keys if key not in record]
    if missing:
        raise InputError(f"{path}: wanted {what}, it lacks {', '.join(missing)}; is it another version of the dataset?")
    return record


def frames_of(array: Any, shape: tuple[int, ...], path: Path, name: str) -> np.ndarray:
    """`array` as NumPy array if it has this shape (-1: any size); else the InputError that says what was found."""
    array = np.asarray(array)
    if array.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, array.shape, strict=True)):
        wanted = tuple("any" if size < 0 else size for size in shape)
        raise InputError(
            f"{path}: {name}: wanted shape {wanted}, found {array.shape}; is it another version of the dataset?"
        )
    return array


def pick(name: str, what: str, chosen: str, known: Mapping[str, Any]) -> Any:
    """``known[chosen]``, the first of `known` for ""; UsageError lists the names (an empty name is not listed)."""
    if not chosen:
        return next(iter(known.values()))
    if chosen not in known:
        names = ", ".join(key for key in known if key) or "none"
        raise UsageError(f"dataset {name}: unknown --{what} {chosen!r}; choose one of {names}")
    return known[chosen]


def refuse(name: str, options: DatasetOptions, *means_nothing: str, settings: tuple[str, ...] = ()) -> None:
    """UsageError where the user chose something among `means_nothing`, or a setting that is not among `settings`."""
    for field in means_nothing:
        if getattr(options, field):
            raise UsageError(f"dataset {name}: --{field.replace('_', '-')} means nothing to it; leave it out")
    for key in options.settings:
        if key not in settings:
            known = ", ".join(settings) or "none"
            raise UsageError(f"dataset {name}: unknown --dataset-option {key!r}; it has {known}")
