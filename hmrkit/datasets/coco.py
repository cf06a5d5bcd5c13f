"""COCO keypoints (Lin et al. 2014): people with boxes and 17 keypoints in images of everyday scenes.

Layout as downloaded: ``annotations/person_keypoints_<split>.json`` and ``<split>/*.jpg`` (or ``images/<split>/``), with
split val2017 (default), train2017, val2014 or train2014. Fields: images ``id file_name width height``; annotations
``id image_id category_id bbox [x, y, w, h] keypoints [x, y, v] * 17 num_keypoints area iscrowd``.

Pixels are passed on as the file has them, so that AP is that of pycocotools. Crowds and people without a keypoint are
kept, with ``valid`` False: AP needs them to ignore what is found there.

A sequence is 500 images; its n-th person is the n-th of every image, and they have nothing to do with one another.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.datasets import DatasetOptions, EvalSequence, GroundTruth, missing_files
from hmrkit.datasets.annotations import pick, refuse
from hmrkit.errors import InputError, UsageError
from hmrkit.skeletons import COCO_17, Skeleton

_SPLITS = {split: split for split in ("val2017", "train2017", "val2014", "train2014")}
PICTURES_A_SEQUENCE = 500
# Facts that are numbers of their own, not measurements.
_WHOLE = ("image_id", "annotation_id", "num_keypoints")


@dataclass(frozen=True)
class Person:
    """One annotated person: `box` (4,) xyxy px, `keypoints` (K,3) with the contract's flags, and numbers about it."""

    box: np.ndarray
    keypoints: np.ndarray
    valid: bool
    facts: dict[str, float]


class Coco:
    """See `hmrkit.datasets.Dataset`."""

    default_protocol = "coco-ap"
    skeleton = COCO_17

    def __init__(self, name: str, root: Path, options: DatasetOptions) -> None:
        refuse(name, options, "subset", "frame_list")
        self.name, self.root = name, root
        self.split = pick(name, "split", options.split, _SPLITS)

    def check(self) -> None:
        """The annotation file must be there; images may be absent where predictions are scored."""
        if not self._annotation_file().is_file():
            raise missing_files(
                self.name,
                "download it from https://cocodataset.org/#download (no registration)",
                self.root,
                f"annotations/person_keypoints_{self.split}.json and {self.split}/*.jpg",
                [self._annotation_file()],
            )
        folder = self._images()
        if folder is not None and not any(folder.iterdir()):
            raise InputError(f"dataset {self.name}: {folder} is empty; unpack {self.split}.zip there")

    def sequences(self) -> Iterator[EvalSequence]:
        """The images in the file's order, 500 at a time."""
        images, people = read_people(self._annotation_file(), self.skeleton)
        yield from still_sequences(self.split, images, people, self._images(), self.skeleton)

    def _annotation_file(self) -> Path:
        return self.root / "annotations" / f"person_keypoints_{self.split}.json"

    def _images(self) -> Path | None:
        places = (self.root / self.split, self.root / "images" / self.split)
        return next((place for place in places if place.is_dir()), None)


def load(name: str, root: Path | None, options: DatasetOptions) -> Coco:
    """See `hmrkit.datasets.load_dataset`."""
    if root is None:
        raise UsageError(f"dataset {name}: say with --data where its files are")
    return Coco(name, root, options)


def read_people(path: Path, skeleton: Skeleton) -> tuple[list[dict[str, Any]], dict[int, list[Person]]]:
    """The file's images, and the people of each by image id; InputError says which annotation is wrong.

    Segmentations, most of the file, are dropped while it is read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=_without_outline)
        images, annotations = content["images"], content["annotations"]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: expected COCO's JSON with images and annotations, found {error!r}") from error
    people: dict[int, list[Person]] = defaultdict(list)
    for annotation in annotations:
        try:
            people[int(annotation["image_id"])].append(_person(annotation, skeleton))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: annotation {annotation.get('id')}: expected {len(skeleton)} keypoints, bbox and image_id, "
                f"found {error!r}"
            ) from error
    known = {int(image["id"]) for image in images}
    stray = next((image_id for image_id in people if image_id not in known), None)
    if stray is not None:
        raise InputError(f"{path}: people of image {stray}, which is not among its images; download it again")
    return images, people


def _without_outline(fields: dict[str, Any]) -> dict[str, Any]:
    fields.pop("segmentation", None)
    return fields


def _person(annotation: dict[str, Any], skeleton: Skeleton) -> Person:
    points = np.array(annotation["keypoints"], np.float32).reshape(len(skeleton), 3)
    points[points[:, 2] == 0, :2] = np.nan
    x, y, width, height = (float(value) for value in annotation["bbox"])
    crowd = bool(annotation.get("iscrowd", 0))
    labelled = int(annotation.get("num_keypoints", np.count_nonzero(points[:, 2])))
    facts = {
        "image_id": int(annotation["image_id"]),
        "annotation_id": int(annotation["id"]),
        # CrowdPose has no outlines: its own evaluation takes 0.53 of the box, what COCO's people fill of theirs.
        "area_px2": float(annotation.get("area", 0.53 * width * height)),
        "is_crowd": float(crowd),
        "num_keypoints": labelled,
    }
    return Person(np.array([x, y, x + width, y + height], np.float32), points, labelled > 0 and not crowd, facts)


def still_sequences(
    name: str,
    images: Sequence[dict[str, Any]],
    people: dict[int, list[Person]],
    folder: Path | None,
    skeleton: Skeleton,
    group: str = "",
) -> Iterator[EvalSequence]:
    """Images with their people as sequences of stills; `folder` None where the images are not there."""
    for start in range(0, len(images), PICTURES_A_SEQUENCE):
        some = images[start : start + PICTURES_A_SEQUENCE]
        paths = None if folder is None else tuple(folder / str(image["file_name"]) for image in some)
        absent = [path for path in paths or () if not path.is_file()]
        if absent:
            raise InputError(f"{folder} lacks {len(absent)} images ({absent[0].name} ...); unpack all of them there")
        yield EvalSequence(
            name=f"{name}-{start // PICTURES_A_SEQUENCE:03d}",
            frames=paths,
            frame_count=len(some),
            people=people_by_rank([people.get(int(image["id"]), []) for image in some], skeleton),
            group=group,
            stills=True,
        )


def people_by_rank(people: Sequence[Sequence[Person]], skeleton: Skeleton) -> tuple[GroundTruth, ...]:
    """Each image's people -> the first of every image, the second of every image that has two, and so on."""
    truths = []
    for rank in range(max((len(here) for here in people), default=0)):
        frames = [frame for frame, here in enumerate(people) if len(here) > rank]
        chosen = [people[frame][rank] for frame in frames]
        facts = {key: np.array([p.facts[key] for p in chosen], np.int64 if key in _WHOLE else np.float32)
                 for key in chosen[0].facts}  # fmt: skip
        truths.append(
            GroundTruth(
                person=f"{rank}",
                frame_indices=np.array(frames, np.int64),
                valid=np.array([p.valid for p in chosen]),
                boxes_xyxy=np.stack([p.box for p in chosen]),
                keypoints_2d=np.stack([p.keypoints for p in chosen]),
                keypoint_skeleton=skeleton,
                facts=facts,
            )
        )
    return tuple(truths)
