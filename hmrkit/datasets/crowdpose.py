"""CrowdPose (Li et al. 2019): crowded scenes, 14 keypoints, and how crowded each image is.

Layout: ``json/crowdpose_<split>.json`` (or ``annotations/``, or beside ``images/``) and ``images/*.jpg``; splits test
(default), val, train, trainval. COCO's fields, without area and with ``crowdIndex`` in [0, 1] for each image.

Sequences are grouped easy, medium and hard as the published evaluation code does it: below 0.2, below 0.8, the rest
(the paper's text says 0.1 and 0.8; every published figure comes from the code).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hmrkit.datasets import DatasetOptions, EvalSequence, missing_files
from hmrkit.datasets.annotations import pick, refuse
from hmrkit.datasets.coco import Person, read_people, still_sequences
from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import Skeleton

CROWDPOSE_14 = Skeleton(
    "crowdpose-14",
    (
        *(f"{side}_{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
          for side in ("left", "right")),
        "head_top", "neck",
    ),
)  # fmt: skip
# Crowd index below which an image is easy, and below which it is of medium difficulty.
EASY_BELOW, MEDIUM_BELOW = 0.2, 0.8
_SPLITS = {split: split for split in ("test", "val", "train", "trainval")}


class CrowdPose:
    """See `hmrkit.datasets.Dataset`."""

    default_protocol = "crowdpose-ap"

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options, "subset", "frame_list")
        self.name, self.root = name, root
        self.split = pick(name, "split", options.split, _SPLITS)

    def check(self) -> None:
        """The annotation file must be there; images may be absent where predictions are scored."""
        if self._annotation_file() is None:
            raise missing_files(
                self.name,
                "download it from https://github.com/Jeff-sjtu/CrowdPose (non-commercial use)",
                self.root,
                f"json/crowdpose_{self.split}.json and images/*.jpg",
                [self.root / "json" / f"crowdpose_{self.split}.json"],
            )

    def sequences(self) -> Iterator[EvalSequence]:
        """Easy, then medium, then hard images, each in the file's order."""
        path = self._annotation_file()
        if path is None:
            return self.check()
        images, people = read_people(path, CROWDPOSE_14)
        crowded: dict[int, float] = {}
        for image in images:
            if "crowdIndex" not in image:
                raise InputError(f"{path}: image {image.get('id')} lacks crowdIndex; is it CrowdPose's own file?")
            crowded[int(image["id"])] = float(image["crowdIndex"])
        people = {image: [_with_index(person, crowded[image]) for person in here] for image, here in people.items()}
        folder = self.root / "images"
        for group in ("easy", "medium", "hard"):
            some = [image for image in images if difficulty(crowded[int(image["id"])]) == group]
            yield from still_sequences(
                f"{self.split}-{group}", some, people, folder if folder.is_dir() else None, CROWDPOSE_14, group
            )

    def _annotation_file(self) -> Path | None:
        places = (self.root / "json", self.root / "annotations", self.root)
        return next((p for place in places if (p := place / f"crowdpose_{self.split}.json").is_file()), None)


def load(name: str, root: Path | None, options: DatasetOptions) -> CrowdPose:
    """See `hmrkit.datasets.load_dataset`."""
    if root is None:
        raise UsageError(f"dataset {name}: say with --data where its files are")
    return CrowdPose(name, root, options)


def difficulty(crowd_index: float) -> str:
    """easy, medium or hard."""
    return "easy" if crowd_index < EASY_BELOW else "medium" if crowd_index < MEDIUM_BELOW else "hard"


def _with_index(person: Person, crowd_index: float) -> Person:
    return replace(person, facts={**person.facts, "crowd_index": crowd_index})
