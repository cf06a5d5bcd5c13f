"""Average precision of keypoints: COCO's by pycocotools, and CrowdPose's, which is the same with other constants."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hmrkit.errors import InputError, UsageError

CROWDPOSE_SIGMAS = np.array([79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89, 79, 79], np.float64) / 1000
"""Spread of CrowdPose's 14 keypoints (its API)."""

_NAMES = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


def coco_keypoint_ap(truth: Mapping[str, Any] | str | Path, results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """COCO's ten keypoint figures in [0, 1]: AP, AP50, AP75, APm, APl, AR, AR50, AR75, ARm, ARl.

    `truth`: COCO's annotations (a file, or its content). `results`: COCO's results, ``{image_id, category_id, keypoints
    [x, y, score, ...], score}`` each, px. A figure for which the truth has nobody is NaN. UsageError where pycocotools
    is not installed; InputError for results of unknown images.
    """
    return _figures(_content(truth), results, None, None)


def crowdpose_ap(
    truth: Mapping[str, Any] | str | Path,
    results: Sequence[Mapping[str, Any]],
    bounds: tuple[float, float] = (0.2, 0.8),
) -> dict[str, float]:
    """CrowdPose's figures in [0, 1]: AP, AP50, AP75, AR, AR50, AR75, AP_easy, AP_medium, AP_hard.

    `truth` and `results` as in COCO, 14 keypoints, each image with a ``crowdIndex``. A person's area is 0.53 times its
    box. Easy are images with a crowd index below the first of `bounds`, hard those from the second on: the official
    API draws the lines at 0.2 and 0.8, the paper (Li et al. 2019) at 0.1 and 0.8.
    """
    content = dict(_content(truth))
    content["annotations"] = [
        {**person, "area": person["bbox"][2] * person["bbox"][3] * 0.53} for person in content["annotations"]
    ]
    figures = _figures(content, results, CROWDPOSE_SIGMAS, None)
    figures = {name: value for name, value in figures.items() if name[-1] not in "ml"}
    edges = (-np.inf, *bounds, np.inf)
    for level, low, high in zip(("easy", "medium", "hard"), edges[:-1], edges[1:], strict=True):
        images = [image["id"] for image in content["images"] if low <= image["crowdIndex"] < high]
        figures[f"AP_{level}"] = _figures(content, results, CROWDPOSE_SIGMAS, images)["AP"]
    return figures


def _figures(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], sigmas: np.ndarray | None, images: list[Any] | None
) -> dict[str, float]:
    """The ten figures over `images` (all for None) with `sigmas` (COCO's own for None)."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise UsageError("average precision needs pycocotools; pip install 'hmrkit[eval]'") from None
    known = {image["id"] for image in truth["images"]}
    stray = [r["image_id"] for r in results if r["image_id"] not in known]
    if stray:
        raise InputError(f"expected results of the {len(known)} images of the truth, got image {stray[0]!r}; give both")
    if images is not None and not images:
        return dict.fromkeys(_NAMES, float("nan"))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports by print
        people: Any = COCO()
        found: Any = COCO()
        people.dataset = copy.deepcopy(dict(truth))  # it writes into what it is given
        people.createIndex()
        if results:
            keys = ("image_id", "category_id", "keypoints", "score")
            found = people.loadRes([{key: result[key] for key in keys} for result in results])
        else:
            found.dataset = {**people.dataset, "annotations": []}
            found.createIndex()
        scores = COCOeval(people, found, "keypoints")
        if sigmas is not None:
            scores.params.kpt_oks_sigmas = sigmas
        if images is not None:
            scores.params.imgIds = images
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    return {name: float(v) if v >= 0 else float("nan") for name, v in zip(_NAMES, scores.stats, strict=True)}


def _content(truth: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    return truth if isinstance(truth, Mapping) else json.loads(Path(truth).read_text())
