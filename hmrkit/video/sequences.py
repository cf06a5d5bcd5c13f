"""Folders of images: which of the files are the clip, in what order, and the numbers that they have.

Renders and plates lie beside thumbnails, second copies and other sequences. One sequence is chosen: the files whose
names differ in one number only, most of all. Its frames keep the numbers of their names, gaps too.
"""

from __future__ import annotations

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hmrkit.errors import InputError
from hmrkit.video.images import PLATE_SUFFIXES, image_size

log = logging.getLogger(__name__)

# Of two copies of the same frames the kind that stands first here is taken: without loss before with.
IMAGE_SUFFIXES = (*PLATE_SUFFIXES, ".png", ".tif", ".tiff", ".bmp", ".webp", ".jpg", ".jpeg")
# Names with more sequences than this share of their files hold no frame numbers but times or hashes.
_SCATTERED = 0.34
# Nor do numbers of which fewer than one in so many is there, or larger ones than anybody counts to.
_SPARSE, _LARGEST_NUMBER = 10, 10**9


@dataclass(frozen=True)
class ImageSequence:
    """`files` (F) in the order of their `numbers` (F,), rising. `notes`: what was left out, and the gaps."""

    files: tuple[Path, ...]
    numbers: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def positions(self) -> np.ndarray:
        """Numbers (F,) that count from 0 without gaps."""
        return np.arange(len(self.files))


def find_sequence(folder: Path) -> ImageSequence:
    """The sequence of images in a folder; InputError where it has no images."""
    images = [p for p in folder.iterdir() if _is_image(p)]
    if not images:
        raise InputError(f"{folder}: expected a folder of images, found none ({', '.join(sorted(IMAGE_SUFFIXES))})")
    alike: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path in images:
        alike[(*re.split(r"\d+", path.stem), path.suffix.lower())].append(path)
    sequences = [part for words, files in alike.items() if len(words) > 2 for part in _split(files)]
    single: dict[str, list[Path]] = defaultdict(list)  # names without a number, or unlike all others
    for path in set(images) - {p for s in sequences if len(s.files) > 1 for p in s.files}:
        single[path.suffix.lower()].append(path)
    sequences += [_counted(files) for files in single.values()]
    chosen = min(sequences, key=lambda s: (-len(s.files), IMAGE_SUFFIXES.index(s.files[0].suffix.lower()), s.files[0]))
    notes = []
    if strangers := sorted(set(images) - set(chosen.files)):
        named = ", ".join(p.name for p in strangers[:5]) + (", ..." if len(strangers) > 5 else "")
        notes.append(
            f"one sequence of the folder is taken, {chosen.files[0].name} to {chosen.files[-1].name} "
            f"({len(chosen.files)} images); {len(strangers)} other images are left out: {named}"
        )
    if gaps := _gaps(chosen.numbers):
        notes.append(f"images are missing from the sequence: {gaps}")
    return ImageSequence(chosen.files, chosen.numbers, tuple(notes))


def _is_image(path: Path) -> bool:
    """By its name, and as a file: a pipe among images never ends."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def list_images(folder: Path) -> list[Path]:
    """The images of a folder's sequence in order (``f2.png`` before ``f10.png``); InputError where it has none."""
    return list(find_sequence(folder).files)


def common_size(files: Sequence[Path]) -> tuple[int, int]:
    """Height and width of most of the images, upright; of equally many the first's. InputError where none is readable.

    Reads headers where they say it.
    """
    sizes = Counter(size for size in map(_size, files) if size is not None)
    if not sizes:
        try:
            image_size(files[0])
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(
                f"{files[0].parent}: expected images, found {len(files)} files that cannot be read as such; "
                f"{files[0].name}: {error}"
            ) from error
    return sizes.most_common(1)[0][0]


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except (OSError, ValueError, SyntaxError):
        return None


def _split(files: list[Path]) -> list[ImageSequence]:
    """Sequences of files whose names have the same words: the number that counts most frames is the frame's."""
    rows = [re.findall(r"\d+", path.stem) for path in files]
    columns = range(len(rows[0]))
    varying = [c for c in columns if len({row[c] for row in rows}) > 1]
    best: dict[tuple[str, ...], list[tuple[int, Path]]] = {}
    for column in reversed(varying or columns):  # of equally good ones the last number of the name
        groups: dict[tuple[str, ...], list[tuple[int, Path]]] = defaultdict(list)
        for row, path in zip(rows, files, strict=True):
            groups[(*row[:column], *row[column + 1 :])].append((int(row[column]), path))
        if not best or max(map(len, groups.values())) > max(map(len, best.values())):
            best = groups
    if len(best) > max(2, _SCATTERED * len(files)):
        return [_counted(files)]
    return [_in_order(group) for group in best.values()]


def _in_order(group: list[tuple[int, Path]]) -> ImageSequence:
    """A sequence by rising numbers. Numbers that are no frames' (twice the same, dates, identifiers) are not kept."""
    group.sort(key=lambda item: (item[0], item[1].name))
    numbers, files = [number for number, _ in group], [path for _, path in group]
    scattered = numbers[-1] - numbers[0] > _SPARSE * len(numbers) or numbers[-1] > _LARGEST_NUMBER
    if scattered or len(set(numbers)) < len(numbers):
        return _counted(files)
    return ImageSequence(tuple(files), np.array(numbers, np.int64))


def _counted(files: list[Path]) -> ImageSequence:
    """Files in natural order, counted from 0."""
    parts = {path: re.split(r"(\d+)", path.name) for path in files}
    files = sorted(files, key=lambda path: [(int(s), "") if s.isdigit() else (-1, s) for s in parts[path]])
    return ImageSequence(tuple(files), np.arange(len(files)))


def _gaps(numbers: np.ndarray) -> str:
    """``3-4, 9``: the numbers that are missing between the first and the last."""
    at = np.flatnonzero(np.diff(numbers) > 1)
    spans = [(int(numbers[k]) + 1, int(numbers[k + 1]) - 1) for k in at[:10]]
    return ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in spans) + (", ..." if len(at) > 10 else "")
